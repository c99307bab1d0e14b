#pragma once
// FakeContext: the exchange of a unit test. It drives one filter through the events in the way the
// real chain does, keeps what is held while the filter is paused, and records what the filter asked
// for. Test only.

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "event/loop.h"
#include "filter/call.h"
#include "filter/filter.h"
#include "http/stream.h"
#include "net/address.h"
#include "plugins/registry.h"

namespace sluice::plugins::testing {

class FakeContext final : public filter::Context {
 public:
  FakeContext() {
    request_.headers = http::HeaderMap(&arena_);
    response_.headers = http::HeaderMap(&arena_);
    request_.method_text = "GET";
    request_.scheme = "http";
    request_.authority = "foo.example";
    request_.path = "/";
    response_.status = 200;
  }
  ~FakeContext() { finish(); }

  // --- what a test sets ---

  FakeContext& method(std::string_view text) {
    request_.method = http::parse_method(text);
    request_.method_text = text;
    return *this;
  }
  FakeContext& target(std::string_view path) { return request_.path = path, *this; }
  FakeContext& header(std::string_view name, std::string_view value) {
    return request_.headers.add(name, value), *this;
  }
  FakeContext& tls(bool on) {
    request_.scheme = on ? "https" : "http";
    return tls_ = connection_.tls = on, *this;
  }
  FakeContext& client(std::string_view address) { return client_ = *net::Address::parse(address), *this; }
  FakeContext& answer(int status, int64_t content_length) {
    response_.status = status;
    response_.content_length = content_length;
    return *this;
  }
  FakeContext& response_header(std::string_view name, std::string_view value) {
    return response_.headers.add(name, value), *this;
  }

  FakeContext& client_certificate(http::ClientCertificate certificate) {
    connection_.client_certificate = std::make_shared<const http::ClientCertificate>(std::move(certificate));
    return *this;
  }

  // --- driving the filter ---

  // Creates the filter. Null: it has nothing to do.
  filter::Filter* create(const FactoryPointer& factory) {
    finish();
    factory_ = factory;
    return filter_ = factory->create(*this);
  }

  // True if the request headers have passed.
  bool run_request(bool end = true) {
    if (!filter_) return request_passed_ = true;
    const filter::Status status = filter_->on_request_headers(*this, end);
    if (!replied_) request_passed_ = status == filter::Status::kContinue;
    return request_passed_;
  }
  bool run_response(bool end = false) {
    if (!filter_) return response_passed_ = true;
    return response_passed_ = filter_->on_response_headers(*this, end) == filter::Status::kContinue;
  }
  // What the filter makes of a chunk of the response.
  std::string run_body(std::string_view chunk, bool end) {
    SliceQueue data;
    if (!chunk.empty()) data.push_back(Slice::copy(chunk));
    return run_body(std::move(data), end);
  }
  std::string run_body(SliceQueue data, bool end) {
    if (filter_) filter_->on_response_body(*this, data, end);
    largest_slice_ = 0;
    for (size_t i = 0; i < data.count(); ++i) largest_slice_ = std::max(largest_slice_, data[i].size());
    return data.to_string<std::string>();
  }
  // True if the trailers passed at once; otherwise turn() until they do.
  bool run_trailers() {
    http::HeaderMap trailers(&arena_);
    if (!filter_) return true;
    return trailers_passed_ = filter_->on_response_trailers(*this, trailers) == filter::Status::kContinue;
  }
  // Lets `ms` pass on the loop.
  void turn(int ms) {
    const uint64_t until = loop_.now_ms() + static_cast<uint64_t>(ms);
    do {
      loop_.run_once(1);
    } while (loop_.now_ms() < until);
  }
  // The end of the exchange.
  void finish() {
    if (!filter_) return;
    filter::Filter* filter = std::exchange(filter_, nullptr);
    filter->on_complete(*this);
    filter->~Filter();
  }

  // --- what the filter did ---

  bool replied() const { return replied_; }
  int reply_status() const { return reply_status_; }
  const std::string& reply_body() const { return reply_body_; }
  const std::string& reply_details() const { return reply_details_; }
  const http::HeaderMap& reply_headers() const { return reply_headers_; }
  bool request_passed() const { return request_passed_; }
  bool response_passed() const { return response_passed_; }
  bool trailers_passed() const { return trailers_passed_; }
  size_t largest_slice() const { return largest_slice_; }
  std::string released_response() { return std::exchange(released_response_, {}); }
  const std::vector<std::pair<std::string, std::string>>& log_fields() const { return log_fields_; }

  // The headers as "name: value\n" lines, in order.
  static std::string lines(const http::HeaderMap& headers) {
    std::string out;
    for (const http::HeaderField& field : headers) {
      out += std::string(field.name()) + ": " + std::string(field.value()) + "\n";
    }
    return out;
  }

  // --- filter::Context ---

  http::RequestHead& request() override { return request_; }
  http::ResponseHead& response() override { return response_; }
  Random& random() override { return random_; }
  void add_flag(filter::ResponseFlag flag) override { flags_.add(flag); }
  bool has_flag(filter::ResponseFlag flag) const { return flags_.has(flag); }
  Arena& arena() override { return arena_; }
  event::Loop& loop() override { return loop_; }
  const config::Route* route() const override { return nullptr; }
  const config::Snapshot& snapshot() const override { std::abort(); }
  std::string_view cluster_name() const override { return "cluster"; }
  const net::Address& client_address() const override { return client_; }
  bool is_tls() const override { return tls_; }
  const http::ConnectionInfo& connection() const override { return connection_; }
  void resume_request(filter::Filter&) override { request_passed_ = true; }
  void resume_response(filter::Filter&) override {
    response_passed_ = trailers_passed_ = true;
    released_response_ += held_response_.to_string<std::string>();
    held_response_.clear();
  }
  SliceQueue& held_request_body(filter::Filter&) override { return held_request_; }
  SliceQueue& held_response_body(filter::Filter&) override { return held_response_; }
  void set_buffer_limit(size_t) override {}
  void limit_response_rate(uint64_t bytes_per_second, uint64_t after) override {
    response_rate_ = {bytes_per_second, after};
  }
  std::pair<uint64_t, uint64_t> response_rate() const { return response_rate_; }
  void send_local_reply(const filter::LocalReply& reply, void (*configure)(http::HeaderMap&, const void*),
                        const void* argument) override {
    replied_ = true;
    reply_status_ = reply.status;
    reply_body_ = reply.body;
    reply_details_ = reply.details;
    reply_headers_ = http::HeaderMap(&arena_);
    if (configure) configure(reply_headers_, argument);
  }
  void clear_route() override {}
  bool select_cluster(std::string_view) override { return false; }
  void call(const filter::HttpCall& call, filter::CallReceiver& receiver) override {
    calls_.push_back(text_of(call));
    receiver_ = &receiver;
    receiver.attach(&running_);
  }
  void send(const filter::HttpCall& call) override { sent_.push_back(text_of(call)); }
  // What the filter sent with send(): "cluster METHOD authority/path\n", header lines, body.
  const std::vector<std::string>& sent() const { return sent_; }
  // What it asked with call(), in the same form.
  const std::vector<std::string>& calls() const { return calls_; }
  bool call_given_up() const { return running_.given_up; }
  // Answers the running call. Status 0: it failed.
  void answer_call(int status, std::initializer_list<std::pair<std::string_view, std::string_view>> fields = {}) {
    http::HeaderMap headers(&arena_);
    for (const auto& [name, value] : fields) headers.add(name, value);
    filter::HttpCallResult result;
    result.ok = status != 0;
    result.status = status;
    result.headers = &headers;
    filter::CallReceiver* receiver = std::exchange(receiver_, nullptr);
    receiver->attach(nullptr);
    receiver->on_call_result(result);
  }
  void add_log_field(std::string_view name, std::string_view value) override { log_fields_.emplace_back(name, value); }

 private:
  struct RunningCall final : filter::CallReceiver::Call {
    bool given_up = false;
    void give_up() override { given_up = true; }
  };
  static std::string text_of(const filter::HttpCall& call) {
    std::string text(call.cluster);
    text += " " + std::string(call.method) + " " + std::string(call.authority) + std::string(call.path) + "\n";
    for (const auto& [name, value] : call.headers) text += std::string(name) + ": " + std::string(value) + "\n";
    return text + std::string(call.body);
  }

  Random random_{1};
  filter::ResponseFlags flags_;
  Arena arena_;
  event::Loop loop_;
  http::RequestHead request_;
  http::ResponseHead response_;
  http::HeaderMap reply_headers_;
  http::ConnectionInfo connection_;
  net::Address client_ = net::Address::ipv4(192, 0, 2, 7, 4242);
  FactoryPointer factory_;
  filter::Filter* filter_ = nullptr;
  SliceQueue held_request_, held_response_;
  std::string reply_body_, reply_details_, released_response_;
  std::vector<std::pair<std::string, std::string>> log_fields_;
  std::vector<std::string> sent_, calls_;
  RunningCall running_;
  filter::CallReceiver* receiver_ = nullptr;
  std::pair<uint64_t, uint64_t> response_rate_{0, 0};
  size_t largest_slice_ = 0;
  int reply_status_ = 0;
  bool tls_ = false;
  bool replied_ = false;
  bool request_passed_ = false;
  bool response_passed_ = false;
  bool trailers_passed_ = false;
};

}  // namespace sluice::plugins::testing
