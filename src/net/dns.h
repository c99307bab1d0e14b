#pragma once
// DnsResolver: names to addresses without blocking, on an event loop. c-ares speaks the protocol;
// it reads /etc/hosts and /etc/resolv.conf, sends A and AAAA queries together, retries over TCP
// when an answer is cut, and sorts by RFC 6724.
//
// Threading: a resolver and its lookups belong to the loop's thread, and must be destroyed before
// the loop.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "event/loop.h"
#include "net/address.h"

struct ares_channeldata;

namespace sluice::net {

struct DnsOptions {
  enum class Families : uint8_t { kBoth, kIpv4Only, kIpv6Only };

  // Name servers, asked in this order; empty: those of `resolv_conf`.
  std::vector<Address> servers;
  // Read again when it has changed, which is looked at once a second at the most, when a name is asked for.
  std::string resolv_conf = "/etc/resolv.conf";
  Families families = Families::kBoth;
  int try_timeout_ms = 1000;  // of the first try to a server; doubles with each further round
  int tries = 3;              // rounds through the servers
  int deadline_ms = 10'000;   // for a lookup as a whole, from when it is sent
  // Use the search list of /etc/resolv.conf (a name that ends with a dot never does).
  bool search = true;
  // Lookups beyond `max_parallel` wait for their turn, so that thousands of names at start do not
  // drown the name server; beyond `max_in_flight` they fail at once.
  size_t max_parallel = 100;
  size_t max_in_flight = 20'000;
};

struct DnsAnswer {
  // Never empty. The family that RFC 6724 prefers comes first, then the families alternate, so that
  // a connector that goes down the list tries the other one soon (RFC 8305 §4).
  std::vector<Address> addresses;
  // The smallest time to live among the records that led here, CNAMEs included. 0 for entries of
  // /etc/hosts; kNoExpiry if the name is an address itself.
  uint32_t ttl_seconds = 0;
  static constexpr uint32_t kNoExpiry = UINT32_MAX;
};

// "DNS lookup of www.example failed: NXDOMAIN"
using DnsCallback = std::function<void(Result<DnsAnswer>)>;

class DnsResolver {
 public:
  class Lookup;

  // A lookup in flight; destroying it cancels, and the callback is not called. It may outlive the
  // resolver.
  class Handle {
   public:
    ~Handle();
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;

   private:
    friend class DnsResolver;
    friend class Lookup;
    explicit Handle(Lookup* lookup) : lookup_(lookup) {}
    Lookup* lookup_;  // null when the callback has been called or the resolver is gone
  };

  static Result<std::unique_ptr<DnsResolver>> create(event::Loop& loop, const DnsOptions& options = {});
  // Abandons what is in flight; those callbacks are not called.
  ~DnsResolver();
  DnsResolver(const DnsResolver&) = delete;
  DnsResolver& operator=(const DnsResolver&) = delete;

  // Looks `name` up and calls `callback` once, from the loop, never from within resolve(); the
  // callback may destroy the handle and the resolver. Each address gets `port`. An IP address
  // ("1.2.3.4", "::1", "[::1]") is answered without a query, whatever its family, and so is a name
  // under .localhost (127.0.0.1, RFC 6761).
  [[nodiscard]] std::unique_ptr<Handle> resolve(std::string_view name, uint16_t port, DnsCallback callback);

  // Lookups that have been sent or wait for it.
  size_t in_flight() const { return active_ + waiting_.size(); }

 private:
  class Socket;

  DnsResolver(event::Loop& loop, const DnsOptions& options) : loop_(loop), options_(options), timer_(this) {}
  // Which version of resolv_conf has been read; all 0: there was none.
  struct FileVersion {
    uint64_t inode = 0, size = 0;
    int64_t modified_ns = 0;
    bool operator==(const FileVersion&) const = default;
  };

  Status start();
  FileVersion file_version() const;
  void follow_file();
  Status open_channel(int flags);
  Status use_servers();
  bool has_one_server() const;
  void send_waiting();
  void query(Lookup& lookup);
  void on_socket_state(int fd, bool readable, bool writable);
  void process(int read_fd, int write_fd);
  void on_timer();
  void rearm();

  event::Loop& loop_;
  const DnsOptions options_;
  ares_channeldata* channel_ = nullptr;
  event::MemberTimer<DnsResolver, &DnsResolver::on_timer> timer_;  // c-ares's next retry or timeout
  std::unordered_map<int, Socket*> sockets_;
  std::unordered_set<Lookup*> lookups_;
  std::deque<Lookup*> waiting_;
  size_t active_ = 0;  // handed to c-ares, which has not called back
  FileVersion read_;
  uint64_t next_look_ms_ = 0;  // at resolv_conf
  bool sending_ = false;
  bool replacing_ = false;  // the channel: what is in flight goes back to waiting_
};

}  // namespace sluice::net
