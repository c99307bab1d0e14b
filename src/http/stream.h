#pragma once
// Streams: what the codecs (HTTP/1, HTTP/2; server and client side) offer to the proxy, and what they tell it. A stream
// is one request and its response on one connection.
//
// Rules both sides keep:
//  - A codec reports head, data, trailers and end in order, each at most once, and stops at on_reset(). After
//  on_reset(),
//    or after the handler called reset() or detach(), the two never touch each other again.
//  - send_*() never fails and never blocks: bytes queue up in the codec and leave after the current callback. The
//  sender
//    looks at buffered() and holds back above its limit until on_drained().
//  - pause()/resume() stop and restart the delivery of body data (heads, resets and drains still come). They nest no
//    counts: the caller keeps its own reasons. After pause() at most what is in the current callback is delivered.
//  - Everything happens on the worker that owns the connection. No callback is made from inside send_*(), pause(),
//    resume(), reset() or detach(), except that the objects may be torn down later in the turn.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/slice_queue.h"
#include "http/headers.h"
#include "net/address.h"

namespace sluice::net {
class Stream;
}

namespace sluice::http {

enum class StreamError : uint8_t {
  kNone,
  kReset,             // the peer reset the stream (HTTP/2 RST_STREAM other than REFUSED_STREAM)
  kRefused,           // REFUSED_STREAM, or above GOAWAY's last id: the peer has not processed it
  kConnectionClosed,  // the connection ended before the message was complete
  kConnectFailed,     // client only: the connection could not be made
  kProtocol,          // the peer broke the protocol
  kTimeout,           // a codec's own time limit
  kOverload,          // a limit of ours was hit
  kCancelled,         // we gave up
  kNoError,           // HTTP/2 NO_ERROR: the response is complete, the rest of the request is not wanted
};

std::string_view stream_error_name(StreamError error);

// Common to both directions of a stream's events.
class StreamHandler {
 public:
  // Body bytes; with `end` the message is complete. May be empty with `end`.
  virtual void on_data(Slice data, bool end) = 0;
  // Trailers end the message. Borrowed until the call returns; copy what must live longer.
  virtual void on_trailers(const HeaderMap& trailers) = 0;
  // buffered() fell from above the low watermark (kBufferLow) to it, or everything queued has left after the end.
  virtual void on_drained() = 0;
  // The stream is over without having completed in both directions.
  virtual void on_reset(StreamError error, std::string_view detail) = 0;

 protected:
  ~StreamHandler() = default;
};

// buffered() at or below this counts as drained.
inline constexpr size_t kBufferLow = 16384;

// The certificate that a TLS client has shown.
struct ClientCertificate {
  std::string subject, issuer;  // RFC 2253
  std::string escaped_pem;      // percent-encoded
  std::string problem;          // why it does not verify; empty: it does
};

// Facts about the connection a stream runs on.
struct ConnectionInfo {
  net::Address peer;  // as the PROXY protocol says, where used
  net::Address local;
  bool tls = false;
  std::string sni;
  std::string client_certificate_header;  // x-forwarded-client-cert value of a verified client; empty if none
  std::shared_ptr<const ClientCertificate> client_certificate;  // null: none
  uint64_t id = 0;
};

// The server side of a stream.
class ServerStream {
 public:
  virtual const ConnectionInfo& connection() const = 0;

  // 1xx other than 101.
  virtual void send_informational(const ResponseHead& head) = 0;
  // `end`: no body follows. The codec adds its own framing fields; content_length >= 0 states the length.
  virtual void send_head(const ResponseHead& head, bool end) = 0;
  virtual void send_data(Slice data, bool end) = 0;
  virtual void send_trailers(const HeaderMap& trailers) = 0;

  // Bytes accepted by send_*() that have not left yet.
  virtual size_t buffered() const = 0;
  virtual void pause() = 0;
  virtual void resume() = 0;

  // Cuts the stream off. HTTP/1: closes the connection (with RST if a response had begun). HTTP/2: RST_STREAM.
  virtual void reset(StreamError error) = 0;
  // The handler is done: it has sent a complete response and goes away. What remains of the request is discarded within
  // limits; HTTP/1 closes the connection if it does not end soon.
  virtual void detach() = 0;

  // The connection must not be reused after this response (Connection: close; HTTP/2: GOAWAY). Before send_head().
  virtual void close_after_response() = 0;

  // Inside on_reset(): the status with which the codec answers in the handler's place; 0: with none.
  virtual int refused_status() const { return 0; }

  // Lets go of the request head and everything in its arena, for a stream that will live long (a tunnel). The handler
  // has copied what it still needs.
  virtual void compact() {}

 protected:
  ~ServerStream() = default;
};

// Makes the handler of a new request. `head` and everything it refers to live in the request's arena
// (head.headers.arena(), which the handler uses as its own) and stay valid until detach(), reset() or on_reset(); its
// fields may be changed. Returns null after having answered or reset by itself.
class ServerCallbacks {
 public:
  virtual StreamHandler* on_request(ServerStream& stream, RequestHead& head, bool end) = 0;
  // A request that has had no handler was refused by the codec itself with that status; `why` is static text.
  virtual void on_refused(const ConnectionInfo& connection, int status, std::string_view why) = 0;

 protected:
  ~ServerCallbacks() = default;
};

// A client stream takes so many 1xx heads before the final one: each stays in the handler's arena.
inline constexpr uint32_t kMaxInformational = 64;

// Events of the client side of a stream, besides the common ones.
class ClientHandler : public StreamHandler {
 public:
  // Where the codec puts the response head and its fields; pins the receive buffer there. Outlives the stream.
  virtual Arena& arena() = 0;
  // 1xx other than 101; the head is borrowed until the call returns.
  virtual void on_informational(ResponseHead& head) = 0;
  // The final head. It and what it refers to live in arena().
  virtual void on_response(ResponseHead& head, bool end) = 0;

 protected:
  ~ClientHandler() = default;
};

// The client side of a stream.
class ClientStream {
 public:
  // Once, first. The head is serialised before the call returns.
  virtual void send_head(const RequestHead& head, bool end) = 0;
  virtual void send_data(Slice data, bool end) = 0;
  virtual void send_trailers(const HeaderMap& trailers) = 0;

  virtual size_t buffered() const = 0;
  virtual void pause() = 0;
  virtual void resume() = 0;

  virtual void reset(StreamError error) = 0;
  // The handler has seen the end of the response and goes away; an unfinished request is given up.
  virtual void detach() = 0;

  // True if, although the stream failed, the peer has certainly not processed any of the request (nothing of it was
  // acknowledged, or REFUSED_STREAM). Meaningful inside on_reset().
  virtual bool certainly_unprocessed() const = 0;
  // True if the connection had carried an earlier request: a failure before the first byte may be a closing race.
  virtual bool on_reused_connection() const = 0;
  virtual const net::Address& local_address() const = 0;

 protected:
  ~ClientStream() = default;
};

// A connection of the client side, as the pool sees it. Owned by the pool; destroyed with Loop::destroy_later().
class ClientConnection {
 public:
  class Observer {
   public:
    // A stream has ended and the connection can take another; or the server has said how many it takes, see can_open().
    virtual void on_available(ClientConnection& connection) = 0;
    // The connection takes no new streams any more (GOAWAY, Connection: close, error). Streams under way go on.
    virtual void on_draining(ClientConnection& connection) = 0;
    // The connection is gone, all its streams have been told. The pool drops it.
    virtual void on_closed(ClientConnection& connection) = 0;

   protected:
    ~Observer() = default;
  };

  // Opens a stream, or returns null if can_open() is false.
  virtual ClientStream* open(ClientHandler& handler) = 0;
  virtual bool can_open() const = 0;
  virtual size_t active_streams() const = 0;
  virtual uint64_t total_streams() const = 0;
  // No new streams; closes when the last has ended (at once if there is none).
  virtual void drain() = 0;

 protected:
  ~ClientConnection() = default;
};

}  // namespace sluice::http
