#include "net/dns.h"

#include <ares.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace sluice::net {
namespace {

constexpr size_t kMaxName = 253;
// All answers of one server come to one socket.
constexpr int kReceiveBuffer = 1 << 20;
constexpr uint64_t kLookIntervalMs = 1000;

const char* reason(int status) {
  switch (status) {
    case ARES_ENOTFOUND:
      return "NXDOMAIN";
    case ARES_ENODATA:
      return "the name has no address";
    case ARES_ESERVFAIL:
      return "SERVFAIL";
    case ARES_EREFUSED:
      return "REFUSED";
    case ARES_ENOTIMP:
      return "NOTIMP";
    case ARES_EFORMERR:
      return "FORMERR";
    case ARES_ETIMEOUT:
      return "timed out";
    case ARES_ECONNREFUSED:
      return "no DNS server gave an answer";
    case ARES_EBADNAME:
      return "not a valid host name";
    case ARES_EBADRESP:
      return "the DNS server's answer is malformed";
    default:
      return ares_strerror(status);
  }
}

Error failure(std::string_view name, std::string_view why) {
  return Error{"DNS lookup of " + std::string(name) + " failed: " + std::string(why)};
}

// Keeps the order within a family and takes from the families by turns, beginning with that of the
// first address.
std::vector<Address> interleave(const std::vector<Address>& sorted) {
  std::vector<Address> first, second, result;
  for (const Address& address : sorted) {
    (address.family() == sorted.front().family() ? first : second).push_back(address);
  }
  for (size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
    if (i < first.size()) result.push_back(first[i]);
    if (i < second.size()) result.push_back(second[i]);
  }
  return result;
}

Result<DnsAnswer> read_answer(std::string_view name, uint16_t port, const ares_addrinfo* info) {
  std::vector<Address> addresses;
  int64_t ttl = INT32_MAX;
  for (const ares_addrinfo_node* node = info->nodes; node; node = node->ai_next) {
    Address address = Address::from_sockaddr(node->ai_addr, node->ai_addrlen).with_port(port);
    ttl = std::min<int64_t>(ttl, node->ai_ttl);
    if (address.is_ip() && std::ranges::find(addresses, address) == addresses.end()) addresses.push_back(address);
  }
  if (addresses.empty()) return failure(name, reason(ARES_ENODATA));
  for (const ares_addrinfo_cname* alias = info->cnames; alias; alias = alias->next) {
    if (alias->name) ttl = std::min<int64_t>(ttl, alias->ttl);
  }
  return DnsAnswer{interleave(addresses), static_cast<uint32_t>(std::max<int64_t>(ttl, 0))};
}

// RFC 6761 §6.3: names under localhost. (localhost itself is asked of /etc/hosts, which may know better.)
bool is_localhost(std::string_view name) {
  constexpr std::string_view kSuffix = ".localhost";
  return name.size() > kSuffix.size() && name.ends_with(kSuffix);
}

std::optional<Address> numeric(std::string_view name, uint16_t port) {
  if (name.size() > 2 && name.front() == '[' && name.back() == ']') name = name.substr(1, name.size() - 2);
  return Address::parse_ip(name, port);
}

}  // namespace

// One call of resolve(). Referred to by its handle, by the resolver, and by c-ares until that has
// called back; goes when it has been delivered or cancelled and c-ares is done with it.
class DnsResolver::Lookup final : public event::Destroyable {
 public:
  Lookup(DnsResolver* resolver, std::string_view name, uint16_t port, DnsCallback callback)
      : resolver_(resolver),
        loop_(resolver->loop_),
        name_(name),
        port_(port),
        callback_(std::move(callback)),
        timer_(this) {}

  const std::string& name() const { return name_; }
  void set_handle(Handle* handle) { handle_ = handle; }
  void enter_cares() {
    in_cares_ = true;
    ++resolver_->active_;
    loop_.arm(timer_, static_cast<uint64_t>(resolver_->options_.deadline_ms));
  }

  // The result is delivered from the loop, not from here.
  void finish(Result<DnsAnswer> result) {
    result_ = std::move(result);
    has_result_ = true;
    loop_.arm(timer_, 0);
  }

  void cancel() {
    callback_ = nullptr;
    timer_.cancel();
    detach();
    if (!in_cares_) leave();
  }

  // c-ares is done with it.
  static void on_cares(void* argument, int status, int, ares_addrinfo* info) {
    auto* lookup = static_cast<Lookup*>(argument);
    DnsResolver* resolver = lookup->resolver_;
    lookup->in_cares_ = false;
    --resolver->active_;
    if (resolver->replacing_ && lookup->callback_ && status == ARES_EDESTRUCTION) {
      resolver->waiting_.push_front(lookup);
      return;
    }
    if (!lookup->callback_ || status == ARES_EDESTRUCTION) {
      lookup->cancel();
    } else if (status == ARES_SUCCESS) {
      lookup->finish(read_answer(lookup->name_, lookup->port_, info));
    } else {
      lookup->finish(failure(lookup->name_, reason(status)));
    }
    if (info) ares_freeaddrinfo(info);
    if (status != ARES_EDESTRUCTION) resolver->send_waiting();
  }

 private:
  void detach() {
    if (handle_) handle_->lookup_ = nullptr;
    handle_ = nullptr;
  }

  void leave() {
    resolver_->lookups_.erase(this);
    std::erase(resolver_->waiting_, this);
    loop_.destroy_later(this);
  }

  void on_timer() {
    Result<DnsAnswer> result = has_result_ ? std::move(result_) : Result<DnsAnswer>(failure(name_, "timed out"));
    DnsCallback callback = std::exchange(callback_, nullptr);
    detach();
    if (!in_cares_) leave();
    callback(std::move(result));
  }

  DnsResolver* resolver_;
  event::Loop& loop_;
  std::string name_;
  uint16_t port_;
  DnsCallback callback_;  // null when delivered or cancelled
  Handle* handle_ = nullptr;
  Result<DnsAnswer> result_{Error{}};
  bool has_result_ = false;
  bool in_cares_ = false;
  event::MemberTimer<Lookup, &Lookup::on_timer> timer_;  // the deadline; then the delivery
};

DnsResolver::Handle::~Handle() {
  if (!lookup_) return;
  Lookup* lookup = std::exchange(lookup_, nullptr);
  lookup->set_handle(nullptr);
  lookup->cancel();
}

// A socket of c-ares's. Level-triggered: c-ares does not promise to read until EAGAIN.
class DnsResolver::Socket final : public event::IoHandler, public event::Destroyable {
 public:
  Socket(DnsResolver* resolver, int fd) : resolver_(resolver), fd_(fd) {}

  void watch(bool readable, bool writable) {
    uint32_t events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);
    if (events == events_) return;
    if (events_) resolver_->loop_.remove(fd_);
    events_ = events;
    // Without readiness the lookup runs into its timeout.
    if (events) (void)resolver_->loop_.add(fd_, this, events);
  }

  void close() {
    watch(false, false);
    resolver_->loop_.destroy_later(this);
    resolver_ = nullptr;
  }

 private:
  void on_io(uint32_t events) override {
    if (!resolver_) return;
    bool broken = events & (EPOLLERR | EPOLLHUP);
    resolver_->process(broken || (events & EPOLLIN) ? fd_ : ARES_SOCKET_BAD,
                       broken || (events & EPOLLOUT) ? fd_ : ARES_SOCKET_BAD);
  }

  DnsResolver* resolver_;
  int fd_;
  uint32_t events_ = 0;
};

Result<std::unique_ptr<DnsResolver>> DnsResolver::create(event::Loop& loop, const DnsOptions& options) {
  std::unique_ptr<DnsResolver> resolver(new DnsResolver(loop, options));
  if (Status started = resolver->start(); !started) return started.error();
  return resolver;
}

DnsResolver::FileVersion DnsResolver::file_version() const {
  struct stat file;
  if (::stat(options_.resolv_conf.c_str(), &file) != 0) return {};
  return {file.st_ino, static_cast<uint64_t>(file.st_size),
          file.st_mtim.tv_sec * 1'000'000'000LL + file.st_mtim.tv_nsec};
}

// Not from within a callback of c-ares's.
void DnsResolver::follow_file() {
  if (!options_.servers.empty() || loop_.now_ms() < next_look_ms_) return;
  next_look_ms_ = loop_.now_ms() + kLookIntervalMs;
  const FileVersion now = file_version();
  // A file that is gone comes back, or the name servers stay what they are.
  if (now == read_ || now == FileVersion{}) return;
  ares_channeldata* const before = std::exchange(channel_, nullptr);
  if (!start()) {
    if (channel_) ares_destroy(channel_);
    channel_ = before;
    return;
  }
  replacing_ = true;
  ares_destroy(before);
  replacing_ = false;
}

Status DnsResolver::start() {
  read_ = file_version();
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  if (library != ARES_SUCCESS) return Error{std::string("DNS: ") + ares_strerror(library)};
  int flags = options_.search ? 0 : ARES_FLAG_NOSEARCH;
  if (Status opened = open_channel(flags); !opened || !has_one_server()) return opened;
  // On SERVFAIL or REFUSED c-ares asks the next server and at the end forgets what it was told.
  // With one server there is no next one, and the answer can be reported as it is.
  ares_destroy(std::exchange(channel_, nullptr));
  return open_channel(flags | ARES_FLAG_NOCHECKRESP);
}

Status DnsResolver::open_channel(int flags) {
  ares_options options{};
  options.flags = flags;
  options.timeout = std::max(options_.try_timeout_ms, 1);
  options.tries = std::max(options_.tries, 1);
  options.socket_receive_buffer_size = kReceiveBuffer;
  char lookups[] = "fb";  // /etc/hosts, then DNS
  options.lookups = lookups;
  options.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
    static_cast<DnsResolver*>(self)->on_socket_state(fd, readable, writable);
  };
  options.sock_state_cb_data = this;
  std::string path = options_.resolv_conf;
  options.resolvconf_path = path.data();
  int mask = ARES_OPT_RESOLVCONF | ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
             ARES_OPT_SOCK_RCVBUF | ARES_OPT_SOCK_STATE_CB;
  if (int status = ares_init_options(&channel_, &options, mask); status != ARES_SUCCESS) {
    channel_ = nullptr;
    return Error{std::string("DNS: ") + ares_strerror(status)};
  }
  return use_servers();
}

bool DnsResolver::has_one_server() const {
  ares_addr_port_node* servers = nullptr;
  if (ares_get_servers_ports(channel_, &servers) != ARES_SUCCESS) return false;
  bool one = servers && !servers->next;
  ares_free_data(servers);
  return one;
}

Status DnsResolver::use_servers() {
  if (options_.servers.empty()) return {};
  std::vector<ares_addr_port_node> nodes(options_.servers.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Address& server = options_.servers[i];
    if (!server.is_ip()) return Error{"DNS server " + server.to_string() + ": not an IP address"};
    std::memcpy(&nodes[i].addr, server.ip_bytes().data(), server.ip_bytes().size());
    nodes[i].family = server.is_ipv4() ? AF_INET : AF_INET6;
    nodes[i].udp_port = nodes[i].tcp_port = server.port() ? server.port() : 53;
    nodes[i].next = i + 1 < nodes.size() ? &nodes[i + 1] : nullptr;
  }
  int status = ares_set_servers_ports(channel_, nodes.data());
  return status == ARES_SUCCESS ? Status() : Status(Error{std::string("DNS servers: ") + ares_strerror(status)});
}

DnsResolver::~DnsResolver() {
  // Calls back for all that is in flight, with ARES_EDESTRUCTION, and closes the sockets.
  if (channel_) ares_destroy(channel_);
  while (!lookups_.empty()) (*lookups_.begin())->cancel();
}

std::unique_ptr<DnsResolver::Handle> DnsResolver::resolve(std::string_view name, uint16_t port, DnsCallback callback) {
  auto* lookup = new Lookup(this, name, port, std::move(callback));
  lookups_.insert(lookup);
  std::unique_ptr<Handle> handle(new Handle(lookup));
  lookup->set_handle(handle.get());
  if (std::optional<Address> address = numeric(name, port)) {
    lookup->finish(DnsAnswer{{*address}, DnsAnswer::kNoExpiry});
  } else if (is_localhost(name)) {
    lookup->finish(DnsAnswer{{Address::ipv4(127, 0, 0, 1, port)}, DnsAnswer::kNoExpiry});
  } else if (name.empty() || name.size() > kMaxName + name.ends_with('.') || name.find('\0') != name.npos) {
    lookup->finish(failure(name.substr(0, kMaxName), reason(ARES_EBADNAME)));
  } else if (in_flight() >= options_.max_in_flight) {
    lookup->finish(failure(name, "too many lookups are in flight"));
  } else {
    follow_file();
    waiting_.push_back(lookup);
    send_waiting();
  }
  return handle;
}

void DnsResolver::send_waiting() {
  // What /etc/hosts knows is answered from within query(), which comes back here.
  if (sending_) return;
  sending_ = true;
  while (!waiting_.empty() && active_ < options_.max_parallel) {
    Lookup* lookup = waiting_.front();
    waiting_.pop_front();
    query(*lookup);
  }
  sending_ = false;
}

void DnsResolver::query(Lookup& lookup) {
  using Families = DnsOptions::Families;
  ares_addrinfo_hints hints{};
  hints.ai_family = options_.families == Families::kIpv4Only   ? AF_INET
                    : options_.families == Families::kIpv6Only ? AF_INET6
                                                               : AF_UNSPEC;
  lookup.enter_cares();
  ares_getaddrinfo(channel_, lookup.name().c_str(), nullptr, &hints, Lookup::on_cares, &lookup);
  rearm();
}

void DnsResolver::on_socket_state(int fd, bool readable, bool writable) {
  auto found = sockets_.find(fd);
  if (!readable && !writable) {
    if (found == sockets_.end()) return;
    found->second->close();
    sockets_.erase(found);
    return;
  }
  if (found == sockets_.end()) found = sockets_.emplace(fd, new Socket(this, fd)).first;
  found->second->watch(readable, writable);
}

void DnsResolver::process(int read_fd, int write_fd) {
  ares_process_fd(channel_, read_fd, write_fd);
  rearm();
}

void DnsResolver::on_timer() { process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }

void DnsResolver::rearm() {
  timeval wait;
  if (!ares_timeout(channel_, nullptr, &wait)) return timer_.cancel();
  // One more, so that c-ares's clock has passed the moment when the timer fires.
  loop_.arm(timer_, static_cast<uint64_t>(wait.tv_sec) * 1000 + static_cast<uint64_t>(wait.tv_usec) / 1000 + 1);
}

}  // namespace sluice::net
