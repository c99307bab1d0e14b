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
    const uint64_t next = next_event();
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

uint64_t TimerWheel::next_event() const {
  for (int level = 0; level < kLevels; ++level) {
    const int digit = static_cast<int>(now_ >> (level * kSlotBits)) & (kSlots - 1);
    const uint64_t turn = uint64_t{1} << ((level + 1) * kSlotBits);
    // Slots behind the digit begin within this turn, before any slot of the levels above.
    if (const int slot = next_occupied(level, digit + 1); slot >= 0) {
      return now_ / turn * turn + (static_cast<uint64_t>(slot) << (level * kSlotBits));
    }
    // Up to the digit: they begin in the next turn (the top level wraps around).
    if (next_occupied(level, 0) >= 0) return (now_ / turn + 1) * turn;
  }
  return UINT64_MAX;
}

int64_t TimerWheel::next_timeout(uint64_t now_ms) const {
  const uint64_t next = next_event();
  if (next == UINT64_MAX) return -1;
  return next <= now_ms ? 0 : static_cast<int64_t>(next - now_ms);
}

}  // namespace sluice::event
