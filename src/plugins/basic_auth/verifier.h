#pragma once
// Verifier: the thread that computes expensive password hashes, so that no worker waits for one. Its queue is bounded:
// under a flood of guesses, checks are refused rather than piled up, while users whose credentials are cached go on.

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "event/loop.h"

namespace sluice::plugins::basic_auth {

// One check. The asker keeps it until it is told or gives up.
class Check {
 public:
  // `work` runs on the verifier's thread, `told` on the loop, with what work returned.
  Check(event::Loop& loop, std::function<bool()> work, std::function<void(bool)> told)
      : loop_(&loop), work_(std::move(work)), told_(std::move(told)) {}

  // From the loop's thread: `told` is not called any more.
  void give_up();

 private:
  friend class Verifier;
  void run(const std::shared_ptr<Check>& self);

  std::mutex mutex_;   // of loop_: the loop may go when the asker has given up
  event::Loop* loop_;  // null: given up
  std::function<bool()> work_;
  std::function<void(bool)> told_;  // the loop's thread only
};

class Verifier {
 public:
  static Verifier& instance();
  ~Verifier();

  // False: too much is waiting already.
  bool submit(std::shared_ptr<Check> check);

  static constexpr size_t kMaxWaiting = 64;

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Check>> waiting_;
  bool stop_ = false;
  std::thread thread_;  // started with the first check
};

}  // namespace sluice::plugins::basic_auth
