// Memory of tensors on the CPU.
//
// libtorch asks the C library for blocks aligned to 64 bytes. glibc cuts such a block out of a larger one,
// so that a freed block is too short for the next request of the same size, and the heap grows to a
// multiple of what lives at once; and glibc's own way out, mapping each block afresh, has the kernel clear
// every page again. Here large blocks are cut from ranges of pages that were freed before: the smallest
// that holds the block; neighbours are joined. The pages that are kept never make the process larger than
// the tensors alive at once have been, up to a share for what does not fit together.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

#if defined(__linux__)

// Blocks below this are the C library's.
constexpr std::size_t LARGE = std::size_t{256} << 10;

class Blocks {
 public:
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
      start = map(size);
      if (start == nullptr) {
        release_beyond(0);
        start = map(size);
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
    if (reinterpret_cast<std::uintptr_t>(pointer) % PAGE != 0) {
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
  static constexpr std::size_t PAGE = 4096;
  // One part in so many may be kept beyond the largest sum of live blocks.
  static constexpr std::size_t SLACK = 16;

  static std::size_t pages(std::size_t bytes) {
    return (bytes + PAGE - 1) / PAGE * PAGE;
  }

  static char* map(std::size_t size) {
    void* start =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return start == MAP_FAILED ? nullptr : static_cast<char*>(start);
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
        munmap(start, excess);
        keep(start + excess, size - excess);
      } else {
        munmap(start, size);
      }
    }
  }

  std::mutex mutex_;
  std::map<char*, std::size_t> free_;
  std::set<std::pair<std::size_t, char*>> by_size_;
  std::unordered_map<void*, std::size_t> used_;
  std::size_t live_ = 0;
  std::size_t peak_ = 0;
  std::size_t kept_ = 0;
};

// Never destroyed: tensors may outlive everything else.
Blocks& blocks() {
  static Blocks* all = new Blocks;
  return *all;
}

void give_back(void* pointer) {
  if (pointer != nullptr && !blocks().give(pointer)) {
    std::free(pointer);
  }
}

class TensorAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* pointer = nullptr;
    if (bytes >= LARGE) {
      // Whole pages of more would wrap around.
      pointer = bytes <= PTRDIFF_MAX ? blocks().take(bytes) : nullptr;
    } else if (bytes > 0 && posix_memalign(&pointer, 64, bytes) != 0) {
      pointer = nullptr;
    }
    TORCH_CHECK(
        pointer != nullptr || bytes == 0, "there is no memory for a tensor of ", bytes, " bytes");
    return {pointer, pointer, &give_back, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &give_back;
  }

  void copy_data(void* to, const void* from, std::size_t count) const override {
    default_copy_data(to, from, count);
  }
};

#endif

}  // namespace

extern "C" {

// From here on tensors on the CPU lie in such blocks; those made before are freed as before. Does nothing
// but on Linux.
void liseg_reuse_memory() {
#if defined(__linux__)
  static TensorAllocator allocator;
  c10::SetCPUAllocator(&allocator, 1);
#endif
}

// Returns kept pages to the system.
void liseg_release_memory() {
#if defined(__linux__)
  blocks().release();
#endif
}

// Bytes of large blocks: in use, at most in use since the last release, kept for reuse.
void liseg_count_memory(std::int64_t* live, std::int64_t* peak, std::int64_t* kept) {
#if defined(__linux__)
  blocks().count(live, peak, kept);
#else
  *live = *peak = *kept = 0;
#endif
}

}  // extern "C"
