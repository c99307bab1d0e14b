#include "event/loop.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace sluice::event {
namespace {

constexpr int kMaxEvents = 256;

uint64_t read_clock_ns(clockid_t clock) {
  timespec ts;
  clock_gettime(clock, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(ts.tv_nsec);
}

}  // namespace

Loop::Loop() : timers_(read_clock_ns(CLOCK_MONOTONIC) / 1'000'000) {
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (epoll_fd_ < 0 || wake_fd_ < 0) throw std::runtime_error("cannot create an event loop: out of descriptors");
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.ptr = nullptr;  // the mailbox
  epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event);
  update_clock();
}

Loop::~Loop() {
  destroy_pending();
  close(wake_fd_);
  close(epoll_fd_);
}

Status Loop::control(int operation, int fd, IoHandler* handler, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = handler;
  if (epoll_ctl(epoll_fd_, operation, fd, &event) != 0) {
    return Error{std::string("epoll_ctl: ") + std::strerror(errno)};
  }
  return {};
}

Status Loop::add(int fd, IoHandler* handler, uint32_t events) { return control(EPOLL_CTL_ADD, fd, handler, events); }

Status Loop::rebind(int fd, IoHandler* handler, uint32_t events) { return control(EPOLL_CTL_MOD, fd, handler, events); }

void Loop::remove(int fd) { epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr); }

void Loop::update_clock() {
  now_ns_ = read_clock_ns(CLOCK_MONOTONIC);
  wall_us_ = read_clock_ns(CLOCK_REALTIME) / 1000;
}

void Loop::stop() {
  stopped_.store(true, std::memory_order_release);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

void Loop::run() {
  while (!stopped_.load(std::memory_order_acquire)) run_once();
}

void Loop::run_once(int max_wait_ms) {
  int64_t timeout = !is_empty(soon_) ? 0 : timers_.next_timeout(now_ms());
  if (max_wait_ms >= 0 && (timeout < 0 || timeout > max_wait_ms)) timeout = max_wait_ms;
  epoll_event events[kMaxEvents];
  const int n = epoll_wait(epoll_fd_, events, kMaxEvents, static_cast<int>(std::min<int64_t>(timeout, INT_MAX)));
  update_clock();

  bool mailbox = false;
  for (int i = 0; i < n; ++i) {
    auto* handler = static_cast<IoHandler*>(events[i].data.ptr);
    if (!handler) {
      mailbox = true;
      continue;
    }
    if (i + 1 < n) {
      // The next one's first lines come while this one is served.
      const char* next = static_cast<const char*>(events[i + 1].data.ptr);
      __builtin_prefetch(next);
      __builtin_prefetch(next + 64);
    }
    handler->on_io(events[i].events);
    run_flushes();
  }
  timers_.advance(now_ms(), [this] { run_flushes(); });
  run_soon_tasks();
  if (mailbox) run_posted();
  if (turn_hook_) turn_hook_();
  destroy_pending();
}

void Loop::run_soon_tasks() {
  if (is_empty(soon_)) return;
  // Tasks that tasks queue wait for the next turn.
  TaskLink batch;
  batch.next = soon_.next;
  batch.previous = soon_.previous;
  batch.next->previous = batch.previous->next = &batch;
  soon_.next = soon_.previous = &soon_;
  while (!is_empty(batch)) {
    run_first(batch);
    run_flushes();
  }
}

void Loop::post(std::function<void()> function) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(function));
  }
  if (wake_pending_.exchange(true, std::memory_order_acq_rel)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

void Loop::run_posted() {
  uint64_t count;
  [[maybe_unused]] const ssize_t got = read(wake_fd_, &count, sizeof(count));
  wake_pending_.store(false, std::memory_order_release);
  std::vector<std::function<void()>> functions;
  {
    std::lock_guard lock(posted_mutex_);
    functions.swap(posted_);
  }
  for (auto& function : functions) {
    function();
    run_flushes();
  }
}

void Loop::destroy_pending() {
  while (destroyed_) {
    Destroyable* object = std::exchange(destroyed_, nullptr);
    while (object) {
      Destroyable* next = object->next_destroyed_;
      delete object;
      object = next;
    }
  }
}

}  // namespace sluice::event
