#include "cli/load.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "event/loop.h"
#include "net/dns.h"
#include "proxy/access_log.h"
#include "source/directory.h"
#include "source/files.h"
#include "source/kube/kube_source.h"

namespace sluice::cli {
namespace {

constexpr uint64_t kListTimeoutMs = 60'000;

compile::Options compile_options(const LoadFlags& flags) {
  compile::Options options;
  options.ingress_class = flags.ingress_class;
  options.system_namespace = flags.system_namespace;
  options.as_nginx = flags.compat == "nginx";
  options.check_access_log_format = proxy::AccessLogFormat::check;
  return options;
}

// Keeps the first, complete picture.
class FirstPicture final : public source::kube::KubeSource::Consumer {
 public:
  explicit FirstPicture(event::Loop& loop) : loop_(loop) {}
  bool complete = false;
  std::vector<resource::ParsedFile> files;

 private:
  void on_kube_update(std::vector<resource::ParsedFile> changed, const std::vector<std::string>&) override {
    if (std::exchange(complete, true)) return;
    files = std::move(changed);
    loop_.stop();
  }
  void on_kube_status_input() override {}

  event::Loop& loop_;
};

}  // namespace

void add_load_options(CLI::App* command, LoadFlags& flags) {
  command->add_option("--ingress-class", flags.ingress_class, "Ingress class to serve; empty: all")
      ->envname("SLUICE_INGRESS_CLASS")
      ->capture_default_str();
  command->add_option("--system-namespace", flags.system_namespace, "Namespace of the system objects")
      ->envname("SLUICE_SYSTEM_NAMESPACE")
      ->capture_default_str();
  command
      ->add_option("--compat", flags.compat,
                   "Whose meaning holds where nginx and Higress differ, unless higress-config or the Ingress says")
      ->envname("SLUICE_COMPAT")
      ->check(CLI::IsMember({"higress", "nginx"}))
      ->capture_default_str();
}

std::unique_ptr<compile::ControlPlane> load_directory(const LoadFlags& flags, resource::Diagnostics* diagnostics,
                                                      size_t* objects) {
  Result<std::unique_ptr<source::Directory>> directory = source::Directory::open(flags.directory);
  if (!directory.ok()) {
    std::fprintf(stderr, "sluice: %s: %s\n", flags.directory.c_str(), directory.error().message.c_str());
    return nullptr;
  }
  auto control = std::make_unique<compile::ControlPlane>(compile_options(flags));
  compile::Update update = control->apply(source::load_files((*directory)->files(), 2), {});
  *diagnostics = (*directory)->problems();
  const resource::Diagnostics found = control->diagnostics();
  diagnostics->insert(diagnostics->end(), found.begin(), found.end());
  *objects = update.changed_objects;
  return control;
}

std::unique_ptr<compile::ControlPlane> load_cluster(const LoadFlags& flags, const std::string& kubeconfig,
                                                    const std::string& context) {
  Result<source::kube::ClusterAccess> access = source::kube::load_kubeconfig(kubeconfig, context);
  if (!access.ok()) {
    std::fprintf(stderr, "sluice: --kubeconfig %s: %s\n", kubeconfig.c_str(), access.error().message.c_str());
    return nullptr;
  }
  const std::string authority = access->authority();
  event::Loop loop;
  auto resolver = net::DnsResolver::create(loop, {});
  if (!resolver.ok()) {
    std::fprintf(stderr, "sluice: DNS: %s\n", resolver.error().message.c_str());
    return nullptr;
  }
  source::kube::ApiClient client(loop, **resolver, std::move(*access), "sluice-migrate");
  source::kube::KubeOptions options;
  options.system_namespace = flags.system_namespace;
  FirstPicture picture(loop);
  source::kube::KubeSource source(loop, client, options, picture);
  source.start();
  const uint64_t end = loop.now_ms() + kListTimeoutMs;
  while (!picture.complete && loop.now_ms() < end) loop.run_once(100);
  if (!picture.complete) {
    std::fprintf(stderr, "sluice: %s has not told all of its objects within %llu s\n", authority.c_str(),
                 static_cast<unsigned long long>(kListTimeoutMs / 1000));
    return nullptr;
  }
  auto control = std::make_unique<compile::ControlPlane>(compile_options(flags));
  control->apply(std::move(picture.files), {});
  return control;
}

}  // namespace sluice::cli
