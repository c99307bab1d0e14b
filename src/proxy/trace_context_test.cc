#include "proxy/trace_context.h"

#include <gtest/gtest.h>

#include "base/base64.h"

namespace sluice::proxy {
namespace {

using Decision = TraceContext::Decision;

constexpr std::string_view kTrace = "0af7651916cd43dd8448eb211c80319c";
constexpr std::string_view kSpan = "b7ad6b7169203331";

struct Fields {
  Arena arena;
  http::HeaderMap map{&arena};
  Fields(std::initializer_list<std::pair<std::string_view, std::string_view>> fields) {
    for (const auto& [name, value] : fields) map.add(name, value);
  }
};

std::string w3c(std::string_view traceparent, std::string_view tracestate = {}) {
  Fields fields{{"traceparent", traceparent}, {"tracestate", tracestate}};
  const TraceContext context = read_w3c(fields.map, fields.arena);
  if (!context) return "none";
  const bool sampled = context.decision == Decision::kSample;
  write_w3c(context, sampled, fields.map, fields.arena);
  return std::string(fields.map.get("traceparent")) + " " + std::string(fields.map.get("tracestate"));
}

// RFC-like cases of W3C Trace Context §3.2.
TEST(W3c, ReadAndWrittenAgain) {
  const std::string good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";
  EXPECT_EQ(w3c(good + "01", "a=b"), good + "01 a=b");
  EXPECT_EQ(w3c(good + "00"), good + "00 ");
  EXPECT_EQ(w3c(good + "03"), good + "01 ");  // unknown flags are not passed on
  EXPECT_EQ(w3c("cc" + good.substr(2) + "01-what-comes-later"), good + "01 ");
  EXPECT_EQ(w3c(good + "01", std::string(513, 'a')), good + "01 ");
  for (std::string_view bad : {"", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
                               "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                               "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
                               "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
                               "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                               "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                               "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                               "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
                               "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01"}) {
    EXPECT_EQ(w3c(bad), "none") << bad;
  }
}

TEST(B3, FieldsAndOneField) {
  {
    Fields fields{{"x-b3-traceid", kTrace}, {"x-b3-spanid", kSpan}, {"x-b3-sampled", "true"}};
    const TraceContext context = read_b3(fields.map);
    EXPECT_EQ(hex_trace_id(context, fields.arena), kTrace);
    EXPECT_EQ(hex_span_id(context.span_id, fields.arena), kSpan);
    EXPECT_EQ(context.decision, Decision::kSample);
    write_b3(context, 0x12, false, fields.map, fields.arena);
    EXPECT_EQ(fields.map.get("x-b3-parentspanid"), "0000000000000012");
    EXPECT_EQ(fields.map.get("x-b3-sampled"), "0");
  }
  {
    const std::string one = std::string(kTrace.substr(0, 16)) + "-" + std::string(kSpan) + "-d-05e3ac9a4f6e3b90";
    Fields fields{{"b3", one}};
    const TraceContext context = read_b3(fields.map);
    ASSERT_TRUE(context);
    EXPECT_TRUE(context.debug && context.short_trace_id);
    EXPECT_EQ(hex_trace_id(context, fields.arena), kTrace.substr(0, 16));
  }
  // A decision without a trace.
  EXPECT_EQ(read_b3(Fields{{"b3", "0"}}.map).decision, Decision::kDrop);
  EXPECT_EQ(read_b3(Fields{{"x-b3-sampled", "0"}}.map).decision, Decision::kDrop);
  EXPECT_EQ(read_b3(Fields{{"x-b3-flags", "1"}}.map).decision, Decision::kSample);
  for (std::string_view bad : {"", "x", "-", "0af7651916cd43dd-b7ad6b716920333", "0af7651916cd43dd-b7ad6b7169203331x",
                               "0af7651916cd43dd-b7ad6b7169203331-2", "0af7651916cd43d-b7ad6b7169203331"}) {
    const TraceContext context = read_b3(Fields{{"b3", bad}}.map);
    EXPECT_FALSE(context) << bad;
    EXPECT_EQ(context.decision, Decision::kNone) << bad;
  }
  EXPECT_FALSE(read_b3(Fields{{"x-b3-traceid", kTrace}}.map));
}

TEST(Sw8, ReadAndWrittenAgain) {
  auto e = [](std::string_view text) { return encode_base64(text); };
  const std::string good = "1-" + e("trace") + "-" + e("segment") + "-3-" + e("service") + "-" + e("instance") + "-" +
                           e("/endpoint") + "-" + e("peer:80");
  Fields fields{{"sw8", good}};
  const SkyWalkingContext context = read_sw8(fields.map, fields.arena);
  ASSERT_TRUE(context);
  EXPECT_EQ(context.parent_endpoint, "/endpoint");
  EXPECT_EQ(context.parent_span, 3u);
  write_sw8(context, fields.map, fields.arena);
  EXPECT_EQ(fields.map.get("sw8"), good);
  for (const std::string& bad : {std::string(), "2" + good.substr(1), good + "-x", good.substr(0, good.rfind('-')),
                                 "1-" + e("trace") + "--3-a-b-c-d", std::string(2049, '-')}) {
    Fields wrong{{"sw8", bad}};
    EXPECT_FALSE(read_sw8(wrong.map, wrong.arena)) << bad;
  }
}

TEST(TraceContext, Removed) {
  Fields fields{{"traceparent", "x"}, {"a", "1"}, {"b3", "0"}, {"x-b3-spanid", "2"}, {"sw8", ""}, {"tracestate", "y"}};
  remove_contexts(fields.map);
  EXPECT_EQ(fields.map.size(), 1u);
}

}  // namespace
}  // namespace sluice::proxy
