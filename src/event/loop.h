#pragma once
// The event loop: epoll, timers, deferred work and a mailbox for other threads. Each worker and the control thread own
// one; everything attached to a loop belongs to its thread.
//
// A turn: wait → read the clock → dispatch readiness → fire timers → run tasks → run posted functions → destroy what was
// handed to destroy_later(). After each single callback the flush list runs, so that everything a callback wrote to one
// connection leaves in one system call.
//
// Descriptors are registered edge-triggered for both directions once and never modified: handlers remember readiness
// until a call says kAgain (net/stream.h).

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "event/timer.h"

namespace sluice::event {

// Told of readiness of one descriptor. Must stay alive until the turn ends: destroy it with Loop::destroy_later().
class IoHandler {
 public:
  virtual void on_io(uint32_t epoll_events) = 0;

 protected:
  ~IoHandler() = default;
};

// Work that runs after the current callback (defer_flush) or later in this turn or the next (run_soon). Embedded in its
// owner; queueing it twice is the same as once. The owner must outlive the queueing: destroy it with destroy_later().
class Task {
 public:
  bool queued() const { return queued_; }

 protected:
  ~Task() = default;

 private:
  friend class Loop;
  virtual void run_task() = 0;
  Task* next_task_ = nullptr;
  bool queued_ = false;
};

// Deleted at the end of the turn.
class Destroyable {
 public:
  virtual ~Destroyable() = default;

 private:
  friend class Loop;
  Destroyable* next_destroyed_ = nullptr;
};

class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Registers `fd`. The default is edge-triggered, both directions. The caller keeps owning the descriptor; closing it
  // removes it.
  Status add(int fd, IoHandler* handler, uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  // Hands the events of a registered descriptor to another handler.
  Status rebind(int fd, IoHandler* handler, uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  void remove(int fd);

  // Runs until stop().
  void run();
  // One turn; waits at most `max_wait_ms` (-1: no limit).
  void run_once(int max_wait_ms = -1);
  // Any thread.
  void stop();

  // Milliseconds of the monotonic clock, read once per turn.
  uint64_t now_ms() const { return now_ns_ / 1'000'000; }
  uint64_t now_ns() const { return now_ns_; }
  // Microseconds since the Unix epoch, read once per turn.
  uint64_t wall_us() const { return wall_us_; }
  // Reads the clocks again; for measurements that must not include the rest of a long turn.
  void update_clock();

  void arm(Timer& timer, uint64_t delay_ms) { timers_.arm(timer, now_ms() + delay_ms); }

  void defer_flush(Task& task) { enqueue(flush_head_, flush_tail_, task); }
  void run_soon(Task& task) { enqueue(soon_head_, soon_tail_, task); }
  void destroy_later(Destroyable* object) {
    object->next_destroyed_ = destroyed_;
    destroyed_ = object;
  }

  // Runs `function` on this loop's thread. Any thread; never blocks for longer than a queue push.
  void post(std::function<void()> function);

  // Called once at the end of every turn that dispatched something.
  void set_turn_hook(std::function<void()> hook) { turn_hook_ = std::move(hook); }

  // Nanoseconds spent outside epoll_wait in the last turn.
  uint64_t last_turn_ns() const { return last_turn_ns_; }

 private:
  Status control(int operation, int fd, IoHandler* handler, uint32_t events);
  static void enqueue(Task*& head, Task*& tail, Task& task) {
    if (task.queued_) return;
    task.queued_ = true;
    task.next_task_ = nullptr;
    if (tail) {
      tail->next_task_ = &task;
    } else {
      head = &task;
    }
    tail = &task;
  }
  void run_flushes() {
    while (flush_head_) run_first(flush_head_, flush_tail_);
  }
  static void run_first(Task*& head, Task*& tail) {
    Task* task = head;
    head = task->next_task_;
    if (!head) tail = nullptr;
    task->queued_ = false;
    task->run_task();
  }
  void run_soon_tasks();
  void run_posted();
  void destroy_pending();

  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  std::atomic<bool> stopped_{false};
  uint64_t now_ns_ = 0;
  uint64_t wall_us_ = 0;
  uint64_t last_turn_ns_ = 0;
  TimerWheel timers_;

  Task* flush_head_ = nullptr;
  Task* flush_tail_ = nullptr;
  Task* soon_head_ = nullptr;
  Task* soon_tail_ = nullptr;
  Destroyable* destroyed_ = nullptr;
  std::function<void()> turn_hook_;

  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
  std::atomic<bool> wake_pending_{false};
};

}  // namespace sluice::event
