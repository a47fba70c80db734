// Memory of tensors on the CPU.
//
// libtorch asks the C library for blocks aligned to 64 bytes. glibc cuts such a block out of a larger one,
// so that a freed block is too short for the next request of the same size, and the heap grows to a
// multiple of what lives at once; and glibc's own way out, mapping each block afresh, has the kernel clear
// every page again. Here large blocks are cut from ranges of pages that were freed before: the smallest
// that holds the block; neighbours are joined. The pages that are kept never make the process larger than
// the tensors alive at once have been, up to a share for what does not fit together.

#include "blocks.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

#if defined(__linux__)

// Blocks below this are the C library's.
constexpr std::size_t LARGE = std::size_t{256} << 10;

// Pages of this machine: 4 KiB on most, 16 or 64 KiB on some of ARM and POWER.
std::size_t page_size() {
  const long found = sysconf(_SC_PAGESIZE);
  // A multiple of all that there are.
  return found > 0 ? static_cast<std::size_t>(found) : std::size_t{64} << 10;
}

struct Linux {
  static char* map(std::size_t size) {
    void* start =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return start == MAP_FAILED ? nullptr : static_cast<char*>(start);
  }

  static void unmap(char* start, std::size_t size) {
    munmap(start, size);
  }
};

// Never destroyed: tensors may outlive everything else.
Blocks<Linux>& blocks() {
  static auto* all = new Blocks<Linux>(page_size());
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
