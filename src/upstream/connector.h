#pragma once
// Connector: opens one connection to an endpoint (TCP or Unix socket, PROXY header, TLS with ALPN) and hands it over.
//
// Where the endpoint's name has an address of the other family too, that one is tried as well when the first has not
// connected within kHeadStartMs or has failed; the first to connect wins (RFC 8305, Happy Eyeballs).

#include <memory>
#include <string>

#include "config/cluster.h"
#include "event/loop.h"
#include "http/stream.h"
#include "net/stream.h"

namespace sluice::net {
class TlsSessionCache;
}

namespace sluice::upstream {

class Connector final : public event::Destroyable {
 public:
  static constexpr uint64_t kHeadStartMs = 250;

  class Owner {
   public:
    // The stream is connected (and TLS established) and registered with the loop; the caller takes over its events
    // (Loop::rebind) or removes it.
    virtual void on_connected(Connector& connector, net::Stream stream) = 0;
    virtual void on_connect_failed(Connector& connector, http::StreamError error, std::string detail) = 0;

   protected:
    ~Owner() = default;
  };

  struct Options {
    net::Address address;
    net::Address fallback;  // of the other family; none: there is no other
    uint64_t timeout_ms = 10'000;
    std::shared_ptr<const config::UpstreamTls> tls;  // null: plaintext
    std::string sni;
    std::shared_ptr<net::TlsSessionCache> sessions;
    std::string proxy_header;  // sent first; empty: none
  };

  Connector(event::Loop& loop, Options options, Owner& owner);
  ~Connector() override;

  // Starts; the owner hears of success or failure later, never from inside this call.
  void start();
  // Gives up without telling the owner.
  void cancel();
  const std::string& proxy_header() const { return options_.proxy_header; }

 private:
  enum class State : uint8_t { kConnecting, kHandshake, kDone };

  // One socket on its way.
  class Attempt final : public event::IoHandler {
   public:
    explicit Attempt(Connector& connector) : connector_(connector) {}
    // Empty: under way; otherwise why not.
    std::string start(const net::Address& address);
    bool active() const { return stream.is_open(); }
    net::Stream stream;

   private:
    void on_io(uint32_t events) override { connector_.on_io(*this, events); }
    Connector& connector_;
  };

  void on_io(Attempt& attempt, uint32_t events);
  void on_timer();
  void on_head_start_over();
  void start_attempt(Attempt& attempt, const net::Address& address);
  void attempt_failed(Attempt& attempt, std::string why);
  void connected(Attempt& attempt);
  void handshake(Attempt& attempt);
  void fail(http::StreamError error, std::string detail);

  event::Loop& loop_;
  Options options_;
  Owner& owner_;
  Attempt first_{*this};
  Attempt second_{*this};
  event::MemberTimer<Connector, &Connector::on_timer> timer_{this};
  event::MemberTimer<Connector, &Connector::on_head_start_over> head_start_{this};
  State state_ = State::kConnecting;
  bool fallback_started_ = false;
  std::string failure_;  // set: fail at the next timer
};

}  // namespace sluice::upstream
