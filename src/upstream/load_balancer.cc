#include "upstream/load_balancer.h"

#include <algorithm>
#include <string>

#include "base/hash.h"
#include "event/loop.h"

namespace sluice::upstream {
namespace {

bool all_weights_equal(const Candidates& candidates) {
  return std::all_of(candidates.begin(), candidates.end(), [&](const EndpointState* endpoint) {
    return endpoint->config.weight == candidates.front()->config.weight;
  });
}

// Draws candidates in proportion to their weights.
class WeightedDraw {
 public:
  WeightedDraw(const Candidates& candidates, Random& random) : candidates_(candidates), random_(random) {
    if (all_weights_equal(candidates)) return;
    uint64_t sum = 0;
    for (const EndpointState* endpoint : candidates) sums_.push_back(sum += endpoint->config.weight);
  }

  EndpointState* draw() {
    if (sums_.empty()) return candidates_[random_.below(static_cast<uint32_t>(candidates_.size()))];
    const uint64_t point = random_.next() % sums_.back();
    const auto found = std::upper_bound(sums_.begin(), sums_.end(), point);
    return candidates_[static_cast<size_t>(found - sums_.begin())];
  }

 private:
  const Candidates& candidates_;
  Random& random_;
  std::vector<uint64_t> sums_;  // cumulative weights; empty when all are equal
};

class RoundRobin final : public LoadBalancer {
 public:
  RoundRobin(const Candidates& candidates, Random& random) : candidates_(candidates) {
    const auto n = static_cast<uint32_t>(candidates.size());
    next_ = random.below(n);  // workers must not all begin with the same endpoint
    if (all_weights_equal(candidates)) return;
    for (uint32_t i = 0; i < n; ++i) {
      const double step = 1.0 / candidates[i]->config.weight;
      heap_.push_back({step * random.unit(), step, i});
    }
    std::make_heap(heap_.begin(), heap_.end());
  }

  EndpointState* pick(bool, uint64_t, uint32_t) override {
    if (heap_.empty()) {
      if (next_ >= candidates_.size()) next_ = 0;
      return candidates_[next_++];
    }
    std::pop_heap(heap_.begin(), heap_.end());
    Entry& entry = heap_.back();
    EndpointState* chosen = candidates_[entry.index];
    entry.deadline += entry.step;
    std::push_heap(heap_.begin(), heap_.end());
    return chosen;
  }

 private:
  struct Entry {
    double deadline;
    double step;
    uint32_t index;
    bool operator<(const Entry& other) const { return deadline > other.deadline; }
  };

  const Candidates& candidates_;
  uint32_t next_ = 0;
  std::vector<Entry> heap_;  // empty when all weights are equal
};

class LeastRequest final : public LoadBalancer {
 public:
  LeastRequest(const Candidates& candidates, Random& random) : size_(candidates.size()), draw_(candidates, random) {}

  EndpointState* pick(bool, uint64_t, uint32_t) override {
    EndpointState* first = draw_.draw();
    if (size_ == 1) return first;
    EndpointState* second = draw_.draw();
    for (int i = 0; i < 3 && second == first; ++i) second = draw_.draw();
    return second->active_requests < first->active_requests ? second : first;
  }

 private:
  size_t size_;
  WeightedDraw draw_;
};

class PeakEwma final : public LoadBalancer {
 public:
  PeakEwma(const Candidates& candidates, const event::Loop& clock, Random& random)
      : size_(candidates.size()), clock_(clock), draw_(candidates, random) {}

  EndpointState* pick(bool, uint64_t, uint32_t) override {
    EndpointState* first = draw_.draw();
    if (size_ == 1) return first;
    EndpointState* second = draw_.draw();
    for (int i = 0; i < 3 && second == first; ++i) second = draw_.draw();
    const bool known = first->latency.known() && second->latency.known();
    return cost(*second, known) < cost(*first, known) ? second : first;
  }

 private:
  double cost(const EndpointState& endpoint, bool by_latency) const {
    const double requests = endpoint.active_requests + 1.0;
    return by_latency ? requests * endpoint.latency.at(clock_.now_ns()) : requests;
  }

  size_t size_;
  const event::Loop& clock_;
  WeightedDraw draw_;
};

class RandomChoice final : public LoadBalancer {
 public:
  RandomChoice(const Candidates& candidates, Random& random) : draw_(candidates, random) {}
  EndpointState* pick(bool, uint64_t, uint32_t) override { return draw_.draw(); }

 private:
  WeightedDraw draw_;
};

class RingHash final : public LoadBalancer {
 public:
  RingHash(const Candidates& candidates, uint32_t ring_size, Random& random) : random_(random) {
    uint64_t total = 0;
    uint32_t smallest = UINT32_MAX;
    for (const EndpointState* endpoint : candidates) {
      total += endpoint->config.weight;
      smallest = std::min(smallest, endpoint->config.weight);
    }
    // Every endpoint gets at least one point, and the ring at least ring_size of them; bounded against odd weights.
    const double per_weight = std::max(static_cast<double>(ring_size) / static_cast<double>(total), 1.0 / smallest);
    constexpr uint32_t kMaxPoints = 1u << 22;
    for (EndpointState* endpoint : candidates) {
      const auto points = static_cast<uint32_t>(std::min<double>(per_weight * endpoint->config.weight + 0.5, 1u << 16));
      for (uint32_t i = 0; i < points && ring_.size() < kMaxPoints; ++i) {
        ring_.push_back({hash64(endpoint->address_text, i + 1), endpoint});
      }
    }
    std::sort(ring_.begin(), ring_.end(), [](const Point& a, const Point& b) { return a.hash < b.hash; });
  }

  EndpointState* pick(bool has_hash, uint64_t hash, uint32_t attempt) override {
    if (!has_hash) hash = random_.next();
    auto found = std::lower_bound(ring_.begin(), ring_.end(), hash,
                                  [](const Point& point, uint64_t h) { return point.hash < h; });
    auto index = static_cast<size_t>(found - ring_.begin());
    if (index == ring_.size()) index = 0;
    EndpointState* chosen = ring_[index].endpoint;
    // Another attempt wants the next different endpoint on the ring.
    for (size_t step = 1; attempt > 0 && step < ring_.size(); ++step) {
      EndpointState* other = ring_[(index + step) % ring_.size()].endpoint;
      if (other == chosen) continue;
      chosen = other;
      --attempt;
    }
    return chosen;
  }

 private:
  struct Point {
    uint64_t hash;
    EndpointState* endpoint;
  };
  std::vector<Point> ring_;
  Random& random_;
};

class Maglev final : public LoadBalancer {
 public:
  Maglev(const Candidates& candidates, uint32_t table_size, Random& random)
      : candidates_(candidates), table_(table_size, UINT32_MAX), random_(random) {
    const size_t n = candidates.size();
    struct Walk {
      uint64_t offset, skip, next = 0;
      double credit = 0;
    };
    std::vector<Walk> walks(n);
    uint32_t heaviest = 1;
    for (size_t i = 0; i < n; ++i) {
      walks[i].offset = hash64(candidates[i]->address_text, 1) % table_size;
      walks[i].skip = hash64(candidates[i]->address_text, 2) % (table_size - 1) + 1;
      heaviest = std::max(heaviest, candidates[i]->config.weight);
    }
    uint32_t filled = 0;
    while (filled < table_size) {
      for (size_t i = 0; i < n && filled < table_size; ++i) {
        walks[i].credit += static_cast<double>(candidates[i]->config.weight) / heaviest;
        if (walks[i].credit < 1) continue;
        walks[i].credit -= 1;
        uint64_t slot;
        do {
          slot = (walks[i].offset + walks[i].skip * walks[i].next++) % table_size;
        } while (table_[slot] != UINT32_MAX);
        table_[slot] = static_cast<uint32_t>(i);
        ++filled;
      }
    }
  }

  EndpointState* pick(bool has_hash, uint64_t hash, uint32_t attempt) override {
    if (!has_hash) hash = random_.next();
    if (attempt) hash = mix64(hash + attempt);
    return candidates_[table_[hash % table_.size()]];
  }

 private:
  const Candidates& candidates_;
  std::vector<uint32_t> table_;
  Random& random_;
};

// The candidates in their order, cut into subsets of one size; the last one is filled up from the front. The subset is
// found by a jump hash (Lamping and Veach, 2014): a new subset takes its share from all others and moves nothing else.
class Subsets final : public LoadBalancer {
 public:
  Subsets(const Candidates& candidates, uint32_t size, Random& random) : random_(random) {
    const size_t n = candidates.size();
    size = static_cast<uint32_t>(std::min<size_t>(size, n));
    members_.resize((n + size - 1) / size);
    for (size_t i = 0; i < members_.size(); ++i) {
      for (size_t j = 0; j < size; ++j) members_[i].push_back(candidates[(i * size + j) % n]);
    }
    for (const Candidates& members : members_) draws_.emplace_back(members, random);
  }

  EndpointState* pick(bool has_hash, uint64_t hash, uint32_t) override {
    return draws_[jump(has_hash ? hash : random_.next())].draw();
  }

 private:
  size_t jump(uint64_t key) const {
    int64_t chosen = -1, next = 0;
    while (next < static_cast<int64_t>(members_.size())) {
      chosen = next;
      key = key * 2862933555777941757u + 1;
      next = static_cast<int64_t>(static_cast<double>(chosen + 1) *
                                  (static_cast<double>(1ll << 31) / static_cast<double>((key >> 33) + 1)));
    }
    return static_cast<size_t>(chosen);
  }

  std::vector<Candidates> members_;
  std::vector<WeightedDraw> draws_;  // borrow from members_
  Random& random_;
};

}  // namespace

std::unique_ptr<LoadBalancer> make_load_balancer(const BalancerOptions& options, const Candidates& candidates,
                                                 Random& random) {
  const bool hashes =
      options.kind == config::LoadBalancing::kRingHash || options.kind == config::LoadBalancing::kMaglev;
  if (hashes && options.hash_subset > 0) return std::make_unique<Subsets>(candidates, options.hash_subset, random);
  switch (options.kind) {
    case config::LoadBalancing::kRoundRobin:
      return std::make_unique<RoundRobin>(candidates, random);
    case config::LoadBalancing::kRandom:
      return std::make_unique<RandomChoice>(candidates, random);
    case config::LoadBalancing::kRingHash:
      return std::make_unique<RingHash>(candidates, options.ring_size, random);
    case config::LoadBalancing::kMaglev:
      return std::make_unique<Maglev>(candidates, options.maglev_table, random);
    case config::LoadBalancing::kPeakEwma:
      return std::make_unique<PeakEwma>(candidates, *options.clock, random);
    case config::LoadBalancing::kLeastRequest:
      break;
  }
  return std::make_unique<LeastRequest>(candidates, random);
}

}  // namespace sluice::upstream
