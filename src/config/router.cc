#include "config/router.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace sluice::config {
namespace {

constexpr uint64_t kHashSeed = 0xcbf29ce484222325u;

uint64_t hash_step(uint64_t hash, char c) { return (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u; }

uint64_t hash_text(std::string_view text) {
  uint64_t hash = kHashSeed;
  for (char c : text) hash = hash_step(hash, c);
  return hash;
}

// Spreads the high bits that multiplication left there.
size_t slot_of(uint64_t hash, size_t mask) { return static_cast<size_t>(hash ^ (hash >> 32)) & mask; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

re2::StringPiece piece(std::string_view text) { return {text.data(), text.size()}; }

bool path_matches(const PathMatch& match, std::string_view path) {
  const std::string& text = match.text;
  switch (match.kind) {
    case PathMatch::Kind::kExact:
      return match.ignore_case ? equal_ignoring_case(path, text) : path == text;
    case PathMatch::Kind::kPrefix: {
      if (text.empty()) return true;
      if (path.size() < text.size() || (path.size() > text.size() && path[text.size()] != '/')) return false;
      std::string_view head = path.substr(0, text.size());
      return match.ignore_case ? equal_ignoring_case(head, text) : head == text;
    }
    case PathMatch::Kind::kPrefixRegex:
    case PathMatch::Kind::kFullRegex:
      return match.regex && re2::RE2::FullMatch(piece(path), *match.regex);
  }
  return false;
}

// The first value of a query parameter, as written.
bool find_query(std::string_view query, std::string_view name, std::string_view* value) {
  while (!query.empty()) {
    size_t end = std::min(query.find('&'), query.size());
    std::string_view pair = query.substr(0, end);
    size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) == name) {
      *value = equals < pair.size() ? pair.substr(equals + 1) : std::string_view();
      return true;
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return false;
}

bool find_value(const ValueMatch& condition, const RequestKey& key, std::string_view* value) {
  switch (condition.source) {
    case ValueMatch::Source::kHeader:
      return key.find_header && key.find_header(key.headers, condition.name, value);
    case ValueMatch::Source::kQuery:
      return find_query(key.query, condition.name, value);
    case ValueMatch::Source::kMethod:
      *value = key.method;
      return true;
    case ValueMatch::Source::kAuthority:
      *value = key.authority;
      return true;
    case ValueMatch::Source::kPath:
      *value = key.target;
      return true;
    case ValueMatch::Source::kScheme:
      *value = key.scheme;
      return true;
  }
  return false;
}

bool condition_holds(const ValueMatch& condition, const RequestKey& key) {
  std::string_view value;
  bool holds = find_value(condition, key, &value);
  if (holds) {
    switch (condition.kind) {
      case ValueMatch::Kind::kExact:
        holds = value == condition.value;
        break;
      case ValueMatch::Kind::kPrefix:
        holds = value.starts_with(condition.value);
        break;
      case ValueMatch::Kind::kRegex:
        holds = condition.regex && re2::RE2::FullMatch(piece(value), *condition.regex);
        break;
      case ValueMatch::Kind::kPresent:
        break;
    }
  }
  return holds != condition.invert;
}

struct Verdict {
  MatchTrace::Reason reason;
  uint32_t detail = 0;
  bool matched() const { return reason == MatchTrace::Reason::kMatched; }
};

// Everything but the path.
Verdict judge_rest(const Route& route, const RequestKey& key) {
  if (!route.methods.empty() &&
      std::find(route.methods.begin(), route.methods.end(), key.method) == route.methods.end()) {
    return {MatchTrace::Reason::kMethod};
  }
  for (uint32_t i = 0; i < route.conditions.size(); ++i) {
    if (!condition_holds(route.conditions[i], key)) return {MatchTrace::Reason::kCondition, i};
  }
  return {MatchTrace::Reason::kMatched};
}

Verdict judge(const Route& route, const RequestKey& key) {
  if (!path_matches(route.path, key.path)) return {MatchTrace::Reason::kPath};
  return judge_rest(route, key);
}

uint64_t load8(const char* from) {
  uint64_t out;
  std::memcpy(&out, from, sizeof(out));
  return out;
}

// Up to eight bytes, padded with zeros.
uint64_t load_short(std::string_view text) {
  uint64_t out = 0;
  std::memcpy(&out, text.data(), std::min(text.size(), sizeof(out)));
  return out;
}

// mask[n] keeps the first n bytes of what load_short() gives.
constexpr struct Leading {
  constexpr Leading() {
    for (size_t n = 0; n < 8; ++n) {
      std::array<unsigned char, 8> bytes{};
      for (size_t i = 0; i < n; ++i) bytes[i] = 0xff;
      mask[n] = std::bit_cast<uint64_t>(bytes);
    }
  }
  uint64_t mask[8]{};
} kLeading;

PathKey path_key(const Route& route) {
  const PathMatch& path = route.path;
  PathKey out;
  out.route = &route;
  if (path.ignore_case || path.kind == PathMatch::Kind::kPrefixRegex || path.kind == PathMatch::Kind::kFullRegex) {
    return out;
  }
  out.kind = path.kind == PathMatch::Kind::kExact ? PathKey::Kind::kExact : PathKey::Kind::kPrefix;
  out.size = static_cast<uint32_t>(path.text.size());
  std::string_view text = path.text;
  out.tail = load_short(text.substr(text.size() - std::min<size_t>(text.size(), 8)));
  return out;
}

// False: the path is certainly none that the key's route matches. `head` is load_short(path).
bool may_match(const PathKey& key, std::string_view path, uint64_t head) {
  if (key.kind == PathKey::Kind::kAny || key.size == 0) return key.kind != PathKey::Kind::kExact || path.empty();
  if (path.size() < key.size) return false;
  if (path.size() > key.size && (key.kind == PathKey::Kind::kExact || path[key.size] != '/')) return false;
  if (key.size >= 8) return load8(path.data() + key.size - 8) == key.tail;
  return (head & kLeading.mask[key.size]) == key.tail;
}

const Route* find_route(const VirtualHost& host, const RequestKey& key) {
  if (host.index) {
    const uint32_t position = host.index->find(host.routes, key);
    return position == UINT32_MAX ? nullptr : host.routes[position].get();
  }
  const uint64_t head = load_short(key.path);
  for (const PathKey& candidate : host.keys) {
    if (may_match(candidate, key.path, head) && judge(*candidate.route, key).matched()) return candidate.route;
  }
  return nullptr;
}

void record(const VirtualHost& host, const RequestKey& key, const Route* winner, MatchTrace::Host& out) {
  for (const auto& route : host.routes) {
    Verdict verdict = judge(*route, key);
    if (verdict.matched() && route.get() != winner) verdict.reason = MatchTrace::Reason::kLater;
    if (route.get() != winner && out.candidates.size() >= MatchTrace::kMaxCandidates) {
      ++out.omitted;
      continue;
    }
    out.candidates.push_back({route.get(), verdict.reason, verdict.detail});
  }
}

// Host names are at most 253 bytes; what is longer can only match `*`.
constexpr size_t kMaxHost = 255;

// "Example.COM:8080" to "example.com" in `buffer`; empty if there is none or it is too long.
std::string_view normalise_host(std::string_view authority, char* buffer) {
  size_t end = authority.size();
  if (!authority.empty() && authority.front() == '[') {
    size_t bracket = authority.find(']');
    if (bracket == authority.npos) return {};
    authority = authority.substr(1, bracket - 1);
    end = authority.size();
  } else if (size_t colon = authority.rfind(':'); colon != authority.npos) {
    end = colon;
  }
  if (end > 0 && authority[end - 1] == '.') --end;
  if (end > kMaxHost) return {};
  for (size_t i = 0; i < end; ++i) buffer[i] = lower(authority[i]);
  return {buffer, end};
}

// Calls visit(domain) for the names that may cover a host, from the most specific one, until it
// returns true. `host` lies in a writable buffer and is destroyed.
template <typename Visit>
void each_domain(char* host, size_t size, Visit visit) {
  if (size) {
    if (visit(std::string_view(host, size))) return;
    for (size_t dot = 1; dot + 1 < size; ++dot) {
      if (host[dot] != '.') continue;
      host[dot - 1] = '*';
      if (visit(std::string_view(host + dot - 1, size - dot + 1))) return;
    }
  }
  visit(std::string_view("*"));
}

}  // namespace

Match match(const Snapshot& snapshot, const RequestKey& key, MatchTrace* trace) {
  char buffer[kMaxHost + 1];
  std::string_view host = normalise_host(key.authority, buffer);
  if (trace) trace->host = host;
  Match found;
  each_domain(buffer, host.size(), [&](std::string_view domain) {
    const VirtualHost* virtual_host = snapshot.hosts.find(domain);
    if (trace) trace->hosts.push_back({std::string(domain), virtual_host != nullptr, {}, 0});
    if (!virtual_host) return false;
    const Route* route = find_route(*virtual_host, key);
    if (trace) record(*virtual_host, key, route, trace->hosts.back());
    if (!route) return false;
    found = {virtual_host, route};
    return true;
  });
  return found;
}

void prefetch_host(const Snapshot& snapshot, std::string_view authority) {
  char buffer[kMaxHost + 1];
  snapshot.hosts.prefetch(normalise_host(authority, buffer));
}

const TlsHost* match_tls(const Snapshot& snapshot, std::string_view sni) {
  char buffer[kMaxHost + 1];
  size_t size = sni.size() > kMaxHost ? 0 : sni.size();
  std::memcpy(buffer, sni.data(), size);
  const TlsHost* found = nullptr;
  each_domain(buffer, size, [&](std::string_view domain) {
    found = snapshot.tls_hosts.find(domain);
    return found != nullptr;
  });
  return found;
}

const PassthroughHost* match_passthrough(const Snapshot& snapshot, std::string_view sni) {
  if (!snapshot.passthrough_hosts || sni.size() > kMaxHost) return nullptr;
  char buffer[kMaxHost + 1];
  std::memcpy(buffer, sni.data(), sni.size());
  const PassthroughHost* found = nullptr;
  each_domain(buffer, sni.size(), [&](std::string_view domain) {
    found = snapshot.passthrough_hosts->find(domain);
    return found != nullptr || snapshot.tls_hosts.find(domain) != nullptr;
  });
  return found;
}

void set_target(RequestKey& key, std::string_view target) {
  key.target = target;
  size_t question = target.find('?');
  key.path = target.substr(0, question);
  key.query = question == target.npos ? std::string_view() : target.substr(question + 1);
}

void index_paths(VirtualHost& host) {
  host.index = RouteIndex::build(host.routes);
  host.keys.clear();
  if (host.index) return;
  host.keys.reserve(host.routes.size());
  for (const auto& route : host.routes) host.keys.push_back(path_key(*route));
}

// --- RouteIndex ---

void RouteIndex::Table::build(const std::vector<std::shared_ptr<const Route>>& routes,
                              const std::vector<uint32_t>& members) {
  if (members.empty()) return;
  size_t capacity = 4;
  while (capacity < members.size() * 2) capacity *= 2;
  slots_.resize(capacity);
  // First how many routes each text has (routes of one text are not always neighbours), then where
  // they go.
  std::vector<uint32_t> slot_by_member(members.size());
  std::vector<uint32_t> first_by_slot(capacity);  // one member of the slot's text, to compare with
  for (size_t i = 0; i < members.size(); ++i) {
    const std::string& text = routes[members[i]]->path.text;
    uint64_t hash = hash_text(text);
    size_t slot = slot_of(hash, capacity - 1);
    while (slots_[slot].count && (slots_[slot].hash != hash || routes[first_by_slot[slot]]->path.text != text)) {
      slot = (slot + 1) & (capacity - 1);
    }
    if (!slots_[slot].count++) {
      slots_[slot].hash = hash;
      first_by_slot[slot] = members[i];
    }
    slot_by_member[i] = static_cast<uint32_t>(slot);
    longest_ = std::max(longest_, text.size());
  }
  uint32_t next = 0;
  for (Group& group : slots_) {
    group.first = next;
    next += group.count;
    group.count = 0;
  }
  positions_.resize(members.size());
  for (size_t i = 0; i < members.size(); ++i) {
    Group& group = slots_[slot_by_member[i]];
    positions_[group.first + group.count++] = members[i];
  }
}

void RouteIndex::Table::find(const std::vector<std::shared_ptr<const Route>>& routes, const RequestKey& key,
                             std::string_view text, uint64_t hash, uint32_t& best) const {
  size_t mask = slots_.size() - 1;
  for (size_t slot = slot_of(hash, mask); slots_[slot].count; slot = (slot + 1) & mask) {
    const Group& group = slots_[slot];
    if (group.hash != hash || routes[positions_[group.first]]->path.text != text) continue;
    for (uint32_t i = 0; i < group.count; ++i) {
      uint32_t position = positions_[group.first + i];
      if (position >= best) return;
      if (judge_rest(*routes[position], key).matched()) {
        best = position;
        return;
      }
    }
    return;
  }
}

std::shared_ptr<const RouteIndex> RouteIndex::build(const std::vector<std::shared_ptr<const Route>>& routes) {
  if (routes.size() < kMinRoutes) return nullptr;
  auto out = std::make_shared<RouteIndex>();
  std::vector<uint32_t> exact, prefix;
  for (uint32_t i = 0; i < routes.size(); ++i) {
    const PathMatch& path = routes[i]->path;
    if (path.ignore_case || path.kind == PathMatch::Kind::kPrefixRegex || path.kind == PathMatch::Kind::kFullRegex) {
      out->walked_.push_back(i);
    } else {
      (path.kind == PathMatch::Kind::kExact ? exact : prefix).push_back(i);
    }
  }
  out->exact_.build(routes, exact);
  out->prefix_.build(routes, prefix);
  return out;
}

uint32_t RouteIndex::find(const std::vector<std::shared_ptr<const Route>>& routes, const RequestKey& key) const {
  uint32_t best = UINT32_MAX;
  std::string_view path = key.path;
  size_t longest = std::max(exact_.longest(), prefix_.longest());
  // Hashes of the leading parts that end at a boundary. Those that don't fit are tried on the way,
  // shortest first: the order matters for speed only, because `best` decides by position.
  constexpr size_t kMostBoundaries = 32;
  struct Boundary {
    uint64_t hash;
    size_t size;
  } boundaries[kMostBoundaries];
  size_t count = 0;
  uint64_t hash = kHashSeed;
  if (!prefix_.empty()) boundaries[count++] = {hash, 0};  // the prefix "/", which covers any path
  bool whole = path.size() <= longest;
  size_t end = std::min(path.size(), longest + 1);
  for (size_t i = 0; i < end; ++i) {
    if (i > 0 && path[i] == '/' && !prefix_.empty() && i <= prefix_.longest()) {
      if (count < kMostBoundaries) {
        boundaries[count++] = {hash, i};
      } else {
        prefix_.find(routes, key, path.substr(0, i), hash, best);
      }
    }
    hash = hash_step(hash, path[i]);
  }
  if (whole) {
    if (!exact_.empty()) exact_.find(routes, key, path, hash, best);
    if (!prefix_.empty()) prefix_.find(routes, key, path, hash, best);
  }
  while (count > 0) {
    const Boundary& boundary = boundaries[--count];
    prefix_.find(routes, key, path.substr(0, boundary.size), boundary.hash, best);
  }
  for (uint32_t position : walked_) {
    if (position >= best) break;
    if (judge(*routes[position], key).matched()) best = position;
  }
  return best;
}

}  // namespace sluice::config
