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
      switch (random.below(11)) {
        case 0:
        case 1:
          queue.push_back(Slice::copy(text));
          model += text;
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
