#include "source/kube/leader.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "base/log.h"

namespace sluice::source::kube {

std::string format_time(uint64_t wall_us, bool microseconds) {
  const time_t seconds = static_cast<time_t>(wall_us / 1'000'000);
  std::tm tm{};
  ::gmtime_r(&seconds, &tm);
  char text[64];
  size_t length = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
  std::string out(text, length);
  if (microseconds) {
    std::snprintf(text, sizeof(text), ".%06u", static_cast<unsigned>(wall_us % 1'000'000));
    out += text;
  }
  return out + "Z";
}

LeaderElection::LeaderElection(event::Loop& loop, ApiClient& client, std::string ns, std::string name,
                               std::string identity, std::function<void()> on_change)
    : loop_(loop),
      client_(client),
      ns_(std::move(ns)),
      name_(std::move(name)),
      identity_(std::move(identity)),
      on_change_(std::move(on_change)),
      random_(loop.now_ns() ^ std::hash<std::string>()(identity_)) {}

std::string LeaderElection::path() const {
  return "/apis/coordination.k8s.io/v1/namespaces/" + url_encode(ns_) + "/leases";
}

void LeaderElection::look() {
  if (call_) return;
  asked_ms_ = loop_.now_ms();
  if (leader_) return write(false, identity_);
  ApiRequest request;
  request.target = path() + "/" + url_encode(name_);
  request.timeout_ms = 5'000;
  call_ = client_.send(std::move(request), [this](Result<ApiResponse> result) {
    call_.reset();
    on_lease(std::move(result));
  });
}

void LeaderElection::on_lease(Result<ApiResponse> result) {
  if (result.ok() && result->status == 404) return write(true, identity_);
  if (!result.ok() || result->status != 200 || !take_in(result->body)) return failed(failure_text(result));
  const bool expired = loop_.now_ms() - seen_ms_ >= duration_ms_;
  if (holder_.empty() || holder_ == identity_ || expired) return write(false, identity_);
  again(kRetryMs);
}

// False: not a Lease.
bool LeaderElection::take_in(const std::string& body) {
  const resource::Node* root = parser_.parse(body);
  const resource::Node* meta = root ? root->find("metadata") : nullptr;
  const resource::Node* version = meta ? meta->find("resourceVersion") : nullptr;
  if (!version) return false;
  if (version->text() != version_) {
    version_ = version->text();
    seen_ms_ = loop_.now_ms();
  }
  const resource::Node* spec = root->find("spec");
  const auto text = [&](const char* key) {
    const resource::Node* value = spec ? spec->find(key) : nullptr;
    return value ? std::string(value->text()) : std::string();
  };
  const auto number = [&](const char* key, int64_t fallback) {
    const resource::Node* value = spec ? spec->find(key) : nullptr;
    return value ? value->integer().value_or(fallback) : fallback;
  };
  holder_ = text("holderIdentity");
  acquired_ = text("acquireTime");
  transitions_ = number("leaseTransitions", 0);
  duration_ms_ =
      static_cast<uint64_t>(std::clamp<int64_t>(number("leaseDurationSeconds", kLeaseSeconds), 1, 3600)) * 1000;
  return true;
}

void LeaderElection::write(bool create, const std::string& holder) {
  const std::string now = format_time(loop_.wall_us(), true);
  const bool takes_over = holder_ != holder && !holder.empty();
  std::string body = R"({"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":)";
  resource::write_json_string(name_, body);
  body += ",\"namespace\":";
  resource::write_json_string(ns_, body);
  if (!create) {
    body += ",\"resourceVersion\":";
    resource::write_json_string(version_, body);
  }
  body += "},\"spec\":{\"holderIdentity\":";
  resource::write_json_string(holder, body);
  body += ",\"leaseDurationSeconds\":" + std::to_string(holder.empty() ? 1 : kLeaseSeconds);
  body += ",\"acquireTime\":";
  resource::write_json_string(takes_over || acquired_.empty() ? now : acquired_, body);
  body += ",\"renewTime\":\"" + now +
          "\",\"leaseTransitions\":" + std::to_string(transitions_ + (takes_over && !create ? 1 : 0)) + "}}";
  ApiRequest request;
  request.method = create ? "POST" : "PUT";
  request.target = create ? path() : path() + "/" + url_encode(name_);
  request.body = std::move(body);
  request.timeout_ms = released_ ? 2'000 : 5'000;
  call_ = client_.send(std::move(request), [this](Result<ApiResponse> result) {
    call_.reset();
    on_written(std::move(result));
  });
}

void LeaderElection::on_written(Result<ApiResponse> result) {
  if (released_) {
    // The renewal that was under way decides which version of the lease is ours to give up.
    const bool renewed = std::exchange(renewing_, false) && result.ok() && result->status == 200;
    if (renewed && take_in(result->body)) return write(false, {});
    if (released_done_) std::exchange(released_done_, nullptr)();
    return;
  }
  if (result.ok() && result->status == 409) {
    // Another was quicker, or the lease was changed by hand: look again.
    set_leader(false);
    return again(kRetryMs / 4);
  }
  const bool good = result.ok() && (result->status == 200 || result->status == 201) && take_in(result->body);
  if (!good) return failed(failure_text(result));
  renewed_ms_ = asked_ms_;
  last_failure_.clear();
  set_leader(true);
  again(kRenewMs);
}

void LeaderElection::failed(const std::string& why) {
  if (why != last_failure_) log::warning("kubernetes", "Lease " + ns_ + "/" + name_ + ": " + why);
  last_failure_ = why;
  if (leader_ && loop_.now_ms() - renewed_ms_ >= kGiveUpMs) set_leader(false);
  again(leader_ ? kRetryMs / 2 : kRetryMs);
}

void LeaderElection::again(uint64_t delay_ms) {
  if (released_) return;
  loop_.arm(timer_, delay_ms + random_.below(static_cast<uint32_t>(delay_ms / 5 + 1)));
}

void LeaderElection::set_leader(bool leader) {
  if (leader == leader_) return;
  leader_ = leader;
  log::info("kubernetes", leader ? "leader: this replica writes status and Events" : "not the leader any more");
  on_change_();
}

void LeaderElection::release(std::function<void()> done) {
  released_ = true;
  timer_.cancel();
  const bool held = leader_;
  set_leader(false);
  if (!held) {
    call_.reset();
    return done();
  }
  released_done_ = std::move(done);
  renewing_ = call_ != nullptr;
  if (!renewing_) write(false, {});
}

}  // namespace sluice::source::kube
