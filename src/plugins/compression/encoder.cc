#include "plugins/compression/encoder.h"

#include <brotli/encode.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdlib>

namespace sluice::plugins::compression {
namespace {

// Memory of one encoder, counted: the size stands in front of each allocation.
class Meter {
 public:
  size_t bytes() const { return bytes_; }

  static void* allocate(void* meter, size_t size) {
    auto* block = static_cast<size_t*>(std::malloc(size + kHeader));
    if (!block) return nullptr;
    *block = size;
    static_cast<Meter*>(meter)->bytes_ += size;
    return reinterpret_cast<char*>(block) + kHeader;
  }
  static void release(void* meter, void* address) {
    if (!address) return;
    void* block = static_cast<char*>(address) - kHeader;
    static_cast<Meter*>(meter)->bytes_ -= *static_cast<size_t*>(block);
    std::free(block);
  }

 private:
  static constexpr size_t kHeader = alignof(std::max_align_t);
  size_t bytes_ = 0;
};

class Gzip final : public Encoder {
 public:
  explicit Gzip(const Config& config) {
    stream_.zalloc = [](void* meter, unsigned items, unsigned size) -> void* {
      return Meter::allocate(meter, size_t{items} * size);
    };
    stream_.zfree = Meter::release;
    stream_.opaque = &meter_;
    constexpr int kGzipWrapper = 16;
    good_ = deflateInit2(&stream_, config.level, Z_DEFLATED, config.window_bits + kGzipWrapper, config.memory_level,
                         static_cast<int>(config.strategy)) == Z_OK;
  }
  ~Gzip() override {
    if (good_) deflateEnd(&stream_);
  }

  bool good() const { return good_; }
  size_t memory() const override { return meter_.bytes(); }

  bool encode(std::string_view bytes, Flush flush, Output& out) override {
    const int mode = flush == Flush::kNone ? Z_NO_FLUSH : flush == Flush::kAll ? Z_SYNC_FLUSH : Z_FINISH;
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = static_cast<uInt>(bytes.size());
    for (;;) {
      stream_.next_out = reinterpret_cast<Bytef*>(out.data());
      const auto room = static_cast<uInt>(out.room());
      stream_.avail_out = room;
      const int result = deflate(&stream_, mode);
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return false;
      out.commit(room - stream_.avail_out);
      // Room left over means that there is nothing more to write.
      if (result == Z_STREAM_END || stream_.avail_out > 0) return flush != Flush::kEnd || result == Z_STREAM_END;
    }
  }

 private:
  Meter meter_;
  z_stream stream_{};
  bool good_ = false;
};

class Brotli final : public Encoder {
 public:
  explicit Brotli(const Config& config)
      : state_(BrotliEncoderCreateInstance(Meter::allocate, Meter::release, &meter_)) {
    if (!state_) return;
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_QUALITY, static_cast<uint32_t>(config.brotli_quality));
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_LGWIN, static_cast<uint32_t>(config.brotli_window_bits));
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_LGBLOCK, BROTLI_MIN_INPUT_BLOCK_BITS);
  }
  ~Brotli() override {
    if (state_) BrotliEncoderDestroyInstance(state_);
  }

  bool good() const { return state_ != nullptr; }
  size_t memory() const override { return meter_.bytes(); }

  bool encode(std::string_view bytes, Flush flush, Output& out) override {
    const BrotliEncoderOperation operation = flush == Flush::kNone  ? BROTLI_OPERATION_PROCESS
                                             : flush == Flush::kAll ? BROTLI_OPERATION_FLUSH
                                                                    : BROTLI_OPERATION_FINISH;
    size_t left = bytes.size();
    const auto* next = reinterpret_cast<const uint8_t*>(bytes.data());
    do {
      auto* to = reinterpret_cast<uint8_t*>(out.data());
      const size_t room = out.room();
      size_t room_left = room;
      if (!BrotliEncoderCompressStream(state_, operation, &left, &next, &room_left, &to, nullptr)) return false;
      out.commit(room - room_left);
    } while (left > 0 || BrotliEncoderHasMoreOutput(state_) ||
             (flush == Flush::kEnd && !BrotliEncoderIsFinished(state_)));
    return true;
  }

 private:
  Meter meter_;
  BrotliEncoderState* state_;
};

class Zstd final : public Encoder {
 public:
  explicit Zstd(const Config& config) : stream_(ZSTD_createCStream()) {
    if (!stream_) return;
    ZSTD_CCtx_setParameter(stream_, ZSTD_c_compressionLevel, config.zstd_level);
    ZSTD_CCtx_setParameter(stream_, ZSTD_c_windowLog, config.zstd_window_bits);
    // The tables that a level asks for are made for inputs of megabytes; for a small window they
    // are waste.
    ZSTD_CCtx_setParameter(stream_, ZSTD_c_hashLog, config.zstd_window_bits - 1);
    ZSTD_CCtx_setParameter(stream_, ZSTD_c_chainLog, config.zstd_window_bits - 1);
  }
  ~Zstd() override { ZSTD_freeCStream(stream_); }

  bool good() const { return stream_ != nullptr; }
  size_t memory() const override { return ZSTD_sizeof_CStream(stream_); }

  bool encode(std::string_view bytes, Flush flush, Output& out) override {
    const ZSTD_EndDirective directive = flush == Flush::kNone  ? ZSTD_e_continue
                                        : flush == Flush::kAll ? ZSTD_e_flush
                                                               : ZSTD_e_end;
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer to{out.data(), out.room(), 0};
      const size_t left = ZSTD_compressStream2(stream_, &to, &in, directive);
      if (ZSTD_isError(left)) return false;
      out.commit(to.pos);
      if (in.pos == in.size && (directive == ZSTD_e_continue || left == 0)) return true;
    }
  }

 private:
  ZSTD_CStream* stream_;
};

template <typename T>
std::unique_ptr<Encoder> make(const Config& config) {
  auto encoder = std::make_unique<T>(config);
  if (!encoder->good()) return nullptr;
  return encoder;
}

}  // namespace

char* Output::data() {
  if (!block_ || used_ == block_->capacity) {
    push();
    block_ = BlockRef(acquire_block(block_size_));
    used_ = taken_ = 0;
  }
  return block_->data() + used_;
}

void Output::push() {
  if (used_ > taken_) full_.push_back(Slice(block_, block_->data() + taken_, used_ - taken_));
  taken_ = used_;
}

void Output::take(SliceQueue& queue) {
  push();
  queue.append(std::move(full_));
}

std::unique_ptr<Encoder> make_encoder(Coding coding, const Config& config) {
  switch (coding) {
    case Coding::kGzip:
      return make<Gzip>(config);
    case Coding::kBrotli:
      return make<Brotli>(config);
    case Coding::kZstd:
      return make<Zstd>(config);
    case Coding::kIdentity:
      break;
  }
  return nullptr;
}

}  // namespace sluice::plugins::compression
