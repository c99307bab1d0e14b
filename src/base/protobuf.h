#pragma once
// Writes the protocol-buffers wire format (encoding guide, "varint", "length-delimited", "fixed64"). Fields with
// default values may be left out by the caller.

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

class ProtobufWriter {
 public:
  explicit ProtobufWriter(std::string& out) : out_(out) {}

  void varint(uint32_t field, uint64_t value) {
    raw(field << 3);
    raw(value);
  }
  void fixed64(uint32_t field, uint64_t value) {
    raw(field << 3 | 1);
    for (int i = 0; i < 8; ++i) out_ += static_cast<char>(value >> (8 * i));
  }
  void bytes(uint32_t field, std::string_view value) {
    raw(field << 3 | 2);
    raw(value.size());
    out_ += value;
  }
  // A message that `fill(ProtobufWriter&)` writes.
  template <typename Fill>
  void message(uint32_t field, Fill fill) {
    std::string inner;
    ProtobufWriter writer(inner);
    fill(writer);
    bytes(field, inner);
  }

 private:
  void raw(uint64_t value) {
    while (value >= 0x80) {
      out_ += static_cast<char>(value | 0x80);
      value >>= 7;
    }
    out_ += static_cast<char>(value);
  }

  std::string& out_;
};

}  // namespace sluice
