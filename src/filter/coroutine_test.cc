#include "filter/coroutine.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "config/snapshot.h"

namespace sluice::filter {
namespace {

// An exchange with one filter and call-outs that the test answers by hand.
class FakeContext final : public Context, private CallReceiver::Call {
 public:
  http::RequestHead& request() override { return request_; }
  http::ResponseHead& response() override { std::abort(); }
  Arena& arena() override { return arena_; }
  event::Loop& loop() override { return loop_; }
  Random& random() override { std::abort(); }
  const config::Route* route() const override { return nullptr; }
  const config::Snapshot& snapshot() const override { std::abort(); }
  std::string_view cluster_name() const override { return {}; }
  const net::Address& client_address() const override { return client_; }
  bool is_tls() const override { return false; }
  const http::ConnectionInfo& connection() const override { std::abort(); }
  void resume_request(Filter&) override {
    ++resumed;
    if (on_resume) on_resume();
  }
  void resume_response(Filter&) override { std::abort(); }
  SliceQueue& held_request_body(Filter&) override { std::abort(); }
  SliceQueue& held_response_body(Filter&) override { std::abort(); }
  void set_buffer_limit(size_t) override {}
  void limit_response_rate(uint64_t, uint64_t) override {}
  void send_local_reply(const LocalReply& reply, void (*)(http::HeaderMap&, const void*), const void*) override {
    replied = reply.status;
  }
  void clear_route() override {}
  bool select_cluster(std::string_view) override { return false; }
  void call(const HttpCall& call, CallReceiver& receiver) override {
    path = call.path;
    receiver_ = &receiver;
    receiver.attach(this);
  }
  void send(const HttpCall&) override {}
  void add_flag(ResponseFlag) override {}
  void add_log_field(std::string_view, std::string_view) override {}

  void answer(int status, std::string body) {
    CallReceiver* receiver = std::exchange(receiver_, nullptr);
    ASSERT_NE(receiver, nullptr);
    receiver->attach(nullptr);
    HttpCallResult result;
    result.ok = true;
    result.status = status;
    result.body = std::move(body);
    receiver->on_call_result(result);
  }
  bool calling() const { return receiver_ != nullptr; }
  void wait(uint64_t ms) {
    loop_.update_clock();
    const uint64_t until = loop_.now_ms() + ms;
    while (loop_.now_ms() < until) loop_.run_once(2);
  }

  int resumed = 0, replied = 0, given_up = 0;
  std::string path;
  std::function<void()> on_resume;

 private:
  void give_up() override {
    ++given_up;
    receiver_ = nullptr;
  }
  Arena arena_;
  event::Loop loop_;
  http::RequestHead request_;
  net::Address client_;
  CallReceiver* receiver_ = nullptr;
};

// Tells when a coroutine's frame goes.
struct Witness {
  explicit Witness(std::string* log, char letter) : log(log), letter(letter) {}
  ~Witness() { *log += letter; }
  std::string* log;
  char letter;
};

struct TestFilter final : CoroutineFilter {
  enum class Way { kDirect, kPause, kCall, kBoth, kReply } way;
  std::string* log;
  TestFilter(Way way, std::string* log) : way(way), log(log) {}
  Waiting request_headers(Context& context, bool end) override {
    Witness witness(log, '~');
    *log += end ? "(!" : "(";
    if (way == Way::kPause || way == Way::kBoth) co_await pause(context, 10);
    if (way == Way::kCall || way == Way::kBoth || way == Way::kReply) {
      // The path is a temporary: the call copies what it needs before this expression is over.
      const HttpCallResult verdict = co_await call(context, {.cluster = "c", .path = std::string("/check")});
      *log += std::to_string(verdict.status) + verdict.body;
      if (verdict.status != 200) context.send_local_reply({.status = 403});
    }
    *log += ")";
  }
};

using Way = TestFilter::Way;

TEST(CoroutineFilter, WithoutWaitsItContinues) {
  FakeContext context;
  std::string log;
  TestFilter filter(Way::kDirect, &log);
  EXPECT_EQ(filter.on_request_headers(context, true), Status::kContinue);
  EXPECT_EQ(log, "(!)~");
  EXPECT_EQ(context.resumed, 0);
  filter.on_complete(context);
}

TEST(CoroutineFilter, PausesAndResumes) {
  FakeContext context;
  std::string log;
  TestFilter filter(Way::kPause, &log);
  EXPECT_EQ(filter.on_request_headers(context, false), Status::kPause);
  EXPECT_EQ(log, "(");
  EXPECT_EQ(context.resumed, 0);
  context.wait(30);
  EXPECT_EQ(log, "()~");
  EXPECT_EQ(context.resumed, 1);
  filter.on_complete(context);
  EXPECT_EQ(log, "()~");
}

TEST(CoroutineFilter, CallsAndReads) {
  FakeContext context;
  std::string log;
  TestFilter filter(Way::kCall, &log);
  EXPECT_EQ(filter.on_request_headers(context, false), Status::kPause);
  EXPECT_EQ(context.path, "/check");
  context.answer(200, "yes");
  EXPECT_EQ(log, "(200yes)~");
  EXPECT_EQ(context.resumed, 1);
  EXPECT_EQ(context.given_up, 0);

  FakeContext denied;
  std::string other;
  TestFilter replying(Way::kReply, &other);
  EXPECT_EQ(replying.on_request_headers(denied, false), Status::kPause);
  denied.answer(401, "");
  EXPECT_EQ(denied.replied, 403);
}

TEST(CoroutineFilter, SeveralWaitsInARow) {
  FakeContext context;
  std::string log;
  TestFilter filter(Way::kBoth, &log);
  EXPECT_EQ(filter.on_request_headers(context, false), Status::kPause);
  EXPECT_FALSE(context.calling());
  context.wait(30);
  EXPECT_TRUE(context.calling());
  EXPECT_EQ(context.resumed, 0);
  context.answer(200, "");
  EXPECT_EQ(log, "(200)~");
  EXPECT_EQ(context.resumed, 1);
}

// The exchange ends while the filter waits: its frame is destroyed where it stands, the timer and the call are given
// up.
TEST(CoroutineFilter, DestroyedWhileWaiting) {
  for (bool by_completion : {true, false}) {
    FakeContext pausing;
    std::string log;
    {
      TestFilter filter(Way::kPause, &log);
      EXPECT_EQ(filter.on_request_headers(pausing, false), Status::kPause);
      if (by_completion) {
        filter.on_complete(pausing);
        EXPECT_EQ(log, "(~");
      }
    }
    EXPECT_EQ(log, "(~");
    pausing.wait(30);
    EXPECT_EQ(pausing.resumed, 0);
    EXPECT_EQ(log, "(~");

    FakeContext calling;
    log.clear();
    {
      TestFilter filter(Way::kCall, &log);
      EXPECT_EQ(filter.on_request_headers(calling, false), Status::kPause);
      if (by_completion) filter.on_complete(calling);
    }
    EXPECT_EQ(calling.given_up, 1);
    EXPECT_EQ(log, "(~");
  }
}

// Resuming may end the exchange at once, which destroys the filter from inside its own last step.
TEST(CoroutineFilter, DestroyedByItsOwnResume) {
  for (Way way : {Way::kPause, Way::kCall}) {
    FakeContext context;
    std::string log;
    auto filter = std::make_unique<TestFilter>(way, &log);
    context.on_resume = [&] {
      filter->on_complete(context);
      filter.reset();
    };
    EXPECT_EQ(filter->on_request_headers(context, false), Status::kPause);
    if (way == Way::kPause) {
      context.wait(30);
    } else {
      context.answer(200, "");
    }
    EXPECT_EQ(context.resumed, 1);
    EXPECT_EQ(filter, nullptr);
  }
}

TEST(CallReceiver, CancelGivesUpOnce) {
  FakeContext context;
  struct Receiver final : CallReceiver {
    void on_call_result(HttpCallResult&) override {}
  };
  {
    Receiver receiver;
    EXPECT_FALSE(receiver.pending());
    receiver.cancel();
    context.call({.cluster = "c"}, receiver);
    EXPECT_TRUE(receiver.pending());
    receiver.cancel();
    EXPECT_FALSE(receiver.pending());
  }
  EXPECT_EQ(context.given_up, 1);
}

}  // namespace
}  // namespace sluice::filter
