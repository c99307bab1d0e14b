#include <CLI/CLI.hpp>

#include "cli/commands.h"

int main(int argc, char** argv) {
  CLI::App app("Sluice: an AI-native API gateway that reads Kubernetes and Higress configuration.", "sluice");
  app.set_version_flag("--version", std::string("sluice ") + SLUICE_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(38);
  int status = 0;
  sluice::cli::add_serve(app, argc, argv, &status);
  sluice::cli::add_check(app, &status);
  sluice::cli::add_explain(app, &status);
  sluice::cli::add_migrate(app, &status);
  CLI11_PARSE(app, argc, argv);
  return status;
}
