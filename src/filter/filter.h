#pragma once
// The filter interface. A filter is created per exchange from a Factory (a plugin and its parsed configuration) and
// sees six events plus completion. The chain runs request events first to last and response events last to first.
//
// An event returns kContinue, or kPause: then nothing passes this filter in that direction until it calls
// Context::resume_request() or resume_response(). Body chunks that arrive meanwhile are still shown to it (if it wants
// bodies) and then held. A filter that paused on the headers without collecting the body slows the sender down; see
// set_buffer_limit(). A filter that paused must resume, answer by itself, or let the exchange be cancelled.
//
// Threading: all calls happen on the worker that owns the exchange. Nothing here may block.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/arena.h"
#include "base/random.h"
#include "base/slice_queue.h"
#include "filter/response_flags.h"
#include "http/headers.h"

namespace sluice::event {
class Loop;
}
namespace sluice::net {
class Address;
}
namespace sluice::http {
struct ConnectionInfo;
}
namespace sluice::config {
struct Route;
struct Snapshot;
}  // namespace sluice::config

namespace sluice::filter {

class Context;
class CallReceiver;
struct HttpCall;

enum class Status : uint8_t { kContinue, kPause };

// What a filter holds for as long as a tunnel lasts: filters are gone by then. Destroyed when it ends.
class TunnelHold {
 public:
  virtual ~TunnelHold() = default;
};

class Filter {
 public:
  virtual ~Filter() = default;

  // `end` is true when nothing of the message follows; so for an upgrade, whose bytes no filter sees. Heads are those
  // of the context; a body chunk may be changed, emptied or extended in place.
  virtual Status on_request_headers(Context& context, bool end) { return Status::kContinue; }
  virtual Status on_request_body(Context& context, SliceQueue& data, bool end) { return Status::kContinue; }
  virtual Status on_request_trailers(Context& context, http::HeaderMap& trailers) { return Status::kContinue; }

  virtual Status on_response_headers(Context& context, bool end) { return Status::kContinue; }
  virtual Status on_response_body(Context& context, SliceQueue& data, bool end) { return Status::kContinue; }
  virtual Status on_response_trailers(Context& context, http::HeaderMap& trailers) { return Status::kContinue; }

  // Both sides have agreed to a tunnel (WebSocket), whose bytes no filter sees. Called before on_complete().
  virtual std::unique_ptr<TunnelHold> on_tunnel() { return nullptr; }

  // The exchange is over, however it ended, or has become a tunnel. Called once, last, also after a cancellation;
  // pending timers and call-outs of the filter must be dropped here.
  virtual void on_complete(Context& context) {}
};

// A plugin with its configuration: immutable, shared by all workers, held by routes and destinations.
class Factory {
 public:
  virtual ~Factory() = default;
  // The plugin's name, as in configuration, dumps and metrics.
  virtual std::string_view name() const = 0;
  // Creates the filter of one exchange in its arena. Null: this filter has nothing to do in this exchange.
  virtual Filter* create(Context& context) const = 0;
  // The events beyond the two heads that the filter wants; body and trailers skip it otherwise.
  virtual bool wants_request_body() const { return false; }
  virtual bool wants_response_body() const { return false; }
};

// A response made by a filter.
struct LocalReply {
  int status = 500;
  std::string_view body;  // copied
  std::string_view content_type = "text/plain";
  std::string_view details;  // response_code_details of the access log, static text
};

// What a filter may ask of its exchange.
class Context {
 public:
  virtual http::RequestHead& request() = 0;
  virtual http::ResponseHead& response() = 0;  // valid from on_response_headers on
  virtual Arena& arena() = 0;
  virtual event::Loop& loop() = 0;
  virtual Random& random() = 0;  // the worker's

  virtual const config::Route* route() const = 0;
  virtual const config::Snapshot& snapshot() const = 0;
  // Name of the chosen destination's cluster; empty if there is none.
  virtual std::string_view cluster_name() const = 0;
  // The client as trusted hops tell it, and the peer of the connection.
  virtual const net::Address& client_address() const = 0;
  virtual bool is_tls() const = 0;
  virtual const http::ConnectionInfo& connection() const = 0;  // the client's

  // Goes on after `self` returned kPause: with the headers if they wait there, then with the body that is held.
  virtual void resume_request(Filter& self) = 0;
  virtual void resume_response(Filter& self) = 0;
  // The body bytes held at the paused filter `self`; it may change them before it resumes.
  virtual SliceQueue& held_request_body(Filter& self) = 0;
  virtual SliceQueue& held_response_body(Filter& self) = 0;
  // How many body bytes may be held for paused filters (default: the listener's buffer limit). A filter that pauses in
  // a body event to collect the whole body sets what it needs: beyond it the request is answered 413, a response 502.
  virtual void set_buffer_limit(size_t bytes) = 0;

  // Lets the response's body leave at this rate (> 0) after its first `after` bytes. From on_response_headers.
  virtual void limit_response_rate(uint64_t bytes_per_second, uint64_t after) = 0;

  // Answers the request without (or in place of) the upstream. `configure` may add header fields to the head before it
  // passes the response filters: those that have seen the request, the caller among them.
  virtual void send_local_reply(const LocalReply& reply, void (*configure)(http::HeaderMap&, const void*) = nullptr,
                                const void* argument = nullptr) = 0;

  // Resolves host and path to a route anew when the request headers have passed this filter.
  virtual void clear_route() = 0;
  // Sends the request to that cluster, whatever the route says. False: no such cluster.
  virtual bool select_cluster(std::string_view name) = 0;

  // Asks another service (filter/call.h); the receiver hears of the result later, never from inside this call. What
  // `call` refers to is copied. Belongs to the exchange: it is given up when the exchange ends.
  virtual void call(const HttpCall& call, CallReceiver& receiver) = 0;
  // The same for a request whose answer nobody wants: it goes on when the exchange has ended. Under overload it is
  // dropped.
  virtual void send(const HttpCall& call) = 0;

  // Says in the access log that the response is not simply the upstream's.
  virtual void add_flag(ResponseFlag flag) = 0;
  // Adds a named value to the access log (static or arena-owned text).
  virtual void add_log_field(std::string_view name, std::string_view value) = 0;

 protected:
  ~Context() = default;
};

}  // namespace sluice::filter
