#pragma once
// SliceQueue: bytes on their way from one side to the other, as an ordered list of slices. Empty queues hold no memory.

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "base/block.h"

namespace sluice {

class SliceQueue {
 public:
  SliceQueue() = default;
  SliceQueue(SliceQueue&& other) noexcept { swap(other); }
  SliceQueue& operator=(SliceQueue&& other) noexcept {
    if (this != &other) {
      clear();
      swap(other);
    }
    return *this;
  }
  SliceQueue(const SliceQueue&) = delete;
  SliceQueue& operator=(const SliceQueue&) = delete;
  ~SliceQueue() { clear(); }

  bool empty() const { return count_ == 0; }
  size_t count() const { return count_; }
  // Total bytes.
  size_t bytes() const { return bytes_; }
  const Slice& operator[](size_t i) const { return items_[head_ + i]; }

  void push_back(Slice slice) {
    if (slice.empty()) return;
    bytes_ += slice.size();
    if (head_ + count_ == capacity_) make_room();
    new (&items_[head_ + count_]) Slice(std::move(slice));
    ++count_;
  }

  // Copies, behind what is there if possible.
  void append_copy(std::string_view bytes) {
    if (bytes.empty()) return;
    if (char* room = empty() ? nullptr : items_[head_ + count_ - 1].room(bytes.size())) {
      std::memcpy(room, bytes.data(), bytes.size());
      return extend_back(bytes.size());
    }
    push_back(Slice::copy(bytes));
  }

  // As push_back(), for what may have to wait: small slices are copied together, so that bytes that came one by one do
  // not hold a receive block each, nor leave in a vector each.
  void gather(Slice slice) {
    constexpr size_t kSmall = 1024;
    if (slice.size() <= kSmall) return append_copy(slice.view());
    push_back(std::move(slice));
  }

  // The last slice grows by `n` bytes that the caller has written behind it in its block.
  void extend_back(size_t n) {
    items_[head_ + count_ - 1].extend(n);
    bytes_ += n;
  }

  void push_front(Slice slice) {
    if (slice.empty()) return;
    SliceQueue rest;
    rest.swap(*this);
    push_back(std::move(slice));
    append(std::move(rest));
  }

  void append(SliceQueue&& other) {
    if (empty()) {
      swap(other);
      other.clear();
      return;
    }
    for (size_t i = 0; i < other.count_; ++i) push_back(std::move(other.items_[other.head_ + i]));
    other.bytes_ = 0;
    other.clear();
  }

  Slice pop_front() {
    Slice front = std::move(items_[head_]);
    bytes_ -= front.size();
    drop_front();
    return front;
  }

  // Removes `n` bytes from the front; n <= bytes().
  void consume(size_t n) {
    bytes_ -= n;
    while (n > 0) {
      Slice& front = items_[head_];
      if (n < front.size()) {
        front.remove_prefix(n);
        return;
      }
      n -= front.size();
      drop_front();
    }
  }

  // Drops everything, and the memory.
  void clear() {
    for (size_t i = 0; i < count_; ++i) items_[head_ + i].~Slice();
    std::free(items_);
    items_ = nullptr;
    head_ = count_ = capacity_ = 0;
    bytes_ = 0;
  }

  // Copies out all bytes.
  template <typename String>
  String to_string() const {
    String text;
    text.reserve(bytes_);
    for (size_t i = 0; i < count_; ++i) text.append((*this)[i].view());
    return text;
  }

  void swap(SliceQueue& other) noexcept {
    std::swap(items_, other.items_);
    std::swap(head_, other.head_);
    std::swap(count_, other.count_);
    std::swap(capacity_, other.capacity_);
    std::swap(bytes_, other.bytes_);
  }

 private:
  void drop_front() {
    items_[head_].~Slice();
    ++head_;
    if (--count_ == 0) clear();
  }

  // Moves the slices to the front of the array, or into one twice as large.
  void make_room() {
    const uint32_t capacity = count_ + 1 > capacity_ / 2 ? (capacity_ ? capacity_ * 2 : 4) : capacity_;
    auto* items = static_cast<Slice*>(std::malloc(capacity * sizeof(Slice)));
    if (!items) throw std::bad_alloc();
    for (size_t i = 0; i < count_; ++i) {
      new (&items[i]) Slice(std::move(items_[head_ + i]));
      items_[head_ + i].~Slice();
    }
    std::free(items_);
    items_ = items;
    head_ = 0;
    capacity_ = capacity;
  }

  Slice* items_ = nullptr;
  uint32_t head_ = 0;
  uint32_t count_ = 0;
  uint32_t capacity_ = 0;
  size_t bytes_ = 0;
};

}  // namespace sluice
