#include "plugins/basic_auth/verifier.h"

#include <signal.h>

namespace sluice::plugins::basic_auth {

void Check::give_up() {
  told_ = nullptr;
  std::lock_guard lock(mutex_);
  loop_ = nullptr;
}

void Check::run(const std::shared_ptr<Check>& self) {
  {
    std::lock_guard lock(mutex_);
    if (!loop_) return;
  }
  const bool good = work_();
  std::lock_guard lock(mutex_);
  if (!loop_) return;
  loop_->post([self, good] {
    if (auto told = std::move(self->told_)) told(good);
  });
}

Verifier& Verifier::instance() {
  static Verifier verifier;
  return verifier;
}

Verifier::~Verifier() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

bool Verifier::submit(std::shared_ptr<Check> check) {
  {
    std::lock_guard lock(mutex_);
    if (waiting_.size() >= kMaxWaiting) return false;
    waiting_.push_back(std::move(check));
    if (!thread_.joinable()) {
      // Signals are for the main thread.
      sigset_t all, before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      thread_ = std::thread([this] { run(); });
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
  }
  wake_.notify_one();
  return true;
}

void Verifier::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    std::shared_ptr<Check> check = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    check->run(check);
    check.reset();
    lock.lock();
  }
}

}  // namespace sluice::plugins::basic_auth
