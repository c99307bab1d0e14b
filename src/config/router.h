#pragma once
// Router: from a request to its route. Allocates nothing; safe from any thread.
//
// Hosts are tried from the most specific to the least: the exact name, `*.b.c`, `*.c`, `*`; if no
// route of one host matches, the next host's routes are tried. Within a host the first matching
// route of VirtualHost::routes wins. Long lists have a RouteIndex which finds the same route
// without walking the list.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/snapshot.h"

namespace sluice::config {

// What routing looks at. All views are borrowed for the call.
struct RequestKey {
  std::string_view authority;  // as received; port, letter case and a final dot don't matter for the host
  std::string_view path;       // without query, dot segments resolved
  std::string_view query;      // without the question mark
  std::string_view target;     // path and query as received, for conditions on the pseudo-header `path`
  std::string_view method;
  std::string_view scheme;
  // Looks up a header by its lower-case name; several values of one name are given joined by
  // commas. False: absent.
  bool (*find_header)(const void* headers, std::string_view name, std::string_view* value) = nullptr;
  const void* headers = nullptr;
};

// The way to the decision, for `explain`.
struct MatchTrace {
  enum class Reason : uint8_t {
    kMatched,    // this is the one
    kPath,       // the path is not this route's
    kMethod,     // the method is not among Route::methods
    kCondition,  // conditions[detail] does not hold
    kLater,      // would match, but stands behind the one that won
  };
  struct Candidate {
    const Route* route;
    Reason reason;
    uint32_t detail;  // kCondition: the index of the condition
  };
  struct Host {
    std::string domain;
    bool exists;  // false: no virtual host of this name
    std::vector<Candidate> candidates;
    size_t omitted = 0;  // candidates beyond kMaxCandidates that were not recorded
  };
  static constexpr size_t kMaxCandidates = 2000;

  std::string host;  // as looked up
  std::vector<Host> hosts;
};

struct Match {
  const VirtualHost* host = nullptr;
  const Route* route = nullptr;
  explicit operator bool() const { return route != nullptr; }
};

// With `trace`, the same decision is made and each candidate is recorded.
Match match(const Snapshot& snapshot, const RequestKey& key, MatchTrace* trace = nullptr);

// The TLS host for a name asked by SNI (lower case): exact, then the longest wildcard, then `*`.
// Null: none.
const TlsHost* match_tls(const Snapshot& snapshot, std::string_view sni);

// The host that TLS for that name (lower case) is passed through for. Null: TLS ends here, as there is no such host, or
// a more specific one with a certificate.
const PassthroughHost* match_passthrough(const Snapshot& snapshot, std::string_view sni);

// Starts to load what match() will look up for this authority first. Worth a call as soon as the authority is known:
// with many hosts it is not in the cache.
void prefetch_host(const Snapshot& snapshot, std::string_view authority);

// Splits "/a?b" into path and query.
void set_target(RequestKey& key, std::string_view target);

// --- for the compiler ---

// Fills `keys` or `index` from `routes`: to be called once, when the list is complete.
void index_paths(VirtualHost& host);

// Finds what a walk over the routes would find, by hash of the path (exact routes), by hash of each
// leading part of the path that ends at a segment boundary (prefix routes), and by trying only
// those regular expressions that stand before the best route found so far.
class RouteIndex {
 public:
  // Null if the list is short enough to be walked, or has a shape that can't be indexed.
  static std::shared_ptr<const RouteIndex> build(const std::vector<std::shared_ptr<const Route>>& routes);
  static constexpr size_t kMinRoutes = 12;

  // The position of the first route that matches, or UINT32_MAX.
  uint32_t find(const std::vector<std::shared_ptr<const Route>>& routes, const RequestKey& key) const;

 private:
  struct Group {  // all routes of one path text, by position
    uint64_t hash = 0;
    uint32_t first = 0;  // into positions_
    uint32_t count = 0;  // 0: an empty slot
  };
  class Table {
   public:
    void build(const std::vector<std::shared_ptr<const Route>>& routes, const std::vector<uint32_t>& members);
    void find(const std::vector<std::shared_ptr<const Route>>& routes, const RequestKey& key, std::string_view text,
              uint64_t hash, uint32_t& best) const;
    bool empty() const { return slots_.empty(); }
    size_t longest() const { return longest_; }

   private:
    std::vector<Group> slots_;  // open addressing, a power of two
    std::vector<uint32_t> positions_;
    size_t longest_ = 0;
  };

  Table exact_, prefix_;
  std::vector<uint32_t> walked_;  // regular expressions and whatever ignores case, by position
};

}  // namespace sluice::config
