#include "event/loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace sluice::event {
namespace {

struct TestTask final : Task {
  std::function<void()> run;
  void run_task() override { run(); }
};
struct TestTimer final : Timer {
  std::function<void()> fired;
  void on_timer() override { fired(); }
};
struct TestHandler final : IoHandler {
  std::function<void(uint32_t)> io;
  void on_io(uint32_t events) override { io(events); }
};

struct Pair {
  Pair() {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0) std::abort();
  }
  ~Pair() {
    close(fd[0]);
    close(fd[1]);
  }
  int fd[2];
};

TEST(Loop, FlushesRunAfterEachCallbackInOrder) {
  Loop loop;
  std::string order;
  TestTask a, b;
  a.run = [&] { order += 'a'; };
  b.run = [&] { order += 'b'; };
  loop.post([&] {
    order += '1';
    loop.defer_flush(b);
    loop.defer_flush(a);
    loop.defer_flush(b);  // already queued: once
    EXPECT_TRUE(a.queued());
  });
  loop.post([&] {
    order += '2';
    loop.defer_flush(a);
  });
  loop.run_once(0);
  EXPECT_EQ(order, "1ba2a");
  EXPECT_FALSE(a.queued());
}

TEST(Loop, FlushThatFlushesRunsInTheSamePass) {
  Loop loop;
  std::string order;
  TestTask a, b;
  a.run = [&] {
    order += 'a';
    loop.defer_flush(b);
  };
  b.run = [&] { order += 'b'; };
  loop.post([&] { loop.defer_flush(a); });
  loop.post([&] { order += '2'; });
  loop.run_once(0);
  EXPECT_EQ(order, "ab2");
}

TEST(Loop, TasksQueuedByTasksWaitForTheNextTurn) {
  Loop loop;
  int runs = 0;
  TestTask task;
  task.run = [&] {
    if (++runs < 3) loop.run_soon(task);
  };
  loop.run_soon(task);
  loop.run_once(-1);  // does not sleep while a task waits
  EXPECT_EQ(runs, 1);
  loop.run_once(-1);
  EXPECT_EQ(runs, 2);
  loop.run_once(-1);
  EXPECT_EQ(runs, 3);
  EXPECT_FALSE(task.queued());
}

TEST(Loop, DestroyedTasksLeaveTheQueues) {
  Loop loop;
  std::string order;
  auto a = std::make_unique<TestTask>(), b = std::make_unique<TestTask>(), c = std::make_unique<TestTask>();
  a->run = [&] {
    order += 'a';
    b.reset();  // in the same batch
  };
  b->run = [&] { order += 'b'; };
  c->run = [&] { order += 'c'; };
  loop.run_soon(*a);
  loop.run_soon(*b);
  loop.run_soon(*c);
  loop.run_once(0);
  EXPECT_EQ(order, "ac");
  loop.run_soon(*a);
  a.reset();
  loop.post([&] {
    loop.defer_flush(*c);
    c.reset();
  });
  loop.run_once(0);
  EXPECT_EQ(order, "ac");
}

TEST(Loop, ReadinessIsTheEdge) {
  Loop loop;
  Pair pair;
  std::vector<uint32_t> seen;
  TestHandler handler;
  handler.io = [&](uint32_t events) { seen.push_back(events); };
  ASSERT_TRUE(loop.add(pair.fd[0], &handler).ok());
  EXPECT_FALSE(loop.add(pair.fd[0], &handler).ok());
  loop.run_once(0);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_TRUE(seen[0] & EPOLLOUT);
  EXPECT_FALSE(seen[0] & EPOLLIN);
  loop.run_once(0);
  EXPECT_EQ(seen.size(), 1u);
  ASSERT_EQ(write(pair.fd[1], "x", 1), 1);
  loop.run_once(0);
  loop.run_once(0);
  ASSERT_EQ(seen.size(), 2u) << "unread bytes are told once";
  EXPECT_TRUE(seen[1] & EPOLLIN);
  ASSERT_EQ(write(pair.fd[1], "y", 1), 1);
  loop.run_once(0);
  EXPECT_EQ(seen.size(), 3u) << "more bytes are a new edge";
  shutdown(pair.fd[1], SHUT_WR);
  loop.run_once(0);
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_TRUE(seen[3] & EPOLLRDHUP);

  TestHandler other;
  int others = 0;
  other.io = [&](uint32_t) { ++others; };
  ASSERT_TRUE(loop.rebind(pair.fd[0], &other).ok());
  loop.run_once(0);
  EXPECT_EQ(others, 1) << "the new handler hears of what is there";
  EXPECT_EQ(seen.size(), 4u);
  loop.remove(pair.fd[0]);
  loop.run_once(0);
  EXPECT_EQ(others, 1);
  EXPECT_FALSE(loop.rebind(pair.fd[0], &other).ok());
  EXPECT_FALSE(loop.add(-1, &other).ok());
}

struct Counted final : Destroyable, IoHandler {
  explicit Counted(int* alive) : alive(alive) { ++*alive; }
  ~Counted() override {
    --*alive;
    if (last_words) last_words();
  }
  void on_io(uint32_t) override { ++events; }
  int* alive;
  int events = 0;
  std::function<void()> last_words;
};

TEST(Loop, DestroysAtTheEndOfTheTurn) {
  Loop loop;
  int alive = 0;
  auto* first = new Counted(&alive);
  auto* second = new Counted(&alive);
  // Destruction may hand over more.
  first->last_words = [&] { loop.destroy_later(second); };
  loop.post([&] { loop.destroy_later(first); });
  loop.post([&] { EXPECT_EQ(alive, 2); });
  loop.run_once(0);
  EXPECT_EQ(alive, 0);
}

TEST(Loop, DestroysWhatIsLeftWhenItGoes) {
  int alive = 0;
  {
    Loop loop;
    loop.destroy_later(new Counted(&alive));
  }
  EXPECT_EQ(alive, 0);
}

TEST(Loop, TimersFireInTime) {
  Loop loop;
  std::string order;
  TestTimer a, b;
  TestTask flush;
  flush.run = [&] { order += 'f'; };
  a.fired = [&] {
    order += 'a';
    loop.defer_flush(flush);
  };
  b.fired = [&] { order += 'b'; };
  loop.update_clock();
  const uint64_t start = loop.now_ms();
  loop.arm(b, 30);
  loop.arm(a, 10);
  while (b.armed()) loop.run_once();
  EXPECT_EQ(order, "afb");
  EXPECT_GE(loop.now_ms(), start + 30);
  EXPECT_LT(loop.now_ms(), start + 2000);
}

TEST(Loop, ReadsItsClockOncePerTurn) {
  Loop loop;
  loop.post([&] {
    const uint64_t before = loop.now_ns();
    const uint64_t wall = loop.wall_us();
    usleep(3000);
    EXPECT_EQ(loop.now_ns(), before);
    EXPECT_EQ(loop.wall_us(), wall);
    loop.update_clock();
    EXPECT_GE(loop.now_ns(), before + 3'000'000);
    EXPECT_GE(loop.wall_us(), wall + 2'000);
  });
  loop.run_once(0);
}

TEST(Loop, TurnHookRunsAfterThePosted) {
  Loop loop;
  std::string order;
  loop.set_turn_hook([&] { order += 'h'; });
  loop.post([&] { order += 'p'; });
  loop.run_once(0);
  EXPECT_EQ(order, "ph");
}

TEST(Loop, PostFromManyThreadsLosesNothing) {
  Loop loop;
  constexpr int kThreads = 4, kEach = 5000;
  std::vector<int> next(kThreads, 0);
  int total = 0;
  bool ordered = true;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        loop.post([&, t, i] {
          ordered = ordered && next[static_cast<size_t>(t)]++ == i;
          if (++total == kThreads * kEach) loop.stop();
        });
      }
    });
  }
  loop.run();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(total, kThreads * kEach);
  EXPECT_TRUE(ordered) << "the functions of one thread run in its order";
}

TEST(Loop, PostedFunctionMayPost) {
  Loop loop;
  int depth = 0;
  std::function<void()> again = [&] {
    if (++depth < 100) loop.post(again);
    if (depth == 100) loop.stop();
  };
  loop.post(again);
  loop.run();
  EXPECT_EQ(depth, 100);
}

TEST(Loop, StopFromAnotherThreadWakesIt) {
  Loop loop;
  std::thread thread([&] {
    usleep(2000);
    loop.stop();
  });
  loop.run();
  thread.join();
}

}  // namespace
}  // namespace sluice::event
