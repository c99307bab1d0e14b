#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <memory>
#include <random>
#include <sstream>
#include <thread>

#include "api/kube/token.h"
#include "api/server.h"
#include "base/log.h"
#include "cli/commands.h"
#include "compile/ingress_routes.h"
#include "source/kube/access.h"

namespace sluice::cli {
namespace {

struct ServeFlags {
  std::string config;
  std::string kubeconfig;
  std::string kube_context;
  bool in_cluster = false;
  std::string watch_namespace;
  std::string state_dir;
  std::string publish_service;
  std::string publish_address;
  bool update_status = true;
  std::string bind = "0.0.0.0";
  int http_port = 8080;
  int https_port = 8443;
  int admin_port = 15020;
  std::string admin_bind = "127.0.0.1";
  int api_port = 0;
  std::string api_bind = "127.0.0.1";
  std::string api_token_file;
  std::string write_kubeconfig;
  std::vector<std::string> unix_sockets;
  uint32_t workers = 0;
  std::string access_log = "-";
  std::string access_log_format;
  std::string log_level = "info";
  std::string ingress_class = "higress";
  std::string compat = "higress";
  std::string system_namespace;  // empty: see resolve_system_namespace()
  std::vector<std::string> dns_servers;
  std::string server_header = "istio-envoy";
  bool proxy_protocol = false;
  bool demo = false;
  uint32_t trusted_hops = 0;
  uint32_t max_connections = 16000;
  uint64_t max_memory_mib = 0;
  uint64_t header_timeout_ms = 15000;
  uint32_t min_body_rate = 64;
  uint32_t body_rate_window_ms = 30000;
  uint32_t write_timeout_ms = 60000;
  uint64_t half_close_grace_ms = 5000;
  uint64_t drain_deadline_ms = 30000;
};

// Signals arrive on the control loop like everything else.
class Signals final : private event::IoHandler {
 public:
  Signals(event::Loop& loop, api::Server& server) : loop_(loop), server_(server) {}
  ~Signals() { ::close(fd_); }

  void start(const sigset_t& set) {
    fd_ = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    (void)loop_.add(fd_, this, EPOLLIN);
  }

 private:
  void on_io(uint32_t) override {
    signalfd_siginfo info;
    while (::read(fd_, &info, sizeof(info)) == sizeof(info)) {
      switch (info.ssi_signo) {
        case SIGTERM:
        case SIGINT:
          server_.shut_down();
          break;
        case SIGUSR1:
          server_.reopen_logs();
          break;
        case SIGUSR2:
          server_.replace_binary();
          break;
        default:
          break;
      }
    }
  }

  event::Loop& loop_;
  api::Server& server_;
  int fd_ = -1;
};

std::vector<int> inherited_sockets() {
  std::vector<int> sockets;
  const char* list = std::getenv("SLUICE_INHERITED_SOCKETS");
  if (!list) return sockets;
  std::istringstream stream(list);
  for (std::string item; std::getline(stream, item, ',');) sockets.push_back(std::atoi(item.c_str()));
  ::unsetenv("SLUICE_INHERITED_SOCKETS");
  return sockets;
}

Status fill_listeners(const ServeFlags& flags, proxy::Options* options) {
  const auto add = [&](const std::string& text, uint16_t port, bool tls) -> Status {
    const auto address = net::Address::parse(text, port);
    if (!address.ok()) return address.error();
    options->listeners.push_back({*address, tls, flags.proxy_protocol});
    return {};
  };
  std::istringstream stream(flags.bind);
  for (std::string bind; std::getline(stream, bind, ',');) {
    if (const auto address = net::Address::parse(bind, 0); !address.ok()) {
      return Error{"--bind: " + address.error().message};
    }
    if (flags.http_port) {
      if (Status added = add(bind, static_cast<uint16_t>(flags.http_port), false); !added.ok()) return added;
    }
    if (flags.https_port) {
      if (Status added = add(bind, static_cast<uint16_t>(flags.https_port), true); !added.ok()) return added;
    }
  }
  for (const std::string& path : flags.unix_sockets) {
    if (Status added = add("unix:" + path, 0, false); !added.ok()) return added;
  }
  if (options->listeners.empty()) return Error{"there is nothing to listen on: --http-port and --https-port are 0"};
  return {};
}

// A Pod's own namespace, else Higress's default.
std::string resolve_system_namespace(const ServeFlags& flags) {
  if (!flags.system_namespace.empty()) return flags.system_namespace;
  const char* own = flags.config.empty() ? std::getenv("POD_NAMESPACE") : nullptr;
  return own && *own ? own : "higress-system";
}

// Differs between replicas, and tells a human which one it is.
std::string identity() {
  char host[256] = "sluice";
  if (const char* pod = std::getenv("POD_NAME"); pod && *pod) {
    std::snprintf(host, sizeof(host), "%s", pod);
  } else {
    ::gethostname(host, sizeof(host) - 1);
  }
  char suffix[16];
  std::snprintf(suffix, sizeof(suffix), "_%08x", std::random_device()());
  return std::string(host) + suffix;
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  std::istringstream stream(list);
  for (std::string item; std::getline(stream, item, ',');) {
    if (!item.empty()) out.push_back(item);
  }
  return out;
}

Result<source::kube::ClusterOptions> cluster_options(const ServeFlags& flags, const compile::Options& compile) {
  source::kube::ClusterOptions out;
  Result<source::kube::ClusterAccess> access =
      flags.in_cluster ? source::kube::in_cluster_access()
                       : source::kube::load_kubeconfig(flags.kubeconfig, flags.kube_context);
  if (!access.ok()) {
    return Error{(flags.in_cluster ? "--in-cluster: " : "--kubeconfig " + flags.kubeconfig + ": ") +
                 access.error().message};
  }
  out.access = std::move(*access);
  out.source.watch_namespace = flags.watch_namespace;
  out.source.system_namespace = compile.system_namespace;
  out.source.state_directory = flags.state_dir;
  out.source.publish_service = flags.publish_service;
  out.source.accepts = [compile](const resource::Ingress& ingress) { return compile::is_accepted(ingress, compile); };
  if (!flags.publish_service.empty() && flags.publish_service.find('/') == std::string::npos) {
    return Error{"--publish-service: \"" + flags.publish_service + "\" should be namespace/name"};
  }
  out.write = flags.update_status;
  out.publish_addresses = split(flags.publish_address);
  out.identity = identity();
  out.user_agent = std::string("sluice/") + SLUICE_VERSION;
  return out;
}

Result<api::kube::KubeApiOptions> api_options(const ServeFlags& flags, const std::string& system_namespace) {
  if (flags.config.empty()) return Error{"--api-port: is for --config; a cluster has an API of its own"};
  api::kube::KubeApiOptions out;
  Result<net::Address> address = net::Address::parse(flags.api_bind, static_cast<uint16_t>(flags.api_port));
  if (!address.ok()) return Error{"--api-bind: " + address.error().message};
  out.address = *address;
  const std::string file =
      flags.api_token_file.empty() ? api::kube::default_token_file(flags.state_dir) : flags.api_token_file;
  Result<std::string> token = api::kube::load_or_create_token(file);
  if (!token.ok()) return Error{"--api-token-file: " + token.error().message};
  out.token = std::move(*token);
  Result<std::string> certificate = api::kube::load_or_create_certificate(file);
  if (!certificate.ok()) return Error{"--api-port: " + certificate.error().message};
  out.certificate_pem = std::move(*certificate);
  out.root = flags.config;
  while (out.root.size() > 1 && out.root.ends_with('/')) out.root.pop_back();
  out.system_namespace = system_namespace;
  out.version = SLUICE_VERSION;
  if (flags.write_kubeconfig.empty()) return out;
  const std::string reached = address->is_any() ? "127.0.0.1:" + std::to_string(flags.api_port) : address->to_string();
  const std::string text = api::kube::kubeconfig_text(
      "https://" + reached, api::kube::certificate_part(out.certificate_pem), out.token, "default");
  if (Status written = api::kube::write_private_file(flags.write_kubeconfig, text); !written.ok()) {
    return Error{"--write-kubeconfig: " + written.error().message};
  }
  return out;
}

int fail(const std::string& message) {
  std::fprintf(stderr, "sluice: %s\n", message.c_str());
  return 1;
}

int serve(const ServeFlags& flags, std::vector<std::string> command_line) {
  log::Level level;
  if (!log::parse_level(flags.log_level, &level)) {
    return fail("--log-level: \"" + flags.log_level + "\" is not one of debug, info, warning, error");
  }
  log::set_level(level);
  // As many descriptors as we may have.
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_IGN);
  sigset_t handled;
  sigemptyset(&handled);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2}) sigaddset(&handled, signal);
  ::pthread_sigmask(SIG_BLOCK, &handled, nullptr);

  api::ServerOptions options;
  options.config_directory = flags.config;
  options.command_line = std::move(command_line);
  options.version = SLUICE_VERSION;
  options.access_log = flags.access_log;
  options.access_log_format = flags.access_log_format;
  options.demo = flags.demo;
  options.compile.ingress_class = flags.ingress_class;
  options.compile.as_nginx = flags.compat == "nginx";
  options.compile.system_namespace = resolve_system_namespace(flags);
  if (flags.config.empty() && flags.kubeconfig.empty() && !flags.in_cluster) {
    return fail("where are the objects? Give --config, --kubeconfig or --in-cluster");
  }
  if (flags.config.empty()) {
    auto cluster = cluster_options(flags, options.compile);
    if (!cluster.ok()) return fail(cluster.error().message);
    options.cluster = std::move(*cluster);
  }
  options.inherited_sockets = inherited_sockets();
  if (const char* parent = std::getenv("SLUICE_PARENT_PID")) options.parent_pid = std::atoi(parent);
  ::unsetenv("SLUICE_PARENT_PID");
  for (const std::string& text : flags.dns_servers) {
    const auto address = net::Address::parse(text, 53);
    if (!address.ok()) return fail("--dns-server: " + address.error().message);
    options.dns_servers.push_back(*address);
  }
  if (flags.admin_port) {
    const auto admin = net::Address::parse(flags.admin_bind, static_cast<uint16_t>(flags.admin_port));
    if (!admin.ok()) return fail("--admin-bind: " + admin.error().message);
    options.admin = *admin;
  }
  if (flags.api_port) {
    auto api = api_options(flags, options.compile.system_namespace);
    if (!api.ok()) return fail(api.error().message);
    options.api = std::move(*api);
  }
  proxy::Options& proxy = options.proxy;
  if (Status listeners = fill_listeners(flags, &proxy); !listeners.ok()) return fail(listeners.error().message);
  proxy.workers = flags.workers ? flags.workers : std::max(1u, std::thread::hardware_concurrency());
  proxy.max_connections = flags.max_connections;
  proxy.max_memory_bytes = flags.max_memory_mib << 20;
  proxy.trusted_hops = flags.trusted_hops;
  proxy.server_header = flags.server_header;
  proxy.drain_deadline_ms = flags.drain_deadline_ms;
  proxy.http1.head_timeout_ms = flags.header_timeout_ms;
  proxy.http1.min_body_rate = proxy.http2.min_body_rate = flags.min_body_rate;
  proxy.http1.body_rate_window_ms = proxy.http2.body_rate_window_ms = flags.body_rate_window_ms;
  proxy.http1.write_timeout_ms = proxy.http2.write_timeout_ms = flags.write_timeout_ms;
  proxy.http1.half_close_grace_ms = flags.half_close_grace_ms;

  event::Loop loop;
  api::Server server(loop, std::move(options));
  Signals signals(loop, server);
  signals.start(handled);
  if (Status started = server.start(); !started.ok()) {
    // Threads may be running already: leave without unwinding them.
    fail(started.error().message);
    std::_Exit(1);
  }
  loop.run();
  // Everything is drained and flushed; taking the rest apart would only delay the end.
  std::_Exit(0);
}

}  // namespace

void add_serve(CLI::App& app, int argc, char** argv, int* status) {
  CLI::App* command = app.add_subcommand("serve", "Run the gateway on a directory of manifests or on a cluster.");
  auto flags = std::make_shared<ServeFlags>();
  const auto env = [](CLI::Option* option) {
    // --http-port → SLUICE_HTTP_PORT
    std::string name = "SLUICE_";
    for (const char c : option->get_lnames().front()) name += c == '-' ? '_' : static_cast<char>(std::toupper(c));
    option->envname(name);
    return option;
  };
  CLI::Option* config =
      env(command->add_option("--config", flags->config, "Directory (or file) of manifests, watched for changes"));
  CLI::Option* kubeconfig =
      env(command->add_option("--kubeconfig", flags->kubeconfig, "Watch the API server that this file names"))
          ->excludes(config);
  env(command->add_option("--kube-context", flags->kube_context, "Context of the kubeconfig; default: its current one"))
      ->needs(kubeconfig);
  env(command->add_flag("--in-cluster", flags->in_cluster, "Watch the API server of the cluster that this Pod runs in"))
      ->excludes(config)
      ->excludes(kubeconfig);
  env(command->add_option("--watch-namespace", flags->watch_namespace,
                          "Read only this namespace of a cluster, and the system namespace; empty: all"));
  env(command->add_option("--state-dir", flags->state_dir,
                          "Keep the last known objects of a cluster here, private keys included, for a start without "
                          "the API server; and the token of the API port"));
  env(command->add_option("--publish-service", flags->publish_service,
                          "namespace/name of the Service whose addresses Ingress status reports; default: Services of "
                          "the system namespace labelled app=higress-gateway"));
  env(command->add_option("--publish-address", flags->publish_address,
                          "Addresses that Ingress status reports instead, separated by commas"));
  env(command->add_option("--update-status", flags->update_status,
                          "Write Ingress status and Events to the cluster, while this replica is the leader"))
      ->capture_default_str();
  env(command->add_option("--bind", flags->bind, "Addresses to listen on, separated by commas"))->capture_default_str();
  env(command->add_option("--http-port", flags->http_port,
                          "Plaintext port: HTTP/1 and HTTP/2 by prior knowledge; 0: none"))
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  env(command->add_option("--https-port", flags->https_port, "TLS port: HTTP/1.1 and HTTP/2 by ALPN; 0: none"))
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  env(command->add_option("--unix-socket", flags->unix_sockets,
                          "Also listen (plaintext) on this Unix socket; repeatable"));
  env(command->add_option("--admin-port", flags->admin_port, "Health, metrics, dumps, explain; 0: none"))
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  env(command->add_option("--admin-bind", flags->admin_bind, "Address of the admin port"))->capture_default_str();
  env(command->add_option("--api-port", flags->api_port,
                          "Kubernetes-style API over the directory, for kubectl; usually 15080; 0: none"))
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  env(command->add_option("--api-bind", flags->api_bind, "Address of the API port"))->capture_default_str();
  env(command->add_option(
      "--api-token-file", flags->api_token_file,
      "File with the token that clients of the API show, made if it is not there; default: api-token "
      "in --state-dir, else in ~/.local/state/sluice"));
  env(command->add_option("--write-kubeconfig", flags->write_kubeconfig,
                          "Write a kubeconfig for the API to this file at the start"));
  env(command->add_option("--workers", flags->workers, "Worker threads; 0: one per core"))
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  env(command->add_option("--access-log", flags->access_log, "A path, - (standard output) or off"))
      ->capture_default_str();
  env(command->add_option("--access-log-format", flags->access_log_format,
                          "Line format with Envoy's operators, e.g. '%REQ(:PATH)% %RESPONSE_CODE%'; default: JSON"));
  env(command->add_option("--log-level", flags->log_level, "debug, info, warning or error"))->capture_default_str();
  env(command->add_option("--ingress-class", flags->ingress_class, "Ingress class to serve; empty: all"))
      ->capture_default_str();
  env(command->add_option(
          "--compat", flags->compat,
          "Whose meaning holds where nginx and Higress differ, unless higress-config or the Ingress says"))
      ->check(CLI::IsMember({"higress", "nginx"}))
      ->capture_default_str();
  env(command->add_option("--system-namespace", flags->system_namespace,
                          "Namespace of McpBridge, higress-config and other system objects; default: POD_NAMESPACE "
                          "in a cluster, else higress-system"));
  env(command->add_option("--dns-server", flags->dns_servers,
                          "DNS server ip[:port] instead of /etc/resolv.conf's; repeatable"));
  env(command->add_option("--server-header", flags->server_header,
                          "Value of the response field `server`; empty: the upstream's"))
      ->capture_default_str();
  env(command->add_flag("--proxy-protocol", flags->proxy_protocol,
                        "Take a PROXY protocol header (v1, v2) where one is sent"));
  env(command->add_option("--trusted-hops", flags->trusted_hops,
                          "Proxies in front whose X-Forwarded-For entries are believed"))
      ->capture_default_str();
  env(command->add_option("--max-connections", flags->max_connections, "Accepted connections at a time"))
      ->capture_default_str();
  env(command->add_option("--max-memory-mib", flags->max_memory_mib,
                          "I/O buffers per worker above which new requests get 503; 0: no limit"))
      ->capture_default_str();
  env(command->add_option("--header-timeout-ms", flags->header_timeout_ms, "Time for a request head to arrive"))
      ->capture_default_str();
  env(command->add_option("--min-body-rate", flags->min_body_rate, "Bytes per second of a request body; 0: off"))
      ->capture_default_str();
  env(command->add_option("--body-rate-window-ms", flags->body_rate_window_ms,
                          "Time over which --min-body-rate is averaged"))
      ->check(CLI::Range(1u, 86'400'000u))
      ->capture_default_str();
  env(command->add_option("--write-timeout-ms", flags->write_timeout_ms,
                          "A client that reads nothing for so long is cut off"))
      ->capture_default_str();
  env(command->add_option("--half-close-grace-ms", flags->half_close_grace_ms,
                          "How long a request goes on whose client has ended its direction"))
      ->capture_default_str();
  env(command->add_option("--drain-deadline-ms", flags->drain_deadline_ms, "Time for connections to finish on SIGTERM"))
      ->capture_default_str();
  env(command->add_flag("--demo", flags->demo, "Start the built-in demo backend on 127.0.0.1:18080"));
  command->footer(
      "Every flag has an environment variable: --http-port is SLUICE_HTTP_PORT.\n"
      "Signals: TERM, INT drain and end; USR1 reopens the access log; USR2 replaces the running binary.");
  std::vector<std::string> command_line(argv, argv + argc);
  command->callback([flags, command_line, status] { *status = serve(*flags, command_line); });
}

}  // namespace sluice::cli
