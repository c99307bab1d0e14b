// A chunked body cut into pieces decodes to what it decodes to in one piece. The first two bytes seed the cuts.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/random.h"
#include "http/http1_parser.h"

using namespace sluice;
using http::ChunkedDecoder;

namespace {

struct Outcome {
  std::string body;
  std::string rest;
  bool ended = false, failed = false;
  bool operator==(const Outcome&) const = default;
};

Outcome decode(std::string_view input, Random* cuts) {
  Outcome outcome;
  ChunkedDecoder decoder;
  size_t begin = 0;
  while (begin < input.size() && !outcome.failed) {
    const size_t n =
        cuts ? 1 + cuts->below(static_cast<uint32_t>(std::min<size_t>(input.size() - begin, 24))) : input.size();
    const std::vector<char> piece(input.data() + begin, input.data() + begin + n);
    begin += n;
    size_t at = 0;
    while (at < n && !outcome.ended && !outcome.failed) {
      size_t consumed = 0;
      switch (decoder.decode(piece.data() + at, n - at, consumed)) {
        case ChunkedDecoder::Event::kNeedMore:
          if (consumed != n - at) std::abort();
          break;
        case ChunkedDecoder::Event::kData:
          if (decoder.length() == 0 || decoder.offset() + decoder.length() != consumed) std::abort();
          outcome.body.append(piece.data() + at + decoder.offset(), decoder.length());
          break;
        case ChunkedDecoder::Event::kTrailers:
          outcome.ended = true;
          break;
        case ChunkedDecoder::Event::kError:
          outcome.failed = true;
          break;
      }
      if (consumed > n - at) std::abort();
      at += consumed;
    }
    if (outcome.ended) outcome.rest.append(piece.begin() + static_cast<ptrdiff_t>(at), piece.end());
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Outcome whole = decode(input, nullptr);
  for (uint64_t round = 0; round < 3; ++round) {
    Random cuts(round * 65536 + data[0] * 256u + data[1]);
    if (!(decode(input, &cuts) == whole)) std::abort();
  }
  // The trailer section behind it, cut too.
  if (whole.ended) {
    http::HeadScanner scanner, again;
    const auto once = scanner.scan(whole.rest.data(), whole.rest.size());
    http::HeadScanner::Result result = http::HeadScanner::Result::kNeedMore;
    for (size_t n = 1; n <= whole.rest.size() && result == http::HeadScanner::Result::kNeedMore; ++n) {
      const std::vector<char> prefix(whole.rest.begin(), whole.rest.begin() + static_cast<ptrdiff_t>(n));
      result = again.scan(prefix.data(), n);
    }
    if (result != once || (once == http::HeadScanner::Result::kComplete && again.length() != scanner.length())) {
      std::abort();
    }
  }
  return 0;
}
