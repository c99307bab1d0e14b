#pragma once
// KubeSource: the objects of a cluster, kept up to date, as parsed files: one "file" for each object, named
// "ingresses/namespace/name". The last good version of an object that becomes invalid stays in force that way.
//
// Nothing is told before every kind that exists has been listed once (a kind that is absent or forbidden counts as
// listed); then everything is told in one update, later changes at the end of the turn in which they arrived.
//
// With a state directory, the last known objects are written there, and told instead when the API server can't be
// reached at start; the first complete listing replaces them.
//
// Secrets, and ConfigMaps outside the system namespace, are kept only while an Ingress that is accepted names them.
// They are listed after the Ingresses; one that is named later is fetched, and the Ingress that names it is told
// together with it.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "event/loop.h"
#include "resource/parse.h"
#include "source/kube/reflector.h"

namespace sluice::source::kube {

struct KubeOptions {
  std::string watch_namespace;  // empty: all. The system namespace is always watched too.
  std::string system_namespace = "higress-system";
  std::string state_directory;  // empty: none
  // Whether an Ingress is of the class that is served; null: all are.
  std::function<bool(const resource::Ingress&)> accepts;
  // Services whose addresses are reported: "namespace/name"; empty: those of the system namespace with the label
  // app=higress-gateway.
  std::string publish_service;
};

// What the gateway watches, in the order of their names in the log.
std::span<const KindApi> watched_kinds();
// The API of a kind; null if it is not watched.
const KindApi* find_kind(resource::Kind kind);

class KubeSource final : private Reflector::Sink, private event::Task {
 public:
  // How long a start waits for the API server before it serves the state on disk.
  static constexpr uint64_t kColdStartMs = 5'000;
  // A change is on disk after so long; under constant change the file is written every kSaveIntervalMs.
  static constexpr uint64_t kSaveDelayMs = 2'000;
  static constexpr uint64_t kSaveIntervalMs = 10'000;
  static constexpr size_t kMaxFetches = 8;
  // How long changes wait for Secrets that are being fetched.
  static constexpr uint64_t kMaxHoldMs = 1'000;

  class Consumer {
   public:
    virtual void on_kube_update(std::vector<resource::ParsedFile> changed, const std::vector<std::string>& removed) = 0;
    // After each update: the Ingresses, or the published addresses, may be others.
    virtual void on_kube_status_input() = 0;

   protected:
    ~Consumer() = default;
  };

  struct IngressFacts {
    uint64_t status_hash = 0;  // hash_of() its status.loadBalancer.ingress
    bool accepted = false;
  };

  KubeSource(event::Loop& loop, ApiClient& client, KubeOptions options, Consumer& consumer);
  ~KubeSource();

  void start();
  // Writes the state that has not been written yet. Blocks; for the end of the process.
  void save_now();

  // The consumer has been told of a complete picture: from the API server, or from disk.
  bool ready() const { return told_; }
  bool from_disk() const { return told_ && !synced_; }
  std::vector<const Reflector*> reflectors() const;

  const std::unordered_map<std::string, IngressFacts>& ingresses() const { return ingresses_; }
  // The status of an Ingress has been written.
  void set_status_hash(const std::string& key, uint64_t hash);
  // IP addresses and host names of the Services that stand for the gateway, sorted.
  std::vector<std::string> service_addresses() const;
  const Uid* uid(resource::Kind kind, const std::string& key) const;

 private:
  void add(const KindApi& api, const std::string& ns);
  bool only_wanted(const Reflector& reflector) const;
  bool is_others(const Reflector& reflector, const std::string& key) const;
  void start_named();
  void on_object(Reflector& reflector, const std::string& key, const resource::Node& object) override;
  void on_gone(Reflector& reflector, const std::string& key) override;
  void on_listed(Reflector& reflector) override;
  void on_unreachable(Reflector& reflector) override;
  void run_task() override;
  bool must_hold();
  void tell() { run_task(); }
  void check_synced();
  void purge(const Reflector& reflector);
  void put(const KindApi& api, const std::string& key, const resource::Node& object);
  void drop(const KindApi& api, const std::string& key);
  void note_ingress(const std::string& key, const resource::Node& object, const resource::ParsedFile& parsed);
  void note_config_map(const std::string& key, const resource::ParsedFile& parsed);
  void forget_ingress(const std::string& key);
  void set_references(const std::string& ingress, std::vector<std::string> files);
  void want(const std::string& file);
  void fetch_more();
  void fetched(const std::string& file, Result<ApiResponse> result);
  void note_service(const std::string& key, const resource::Node& object);
  void load_from_disk();
  void on_cold_start();
  void mark_dirty();
  void save();
  std::vector<std::string> state() const;

  event::Loop& loop_;
  ApiClient& client_;
  const KubeOptions options_;
  Consumer& consumer_;
  std::vector<std::unique_ptr<Reflector>> reflectors_;
  bool named_started_ = false;  // the reflectors of what is kept only while it is named
  bool synced_ = false;         // everything has been listed, and the consumer told
  bool told_ = false;

  std::map<std::string, resource::ParsedFile> changed_;  // by file, not told yet
  std::set<std::string> removed_;
  std::set<std::string> from_disk_;  // files told from disk that the API server has not confirmed
  std::unordered_map<std::string, IngressFacts> ingresses_;
  std::unordered_map<std::string, std::vector<std::string>> references_;  // Ingress → files, if any
  std::unordered_map<std::string, uint32_t> wanted_;  // file of a Secret or ConfigMap → how many name it
  std::map<std::string, std::vector<std::string>> service_addresses_;

  std::deque<std::string> to_fetch_;
  std::map<std::string, std::unique_ptr<ApiClient::Call>> fetches_;
  event::MemberTimer<KubeSource, &KubeSource::fetch_more> fetch_timer_{this};
  uint64_t held_since_ms_ = 0;  // 0: nothing is held back
  event::MemberTimer<KubeSource, &KubeSource::tell> hold_timer_{this};

  resource::JsonParser parser_;
  std::unordered_map<std::string, std::string> state_;  // by file; only with a state directory
  bool dirty_ = false;
  std::thread saver_;
  bool saving_ = false;
  uint64_t saved_ms_ = 0;
  event::MemberTimer<KubeSource, &KubeSource::save> save_timer_{this};
  event::MemberTimer<KubeSource, &KubeSource::on_cold_start> cold_timer_{this};
};

// Of a list of addresses as in status.loadBalancer.ingress; 0: none.
uint64_t hash_of(const std::vector<std::string>& addresses);

}  // namespace sluice::source::kube
