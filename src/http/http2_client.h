#pragma once
// The client side of an HTTP/2 connection (RFC 9113, RFC 8441), over a net::Stream that is
// connected and, with TLS, has agreed on h2.
//
// Streams may be opened before the server's SETTINGS have come; can_open() follows the server's
// limit once it is known. A request whose head has `upgrade` set becomes an extended CONNECT, and fails
// (kProtocol) if the server is known to take none. Its 2xx answer has ResponseHead::upgrade set. Pushed
// streams are refused.
//
// The connection destroys itself (Loop::destroy_later) after Observer::on_closed().

#include "http/http2_session.h"
#include "http/stream.h"

namespace sluice::http {

class Http2ClientConnection final : public ClientConnection, public event::Destroyable, public Http2Session {
 public:
  Http2ClientConnection(event::Loop& loop, net::Stream stream, const Http2Settings& settings, Observer& observer);
  ~Http2ClientConnection() override;

  // Registers with the loop, or takes the descriptor over (the default). False: failed; closed, the
  // observer not told.
  bool start(bool already_registered = true);
  // Closes a connection without streams, and does not tell the observer.
  void close_idle();
  // Closes now; all streams, and then the observer, are told.
  void close_now() { close_session(StreamError::kConnectionClosed, "connection closed"); }

  // ClientConnection
  ClientStream* open(ClientHandler& handler) override;
  bool can_open() const override;
  size_t active_streams() const override { return Http2Session::active_streams(); }
  uint64_t total_streams() const override { return Http2Session::total_streams(); }
  void drain() override;

  // The server's SETTINGS have come.
  bool ready() const { return settings_received(); }
  // How many streams may be open at a time. Few before the server's SETTINGS have come: what is above its limit would
  // have to wait for others to end, instead of going to another connection.
  size_t stream_limit() const;
  // The server's SETTINGS have come and allow extended CONNECT.
  bool allows_extended_connect() const;

 private:
  class Exchange;

  Http2Stream* accept_stream() override { return nullptr; }
  void on_peer_settings() override;
  void on_goaway() override { announce_draining(); }
  void on_ping_ack() override { ping_sent_ms_ = 0; }
  void on_stream_released() override;
  void on_session_closed() override;
  void announce_draining();
  void on_keepalive();

  Observer* observer_;
  net::Address local_;
  uint64_t ping_sent_ms_ = 0;
  bool draining_told_ = false;
  event::MemberTimer<Http2ClientConnection, &Http2ClientConnection::on_keepalive> keepalive_{this};
};

}  // namespace sluice::http
