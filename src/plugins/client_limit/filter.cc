#include "plugins/client_limit/filter.h"

#include <algorithm>
#include <utility>

#include "event/loop.h"
#include "plugins/client_limit/client_table.h"
#include "plugins/ip_restriction/address_set.h"
#include "plugins/state_factory.h"

namespace sluice::plugins::client_limit {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;

// As nginx counts with `nodelay`: the burst, and the request that is due.
Rate rate(int64_t requests, int64_t multiplier, uint64_t interval_ns) {
  if (!requests) return {};
  const uint64_t token_ns = std::max<uint64_t>(interval_ns / static_cast<uint64_t>(requests), 1);
  return {token_ns, token_ns * (static_cast<uint64_t>(requests) * static_cast<uint64_t>(multiplier) + 1)};
}

struct State {
  explicit State(const Config& c)
      : per_second(rate(c.requests_per_second, c.burst_multiplier, kSecondNs)),
        per_minute(rate(c.requests_per_minute, c.burst_multiplier, 60 * kSecondNs)),
        second_scope(scope_key(c.scope + "/s")),
        minute_scope(scope_key(c.scope + "/m")),
        connections(static_cast<uint32_t>(c.connections)),
        connection_scope(scope_key(c.scope + "/c")),
        status(static_cast<int>(c.status)) {
    for (const std::string& address : c.exempt) exempt.add(address);
    exempt.seal();
  }
  const Rate per_second, per_minute;
  const uint64_t second_scope, minute_scope;
  const uint32_t connections;
  const uint64_t connection_scope;
  const int status;
  ip_restriction::AddressSet exempt;
};

class ClientLimit final : public filter::Filter {
 public:
  explicit ClientLimit(const State& state) : state_(state) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    const net::Address& client = context.client_address();
    if (!client.is_ip() || state_.exempt.contains(client)) return filter::Status::kContinue;
    const uint64_t now = context.loop().now_ns();
    for (const auto& [rate, scope] :
         {std::pair{&state_.per_second, state_.second_scope}, std::pair{&state_.per_minute, state_.minute_scope}}) {
      if (!rate->token_ns || RateTable::instance().take(client_key(scope, client), *rate, now)) continue;
      return refuse(context, "client_rate_limited");
    }
    if (!state_.connections) return filter::Status::kContinue;
    using Entry = ConnectionTable::Entry;
    const uint64_t key = client_key(state_.connection_scope, client);
    if (ConnectionTable::instance().enter(key, state_.connections, &place_) == Entry::kFull) {
      return refuse(context, "client_connections_limited");
    }
    return filter::Status::kContinue;
  }

  // Goes on counting until the tunnel ends.
  std::unique_ptr<filter::TunnelHold> on_tunnel() override {
    if (!place_.word) return nullptr;
    return std::make_unique<Hold>(std::exchange(place_, {}));
  }

  void on_complete(filter::Context& context) override {
    if (place_.word) ConnectionTable::leave(place_);
  }

 private:
  struct Hold final : filter::TunnelHold {
    explicit Hold(ConnectionTable::Place held) : place(held) {}
    ~Hold() override { ConnectionTable::leave(place); }
    const ConnectionTable::Place place;
  };

  filter::Status refuse(filter::Context& context, std::string_view details) {
    context.add_flag(filter::ResponseFlag::kRateLimited);
    context.send_local_reply({.status = state_.status, .body = "too many requests", .details = details});
    return filter::Status::kPause;
  }

  const State& state_;
  ConnectionTable::Place place_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  return parse_state<ClientLimit, State>("client-limit", schema(), node);
}

}  // namespace

Plugin plugin() {
  return {"client-limit", parse, "Limits the requests of each client, by rate and at the same time.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::client_limit
