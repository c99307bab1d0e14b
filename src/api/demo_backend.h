#pragma once
// The built-in demo backend of `sluice serve --demo`: what the example configuration routes to, so that a first try
// needs no other process. /foo answers "foo", /bar "bar"; /get and /anything tell what arrived, in httpbin's form;
// /status/N answers that status; /sse sends a short event stream at once.

#include <memory>
#include <thread>

#include "api/http_service.h"

namespace sluice::api {

class DemoBackend {
 public:
  DemoBackend();
  ~DemoBackend();
  // Listens on loopback and serves on a thread of its own.
  Status start(uint16_t port);

 private:
  static void handle(const ServiceRequest& request, HttpService::Respond respond);

  event::Loop loop_;
  HttpService service_;
  std::thread thread_;
};

}  // namespace sluice::api
