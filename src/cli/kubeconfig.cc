#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "api/kube/token.h"
#include "cli/commands.h"

// `kubeconfig`: what kubectl needs to find the API of a running gateway.

namespace sluice::cli {
namespace {

struct KubeconfigFlags {
  int api_port = 15080;
  std::string server;
  std::string token_file;
  std::string state_dir;
  std::string ns = "default";
  std::string output;
};

int kubeconfig(const KubeconfigFlags& flags) {
  const std::string file = flags.token_file.empty() ? api::kube::default_token_file(flags.state_dir) : flags.token_file;
  const Result<std::string> token = api::kube::load_token(file);
  if (!token.ok()) {
    std::fprintf(stderr, "sluice: %s (a gateway that runs with --api-port makes it)\n", token.error().message.c_str());
    return 1;
  }
  const Result<std::string> certificate = api::kube::load_certificate(file);
  if (!certificate.ok()) {
    std::fprintf(stderr, "sluice: %s\n", certificate.error().message.c_str());
    return 1;
  }
  const std::string server =
      flags.server.empty() ? "https://127.0.0.1:" + std::to_string(flags.api_port) : flags.server;
  const std::string text = api::kube::kubeconfig_text(server, *certificate, *token, flags.ns);
  if (flags.output.empty()) {
    std::fputs(text.c_str(), stdout);
    return 0;
  }
  const Status written = api::kube::write_private_file(flags.output, text);
  if (!written.ok()) std::fprintf(stderr, "sluice: %s\n", written.error().message.c_str());
  return written.ok() ? 0 : 1;
}

}  // namespace

void add_kubeconfig(CLI::App& app, int* status) {
  CLI::App* command = app.add_subcommand(
      "kubeconfig", "Print a kubeconfig for the Kubernetes-style API of a gateway (serve --config … --api-port …).");
  auto flags = std::make_shared<KubeconfigFlags>();
  command->add_option("--api-port", flags->api_port, "Port of the API on 127.0.0.1")
      ->envname("SLUICE_API_PORT")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  command->add_option("--server", flags->server, "URL of the API instead, if it is reached through a tunnel");
  command->add_option("--api-token-file", flags->token_file, "File with the token; default: as for serve")
      ->envname("SLUICE_API_TOKEN_FILE");
  command->add_option("--state-dir", flags->state_dir, "Directory with the token, as for serve")
      ->envname("SLUICE_STATE_DIR");
  command->add_option("-n,--namespace", flags->ns, "Namespace that kubectl uses unless told otherwise")
      ->capture_default_str();
  command->add_option("-o,--output", flags->output, "Write to this file (mode 0600) instead");
  command->callback([flags, status] { *status = kubeconfig(*flags); });
}

}  // namespace sluice::cli
