#include "source/kube/cluster.h"

namespace sluice::source::kube {

Cluster::Cluster(event::Loop& loop, net::DnsResolver& resolver, ClusterOptions options, Consumer& consumer)
    : consumer_(consumer),
      write_(options.write),
      client_(loop, resolver, std::move(options.access), options.user_agent),
      source_(loop, client_, options.source, *this),
      election_(loop, client_, options.source.system_namespace, kLeaseName, options.identity,
                [this] { on_leader_change(); }),
      status_(loop, client_, source_, std::move(options.publish_addresses)),
      events_(loop, client_, source_, options.identity) {}

Cluster::~Cluster() = default;

void Cluster::start() { source_.start(); }

void Cluster::stop(std::function<void()> done) {
  source_.save_now();
  election_.release(std::move(done));
}

void Cluster::report(const resource::Diagnostics& diagnostics) { events_.record(diagnostics); }

void Cluster::on_kube_update(std::vector<resource::ParsedFile> changed, const std::vector<std::string>& removed) {
  consumer_.on_cluster_update(std::move(changed), removed);
}

void Cluster::on_kube_status_input() {
  // A replica that does not know the cluster has nothing to write.
  if (write_ && !election_started_) {
    election_started_ = true;
    election_.start();
  }
  status_.update();
}

void Cluster::on_leader_change() {
  status_.set_active(election_.leader());
  events_.set_active(election_.leader());
  if (election_.leader()) consumer_.on_cluster_leading();
}

std::string Cluster::metrics() const {
  std::string out;
  const auto family = [&](const char* name, const char* type, const char* help, auto value) {
    out += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
    for (const Reflector* reflector : source_.reflectors()) {
      out += std::string(name) + "{kind=\"" + reflector->api().name + "\",namespace=\"" + reflector->ns() + "\"} " +
             std::to_string(value(*reflector)) + "\n";
    }
  };
  const auto single = [&](const char* name, const char* type, const char* help, uint64_t value) {
    out += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n" + name + " " +
           std::to_string(value) + "\n";
  };
  family("sluice_kubernetes_synced", "gauge", "1 while the kind is being watched after a complete list.",
         [](const Reflector& r) { return r.settled() && r.state() == Reflector::State::kWatching ? 1 : 0; });
  family("sluice_kubernetes_objects", "gauge", "Objects of the kind in the API server.",
         [](const Reflector& r) { return r.object_count(); });
  family("sluice_kubernetes_events_total", "counter", "Watch events received.",
         [](const Reflector& r) { return r.statistics().events; });
  family("sluice_kubernetes_lists_total", "counter", "Lists begun.",
         [](const Reflector& r) { return r.statistics().lists; });
  family("sluice_kubernetes_relists_total", "counter", "Lists because a watch could not be resumed.",
         [](const Reflector& r) { return r.statistics().relists; });
  family("sluice_kubernetes_errors_total", "counter", "Failed lists and watches.",
         [](const Reflector& r) { return r.statistics().errors; });
  single("sluice_kubernetes_leader", "gauge", "1 if this replica writes status and Events.", election_.leader());
  single("sluice_kubernetes_from_disk", "gauge", "1 while the last known state on disk is served.",
         source_.from_disk());
  single("sluice_kubernetes_status_writes_total", "counter", "Ingress statuses written.", status_.written());
  single("sluice_kubernetes_status_failures_total", "counter", "Ingress statuses that could not be written.",
         status_.failures());
  single("sluice_kubernetes_recorded_events_total", "counter", "Events recorded on objects.", events_.recorded());
  single("sluice_kubernetes_dropped_events_total", "counter", "Events lost or above the rate limit.",
         events_.dropped());
  return out;
}

std::string Cluster::to_json() const {
  std::string out = "{\"server\":";
  resource::write_json_string(client_.access().authority(), out);
  out += std::string(",\"ready\":") + (source_.ready() ? "true" : "false");
  out += std::string(",\"fromDisk\":") + (source_.from_disk() ? "true" : "false");
  out += std::string(",\"leader\":") + (election_.leader() ? "true" : "false") + ",\"identity\":";
  resource::write_json_string(election_.identity(), out);
  out += ",\"leaseHolder\":";
  resource::write_json_string(election_.holder(), out);
  out += ",\"kinds\":[";
  bool first = true;
  for (const Reflector* reflector : source_.reflectors()) {
    const Reflector::Statistics& statistics = reflector->statistics();
    out += first ? "{\"kind\":" : ",{\"kind\":";
    first = false;
    resource::write_json_string(reflector->api().name, out);
    out += ",\"namespace\":";
    resource::write_json_string(reflector->ns(), out);
    out += std::string(",\"state\":\"") + name_of(reflector->state()) + "\",\"resourceVersion\":";
    resource::write_json_string(reflector->resource_version(), out);
    out += ",\"objects\":" + std::to_string(reflector->object_count());
    out += ",\"lists\":" + std::to_string(statistics.lists) + ",\"relists\":" + std::to_string(statistics.relists);
    out += ",\"watches\":" + std::to_string(statistics.watches) + ",\"events\":" + std::to_string(statistics.events);
    out += ",\"errors\":" + std::to_string(statistics.errors) + ",\"lastError\":";
    resource::write_json_string(statistics.last_error, out);
    out += "}";
  }
  return out + "]}";
}

}  // namespace sluice::source::kube
