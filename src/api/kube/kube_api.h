#pragma once
// KubeApi: a Kubernetes-style API over the configuration directory, so that kubectl and client libraries work on a
// gateway without a cluster. HTTPS with a certificate of its own making; every request but health checks needs the
// token.
//
//   HttpService → KubeApi: authentication, routing, get and list
//     discovery.h                what there is
//     watch.h                    watches
//     editor.h → file_writer.h   create, update, patch, delete
//     object_store.h             what is read from
//
// Everything happens on the control loop, but for the writing of files.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/http_service.h"
#include "api/kube/editor.h"
#include "api/kube/object_store.h"
#include "api/kube/watch.h"
#include "base/random.h"
#include "event/loop.h"
#include "net/address.h"
#include "resource/diagnostic.h"

namespace sluice::api::kube {

struct KubeApiOptions {
  net::Address address;
  std::string token;
  std::string certificate_pem;  // with the private key
  std::string root;             // the directory, or the one file, as it begins the paths of its files
  std::string system_namespace;
  std::string version;                              // of Sluice
  std::function<resource::Diagnostics()> findings;  // what is wrong with objects now; told as Events
};

class KubeApi {
 public:
  static constexpr size_t kMaxBody = 3 << 20;
  static constexpr size_t kMaxListBytes = 256u << 20;

  // `host` outlives this.
  KubeApi(event::Loop& loop, KubeApiOptions options, Editor::Host& host);

  // Reads the files and listens.
  Status start(const std::vector<std::string>& files);
  // Files of the directory have changed or are gone.
  void on_files_changed(const std::vector<std::string>& paths) { editor_.reload(paths); }
  void stop();

 private:
  struct Target;

  void handle(const ServiceRequest& request, HttpService::Respond respond);
  bool is_authentic(const ServiceRequest& request) const;
  void review(const ServiceRequest& request, const HttpService::Respond& respond) const;
  void serve(const ServiceRequest& request, const Target& target, HttpService::Respond respond);
  ServiceResponse get(const ServiceRequest& request, const ObjectKey& key) const;
  ServiceResponse list(const ServiceRequest& request, const Target& target);
  ServiceResponse watch(const ServiceRequest& request, Selection selection);
  void change(const ServiceRequest& request, const Target& target, HttpService::Respond respond);
  void remove(const ServiceRequest& request, const Target& target, HttpService::Respond respond);
  void remove_all(std::vector<ObjectKey> keys, bool dry_run, std::function<void(std::optional<ApiError>)> done);
  ServiceResponse object_response(const ServiceRequest& request, const KindInfo& info, int status,
                                  std::string object) const;
  int64_t now() const { return static_cast<int64_t>(loop_.wall_us() / 1'000'000); }

  event::Loop& loop_;
  const KubeApiOptions options_;
  ObjectStore store_;
  Watches watches_;
  Editor editor_;
  Random random_;
  HttpService service_;
};

}  // namespace sluice::api::kube
