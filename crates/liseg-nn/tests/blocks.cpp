// The ranges of shim/blocks.h on kernels with pages of 4, 16 and 64 KiB. Nothing is mapped: the kernel here keeps account
// of addresses and does with them what Linux does with pages.

#include "../shim/blocks.h"

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace {

std::size_t page = 0;
std::set<std::uintptr_t> mapped;
std::map<std::uintptr_t, std::size_t> live;
std::uintptr_t next_start = 0;

void require(bool holds, const char* what) {
  if (!holds) {
    std::printf("pages of %zu bytes: %s\n", page, what);
    std::exit(1);
  }
}

struct Kernel {
  static char* map(std::size_t size) {
    const std::uintptr_t start = next_start;
    for (std::uintptr_t at = start; at < start + size; at += page) {
      mapped.insert(at);
      next_start = at + page;
    }
    return reinterpret_cast<char*>(start);
  }

  static void unmap(char* pointer, std::size_t size) {
    const auto start = reinterpret_cast<std::uintptr_t>(pointer);
    require(start % page == 0, "the kernel refuses to unmap from within a page");
    const std::uintptr_t end = start + (size + page - 1) / page * page;
    auto block = live.upper_bound(start);
    require(block == live.end() || block->first >= end, "the beginning of a live block is unmapped");
    if (block != live.begin()) {
      --block;
      require(block->first + block->second <= start, "a live block is unmapped");
    }
    for (std::uintptr_t at = start; at < end; at += page) {
      require(mapped.erase(at) == 1, "a page is unmapped twice");
    }
  }
};

void take(Blocks<Kernel>& blocks, std::size_t bytes) {
  const auto start = reinterpret_cast<std::uintptr_t>(blocks.take(bytes));
  require(start % page == 0, "a block begins within a page");
  const auto after = live.lower_bound(start);
  require(after == live.end() || start + bytes <= after->first, "two blocks overlap");
  for (std::uintptr_t at = start; at < start + bytes; at += page) {
    require(mapped.count(at) == 1, "a block lies in no page");
  }
  live.emplace(start, bytes);
}

void run(std::size_t page_size) {
  page = page_size;
  mapped.clear();
  live.clear();
  next_start = std::uintptr_t{1} << 32;
  Blocks<Kernel> blocks(page_size);
  std::mt19937 random(7);
  for (int step = 0; step < 20000; ++step) {
    const auto drawn = random();
    if (live.size() < 4 || (live.size() < 24 && drawn % 2 == 0)) {
      // From 256 KiB on, mostly no whole pages.
      take(blocks, (std::size_t{256} << 10) + random() % (std::size_t{2} << 20));
    } else {
      auto block = live.begin();
      std::advance(block, random() % live.size());
      const auto start = block->first;
      live.erase(block);
      require(blocks.give(reinterpret_cast<void*>(start)), "a block is not known any more");
    }
    if (drawn % 512 == 0) {
      blocks.release();
    }
    std::int64_t now = 0;
    std::int64_t peak = 0;
    std::int64_t kept = 0;
    blocks.count(&now, &peak, &kept);
    const auto pages = static_cast<std::int64_t>(mapped.size() * page);
    require(now + kept == pages, "pages are lost");
    require(pages <= peak + peak / 16 + static_cast<std::int64_t>(page), "more is kept than is allowed");
  }
  require(!blocks.give(reinterpret_cast<void*>(next_start)), "a foreign pointer is taken");
}

}  // namespace

int main() {
  for (const std::size_t kibibytes : {4, 16, 64}) {
    run(kibibytes << 10);
  }
}
