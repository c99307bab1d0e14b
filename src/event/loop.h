#pragma once
// The event loop: epoll, timers, deferred work and a mailbox for other threads. Each worker and the control thread own
// one; everything attached to a loop belongs to its thread.
//
// A turn: wait → read the clock → dispatch readiness → fire timers → run tasks → run posted functions → destroy what
// was handed to destroy_later(). After each single callback the flush list runs, so that everything a callback wrote to
// one connection leaves in one system call.
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

struct TaskLink {
  TaskLink* previous = nullptr;
  TaskLink* next = nullptr;
};

// Work that runs after the current callback (defer_flush) or later in this turn or the next (run_soon). Embedded in its
// owner; queueing it twice is the same as once, destroying it takes it off the queue.
class Task : private TaskLink {
 public:
  Task() = default;
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  bool queued() const { return next != nullptr; }

 protected:
  ~Task() { unlink(); }

 private:
  friend class Loop;
  virtual void run_task() = 0;
  void unlink() {
    if (!next) return;
    previous->next = next;
    next->previous = previous;
    previous = next = nullptr;
  }
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

  void defer_flush(Task& task) { enqueue(flushes_, task); }
  void run_soon(Task& task) { enqueue(soon_, task); }
  void destroy_later(Destroyable* object) {
    object->next_destroyed_ = destroyed_;
    destroyed_ = object;
  }

  // Runs `function` on this loop's thread. Any thread; never blocks for longer than a queue push.
  void post(std::function<void()> function);

  // Called once at the end of every turn that dispatched something.
  void set_turn_hook(std::function<void()> hook) { turn_hook_ = std::move(hook); }

 private:
  Status control(int operation, int fd, IoHandler* handler, uint32_t events);
  static bool is_empty(const TaskLink& list) { return list.next == &list; }
  static void enqueue(TaskLink& list, Task& task) {
    if (task.queued()) return;
    TaskLink& link = task;
    link.previous = list.previous;
    link.next = &list;
    list.previous->next = &link;
    list.previous = &link;
  }
  void run_flushes() {
    while (!is_empty(flushes_)) run_first(flushes_);
  }
  static void run_first(TaskLink& list) {
    auto* task = static_cast<Task*>(list.next);
    task->unlink();
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
  TimerWheel timers_;

  TaskLink flushes_{&flushes_, &flushes_};  // circular lists
  TaskLink soon_{&soon_, &soon_};
  Destroyable* destroyed_ = nullptr;
  std::function<void()> turn_hook_;

  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
  std::atomic<bool> wake_pending_{false};
};

}  // namespace sluice::event
