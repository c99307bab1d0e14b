#pragma once
// The admin port: health, metrics, dumps, log level, explain. Read-only but for the log level; meant for a private
// address.
//
//   GET  /ready  /healthz          200 once traffic is served, 503 while draining
//   GET  /stats/prometheus         metrics
//   GET  /config_dump              the snapshot in force; secrets are not in it
//   GET  /objects                  every manifest object with what is wrong with it
//   GET  /sources                  how far the watches of an API server are
//   GET  /clusters                 endpoints with health and load
//   GET  /memory                   of the process and the I/O blocks
//   GET  /explain?request=GET%20http://host/path&header=name:%20value[&format=json]
//   GET  /logging                  the log level;  PUT /logging?level=debug  sets it
//   GET  /server_info              version, uptime, counts

#include <memory>
#include <string>

#include "api/http_service.h"
#include "compile/control_plane.h"
#include "proxy/gateway.h"
#include "source/kube/cluster.h"

namespace sluice::api {

class Admin {
 public:
  Admin(event::Loop& loop, const compile::ControlPlane& control, proxy::Gateway& gateway, std::string version);

  Status listen(const net::Address& address) { return service_.listen(address); }
  void set_ready(bool ready) { ready_ = ready; }
  // The cluster that is watched; it must outlive this.
  void set_cluster(const source::kube::Cluster* cluster) { cluster_ = cluster; }
  void stop() { service_.stop(); }

 private:
  void handle(const ServiceRequest& request, HttpService::Respond respond);
  ServiceResponse ready() const;
  ServiceResponse objects() const;
  ServiceResponse explain(const ServiceRequest& request) const;
  ServiceResponse logging(const ServiceRequest& request) const;
  ServiceResponse server_info() const;
  void metrics(HttpService::Respond respond) const;
  void clusters(HttpService::Respond respond) const;
  void memory(HttpService::Respond respond) const;

  event::Loop& loop_;
  const compile::ControlPlane& control_;
  proxy::Gateway& gateway_;
  const std::string version_;
  const uint64_t started_ms_;
  const source::kube::Cluster* cluster_ = nullptr;
  bool ready_ = false;
  HttpService service_;
};

}  // namespace sluice::api
