// How long it takes to load many Ingress files and to apply one change, and what they cost in
// memory.
//
//   compile_bench [ingresses] [changes] [one-host]
//
// With "one-host" all Ingresses share one host and differ in their path: the dearest case for a
// change.
//
// Writes the manifests to a temporary directory, loads them as the gateway does, then rewrites
// single files and measures from reading the file to the finished snapshot. Prints CPU and wall
// time; one Service and EndpointSlice per 10 Ingresses.

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "compile/control_plane.h"
#include "config/router.h"
#include "source/directory.h"
#include "source/files.h"

using namespace sluice;
using Clock = std::chrono::steady_clock;

namespace {

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double cpu_ms() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  auto ms = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_usec) / 1e3;
  };
  return ms(usage.ru_utime) + ms(usage.ru_stime);
}

size_t heap_bytes() { return mallinfo2().uordblks + mallinfo2().hblkhd; }

bool one_host = false;

std::string host(int i) {
  return one_host ? "www.example.com" : "app-" + std::to_string(i) + ".example.com";
}

std::string ingress(int i, int version) {
  std::string n = std::to_string(i);
  std::string base = one_host ? "/app-" + n : "";
  return "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: app-" + n +
         "\n  namespace: team-" + std::to_string(i / 10 % 50) +
         "\n  labels:\n    app.kubernetes.io/name: app-" + n +
         "\n    app.kubernetes.io/managed-by: Helm\n" +
         "  annotations:\n    higress.io/timeout: \"" + std::to_string(10 + version) +
         "\"\n    nginx.ingress.kubernetes.io/proxy-next-upstream-tries: \"2\"\n" +
         "    nginx.ingress.kubernetes.io/upstream-vhost: internal.example.com\nspec:\n  "
         "ingressClassName: higress\n  rules:\n  - host: " +
         host(i) + "\n    http:\n      paths:\n      - path: " + base +
         "/api\n        pathType: Prefix\n        backend:\n" +
         "          service:\n            name: svc-" + std::to_string(i / 10) +
         "\n            port:\n              number: 8080\n      - path: " + base +
         "/\n        pathType: Prefix\n        backend:\n" +
         "          service:\n            name: svc-" + std::to_string(i / 10) +
         "\n            port:\n              name: http\n";
}

std::string service(int i, int team) {
  std::string n = std::to_string(i), ns = "team-" + std::to_string(team);
  return "apiVersion: v1\nkind: Service\nmetadata: {name: svc-" + n + ", namespace: " + ns +
         "}\nspec:\n  ports: [{name: http, port: 8080, targetPort: 80}]\n---\napiVersion: "
         "discovery.k8s.io/v1\n" +
         "kind: EndpointSlice\nmetadata:\n  name: svc-" + n + "-x\n  namespace: " + ns +
         "\n  labels: {kubernetes.io/service-name: svc-" + n +
         "}\naddressType: IPv4\nports: [{name: http, port: 80}]\n" +
         "endpoints:\n- addresses: [10.0." + std::to_string(i / 250) + "." +
         std::to_string(i % 250 + 1) + "]\n";
}

void write(const std::string& path, const std::string& text) {
  std::string temporary = path + "~";
  std::ofstream(temporary) << text;
  std::filesystem::rename(temporary, path);
}

}  // namespace

int main(int argc, char** argv) {
  int ingresses = argc > 1 ? atoi(argv[1]) : 10000;
  int changes = argc > 2 ? atoi(argv[2]) : 1000;
  one_host = argc > 3 && std::string(argv[3]) == "one-host";
  std::string dir =
      (std::filesystem::temp_directory_path() / ("compile_bench." + std::to_string(getpid())))
          .string();
  std::filesystem::create_directory(dir);
  for (int i = 0; i < ingresses; ++i)
    write(dir + "/ingress-" + std::to_string(i) + ".yaml", ingress(i, 0));
  for (int i = 0; i < ingresses; i += 10) {
    write(dir + "/service-" + std::to_string(i / 10) + ".yaml", service(i / 10, i / 10 % 50));
  }

  size_t heap_before = heap_bytes();
  double cpu = cpu_ms();
  auto start = Clock::now();
  auto directory = source::Directory::open(dir);
  std::vector<std::string> files = (*directory)->files();
  double listed = ms_since(start);
  auto parsed = source::load_files(files, 1);
  double read = ms_since(start);
  compile::ControlPlane control({});
  auto update = control.apply(std::move(parsed), {});
  printf(
      "load: %zu files, %zu objects: %.0f ms wall (list %.0f, read+parse+validate %.0f, compile "
      "%.0f), %.0f ms CPU\n",
      files.size(), update.changed_objects, ms_since(start), listed, read - listed,
      ms_since(start) - read, cpu_ms() - cpu);
  for (size_t i = 0; i < std::min<size_t>(update.diagnostics.size(), 3); ++i) {
    printf("  %s\n", update.diagnostics[i].render().c_str());
  }
  malloc_trim(0);
  printf("memory: %.1f KiB per Ingress, %.1f MiB in all (share of its service included)\n",
         static_cast<double>(heap_bytes() - heap_before) / 1024 / ingresses,
         static_cast<double>(heap_bytes() - heap_before) / 1048576);

  std::vector<double> latency;
  (*directory)->take(0);
  for (int i = 0; i < changes; ++i) {
    int n = static_cast<int>(static_cast<unsigned>(i) * 7919u % static_cast<unsigned>(ingresses));
    write(dir + "/ingress-" + std::to_string(n) + ".yaml", ingress(n, i + 1));
    auto begin = Clock::now();
    (*directory)->on_readable(1);
    auto changed = (*directory)->take(1);
    if (changed.changed.size() != 1)
      printf("expected one changed file, got %zu\n", changed.changed.size());
    auto next = control.apply(source::load_files(changed.changed, 1), changed.removed);
    latency.push_back(ms_since(begin));
  }
  std::sort(latency.begin(), latency.end());
  if (!latency.empty()) {
    printf("one change: p50 %.3f ms, p99 %.3f ms, max %.3f ms\n", latency[latency.size() / 2],
           latency[latency.size() * 99 / 100], latency.back());
  }

  auto snapshot = control.snapshot();
  constexpr int kLookups = 1'000'000;
  start = Clock::now();
  size_t found = 0;
  std::vector<std::string> hosts, targets;
  for (int i = 0; i < 1000; ++i) {
    hosts.push_back(host(i * 7 % ingresses) + ":8080");
    targets.push_back((one_host ? "/app-" + std::to_string(i * 7 % ingresses) : "") +
                      "/api/v1/items?limit=10");
  }
  for (int i = 0; i < kLookups; ++i) {
    config::RequestKey key;
    key.authority = hosts[static_cast<size_t>(i) % hosts.size()];
    key.method = "GET";
    config::set_target(key, targets[static_cast<size_t>(i) % targets.size()]);
    found += config::match(*snapshot, key).route != nullptr;
  }
  printf("routing: %.0f ns per request (%zu found)\n", ms_since(start) * 1e6 / kLookups, found);
  std::filesystem::remove_all(dir);
}
