#include "source/kube/status_writer.h"

#include <algorithm>

#include "base/log.h"
#include "net/address.h"

namespace sluice::source::kube {
namespace {

// Changes come in bursts: they are looked at together.
constexpr uint64_t kSettleMs = 100;

}  // namespace

StatusWriter::StatusWriter(event::Loop& loop, ApiClient& client, KubeSource& source, std::vector<std::string> addresses)
    : loop_(loop), client_(client), source_(source), fixed_(std::move(addresses)) {}

void StatusWriter::set_active(bool active) {
  active_ = active;
  pending_.clear();
  calls_.clear();
  update();
}

void StatusWriter::update() {
  if (active_ && !look_timer_.armed()) loop_.arm(look_timer_, kSettleMs);
}

void StatusWriter::look() {
  if (!active_) return;
  addresses_ = fixed_.empty() ? source_.service_addresses() : fixed_;
  std::sort(addresses_.begin(), addresses_.end());
  pending_.clear();
  if (addresses_.empty()) return;
  const uint64_t hash = hash_of(addresses_);
  for (const auto& [key, facts] : source_.ingresses()) {
    if (facts.accepted && facts.status_hash != hash && !calls_.contains(key)) pending_.insert(key);
  }
  begin_more();
}

void StatusWriter::begin_more() {
  if (!active_ || pending_.empty() || pace_timer_.armed() || calls_.size() >= kMaxCalls) return;
  write(*pending_.begin());
  pending_.erase(pending_.begin());
  loop_.arm(pace_timer_, 1000 / kPerSecond);
}

void StatusWriter::write(const std::string& key) {
  const size_t slash = key.find('/');
  std::string list;
  for (const std::string& address : addresses_) {
    list += list.empty() ? "{\"" : ",{\"";
    list += net::Address::parse_ip(address) ? "ip" : "hostname";
    list += "\":";
    resource::write_json_string(address, list);
    list += "}";
  }
  ApiRequest request;
  request.method = "PATCH";
  request.target = find_kind(resource::Kind::kIngress)->path(key.substr(0, slash)) + "/" +
                   url_encode(key.substr(slash + 1)) + "/status";
  request.content_type = "application/merge-patch+json";
  request.body = "{\"status\":{\"loadBalancer\":{\"ingress\":[" + list + "]}}}";
  const uint64_t hash = hash_of(addresses_);
  calls_[key] = client_.send(std::move(request), [this, key, hash](Result<ApiResponse> result) {
    calls_.erase(key);
    on_written(key, hash, std::move(result));
  });
}

void StatusWriter::on_written(const std::string& key, uint64_t hash, Result<ApiResponse> result) {
  if (result.ok() && result->status == 200) {
    ++written_;
    source_.set_status_hash(key, hash);
  } else if (!result.ok() || result->status != 404) {
    ++failures_;
    log::warning("kubernetes", "the status of Ingress " + key + " cannot be written: " + failure_text(result));
    pending_.clear();
    return loop_.arm(look_timer_, kRetryMs);
  }
  begin_more();
}

}  // namespace sluice::source::kube
