#pragma once
// The server side of an HTTP/2 connection (RFC 9113, RFC 8441): makes a ServerStream of every
// request and hands it to ServerCallbacks. Over TLS (ALPN h2) or in clear with prior knowledge.
//
// Requests look as HTTP/1 ones do: Host and Content-Length are facts of the head and not fields;
// cookies are one field; an extended CONNECT is a GET with `upgrade` set, and its answer (101 or
// 200, with ResponseHead::upgrade) is sent as 200. A plain CONNECT has an empty path.
//
// A malformed request resets its stream without a handler; one over the header limits is answered
// 431.
//
// An idle connection holds no block: it costs about 10.8 KB of heap, of which nghttp2's session
// with its stream table and HPACK tables is 10 KB.

#include "http/http2_session.h"
#include "http/server_connection.h"

namespace sluice::http {

class Http2ServerConnection final : public ServerConnection, public Http2Session {
 public:
  // `settings` is shared and outlives the connection, as do `callbacks` and `owner`.
  Http2ServerConnection(event::Loop& loop, net::Stream stream, ConnectionInfo info, const Http2Settings& settings,
                        ServerCallbacks& callbacks, Owner& owner);

  // Registers with the loop (or takes the descriptor over from another handler of it), sends our
  // SETTINGS and reads what has arrived. `received`: bytes read before, which start with the
  // client's preface. May call handlers. False: could not register; the connection is closed and
  // the owner has not been told.
  bool start(Slice received, bool already_registered = false);

  // ServerConnection
  void drain() override { begin_drain(); }
  void close_now() override;
  bool is_tls() const override { return info_.tls; }

  const ConnectionInfo& info() const { return info_; }

 private:
  class Request;

  Http2Stream* accept_stream() override;
  void on_session_closed() override;

  ConnectionInfo info_;
  ServerCallbacks& callbacks_;
  Owner& owner_;
};

}  // namespace sluice::http
