#include "base/slice_queue.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "base/random.h"

namespace sluice {
namespace {

std::string text_of(const SliceQueue& queue) { return queue.to_string<std::string>(); }

void check(const SliceQueue& queue, const std::string& model) {
  ASSERT_EQ(text_of(queue), model);
  ASSERT_EQ(queue.bytes(), model.size());
  ASSERT_EQ(queue.empty(), model.empty());
  size_t bytes = 0;
  for (size_t i = 0; i < queue.count(); ++i) {
    ASSERT_FALSE(queue[i].empty());
    bytes += queue[i].size();
  }
  ASSERT_EQ(bytes, model.size());
}

// Random operations on two queues, with two strings as the model.
TEST(SliceQueue, BehavesLikeAString) {
  const size_t before = block_pool_stats().in_use_bytes;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Random random(seed);
    SliceQueue queue, other;
    std::string model, other_model;
    for (int step = 0; step < 300; ++step) {
      SCOPED_TRACE("seed " + std::to_string(seed) + " step " + std::to_string(step));
      std::string text;
      for (uint32_t n = random.below(20); n > 0; --n) text += static_cast<char>('a' + random.below(26));
      switch (random.below(13)) {
        case 0:
        case 1:
          queue.push_back(Slice::copy(text));
          model += text;
          break;
        case 11:
          queue.append_copy(text);
          model += text;
          break;
        case 12:
          queue.gather(Slice::copy(text).sub(0, text.size() / 2));
          model += text.substr(0, text.size() / 2);
          break;
        case 2:
          queue.push_front(Slice::copy(text));
          model = text + model;
          break;
        case 3:
        case 4: {
          const size_t n = random.below(static_cast<uint32_t>(model.size()) + 1);
          queue.consume(n);
          model.erase(0, n);
          break;
        }
        case 5:
          other.push_back(Slice::copy(text));
          other_model += text;
          break;
        case 6:
          queue.append(std::move(other));
          model += other_model;
          other_model.clear();
          check(other, "");
          break;
        case 7:
          queue.swap(other);
          model.swap(other_model);
          break;
        case 8:
          if (queue.empty()) break;
          {
            const Slice front = queue.pop_front();
            ASSERT_EQ(front.view(), std::string_view(model).substr(0, front.size()));
            model.erase(0, front.size());
          }
          break;
        case 9: {
          // Grow the last slice in place, as the codecs do.
          if (queue.empty()) break;
          const Slice& last = queue[queue.count() - 1];
          Block* block = last.block().get();
          char* end = const_cast<char*>(last.data()) + last.size();
          if (!last.block().unique() || end + text.size() > block->data() + block->capacity) break;
          std::memcpy(end, text.data(), text.size());
          queue.extend_back(text.size());
          model += text;
          break;
        }
        default:
          if (random.below(20) == 0) {
            queue.clear();
            model.clear();
          } else {
            SliceQueue moved(std::move(queue));
            check(queue, "");
            queue = std::move(moved);
          }
      }
      check(queue, model);
      check(other, other_model);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_EQ(block_pool_stats().in_use_bytes, before) << "every block has been given back";
}

TEST(SliceQueue, IgnoresEmptySlices) {
  SliceQueue queue;
  queue.push_back(Slice());
  queue.push_front(Slice::copy(""));
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.count(), 0u);
  queue.consume(0);
  queue.append(SliceQueue());
  EXPECT_TRUE(queue.empty());
}

TEST(SliceQueue, GathersWhatComesByteByByte) {
  const size_t before = block_pool_stats().in_use_bytes;
  SliceQueue queue;
  std::string model;
  for (int i = 0; i < 20'000; ++i) {
    BlockRef received(acquire_block());  // as a connection reads: a block for each packet
    received->data()[0] = static_cast<char>('a' + i % 26);
    const char* data = received->data();
    model += *data;
    queue.gather(Slice(std::move(received), data, 1));
  }
  check(queue, model);
  EXPECT_LT(block_pool_stats().in_use_bytes - before, 40'000u);
  EXPECT_LT(queue.count(), 10u);
  queue.clear();
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
}

TEST(SliceQueue, GathersOnlyWhereNobodyElseLooks) {
  BlockRef shared(acquire_block());
  std::memcpy(shared->data(), "head and more", 13);
  SliceQueue queue;
  queue.push_back(Slice(shared, shared->data(), 4));
  queue.append_copy("-1");
  EXPECT_EQ(std::string_view(shared->data(), 13), "head and more");
  EXPECT_EQ(text_of(queue), "head-1");

  // The last slice's block is the queue's alone, up to its end.
  BlockRef own(acquire_block(kSmallBlock));
  const size_t capacity = own->capacity;
  std::memset(own->data(), 'x', capacity - 3);
  const char* data = own->data();
  queue.clear();
  queue.push_back(Slice(std::move(own), data, capacity - 3));
  queue.append_copy("abc");
  EXPECT_EQ(queue.count(), 1u);
  queue.append_copy("d");
  EXPECT_EQ(queue.count(), 2u);
  queue.append_copy("");
  queue.gather(Slice());
  EXPECT_EQ(queue.bytes(), capacity + 1);
  queue.consume(capacity - 3);
  EXPECT_EQ(text_of(queue), "abcd");

  // Bytes that are not in a block can't be written behind.
  queue.clear();
  queue.push_back(Slice::unowned("static"));
  queue.append_copy("!");
  EXPECT_EQ(text_of(queue), "static!");

  // Large slices are shared.
  Slice large = Slice::copy(std::string(5000, 'y'));
  data = large.data();
  queue.gather(std::move(large));
  EXPECT_EQ(queue[queue.count() - 1].data(), data);
}

TEST(SliceQueue, StaysSmallWhenItIsUsedAsAPipe) {
  // One in, one out, a hundred thousand times: the array behind it must not grow with the history.
  SliceQueue queue;
  for (int i = 0; i < 3; ++i) queue.push_back(Slice::unowned("abc"));
  for (int i = 0; i < 100'000; ++i) {
    queue.push_back(Slice::unowned("abc"));
    queue.pop_front();
  }
  EXPECT_EQ(queue.count(), 3u);
  EXPECT_EQ(text_of(queue), "abcabcabc");
}

}  // namespace
}  // namespace sluice
