#pragma once
// Timers of one loop: a hierarchical wheel of intrusive lists with a resolution of one millisecond. Arming, re-arming
// and cancelling are O(1) and allocate nothing. Four levels of 256 slots reach 49 days; longer delays are cut to that.

#include <cstdint>

namespace sluice::event {

class TimerWheel;

// A node of a circular doubly linked list.
struct TimerLink {
  TimerLink* prev = nullptr;
  TimerLink* next = nullptr;
};

// One timer. Its owner embeds it; destroying it cancels it. Not copyable, not movable.
class Timer : private TimerLink {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  virtual ~Timer() { cancel(); }

  bool armed() const { return next != nullptr; }
  void cancel() {
    if (!next) return;
    prev->next = next;
    next->prev = prev;
    prev = next = nullptr;
  }
  // Milliseconds on the loop's clock.
  uint64_t deadline() const { return deadline_; }

 protected:
  virtual void on_timer() = 0;

 private:
  friend class TimerWheel;
  uint64_t deadline_ = 0;
};

// A timer that calls a member function of its owner.
template <typename Owner, void (Owner::*Method)()>
class MemberTimer final : public Timer {
 public:
  explicit MemberTimer(Owner* owner) : owner_(owner) {}

 private:
  void on_timer() override { (owner_->*Method)(); }
  Owner* owner_;
};

class TimerWheel {
 public:
  explicit TimerWheel(uint64_t now_ms);
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;
  // Disarms what is still armed.
  ~TimerWheel();

  // Arms (or re-arms) `timer` to fire at `deadline_ms`; a deadline that has passed fires at the next advance.
  void arm(Timer& timer, uint64_t deadline_ms);

  // Fires all timers whose deadline is at or before `now_ms`, in order of their deadlines. `after_each` runs after
  // every callback. A timer that a callback arms for a deadline up to `now_ms` may fire in the same advance, once per
  // millisecond at most.
  template <typename After>
  void advance(uint64_t now_ms, After after_each) {
    while (step_towards(now_ms)) {
      while (Timer* timer = pop(due_)) {
        timer->on_timer();
        after_each();
      }
    }
  }

  // Milliseconds until advance() has something to do; -1 if no timer is armed. May be early, never late.
  int64_t next_timeout(uint64_t now_ms) const;

 private:
  static constexpr int kLevels = 4;
  static constexpr int kSlotBits = 8;
  static constexpr int kSlots = 1 << kSlotBits;

  static Timer* pop(TimerLink& head);
  static void push(TimerLink& head, Timer& timer);
  static bool is_empty(const TimerLink& head) { return head.next == &head; }
  void place(Timer& timer);
  void cascade(int level);
  // When the next occupied slot of any level begins; UINT64_MAX if there is none. No deadline is earlier.
  uint64_t next_event() const;
  // Moves the clock to the next occupied slot, at most to `target`, and moves what is due there to due_. False when the
  // clock has arrived and nothing is due.
  bool step_towards(uint64_t target);
  int next_occupied(int level, int from) const;

  uint64_t now_;  // all slots up to and including this millisecond have been fired
  // A bit is set when a timer enters the slot and cleared when the slot is found empty: cancelling leaves it stale.
  mutable uint64_t occupied_[kLevels][kSlots / 64] = {};
  TimerLink slots_[kLevels][kSlots];
  TimerLink due_;
};

}  // namespace sluice::event
