#include "host_executor/guarded.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace benchbench::host_executor {

Guarded::Guarded(std::size_t bytes, bool flush_with_end) : bytes_(bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t inside = (bytes + page - 1) / page * page;
  mapped_ = inside + 2 * page;
  void* all = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED ||
      (inside && mprotect(static_cast<char*>(all) + page, inside, PROT_READ | PROT_WRITE))) {
    std::fprintf(stderr, "host executor: no memory for %zu bytes; use a smaller problem\n", bytes);
    std::abort();
  }
  pages_ = static_cast<char*>(all);
  data_ = pages_ + page + (flush_with_end ? inside - bytes : 0);
  poison();
}

Guarded::~Guarded() { munmap(pages_, mapped_); }

void Guarded::poison() { std::memset(data_, 0xff, bytes_); }

}  // namespace benchbench::host_executor
