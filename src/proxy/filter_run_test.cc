#include "proxy/filter_run.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace sluice::proxy {
namespace {

using filter::Status;

std::string text_of(const SliceQueue& queue) { return queue.to_string<std::string>(); }

// Only what FilterRun asks of a context: the arena.
class StubContext final : public filter::Context {
 public:
  http::RequestHead& request() override { std::abort(); }
  http::ResponseHead& response() override { std::abort(); }
  Arena& arena() override { return arena_; }
  event::Loop& loop() override { std::abort(); }
  Random& random() override { std::abort(); }
  const config::Route* route() const override { std::abort(); }
  const config::Snapshot& snapshot() const override { std::abort(); }
  std::string_view cluster_name() const override { return {}; }
  const net::Address& client_address() const override { std::abort(); }
  bool is_tls() const override { return false; }
  const http::ConnectionInfo& connection() const override { std::abort(); }
  void resume_request(filter::Filter&) override { std::abort(); }
  void resume_response(filter::Filter&) override { std::abort(); }
  SliceQueue& held_request_body(filter::Filter&) override { std::abort(); }
  SliceQueue& held_response_body(filter::Filter&) override { std::abort(); }
  void set_buffer_limit(size_t) override {}
  void limit_response_rate(uint64_t, uint64_t) override {}
  void send_local_reply(const filter::LocalReply&, void (*)(http::HeaderMap&, const void*), const void*) override {}
  void clear_route() override {}
  bool select_cluster(std::string_view) override { return false; }
  void call(const filter::HttpCall&, filter::CallReceiver&) override { std::abort(); }
  void send(const filter::HttpCall&) override {}
  void add_flag(filter::ResponseFlag) override {}
  void add_log_field(std::string_view, std::string_view) override {}

 private:
  Arena arena_;
};

struct World;

// Writes down each event as "<name><event>", and does what the script says for it.
struct Scripted final : filter::Filter {
  World* world;
  char name;
  Scripted(World* world, char name) : world(world), name(name) {}
  ~Scripted() override;
  Status act(const std::string& event, SliceQueue* data = nullptr);
  Status on_request_headers(filter::Context&, bool end) override { return act(end ? "H!" : "H"); }
  Status on_request_body(filter::Context&, SliceQueue& data, bool end) override { return act(end ? "B!" : "B", &data); }
  Status on_request_trailers(filter::Context&, http::HeaderMap&) override { return act("T"); }
  Status on_response_headers(filter::Context&, bool end) override { return act(end ? "h!" : "h"); }
  Status on_response_body(filter::Context&, SliceQueue& data, bool end) override {
    return act(end ? "b!" : "b", &data);
  }
  Status on_response_trailers(filter::Context&, http::HeaderMap&) override { return act("t"); }
  void on_complete(filter::Context&) override { (void)act("C"); }
};

struct Factory final : filter::Factory {
  World* world;
  char letter;
  bool bodies;
  bool absent = false;
  mutable Scripted* made = nullptr;
  Factory(World* world, char letter, bool bodies) : world(world), letter(letter), bodies(bodies) {}
  std::string_view name() const override { return "scripted"; }
  filter::Filter* create(filter::Context& context) const override {
    return absent ? nullptr : made = context.arena().create<Scripted>(world, letter);
  }
  bool wants_request_body() const override { return bodies; }
  bool wants_response_body() const override { return bodies; }
};

struct World final : FilterRun::Sink {
  StubContext context;
  std::vector<std::shared_ptr<Factory>> factories;
  config::FilterChain chain;
  std::string log;
  std::map<std::string, std::function<Status(SliceQueue*)>> script;  // by "<name><event>"
  bool stop[2] = {false, false};
  int destroyed = 0;
  int bodies_wanted = 0;
  size_t most_held = 0;
  bool collecting = false;
  std::string through[2], trailers[2];
  FilterRun run{*this};

  // "AbC": filters A and C want bodies, b does not; a dot makes none.
  explicit World(const std::string& filters) {
    for (char c : filters) {
      factories.push_back(std::make_shared<Factory>(this, c, c >= 'A' && c <= 'Z'));
      factories.back()->absent = c == '.';
      chain.push_back(factories.back());
    }
    const config::FilterChain* chains[] = {&chain};
    run.build(context, context.arena(), chains, 1);
  }
  ~World() { run.finish(context); }

  filter::Filter& filter(size_t i) { return *factories[i]->made; }
  void pause(const std::string& event) {
    script[event] = [](SliceQueue*) { return Status::kPause; };
  }
  void data(Direction direction, std::string_view text, bool end) {
    SliceQueue queue;
    queue.push_back(Slice::copy(text));
    run.data(context, direction, queue, end);
  }
  void send_trailers(Direction direction) {
    http::HeaderMap map(&context.arena());
    map.add("k", std::string_view("v"));
    run.trailers(context, direction, map);
  }
  std::string take() { return std::exchange(log, {}); }

  void on_headers_through(Direction direction, bool end) override {
    log += direction == Direction::kRequest ? ">H" : "<h";
    if (end) log += "!";
    log += " ";
  }
  void on_data_through(Direction direction, SliceQueue& data, bool end) override {
    log += direction == Direction::kRequest ? ">" : "<";
    log += text_of(data) + (end ? "! " : " ");
  }
  void on_trailers_through(Direction direction, const http::HeaderMap& map) override {
    log += direction == Direction::kRequest ? ">T" : "<t";
    for (const http::HeaderField& field : map)
      log += "(" + std::string(field.name()) + "=" + std::string(field.value()) + ")";
    log += " ";
  }
  void on_held(Direction, size_t bytes, bool is_collecting) override {
    most_held = std::max(most_held, bytes);
    collecting = is_collecting;
  }
  bool stopped(Direction direction) override { return stop[static_cast<int>(direction)]; }
  void after_request_headers() override { log += "'"; }
  void on_request_body_wanted() override { ++bodies_wanted; }
};

Scripted::~Scripted() { ++world->destroyed; }

Status Scripted::act(const std::string& event, SliceQueue* data) {
  const std::string key = name + event;
  world->log += key + " ";
  const auto found = world->script.find(key);
  return found == world->script.end() ? Status::kContinue : found->second(data);
}

constexpr Direction kIn = Direction::kRequest;
constexpr Direction kOut = Direction::kResponse;

TEST(FilterRun, RequestsRunForwardAndResponsesBackward) {
  World w("AbC");
  w.run.headers(w.context, kIn, false);
  EXPECT_EQ(w.take(), "AH 'bH 'CH '>H ");
  w.data(kIn, "x", false);
  EXPECT_EQ(w.take(), "AB CB >x ") << "b wants no bodies";
  w.data(kIn, "y", true);
  EXPECT_EQ(w.take(), "AB! CB! >y! ");
  w.run.headers(w.context, kOut, false);
  EXPECT_EQ(w.take(), "Ch bh Ah <h ");
  w.data(kOut, "z", false);
  EXPECT_EQ(w.take(), "Cb Ab <z ");
  w.send_trailers(kOut);
  EXPECT_EQ(w.take(), "Ct At <t(k=v) ") << "and b no trailers";
  w.run.finish(w.context);
  EXPECT_EQ(w.take(), "AC bC CC ");
  EXPECT_EQ(w.destroyed, 3);
  EXPECT_TRUE(w.run.empty());
}

TEST(FilterRun, WithoutFiltersAllPasses) {
  World none(""), absent("..");
  for (World* w : {&none, &absent}) {
    EXPECT_TRUE(w->run.empty());
    EXPECT_FALSE(w->run.touches_body(kIn));
    w->run.headers(w->context, kIn, true);
    EXPECT_EQ(w->take(), ">H! ");
  }
  World headers_only("ab");
  EXPECT_FALSE(headers_only.run.touches_body(kIn));
  World with_body("aB");
  EXPECT_TRUE(with_body.run.touches_body(kOut));
}

TEST(FilterRun, PauseInHeadersHoldsEverything) {
  for (Direction d : {kIn, kOut}) {
    World w("AbC");
    if (d == kOut) {
      w.run.headers(w.context, kIn, true);
      w.take();
    }
    const bool in = d == kIn;
    w.pause(in ? "bH" : "bh");
    w.run.headers(w.context, d, false);
    EXPECT_EQ(w.take(), in ? "AH 'bH '" : "Ch bh ");
    EXPECT_TRUE(w.run.paused(d));
    EXPECT_TRUE(w.run.touches_body(d));
    w.data(d, "one", false);
    w.data(d, "two", false);
    EXPECT_EQ(w.take(), in ? "AB AB " : "Cb Cb ");
    EXPECT_EQ(w.most_held, 6u);
    EXPECT_FALSE(w.collecting);
    w.send_trailers(d);
    EXPECT_EQ(w.take(), in ? "AT " : "Ct ");
    EXPECT_EQ(text_of(w.run.held(d, w.filter(1))), "onetwo");
    w.run.resume(w.context, d, w.filter(1));
    EXPECT_EQ(w.take(), in ? "CH '>H CB >onetwo CT >T(k=v) " : "Ah <h Ab <onetwo At <t(k=v) ");
    EXPECT_FALSE(w.run.paused(d));
    w.run.resume(w.context, d, w.filter(1));
    EXPECT_EQ(w.take(), "") << "who is not paused is not resumed";
  }
}

TEST(FilterRun, CollectsTheBodyAndChangesIt) {
  World w("aBc");
  w.run.headers(w.context, kIn, false);
  w.take();
  w.pause("BB");
  w.script["BB!"] = [](SliceQueue*) { return Status::kPause; };
  w.data(kIn, "hello ", false);
  EXPECT_TRUE(w.collecting);
  w.data(kIn, "world", true);
  EXPECT_EQ(w.take(), "BB BB! ");
  SliceQueue& held = w.run.held(kIn, w.filter(1));
  EXPECT_EQ(text_of(held), "hello world");
  held.clear();
  held.push_back(Slice::copy("changed"));
  w.run.resume(w.context, kIn, w.filter(1));
  EXPECT_EQ(w.take(), ">changed! ");
}

TEST(FilterRun, ResumesInsideItsOwnEventLater) {
  // A filter that pauses in the first chunk and lets go with the last by returning kContinue stays paused until it
  // resumes.
  World w("A");
  w.run.headers(w.context, kIn, false);
  w.pause("AB");
  w.data(kIn, "a", false);
  w.data(kIn, "b", true);
  EXPECT_EQ(w.take(), "AH '>H AB AB! ");
  w.run.resume(w.context, kIn, w.filter(0));
  EXPECT_EQ(w.take(), ">ab! ");
}

TEST(FilterRun, TellsWhoWaitsForTheBody) {
  World w("aBC");
  for (const char* event : {"aH", "BH", "CH"}) w.pause(event);
  w.run.headers(w.context, kIn, false);
  EXPECT_EQ(w.bodies_wanted, 0) << "this one does not look at bodies";
  w.run.resume(w.context, kIn, w.filter(0));
  EXPECT_EQ(w.bodies_wanted, 1);
  w.run.resume(w.context, kIn, w.filter(1));
  EXPECT_EQ(w.bodies_wanted, 2);
  World bodiless("A");
  bodiless.pause("AH!");
  bodiless.run.headers(bodiless.context, kIn, true);
  EXPECT_EQ(bodiless.bodies_wanted, 0);
}

TEST(FilterRun, TwoFiltersPauseInTurn) {
  World w("AB");
  w.pause("AH");
  w.pause("BH");
  w.run.headers(w.context, kIn, false);
  w.data(kIn, "x", true);
  EXPECT_EQ(w.take(), "AH 'AB! ");
  w.run.resume(w.context, kIn, w.filter(0));
  EXPECT_EQ(w.take(), "BH 'BB! ") << "held again at the next";
  w.run.resume(w.context, kIn, w.filter(0));
  EXPECT_EQ(w.take(), "");
  w.run.resume(w.context, kIn, w.filter(1));
  EXPECT_EQ(w.take(), ">H >x! ");
}

TEST(FilterRun, EndWithoutDataIsHeldToo) {
  World w("A");
  w.pause("AH");
  w.run.headers(w.context, kIn, false);
  SliceQueue empty;
  w.run.data(w.context, kIn, empty, true);
  EXPECT_EQ(w.take(), "AH 'AB! ");
  w.run.resume(w.context, kIn, w.filter(0));
  EXPECT_EQ(w.take(), ">H >! ");
  // With the end in the headers nothing follows.
  World e("A");
  e.pause("AH!");
  e.run.headers(e.context, kIn, true);
  e.run.resume(e.context, kIn, e.filter(0));
  EXPECT_EQ(e.take(), "AH! '>H! ");
}

TEST(FilterRun, PauseInTrailers) {
  World w("AB");
  w.run.headers(w.context, kIn, false);
  w.data(kIn, "x", false);
  w.take();
  w.pause("AT");
  w.send_trailers(kIn);
  EXPECT_EQ(w.take(), "AT ");
  w.run.resume(w.context, kIn, w.filter(0));
  EXPECT_EQ(w.take(), "BT >T(k=v) ");
}

TEST(FilterRun, StopsWhenTheExchangeIsAnswered) {
  // B answers in its headers: the response passes those that have seen the request, and nothing of the request goes on.
  World w("ABC");
  w.script["BH"] = [&w](SliceQueue*) {
    w.stop[0] = true;
    w.run.limit_response_to_seen();
    w.run.headers(w.context, kOut, true);
    return Status::kContinue;
  };
  w.run.headers(w.context, kIn, false);
  EXPECT_EQ(w.take(), "AH 'BH Bh! Ah! <h! ");
  for (const char* event : {"AB", "AT"}) {
    World v("AB");
    v.run.headers(v.context, kIn, false);
    v.take();
    v.script[event] = [&v](SliceQueue*) {
      v.stop[0] = true;
      return Status::kPause;
    };
    if (event[1] == 'B') {
      v.data(kIn, "x", false);
    } else {
      v.send_trailers(kIn);
    }
    EXPECT_EQ(v.take(), std::string(event) + " ");
  }
  // While it resumes.
  World r("AB");
  r.pause("AH");
  r.run.headers(r.context, kIn, false);
  r.data(kIn, "x", true);
  r.take();
  r.script["BH"] = [&r](SliceQueue*) {
    r.stop[0] = true;
    return Status::kContinue;
  };
  r.run.resume(r.context, kIn, r.filter(0));
  EXPECT_EQ(r.take(), "BH ");
}

TEST(FilterRun, BothDirectionsPauseApart) {
  World w("A");
  w.run.headers(w.context, kIn, false);
  w.pause("AB");
  w.pause("Ah");
  w.data(kIn, "in", false);
  w.run.headers(w.context, kOut, false);
  w.data(kOut, "out", true);
  EXPECT_EQ(w.take(), "AH '>H AB Ah Ab! ");
  EXPECT_TRUE(w.run.paused(kIn) && w.run.paused(kOut));
  w.run.resume(w.context, kOut, w.filter(0));
  EXPECT_EQ(w.take(), "<h <out! ");
  EXPECT_TRUE(w.run.paused(kIn));
  w.run.resume(w.context, kIn, w.filter(0));
  EXPECT_EQ(w.take(), ">in ");
}

TEST(FilterRun, FinishWhileHoldingGivesTheBytesBack) {
  const size_t before = block_pool_stats().in_use_bytes;
  {
    World w("A");
    w.pause("AH");
    w.run.headers(w.context, kIn, false);
    w.data(kIn, std::string(100'000, 'x'), true);
  }
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
}

}  // namespace
}  // namespace sluice::proxy
