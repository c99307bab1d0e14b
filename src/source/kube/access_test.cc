#include "source/kube/access.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "source/kube/credentials.h"

namespace sluice::source::kube {
namespace {

std::string config(const std::string& cluster, const std::string& user) {
  return "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
         "contexts:\n- name: a\n  context: {cluster: c, user: u}\n- name: b\n  context: {cluster: d}\n"
         "clusters:\n- name: c\n  cluster: {" +
         cluster + "}\n- name: d\n  cluster: {server: 'http://[::1]:8001/k8s/'}\nusers:\n- name: u\n  user: {" + user +
         "}\n";
}

std::string error_of(const std::string& cluster, const std::string& user, const std::string& context = {}) {
  auto parsed = parse_kubeconfig(config(cluster, user), "/dir", context);
  return parsed.ok() ? "" : parsed.error().message;
}

TEST(Kubeconfig, ReadsTheCurrentContext) {
  auto parsed = parse_kubeconfig(
      config("server: 'https://k8s.example:6443', certificate-authority-data: 'UEVN', tls-server-name: other",
             "token: secret-token"),
      "/dir", "");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_TRUE(parsed->tls);
  EXPECT_EQ(parsed->host, "k8s.example");
  EXPECT_EQ(parsed->port, 6443);
  EXPECT_EQ(parsed->path_prefix, "");
  EXPECT_EQ(parsed->ca_pem, "PEM");
  EXPECT_EQ(parsed->tls_server_name, "other");
  EXPECT_EQ(parsed->token.expose(), "secret-token");
  EXPECT_FALSE(parsed->insecure_skip_tls_verify);
}

TEST(Kubeconfig, ReadsANamedContextWithoutUser) {
  auto parsed = parse_kubeconfig(config("server: 'https://x'", ""), "/dir", "b");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_FALSE(parsed->tls);
  EXPECT_EQ(parsed->host, "::1");
  EXPECT_EQ(parsed->authority(), "[::1]:8001");
  EXPECT_EQ(parsed->path_prefix, "/k8s");
}

TEST(Kubeconfig, ResolvesPathsAgainstItsDirectory) {
  auto parsed =
      parse_kubeconfig(config("server: 'https://x', certificate-authority: ca.crt, insecure-skip-tls-verify: true",
                              "client-certificate: a.crt, client-key: /abs/a.key, tokenFile: t"),
                       "/dir", "");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->ca_file, "/dir/ca.crt");
  EXPECT_EQ(parsed->client_certificate_file, "/dir/a.crt");
  EXPECT_EQ(parsed->client_key_file, "/abs/a.key");
  EXPECT_EQ(parsed->token_file, "/dir/t");
  EXPECT_TRUE(parsed->insecure_skip_tls_verify);
  EXPECT_EQ(parsed->port, 443);
}

TEST(Kubeconfig, SaysWhatIsWrong) {
  const std::string good = "server: 'https://x'";
  EXPECT_EQ(error_of(good, "", "none"), "there is no context \"none\"");
  EXPECT_TRUE(error_of(good, "exec: {command: aws}").find("user \"u\": exec is not supported") == 0);
  EXPECT_TRUE(error_of(good, "auth-provider: {}").find("user \"u\": auth-provider is not supported") == 0);
  EXPECT_TRUE(error_of(good, "username: a, password: b").find("user \"u\": username is not supported") == 0);
  EXPECT_EQ(error_of(good, "client-certificate: a"),
            "user \"u\": client-certificate and client-key belong together; one is missing");
  EXPECT_EQ(error_of(good, "client-key-data: '!'"), "user \"u\": client-key-data is not base64");
  EXPECT_TRUE(error_of(good + ", proxy-url: 'http://p'", "").find("cluster \"c\": proxy-url is not supported") == 0);
  EXPECT_EQ(error_of("server: 'x:443'", ""), "cluster \"c\": server: \"x:443\" should begin with https://");
  for (const char* bad : {"https://", "https://x:0", "https://x:70000", "https://x:a", "https://[::1", "https://a@b",
                          "https://a b", "https://x/?q"}) {
    EXPECT_NE(error_of(std::string("server: '") + bad + "'", ""), "") << bad;
  }
  EXPECT_EQ(parse_kubeconfig("[1]", "", "").error().message,
            "is not a kubeconfig: expected a mapping with clusters, contexts and users");
  EXPECT_EQ(parse_kubeconfig("a: b", "", "").error().message,
            "current-context is missing; name a context with --kube-context");
  EXPECT_EQ(parse_kubeconfig("\ntoken: 'sec\n b: [", "", "").error().message.find("is not YAML, line "), 0u);
}

class InCluster : public testing::Test {
 protected:
  void SetUp() override {
    directory = std::filesystem::temp_directory_path() / ("sluice-access-" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory);
    ::setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1", 1);
    ::setenv("KUBERNETES_SERVICE_PORT", "6443", 1);
  }
  void TearDown() override {
    std::filesystem::remove_all(directory);
    ::unsetenv("KUBERNETES_SERVICE_HOST");
    ::unsetenv("KUBERNETES_SERVICE_PORT");
  }
  void write(const char* name, const char* text) { std::ofstream(directory / name) << text; }
  std::filesystem::path directory;
};

TEST_F(InCluster, ReadsWhatAPodIsGiven) {
  write("token", "t1\n");
  auto missing = in_cluster_access(directory);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("ca.crt cannot be read"), std::string::npos);
  write("ca.crt", "pem");
  auto access = in_cluster_access(directory);
  ASSERT_TRUE(access.ok()) << access.error().message;
  EXPECT_EQ(access->authority(), "10.96.0.1:6443");
  ::setenv("KUBERNETES_SERVICE_PORT", "x", 1);
  EXPECT_FALSE(in_cluster_access(directory).ok());
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  EXPECT_EQ(in_cluster_access(directory).error().message.find("not in a Pod"), 0u);
}

TEST_F(InCluster, TakesUpANewToken) {
  write("token", "t1\n");
  write("ca.crt", "pem");
  Credentials credentials(*in_cluster_access(directory));
  EXPECT_EQ(credentials.authorization(1000), "Bearer t1");
  write("token", "t2");
  EXPECT_EQ(credentials.authorization(2000), "Bearer t1");
  EXPECT_EQ(credentials.authorization(1000 + Credentials::kRefreshMs), "Bearer t2");
  write("token", "t3");
  credentials.refresh();
  EXPECT_EQ(credentials.authorization(40'000), "Bearer t3");
  std::filesystem::remove(directory / "token");
  credentials.refresh();
  EXPECT_EQ(credentials.authorization(50'000), "Bearer t3") << "the last one stays";
  write("token", "a\r\nx: y");
  credentials.refresh();
  EXPECT_EQ(credentials.authorization(60'000), "") << "no header can be smuggled in";
}

}  // namespace
}  // namespace sluice::source::kube
