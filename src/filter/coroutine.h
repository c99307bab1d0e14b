#pragma once
// Filters that wait, written top to bottom. A CoroutineFilter's request_headers() is a C++20 coroutine that may
// `co_await` call-outs and pauses; the request goes on when it returns, unless it has answered by itself.
//
//   Waiting MyFilter::request_headers(Context& context, bool end) {
//     HttpCallResult verdict = co_await call(context, {.cluster = "outbound|80||auth.static", .path = "/check"});
//     if (!verdict.ok || verdict.status != 200) context.send_local_reply({.status = 403, .details = "denied"});
//   }
//
// A coroutine that never waits costs one frame allocation; filters without waits should implement Filter directly. When
// the exchange ends early the frame is destroyed where it stands, which gives up its call-outs and timers.

#include <coroutine>
#include <exception>
#include <utility>

#include "event/loop.h"
#include "filter/call.h"
#include "filter/filter.h"

namespace sluice::filter {

class CoroutineFilter;

class Waiting {
 public:
  struct promise_type {
    CoroutineFilter* filter = nullptr;
    Context* context = nullptr;
    bool started = false;  // false while the first, synchronous part runs

    Waiting get_return_object() { return Waiting(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept;
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };

  Waiting() = default;
  explicit Waiting(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Waiting(Waiting&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Waiting& operator=(Waiting&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Waiting() {
    if (handle_) handle_.destroy();
  }

 private:
  friend class CoroutineFilter;
  std::coroutine_handle<promise_type> handle_;
};

class CoroutineFilter : public Filter {
 public:
  virtual Waiting request_headers(Context& context, bool end) = 0;

  Status on_request_headers(Context& context, bool end) final {
    waiting_ = request_headers(context, end);
    auto& promise = waiting_.handle_.promise();
    promise.filter = this;
    promise.context = &context;
    waiting_.handle_.resume();
    if (waiting_.handle_.done()) return Status::kContinue;
    promise.started = true;
    return Status::kPause;
  }
  void on_complete(Context&) override { waiting_ = Waiting(); }

 private:
  Waiting waiting_;
};

inline auto Waiting::promise_type::final_suspend() noexcept {
  struct Resume {
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<promise_type> handle) noexcept {
      promise_type& promise = handle.promise();
      if (promise.started) promise.context->resume_request(*promise.filter);
    }
    void await_resume() noexcept {}
  };
  return Resume{};
}

// co_await call(context, {...})
class CallAwaiter final : private CallReceiver {
 public:
  CallAwaiter(Context& context, const HttpCall& call) : context_(context), call_(call) {}
  bool await_ready() { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    context_.call(call_, *this);
  }
  HttpCallResult await_resume() { return std::move(result_); }

 private:
  void on_call_result(HttpCallResult& result) override {
    result_ = std::move(result);
    result_.headers = nullptr;
    handle_.resume();
  }

  Context& context_;
  HttpCall call_;
  HttpCallResult result_;
  std::coroutine_handle<> handle_;
};

inline CallAwaiter call(Context& context, const HttpCall& call) { return CallAwaiter(context, call); }

// co_await pause(context, milliseconds)
class PauseAwaiter final : private event::Timer {
 public:
  PauseAwaiter(Context& context, uint64_t delay_ms) : context_(context), delay_ms_(delay_ms) {}
  bool await_ready() { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    context_.loop().arm(*this, delay_ms_);
  }
  void await_resume() {}

 private:
  void on_timer() override { handle_.resume(); }
  Context& context_;
  uint64_t delay_ms_;
  std::coroutine_handle<> handle_;
};

inline PauseAwaiter pause(Context& context, uint64_t delay_ms) { return PauseAwaiter(context, delay_ms); }

}  // namespace sluice::filter
