#include "event/timer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/random.h"

namespace sluice::event {
namespace {

struct TestTimer final : Timer {
  std::function<void()> fired;
  int id = 0;
  void on_timer() override { fired(); }
};

// The wheel and a multimap of deadlines, driven side by side.
class Model {
 public:
  explicit Model(uint64_t now, size_t timers) : now_(now), wheel_(now), timers_(timers) {
    for (size_t i = 0; i < timers; ++i) {
      timers_[i] = std::make_unique<TestTimer>();
      timers_[i]->id = static_cast<int>(i);
      timers_[i]->fired = [this, i] { fired_.push_back(static_cast<int>(i)); };
    }
  }

  void arm(size_t i, uint64_t deadline) {
    wheel_.arm(*timers_[i], deadline);
    due_[i] = std::clamp(deadline, now_ + 1, now_ + 0xffff'fffeu);
    ASSERT_EQ(timers_[i]->deadline(), due_[i]);
  }
  void cancel(size_t i) {
    timers_[i]->cancel();
    due_.erase(i);
  }
  void destroy_and_renew(size_t i) {
    auto fresh = std::make_unique<TestTimer>();
    fresh->fired = [this, i] { fired_.push_back(static_cast<int>(i)); };
    timers_[i] = std::move(fresh);
    due_.erase(i);
  }

  // The time to sleep must never go beyond the first deadline, and must be told at all when there is one.
  void check_timeout() {
    const int64_t timeout = wheel_.next_timeout(now_);
    if (due_.empty()) {
      EXPECT_EQ(timeout, -1);
      return;
    }
    uint64_t first = UINT64_MAX;
    for (const auto& [id, deadline] : due_) first = std::min(first, deadline);
    ASSERT_GE(timeout, 0);
    ASSERT_LE(now_ + static_cast<uint64_t>(timeout), std::max(first, now_)) << "late by " << now_ + timeout - first;
  }

  void advance(uint64_t to) {
    std::vector<std::pair<uint64_t, size_t>> expected;
    for (const auto& [id, deadline] : due_) {
      if (deadline <= to) expected.emplace_back(deadline, id);
    }
    std::sort(expected.begin(), expected.end());
    now_ = to;
    fired_.clear();
    int after = 0;
    wheel_.advance(to, [&] { ++after; });
    ASSERT_EQ(fired_.size(), expected.size());
    ASSERT_EQ(after, static_cast<int>(expected.size()));
    uint64_t last = 0;
    for (int id : fired_) {
      auto found = due_.find(static_cast<size_t>(id));
      ASSERT_NE(found, due_.end()) << "fired twice or unasked";
      ASSERT_LE(found->second, to);
      ASSERT_GE(found->second, last) << "out of order";
      last = found->second;
      due_.erase(found);
      ASSERT_FALSE(timers_[static_cast<size_t>(id)]->armed());
    }
  }

  uint64_t now() const { return now_; }
  size_t armed() const { return due_.size(); }
  uint64_t first() const {
    uint64_t first = UINT64_MAX;
    for (const auto& [id, deadline] : due_) first = std::min(first, deadline);
    return first;
  }
  TimerWheel& wheel() { return wheel_; }

 private:
  uint64_t now_;
  TimerWheel wheel_;
  std::vector<std::unique_ptr<TestTimer>> timers_;
  std::map<size_t, uint64_t> due_;
  std::vector<int> fired_;
};

uint64_t random_delay(Random& random) {
  switch (random.below(7)) {
    case 0:
      return random.below(4);
    case 1:
      return random.below(300);
    case 2:
      return 250 + random.below(12);
    case 3:
      return (uint64_t{1} << (8 * (1 + random.below(3)))) + random.below(5) - 2;  // cascade boundaries
    case 4:
      return random.below(70'000);
    case 5:
      return random.below(20'000'000);
    default:
      return random.below(5 * 86'400'000u);  // days
  }
}

TEST(TimerWheel, AgreesWithASortedModel) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Random random(seed);
    // Start near the boundaries of every level too.
    const uint64_t starts[] = {
        0, 1, 255, 256, 65'535, 65'536, (1u << 24) - 1, 0xffff'ff00u, 0xffff'ffffu, 123'456'789'012u};
    Model model(starts[seed % std::size(starts)], 50);
    for (int step = 0; step < 400; ++step) {
      SCOPED_TRACE("seed " + std::to_string(seed) + " step " + std::to_string(step));
      const size_t i = random.below(50);
      switch (random.below(8)) {
        case 0:
        case 1:
        case 2:
          model.arm(i, model.now() + random_delay(random));
          break;
        case 3:
          model.cancel(i);
          break;
        case 4:
          if (random.below(4) == 0) {
            model.destroy_and_renew(i);
          } else {
            model.arm(i, model.now() - std::min<uint64_t>(model.now(), 5));  // already passed
          }
          break;
        case 5:
          model.advance(model.now() + random.below(400));
          break;
        case 6:
          // As a loop does: sleep as long as allowed, repeatedly, until the first fires.
          for (int turns = 0; model.armed() > 0 && turns < 40; ++turns) {
            model.check_timeout();
            const size_t before = model.armed();
            model.advance(model.now() + static_cast<uint64_t>(model.wheel().next_timeout(model.now())));
            if (model.armed() < before) break;
          }
          break;
        default:
          model.advance(model.now() + random_delay(random));
      }
      model.check_timeout();
      if (HasFatalFailure()) return;
    }
  }
}

TEST(TimerWheel, FiresExactlyAtTheDeadline) {
  for (const uint64_t delay : {1ull, 2ull, 255ull, 256ull, 257ull, 511ull, 512ull, 65'535ull, 65'536ull, 65'537ull,
                               16'777'215ull, 16'777'216ull, 16'777'217ull, 86'400'000ull, 3'000'000'000ull}) {
    for (const uint64_t start : {0ull, 1ull, 200ull, 255ull, 65'500ull, 4'294'967'290ull}) {
      SCOPED_TRACE(std::to_string(start) + " + " + std::to_string(delay));
      Model model(start, 1);
      model.arm(0, start + delay);
      model.check_timeout();
      if (delay > 1) model.advance(start + delay - 1);
      EXPECT_EQ(model.armed(), 1u);
      model.check_timeout();
      model.advance(start + delay);
      EXPECT_EQ(model.armed(), 0u);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(TimerWheel, WakesUpSeldomForFarDeadlines) {
  Model model(1000, 1);
  model.arm(0, 1000 + 3 * 86'400'000ull);
  int wakes = 0;
  while (model.armed() > 0 && wakes < 5000) {
    model.check_timeout();
    model.advance(model.now() + static_cast<uint64_t>(model.wheel().next_timeout(model.now())));
    ++wakes;
    if (HasFatalFailure()) return;
  }
  EXPECT_LT(wakes, 1000) << "a sleeping loop must not turn all the time";
}

TEST(TimerWheel, CutsDelaysToItsReach) {
  TimerWheel wheel(5);
  TestTimer timer;
  timer.fired = [] {};
  wheel.arm(timer, UINT64_MAX);
  EXPECT_EQ(timer.deadline(), 5 + uint64_t{0xffff'fffe});
}

TEST(TimerWheel, CallbacksMayArmCancelAndDestroy) {
  TimerWheel wheel(100);
  std::vector<int> order;
  auto a = std::make_unique<TestTimer>(), b = std::make_unique<TestTimer>(), c = std::make_unique<TestTimer>();
  a->fired = [&] {
    order.push_back(1);
    b->cancel();  // due in the same millisecond
    c.reset();    // as well
    wheel.arm(*a, 110);
  };
  b->fired = [&] { order.push_back(2); };
  c->fired = [&] { order.push_back(3); };
  wheel.arm(*a, 105);
  wheel.arm(*b, 105);
  wheel.arm(*c, 105);
  wheel.advance(109, [] {});
  EXPECT_EQ(order, (std::vector<int>{1}));
  EXPECT_TRUE(a->armed());
  EXPECT_FALSE(b->armed());
  wheel.advance(110, [] {});
  EXPECT_EQ(order, (std::vector<int>{1, 1}));
}

TEST(TimerWheel, TimerThatArmsItselfForNowDoesNotTrapTheLoop) {
  TimerWheel wheel(100);
  int count = 0;
  TestTimer timer;
  timer.fired = [&] {
    ++count;
    wheel.arm(timer, 200);  // the loop's clock
  };
  wheel.arm(timer, 150);
  wheel.advance(200, [] {});
  EXPECT_LE(count, 2);
  EXPECT_TRUE(timer.armed());
  const int before = count;
  wheel.advance(201, [] {});
  EXPECT_EQ(count, before + 1);
}

TEST(TimerWheel, DisarmsWhatIsLeftWhenItGoes) {
  TestTimer timer;
  timer.fired = [] {};
  {
    TimerWheel wheel(0);
    wheel.arm(timer, 1'000'000);
    EXPECT_TRUE(timer.armed());
  }
  EXPECT_FALSE(timer.armed());
}

}  // namespace
}  // namespace sluice::event
