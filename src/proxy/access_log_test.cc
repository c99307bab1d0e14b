#include "proxy/access_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <set>
#include <string>
#include <thread>

namespace sluice::proxy {
namespace {

std::string write(const AccessLogFormat& format, const LogRecord& record) {
  std::string out;
  format.write(record, out);
  return out;
}
std::string write(std::string_view format, const LogRecord& record) {
  auto parsed = AccessLogFormat::parse(format);
  return parsed.ok() ? write(*parsed, record) : "error: " + parsed.error().message;
}

LogRecord example() {
  LogRecord r;
  r.method = "GET";
  r.path = "/a?b";
  r.authority = "example.com";
  r.request_id = "id-1";
  r.user_agent = "curl";
  r.protocol = "HTTP/1.1";
  r.route_name = "default/a";
  r.upstream_cluster = "outbound|80||a";
  r.upstream_host = "10.0.0.1:80";
  r.details = "via_upstream";
  r.status = 503;
  r.flags.add(ResponseFlag::kUpstreamTimeout);
  r.flags.add(ResponseFlag::kRetryLimit);
  r.bytes_received = 1;
  r.bytes_sent = 18446744073709551615u;
  r.duration_ms = 12;
  r.start_time_us = 1'700'000'000'007'999;
  return r;
}

TEST(AccessLogFormat, StandardHasTheTwentySixFields) {
  const std::set<std::string> expected = {"ai_log",
                                          "authority",
                                          "bytes_received",
                                          "bytes_sent",
                                          "downstream_local_address",
                                          "downstream_remote_address",
                                          "duration",
                                          "istio_policy_status",
                                          "method",
                                          "path",
                                          "protocol",
                                          "request_id",
                                          "requested_server_name",
                                          "response_code",
                                          "response_flags",
                                          "route_name",
                                          "start_time",
                                          "trace_id",
                                          "upstream_cluster",
                                          "upstream_host",
                                          "upstream_local_address",
                                          "upstream_service_time",
                                          "upstream_transport_failure_reason",
                                          "user_agent",
                                          "x_forwarded_for",
                                          "response_code_details"};
  const std::string line = write(AccessLogFormat::standard(), example());
  ASSERT_EQ(line.back(), '\n');
  const auto json = nlohmann::json::parse(line);
  std::set<std::string> names;
  for (const auto& [name, value] : json.items()) {
    names.insert(name);
    EXPECT_TRUE(value.is_string()) << name;
  }
  EXPECT_EQ(names, expected);
  EXPECT_EQ(json["path"], "/a?b");
  EXPECT_EQ(json["authority"], "example.com");
  EXPECT_EQ(json["response_code"], "503");
  EXPECT_EQ(json["response_flags"], "UT,URX");
  EXPECT_EQ(json["bytes_sent"], "18446744073709551615");
  EXPECT_EQ(json["start_time"], "2023-11-14T22:13:20.007Z");
  EXPECT_EQ(json["istio_policy_status"], "-");
  EXPECT_EQ(json["ai_log"], "-");
  EXPECT_EQ(json["trace_id"], "-");
}

TEST(AccessLogFormat, RewrittenPathAndHostAreLoggedAsTheyCame) {
  LogRecord r = example();
  r.original_path = "/before";
  r.original_host = "before.example";
  const auto json = nlohmann::json::parse(write(AccessLogFormat::standard(), r));
  EXPECT_EQ(json["path"], "/before");
  EXPECT_EQ(json["authority"], "before.example");
}

TEST(AccessLogFormat, HostileValuesStayInTheirPlace) {
  const std::string hostile[] = {
      "\"",
      "\\",
      "\\\"",
      "\n{\"fake\":1}",
      "\r\n",
      std::string("\0", 1),
      "\x1b[2J",
      "\x7f",
      "\t",
      "%REQ(X)%",
      "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",  // valid UTF-8
      "\xff",
      "\xc3",
      "\xc3(",
      "\xe2\x82",
      "\xf0\x9f\x98",
      "\x80",
      "\xc0\xaf",
      "\xed\xa0\x80",
      "\xf5\x80\x80\x80",
      "a\xff"
      "b",
  };
  for (const std::string& value : hostile) {
    LogRecord r = example();
    r.path = r.user_agent = r.authority = r.request_id = r.x_forwarded_for = r.sni = value;
    const std::string line = write(AccessLogFormat::standard(), r);
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
    nlohmann::json json;
    ASSERT_NO_THROW(json = nlohmann::json::parse(line)) << testing::PrintToString(value) << " " << line;
    EXPECT_EQ(json.size(), 26u);
    // What is text comes back as it was.
    if (value.find_first_of("\x80\xff\xc0\xed\xf5") == std::string::npos &&
        static_cast<unsigned char>(value.back()) < 0x80 && value.front() >= 0 &&
        value.find('\xc3') == std::string::npos) {
      EXPECT_EQ(json["user_agent"], value);
    }
    // The plain format keeps to one line, too.
    const std::string text = write("%REQ(:PATH)% %REQ(USER-AGENT)%", r);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
  }
  LogRecord r = example();
  r.user_agent = "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
  EXPECT_EQ(nlohmann::json::parse(write(AccessLogFormat::standard(), r))["user_agent"], r.user_agent);
}

TEST(AccessLogFormat, Operators) {
  Arena arena;
  http::HeaderMap request(&arena), response(&arena);
  request.add("x-own", std::string_view("abcdef"));
  response.add("server", std::string_view("nginx"));
  const LogRecord::Field fields[] = {{"ai_log", "{\"a\":1}"}};
  LogRecord r = example();
  r.request_headers = &request;
  r.response_headers = &response;
  r.fields = fields;
  r.field_count = 1;
  r.remote_address = "10.0.0.1:4321";
  const struct {
    const char *format, *expected;
  } cases[] = {
      {"", "\n"},
      {"plain\n", "plain\n"},
      {"100%% %PROTOCOL%", "100% HTTP/1.1\n"},
      {"%REQ(X-Own)%", "abcdef\n"},
      {"%REQ(X-Own):3%", "abc\n"},
      {"%REQ(X-Own):30%", "abcdef\n"},
      {"%REQ(X-None?X-Own)%", "abcdef\n"},
      {"%REQ(X-None?:PATH)%", "/a?b\n"},
      {"%REQ(X-None)%", "-\n"},
      {"%REQ(:METHOD)% %REQ(:AUTHORITY)% %REQ(HOST)%", "GET example.com example.com\n"},
      {"%RESP(Server)%", "nginx\n"},
      {"%RESP(X)% %TRAILER(X)% %DYNAMIC_METADATA(a:b)%", "- - -\n"},
      {"%FILTER_STATE(wasm.ai_log:PLAIN)%", "{\"a\":1}\n"},
      {"%FILTER_STATE(ai_log)%", "{\"a\":1}\n"},
      {"%FILTER_STATE(other:PLAIN)%", "-\n"},
      {"%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.1:4321 10.0.0.1\n"},
      {"%START_TIME(%Y-%m-%d %H:%M:%S)%", "2023-11-14 22:13:20\n"},
      {"%START_TIME(%s.%3f)%", "1700000000.007\n"},
      {"%START_TIME(%6f)%", "007999\n"},
      {"%START_TIME(%f)%", "007999000\n"},
      {"%START_TIME%", "2023-11-14T22:13:20.007Z\n"},
      {"[%RESPONSE_CODE%] %RESPONSE_FLAGS% %DURATION% %BYTES_RECEIVED%", "[503] UT,URX 12 1\n"},
      {"%ROUTE_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %RESPONSE_CODE_DETAILS%",
       "default/a outbound|80||a 10.0.0.1:80 via_upstream\n"},
  };
  for (const auto& c : cases) EXPECT_EQ(write(c.format, r), c.expected) << c.format;
  EXPECT_EQ(write("{\"log\":\"%FILTER_STATE(wasm.ai_log:PLAIN)%\"}", r), "{\"log\":\"{\\\"a\\\":1}\"}\n")
      << "JSON inside JSON is escaped";
}

TEST(AccessLogFormat, ErrorsNameTheOperator) {
  const struct {
    const char *format, *part;
  } cases[] = {
      {"%NO_SUCH%", "NO_SUCH"},
      {"%REQ(A", "closing %"},
      {"%REQ(A%", "closing %"},
      {"%", "closing %"},
      {"%REQ()%", "no header"},
      {"%REQ(?B)%", "no header"},
      {"%REQ(A)x%", ":N"},
      {"%REQ(A):x%", ":N"},
      {"%REQ(A):%", ":N"},
      {"%REQ(A):99999999999999999999999%", ":N"},
      {"a %RESPONSE_CODE b", "closing %"},
      {"%req(A)%", "req"},
      {"%REQ(A):-1%", ":N"},
  };
  for (const auto& c : cases) {
    auto parsed = AccessLogFormat::parse(c.format);
    ASSERT_FALSE(parsed.ok()) << c.format;
    EXPECT_NE(parsed.error().message.find(c.part), std::string::npos) << c.format << ": " << parsed.error().message;
  }
}

// --- The writer ---

struct TempDirectory {
  TempDirectory() {
    char path[] = "/tmp/sluice-log-XXXXXX";
    name = mkdtemp(path);
  }
  ~TempDirectory() { std::system(("rm -rf " + name).c_str()); }
  std::string file(const char* which) const { return name + "/" + which; }
  static size_t lines(const std::string& path) {
    std::ifstream in(path);
    size_t n = 0;
    for (std::string line; std::getline(in, line);) ++n;
    return n;
  }
  std::string name;
};

AccessLogFormat numbered() { return *AccessLogFormat::parse("%REQ(:PATH)%"); }

TEST(AccessLog, WritesEveryLineOfEveryThread) {
  TempDirectory directory;
  const std::string path = directory.file("log");
  constexpr int kThreads = 3, kLines = 3000;
  std::atomic<uint64_t> dropped{0};
  {
    auto log = AccessLog::open(path, numbered());
    ASSERT_TRUE(log.ok());
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        AccessLog::Producer producer(**log);
        for (int i = 0; i < kLines; ++i) {
          const std::string text = std::to_string(t) + ":" + std::to_string(i);
          LogRecord record;
          record.path = text;
          producer.append(record);
          if (i % 10 == 0) dropped += producer.flush();
        }
        while (!producer.empty()) {
          dropped += producer.flush();
          std::this_thread::yield();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    (*log)->drain();
    EXPECT_EQ(TempDirectory::lines(path), static_cast<size_t>(kThreads * kLines));
  }
  EXPECT_EQ(dropped.load(), 0u);
  std::ifstream in(path);
  std::vector<int> next(kThreads);
  for (std::string line; std::getline(in, line);) {
    const size_t t = static_cast<size_t>(line[0] - '0');
    EXPECT_EQ(line, std::to_string(t) + ":" + std::to_string(next[t]++)) << "the lines of one thread keep their order";
  }
}

TEST(AccessLog, ReopensAfterARotation) {
  TempDirectory directory;
  const std::string path = directory.file("log");
  auto log = AccessLog::open(path, numbered());
  ASSERT_TRUE(log.ok());
  AccessLog::Producer producer(**log);
  LogRecord record;
  record.path = "one";
  producer.append(record);
  while (!producer.empty()) producer.flush();
  (*log)->drain();
  ASSERT_EQ(rename(path.c_str(), directory.file("log.1").c_str()), 0);
  (*log)->reopen();
  record.path = "two";
  for (int i = 0; i < 200 && access(path.c_str(), F_OK) != 0; ++i) usleep(10'000);
  producer.append(record);
  while (!producer.empty()) producer.flush();
  (*log)->drain();
  EXPECT_EQ(TempDirectory::lines(directory.file("log.1")), 1u);
  EXPECT_EQ(TempDirectory::lines(path), 1u);
}

TEST(AccessLog, OpenErrorsAndAFailedReopen) {
  auto bad = AccessLog::open("/no/such/directory/log", numbered());
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().message.find("/no/such/directory/log"), std::string::npos);
  // The old file goes on being written when the path can't be opened again.
  TempDirectory directory;
  mkdir(directory.file("sub").c_str(), 0755);
  const std::string path = directory.file("sub") + "/log";
  auto log = AccessLog::open(path, numbered());
  ASSERT_TRUE(log.ok());
  ASSERT_EQ(rename(directory.file("sub").c_str(), directory.file("moved").c_str()), 0);
  (*log)->reopen();
  usleep(50'000);
  AccessLog::Producer producer(**log);
  LogRecord record;
  record.path = "x";
  producer.append(record);
  while (!producer.empty()) producer.flush();
  (*log)->drain();
  EXPECT_EQ(TempDirectory::lines(directory.file("moved") + "/log"), 1u);
}

TEST(AccessLog, FullDiskLosesLinesAndNothingElse) {
  auto log = AccessLog::open("/dev/full", numbered());
  ASSERT_TRUE(log.ok());
  AccessLog::Producer producer(**log);
  LogRecord record;
  record.path = "x";
  for (int i = 0; i < 1000; ++i) {
    producer.append(record);
    producer.flush();
  }
  (*log)->drain();
}

TEST(AccessLog, SlowSinkDropsAndCounts) {
  TempDirectory directory;
  const std::string path = directory.file("pipe");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const int reader = open(path.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  uint64_t lines = 0, dropped = 0;
  size_t received = 0;
  {
    auto log = AccessLog::open(path, numbered());
    ASSERT_TRUE(log.ok());
    AccessLog::Producer producer(**log);
    const std::string text(999, 'x');
    LogRecord record;
    record.path = text;
    // Nobody reads: 64 KiB in the pipe, 4 MiB that wait, and the producer's own buffer; the rest is dropped and
    // counted.
    for (int i = 0; i < 12'000; ++i) {
      producer.append(record);
      ++lines;
      dropped += producer.flush();
    }
    EXPECT_GT(dropped, 3000u);
    // The reader comes back: everything that was kept arrives whole.
    std::thread drain([&] {
      char buffer[65536];
      ssize_t n;
      while ((n = read(reader, buffer, sizeof(buffer))) != 0) {
        if (n > 0) {
          received += static_cast<size_t>(n);
        } else {
          usleep(1000);
        }
      }
    });
    while (!producer.empty()) {
      dropped += producer.flush();
      usleep(1000);
    }
    log->reset();  // writes what is left and closes the pipe
    drain.join();
  }
  close(reader);
  EXPECT_EQ(received, (lines - dropped) * 1000);
}

TEST(AccessLog, ReopenWhileManyWrite) {
  TempDirectory directory;
  const std::string path = directory.file("log");
  auto log = AccessLog::open(path, numbered());
  ASSERT_TRUE(log.ok());
  std::thread writer([&] {
    AccessLog::Producer producer(**log);
    LogRecord record;
    record.path = "x";
    for (int i = 0; i < 2000; ++i) {
      producer.append(record);
      producer.flush();
    }
    while (!producer.empty()) producer.flush();
  });
  for (int i = 0; i < 20; ++i) {
    (*log)->reopen();
    usleep(500);
  }
  writer.join();
  (*log)->drain();
  EXPECT_EQ(TempDirectory::lines(path), 2000u);
}

}  // namespace
}  // namespace sluice::proxy
