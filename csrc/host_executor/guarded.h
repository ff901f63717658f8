// Memory that ends, or begins, at a page that nobody may touch: the first byte beyond it is found, in
// reads as in writes, without a sanitizer.
#pragma once

#include <cstddef>

namespace benchbench::host_executor {

class Guarded {
 public:
  // `bytes` of 0xff (NaN as f64, f32, bf16 and f16), flush with the page behind it, or with the one
  // in front of it. Flush with the end, its address is as aligned as its size is.
  Guarded(std::size_t bytes, bool flush_with_end);
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded();
  char* data() const { return data_; }
  void poison();

 private:
  char* pages_ = nullptr;
  char* data_ = nullptr;
  std::size_t mapped_ = 0, bytes_ = 0;
};

}  // namespace benchbench::host_executor
