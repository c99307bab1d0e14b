// spec.tls and the TLS annotations to certificates by host.

#include "compile/tls_hosts.h"

#include <gtest/gtest.h>

#include "compile/test_support.h"
#include "net/tls_test_certs.h"

namespace sluice::compile {
namespace {

using namespace test;

std::string block(const std::string& pem) {
  std::string out;
  for (char c : pem) out += c == '\n' ? std::string("\n      ") : std::string(1, c);
  return "|\n      " + out + "\n";
}

struct Pair {
  std::string certificate, key;
};
Pair make(const std::string& name, long valid_for = 86400, long valid_from = -7200) {
  net::TestCertificateOptions options;
  options.common_name = name;
  options.sans = "DNS:" + name;
  options.valid_from = valid_from;
  options.valid_for = valid_for;
  auto made = net::make_test_certificate(options, nullptr);
  return {made.certificate_pem(), made.key_pem()};
}
std::string secret(const std::string& name, const Pair& pair, const std::string& ca = {}) {
  return "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: " + name +
         "}\nstringData:\n    tls.crt: " + block(pair.certificate) + "    tls.key: " + block(pair.key) +
         (ca.empty() ? "" : "    ca.crt: " + block(ca));
}
std::string tls_ingress(const std::string& name, const std::string& host, const std::string& tls,
                        const std::string& annotations = {}, const std::string& metadata = {}) {
  return ingress(name, host, path("/"), annotations, metadata) + "  tls: [" + tls + "]\n";
}

struct TlsTest : ::testing::Test {
  const config::TlsHost* host(const std::string& sni) {
    snapshot = world.control.snapshot();
    return config::match_tls(*snapshot, sni);
  }
  // The name in the certificate shown for an SNI; "-" if there is no TLS host, "!" if it can't
  // serve.
  std::string shown(const std::string& sni) {
    const config::TlsHost* found = host(sni);
    return !found ? "-" : !found->context ? "!" : found->context->certificate_names().at(0);
  }
  World world;
  Compiler::SnapshotPointer snapshot;
};

TEST_F(TlsTest, Hosts) {
  world.put("s", secret("c", make("cert")));
  world.put("i", tls_ingress("a", "a.b.c", "{hosts: [A.b.c], secretName: c}") +
                     tls_ingress("w", "*.w.c", "{hosts: ['*.w.c'], secretName: c}") +
                     tls_ingress("covered", "x.y.z", "{hosts: ['*.y.z'], secretName: c}") +
                     tls_ingress("other", "not.listed", "{hosts: [listed], secretName: c}") +
                     tls_ingress("plain", "no.tls", ""));
  EXPECT_EQ(shown("a.b.c"), "cert");
  EXPECT_EQ(shown("q.w.c"), "cert");
  EXPECT_EQ(shown("x.y.z"), "cert") << "a wildcard entry covers the rule's host";
  EXPECT_EQ(shown("q.y.z"), "-");
  EXPECT_EQ(shown("not.listed"), "-");
  EXPECT_EQ(shown("listed"), "-");
  EXPECT_EQ(shown("no.tls"), "-");
  EXPECT_EQ(shown(""), "-");
  world.put("any", tls_ingress("any", "", "{secretName: c}"));
  EXPECT_EQ(shown(""), "cert");
  EXPECT_EQ(shown("no.tls"), "cert") << "the host * answers unknown names";
  EXPECT_EQ(host("a.b.c")->context, host("")->context) << "one context for one certificate";
}

TEST_F(TlsTest, LiteralEntryBeatsWildcard) {
  world.put("s", secret("c1", make("one")) + secret("c2", make("two")));
  world.put("i", tls_ingress("a", "a.b.c", "{hosts: ['*.b.c'], secretName: c1}, {hosts: [a.b.c], secretName: c2}"));
  EXPECT_EQ(shown("a.b.c"), "two");
}

TEST_F(TlsTest, MissingSecretFailsThisHostOnly) {
  world.put("any", secret("any", make("any")) + tls_ingress("any", "", "{secretName: any}"));
  EXPECT_NE(world.put("i", tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}"))
                .find("Ingress default/a: spec.tls: Secret default/c does not exist; TLS "
                      "handshakes for a.b fail"),
            std::string::npos);
  EXPECT_EQ(shown("a.b"), "!");
  EXPECT_EQ(shown("x.y"), "any");
  EXPECT_EQ(world.winner("http://a.b/"), "default/a");
  world.put("s", secret("c", make("cert")));
  EXPECT_EQ(shown("a.b"), "cert");
  EXPECT_EQ(world.control.compiler().last_work().tls_hosts, 1u);
  EXPECT_EQ(world.control.compiler().last_work().hosts, 0u);
  world.remove("s");
  EXPECT_EQ(shown("a.b"), "!");
  world.remove("i");
  EXPECT_EQ(shown("a.b"), "any");
}

TEST_F(TlsTest, BrokenPairKeepsTheLastGood) {
  world.put("i", tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}"));
  Pair good = make("good"), other = make("other");
  world.put("s", secret("c", {"garbage", good.key}));
  EXPECT_EQ(shown("a.b"), "!");
  world.put("s", secret("c", good));
  EXPECT_EQ(shown("a.b"), "good");
  std::string told = world.put("s", secret("c", {other.certificate, good.key}));
  EXPECT_EQ(told.substr(0, 22), "s:2:1: Secret default/") << "told when it happens, where it is wrong: " << told;
  EXPECT_EQ(shown("a.b"), "good");
  std::string all = world.all();
  EXPECT_NE(all.find("the last good certificate stays in use for a.b"), std::string::npos) << all;
  EXPECT_EQ(all.find("PRIVATE KEY"), std::string::npos);
  world.put("s", secret("c", {"", ""}));
  EXPECT_EQ(shown("a.b"), "good");
  EXPECT_NE(world.all().find("needs tls.crt and tls.key (or cert and key)"), std::string::npos) << world.all();
  world.put("s", secret("c", other));
  EXPECT_EQ(shown("a.b"), "other");
}

TEST_F(TlsTest, ExpiredIsServedAndTold) {
  world.put("i", secret("c", make("old", -3600)) + tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}"));
  EXPECT_EQ(shown("a.b"), "old");
  const std::string all = world.all();
  EXPECT_NE(all.find("warning: Secret default/c: the certificate expired on 20"), std::string::npos) << all;
  EXPECT_NE(all.find("it is still shown for a.b"), std::string::npos) << all;
}

TEST_F(TlsTest, NotYetValidIsServedAndTold) {
  world.put("i", secret("c", make("young", 86400, 3600)) + tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}"));
  EXPECT_EQ(shown("a.b"), "young");
  const std::string all = world.all();
  EXPECT_NE(all.find("warning: Secret default/c: the certificate is not valid before 20"), std::string::npos) << all;
  // Gone as soon as it is replaced by one that is.
  world.put("i", secret("c", make("good")) + tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}"));
  EXPECT_EQ(world.all().find("certificate"), std::string::npos) << world.all();
}

TEST_F(TlsTest, OldestIngressWins) {
  world.put("s", secret("c1", make("one")) + secret("c2", make("two")));
  world.put("young", tls_ingress("young", "a.b", "{hosts: [a.b], secretName: c2}", "", born(2)));
  world.put("none", tls_ingress("none", "a.b", "", "", born(0)));
  EXPECT_EQ(shown("a.b"), "two");
  world.put("old", tls_ingress("old", "a.b", "{hosts: [a.b], secretName: c1}", "", born(1)));
  EXPECT_EQ(shown("a.b"), "one");
  EXPECT_NE(world.all().find("host a.b has its certificate from Ingress default/old, which is "
                             "older; Secret default/c2 is not used for it"),
            std::string::npos)
      << world.all();
  world.remove("old");
  EXPECT_EQ(shown("a.b"), "two");
}

TEST_F(TlsTest, ClientCertificates) {
  Pair ca = make("ca");
  world.put("s", secret("c", make("cert")) + secret("c-cacert", make("x"), ca.certificate) +
                     secret("other", make("x"), ca.certificate));
  world.put("i",
            tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}", note("higress.io/auth-tls-secret", "c-cacert")));
  ASSERT_NE(host("a.b"), nullptr);
  EXPECT_TRUE(host("a.b")->mutual);
  EXPECT_EQ(shown("a.b"), "cert");
  EXPECT_TRUE(world.control.snapshot()->hosts.find("a.b")->requires_mtls_sni);

  world.put("i", tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}", note("higress.io/auth-tls-secret", "other")));
  EXPECT_TRUE(host("a.b")->mutual) << "any Secret may hold the CA";
  EXPECT_EQ(shown("a.b"), "cert");
  world.put("i", tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}", note("higress.io/auth-tls-secret", "none")));
  EXPECT_EQ(shown("a.b"), "!") << "without a CA the host is closed, not open";
  EXPECT_NE(world.all().find("Secret default/none has no ca.crt (or cacert); TLS handshakes for a.b fail"),
            std::string::npos)
      << world.all();

  world.put("s", secret("c", make("cert")));
  world.put("i", tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}", note("higress.io/auth-tls-secret", "c")));
  EXPECT_EQ(shown("a.b"), "!") << "without a CA the host is closed, not open";
  EXPECT_NE(world.all().find("Secret default/c has no ca.crt (or cacert)"), std::string::npos) << world.all();
}

TEST_F(TlsTest, Options) {
  world.put("s", secret("c", make("cert")));
  auto apply = [&](const std::string& annotations) {
    return world.put("i", tls_ingress("a", "a.b", "{hosts: [a.b], secretName: c}", annotations));
  };
  apply("");
  auto before = host("a.b")->context;
  apply(note("higress.io/tls-min-protocol-version", "TLSv1.3"));
  EXPECT_EQ(shown("a.b"), "cert");
  EXPECT_NE(host("a.b")->context, before);
  apply(note("higress.io/ssl-cipher", "AES128-SHA:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"));
  EXPECT_EQ(shown("a.b"), "cert");
  apply(note("higress.io/ssl-cipher", "AES128-SHA,AES256-SHA"));
  EXPECT_EQ(host("a.b")->context, before) << "nothing known: the default list";
  apply("");
  EXPECT_NE(apply(note("higress.io/tls-min-protocol-version", "TLSv1.3") +
                  note("higress.io/tls-max-protocol-version", "TLSv1.2"))
                .find("tls-min-protocol-version is above tls-max-protocol-version; both are ignored"),
            std::string::npos);
  EXPECT_EQ(shown("a.b"), "cert");
  EXPECT_NE(apply(note("higress.io/tls-min-protocol-version", "TLSv1.0"))
                .find("is not offered: TLSv1.2 is the lowest version"),
            std::string::npos);
  EXPECT_NE(apply(note("higress.io/tls-min-protocol-version", "SSLv3"))
                .find("\"SSLv3\" is not one of TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3"),
            std::string::npos);
  EXPECT_NE(apply(note("higress.io/auth-tls-secret", "a/b/c"))
                .find("\"a/b/c\" is not a Secret: write name or namespace/name"),
            std::string::npos);
}

TEST_F(TlsTest, CredentialsOfHigressHttps) {
  auto credentials = [&](const std::string& text) {
    std::string indented;
    for (size_t at = 0; at < text.size();) {
      size_t end = std::min(text.find('\n', at), text.size());
      indented += "    " + text.substr(at, end - at) + "\n";
      at = end + 1;
    }
    return world.put("m",
                     "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: higress-https, namespace: higress-system}\n"
                     "data:\n  cert: |\n" +
                         indented);
  };
  world.put("s", secret("own", make("own")) + secret("wild", make("wild")));
  world.put("i", tls_ingress("a", "a.b.c", "{hosts: [a.b.c]}", ""));
  EXPECT_EQ(host("a.b.c"), nullptr);
  const std::string entries =
      "credentialConfig:\n- {domains: [x.y], tlsSecret: default/own}\n- {domains: [\"*.b.c\"], tlsSecret: "
      "default/wild}\n";
  EXPECT_EQ(credentials(entries), "");
  EXPECT_EQ(shown("a.b.c"), "wild");
  world.put("i", tls_ingress("a", "a.b.c", "{hosts: [a.b.c], secretName: missing}", ""));
  EXPECT_EQ(shown("a.b.c"), "!") << "a Secret that is named counts";
  EXPECT_EQ(credentials(entries + "fallbackForInvalidSecret: true\n"), "");
  EXPECT_EQ(shown("a.b.c"), "wild");
  world.put("s2", secret("missing", make("late")));
  EXPECT_EQ(shown("a.b.c"), "late");
  EXPECT_NE(credentials("credentialConfig:\n- {domains: [], tlsSecret: a/b/c}\n").find("must name at least one domain"),
            std::string::npos);
  EXPECT_EQ(shown("a.b.c"), "late") << "the last good version stays";
  world.remove("s2");
  EXPECT_EQ(shown("a.b.c"), "wild");
  world.put("i", ingress("a", "a.b.c", path("/")));
  EXPECT_EQ(host("a.b.c"), nullptr) << "without spec.tls there is no TLS";
}

TEST_F(TlsTest, ContextsAreShared) {
  Pair pair = make("cert");
  TlsContexts contexts;
  net::TlsServerConfig config;
  config.certificate_pem = pair.certificate;
  config.private_key_pem = pair.key;
  auto one = contexts.server(config), two = contexts.server(config);
  EXPECT_EQ(*one, *two);
  EXPECT_EQ(contexts.built(), 1u);
  config.alpn = {"h2"};
  EXPECT_NE(*contexts.server(config), *one);
}

}  // namespace
}  // namespace sluice::compile
