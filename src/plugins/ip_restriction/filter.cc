#include "plugins/ip_restriction/filter.h"

#include "plugins/ip_restriction/address_set.h"
#include "plugins/state_factory.h"

namespace sluice::plugins::ip_restriction {
namespace {

std::string json_text(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') out += '\\';
    if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

// "1.2.3.4", "1.2.3.4:80", "::1", "[::1]:80"; the first of a list.
net::Address address_in(std::string_view value) {
  value = value.substr(0, value.find(','));
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  while (!value.empty() && value.back() == ' ') value.remove_suffix(1);
  if (value.empty()) return {};
  const bool bracketed = value.front() == '[';
  if (bracketed) {
    value = value.substr(1, value.find(']') == value.npos ? 0 : value.find(']') - 1);
  } else if (const size_t colon = value.find(':'); colon != value.npos && value.find(':', colon + 1) == value.npos) {
    value = value.substr(0, colon);
  }
  const auto address = net::Address::parse_ip(value);
  return address ? *address : net::Address();
}

struct State {
  explicit State(const Config& c) : config(c) {
    for (const std::string& entry : config.allow) allow.add(entry);
    for (const std::string& entry : config.deny) deny.add(entry);
    allow.seal();
    deny.seal();
    if (config.body.empty()) config.body = "{\"message\":" + json_text(config.message) + "}";
  }
  Config config;
  AddressSet allow, deny;
};

class IpRestriction final : public filter::Filter {
 public:
  explicit IpRestriction(const State& state) : state_(state) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    net::Address address;
    const bool by_header = state_.config.source == Source::kHeader;
    if (by_header) address = address_in(context.request().headers.get_joined(state_.config.header_name));
    const net::Address& client = by_header ? address : context.client_address();
    const std::string_view why = refusal(client);
    if (why.empty()) return filter::Status::kContinue;
    context.send_local_reply(
        {.status = static_cast<int>(state_.config.status), .body = state_.config.body, .details = why});
    return filter::Status::kPause;
  }

 private:
  std::string_view refusal(const net::Address& client) const {
    if (!client.is_ip()) return "key-auth.get_ip_failed";
    if (state_.deny.contains(client)) return "key-auth.ip_denied";
    if (!state_.allow.empty() && !state_.allow.contains(client)) return "key-auth.ip_not_allowed";
    return {};
  }

  const State& state_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  return parse_state<IpRestriction, State>("ip-restriction", schema(), node);
}

}  // namespace

Plugin plugin() {
  return {"ip-restriction", parse, "Lets clients in, or keeps them out, by their address.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::ip_restriction
