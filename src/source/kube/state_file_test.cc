#include "source/kube/state_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "resource/references.h"
#include "source/kube/kube_source.h"
#include "source/kube/leader.h"

namespace sluice::source::kube {
namespace {

class StateFile : public testing::Test {
 protected:
  void SetUp() override {
    directory = std::filesystem::temp_directory_path() / ("sluice-state-" + std::to_string(::getpid()));
    std::filesystem::remove_all(directory);
  }
  void TearDown() override { std::filesystem::remove_all(directory); }
  std::string file() const { return directory / kStateFileName; }
  std::filesystem::path directory;
};

TEST_F(StateFile, KeepsWhatItIsGiven) {
  EXPECT_TRUE(load_state(directory).ok());
  EXPECT_TRUE(load_state(directory)->empty());
  const std::vector<std::string> objects = {"{\"a\":1}", std::string(300'000, 'x'), "{}"};
  ASSERT_TRUE(save_state(directory, objects).ok());
  EXPECT_EQ(*load_state(directory), objects);
  struct stat info;
  ASSERT_EQ(::stat(file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_TRUE(save_state(directory, {"{}"}).ok());
  EXPECT_EQ(load_state(directory)->size(), 1u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1) << "nothing is left beside it";
}

TEST_F(StateFile, RefusesWhatIsNotWhole) {
  ASSERT_TRUE(save_state(directory, {"{\"a\":1}", "{\"b\":2}"}).ok());
  const auto size = std::filesystem::file_size(file());
  for (uintmax_t cut = 0; cut < size; ++cut) {
    ASSERT_TRUE(save_state(directory, {"{\"a\":1}", "{\"b\":2}"}).ok());
    std::filesystem::resize_file(file(), cut);
    EXPECT_FALSE(load_state(directory).ok()) << cut;
  }
  std::ofstream(file()) << "something else\n";
  EXPECT_NE(load_state(directory).error().message.find("is not a state file of this version"), std::string::npos);
}

TEST_F(StateFile, RemovesLeftovers) {
  ASSERT_TRUE(save_state(directory, {"{}"}).ok());
  std::ofstream(file() + ".tmp.999999999") << "half";
  remove_leftovers(directory);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1);
  EXPECT_EQ(load_state(directory)->size(), 1u);
}

TEST_F(StateFile, SaysWhyItCannotBeWritten) {
  std::ofstream(directory.string()) << "a file";
  const Status saved = save_state(directory, {});
  ASSERT_FALSE(saved.ok());
  EXPECT_NE(saved.error().message.find(directory.string()), std::string::npos);
}

TEST(KindApi, BuildsPaths) {
  EXPECT_EQ(find_kind(resource::Kind::kIngress)->path("a"), "/apis/networking.k8s.io/v1/namespaces/a/ingresses");
  EXPECT_EQ(find_kind(resource::Kind::kIngress)->path(""), "/apis/networking.k8s.io/v1/ingresses");
  EXPECT_EQ(find_kind(resource::Kind::kSecret)->path("a"), "/api/v1/namespaces/a/secrets");
  EXPECT_EQ(find_kind(resource::Kind::kIngressClass)->path("a"), "/apis/networking.k8s.io/v1/ingressclasses");
  EXPECT_EQ(find_kind(resource::Kind::kEndpoints), nullptr);
}

TEST(FormatTime, IsRfc3339) {
  EXPECT_EQ(format_time(1'706'702'400'000'042, true), "2024-01-31T12:00:00.000042Z");
  EXPECT_EQ(format_time(1'706'702'400'000'042, false), "2024-01-31T12:00:00Z");
}

TEST(ConfigMapReferences, ComeFromAnnotations) {
  resource::Ingress ingress;
  ingress.meta.ns = "team";
  ingress.meta.annotations = {{"nginx.ingress.kubernetes.io/custom-headers", " other/h ", {}},
                              {"higress.io/auth-proxy-set-headers", "h", {}},
                              {"higress.io/auth-secret", "s", {}}};
  EXPECT_EQ(resource::config_map_references(ingress), (std::vector<std::string>{"other/h", "team/h"}));
}

TEST(SecretReferences, ComeFromTlsAndAnnotations) {
  resource::Ingress ingress;
  ingress.meta.ns = "ns";
  ingress.tls.push_back({{"a.com"}, "cert", {}});
  ingress.tls.push_back({{"b.com"}, "", {}});
  ingress.meta.annotations = {{"nginx.ingress.kubernetes.io/auth-tls-secret", " other/ca ", {}},
                              {"nginx.ingress.kubernetes.io/auth-type", "x", {}},
                              {"nginx.ingress.kubernetes.io/proxy-ssl-secret", "cert", {}}};
  EXPECT_EQ(resource::secret_references(ingress),
            (std::vector<std::string>{"ns/cert", "ns/cert-cacert", "other/ca", "other/ca-cacert"}));
}

}  // namespace
}  // namespace sluice::source::kube
