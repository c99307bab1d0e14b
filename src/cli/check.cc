#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/arena.h"
#include "cli/commands.h"
#include "cli/load.h"
#include "compile/explain.h"
#include "proxy/forwarding.h"

// `check` and `explain`: the control plane without a data plane.

namespace sluice::cli {
namespace {

int check(const LoadFlags& flags) {
  resource::Diagnostics diagnostics;
  size_t objects = 0;
  if (!load_directory(flags, &diagnostics, &objects)) return 2;
  for (const resource::Diagnostic& diagnostic : diagnostics) std::printf("%s\n", diagnostic.render().c_str());
  const size_t errors = resource::count_errors(diagnostics);
  std::printf("%zu objects, %zu errors\n", objects, errors);
  return errors ? 1 : 0;
}

struct ExplainFlags : LoadFlags {
  std::string request;
  std::vector<std::string> headers;
  std::string output = "text";
};

int explain(const ExplainFlags& flags) {
  Result<compile::ExplainRequest> request = compile::ExplainRequest::parse(flags.request, flags.headers);
  if (!request.ok()) {
    std::fprintf(stderr, "sluice: --request: %s\n", request.error().message.c_str());
    return 2;
  }
  resource::Diagnostics diagnostics;
  size_t objects = 0;
  const auto control = load_directory(flags, &diagnostics, &objects);
  if (!control) return 2;
  for (const resource::Diagnostic& diagnostic : diagnostics) {
    if (diagnostic.severity == resource::Severity::kError) std::fprintf(stderr, "%s\n", diagnostic.render().c_str());
  }
  const auto snapshot = control->snapshot();
  Arena arena;
  const std::string_view path = proxy::normalize_path(request->target, arena, snapshot->globals->path_normalization);
  const compile::Explanation explanation = compile::explain(*snapshot, *request, path);
  std::printf("%s\n", flags.output == "json" ? explanation.json.c_str() : explanation.text.c_str());
  return explanation.routed ? 0 : 1;
}

}  // namespace

void add_check(CLI::App& app, int* status) {
  CLI::App* command =
      app.add_subcommand("check", "Validate a directory of manifests. Exit status: 0 good, 1 errors, 2 unreadable.");
  auto flags = std::make_shared<LoadFlags>();
  command->add_option("directory", flags->directory, "Directory (or file) of manifests")->required();
  add_load_options(command, *flags);
  command->callback([flags, status] { *status = check(*flags); });
}

void add_explain(CLI::App& app, int* status) {
  CLI::App* command = app.add_subcommand(
      "explain",
      "Tell which route a request takes, why the others do not, and where it goes. Exit status: 0 routed, 1 not.");
  auto flags = std::make_shared<ExplainFlags>();
  command->add_option("--config", flags->directory, "Directory (or file) of manifests")
      ->envname("SLUICE_CONFIG")
      ->required();
  command->add_option("--request", flags->request, "e.g. 'GET https://host/path?query'")->required();
  command->add_option("-H,--header", flags->headers, "Header field 'Name: value'; repeatable");
  command->add_option("-o,--output", flags->output, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  add_load_options(command, *flags);
  command->callback([flags, status] { *status = explain(*flags); });
}

}  // namespace sluice::cli
