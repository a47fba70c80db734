// Which ranges of pages blocks lie in, and which are kept for the next ones.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

// Blocks of whole pages. `System::map` makes pages of the system's, or null; `System::unmap` returns some of them.
// Both take multiples of the page: of a part of a page the kernel unmaps all, with whatever else lies in it.
template <class System>
class Blocks {
 public:
  explicit Blocks(std::size_t page) : page_(page) {}

  // Pages for `bytes`, or null when the system has none.
  void* take(std::size_t bytes) {
    const std::size_t size = pages(bytes);
    const std::lock_guard<std::mutex> lock(mutex_);
    char* start = nullptr;
    auto fit = by_size_.lower_bound({size, nullptr});
    if (fit != by_size_.end()) {
      start = fit->second;
      const std::size_t found = fit->first;
      forget(start);
      if (found > size) {
        keep(start + size, found - size);
      }
    } else {
      // Pages from the system take the place of kept ones.
      const std::size_t allowed = peak_ + peak_ / SLACK;
      const std::size_t needed = live_ + size;
      release_beyond(allowed > needed ? allowed - needed : 0);
      start = System::map(size);
      if (start == nullptr) {
        release_beyond(0);
        start = System::map(size);
      }
      if (start == nullptr) {
        return nullptr;
      }
    }
    used_.emplace(start, size);
    live_ += size;
    peak_ = peak_ > live_ ? peak_ : live_;
    return start;
  }

  // Takes back what `take` gave; false for other pointers.
  bool give(void* pointer) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % page_ != 0) {
      return false;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = used_.find(pointer);
    if (found == used_.end()) {
      return false;
    }
    char* start = static_cast<char*>(pointer);
    const std::size_t size = found->second;
    used_.erase(found);
    live_ -= size;
    join(start, size);
    return true;
  }

  void release() {
    const std::lock_guard<std::mutex> lock(mutex_);
    release_beyond(0);
    peak_ = live_;
  }

  void count(std::int64_t* live, std::int64_t* peak, std::int64_t* kept) {
    const std::lock_guard<std::mutex> lock(mutex_);
    *live = static_cast<std::int64_t>(live_);
    *peak = static_cast<std::int64_t>(peak_);
    *kept = static_cast<std::int64_t>(kept_);
  }

 private:
  // One part in so many may be kept beyond the largest sum of live blocks.
  static constexpr std::size_t SLACK = 16;

  std::size_t pages(std::size_t bytes) const {
    return (bytes + page_ - 1) / page_ * page_;
  }

  void keep(char* start, std::size_t size) {
    free_.emplace(start, size);
    by_size_.emplace(size, start);
    kept_ += size;
  }

  void forget(char* start) {
    const auto found = free_.find(start);
    by_size_.erase({found->second, start});
    kept_ -= found->second;
    free_.erase(found);
  }

  // Keeps a range together with those that touch it.
  void join(char* start, std::size_t size) {
    auto after = free_.lower_bound(start);
    if (after != free_.end() && start + size == after->first) {
      size += after->second;
      forget(after->first);
    }
    auto before = free_.lower_bound(start);
    if (before != free_.begin()) {
      --before;
      if (before->first + before->second == start) {
        start = before->first;
        size += before->second;
        forget(start);
      }
    }
    keep(start, size);
  }

  // Returns kept pages to the system, the smallest ranges first, until no more than `limit` bytes are
  // left.
  void release_beyond(std::size_t limit) {
    while (kept_ > limit && !by_size_.empty()) {
      const auto [size, start] = *by_size_.begin();
      const std::size_t excess = pages(kept_ - limit);
      forget(start);
      if (size > excess) {
        System::unmap(start, excess);
        keep(start + excess, size - excess);
      } else {
        System::unmap(start, size);
      }
    }
  }

  const std::size_t page_;
  std::mutex mutex_;
  std::map<char*, std::size_t> free_;
  std::set<std::pair<std::size_t, char*>> by_size_;
  std::unordered_map<void*, std::size_t> used_;
  std::size_t live_ = 0;
  std::size_t peak_ = 0;
  std::size_t kept_ = 0;
};
