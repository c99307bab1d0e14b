#pragma once
// Listener: accepts connections of one listening socket and brings them to the point where HTTP begins: PROXY header
// and TLS handshake, both within a time limit. Where there are hosts whose TLS is passed through, the ClientHello is
// looked at first.

#include "event/loop.h"
#include "http/stream.h"
#include "net/stream.h"
#include "net/tls.h"
#include "proxy/options.h"

namespace sluice::config {
struct PassthroughHost;
}

namespace sluice::proxy {

class Worker;

class Listener final : private event::IoHandler {
 public:
  // `fd` listens and is non-blocking; owned.
  Listener(Worker& worker, int fd, const ListenerOptions& options);
  ~Listener();

  Status start();
  // Takes what waits in the backlog, then stops accepting and closes the socket.
  void stop();
  int fd() const { return fd_; }
  const ListenerOptions& options() const { return options_; }

 private:
  void on_io(uint32_t events) override;
  void accept_some(int limit);
  void pause();
  void on_pause_over();

  Worker& worker_;
  int fd_;
  ListenerOptions options_;
  bool listening_ = false;
  event::MemberTimer<Listener, &Listener::on_pause_over> pause_timer_{this};
};

// A connection before HTTP: reads a PROXY header, finds out whether it is passed through, does the TLS handshake.
class PendingConnection final : public event::IoHandler, public event::Destroyable, private net::TlsServerSelector {
 public:
  PendingConnection(Worker& worker, net::Stream stream, http::ConnectionInfo info, bool tls, bool proxy_header);
  void start();

 private:
  enum class State : uint8_t { kProxyHeader, kClientHello, kHandshake, kDone };

  void on_io(uint32_t events) override;
  std::shared_ptr<const net::TlsContext> select(std::string_view sni) override;
  void advance();
  // What comes after the PROXY header.
  State after_proxy_header() const;
  bool read_proxy_header();
  bool read_client_hello();
  void pass_through(const config::PassthroughHost& host);
  void begin_tls();
  void hand_over();
  void fail();
  void on_timer() { fail(); }

  Worker& worker_;
  net::Stream stream_;
  http::ConnectionInfo info_;
  const bool tls_;
  State state_;
  size_t peeked_ = 0;  // bytes of an incomplete ClientHello, counted each time they are looked at
  event::MemberTimer<PendingConnection, &PendingConnection::on_timer> timer_{this};
};

}  // namespace sluice::proxy
