#include "proxy/access_log.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>

namespace sluice::proxy {
namespace {

constexpr std::string_view kStandard =
    R"({"ai_log":"%FILTER_STATE(wasm.ai_log:PLAIN)%","authority":"%REQ(X-ENVOY-ORIGINAL-HOST?:AUTHORITY)%",)"
    R"("bytes_received":"%BYTES_RECEIVED%","bytes_sent":"%BYTES_SENT%",)"
    R"("downstream_local_address":"%DOWNSTREAM_LOCAL_ADDRESS%","downstream_remote_address":"%DOWNSTREAM_REMOTE_ADDRESS%",)"
    R"("duration":"%DURATION%","istio_policy_status":"%DYNAMIC_METADATA(istio.mixer:status)%","method":"%REQ(:METHOD)%",)"
    R"("path":"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%","protocol":"%PROTOCOL%","request_id":"%REQ(X-REQUEST-ID)%",)"
    R"("requested_server_name":"%REQUESTED_SERVER_NAME%","response_code":"%RESPONSE_CODE%",)"
    R"("response_flags":"%RESPONSE_FLAGS%","route_name":"%ROUTE_NAME%","start_time":"%START_TIME%",)"
    R"("trace_id":"%REQ(X-B3-TRACEID)%","upstream_cluster":"%UPSTREAM_CLUSTER%","upstream_host":"%UPSTREAM_HOST%",)"
    R"("upstream_local_address":"%UPSTREAM_LOCAL_ADDRESS%",)"
    R"("upstream_service_time":"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",)"
    R"("upstream_transport_failure_reason":"%UPSTREAM_TRANSPORT_FAILURE_REASON%","user_agent":"%REQ(USER-AGENT)%",)"
    R"("x_forwarded_for":"%REQ(X-FORWARDED-FOR)%","response_code_details":"%RESPONSE_CODE_DETAILS%"})";

std::string lower_copy(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

void append_number(uint64_t value, std::string& out) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr);
}

// ISO 8601 with milliseconds, UTC. The part down to the second is cached per thread.
void append_iso_time(uint64_t us, std::string& out) {
  thread_local time_t cached_second = -1;
  thread_local char cached[24];
  const auto second = static_cast<time_t>(us / 1'000'000);
  if (second != cached_second) {
    tm parts;
    gmtime_r(&second, &parts);
    strftime(cached, sizeof(cached), "%Y-%m-%dT%H:%M:%S", &parts);
    cached_second = second;
  }
  out.append(cached, 19);
  const auto ms = static_cast<unsigned>(us / 1000 % 1000);
  const char fraction[] = {'.', static_cast<char>('0' + ms / 100), static_cast<char>('0' + ms / 10 % 10),
                           static_cast<char>('0' + ms % 10), 'Z'};
  out.append(fraction, sizeof(fraction));
}

void append_time(const std::string& format, uint64_t us, std::string& out) {
  if (format.empty()) return append_iso_time(us, out);
  // %f, %3f: fractions of the second, as Envoy has them; the rest is strftime's.
  std::string expanded;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 >= format.size()) {
      expanded += format[i];
      continue;
    }
    size_t digits = 9;
    size_t at = i + 1;
    if (format[at] >= '1' && format[at] <= '9' && at + 1 < format.size())
      digits = static_cast<size_t>(format[at++] - '0');
    if (format[at] == 'f') {
      char fraction[16];
      std::snprintf(fraction, sizeof(fraction), "%06u000", static_cast<unsigned>(us % 1'000'000));
      expanded.append(fraction, digits);
      i = at;
    } else {
      expanded += '%';
    }
  }
  const auto second = static_cast<time_t>(us / 1'000'000);
  tm parts;
  gmtime_r(&second, &parts);
  char text[256];
  out.append(text, strftime(text, sizeof(text), expanded.c_str(), &parts));
}

// The length of the UTF-8 sequence of more than one byte at the start of `text`; 0 if there is no valid one (RFC 3629).
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned first = byte(0), second = byte(1);
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f)) return 0;
    return continues(1) && continues(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) return 0;
    return continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

AccessLogFormat::HeadText AccessLogFormat::head_text(Kind kind, std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view LogRecord::*> kRequest[] = {
      {":method", &LogRecord::method},
      {":path", &LogRecord::path},
      {":authority", &LogRecord::authority},
      {"host", &LogRecord::authority},
      {"x-envoy-original-path", &LogRecord::original_path},
      {"x-envoy-original-host", &LogRecord::original_host},
      {"x-request-id", &LogRecord::request_id},
      {"user-agent", &LogRecord::user_agent},
      {"x-forwarded-for", &LogRecord::x_forwarded_for},
      {"x-b3-traceid", &LogRecord::trace_id},
  };
  if (kind == Kind::kResponseHeader) {
    return {std::string(name), name == "x-envoy-upstream-service-time" ? &LogRecord::upstream_service_time : nullptr};
  }
  for (const auto& [known, member] : kRequest) {
    if (name == known) return {std::string(name), member};
  }
  return {std::string(name), nullptr};
}

Result<AccessLogFormat::Item> AccessLogFormat::parse_operator(std::string_view text) {
  Item item;
  const size_t open = text.find('(');
  const std::string_view name = text.substr(0, open);
  std::string_view argument;
  if (open != std::string_view::npos) {
    const size_t close = text.rfind(')');
    if (close == std::string_view::npos || close < open) {
      return Error{"operator %" + std::string(text) + "% lacks a closing parenthesis"};
    }
    argument = text.substr(open + 1, close - open - 1);
    const std::string_view rest = text.substr(close + 1);
    if (!rest.empty()) {
      size_t length = 0;
      const char* const end = rest.data() + rest.size();
      const auto number = std::from_chars(rest.data() + 1, end, length);
      if (rest.front() != ':' || number.ec != std::errc() || number.ptr != end) {
        return Error{"operator %" + std::string(text) + "%: a length is written as :N behind the parenthesis"};
      }
      item.max_length = length;
    }
  }
  static const std::pair<std::string_view, Kind> kPlain[] = {
      {"PROTOCOL", Kind::kProtocol},
      {"RESPONSE_CODE", Kind::kStatus},
      {"RESPONSE_FLAGS", Kind::kFlags},
      {"BYTES_RECEIVED", Kind::kBytesReceived},
      {"BYTES_SENT", Kind::kBytesSent},
      {"DURATION", Kind::kDuration},
      {"ROUTE_NAME", Kind::kRouteName},
      {"UPSTREAM_CLUSTER", Kind::kUpstreamCluster},
      {"UPSTREAM_HOST", Kind::kUpstreamHost},
      {"UPSTREAM_LOCAL_ADDRESS", Kind::kUpstreamLocal},
      {"UPSTREAM_TRANSPORT_FAILURE_REASON", Kind::kUpstreamFailure},
      {"RESPONSE_CODE_DETAILS", Kind::kDetails},
      {"REQUESTED_SERVER_NAME", Kind::kSni},
      {"DOWNSTREAM_LOCAL_ADDRESS", Kind::kLocalAddress},
      {"DOWNSTREAM_REMOTE_ADDRESS", Kind::kRemoteAddress},
      {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Kind::kRemoteIp},
      {"DYNAMIC_METADATA", Kind::kNothing},
      {"TRAILER", Kind::kNothing},
  };
  for (const auto& [plain, kind] : kPlain) {
    if (name == plain) {
      item.kind = kind;
      return item;
    }
  }
  if (name == "START_TIME") {
    item.kind = Kind::kStartTime;
    item.text = argument;
    return item;
  }
  if (name == "FILTER_STATE") {
    item.kind = Kind::kField;
    std::string_view key = argument.substr(0, argument.find(':'));
    if (key.substr(0, 5) == "wasm.") key.remove_prefix(5);
    item.text = key;
    return item;
  }
  if (name == "RESP" || name == "REQ") {
    const size_t question = argument.find('?');
    item.kind = name == "RESP" ? Kind::kResponseHeader : Kind::kRequestHeader;
    item.head = head_text(item.kind, lower_copy(argument.substr(0, question)));
    if (question != std::string_view::npos) {
      item.alternative = head_text(item.kind, lower_copy(argument.substr(question + 1)));
    }
    if (item.head.name.empty()) return Error{"operator %" + std::string(text) + "% names no header"};
    return item;
  }
  return Error{"unknown operator %" + std::string(text) + "%"};
}

Result<AccessLogFormat> AccessLogFormat::parse(std::string_view text) {
  AccessLogFormat format;
  format.json_ = !text.empty() && text.front() == '{';
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  std::string literal;
  const auto flush = [&] {
    if (literal.empty()) return;
    Item item;
    item.text = std::move(literal);
    format.items_.push_back(std::move(item));
    literal.clear();
  };
  while (!text.empty()) {
    if (text.front() != '%') {
      literal += text.front();
      text.remove_prefix(1);
      continue;
    }
    if (text.size() > 1 && text[1] == '%') {
      literal += '%';
      text.remove_prefix(2);
      continue;
    }
    // The operator ends at the next '%' outside its parentheses (a time format has percent signs in them).
    size_t end = 1;
    int depth = 0;
    while (end < text.size() && (text[end] != '%' || depth > 0)) {
      if (text[end] == '(') ++depth;
      if (text[end] == ')') --depth;
      ++end;
    }
    if (end >= text.size()) return Error{"operator without a closing %: " + std::string(text)};
    Result<Item> item = parse_operator(text.substr(1, end - 1));
    if (!item.ok()) return item.error();
    flush();
    format.shows_heads_ |= item->head.is_of_the_head() || item->alternative.is_of_the_head();
    format.shows_fields_ |= item->kind == Kind::kField;
    format.items_.push_back(std::move(*item));
    text.remove_prefix(end + 1);
  }
  flush();
  return format;
}

const AccessLogFormat& AccessLogFormat::standard() {
  static const AccessLogFormat format = *parse(kStandard);
  return format;
}

void AccessLogFormat::append_escaped(std::string_view value, size_t max_length, std::string& out) const {
  value = value.substr(0, max_length);
  if (value.empty()) {
    out += '-';
    return;
  }
  // A line stays a line, whatever a client sent.
  size_t start = 0;
  for (size_t i = 0; i < value.size(); ++i) {
    const auto c = static_cast<unsigned char>(value[i]);
    if (c >= 0x80 && json_) {
      // JSON is UTF-8: other bytes are written as the Latin-1 characters they may have been.
      if (const size_t length = utf8_length(value.substr(i))) {
        i += length - 1;
        continue;
      }
    } else if (c >= 0x20 && c != 0x7f && !(json_ && (c == '"' || c == '\\'))) {
      continue;
    }
    out.append(value, start, i - start);
    start = i + 1;
    if (json_ && (c == '"' || c == '\\')) {
      out += '\\';
      out += static_cast<char>(c);
    } else {
      char escape[8];
      std::snprintf(escape, sizeof(escape), json_ ? "\\u%04x" : "\\x%02x", c);
      out += escape;
    }
  }
  out.append(value, start, value.size() - start);
}

void AccessLogFormat::write_value(const Item& item, const LogRecord& record, std::string& out) const {
  const auto text = [&](std::string_view value) { append_escaped(value, item.max_length, out); };
  switch (item.kind) {
    case Kind::kLiteral:
      out += item.text;
      return;
    case Kind::kRequestHeader:
    case Kind::kResponseHeader: {
      const http::HeaderMap* headers =
          item.kind == Kind::kRequestHeader ? record.request_headers : record.response_headers;
      const std::string_view value = item.head.of(record, headers);
      return text(value.empty() ? item.alternative.of(record, headers) : value);
    }
    case Kind::kField:
      for (size_t i = 0; i < record.field_count; ++i) {
        if (record.fields[i].name == item.text) return text(record.fields[i].value);
      }
      return text({});
    case Kind::kStartTime:
      return append_time(item.text, record.start_time_us, out);
    case Kind::kProtocol:
      return text(record.protocol);
    case Kind::kStatus:
      return append_number(static_cast<uint64_t>(record.status), out);
    case Kind::kFlags: {
      if (record.flags.empty()) return text({});
      bool first = true;
      for (const FlagName& flag : kFlagNames) {
        if (!record.flags.has(flag.flag)) continue;
        if (!first) out += ',';
        out += flag.name;
        first = false;
      }
      return;
    }
    case Kind::kBytesReceived:
      return append_number(record.bytes_received, out);
    case Kind::kBytesSent:
      return append_number(record.bytes_sent, out);
    case Kind::kDuration:
      return append_number(record.duration_ms, out);
    case Kind::kRouteName:
      return text(record.route_name);
    case Kind::kUpstreamCluster:
      return text(record.upstream_cluster);
    case Kind::kUpstreamHost:
      return text(record.upstream_host);
    case Kind::kUpstreamLocal:
      return text(record.upstream_local_address);
    case Kind::kUpstreamFailure:
      return text(record.upstream_failure);
    case Kind::kDetails:
      return text(record.details);
    case Kind::kSni:
      return text(record.sni);
    case Kind::kLocalAddress:
      return text(record.local_address);
    case Kind::kRemoteAddress:
      return text(record.remote_address);
    case Kind::kRemoteIp:
      return text(record.remote_address.substr(0, record.remote_address.rfind(':')));
    case Kind::kNothing:
      return text({});
  }
}

void AccessLogFormat::write(const LogRecord& record, std::string& out) const {
  for (const Item& item : items_) write_value(item, record, out);
  out += '\n';
}

Result<std::unique_ptr<AccessLog>> AccessLog::open(const std::string& target, AccessLogFormat format) {
  if (target == "-") return std::unique_ptr<AccessLog>(new AccessLog(STDOUT_FILENO, "", std::move(format)));
  const int fd = ::open(target.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (fd < 0) return Error{"access log " + target + ": " + std::strerror(errno)};
  return std::unique_ptr<AccessLog>(new AccessLog(fd, target, std::move(format)));
}

AccessLog::AccessLog(int fd, std::string path, AccessLogFormat format)
    : fd_(fd), path_(std::move(path)), format_(std::move(format)), thread_([this] { run(); }) {}

AccessLog::~AccessLog() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
  if (!path_.empty()) ::close(fd_);
}

void AccessLog::reopen() {
  if (path_.empty()) return;
  reopen_.store(true);
  wake_.notify_one();
}

void AccessLog::drain() {
  std::unique_lock lock(mutex_);
  wake_.notify_one();
  written_.wait_for(lock, std::chrono::seconds(2), [this] { return pending_.empty() && !writing_; });
}

std::string AccessLogFormat::check(std::string_view text) {
  const Result<AccessLogFormat> parsed = parse(text);
  return parsed.ok() ? std::string() : parsed.error().message;
}

void AccessLog::Producer::set_format(const std::string& text) {
  if (text == format_text_) return;
  format_text_ = text;
  if (text.empty()) return own_format_.reset();
  Result<AccessLogFormat> parsed = AccessLogFormat::parse(text);
  if (parsed.ok()) own_format_ = std::move(*parsed);
}

uint64_t AccessLog::Producer::flush() {
  if (buffer_.empty()) return 0;
  bool was_empty = false;
  {
    std::unique_lock lock(log_.mutex_, std::try_to_lock);
    if (lock.owns_lock() && log_.pending_.size() + buffer_.size() <= kMaxBuffered) {
      was_empty = log_.pending_.empty();
      log_.pending_.append(buffer_);
      buffer_.clear();
      lines_ = 0;
    }
  }
  if (was_empty) log_.wake_.notify_one();
  uint64_t lost = log_.unwritten_.load(std::memory_order_relaxed) ? log_.unwritten_.exchange(0) : 0;
  if (buffer_.size() > kMaxBuffered / 4) {
    // The sink can't keep up: the newest lines go, and are counted.
    buffer_.clear();
    lost += std::exchange(lines_, 0);
  }
  return lost;
}

void AccessLog::run() {
  std::string batch;
  while (true) {
    bool stop;
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, std::chrono::seconds(1), [this] { return stop_ || reopen_.load() || !pending_.empty(); });
      batch.swap(pending_);
      stop = stop_;
      writing_ = !batch.empty();
    }
    if (reopen_.exchange(false)) {
      const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
      if (fd >= 0) {
        ::close(fd_);
        fd_ = fd;
      }
    }
    if (!batch.empty()) {
      write_all(batch);
      batch.clear();
      {
        std::lock_guard lock(mutex_);
        writing_ = false;
      }
      written_.notify_all();
      // Let lines gather: many small writes would cost more than they are worth.
      if (!stop) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    } else if (stop) {
      return;
    }
  }
}

// A full disk or a closed pipe loses lines, never the process.
void AccessLog::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      unwritten_ += static_cast<uint64_t>(std::count(bytes.begin(), bytes.end(), '\n'));
      return;
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace sluice::proxy
