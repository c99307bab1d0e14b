#include "compile/migrate.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/load.h"

namespace sluice::cli {
namespace {

struct MigrateFlags : LoadFlags {
  std::string kubeconfig, context;
  std::string output = "text";
  bool strict = false;
};

int migrate(const MigrateFlags& flags, compile::MigrationSource source) {
  std::unique_ptr<compile::ControlPlane> control;
  if (!flags.directory.empty()) {
    resource::Diagnostics diagnostics;
    size_t objects = 0;
    control = load_directory(flags, &diagnostics, &objects);
  } else if (!flags.kubeconfig.empty()) {
    control = load_cluster(flags, flags.kubeconfig, flags.context);
  } else {
    std::fprintf(stderr, "sluice: where are the objects? Give a directory or --kubeconfig\n");
  }
  if (!control) return 2;
  const compile::Migration migration = compile::assess_migration(*control, source);
  std::printf("%s", (flags.output == "json" ? migration.to_json() + "\n" : migration.to_text()).c_str());
  using Verdict = compile::MigrationFinding::Verdict;
  return migration.count(Verdict::kUnsupported) || (flags.strict && migration.count(Verdict::kChanges)) ? 1 : 0;
}

void add_source(CLI::App* parent, const char* name, const char* ingress_class, compile::MigrationSource source,
                int* status) {
  CLI::App* command = parent->add_subcommand(name, std::string("Objects written for ") + name);
  auto flags = std::make_shared<MigrateFlags>();
  flags->ingress_class = ingress_class;
  command->add_option("directory", flags->directory, "Directory (or file) of manifests");
  CLI::Option* kubeconfig =
      command->add_option("--kubeconfig", flags->kubeconfig, "Read the cluster that this file names instead");
  command->add_option("--kube-context", flags->context, "Context of the kubeconfig; default: its current one")
      ->needs(kubeconfig);
  command->add_option("-o,--output", flags->output, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->add_flag("--strict", flags->strict, "Status 1 also if something only changes");
  add_load_options(command, *flags);
  command->callback([flags, source, status] { *status = migrate(*flags, source); });
}

}  // namespace

void add_migrate(CLI::App& app, int* status) {
  CLI::App* command = app.add_subcommand(
      "migrate",
      "Tell what becomes of objects that were written for another gateway: what works as it is, what changes, what is "
      "unsupported and what to do. Exit status: 0 nothing is unsupported, 1 something is, 2 unreadable.");
  command->require_subcommand(1);
  add_source(command, "ingress-nginx", "nginx", compile::MigrationSource::kIngressNginx, status);
  add_source(command, "higress", "higress", compile::MigrationSource::kHigress, status);
}

}  // namespace sluice::cli
