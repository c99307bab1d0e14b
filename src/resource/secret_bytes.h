#pragma once
// SecretBytes: bytes that must never reach a log, a metric, an error text or a dump. The type
// offers no conversion, no comparison that leaks by time and no stream operator; whoever really
// needs the bytes says expose(). They are wiped when the last owner goes.

#include <cstring>
#include <ostream>
#include <string>
#include <string_view>

namespace sluice::resource {

class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(std::string bytes) : bytes_(std::move(bytes)) {}
  SecretBytes(const SecretBytes&) = default;
  SecretBytes& operator=(const SecretBytes& other) {
    if (this != &other) {
      wipe();
      bytes_ = other.bytes_;
    }
    return *this;
  }
  SecretBytes(SecretBytes&& other) noexcept : bytes_(other.bytes_) { other.wipe(); }
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    if (this != &other) {
      wipe();
      bytes_ = other.bytes_;
      other.wipe();
    }
    return *this;
  }
  ~SecretBytes() { wipe(); }

  std::string_view expose() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }
  size_t size() const { return bytes_.size(); }

  friend std::ostream& operator<<(std::ostream&, const SecretBytes&) = delete;

 private:
  void wipe() {
    if (!bytes_.empty()) {
      std::memset(bytes_.data(), 0, bytes_.size());
      asm volatile("" : : "r"(bytes_.data()) : "memory");  // the store must not be optimised away
    }
    bytes_.clear();
  }

  std::string bytes_;
};

}  // namespace sluice::resource
