#include "net/client_hello.h"

#include <algorithm>

namespace sluice::net {
namespace {

using Status = ClientHello::Status;

constexpr size_t kRecordHeader = 5;
constexpr size_t kMaxRecord = 16384;  // RFC 8446 §5.1
constexpr uint8_t kHandshakeRecord = 22;
constexpr uint8_t kClientHelloMessage = 1;
constexpr uint16_t kServerNameExtension = 0;
constexpr uint8_t kHostName = 0;
constexpr size_t kMaxName = 255;

// Takes numbers and vectors off the front. After the first that is not there all others fail too.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  bool empty() const { return rest_.empty(); }

  uint32_t number(size_t size) {
    uint32_t value = 0;
    for (const char c : take(size)) value = value << 8 | static_cast<uint8_t>(c);
    return value;
  }
  // A vector behind its length of `size` bytes.
  std::string_view vector(size_t size) { return take(number(size)); }
  std::string_view take(size_t count) {
    if (count > rest_.size()) ok_ = false;
    if (!ok_) return {};
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

// The handshake bytes of the records in `bytes`, as far as they have come.
Status read_records(std::string_view bytes, std::string* handshake) {
  while (!bytes.empty()) {
    if (static_cast<uint8_t>(bytes[0]) != kHandshakeRecord) return Status::kInvalid;
    if (bytes.size() >= 2 && bytes[1] != 3) return Status::kInvalid;
    if (bytes.size() < kRecordHeader) return Status::kNeedMore;
    const size_t length = static_cast<size_t>(static_cast<uint8_t>(bytes[3])) << 8 | static_cast<uint8_t>(bytes[4]);
    if (length == 0 || length > kMaxRecord) return Status::kInvalid;
    const size_t here = std::min(length, bytes.size() - kRecordHeader);
    handshake->append(bytes.substr(kRecordHeader, here));
    bytes.remove_prefix(kRecordHeader + here);
    if (here < length) return Status::kNeedMore;
    // The message is over, whatever follows.
    if (handshake->size() >= 4 && handshake->size() - 4 >= Cursor(std::string_view(*handshake).substr(1)).number(3))
      break;
  }
  return Status::kDone;
}

// The name as hosts are looked up; empty: no host name.
std::string host_name(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.size() > kMaxName) return {};
  std::string lower(name);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    if (!plain) return {};
  }
  return lower;
}

Status read_server_name(std::string_view extension, std::string* out) {
  Cursor list(extension);
  Cursor names(list.vector(2));
  if (!list.ok() || !list.empty()) return Status::kInvalid;
  while (!names.empty()) {
    const uint32_t type = names.number(1);
    const std::string_view name = names.vector(2);
    if (!names.ok()) return Status::kInvalid;
    if (type != kHostName) continue;
    *out = host_name(name);
    return Status::kDone;
  }
  return Status::kDone;
}

Status read_message(std::string_view body, std::string* out) {
  Cursor hello(body);
  hello.take(2 + 32);  // version, random
  hello.vector(1);     // session id
  hello.vector(2);     // cipher suites
  hello.vector(1);     // compression methods
  if (!hello.ok()) return Status::kInvalid;
  if (hello.empty()) return Status::kDone;  // without extensions
  Cursor extensions(hello.vector(2));
  if (!hello.ok() || !hello.empty()) return Status::kInvalid;
  while (!extensions.empty()) {
    const uint32_t type = extensions.number(2);
    const std::string_view data = extensions.vector(2);
    if (!extensions.ok()) return Status::kInvalid;
    if (type == kServerNameExtension) return read_server_name(data, out);
  }
  return Status::kDone;
}

}  // namespace

ClientHello parse_client_hello(std::string_view bytes) {
  ClientHello out;
  std::string handshake;
  const Status records = read_records(bytes.substr(0, kClientHelloMax), &handshake);
  out.status = Status::kInvalid;
  if (records == Status::kInvalid) return out;
  if (!handshake.empty() && handshake[0] != kClientHelloMessage) return out;
  const bool sized = handshake.size() >= 4;
  const size_t length = sized ? Cursor(std::string_view(handshake).substr(1)).number(3) : 0;
  if (sized && length > kClientHelloMax) return out;
  if (!sized || handshake.size() - 4 < length) {
    if (bytes.size() < kClientHelloMax) out.status = Status::kNeedMore;
    return out;
  }
  out.status = read_message(std::string_view(handshake).substr(4, length), &out.server_name);
  return out;
}

}  // namespace sluice::net
