#include "http/stream.h"

namespace sluice::http {

std::string_view stream_error_name(StreamError error) {
  switch (error) {
    case StreamError::kNone:
      return "none";
    case StreamError::kReset:
      return "remote reset";
    case StreamError::kRefused:
      return "remote refused stream";
    case StreamError::kConnectionClosed:
      return "connection closed";
    case StreamError::kConnectFailed:
      return "connection failed";
    case StreamError::kProtocol:
      return "protocol error";
    case StreamError::kTimeout:
      return "timeout";
    case StreamError::kOverload:
      return "limit reached";
    case StreamError::kCancelled:
      return "cancelled";
    case StreamError::kNoError:
      return "no error";
  }
  return "unknown";
}

}  // namespace sluice::http
