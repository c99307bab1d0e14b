#include "plugins/compression/negotiate.h"

#include "http/headers.h"

namespace sluice::plugins::compression {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// A weight in thousandths; -1 if it is malformed (RFC 9110 §12.4.2).
int parse_weight(std::string_view text) {
  if (text.empty() || (text[0] != '0' && text[0] != '1')) return -1;
  int value = (text[0] - '0') * 1000;
  if (text.size() == 1) return value;
  if (text[1] != '.' || text.size() > 5) return -1;
  int unit = 100;
  for (char c : text.substr(2)) {
    if (c < '0' || c > '9') return -1;
    value += (c - '0') * unit;
    unit /= 10;
  }
  return value > 1000 ? -1 : value;
}

}  // namespace

std::string_view coding_name(Coding coding) {
  switch (coding) {
    case Coding::kGzip:
      return "gzip";
    case Coding::kBrotli:
      return "br";
    case Coding::kZstd:
      return "zstd";
    case Coding::kIdentity:
      break;
  }
  return "identity";
}

Coding parse_coding(std::string_view name) {
  if (http::iequals(name, "gzip") || http::iequals(name, "x-gzip")) return Coding::kGzip;
  if (http::iequals(name, "br")) return Coding::kBrotli;
  if (http::iequals(name, "zstd")) return Coding::kZstd;
  return Coding::kIdentity;
}

Coding negotiate(std::string_view accept_encoding, std::span<const Coding> offered) {
  constexpr int kUnsaid = -1;
  int weights[4] = {kUnsaid, kUnsaid, kUnsaid, kUnsaid};
  int any = kUnsaid;
  while (!accept_encoding.empty()) {
    const size_t comma = accept_encoding.find(',');
    std::string_view item = trim(accept_encoding.substr(0, comma));
    accept_encoding = comma == std::string_view::npos ? std::string_view() : accept_encoding.substr(comma + 1);
    if (item.empty()) continue;
    int weight = 1000;
    const size_t semicolon = item.find(';');
    if (semicolon != std::string_view::npos) {
      const std::string_view parameter = trim(item.substr(semicolon + 1));
      if (parameter.size() < 3 || (parameter[0] | 0x20) != 'q' || parameter[1] != '=') continue;
      weight = parse_weight(parameter.substr(2));
      if (weight < 0) continue;  // what can't be understood is not an acceptance
      item = trim(item.substr(0, semicolon));
    }
    if (item == "*") {
      any = weight;
      continue;
    }
    const Coding coding = parse_coding(item);
    if (coding != Coding::kIdentity || http::iequals(item, "identity")) weights[static_cast<int>(coding)] = weight;
  }

  Coding best = Coding::kIdentity;
  int best_weight = 0;
  for (Coding coding : offered) {
    int weight = weights[static_cast<int>(coding)];
    if (weight == kUnsaid) weight = any;
    if (weight > best_weight) {
      best = coding;
      best_weight = weight;
    }
  }
  // "identity" is always acceptable but preferred only if the client says so.
  return weights[0] > best_weight ? Coding::kIdentity : best;
}

}  // namespace sluice::plugins::compression
