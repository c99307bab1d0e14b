#pragma once
// Cluster: everything the gateway does with one API server: reads its objects, and, while it is the leader among the
// replicas, writes status and Events.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "source/kube/api_client.h"
#include "source/kube/event_recorder.h"
#include "source/kube/kube_source.h"
#include "source/kube/leader.h"
#include "source/kube/status_writer.h"

namespace sluice::source::kube {

struct ClusterOptions {
  ClusterAccess access;
  KubeOptions source;
  bool write = true;                           // status and Events
  std::vector<std::string> publish_addresses;  // empty: those of Services, see KubeOptions
  std::string identity;                        // of this replica
  std::string user_agent;
};

class Cluster final : private KubeSource::Consumer {
 public:
  static constexpr const char* kLeaseName = "sluice-leader";

  class Consumer {
   public:
    // What is new, and the names of files that are gone; see KubeSource. The first call brings a complete picture.
    virtual void on_cluster_update(std::vector<resource::ParsedFile> changed,
                                   const std::vector<std::string>& removed) = 0;
    // This replica has become the leader: it wants to be told everything that is wrong now (report()).
    virtual void on_cluster_leading() = 0;

   protected:
    ~Consumer() = default;
  };

  Cluster(event::Loop& loop, net::DnsResolver& resolver, ClusterOptions options, Consumer& consumer);
  ~Cluster();

  void start();
  // Saves the state and gives up the lease, then calls `done`; see LeaderElection::release().
  void stop(std::function<void()> done);
  // This replica is the leader: what is reported becomes Events.
  bool leading() const { return election_.leader(); }
  // Findings about objects, for Events.
  void report(const resource::Diagnostics& diagnostics);

  const KubeSource& source() const { return source_; }
  // Prometheus text.
  std::string metrics() const;
  // For the admin port: one JSON object.
  std::string to_json() const;

 private:
  void on_kube_update(std::vector<resource::ParsedFile> changed, const std::vector<std::string>& removed) override;
  void on_kube_status_input() override;
  void on_leader_change();

  Consumer& consumer_;
  const bool write_;
  bool election_started_ = false;
  ApiClient client_;
  KubeSource source_;
  LeaderElection election_;
  StatusWriter status_;
  EventRecorder events_;
};

}  // namespace sluice::source::kube
