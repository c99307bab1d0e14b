#include "net/dns.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>

namespace sluice::net {
namespace {

constexpr uint16_t kA = 1, kCname = 5, kAaaa = 28;

// A DNS server on loopback, UDP and TCP, on the test's own loop.
class DnsServer {
 public:
  struct Record {
    uint16_t type;
    uint32_t ttl;
    std::string data;  // address bytes, or a host name
  };
  struct Zone {
    std::vector<Record> records;  // of any type; the question's type and CNAMEs are answered
    int rcode = 0;
    bool silent = false;
    bool truncate_udp = false;
    bool malformed = false;
  };

  explicit DnsServer(event::Loop& loop, const Address& at = Address::ipv4(127, 0, 0, 1, 0))
      : loop_(loop), udp_handler_(this), tcp_handler_(this) {
    // One number for both: a free UDP port whose TCP twin is free too.
    const int on = 1;
    for (int attempt = 0; attempt < 50; ++attempt) {
      udp_ = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      sockaddr_storage storage;
      socklen_t size = at.to_sockaddr(&storage);
      EXPECT_EQ(bind(udp_, reinterpret_cast<sockaddr*>(&storage), size), 0);
      size = sizeof(storage);
      getsockname(udp_, reinterpret_cast<sockaddr*>(&storage), &size);
      address_ = Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), size);
      tcp_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      setsockopt(tcp_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
      size = address_.to_sockaddr(&storage);
      if (bind(tcp_, reinterpret_cast<sockaddr*>(&storage), size) == 0) break;
      close(udp_);
      close(tcp_);
    }
    EXPECT_EQ(listen(tcp_, 8), 0);
    EXPECT_TRUE(loop_.add(udp_, &udp_handler_, EPOLLIN));
    EXPECT_TRUE(loop_.add(tcp_, &tcp_handler_, EPOLLIN));
  }
  ~DnsServer() {
    for (int fd : {udp_, tcp_}) {
      loop_.remove(fd);
      close(fd);
    }
  }

  Address address() const { return address_; }
  std::map<std::string, Zone> zones;
  int udp_queries = 0, tcp_queries = 0;

 private:
  struct UdpHandler : event::IoHandler {
    explicit UdpHandler(DnsServer* server) : server(server) {}
    void on_io(uint32_t) override { server->serve_udp(); }
    DnsServer* server;
  };
  struct TcpHandler : event::IoHandler {
    explicit TcpHandler(DnsServer* server) : server(server) {}
    void on_io(uint32_t) override { server->serve_tcp(); }
    DnsServer* server;
  };

  static void put16(std::string& out, size_t value) {
    out += static_cast<char>(value >> 8);
    out += static_cast<char>(value);
  }

  static std::string wire_name(const std::string& name) {
    std::string wire;
    for (size_t at = 0; at < name.size();) {
      size_t dot = std::min(name.find('.', at), name.size());
      wire += static_cast<char>(dot - at);
      wire += name.substr(at, dot - at);
      at = dot + 1;
    }
    return wire + '\0';
  }

  // Empty: no answer.
  std::string answer(const std::string& query, bool udp) {
    std::string name;
    size_t at = 12;
    while (query[at]) {
      if (!name.empty()) name += '.';
      name += query.substr(at + 1, static_cast<uint8_t>(query[at]));
      at += 1 + static_cast<uint8_t>(query[at]);
    }
    uint16_t type = static_cast<uint8_t>(query[at + 2]);
    std::string question = query.substr(12, at + 5 - 12);
    auto found = zones.find(name);
    Zone zone = found == zones.end() ? Zone{.rcode = 3} : found->second;
    if (zone.silent) return {};
    if (zone.malformed) return query.substr(0, 2) + std::string("\x81\x80\x00\x01\x00\x09", 6) + "garbage";

    bool cut = udp && zone.truncate_udp;
    std::string records;
    int count = 0;
    std::string owner = name;
    for (const Record& record : zone.records) {
      if (cut || (record.type != type && record.type != kCname)) continue;
      records += wire_name(owner);
      put16(records, record.type);
      put16(records, 1);
      put16(records, record.ttl >> 16);
      put16(records, record.ttl & 0xffff);
      std::string data = record.type == kCname ? wire_name(record.data) : record.data;
      put16(records, data.size());
      records += data;
      if (record.type == kCname) owner = record.data;
      ++count;
    }
    std::string response = query.substr(0, 2);
    response += static_cast<char>(0x81 | (cut ? 0x02 : 0));
    response += static_cast<char>(0x80 | zone.rcode);
    put16(response, 1);
    put16(response, static_cast<size_t>(count));
    put16(response, 0);
    put16(response, 0);
    return response + question + records;
  }

  void serve_udp() {
    char buffer[2000];
    sockaddr_storage from;
    socklen_t from_size = sizeof(from);
    ssize_t got = recvfrom(udp_, buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&from), &from_size);
    if (got < 17) return;
    ++udp_queries;
    std::string response = answer(std::string(buffer, static_cast<size_t>(got)), true);
    if (!response.empty()) {
      sendto(udp_, response.data(), response.size(), 0, reinterpret_cast<sockaddr*>(&from), from_size);
    }
  }

  struct TcpConnection final : event::IoHandler {
    TcpConnection(DnsServer* server, int fd) : server(server), fd(fd) {}
    ~TcpConnection() { close(fd); }
    void on_io(uint32_t) override { server->serve(*this); }
    DnsServer* server;
    int fd;
    std::string received;
  };

  void serve_tcp() {
    int fd = accept4(tcp_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    connections_.push_back(std::make_unique<TcpConnection>(this, fd));
    EXPECT_TRUE(loop_.add(fd, connections_.back().get(), EPOLLIN));
  }

  void serve(TcpConnection& connection) {
    char buffer[2000];
    ssize_t got = recv(connection.fd, buffer, sizeof(buffer), 0);
    if (got <= 0) return loop_.remove(connection.fd);
    std::string& received = connection.received;
    received.append(buffer, static_cast<size_t>(got));
    while (received.size() >= 2) {
      size_t size = static_cast<size_t>(static_cast<uint8_t>(received[0]) << 8 | static_cast<uint8_t>(received[1]));
      if (received.size() < 2 + size) return;
      ++tcp_queries;
      std::string response = answer(received.substr(2, size), false), framed;
      received.erase(0, 2 + size);
      put16(framed, response.size());
      framed += response;
      send(connection.fd, framed.data(), framed.size(), MSG_NOSIGNAL);
    }
  }

  event::Loop& loop_;
  UdpHandler udp_handler_;
  TcpHandler tcp_handler_;
  Address address_;
  int udp_ = -1, tcp_ = -1;
  std::vector<std::unique_ptr<TcpConnection>> connections_;
};

std::string ip4(uint8_t last) { return std::string("\x0a\x00\x00", 3) + static_cast<char>(last); }
std::string ip6(uint8_t last) {
  return std::string("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0", 15) + static_cast<char>(last);
}

struct Outcome {
  bool called = false;
  std::string error;
  DnsAnswer answer;

  DnsCallback callback() {
    return [this](Result<DnsAnswer> result) {
      EXPECT_FALSE(called);
      called = true;
      if (result) {
        answer = *result;
      } else {
        error = result.error().message;
      }
    };
  }
  std::string text() const {
    std::string all = error;
    for (const Address& address : answer.addresses) all += (all.empty() ? "" : " ") + address.to_string();
    return all;
  }
};

class Dns : public testing::Test {
 protected:
  Dns() : server(loop) {
    options.servers = {server.address()};
    options.try_timeout_ms = 60;
    options.tries = 2;
    options.search = false;
  }

  void start() {
    auto created = DnsResolver::create(loop, options);
    ASSERT_TRUE(created) << created.error().message;
    resolver = std::move(*created);
  }

  void run_until(const bool& done, int max_ms = 3000) {
    uint64_t end = loop.now_ms() + static_cast<uint64_t>(max_ms);
    while (!done && loop.now_ms() < end) loop.run_once(20);
  }

  Outcome lookup(std::string_view name, uint16_t port = 80) {
    if (!resolver) start();
    Outcome outcome;
    auto handle = resolver->resolve(name, port, outcome.callback());
    EXPECT_FALSE(outcome.called);
    run_until(outcome.called);
    EXPECT_TRUE(outcome.called) << name;
    return outcome;
  }

  event::Loop loop;
  DnsServer server;
  DnsOptions options;
  std::unique_ptr<DnsResolver> resolver;
};

TEST_F(Dns, BothFamiliesAlternateWithTheSmallestTtl) {
  server.zones["both.test"].records = {{kA, 300, ip4(1)}, {kA, 100, ip4(2)}, {kAaaa, 200, ip6(1)}, {kAaaa, 60, ip6(2)}};
  Outcome outcome = lookup("both.test");
  ASSERT_EQ(outcome.answer.addresses.size(), 4u) << outcome.error;
  EXPECT_EQ(outcome.answer.ttl_seconds, 60u);
  const auto& addresses = outcome.answer.addresses;
  EXPECT_EQ(addresses[0].family(), addresses[2].family());
  EXPECT_EQ(addresses[1].family(), addresses[3].family());
  EXPECT_NE(addresses[0].family(), addresses[1].family());
  EXPECT_EQ(addresses[0].port(), 80);
}

TEST_F(Dns, OneFamilyIsEnough) {
  server.zones["four.test"].records = {{kA, 30, ip4(7)}};
  server.zones["six.test"].records = {{kAaaa, 30, ip6(7)}};
  EXPECT_EQ(lookup("four.test", 8080).text(), "10.0.0.7:8080");
  EXPECT_EQ(lookup("six.test", 8080).text(), "[2001:db8::7]:8080");
}

TEST_F(Dns, RestrictedToAFamily) {
  server.zones["both.test"].records = {{kA, 300, ip4(1)}, {kAaaa, 200, ip6(1)}};
  options.families = DnsOptions::Families::kIpv4Only;
  EXPECT_EQ(lookup("both.test").text(), "10.0.0.1:80");
  EXPECT_EQ(server.udp_queries, 1);
  options.families = DnsOptions::Families::kIpv6Only;
  resolver.reset();
  EXPECT_EQ(lookup("both.test").text(), "[2001:db8::1]:80");
}

TEST_F(Dns, FollowsAliasesAndCountsTheirTtl) {
  server.zones["alias.test"].records = {{kCname, 5, "real.test"}, {kA, 300, ip4(1)}};
  options.families = DnsOptions::Families::kIpv4Only;
  Outcome outcome = lookup("alias.test");
  EXPECT_EQ(outcome.text(), "10.0.0.1:80");
  EXPECT_EQ(outcome.answer.ttl_seconds, 5u);
}

TEST_F(Dns, SaysWhyItFailed) {
  server.zones["empty.test"] = {};
  server.zones["broken.test"].rcode = 2;
  server.zones["refused.test"].rcode = 5;
  server.zones["silent.test"].silent = true;
  EXPECT_EQ(lookup("missing.test").error, "DNS lookup of missing.test failed: NXDOMAIN");
  EXPECT_EQ(lookup("empty.test").error, "DNS lookup of empty.test failed: the name has no address");
  EXPECT_EQ(lookup("broken.test").error, "DNS lookup of broken.test failed: SERVFAIL");
  EXPECT_EQ(lookup("refused.test").error, "DNS lookup of refused.test failed: REFUSED");
  EXPECT_EQ(lookup("silent.test").error, "DNS lookup of silent.test failed: timed out");
  EXPECT_EQ(lookup("").error, "DNS lookup of  failed: not a valid host name");
  EXPECT_EQ(lookup(std::string(300, 'a')).error.substr(0, 14), "DNS lookup of ");
  EXPECT_EQ(lookup("a..test").error, "DNS lookup of a..test failed: not a valid host name");
}

TEST_F(Dns, MalformedAnswersFail) {
  server.zones["bad.test"].malformed = true;
  EXPECT_NE(lookup("bad.test").error, "");
}

TEST_F(Dns, SilenceIsBoundedByTheDeadline) {
  server.zones["silent.test"].silent = true;
  options.try_timeout_ms = 10'000;
  options.deadline_ms = 50;
  uint64_t begin = loop.now_ms();
  EXPECT_EQ(lookup("silent.test").error, "DNS lookup of silent.test failed: timed out");
  EXPECT_LT(loop.now_ms() - begin, 2000u);
  EXPECT_EQ(resolver->in_flight(), 1u);  // c-ares gives up in its own time; nobody hears of it
}

TEST_F(Dns, CutAnswersAreAskedForAgainOverTcp) {
  auto& zone = server.zones["big.test"];
  zone.truncate_udp = true;
  for (int i = 0; i < 60; ++i) zone.records.push_back({kA, 30, ip4(static_cast<uint8_t>(i))});
  options.families = DnsOptions::Families::kIpv4Only;
  options.try_timeout_ms = 1000;
  Outcome outcome = lookup("big.test");
  EXPECT_EQ(outcome.answer.addresses.size(), 60u) << outcome.error;
  EXPECT_EQ(server.udp_queries, 1);
  EXPECT_EQ(server.tcp_queries, 1);
}

TEST_F(Dns, TheSecondServerIsAsked) {
  DnsServer dead(loop);
  dead.zones["x.test"].silent = true;
  server.zones["x.test"].records = {{kA, 30, ip4(9)}};
  options.servers = {dead.address(), server.address()};
  options.families = DnsOptions::Families::kIpv4Only;
  EXPECT_EQ(lookup("x.test").text(), "10.0.0.9:80");
  EXPECT_EQ(dead.udp_queries, 1);
}

TEST_F(Dns, TheSecondServerIsAskedOnFailure) {
  DnsServer broken(loop);
  broken.zones["x.test"].rcode = 2;
  broken.zones["y.test"].rcode = 2;
  server.zones["x.test"].records = {{kA, 30, ip4(9)}};
  server.zones["y.test"].rcode = 5;
  options.servers = {broken.address(), server.address()};
  EXPECT_EQ(lookup("x.test").text(), "10.0.0.9:80");
  EXPECT_EQ(lookup("y.test").error, "DNS lookup of y.test failed: no DNS server gave an answer");
}

TEST_F(Dns, NoServerAtAll) {
  options.servers = {Address::ipv4(127, 0, 0, 1, 1)};
  Outcome outcome = lookup("x.test");
  EXPECT_EQ(outcome.error, "DNS lookup of x.test failed: no DNS server gave an answer");
}

TEST_F(Dns, AddressesAreTheirOwnAnswer) {
  EXPECT_EQ(lookup("1.2.3.4").text(), "1.2.3.4:80");
  EXPECT_EQ(lookup("::1").text(), "[::1]:80");
  EXPECT_EQ(lookup("[2001:db8::1]").text(), "[2001:db8::1]:80");
  EXPECT_EQ(lookup("1.2.3.4").answer.ttl_seconds, DnsAnswer::kNoExpiry);
  EXPECT_EQ(server.udp_queries, 0);
}

TEST_F(Dns, LocalhostComesFromTheHostsFile) {
  Outcome outcome = lookup("localhost");
  ASSERT_FALSE(outcome.answer.addresses.empty()) << outcome.error;
  for (const Address& address : outcome.answer.addresses) EXPECT_TRUE(address.is_loopback());
  EXPECT_EQ(server.udp_queries, 0);
}

TEST_F(Dns, CancelledLookupsAreSilent) {
  start();
  server.zones["x.test"].records = {{kA, 30, ip4(9)}};
  Outcome outcome;
  auto handle = resolver->resolve("x.test", 80, outcome.callback());
  handle.reset();
  auto numeric = resolver->resolve("1.2.3.4", 80, outcome.callback());
  numeric.reset();
  bool never = false;
  run_until(never, 100);
  EXPECT_FALSE(outcome.called);
  EXPECT_EQ(resolver->in_flight(), 0u);
}

TEST_F(Dns, DestroyingTheResolverAbandonsLookups) {
  start();
  server.zones["silent.test"].silent = true;
  Outcome outcome;
  auto waiting = resolver->resolve("silent.test", 80, outcome.callback());
  auto ready = resolver->resolve("1.2.3.4", 80, outcome.callback());
  auto cancelled = resolver->resolve("silent.test", 80, outcome.callback());
  cancelled.reset();
  resolver.reset();
  bool never = false;
  run_until(never, 50);
  EXPECT_FALSE(outcome.called);
}

TEST_F(Dns, TheCallbackMayDestroyEverything) {
  start();
  server.zones["x.test"].records = {{kA, 30, ip4(9)}};
  for (const char* name : {"x.test", "1.2.3.4", "missing.test"}) {
    if (!resolver) start();
    bool called = false;
    std::unique_ptr<DnsResolver::Handle> handle, other;
    handle = resolver->resolve(name, 80, [&](Result<DnsAnswer>) {
      called = true;
      handle.reset();
      resolver.reset();
    });
    other = resolver->resolve("x.test", 80, [](Result<DnsAnswer>) {});
    run_until(called);
    EXPECT_TRUE(called);
  }
}

TEST_F(Dns, LookupsInFlightAreBounded) {
  options.max_in_flight = 2;
  server.zones["silent.test"].silent = true;
  start();
  Outcome a, b, c;
  auto first = resolver->resolve("silent.test", 80, a.callback());
  auto second = resolver->resolve("silent.test", 80, b.callback());
  auto third = resolver->resolve("silent.test", 80, c.callback());
  run_until(c.called);
  EXPECT_EQ(c.error, "DNS lookup of silent.test failed: too many lookups are in flight");
  EXPECT_FALSE(a.called);
}

TEST_F(Dns, ManyAtOnce) {
  options.try_timeout_ms = 2000;
  options.max_parallel = 50;
  start();
  std::vector<Outcome> outcomes(1000);
  std::vector<std::unique_ptr<DnsResolver::Handle>> handles;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    std::string name = "h" + std::to_string(i) + ".test";
    server.zones[name].records = {{kA, 30, ip4(static_cast<uint8_t>(i))}};
    handles.push_back(resolver->resolve(i % 10 ? name : "localhost", 80, outcomes[i].callback()));
  }
  EXPECT_GT(resolver->in_flight(), 950u);
  handles[999].reset();
  for (size_t i = 0; i + 1 < outcomes.size(); ++i) {
    run_until(outcomes[i].called);
    if (i % 10 == 0) {
      EXPECT_FALSE(outcomes[i].answer.addresses.empty()) << outcomes[i].error;
      continue;
    }
    EXPECT_EQ(outcomes[i].text(), "10.0.0." + std::to_string(i % 256) + ":80");
  }
}

// Names a server and is replaced as a whole, as tools do it.
void write_resolv_conf(const std::string& path, const std::string& text) {
  std::ofstream(path + ".new") << text;
  ASSERT_EQ(std::rename((path + ".new").c_str(), path.c_str()), 0);
}

TEST_F(Dns, FollowsResolvConf) {
  DnsServer second(loop, Address::ipv4(127, 0, 0, 2, server.address().port()));
  server.zones["a.test"].records = {{kA, 30, ip4(1)}};
  server.zones["silent.test"].silent = true;
  second.zones["a.test"].records = {{kA, 30, ip4(2)}};
  second.zones["silent.test"].records = {{kA, 30, ip4(3)}};
  char directory[] = "/tmp/sluice-dns-XXXXXX";
  ASSERT_TRUE(mkdtemp(directory));
  options.resolv_conf = std::string(directory) + "/resolv.conf";
  options.port = server.address().port();
  options.servers.clear();
  options.try_timeout_ms = 5000;
  write_resolv_conf(options.resolv_conf, "nameserver 127.0.0.1\n");
  auto created = DnsResolver::create(loop, options);
  ASSERT_TRUE(created);
  resolver = std::move(*created);
  const auto ask = [&](const char* name) {
    Outcome outcome;
    auto handle = resolver->resolve(name, 80, outcome.callback());
    run_until(outcome.called);
    return outcome.called ? outcome.text() + outcome.error : "nothing";
  };
  EXPECT_EQ(ask("a.test"), "10.0.0.1:80");

  Outcome waiting;
  auto in_flight = resolver->resolve("silent.test", 80, waiting.callback());
  write_resolv_conf(options.resolv_conf, "nameserver 127.0.0.2\n");
  bool never = false;
  run_until(never, 1100);  // it is looked at once a second
  EXPECT_EQ(ask("a.test"), "10.0.0.2:80");
  run_until(waiting.called);
  EXPECT_EQ(waiting.text(), "10.0.0.3:80") << "what was in flight is asked of the new server";

  // Without the file, the servers stay what they are.
  std::remove(options.resolv_conf.c_str());
  run_until(never, 1100);
  EXPECT_EQ(ask("a.test"), "10.0.0.2:80");
  const int before = second.udp_queries;
  write_resolv_conf(options.resolv_conf, "nameserver 127.0.0.1\n");
  run_until(never, 1100);
  EXPECT_EQ(ask("a.test"), "10.0.0.1:80");
  EXPECT_EQ(second.udp_queries, before);
  std::remove(options.resolv_conf.c_str());
  rmdir(directory);
}

TEST_F(Dns, RefusesServersThatAreNoAddress) {
  options.servers = {Address::unix_path("/x")};
  EXPECT_FALSE(DnsResolver::create(loop, options));
}

}  // namespace
}  // namespace sluice::net
