#pragma once
// LeaderElection: which of the replicas writes to the cluster, by a coordination.k8s.io/v1 Lease.
//
// The holder renews the lease every kRenewMs. Others look at it as often; one whose lease has not changed for its
// duration, by our own clock, is taken over. A holder that can't renew for kGiveUpMs stops being leader, well before
// another can take over. release() gives the lease up, so that the next is leader at once.

#include <functional>
#include <memory>
#include <string>

#include "base/random.h"
#include "event/loop.h"
#include "resource/json.h"
#include "source/kube/api_client.h"

namespace sluice::source::kube {

class LeaderElection {
 public:
  static constexpr unsigned kLeaseSeconds = 15;
  static constexpr uint64_t kRenewMs = 4'000;
  static constexpr uint64_t kRetryMs = 2'000;
  static constexpr uint64_t kGiveUpMs = 10'000;

  // `identity` differs between replicas. `on_change` is told when leader() changes.
  LeaderElection(event::Loop& loop, ApiClient& client, std::string ns, std::string name, std::string identity,
                 std::function<void()> on_change);

  void start() { loop_.arm(timer_, 0); }
  // Calls `done` when the lease is given up or can't be, within seven seconds (two, unless a renewal is under way).
  void release(std::function<void()> done);

  bool leader() const { return leader_; }
  const std::string& identity() const { return identity_; }
  // Who holds the lease, as far as we know.
  const std::string& holder() const { return holder_; }

 private:
  void look();
  void on_lease(Result<ApiResponse> result);
  void write(bool create, const std::string& holder);
  void on_written(Result<ApiResponse> result);
  bool take_in(const std::string& body);
  void set_leader(bool leader);
  void again(uint64_t delay_ms);
  void failed(const std::string& why);
  std::string path() const;

  event::Loop& loop_;
  ApiClient& client_;
  const std::string ns_, name_, identity_;
  const std::function<void()> on_change_;
  Random random_;
  resource::JsonParser parser_;
  std::unique_ptr<ApiClient::Call> call_;

  bool leader_ = false;
  bool released_ = false;
  bool renewing_ = false;  // when released
  std::string holder_, version_, acquired_;
  int64_t transitions_ = 0;
  uint64_t duration_ms_ = kLeaseSeconds * 1000;
  uint64_t seen_ms_ = 0;     // when version_ was first seen
  uint64_t renewed_ms_ = 0;  // when our last successful renewal was begun
  uint64_t asked_ms_ = 0;
  std::string last_failure_;
  std::function<void()> released_done_;
  event::MemberTimer<LeaderElection, &LeaderElection::look> timer_{this};
};

// RFC 3339 in UTC: "2024-01-31T12:00:00Z", with microseconds "2024-01-31T12:00:00.000000Z".
std::string format_time(uint64_t wall_us, bool microseconds);

}  // namespace sluice::source::kube
