#include "base/block.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice {
namespace {

TEST(Block, ComesFromTheSmallestClassThatHolds) {
  const struct {
    size_t wanted, capacity;
  } cases[] = {{0, kSmallBlock},           {1, kSmallBlock},
               {kSmallBlock, kSmallBlock}, {kSmallBlock + 1, kBlock},
               {kBlock, kBlock},           {kBlock + 1, kLargeBlock},
               {kLargeBlock, kLargeBlock}, {kLargeBlock + 1, kHugeBlock},
               {kHugeBlock, kHugeBlock},   {kHugeBlock + 1, kHugeBlock + 1},
               {3'000'000, 3'000'000}};
  for (const auto& c : cases) {
    BlockRef block(acquire_block(c.wanted));
    EXPECT_EQ(block->capacity, c.capacity) << c.wanted;
    EXPECT_EQ(block->refs, 1u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block->data()) % 16, 0u);
    std::fill_n(block->data(), block->capacity, 'x');
  }
}

TEST(Block, CountsReferences) {
  const size_t before = block_pool_stats().in_use_bytes;
  BlockRef a(acquire_block());
  EXPECT_TRUE(a.unique());
  BlockRef b = a;
  EXPECT_EQ(a->refs, 2u);
  EXPECT_FALSE(a.unique());
  BlockRef c = std::move(b);
  EXPECT_FALSE(b);
  EXPECT_FALSE(b.unique());
  EXPECT_EQ(a->refs, 2u);
  c = a;
  EXPECT_EQ(a->refs, 2u);
  BlockRef& self = c;
  c = self;
  EXPECT_EQ(a->refs, 2u);
  c.reset();
  c.reset();
  EXPECT_TRUE(a.unique());
  BlockRef d(acquire_block(kSmallBlock));
  a = std::move(d);
  EXPECT_EQ(a->capacity, kSmallBlock);
  EXPECT_EQ(block_pool_stats().in_use_bytes, before + kSmallBlock + Block::kHeaderSize);
  a.reset();
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
}

TEST(BlockPool, ParksWhatIsReturnedUpToALimit) {
  trim_block_pool();
  EXPECT_EQ(block_pool_stats().free_bytes, 0u);
  Block* first = acquire_block();
  release_block(first);
  EXPECT_EQ(block_pool_stats().free_bytes, kBlock + Block::kHeaderSize);
  EXPECT_EQ(acquire_block(), first) << "a parked block is used again";
  EXPECT_EQ(block_pool_stats().free_bytes, 0u);
  release_block(first);

  std::vector<BlockRef> many;
  for (int i = 0; i < 1000; ++i) many.emplace_back(acquire_block());
  many.clear();
  EXPECT_EQ(block_pool_stats().free_bytes, 64 * (kBlock + Block::kHeaderSize));
  for (int i = 0; i < 100; ++i) many.emplace_back(acquire_block(kHugeBlock));
  many.clear();
  EXPECT_EQ(block_pool_stats().free_bytes, 64 * (kBlock + Block::kHeaderSize) + 8 * (kHugeBlock + Block::kHeaderSize));
  many.emplace_back(acquire_block(kHugeBlock + 1));
  many.clear();
  EXPECT_EQ(block_pool_stats().free_bytes, 64 * (kBlock + Block::kHeaderSize) + 8 * (kHugeBlock + Block::kHeaderSize));
  trim_block_pool();
  EXPECT_EQ(block_pool_stats().free_bytes, 0u);
  EXPECT_EQ(block_pool_stats().in_use_bytes, 0u);
}

TEST(Slice, SharesItsBlock) {
  Slice whole = Slice::copy("hello world");
  EXPECT_EQ(whole.view(), "hello world");
  Slice world = whole.sub(6, 5);
  EXPECT_EQ(world.view(), "world");
  EXPECT_EQ(world.block().get(), whole.block().get());
  EXPECT_EQ(whole.block()->refs, 2u);
  whole.remove_prefix(3);
  EXPECT_EQ(whole.view(), "lo world");
  whole.truncate(2);
  EXPECT_EQ(whole.view(), "lo");
  whole.extend(3);
  EXPECT_EQ(whole.view(), "lo wo");
  whole = Slice();
  EXPECT_EQ(world.view(), "world");
  EXPECT_TRUE(world.block().unique());
  EXPECT_TRUE(Slice().empty());
}

TEST(Slice, OfStaticOrNoBytes) {
  const Slice text = Slice::unowned("static");
  EXPECT_EQ(text.view(), "static");
  EXPECT_FALSE(text.block());
  EXPECT_TRUE(Slice::copy({}).empty());
  EXPECT_TRUE(Slice::copy("").empty());
}

}  // namespace
}  // namespace sluice
