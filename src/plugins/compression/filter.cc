#include "plugins/compression/filter.h"

#include <algorithm>
#include <atomic>
#include <optional>

#include "event/loop.h"
#include "plugins/compression/encoder.h"
#include "plugins/compression/negotiate.h"
#include "plugins/message_edit.h"

// A request whose client accepts none of our codings gets no filter. Otherwise the decision falls
// at the response's head. A response whose length is unknown is a stream: after each piece that
// arrives, everything is flushed, so that no byte waits for the next one. One of known length is
// flushed at its end only.

namespace sluice::plugins::compression {
namespace {

using http::HeaderId;

struct Settings {
  explicit Settings(Config c) : config(std::move(c)) {
    for (const std::string& name : config.algorithms) codings.push_back(parse_coding(name));
    block_size = config.chunk_size <= 4096 ? kSmallBlock : config.chunk_size <= 16384 ? kBlock : kLargeBlock;
  }

  bool compresses(std::string_view content_type) const {
    std::string_view type = content_type.substr(0, content_type.find(';'));
    while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.remove_suffix(1);
    return std::any_of(config.content_types.begin(), config.content_types.end(),
                       [type](const std::string& listed) { return http::iequals(listed, type); });
  }

  Config config;
  std::vector<Coding> codings;
  size_t block_size;

  // Of all workers.
  mutable std::atomic<int64_t> active{0};
};

// Fields that describe the bytes as the upstream sent them.
bool describes_plain_bytes(std::string_view name) {
  return name == "content-md5" || name == "digest" || name == "content-digest" || name == "repr-digest";
}

class Compression final : public filter::Filter {
 public:
  Compression(const Settings& settings, Coding coding) : settings_(settings), coding_(coding) {}

  filter::Status on_response_headers(filter::Context& context, bool end) override {
    http::ResponseHead& head = context.response();
    if (end || !may_compress(head) || !begin()) return filter::Status::kContinue;
    flush_each_ = head.content_length < 0;
    head.content_length = -1;
    head.headers.remove(HeaderId::kContentLength);
    head.headers.remove(HeaderId::kAcceptRanges);
    head.headers.remove_if([](const http::HeaderField& field) {
      return field.id == HeaderId::kOther && describes_plain_bytes(field.name());
    });
    const std::string_view etag = head.headers.get(HeaderId::kEtag);
    if (etag.starts_with('"')) head.headers.set(HeaderId::kEtag, context.arena().concat("W/", etag));
    head.headers.set(HeaderId::kContentEncoding, coding_name(coding_));
    add_vary(head.headers, "Accept-Encoding");
    return filter::Status::kContinue;
  }

  filter::Status on_response_body(filter::Context& context, SliceQueue& data, bool end) override {
    if (!encoder_) {
      if (broken_) data.clear();
      return filter::Status::kContinue;
    }
    encode(data, end ? Flush::kEnd : flush_each_ ? Flush::kAll : Flush::kNone);
    return filter::Status::kContinue;
  }

  // The end of the compressed stream must go out before the trailers do: it is held here, and the
  // trailers behind it, and both go on in this turn of the loop.
  filter::Status on_response_trailers(filter::Context& context, http::HeaderMap& trailers) override {
    if (!encoder_) return filter::Status::kContinue;
    SliceQueue last;
    encode(last, Flush::kEnd);
    context.held_response_body(*this).append(std::move(last));
    context_ = &context;
    context.loop().arm(timer_, 0);
    return filter::Status::kPause;
  }

  void on_complete(filter::Context& context) override {
    timer_.cancel();
    finish();
  }

 private:
  bool may_compress(const http::ResponseHead& head) const {
    const Config& config = settings_.config;
    if (head.status < 200 || head.status == 204 || head.status == 206 || head.status == 304 || head.upgrade)
      return false;
    if (head.content_length >= 0 && head.content_length < config.min_content_length) return false;
    const http::HeaderMap& headers = head.headers;
    if (headers.has(HeaderId::kContentEncoding) || headers.has(HeaderId::kContentRange)) return false;
    if (config.disable_on_etag && headers.has(HeaderId::kEtag)) return false;
    if (http::list_has_token(headers.get_joined(HeaderId::kCacheControl), "no-transform")) return false;
    return settings_.compresses(headers.get(HeaderId::kContentType));
  }

  bool begin() {
    if (settings_.active.fetch_add(1, std::memory_order_relaxed) < settings_.config.max_active) {
      encoder_ = make_encoder(coding_, settings_.config);
    }
    if (!encoder_) {
      settings_.active.fetch_sub(1, std::memory_order_relaxed);
      return false;
    }
    output_.emplace(settings_.block_size);
    return true;
  }

  // Gives the encoder and the unfilled block back.
  void finish() {
    if (!encoder_) return;
    encoder_.reset();
    output_.reset();
    settings_.active.fetch_sub(1, std::memory_order_relaxed);
  }

  void encode(SliceQueue& data, Flush flush) {
    bool good = true;
    if (data.empty() && flush == Flush::kEnd) good = encoder_->encode({}, flush, *output_);
    while (good && !data.empty()) {
      const Slice slice = data.pop_front();
      good = encoder_->encode(slice.view(), data.empty() ? flush : Flush::kNone, *output_);
    }
    data.clear();
    output_->take(data);
    broken_ = !good;  // the client finds that the stream has no end
    if (flush == Flush::kEnd || broken_) finish();
  }

  const Settings& settings_;
  const Coding coding_;
  bool flush_each_ = false;
  bool broken_ = false;
  std::unique_ptr<Encoder> encoder_;
  std::optional<Output> output_;
  filter::Context* context_ = nullptr;
  void release() { context_->resume_response(*this); }
  event::MemberTimer<Compression, &Compression::release> timer_{this};
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(Config config) : settings_(std::move(config)) {}

  std::string_view name() const override { return "compression"; }
  bool wants_response_body() const override { return true; }

  filter::Filter* create(filter::Context& context) const override {
    const http::RequestHead& request = context.request();
    if (!settings_.config.enable || request.method == http::Method::kHead || request.method == http::Method::kConnect ||
        !request.upgrade.empty() || request.headers.has(HeaderId::kRange)) {
      return nullptr;
    }
    const Coding coding = negotiate(request.headers.get_joined(HeaderId::kAcceptEncoding), settings_.codings);
    if (coding == Coding::kIdentity) return nullptr;
    return context.arena().create<Compression>(settings_, coding);
  }

 private:
  const Settings settings_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  return FactoryPointer(std::make_shared<Factory>(std::move(*config)));
}

}  // namespace

Plugin plugin() {
  return {"compression", parse, "Compresses responses with gzip, Brotli or Zstandard.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::compression
