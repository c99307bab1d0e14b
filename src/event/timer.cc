#include "event/timer.h"

#include <algorithm>
#include <bit>

// Level l has slots of 256^l milliseconds. A timer whose deadline differs from the wheel's clock first in digit l (base
// 256) stands in level l at that digit; when the clock reaches the slot, the slot is cascaded into the levels below.
// Level 0 slots hold timers of exactly one millisecond.

namespace sluice::event {
namespace {

constexpr uint64_t kMaxDelay = 0xffff'ffffu - 1;

}  // namespace

TimerWheel::TimerWheel(uint64_t now_ms) : now_(now_ms) {
  for (auto& level : slots_) {
    for (TimerLink& head : level) head.prev = head.next = &head;
  }
  due_.prev = due_.next = &due_;
}

TimerWheel::~TimerWheel() {
  while (pop(due_)) {
  }
  for (auto& level : slots_) {
    for (TimerLink& head : level) {
      while (pop(head)) {
      }
    }
  }
}

Timer* TimerWheel::pop(TimerLink& head) {
  if (is_empty(head)) return nullptr;
  auto* timer = static_cast<Timer*>(head.next);
  timer->cancel();
  return timer;
}

void TimerWheel::push(TimerLink& head, Timer& timer) {
  TimerLink& link = timer;
  link.prev = head.prev;
  link.next = &head;
  head.prev->next = &link;
  head.prev = &link;
}

void TimerWheel::arm(Timer& timer, uint64_t deadline_ms) {
  timer.cancel();
  timer.deadline_ = std::clamp(deadline_ms, now_ + 1, now_ + kMaxDelay);
  place(timer);
}

void TimerWheel::place(Timer& timer) {
  const uint64_t differing = timer.deadline_ ^ now_;
  int level = differing ? (63 - std::countl_zero(differing)) / kSlotBits : 0;
  level = std::min(level, kLevels - 1);
  const int slot = static_cast<int>(timer.deadline_ >> (level * kSlotBits)) & (kSlots - 1);
  push(slots_[level][slot], timer);
  occupied_[level][slot / 64] |= uint64_t{1} << (slot % 64);
}

void TimerWheel::cascade(int level) {
  const int slot = static_cast<int>(now_ >> (level * kSlotBits)) & (kSlots - 1);
  occupied_[level][slot / 64] &= ~(uint64_t{1} << (slot % 64));
  // Detach first: a timer beyond the top level's reach comes back to the same slot.
  TimerLink pending;
  pending.prev = pending.next = &pending;
  while (Timer* timer = pop(slots_[level][slot])) push(pending, *timer);
  while (Timer* timer = pop(pending)) {
    if (timer->deadline_ <= now_) {
      push(due_, *timer);
    } else {
      place(*timer);
    }
  }
}

int TimerWheel::next_occupied(int level, int from) const {
  for (int slot = from; slot < kSlots;) {
    const uint64_t word = occupied_[level][slot / 64] >> (slot % 64);
    if (!word) {
      slot = (slot / 64 + 1) * 64;
      continue;
    }
    slot += std::countr_zero(word);
    if (!is_empty(slots_[level][slot])) return slot;
    occupied_[level][slot / 64] &= ~(uint64_t{1} << (slot % 64));
  }
  return -1;
}

bool TimerWheel::step_towards(uint64_t target) {
  while (now_ < target) {
    const int digit = static_cast<int>(now_) & (kSlots - 1);
    const int slot = next_occupied(0, digit + 1);
    uint64_t next = slot >= 0 ? (now_ - digit + slot) : (now_ - digit + kSlots);
    if (slot < 0) {
      // Nothing left in this turn of level 0: skip whole turns that hold nothing in the levels above either.
      bool empty_above = true;
      for (int level = 1; level < kLevels && empty_above; ++level) empty_above = next_occupied(level, 0) < 0;
      if (empty_above) next = target;
    }
    if (next > target) {
      now_ = target;
      return false;
    }
    now_ = next;
    for (int level = kLevels - 1; level > 0; --level) {
      if ((now_ & ((uint64_t{1} << (level * kSlotBits)) - 1)) == 0) cascade(level);
    }
    const int now_slot = static_cast<int>(now_) & (kSlots - 1);
    while (Timer* timer = pop(slots_[0][now_slot])) push(due_, *timer);
    occupied_[0][now_slot / 64] &= ~(uint64_t{1} << (now_slot % 64));
    if (!is_empty(due_)) return true;
  }
  return false;
}

int64_t TimerWheel::next_timeout(uint64_t now_ms) const {
  const int digit = static_cast<int>(now_) & (kSlots - 1);
  int64_t next = -1;
  if (const int slot = next_occupied(0, digit + 1); slot >= 0) {
    next = static_cast<int64_t>(now_ - digit + slot);
  } else {
    // Timers of level 0 that stand before the digit, and those of higher levels, need the next cascade at the earliest.
    for (int level = 0; level < kLevels; ++level) {
      if (next_occupied(level, 0) >= 0) next = static_cast<int64_t>(now_ - digit + kSlots);
    }
    if (next < 0) return -1;
    // Find the real slot of the lowest occupied level above 0, if the next turn of level 0 is certainly empty.
    if (next_occupied(0, 0) < 0) {
      for (int level = 1; level < kLevels; ++level) {
        const int level_digit = static_cast<int>(now_ >> (level * kSlotBits)) & (kSlots - 1);
        const int found = next_occupied(level, level_digit + 1);
        if (found >= 0) {
          const uint64_t base = (now_ >> ((level + 1) * kSlotBits)) << ((level + 1) * kSlotBits);
          next = static_cast<int64_t>(base + (static_cast<uint64_t>(found) << (level * kSlotBits)));
          break;
        }
        if (next_occupied(level, 0) >= 0) {
          const uint64_t turn = uint64_t{1} << ((level + 1) * kSlotBits);
          next = static_cast<int64_t>((now_ / turn + 1) * turn);
          break;
        }
      }
    }
  }
  return next <= static_cast<int64_t>(now_ms) ? 0 : next - static_cast<int64_t>(now_ms);
}

}  // namespace sluice::event
