#include "proxy/gateway.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>

#include "proxy/worker.h"

namespace sluice::proxy {

Gateway::Gateway(event::Loop& control_loop, Options options, std::unique_ptr<AccessLog> access_log)
    : control_loop_(control_loop), options_(std::move(options)), access_log_(std::move(access_log)) {}

Gateway::~Gateway() = default;

Result<int> Gateway::bind(const ListenerOptions& listener) {
  const auto failed = [&](const char* what) {
    return Error{std::string("cannot listen on ") + listener.address.to_string() + ": " + what + ": " +
                 std::strerror(errno)};
  };
  sockaddr_storage storage;
  const socklen_t length = listener.address.to_sockaddr(&storage);
  if (!length) return Error{"cannot listen on " + listener.address.to_string() + ": unusable address"};
  const int fd = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return failed("socket");
  const int on = 1;
  const int off = 0;
  if (listener.address.is_unix()) {
    // A socket left behind by a process that is gone.
    const std::string path(listener.address.path());
    struct stat status;
    if (!path.empty() && path[0] != '\0' && ::stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
      const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const bool alive = ::connect(probe, reinterpret_cast<sockaddr*>(&storage), length) == 0;
      ::close(probe);
      if (!alive) ::unlink(path.c_str());
    }
  } else {
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (options_.workers > 1) ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // accepted sockets inherit it
    if (listener.address.is_ipv6()) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  }
  if (::bind(fd, reinterpret_cast<sockaddr*>(&storage), length) != 0) {
    const Error error = failed("bind");
    ::close(fd);
    return error;
  }
  if (::listen(fd, 4096) != 0) {
    const Error error = failed("listen");
    ::close(fd);
    return error;
  }
  return fd;
}

Status Gateway::start(const std::vector<int>& inherited) {
  for (uint32_t i = 0; i < options_.workers; ++i) workers_.push_back(std::make_unique<Worker>(*this, i));
  size_t next = 0;
  for (const ListenerOptions& listener : options_.listeners) {
    int shared = -1;  // a Unix socket can't be bound twice: the workers share one
    for (const auto& worker : workers_) {
      int fd;
      if (next < inherited.size()) {
        fd = inherited[next];
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
      } else if (shared >= 0) {
        fd = ::fcntl(shared, F_DUPFD_CLOEXEC, 3);
      } else {
        Result<int> bound = bind(listener);
        if (!bound.ok()) return bound.error();
        fd = *bound;
        if (listener.address.is_unix()) shared = fd;
      }
      ++next;
      sockets_.push_back(fd);
      worker->add_listener(fd, listener);
    }
  }
  // Sockets of workers that we do not have would only swallow connections.
  for (; next < inherited.size(); ++next) ::close(inherited[next]);
  for (const auto& worker : workers_) worker->start();
  return {};
}

std::vector<int> Gateway::listening_sockets() const { return sockets_; }

void Gateway::publish(std::shared_ptr<const config::Snapshot> snapshot) {
  const uint64_t version = snapshot->version;
  {
    std::lock_guard lock(snapshot_mutex_);
    snapshot_ = std::move(snapshot);
  }
  version_.store(version, std::memory_order_release);
}

std::shared_ptr<const config::Snapshot> Gateway::current() const {
  std::lock_guard lock(snapshot_mutex_);
  return snapshot_;
}

void Gateway::collect(std::function<void(Report)> done) {
  struct Gathering {
    Report report;
    std::map<std::pair<std::string, std::string>, EndpointReport> endpoints;
    size_t missing;
    std::function<void(Report)> done;
  };
  auto gathering = std::make_shared<Gathering>();
  gathering->missing = workers_.size();
  gathering->done = std::move(done);
  // Before the start there is nothing to gather.
  if (workers_.empty()) return control_loop_.post([gathering] { gathering->done(std::move(gathering->report)); });
  for (const auto& owned : workers_) {
    Worker* worker = owned.get();
    worker->loop().post([this, worker, gathering] {
      auto stats = std::make_shared<WorkerStats>();
      stats->merge(worker->stats());
      const BlockPoolStats blocks = block_pool_stats();
      stats->block_bytes_in_use = blocks.in_use_bytes;
      stats->block_bytes_free = blocks.free_bytes;
      std::vector<EndpointReport> endpoints = worker->endpoint_reports();
      control_loop_.post([gathering, stats = std::move(stats), endpoints = std::move(endpoints)] {
        gathering->report.stats.merge(*stats);
        for (const EndpointReport& endpoint : endpoints) {
          EndpointReport& total = gathering->endpoints[{endpoint.cluster, endpoint.address}];
          total.cluster = endpoint.cluster;
          total.address = endpoint.address;
          total.weight = endpoint.weight;
          total.healthy = endpoint.healthy;
          total.ejected_workers += endpoint.ejected_workers;
          total.active_requests += endpoint.active_requests;
          total.connections += endpoint.connections;
          total.requests += endpoint.requests;
          total.failures += endpoint.failures;
          total.connect_failures += endpoint.connect_failures;
        }
        if (--gathering->missing > 0) return;
        for (auto& [key, endpoint] : gathering->endpoints) {
          gathering->report.endpoints.push_back(std::move(endpoint));
        }
        gathering->done(std::move(gathering->report));
      });
    });
  }
}

void Gateway::on_ejected(Worker& worker, const upstream::Ejection& ejection) {
  const uint32_t* slot = snapshot_->cluster_slots.find(ejection.cluster);
  const config::Cluster* cluster = slot ? snapshot_->clusters.get(*slot) : nullptr;
  if (!cluster) return;
  std::set<std::string> endpoints;
  for (const config::Endpoint& endpoint : cluster->endpoints->endpoints) endpoints.insert(endpoint.address.to_string());
  std::erase_if(ejected_, [&](const auto& entry) {
    const auto& [name, until] = entry;
    return until <= control_loop_.now_ms() || (name.first == ejection.cluster && !endpoints.contains(name.second));
  });
  const auto of_cluster = [&](const auto& entry) { return entry.first.first == ejection.cluster; };
  const auto count = static_cast<size_t>(std::ranges::count_if(ejected_, of_cluster));

  upstream::Ejection verdict = ejection;
  const std::pair key{ejection.cluster, ejection.endpoint};
  if (!ejected_.contains(key) && count >= upstream::max_ejected(*cluster)) {
    verdict.until_ms = 0;
    worker.loop().post([&worker, verdict] { worker.apply(verdict); });
    return;
  }
  uint64_t& until = ejected_[key];
  verdict.until_ms = until = std::max(until, ejection.until_ms);
  for (const auto& owned : workers_) {
    owned->loop().post([told = owned.get(), verdict] { told->apply(verdict); });
  }
}

void Gateway::drain(std::function<void()> done) {
  if (draining_) return;
  draining_ = true;
  auto missing = std::make_shared<size_t>(workers_.size());
  auto shared_done = std::make_shared<std::function<void()>>(std::move(done));
  for (const auto& owned : workers_) {
    Worker* worker = owned.get();
    worker->loop().post([this, worker, missing, shared_done] {
      worker->drain(options_.drain_deadline_ms, [this, missing, shared_done] {
        control_loop_.post([missing, shared_done] {
          if (--*missing == 0) (*shared_done)();
        });
      });
    });
  }
}

void Gateway::join() {
  for (const auto& worker : workers_) worker->join();
  if (access_log_) access_log_->drain();
}

}  // namespace sluice::proxy
