#include "base/arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/random.h"

namespace sluice {
namespace {

TEST(Arena, AlignsAndKeepsApart) {
  const size_t before = block_pool_stats().in_use_bytes;
  {
    Random random(7);
    Arena arena;
    struct Piece {
      unsigned char* data;
      size_t size;
      unsigned char fill;
    };
    std::vector<Piece> pieces;
    for (int i = 0; i < 3000; ++i) {
      const size_t alignment = size_t{1} << random.below(7);
      const size_t size = random.below(50) == 0 ? random.below(40'000) : random.below(200);
      auto* data = static_cast<unsigned char*>(arena.allocate(size, alignment));
      ASSERT_EQ(reinterpret_cast<uintptr_t>(data) % alignment, 0u);
      const auto fill = static_cast<unsigned char>(i);
      std::memset(data, fill, size);
      pieces.push_back({data, size, fill});
    }
    for (const Piece& piece : pieces) {
      for (size_t i = 0; i < piece.size; ++i) ASSERT_EQ(piece.data[i], piece.fill);
    }
    EXPECT_GE(arena.capacity(), 3000u);
    EXPECT_GT(block_pool_stats().in_use_bytes, before);
  }
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
}

TEST(Arena, LargeAllocationDoesNotThrowTheCurrentChunkAway) {
  Arena arena;
  auto* small = static_cast<char*>(arena.allocate(16, 1));
  auto* large = static_cast<char*>(arena.allocate(300'000, 1));
  std::memset(large, 'x', 300'000);
  auto* next = static_cast<char*>(arena.allocate(16, 1));
  EXPECT_EQ(next, small + 16);
  EXPECT_LT(arena.capacity(), 310'000u);
}

TEST(Arena, CopiesAndJoinsText) {
  Arena arena;
  std::string original = "text";
  const std::string_view copy = arena.copy(original);
  original = "gone";
  EXPECT_EQ(copy, "text");
  EXPECT_EQ(arena.copy({}), "");
  EXPECT_EQ(arena.concat("a", "", "c"), "ac");
  EXPECT_EQ(arena.concat("", ""), "");
  EXPECT_EQ(arena.concat("one", "two", "three"), "onetwothree");
  const std::string big(100'000, 'z');
  EXPECT_EQ(arena.copy(big), big);
  struct Pair {
    int a;
    double b;
  };
  Pair* pair = arena.create<Pair>(Pair{1, 2.5});
  EXPECT_EQ(pair->b, 2.5);
  auto* numbers = arena.allocate_array<uint64_t>(1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(numbers) % alignof(uint64_t), 0u);
}

TEST(Arena, PinsBlocksUntilReset) {
  const size_t before = block_pool_stats().in_use_bytes;
  Slice slice = Slice::copy("received");
  Arena arena;
  arena.pin(slice.block());
  arena.pin(slice.block());
  arena.pin(BlockRef());
  EXPECT_EQ(slice.block()->refs, 3u);
  const std::string_view view = slice.view();
  slice = Slice();
  EXPECT_EQ(view, "received");
  arena.reset();
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
  EXPECT_EQ(arena.capacity(), 0u);
  EXPECT_EQ(arena.copy("usable again"), "usable again");
  arena.reset();
  arena.reset();
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
}

}  // namespace
}  // namespace sluice
