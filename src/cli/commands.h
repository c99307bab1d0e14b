#pragma once
// The subcommands of the binary. Each registers its flags and returns its exit status through `status` when it is run.

namespace CLI {
class App;
}

namespace sluice::cli {

void add_serve(CLI::App& app, int argc, char** argv, int* status);
void add_check(CLI::App& app, int* status);
void add_explain(CLI::App& app, int* status);
void add_migrate(CLI::App& app, int* status);

}  // namespace sluice::cli
