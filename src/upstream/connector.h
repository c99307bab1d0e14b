#pragma once
// Connector: opens one connection to an endpoint (TCP or Unix socket, PROXY header, TLS with ALPN) and hands it over.

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

class Connector final : public event::IoHandler, public event::Destroyable {
 public:
  class Owner {
   public:
    // The stream is connected (and TLS established) and registered with the loop under the connector, which the caller
    // must replace (Loop::rebind).
    virtual void on_connected(Connector& connector, net::Stream stream) = 0;
    virtual void on_connect_failed(Connector& connector, http::StreamError error, std::string detail) = 0;

   protected:
    ~Owner() = default;
  };

  struct Options {
    net::Address address;
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
  void on_io(uint32_t events) override;
  void on_timer();
  void advance();
  void fail(http::StreamError error, std::string detail);

  enum class State : uint8_t { kConnecting, kHandshake, kFailed, kDone };

  event::Loop& loop_;
  Options options_;
  Owner& owner_;
  net::Stream stream_;
  event::MemberTimer<Connector, &Connector::on_timer> timer_{this};
  State state_ = State::kConnecting;
  std::string failure_;
};

}  // namespace sluice::upstream
