#pragma once
// Server: the running process of `sluice serve`: the control plane (directory or cluster → store → compiler →
// snapshot), DNS, health checks, the admin port, the Kubernetes-style API, and the gateway that the snapshots are
// published to. Everything here is the control thread's.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/admin.h"
#include "api/demo_backend.h"
#include "api/kube/kube_api.h"
#include "base/result.h"
#include "compile/control_plane.h"
#include "event/loop.h"
#include "net/dns.h"
#include "net/tls.h"
#include "proxy/gateway.h"
#include "source/directory.h"
#include "source/kube/cluster.h"
#include "upstream/health_checker.h"

namespace sluice::api {

struct ServerOptions {
  // Where objects come from: a directory or a cluster.
  std::string config_directory;
  std::optional<source::kube::ClusterOptions> cluster;
  proxy::Options proxy;
  compile::Options compile;
  net::Address admin;
  // The Kubernetes-style API over the directory.
  std::optional<kube::KubeApiOptions> api;
  std::string access_log = "-";   // path, "-" or "off"
  std::string access_log_format;  // empty: Higress's JSON
  std::vector<net::Address> dns_servers;
  bool demo = false;
  std::string version;
  // For replacing the running binary: how to start it again.
  std::vector<std::string> command_line;
  std::vector<int> inherited_sockets;
  int parent_pid = 0;  // told to drain when we serve; 0: none
};

class Server final : private source::kube::Cluster::Consumer, private kube::Editor::Host {
 public:
  Server(event::Loop& loop, ServerOptions options);
  ~Server();

  // Loads, binds and starts. The error says what was wrong.
  Status start();
  // Graceful end; the loop is stopped when everything has drained.
  void shut_down();
  void reopen_logs();
  // Starts the binary again with our listening sockets; it takes over and tells us to drain.
  void replace_binary();

 private:
  class DirectoryWatch;
  class DnsRefresh;

  Status open_directory();
  Status serve();
  void load();
  void on_cluster_update(std::vector<resource::ParsedFile> changed, const std::vector<std::string>& removed) override;
  void on_cluster_leading() override;
  void report_everything();
  void on_directory_changed();
  void on_files_written(const std::vector<std::string>& changed, const std::vector<std::string>& removed) override;
  void apply_files(const std::vector<std::string>& changed, const std::vector<std::string>& removed);
  void publish(compile::Compiler::SnapshotPointer snapshot);
  void report(const resource::Diagnostics& diagnostics);
  void refresh_dns_names();
  void on_resolved(const std::string& name, Result<net::DnsAnswer> answer);
  void on_health(const std::string& cluster, const net::Address& endpoint, bool healthy, const std::string& reason);
  void rotate_tickets();

  event::Loop& loop_;
  ServerOptions options_;
  std::unique_ptr<compile::ControlPlane> control_;
  std::unique_ptr<source::Directory> directory_;
  std::unique_ptr<DirectoryWatch> watch_;
  std::unique_ptr<source::kube::Cluster> cluster_;
  std::unique_ptr<net::DnsResolver> resolver_;
  std::map<std::string, std::unique_ptr<DnsRefresh>> dns_;
  std::unique_ptr<proxy::Gateway> gateway_;
  std::unique_ptr<upstream::HealthChecker> health_;
  std::unique_ptr<Admin> admin_;
  std::unique_ptr<kube::KubeApi> api_;
  std::unique_ptr<DemoBackend> demo_;
  event::MemberTimer<Server, &Server::rotate_tickets> ticket_timer_{this};
  event::MemberTimer<Server, &Server::report_everything> report_timer_{this};
  compile::Compiler::SnapshotPointer published_;
  resource::Diagnostics directory_problems_;
  bool serving_ = false;
  bool shutting_down_ = false;
  bool replaced_ = false;  // a new process has been started and will take over
};

}  // namespace sluice::api
