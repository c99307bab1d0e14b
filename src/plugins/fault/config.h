#pragma once
// Configuration of fault.

#include <cstdint>
#include <string>

#include "plugins/schema.h"

namespace sluice::plugins::fault {

struct Delay {
  int64_t fixed_ms = 0;  // 0: no delay
  double percentage = 100;
};

struct Abort {
  int64_t status = 0;       // HTTP status; 0: none
  int64_t grpc_status = 0;  // 0: none
  double percentage = 100;

  bool given() const { return status || grpc_status; }
};

// The request header field that a request must carry to be subject to the faults. Without a name:
// every request is.
struct Header {
  std::string name;
  std::string value;  // empty: any
};

struct Config {
  Delay delay;
  Abort abort;
  Header header;
  int64_t max_active = 1024;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::fault
