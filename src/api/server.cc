#include "api/server.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "net/tls_ticket_keys.h"
#include "source/files.h"

extern char** environ;

namespace sluice::api {
namespace {

constexpr unsigned kLoadThreads = 2;
constexpr uint64_t kTicketRotationMs = 3600 * 1000;
constexpr uint64_t kReportMs = 10'000;
constexpr uint64_t kMinDnsRefreshMs = 1000;
constexpr uint64_t kMaxDnsRefreshMs = 300'000;

}  // namespace

// Brings the directory's inotify descriptor and deadlines to the loop.
class Server::DirectoryWatch final : private event::IoHandler {
 public:
  DirectoryWatch(Server& server, source::Directory& directory) : server_(server), directory_(directory) {}
  Status start() {
    arm();
    return server_.loop_.add(directory_.fd(), this, EPOLLIN);
  }

 private:
  void on_io(uint32_t) override {
    directory_.on_readable(server_.loop_.now_ms());
    check();
  }
  void check() {
    server_.on_directory_changed();
    arm();
  }
  void arm() {
    const auto deadline = directory_.deadline();
    if (!deadline) return;
    const uint64_t now = server_.loop_.now_ms();
    server_.loop_.arm(timer_, *deadline > now ? *deadline - now : 1);
  }

  Server& server_;
  source::Directory& directory_;
  event::MemberTimer<DirectoryWatch, &DirectoryWatch::check> timer_{this};
};

// One DNS name: resolved now and again when its time to live is over. What was found stays when a lookup fails.
class Server::DnsRefresh {
 public:
  DnsRefresh(Server& server, std::string name) : server_(server), name_(std::move(name)) { look_up(); }

 private:
  void look_up() {
    handle_ = server_.resolver_->resolve(name_, 0, [this](Result<net::DnsAnswer> answer) {
      if (!answer.ok()) {
        failures_ = std::min(failures_ + 1, 5u);
        server_.loop_.arm(timer_, kMinDnsRefreshMs << failures_);
      } else {
        failures_ = 0;
        if (answer->ttl_seconds != net::DnsAnswer::kNoExpiry) {
          server_.loop_.arm(
              timer_, std::clamp<uint64_t>(uint64_t{answer->ttl_seconds} * 1000, kMinDnsRefreshMs, kMaxDnsRefreshMs));
        }
      }
      server_.on_resolved(name_, std::move(answer));
    });
  }

  Server& server_;
  const std::string name_;
  std::unique_ptr<net::DnsResolver::Handle> handle_;
  uint32_t failures_ = 0;
  event::MemberTimer<DnsRefresh, &DnsRefresh::look_up> timer_{this};
};

Server::Server(event::Loop& loop, ServerOptions options) : loop_(loop), options_(std::move(options)) {}

Server::~Server() = default;

Status Server::start() {
  if (options_.demo) {
    demo_ = std::make_unique<DemoBackend>();
    Status started = demo_->start(18080);
    if (!started.ok()) return Error{"demo backend: " + started.error().message};
  }
  options_.compile.ticket_keys = std::make_shared<net::TlsTicketKeys>();
  options_.compile.check_access_log_format = proxy::AccessLogFormat::check;
  loop_.arm(ticket_timer_, kTicketRotationMs);
  control_ = std::make_unique<compile::ControlPlane>(options_.compile);

  std::unique_ptr<proxy::AccessLog> access_log;
  if (options_.access_log != "off") {
    proxy::AccessLogFormat format = proxy::AccessLogFormat::standard();
    if (!options_.access_log_format.empty()) {
      Result<proxy::AccessLogFormat> parsed = proxy::AccessLogFormat::parse(options_.access_log_format);
      if (!parsed.ok()) return Error{"--access-log-format: " + parsed.error().message};
      format = std::move(*parsed);
    }
    Result<std::unique_ptr<proxy::AccessLog>> opened = proxy::AccessLog::open(options_.access_log, std::move(format));
    if (!opened.ok()) return opened.error();
    access_log = std::move(*opened);
  }
  gateway_ = std::make_unique<proxy::Gateway>(loop_, options_.proxy, std::move(access_log));

  net::DnsOptions dns;
  dns.servers = options_.dns_servers;
  Result<std::unique_ptr<net::DnsResolver>> resolver = net::DnsResolver::create(loop_, dns);
  if (!resolver.ok()) return resolver.error();
  resolver_ = std::move(*resolver);

  health_ = std::make_unique<upstream::HealthChecker>(
      loop_, [this](const std::string& cluster, const net::Address& endpoint, bool healthy, const std::string& reason) {
        on_health(cluster, endpoint, healthy, reason);
      });
  admin_ = std::make_unique<Admin>(loop_, *control_, *gateway_, options_.version);
  if (!options_.cluster) return open_directory();

  // Traffic is accepted when the first complete picture is here. A process that replaces another leaves the admin port
  // to it until then.
  source::kube::Cluster::Consumer& consumer = *this;
  cluster_ = std::make_unique<source::kube::Cluster>(loop_, *resolver_, *options_.cluster, consumer);
  admin_->set_cluster(cluster_.get());
  if (!options_.admin.is_none() && !options_.parent_pid) {
    Status listening = admin_->listen(options_.admin);
    if (!listening.ok()) return Error{"admin port: " + listening.error().message};
  }
  cluster_->start();
  return {};
}

Status Server::open_directory() {
  Result<std::unique_ptr<source::Directory>> directory = source::Directory::open(options_.config_directory);
  if (!directory.ok()) return Error{"--config " + options_.config_directory + ": " + directory.error().message};
  directory_ = std::move(*directory);
  load();
  if (Status serving = serve(); !serving.ok()) return serving;
  if (options_.api) {
    kube::Editor::Host& host = *this;
    kube::KubeApiOptions api = *options_.api;
    api.findings = [this] { return control_->diagnostics(); };
    api_ = std::make_unique<kube::KubeApi>(loop_, std::move(api), host);
    if (Status listening = api_->start(directory_->files()); !listening.ok()) {
      return Error{"API port: " + listening.error().message};
    }
    log::info("server", "Kubernetes-style API on " + options_.api->address.to_string());
  }
  watch_ = std::make_unique<DirectoryWatch>(*this, *directory_);
  return watch_->start();
}

// The first snapshot is published: takes traffic.
Status Server::serve() {
  Status started = gateway_->start(options_.inherited_sockets);
  if (!started.ok()) return started;
  serving_ = true;
  if (!options_.admin.is_none() && (!cluster_ || options_.parent_pid)) {
    Status listening = admin_->listen(options_.admin);
    if (!listening.ok()) return Error{"admin port: " + listening.error().message};
  }
  admin_->set_ready(true);
  if (options_.parent_pid) ::kill(options_.parent_pid, SIGTERM);
  std::string addresses;
  for (const proxy::ListenerOptions& listener : options_.proxy.listeners) {
    addresses += (listener.tls ? " https " : " http ") + listener.address.to_string();
  }
  log::info("server", "serving on" + addresses + ", admin on " + options_.admin.to_string());
  return {};
}

void Server::on_cluster_update(std::vector<resource::ParsedFile> changed, const std::vector<std::string>& removed) {
  if (shutting_down_ && !serving_) return;
  const size_t files = changed.size();
  compile::Update update = control_->apply(std::move(changed), removed);
  report(update.diagnostics);
  log::write(serving_ ? log::Level::kDebug : log::Level::kInfo, "config",
             std::to_string(files) + " objects told, " + std::to_string(removed.size()) +
                 " gone: " + std::to_string(update.changed_objects) + " changed");
  publish(std::move(update.snapshot));
  cluster_->report(update.diagnostics);
  // A change may be the trouble of an object that it did not touch: a Secret that is gone.
  if (!report_timer_.armed()) loop_.arm(report_timer_, kReportMs);
  refresh_dns_names();
  if (serving_) return;
  if (Status serving = serve(); !serving.ok()) {
    log::error("server", serving.error().message);
    std::_Exit(1);
  }
}

void Server::on_cluster_leading() { report_everything(); }

void Server::report_everything() {
  if (cluster_->leading()) cluster_->report(control_->diagnostics());
}

void Server::load() {
  compile::Update update = control_->apply(source::load_files(directory_->files(), kLoadThreads), {});
  directory_problems_ = directory_->problems();
  report(directory_problems_);
  report(update.diagnostics);
  log::info("config", std::to_string(update.changed_objects) + " objects loaded from " + options_.config_directory);
  publish(std::move(update.snapshot));
  refresh_dns_names();
}

void Server::on_directory_changed() {
  const source::Directory::Changes changes = directory_->take(loop_.now_ms());
  if (directory_->problems() != directory_problems_) {
    directory_problems_ = directory_->problems();
    report(directory_problems_);
  }
  if (changes.empty()) return;
  apply_files(changes.changed, changes.removed);
  if (!api_) return;
  std::vector<std::string> paths = changes.changed;
  paths.insert(paths.end(), changes.removed.begin(), changes.removed.end());
  api_->on_files_changed(paths);
}

// The directory tells of these too; then they are as they are known.
void Server::on_files_written(const std::vector<std::string>& changed, const std::vector<std::string>& removed) {
  apply_files(changed, removed);
}

void Server::apply_files(const std::vector<std::string>& changed, const std::vector<std::string>& removed) {
  const unsigned threads = changed.size() > 64 ? kLoadThreads : 1;
  compile::Update update = control_->apply(source::load_files(changed, threads), removed);
  report(update.diagnostics);
  log::write(update.changed_objects ? log::Level::kInfo : log::Level::kDebug, "config",
             std::to_string(changed.size()) + " files changed, " + std::to_string(removed.size()) +
                 " removed: " + std::to_string(update.changed_objects) + " objects changed");
  publish(std::move(update.snapshot));
  refresh_dns_names();
}

void Server::publish(compile::Compiler::SnapshotPointer snapshot) {
  if (!snapshot || snapshot == published_) return;
  published_ = snapshot;
  gateway_->publish(std::move(snapshot));
  health_->update(*published_);
}

void Server::on_health(const std::string& cluster, const net::Address& endpoint, bool healthy,
                       const std::string& reason) {
  log::write(healthy ? log::Level::kInfo : log::Level::kWarning, "health",
             cluster + " " + endpoint.to_string() + (healthy ? " is healthy again" : " is unhealthy") +
                 (reason.empty() ? "" : ": " + reason));
  publish(control_->set_health(cluster, endpoint, healthy));
}

void Server::report(const resource::Diagnostics& diagnostics) {
  for (const resource::Diagnostic& diagnostic : diagnostics) {
    const log::Level level = diagnostic.severity == resource::Severity::kError     ? log::Level::kError
                             : diagnostic.severity == resource::Severity::kWarning ? log::Level::kWarning
                                                                                   : log::Level::kInfo;
    log::write(level, "config", diagnostic.render());
  }
}

void Server::refresh_dns_names() {
  const std::vector<std::string> names = control_->dns_names();
  std::erase_if(dns_, [&](const auto& entry) { return !std::binary_search(names.begin(), names.end(), entry.first); });
  for (const std::string& name : names) {
    if (!dns_.contains(name)) dns_.emplace(name, std::make_unique<DnsRefresh>(*this, name));
  }
}

void Server::on_resolved(const std::string& name, Result<net::DnsAnswer> answer) {
  if (!answer.ok()) return log::warning("dns", answer.error().message);
  publish(control_->set_resolved(name, std::move(answer->addresses)));
}

void Server::rotate_tickets() {
  options_.compile.ticket_keys->rotate();
  loop_.arm(ticket_timer_, kTicketRotationMs);
}

void Server::reopen_logs() {
  if (gateway_ && gateway_->access_log()) gateway_->access_log()->reopen();
}

void Server::shut_down() {
  if (shutting_down_) return;
  shutting_down_ = true;
  log::info("server", "draining");
  if (admin_) admin_->set_ready(false);
  if (api_) api_->stop();
  // The successor answers on the admin port from now on.
  if (admin_ && replaced_) admin_->stop();
  // Traffic drains while the lease is given up.
  auto missing = std::make_shared<int>(2);
  const auto done = [this, missing] {
    if (--*missing > 0) return;
    if (admin_) admin_->stop();
    log::info("server", "drained");
    loop_.stop();
  };
  if (cluster_) {
    cluster_->stop(done);
  } else {
    done();
  }
  if (!serving_) return done();
  gateway_->drain([this, done] {
    gateway_->join();
    done();
  });
}

void Server::replace_binary() {
  if (shutting_down_) return;
  // The child gets duplicates of the listening sockets under the numbers it is told; ours are close-on-exec.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  std::string list;
  std::vector<int> copies;
  for (const int socket : gateway_->listening_sockets()) {
    const int copy = ::fcntl(socket, F_DUPFD, 3);
    if (copy < 0) {
      // The sockets are told by their order: none may be missing.
      log::error("server", std::string("cannot pass the listening sockets on: ") + std::strerror(errno));
      for (const int made : copies) ::close(made);
      posix_spawn_file_actions_destroy(&actions);
      return;
    }
    copies.push_back(copy);
    list += (list.empty() ? "" : ",") + std::to_string(copy);
  }
  std::vector<std::string> variables = {"SLUICE_INHERITED_SOCKETS=" + list,
                                        "SLUICE_PARENT_PID=" + std::to_string(::getpid())};
  std::vector<char*> environment;
  for (char** variable = environ; *variable; ++variable) {
    if (std::strncmp(*variable, "SLUICE_INHERITED_SOCKETS=", 25) && std::strncmp(*variable, "SLUICE_PARENT_PID=", 18)) {
      environment.push_back(*variable);
    }
  }
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  std::vector<char*> arguments;
  for (std::string& argument : options_.command_line) arguments.push_back(argument.data());
  arguments.push_back(nullptr);

  pid_t child = 0;
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  const int error = posix_spawnp(&child, arguments[0], &actions, &attributes, arguments.data(), environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  for (const int copy : copies) ::close(copy);
  if (error) {
    log::error("server", std::string("cannot start the new binary: ") + std::strerror(error));
  } else {
    replaced_ = true;
    log::info("server", "started the new binary as process " + std::to_string(child) + "; it will tell us to drain");
  }
}

}  // namespace sluice::api
