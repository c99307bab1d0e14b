#pragma once
// The access log: one line per exchange, formatted on the worker and written by one background thread.
//
// A worker appends lines to its own buffer and hands the buffer over at the end of a turn; it never waits for the disk
// or the pipe. What the sink can't take within kMaxBuffered bytes per worker is dropped and counted.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "filter/response_flags.h"
#include "http/headers.h"
#include "net/address.h"

namespace sluice::proxy {

using filter::FlagName;
using filter::kFlagNames;
using filter::ResponseFlag;
using filter::ResponseFlags;

// Facts of a finished exchange. Views are valid for the call.
struct LogRecord {
  std::string_view method, path, original_path, authority, original_host, request_id, user_agent, x_forwarded_for;
  std::string_view trace_id, route_name, upstream_cluster, upstream_host, upstream_local_address;
  std::string_view upstream_service_time, upstream_failure, details, sni, local_address, remote_address;
  std::string_view protocol;
  int status = 0;
  ResponseFlags flags;
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;
  uint64_t duration_ms = 0;
  uint64_t start_time_us = 0;                        // since the Unix epoch
  const http::HeaderMap* request_headers = nullptr;  // may be null
  const http::HeaderMap* response_headers = nullptr;
  struct Field {
    std::string_view name, value;
  };
  const Field* fields = nullptr;  // added by filters
  size_t field_count = 0;
};

// A compiled format: text with Envoy's command operators (%REQ(:PATH)%, %RESPONSE_CODE%, …). A format that starts with
// '{' is JSON: values are escaped for it. Empty values are written as '-'.
class AccessLogFormat {
 public:
  // Higress's default: 26 fields of JSON.
  static const AccessLogFormat& standard();
  // The error names the operator that is not known.
  static Result<AccessLogFormat> parse(std::string_view text);
  // What is wrong with a format; empty: nothing.
  static std::string check(std::string_view text);
  // Whether lines show fields of the heads, or those that filters add, beyond what LogRecord names.
  bool shows_heads() const { return shows_heads_; }
  bool shows_fields() const { return shows_fields_; }
  // Appends one line with its line feed.
  void write(const LogRecord& record, std::string& out) const;

 private:
  enum class Kind : uint8_t {
    kLiteral,
    kRequestHeader,
    kResponseHeader,
    kField,
    kStartTime,
    kProtocol,
    kStatus,
    kFlags,
    kBytesReceived,
    kBytesSent,
    kDuration,
    kRouteName,
    kUpstreamCluster,
    kUpstreamHost,
    kUpstreamLocal,
    kUpstreamFailure,
    kDetails,
    kSni,
    kLocalAddress,
    kRemoteAddress,
    kRemoteIp,
    kNothing,
  };
  // A pseudo-header or field of a head. Those that LogRecord has by name are taken from there.
  struct HeadText {
    std::string name;  // empty: none
    std::string_view LogRecord::* known = nullptr;

    bool is_of_the_head() const { return !name.empty() && !known; }
    std::string_view of(const LogRecord& record, const http::HeaderMap* headers) const {
      if (known) return record.*known;
      return headers && !name.empty() ? headers->get(name) : std::string_view();
    }
  };
  struct Item {
    Kind kind = Kind::kLiteral;
    std::string text;      // literal, field name or time format
    HeadText head;         // kRequestHeader, kResponseHeader
    HeadText alternative;  // the second of "A?B"
    size_t max_length = SIZE_MAX;
  };
  static HeadText head_text(Kind kind, std::string_view name);
  static Result<Item> parse_operator(std::string_view text);
  void write_value(const Item& item, const LogRecord& record, std::string& out) const;
  void append_escaped(std::string_view value, size_t max_length, std::string& out) const;

  std::vector<Item> items_;
  bool json_ = false;
  bool shows_heads_ = false;
  bool shows_fields_ = false;
};

// The sink and its writer thread.
class AccessLog {
 public:
  static constexpr size_t kMaxBuffered = 4 << 20;

  // "-": standard output; anything else is a path, created and appended to.
  static Result<std::unique_ptr<AccessLog>> open(const std::string& target, AccessLogFormat format);
  ~AccessLog();

  const AccessLogFormat& format() const { return format_; }
  // Any thread: opens the path again (after a rotation). Errors keep the old file.
  void reopen();
  // Blocks until everything handed over has been written; for the end of the process.
  void drain();

  // A worker's side. Belongs to its thread.
  class Producer {
   public:
    explicit Producer(AccessLog& log) : log_(log) {}
    // The format of the lines from here on; empty: the log's own. A text that does not parse leaves it as it is.
    void set_format(const std::string& text);
    const AccessLogFormat& format() const { return own_format_ ? *own_format_ : log_.format_; }
    void append(const LogRecord& record) {
      format().write(record, buffer_);
      ++lines_;
    }
    bool empty() const { return buffer_.empty(); }
    // Hands the buffer over, unless the writer is too far behind. Returns the number of lines dropped: now, and by
    // failed writes since the last call.
    uint64_t flush();

   private:
    AccessLog& log_;
    std::string format_text_;
    std::optional<AccessLogFormat> own_format_;
    std::string buffer_;
    uint64_t lines_ = 0;
  };

 private:
  AccessLog(int fd, std::string path, AccessLogFormat format);
  void run();
  void write_all(std::string_view bytes);

  std::atomic<uint64_t> unwritten_{0};  // lines lost by failed writes, not yet reported
  int fd_;
  std::string path_;  // empty: standard output
  AccessLogFormat format_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable written_;
  std::string pending_;
  bool stop_ = false;
  bool writing_ = false;
  std::atomic<bool> reopen_{false};
  std::thread thread_;
};

}  // namespace sluice::proxy
