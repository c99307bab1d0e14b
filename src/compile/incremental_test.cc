// The compiler's promise: after any sequence of changes the snapshot is what compiling everything
// anew would give, and the cost of a change follows the change.

#include <gtest/gtest.h>

#include <random>

#include "compile/test_support.h"
#include "net/tls_test_certs.h"

namespace sluice::compile {
namespace {

using namespace test;

class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed), more_(seed + 1) {
    for (int i = 0; i < 2; ++i) {
      auto made = net::make_test_certificate(
          {.common_name = "c" + std::to_string(i), .sans = "DNS:c" + std::to_string(i)}, nullptr);
      certificates_.emplace_back(made.certificate_pem(), made.key_pem());
    }
  }

  size_t pick(size_t n) { return random_() % n; }
  std::string file() { return "f" + std::to_string(pick(25)); }

  std::string text() {
    std::string out;
    for (size_t n = pick(3); n > 0; --n) out += object();
    return out;
  }

 private:
  std::string one_of(std::initializer_list<const char*> words) { return words.begin()[pick(words.size())]; }
  std::string service_name() { return one_of({"s0", "s1", "s2"}); }

  std::string object() {
    switch (pick(10)) {
      case 0:
        return service(
            service_name(), pick(2) ? "[{name: http, port: 80}]" : "[{name: grpc, port: 80}, {name: http, port: 81}]",
            pick(5)
                ? ""
                : ", type: ExternalName, externalName: " + one_of({"a.example.com", "s1.default.svc.cluster.local"}));
      case 1:
        return slice(one_of({"e0", "e1", "e2"}), service_name(), "10.0.0." + std::to_string(pick(4)),
                     "[{name: " + one_of({"http", "grpc"}) + ", port: 8080}]", pick(2) ? ", version: v1" : "");
      case 2:
        return "---\n{apiVersion: v1, kind: Endpoints, metadata: {name: " + service_name() +
               "}, subsets: [{addresses: [{ip: 10.1.0." + std::to_string(pick(4)) +
               "}], ports: [{name: http, port: 9}]}]}\n";
      case 3:
        return bridge();
      case 4:
        return secret();
      default:
        return an_ingress();
    }
  }

  std::string bridge() {
    std::string out =
        "---\napiVersion: networking.higress.io/v1\nkind: McpBridge\nmetadata: {name: default, "
        "namespace: higress-system}\nspec:\n  registries:\n";
    if (pick(2))
      out += "  - {type: static, name: r, domain: '1.1.1." + std::to_string(pick(3)) +
             ":80', port: " + one_of({"80", "81"}) + "}\n";
    return out + "  - {type: dns, name: r, domain: " + one_of({"a.example.com", "b.example.com"}) +
           ", port: 443, protocol: " + one_of({"http", "https"}) + "}\n";
  }

  std::string secret() {
    // Always good: a broken one would keep what only history knows.
    const auto& [certificate, key] = certificates_[pick(2)];
    std::string out =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: " + one_of({"c0", "c1"}) + "}\nstringData:\n";
    for (const auto& [name, pem] :
         {std::pair("tls.crt", certificate), std::pair("tls.key", key), std::pair("ca.crt", certificate)}) {
      out += std::string("  ") + name + ": |\n    ";
      for (char c : pem) out += c == '\n' ? std::string("\n    ") : std::string(1, c);
      out += "\n";
    }
    return out;
  }

  std::string an_ingress() {
    std::string annotations;
    if (pick(4) == 0) annotations += note("higress.io/load-balance", one_of({"random", "round_robin"}));
    if (pick(6) == 0) annotations += note("higress.io/backend-protocol", one_of({"GRPC", "HTTPS"}));
    if (pick(6) == 0) annotations += note("higress.io/app-root", "/r" + std::to_string(pick(2)));
    if (pick(5) == 0) annotations += note("higress.io/exact-match-header-x", "1");
    if (pick(6) == 0) annotations += note("higress.io/rewrite-target", "/$1");
    if (pick(6) == 0) annotations += note("higress.io/match-method", one_of({"GET", "GET PUT"}));
    if (pick(6) == 0) annotations += note("higress.io/auth-tls-secret", one_of({"c0", "c1"}));
    // Drawn apart, so that the Secrets come and go as ever: those of client CAs have a last good version too.
    if (more_() % 3 == 0) annotations += note("higress.io/ssl-passthrough", more_() % 3 ? "true" : "false");
    if (more_() % 2 == 0) annotations += note("sluice.io/compat", more_() % 3 ? "nginx" : "higress");
    if (more_() % 8 == 0) annotations += note("higress.io/use-regex", "true");
    if (pick(2))
      annotations += note("higress.io/destination",
                          one_of({"r.static", "r.dns:443", "s0.default.svc.cluster.local:80 v1", "r.static:80"}));
    std::string paths;
    for (size_t n = pick(3) + 1; n > 0; --n) {
      std::string where = one_of({"/", "/a", "/a/b", "/(x)"});
      if (pick(4) == 0) {
        paths += "      - {path: " + where + ", pathType: Prefix, backend: {resource: {kind: K, name: n}}}\n";
      } else {
        paths += path(where, one_of({"Exact", "Prefix"}), service_name(),
                      one_of({"number: 80", "name: http", "number: 81"}));
      }
    }
    std::string host = one_of({"", "a.com", "b.a.com", "*.a.com"});
    std::string metadata = pick(2) ? born(static_cast<int>(pick(5))) : "";
    std::string out = ingress("i" + std::to_string(pick(12)), host, paths, annotations, metadata);
    if (pick(3) == 0)
      out += "  tls: [{hosts: [" + (host.empty() ? "" : "'" + host + "'") + "], secretName: " + one_of({"c0", "c1"}) +
             "}]\n";
    if (pick(5) == 0) out += "  defaultBackend: {service: {name: " + service_name() + ", port: {number: 80}}}\n";
    return out;
  }

  std::mt19937 random_, more_;
  std::vector<std::pair<std::string, std::string>> certificates_;
};

void check(unsigned seed, int steps) {
  Generator generator(seed);
  World world;
  std::map<std::string, std::string> files;
  std::map<std::string, std::vector<net::Address>> resolved;
  for (int step = 0; step < steps; ++step) {
    std::vector<resource::ParsedFile> changed;
    std::vector<std::string> removed;
    for (size_t n = generator.pick(3) + 1; n > 0; --n) {
      std::string file = generator.file();
      if (generator.pick(4) == 0) {
        removed.push_back(file);
        std::erase_if(changed, [&](const auto& f) { return *f.file == file; });
        files.erase(file);
      } else {
        files[file] = generator.text();
        std::erase(removed, file);
        std::erase_if(changed, [&](const auto& f) { return *f.file == file; });
        changed.push_back(parsed(file, files[file]));
      }
    }
    world.control.apply(std::move(changed), removed);
    for (const std::string& name : world.control.dns_names()) {
      if (resolved.contains(name)) continue;
      resolved[name] = {*net::Address::parse_ip("9.9.9." + std::to_string(name[0]))};
      world.control.set_resolved(name, resolved[name]);
    }

    World fresh;
    std::vector<resource::ParsedFile> all;
    for (const auto& [file, text] : files) all.push_back(parsed(file, text));
    fresh.control.apply(std::move(all), {});
    for (const std::string& name : fresh.control.dns_names()) fresh.control.set_resolved(name, resolved[name]);
    ASSERT_EQ(world.dump(), fresh.dump()) << "seed " << seed << " step " << step;
    ASSERT_EQ(world.all(), fresh.all()) << "seed " << seed << " step " << step;
  }
  for (const auto& [file, text] : files) world.control.apply({}, {file});
  EXPECT_EQ(world.dump(), World().dump());
  EXPECT_TRUE(world.control.dns_names().empty());
}

TEST(Incremental, EqualsCompilingAnew) {
  for (unsigned seed = 1; seed <= 12; ++seed) {
    check(seed, 60);
    if (HasFatalFailure()) return;
  }
}

TEST(Incremental, WorkFollowsTheChange) {
  World world;
  std::vector<resource::ParsedFile> all;
  for (int i = 0; i < 2000; ++i) {
    std::string n = std::to_string(i);
    all.push_back(parsed("f" + n, ingress("i" + n, "h" + n + ".com", path("/", "Prefix", "s" + n)) + service("s" + n)));
  }
  world.control.apply(std::move(all), {});
  auto before = world.control.snapshot();
  world.put("f7", ingress("i7", "h7.com", path("/x", "Prefix", "s7")) + service("s7"));
  const auto& work = world.control.compiler().last_work();
  EXPECT_EQ(work.ingresses, 1u);
  EXPECT_EQ(work.hosts, 1u);
  EXPECT_LE(work.clusters, 1u);
  auto after = world.control.snapshot();
  EXPECT_EQ(after->version, before->version + 1);
  EXPECT_EQ(before->hosts.find("h8.com"), after->hosts.find("h8.com"));
  EXPECT_NE(before->hosts.find("h7.com"), after->hosts.find("h7.com"));
  world.put("f7", ingress("i7", "h7.com", path("/x", "Prefix", "s7")) + service("s7"));
  EXPECT_EQ(world.control.snapshot(), after) << "nothing changed: the same snapshot";
}

TEST(Incremental, ObjectMovesBetweenFiles) {
  World world;
  std::string text = ingress("a", "h", path("/"));
  world.put("one", text);
  std::vector<resource::ParsedFile> changed;
  changed.push_back(parsed("two", text));
  world.control.apply(std::move(changed), {"one"});
  EXPECT_EQ(world.winner("http://h/"), "default/a");
}

TEST(ControlPlane, Status) {
  World world;
  world.put("f", ingress("a", "h", path("/")) + service("other"));
  auto status = world.control.status();
  ASSERT_EQ(status.size(), 2u);
  EXPECT_EQ(status[0].key.to_string(), "Ingress default/a");
  EXPECT_EQ(status[0].file, "f");
  ASSERT_EQ(status[0].diagnostics.size(), 1u);
  EXPECT_NE(status[0].diagnostics[0].message.find("does not exist"), std::string::npos);
  EXPECT_TRUE(status[1].diagnostics.empty());
}

}  // namespace
}  // namespace sluice::compile
