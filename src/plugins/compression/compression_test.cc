#include <brotli/decode.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <functional>

#include "plugins/compression/encoder.h"
#include "plugins/compression/negotiate.h"
#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

// The build links the encoders only.

namespace sluice::plugins {
namespace {

using compression::Coding;
using testing::error;
using testing::FakeContext;
using testing::make;

const auto& lines = FakeContext::lines;

// A decoder that is fed piece by piece, as a client is.
class Decoder {
 public:
  explicit Decoder(std::string_view coding) : coding_(coding) {
    if (coding == "gzip") inflateInit2(&inflate_, 16 + MAX_WBITS);
    if (coding == "br") brotli_ = BrotliDecoderCreateInstance(nullptr, nullptr, nullptr);
    if (coding == "zstd") zstd_ = ZSTD_createDStream();
  }
  ~Decoder() {
    if (coding_ == "gzip") inflateEnd(&inflate_);
    if (brotli_) BrotliDecoderDestroyInstance(brotli_);
    ZSTD_freeDStream(zstd_);
  }

  // What can be decoded with these bytes; "error" if they are wrong.
  std::string feed(std::string_view bytes) {
    if (bytes.empty()) return {};
    std::string out;
    char buffer[4096];
    if (coding_ == "gzip") {
      inflate_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
      inflate_.avail_in = static_cast<uInt>(bytes.size());
      int result = Z_OK;
      do {
        inflate_.next_out = reinterpret_cast<Bytef*>(buffer);
        inflate_.avail_out = sizeof(buffer);
        result = inflate(&inflate_, Z_SYNC_FLUSH);
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return "error";
        out.append(buffer, sizeof(buffer) - inflate_.avail_out);
      } while (inflate_.avail_out == 0);
      ended_ = ended_ || result == Z_STREAM_END;
    } else if (coding_ == "br") {
      size_t left = bytes.size();
      const auto* next = reinterpret_cast<const uint8_t*>(bytes.data());
      BrotliDecoderResult result;
      do {
        auto* to = reinterpret_cast<uint8_t*>(buffer);
        size_t room = sizeof(buffer);
        result = BrotliDecoderDecompressStream(brotli_, &left, &next, &room, &to, nullptr);
        if (result == BROTLI_DECODER_RESULT_ERROR) return "error";
        out.append(buffer, sizeof(buffer) - room);
      } while (result == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT);
      ended_ = result == BROTLI_DECODER_RESULT_SUCCESS;
    } else {
      ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
      size_t result = 1;
      for (;;) {
        ZSTD_outBuffer to{buffer, sizeof(buffer), 0};
        result = ZSTD_decompressStream(zstd_, &to, &in);
        if (ZSTD_isError(result)) return "error";
        out.append(buffer, to.pos);
        if (to.pos < sizeof(buffer) && in.pos == in.size) break;
      }
      ended_ = result == 0;
    }
    return out;
  }
  bool ended() const { return ended_; }

 private:
  std::string coding_;
  z_stream inflate_{};
  BrotliDecoderState* brotli_ = nullptr;
  ZSTD_DStream* zstd_ = nullptr;
  bool ended_ = false;
};

// Text that compresses, but not to nothing.
std::string sample(size_t size) {
  std::string out;
  for (uint32_t i = 0; out.size() < size; ++i) {
    out += "{\"id\":" + std::to_string(i * 2654435761u % 100003) + ",\"name\":\"item " + std::to_string(i) + "\"},\n";
  }
  out.resize(size);
  return out;
}

// Bytes that don't compress.
std::string noise(size_t size) {
  std::string out(size, '\0');
  uint64_t state = 88172645463325252u;
  for (char& c : out) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    c = static_cast<char>(state >> 32);
  }
  return out;
}

constexpr std::string_view kDefault = "{disable_on_etag: false}";

// Whether the response is compressed.
bool compressed(FakeContext& context, std::string_view config = kDefault) {
  const FactoryPointer factory = make("compression", config);
  EXPECT_NE(factory, nullptr) << error("compression", config);
  context.create(factory);
  context.run_request();
  context.run_response();
  const bool out = context.response().headers.has("content-encoding");
  context.finish();
  return out;
}

struct Ask {
  std::string_view accept = "gzip";
  std::string_view type = "text/html; charset=utf-8";
};
void ask(FakeContext& context, Ask what = {}, int64_t length = 5000) {
  context.header("accept-encoding", what.accept).answer(200, length).response_header("content-type", what.type);
}

TEST(Compression, RoundTripsInAllCodingsAndChunkings) {
  const FactoryPointer factory = make("compression", kDefault);
  for (std::string_view coding : {"gzip", "br", "zstd"}) {
    for (const std::string& body :
         {sample(1), sample(5000), sample(300'000), noise(200'000), std::string(1'000'000, 'a')}) {
      for (size_t chunk : {size_t{1}, size_t{7}, size_t{4096}, body.size()}) {
        if (chunk < 4096 && body.size() > 5000) continue;
        FakeContext context;
        ask(context, {.accept = coding}, static_cast<int64_t>(std::max<size_t>(body.size(), 1024)));
        ASSERT_NE(context.create(factory), nullptr);
        context.run_request();
        EXPECT_TRUE(context.run_response());
        EXPECT_EQ(context.response().headers.get("content-encoding"), coding);
        Decoder decoder(coding);
        std::string decoded;
        size_t sent = 0;
        for (size_t at = 0; at < body.size(); at += chunk) {
          const bool end = at + chunk >= body.size();
          const std::string out = context.run_body(std::string_view(body).substr(at, chunk), end);
          EXPECT_LE(context.largest_slice(), kSmallBlock);
          sent += out.size();
          decoded += decoder.feed(out);
        }
        EXPECT_TRUE(decoded == body) << coding << " " << body.size() << " in chunks of " << chunk << ": "
                                     << decoded.size();
        EXPECT_TRUE(decoder.ended());
        EXPECT_LE(sent, body.size() + body.size() / 100 + 100);
      }
    }
  }
}

TEST(Compression, TheEndMayComeWithoutBytes) {
  for (std::string_view coding : {"gzip", "br", "zstd"}) {
    const FactoryPointer factory = make("compression", kDefault);
    FakeContext context;
    ask(context, {.accept = coding}, -1);
    context.create(factory);
    context.run_request();
    context.run_response();
    Decoder decoder(coding);
    EXPECT_EQ(decoder.feed(context.run_body("hello", false)), "hello");
    EXPECT_FALSE(decoder.ended());
    EXPECT_EQ(context.run_body("", false), "");
    EXPECT_EQ(decoder.feed(context.run_body("", true)), "");
    EXPECT_TRUE(decoder.ended());
  }
}

TEST(Compression, AStreamIsFlushedAfterEachPiece) {
  for (std::string_view coding : {"gzip", "br", "zstd"}) {
    const FactoryPointer factory = make("compression", "{content_types: [text/event-stream]}");
    FakeContext context;
    ask(context, {.accept = coding, .type = "text/event-stream"}, -1);
    context.create(factory);
    context.run_request();
    context.run_response();
    ASSERT_EQ(context.response().headers.get("content-encoding"), coding);
    Decoder decoder(coding);
    for (int i = 0; i < 500; ++i) {
      const std::string event = "data: " + std::to_string(i) + "\n\n";
      ASSERT_EQ(decoder.feed(context.run_body(event, false)), event) << coding << " " << i;
    }
  }
}

TEST(Compression, SmallFlushesShareABlock) {
  const compression::Config config;
  auto encoder = compression::make_encoder(Coding::kGzip, config);
  const size_t before = block_pool_stats().in_use_bytes;
  {
    compression::Output out(kSmallBlock);
    SliceQueue waiting;  // as a slow client leaves them
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(encoder->encode("data: x\n\n", compression::Flush::kAll, out));
      out.take(waiting);
    }
    EXPECT_EQ(waiting.count(), 100u);
    EXPECT_LE(block_pool_stats().in_use_bytes - before, 4096u);
  }
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
}

TEST(Compression, EventStreamsAreLeftAloneUnlessListed) {
  FakeContext context;
  ask(context, {.type = "text/event-stream"}, -1);
  EXPECT_FALSE(compressed(context));
}

TEST(Compression, KnownLengthIsNotFlushedBetween) {
  const FactoryPointer factory = make("compression", kDefault);
  FakeContext context;
  ask(context);
  context.create(factory);
  context.run_request();
  context.run_response();
  const std::string first = context.run_body(sample(2000), false);
  EXPECT_LT(first.size(), 100u);
  Decoder decoder("gzip");
  const std::string decoded = decoder.feed(first) + decoder.feed(context.run_body(sample(3000), true));
  EXPECT_EQ(decoded, sample(2000) + sample(3000));
}

TEST(Compression, ChangesTheHead) {
  FakeContext context;
  ask(context, {.accept = "br"});
  context.response_header("content-length", "5000")
      .response_header("etag", "\"abc\"")
      .response_header("accept-ranges", "bytes");
  context.response_header("content-md5", "x").response_header("x-kept", "1").response_header("vary", "Origin");
  EXPECT_TRUE(compressed(context));
  EXPECT_EQ(context.response().content_length, -1);
  EXPECT_EQ(lines(context.response().headers),
            "content-type: text/html; charset=utf-8\netag: W/\"abc\"\nx-kept: 1\nvary: Origin, "
            "Accept-Encoding\n"
            "content-encoding: br\n");
  FakeContext weak;
  ask(weak);
  weak.response_header("etag", "W/\"abc\"");
  EXPECT_TRUE(compressed(weak));
  EXPECT_EQ(weak.response().headers.get("etag"), "W/\"abc\"");
  EXPECT_EQ(weak.response().headers.get("vary"), "Accept-Encoding");
}

TEST(Compression, EtagsAreLeftAloneByDefault) {
  FakeContext context;
  ask(context);
  context.response_header("etag", "\"abc\"");
  EXPECT_FALSE(compressed(context, "{}"));
  EXPECT_EQ(context.response().headers.get("etag"), "\"abc\"");
  EXPECT_FALSE(context.response().headers.has("vary"));
}

TEST(Compression, LeavesAlone) {
  struct Case {
    const char* name;
    std::function<void(FakeContext&)> change;
  };
  const Case cases[] = {
      {"204", [](FakeContext& c) { c.response().status = 204; }},
      {"206", [](FakeContext& c) { c.response().status = 206; }},
      {"304", [](FakeContext& c) { c.response().status = 304; }},
      {"101", [](FakeContext& c) { c.response().status = 101; }},
      {"tunnel", [](FakeContext& c) { c.response().upgrade = true; }},
      {"short", [](FakeContext& c) { c.response().content_length = 1023; }},
      {"encoded", [](FakeContext& c) { c.response_header("content-encoding", "zstd"); }},
      {"range", [](FakeContext& c) { c.response_header("content-range", "bytes 0-1/2"); }},
      {"no-transform", [](FakeContext& c) { c.response_header("cache-control", "private, No-Transform"); }},
      {"type", [](FakeContext& c) { c.response().headers.set("content-type", "image/png"); }},
      {"type prefix", [](FakeContext& c) { c.response().headers.set("content-type", "text/htmlx"); }},
      {"no type", [](FakeContext& c) { c.response().headers.remove("content-type"); }},
  };
  for (const Case& one : cases) {
    FakeContext context;
    ask(context);
    one.change(context);
    const std::string before = lines(context.response().headers);
    const FactoryPointer factory = make("compression", kDefault);
    ASSERT_NE(context.create(factory), nullptr) << one.name;
    context.run_request();
    context.run_response();
    EXPECT_EQ(lines(context.response().headers), before) << one.name;
    EXPECT_EQ(context.run_body("plain", true), "plain") << one.name;
  }
  FakeContext at_limit;
  ask(at_limit, {}, 1024);
  EXPECT_TRUE(compressed(at_limit));
  FakeContext empty;
  ask(empty, {}, -1);
  const FactoryPointer factory = make("compression", kDefault);
  empty.create(factory);
  empty.run_response(true);
  EXPECT_FALSE(empty.response().headers.has("content-encoding"));
}

TEST(Compression, ListedTypesIgnoreCaseAndParameters) {
  for (const char* type : {"text/html", "TEXT/HTML", "application/json;charset=utf-8", "application/json ; x=y"}) {
    FakeContext context;
    ask(context, {.type = type});
    EXPECT_TRUE(compressed(context)) << type;
  }
}

TEST(Compression, RequestsThatGetNoFilter) {
  const FactoryPointer factory = make("compression", kDefault);
  FakeContext none, identity, head, range, upgrade;
  EXPECT_EQ(none.create(factory), nullptr);
  EXPECT_EQ(identity.header("accept-encoding", "identity, deflate").create(factory), nullptr);
  EXPECT_EQ(head.method("HEAD").header("accept-encoding", "gzip").create(factory), nullptr);
  EXPECT_EQ(range.header("accept-encoding", "gzip").header("range", "bytes=0-5").create(factory), nullptr);
  upgrade.request().upgrade = "websocket";
  EXPECT_EQ(upgrade.header("accept-encoding", "gzip").create(factory), nullptr);
  FakeContext off;
  EXPECT_EQ(off.header("accept-encoding", "gzip").create(make("compression", "{enable: false}")), nullptr);
}

TEST(Compression, TheEndOfTheStreamGoesBeforeTrailers) {
  for (std::string_view coding : {"gzip", "br", "zstd"}) {
    const FactoryPointer factory = make("compression", kDefault);
    FakeContext context;
    ask(context, {.accept = coding}, -1);
    context.create(factory);
    context.run_request();
    context.run_response();
    Decoder decoder(coding);
    EXPECT_EQ(decoder.feed(context.run_body("hello", false)), "hello");
    EXPECT_FALSE(context.run_trailers());
    context.turn(2);
    EXPECT_TRUE(context.trailers_passed());
    EXPECT_EQ(decoder.feed(context.released_response()), "");
    EXPECT_TRUE(decoder.ended());
  }
  // Cancelled in between.
  const FactoryPointer factory = make("compression", kDefault);
  FakeContext context;
  ask(context, {}, -1);
  context.create(factory);
  context.run_request();
  context.run_response();
  EXPECT_FALSE(context.run_trailers());
  context.finish();
  context.turn(2);
  EXPECT_FALSE(context.trailers_passed());
}

TEST(Compression, NoMoreThanMaxActive) {
  const FactoryPointer factory = make("compression", "{max_active: 1}");
  FakeContext a, b;
  for (FakeContext* context : {&a, &b}) {
    ask(*context);
    context->create(factory);
    context->run_request();
    context->run_response();
  }
  EXPECT_TRUE(a.response().headers.has("content-encoding"));
  EXPECT_FALSE(b.response().headers.has("content-encoding"));
  a.run_body("x", true);
  FakeContext c;
  ask(c);
  c.create(factory);
  c.run_request();
  c.run_response();
  EXPECT_TRUE(c.response().headers.has("content-encoding"));
}

// The figures that the README tells.
TEST(Compression, MemoryIsBounded) {
  const compression::Config config;
  struct Bound {
    Coding coding;
    size_t bytes;
  };
  for (const Bound& bound :
       {Bound{Coding::kGzip, 40 * 1024}, Bound{Coding::kBrotli, 600 * 1024}, Bound{Coding::kZstd, 210 * 1024}}) {
    auto encoder = compression::make_encoder(bound.coding, config);
    ASSERT_NE(encoder, nullptr);
    size_t most = 0;
    for (int i = 0; i < 100; ++i) {
      compression::Output out(kSmallBlock);
      for (const std::string& piece : {sample(65536), noise(16384), std::string("data: x\n\n")}) {
        ASSERT_TRUE(encoder->encode(piece, i % 3 ? compression::Flush::kAll : compression::Flush::kNone, out));
        most = std::max(most, encoder->memory());
      }
      SliceQueue dropped;
      out.take(dropped);
    }
    EXPECT_LE(most, bound.bytes) << compression::coding_name(bound.coding);
    RecordProperty(std::string(compression::coding_name(bound.coding)), static_cast<int>(most));
  }
}

TEST(Negotiate, WeightsAndPreference) {
  constexpr Coding kOffered[] = {Coding::kBrotli, Coding::kZstd, Coding::kGzip};
  auto chosen = [&](std::string_view accept) {
    return compression::coding_name(compression::negotiate(accept, kOffered));
  };
  EXPECT_EQ(chosen(""), "identity");
  EXPECT_EQ(chosen("gzip"), "gzip");
  EXPECT_EQ(chosen("GZIP"), "gzip");
  EXPECT_EQ(chosen("x-gzip"), "gzip");
  EXPECT_EQ(chosen("gzip, deflate, br"), "br");
  EXPECT_EQ(chosen("gzip, deflate, br, zstd"), "br");
  EXPECT_EQ(chosen("gzip;q=1.0, br;q=0.9"), "gzip");
  EXPECT_EQ(chosen("gzip;q=0.5,zstd;q=0.501"), "zstd");
  EXPECT_EQ(chosen("gzip;q=0"), "identity");
  EXPECT_EQ(chosen("gzip;q=0.000, *"), "br");
  EXPECT_EQ(chosen("*"), "br");
  EXPECT_EQ(chosen("*;q=0"), "identity");
  EXPECT_EQ(chosen("br;q=0, *;q=0.1"), "zstd");
  EXPECT_EQ(chosen("identity, gzip;q=0.5"), "identity");
  EXPECT_EQ(chosen("identity;q=0.5, gzip"), "gzip");
  EXPECT_EQ(chosen("identity;q=0"), "identity");
  EXPECT_EQ(chosen(" gzip ; q=0.8 ,, br ; Q=0.9 "), "br");
  EXPECT_EQ(chosen("deflate, compress"), "identity");
  EXPECT_EQ(chosen("gzip2, brr"), "identity");
  // Malformed weights don't count as acceptance.
  for (const char* bad : {"gzip;q=", "gzip;q=2", "gzip;q=1.1", "gzip;q=0.1234", "gzip;q=-1", "gzip;q=x", "gzip;x=1",
                          "gzip;", ";q=1", "gzip;q=1;q=1"}) {
    EXPECT_EQ(chosen(bad), "identity") << bad;
  }
}

TEST(Compression, ThePreferenceIsConfigurable) {
  FakeContext context;
  ask(context, {.accept = "gzip, br, zstd"});
  EXPECT_TRUE(compressed(context, "{algorithms: [zstd, gzip]}"));
  EXPECT_EQ(context.response().headers.get("content-encoding"), "zstd");
}

TEST(Compression, AcceptsTheKeysOfTheGzipBlock) {
  auto parsed = compression::schema().parse(testing::config(
      R"({enable: true, algorithms: [gzip], minContentLength: 10, contentType: [text/x], disableOnEtagHeader: false, memoryLevel: 9,
          windowBits: 15, chunkSize: 65536, compressionLevel: BEST_COMPRESSION, compressionStrategy: HUFFMAN_ONLY})"));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->min_content_length, 10);
  EXPECT_EQ(parsed->content_types, std::vector<std::string>{"text/x"});
  EXPECT_FALSE(parsed->disable_on_etag);
  EXPECT_EQ(parsed->memory_level, 9);
  EXPECT_EQ(parsed->window_bits, 15);
  EXPECT_EQ(parsed->chunk_size, 65536);
  EXPECT_EQ(parsed->level, 9);
  EXPECT_EQ(parsed->strategy, compression::Strategy::kHuffmanOnly);
  for (const char* level : {"BEST_SPEED", "COMPRESSION_LEVEL_1", "1"}) {
    EXPECT_EQ(compression::schema().parse(testing::config(std::string("{level: ") + level + "}"))->level, 1) << level;
  }
}

TEST(Compression, EveryExtremeOfTheConfigurationWorks) {
  for (const char* config : {"{level: 1, memory_level: 1, window_bits: 9, strategy: fixed, min_content_length: 1}",
                             "{level: 9, memory_level: 9, window_bits: 15, strategy: rle, chunk_size: 1000000}",
                             "{algorithms: br, brotli_quality: 0, brotli_window_bits: 10}",
                             "{algorithms: br, brotli_quality: 11, brotli_window_bits: 24}",
                             "{algorithms: zstd, zstd_level: 1, zstd_window_bits: 10}",
                             "{algorithms: zstd, zstd_level: 3, zstd_window_bits: 17}",
                             "{algorithms: zstd, zstd_level: 19, zstd_window_bits: 23}"}) {
    const FactoryPointer factory = make("compression", config);
    ASSERT_NE(factory, nullptr) << error("compression", config);
    FakeContext context;
    ask(context, {.accept = "*"}, -1);
    context.create(factory);
    context.run_request();
    context.run_response();
    Decoder decoder(context.response().headers.get("content-encoding"));
    const std::string body = sample(100'000);
    std::string decoded = decoder.feed(context.run_body(body, false));
    decoded += decoder.feed(context.run_body(body, true));
    EXPECT_TRUE(decoded == body + body) << config;
    EXPECT_TRUE(decoder.ended());
  }
}

TEST(Compression, MalformedConfigurations) {
  EXPECT_EQ(error("compression", "{algorithms: [deflate]}"), "algorithms[0]: \"deflate\" is not one of gzip, br, zstd");
  EXPECT_EQ(error("compression", "{algorithms: []}"), "algorithms: must not be empty");
  EXPECT_EQ(error("compression", "{algorithms: [gzip, gzip]}"), "algorithms: \"gzip\" is listed twice");
  EXPECT_EQ(error("compression", "{content_types: []}"), "content_types: must not be empty");
  EXPECT_EQ(error("compression", "{content_types: [html]}"),
            "content_types[0]: \"html\" is not a media type such as text/html");
  EXPECT_EQ(error("compression", "{window_bits: 8}"), "window_bits: 8 is not in 9..15");
  EXPECT_EQ(error("compression", "{level: ULTRA}"), "level: \"ULTRA\" is not an integer");
  EXPECT_EQ(error("compression", "{min_content_length: 0}"), "min_content_length: 0 is not in 1..2147483647");
  EXPECT_EQ(error("compression", "{mincontentlength: 5}"),
            "mincontentlength: unknown field; did you mean min_content_length?");
}

}  // namespace
}  // namespace sluice::plugins
