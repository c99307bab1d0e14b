// Exchanges of a real worker with filters made for the test: who asks for the request body, and call-outs.

#include "proxy/exchange.h"

#include <fcntl.h>
#include <poll.h>

#include <condition_variable>
#include <mutex>

#include "filter/call.h"
#include "http/http2_test_peer.h"
#include "proxy/gateway_test_support.h"

namespace sluice::proxy {
namespace {

using namespace test;
using filter::Status;

// Strings from the worker's thread, for the test's to wait for.
class Events {
 public:
  void add(std::string event) {
    std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    changed_.notify_all();
  }
  void clear() {
    std::lock_guard lock(mutex_);
    events_.clear();
  }
  // All so far, once there are `count`; fewer after ten seconds.
  std::vector<std::string> wait(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(10), [&] { return events_.size() >= count; });
    return events_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> events_;
};

// A gateway with one worker in front of `clusters`, the first of which serves.
struct Rig {
  explicit Rig(const std::vector<std::shared_ptr<config::Cluster>>& clusters, config::FilterChain filters = {}) {
    Options options;
    options.workers = 1;
    options.drain_deadline_ms = 5000;
    options.listeners.push_back({free_port(), false, false});
    address = options.listeners[0].address;
    gateway = std::make_unique<Gateway>(control, options, nullptr);
    gateway->publish(make_snapshot(1, clusters, std::move(filters)));
    if (!gateway->start().ok()) std::abort();
  }
  ~Rig() { finish(control, *gateway); }

  WorkerStats stats() {
    WorkerStats stats;
    bool done = false;
    gateway->collect([&](Report report) {
      stats = std::move(report.stats);
      done = true;
    });
    run_until(control, [&] { return done; });
    return stats;
  }
  void expect_no_exchange_left() {
    for (int i = 0; i < 500 && stats().active_exchanges > 0; ++i) ::usleep(5000);
    EXPECT_EQ(stats().active_exchanges, 0u);
  }

  event::Loop control;
  net::Address address;
  std::unique_ptr<Gateway> gateway;
};

// A blocking client of one connection.
struct Client {
  explicit Client(const Rig& rig) : fd(connect_to(rig.address)) {}
  ~Client() { close(); }
  void close() {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
  // Goes with a RST; a FIN alone might be a half-close.
  void abort() {
    const linger hard{1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close();
  }
  void send(const std::string& bytes) { EXPECT_GT(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), 0); }
  // What comes within `ms`, up to and including `mark`.
  std::string read(const std::string& mark, int ms = 5000) {
    while (in.find(mark) == std::string::npos) {
      pollfd waiting{fd, POLLIN, 0};
      if (::poll(&waiting, 1, ms) <= 0) return std::exchange(in, {}) + "<nothing more>";
      char buffer[4096];
      const ssize_t n = ::recv(fd, buffer, sizeof(buffer), 0);
      if (n <= 0) return std::exchange(in, {}) + "<end>";
      in.append(buffer, static_cast<size_t>(n));
    }
    const size_t size = in.find(mark) + mark.size();
    std::string out = in.substr(0, size);
    in.erase(0, size);
    return out;
  }
  int fd;
  std::string in;
};

template <typename FilterType, typename... Arguments>
class TestFactory final : public filter::Factory {
 public:
  explicit TestFactory(bool wants_body, Arguments... arguments) : wants_body_(wants_body), arguments_(arguments...) {}
  std::string_view name() const override { return "test"; }
  filter::Filter* create(filter::Context& context) const override {
    return std::apply([&](const Arguments&... a) { return context.arena().template create<FilterType>(a...); },
                      arguments_);
  }
  bool wants_request_body() const override { return wants_body_; }

 private:
  bool wants_body_;
  std::tuple<Arguments...> arguments_;
};
template <typename FilterType, typename... Arguments>
std::shared_ptr<const filter::Factory> make_factory(bool wants_body, Arguments... arguments) {
  return std::make_shared<TestFactory<FilterType, Arguments...>>(wants_body, arguments...);
}

// --- Expect: 100-continue

// Keeps the headers until the whole body is there, then adds its size to them.
class Collector final : public filter::Filter {
 public:
  Status on_request_headers(filter::Context&, bool end) override { return end ? Status::kContinue : Status::kPause; }
  Status on_request_body(filter::Context& context, SliceQueue& data, bool end) override {
    size_ += data.bytes();
    if (!end) return Status::kPause;
    context.request().headers.add("x-size", context.arena().copy(std::to_string(size_)));
    context.resume_request(*this);
    return Status::kContinue;
  }

 private:
  size_t size_ = 0;
};

// Does not look at bodies. Goes on, or answers 403, after a while.
class Gate final : public filter::Filter {
 public:
  explicit Gate(bool open) : open_(open) {}
  Status on_request_headers(filter::Context& context, bool) override {
    context_ = &context;
    context.loop().arm(timer_, 150);
    return Status::kPause;
  }
  void on_complete(filter::Context&) override { timer_.cancel(); }

 private:
  void on_timer() {
    if (open_) return context_->resume_request(*this);
    context_->send_local_reply({.status = 403, .details = "closed"});
  }
  const bool open_;
  filter::Context* context_ = nullptr;
  event::MemberTimer<Gate, &Gate::on_timer> timer_{this};
};

const std::string kExpecting = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
const std::string kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

struct ExpectContinue : testing::Test {
  std::string seen;
  Upstream upstream{[this](const std::string& request) {
    seen = request;
    return Upstream::response("done");
  }};
  std::vector<std::shared_ptr<config::Cluster>> clusters{make_cluster("be", 0, {upstream.address})};
};

TEST_F(ExpectContinue, FilterThatCollectsTheBodyAsksForIt) {
  Rig rig(clusters, {make_factory<Collector>(true)});
  Client client(rig);
  for (int i = 0; i < 2; ++i) {
    client.send(kExpecting);
    EXPECT_EQ(client.read("\r\n\r\n", 2000), kContinue);
    client.send("hello");
    const std::string answer = client.read("done");
    EXPECT_EQ(answer.substr(0, 15), "HTTP/1.1 200 OK") << answer;
    EXPECT_EQ(answer.find("100 Continue"), std::string::npos) << answer;
    EXPECT_NE(seen.find("x-size: 5"), std::string::npos) << seen;
    EXPECT_EQ(seen.find("expect"), std::string::npos) << seen;
  }
}

TEST_F(ExpectContinue, FilterThatWaitsForSomethingElseDoesNot) {
  Rig rig(clusters, {make_factory<Gate>(false, true), make_factory<Collector>(true)});
  Client client(rig);
  client.send(kExpecting);
  EXPECT_EQ(client.read("\r\n\r\n", 60), "<nothing more>");
  EXPECT_EQ(client.read("\r\n\r\n", 2000), kContinue);
  client.send("hello");
  EXPECT_EQ(client.read("done").substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(ExpectContinue, NotBeforeOrAfterAnAnswerOfTheGateway) {
  Rig rig(clusters, {make_factory<Gate>(false, false)});
  Client client(rig);
  client.send(kExpecting);
  EXPECT_EQ(client.read("\r\n\r\n").substr(0, 12), "HTTP/1.1 403");
  EXPECT_EQ(client.read("100 Continue", 300).find("100 Continue"), std::string::npos);
  EXPECT_EQ(upstream.requests.load(), 0);
}

TEST_F(ExpectContinue, NotForABodyThatIsThere) {
  Rig rig(clusters, {make_factory<Gate>(false, true)});
  Client client(rig);
  client.send(kExpecting + "hello");
  EXPECT_EQ(client.read("done").substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(ExpectContinue, OverHttp2) {
  Rig rig(clusters, {make_factory<Collector>(true)});
  event::Loop loop;
  http::test::TestClient client(loop);
  const int fd = connect_to(rig.address);
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  client.start(fd);
  auto request = client.request("POST", "/", false, [](http::RequestHead& head) {
    head.expect_continue = true;
    head.content_length = 5;
  });
  run_until(loop, [&] { return !request->informational.empty() || request->resets > 0; });
  EXPECT_EQ(request->informational, std::vector<int>{100});
  request->stream->send_data(Slice::copy("hello"), true);
  run_until(loop, [&] { return request->ended || request->resets > 0; });
  EXPECT_EQ(request->status, 200);
  EXPECT_EQ(request->body, "done");
  EXPECT_EQ(request->informational.size(), 1u);
  request->detach();
  client.connection->close_now();
  http::test::pump(loop);
}

// --- call-outs

// What a Caller asks for, and where it tells of it.
struct Plan {
  std::vector<std::string> clusters;  // one call each, all at once
  uint32_t timeout_ms = 5000;
  size_t max_response_bytes = 1 << 20;
  std::string body;
  Events* events = nullptr;
};

// Asks, then answers the request with the results in the order in which they came.
class Caller final : public filter::Filter {
 public:
  explicit Caller(const Plan* plan) : plan_(*plan) {}

  Status on_request_headers(filter::Context& context, bool) override {
    context_ = &context;
    for (const std::string& cluster : plan_.clusters) {
      receivers_.push_back(std::make_unique<Receiver>(*this));
      const std::pair<std::string_view, std::string_view> headers[] = {{"x-call", "yes"}};
      filter::HttpCall call;
      call.cluster = cluster;
      call.method = plan_.body.empty() ? "GET" : "POST";
      call.path = "/check";
      call.headers = headers;
      call.body = plan_.body;
      call.timeout_ms = plan_.timeout_ms;
      call.max_response_bytes = plan_.max_response_bytes;
      context.call(call, *receivers_.back());
    }
    in_callback_ = false;
    plan_.events->add("waiting");
    return Status::kPause;
  }
  void on_complete(filter::Context&) override {
    receivers_.clear();
    plan_.events->add("complete");
  }

 private:
  struct Receiver final : filter::CallReceiver {
    explicit Receiver(Caller& caller) : caller(caller) {}
    void on_call_result(filter::HttpCallResult& result) override { caller.on_result(result); }
    Caller& caller;
  };
  void on_result(filter::HttpCallResult& result) {
    EXPECT_FALSE(in_callback_) << "told from inside call()";
    results_ += result.ok ? std::to_string(result.status) + " " + result.body : "failed: " + result.error;
    if (result.ok) EXPECT_TRUE(result.headers->has("x-upstream"));
    results_ += ";";
    if (++done_ < plan_.clusters.size()) return;
    context_->send_local_reply({.status = 200, .body = results_, .details = "asked"});
  }

  const Plan& plan_;
  filter::Context* context_ = nullptr;
  std::vector<std::unique_ptr<Receiver>> receivers_;
  std::string results_;
  size_t done_ = 0;
  bool in_callback_ = true;
};

struct CallOuts : testing::Test {
  // Runs one request through a Caller and returns the body of the answer.
  std::string ask_with(const Plan& plan) {
    Rig rig(clusters, {make_factory<Caller>(false, &plan)});
    Client client(rig);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    const std::string head = client.read("\r\n\r\n");
    EXPECT_EQ(head.substr(0, 15), "HTTP/1.1 200 OK") << head;
    const std::string body = client.read(";", 200) + client.read("<", 50);
    rig.expect_no_exchange_left();
    EXPECT_EQ(events.wait(2), (std::vector<std::string>{"waiting", "complete"}));
    return body.substr(0, body.find('<'));
  }
  Plan plan(std::vector<std::string> names) {
    Plan out;
    for (const std::string& name : names) out.clusters.push_back("outbound|80||" + name);
    out.events = &events;
    return out;
  }

  Events events;
  std::string seen;
  Upstream be{"be"};
  Upstream auth{[this](const std::string& request) {
    seen = request;
    return Upstream::response("fine", "203 So");
  }};
  Upstream slow{[](const std::string&) {
    ::usleep(100'000);
    return Upstream::response("slow");
  }};
  Upstream silent{[](const std::string&) { return std::string(); }};
  std::vector<std::shared_ptr<config::Cluster>> clusters{
      make_cluster("be", 0, {be.address}),     make_cluster("auth", 1, {auth.address}),
      make_cluster("slow", 2, {slow.address}), make_cluster("silent", 3, {silent.address}),
      make_cluster("dead", 4, {free_port()}),  make_cluster("empty", 5, {})};
};

TEST_F(CallOuts, Success) {
  EXPECT_EQ(ask_with(plan({"auth"})), "203 fine;");
  EXPECT_EQ(seen.substr(0, 21), "GET /check HTTP/1.1\r\n");
  EXPECT_NE(seen.find("x-call: yes"), std::string::npos);
  EXPECT_NE(seen.find("host: auth\r\n"), std::string::npos) << seen;
}

TEST_F(CallOuts, WithABody) {
  Plan posting = plan({"auth"});
  posting.body = std::string(100'000, 'b');
  EXPECT_EQ(ask_with(posting), "203 fine;");
  EXPECT_EQ(seen.size() - seen.find("\r\n\r\n") - 4, 100'000u);
}

TEST_F(CallOuts, Timeout) {
  Plan hasty = plan({"silent"});
  hasty.timeout_ms = 80;
  EXPECT_EQ(ask_with(hasty), "failed: timeout;");
  for (int i = 0; i < 500 && silent.closed < 1; ++i) ::usleep(5000);
  EXPECT_EQ(silent.closed.load(), 1) << "the request was given up";
}

TEST_F(CallOuts, ConnectionRefused) {
  EXPECT_EQ(ask_with(plan({"dead"})),
            "failed: upstream connect error or disconnect/reset before headers. reset reason: connection failure;");
}

TEST_F(CallOuts, NobodyToAsk) {
  EXPECT_EQ(ask_with(plan({"empty"})), "failed: no healthy upstream;");
  events.clear();
  EXPECT_EQ(ask_with(plan({"unknown"})), "failed: no cluster outbound|80||unknown;");
}

TEST_F(CallOuts, AnswerThatIsTooLong) {
  Plan narrow = plan({"auth"});
  narrow.max_response_bytes = 3;
  EXPECT_EQ(ask_with(narrow), "failed: response larger than 3 bytes;");
}

TEST_F(CallOuts, SeveralAtOnce) {
  EXPECT_EQ(ask_with(plan({"slow", "auth"})), "203 fine;200 slow;") << "in the order of the answers";
}

TEST_F(CallOuts, ClientThatLeavesGivesThemUp) {
  const Plan waiting = plan({"silent", "silent", "slow"});
  {
    Rig rig(clusters, {make_factory<Caller>(false, &waiting)});
    Client client(rig);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    EXPECT_EQ(events.wait(1), std::vector<std::string>{"waiting"});
    for (int i = 0; i < 1000 && silent.requests < 2; ++i) ::usleep(2000);
    EXPECT_EQ(silent.requests.load(), 2);
    client.abort();
    EXPECT_EQ(events.wait(2), (std::vector<std::string>{"waiting", "complete"}));
    rig.expect_no_exchange_left();
    for (int i = 0; i < 500 && silent.closed < 2; ++i) ::usleep(5000);
    EXPECT_EQ(silent.closed.load(), 2) << "the calls were given up";
  }
  EXPECT_EQ(events.wait(2).size(), 2u);
}

// The client is gone before the call has begun.
TEST_F(CallOuts, ExchangeThatEndsAtOnce) {
  const Plan waiting = plan({"silent"});
  Rig rig(clusters, {make_factory<Caller>(false, &waiting)});
  for (int i = 0; i < 50; ++i) {
    Client client(rig);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.abort();
  }
  rig.expect_no_exchange_left();
}

// --- A response that a filter holds

// Lets the head of the response go on after a while.
class Holder final : public filter::Filter {
 public:
  Status on_response_headers(filter::Context& context, bool) override {
    context_ = &context;
    context.loop().arm(timer_, 100);
    return Status::kPause;
  }
  void on_complete(filter::Context&) override { timer_.cancel(); }

 private:
  void on_timer() { context_->resume_response(*this); }
  filter::Context* context_ = nullptr;
  event::MemberTimer<Holder, &Holder::on_timer> timer_{this};
};

// The service's response has begun: its end, however bad, is no case for another service.
TEST(HeldResponse, ThatBreaksOffIsAnsweredOnce) {
  Upstream broken(
      [](const std::string&) { return "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense"; });
  Upstream second("fallback");
  const std::vector clusters{make_cluster("be", 0, {broken.address}), make_cluster("fallback", 1, {second.address})};
  Rig rig(clusters, {make_factory<Holder>(false)});
  auto snapshot = make_snapshot(2, clusters, {make_factory<Holder>(false)});
  auto fallback = std::make_shared<config::Fallback>();
  fallback->cluster = 1;
  fallback->cluster_name = clusters[1]->name;
  fallback->statuses = {502, 503};
  for (const bool with_fallback : {false, true}) {
    if (with_fallback) {
      auto host = std::make_shared<config::VirtualHost>();
      host->domain = "*";
      auto route = std::make_shared<config::Route>(
          **make_snapshot(3, clusters, {make_factory<Holder>(false)})->hosts.find("*")->routes.begin());
      route->fallback = fallback;
      host->routes.push_back(route);
      config::index_paths(*host);
      snapshot->hosts.set("*", host);
      rig.gateway->publish(snapshot);
    }
    Client client(rig);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    EXPECT_TRUE(client.read("\r\n\r\n", 2000).starts_with("HTTP/1.1 502 ")) << with_fallback;
    EXPECT_EQ(client.read("HTTP/1.1", 300).find("HTTP/1.1"), std::string::npos);
    rig.expect_no_exchange_left();
  }
  EXPECT_EQ(second.requests, 0);
}

}  // namespace
}  // namespace sluice::proxy
