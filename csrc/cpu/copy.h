// Copy by plain or streaming stores. Included once per instruction set.
//
// What it is for: the roof. A kernel that reads and writes n bytes cannot be faster than this one on
// the same bytes. Streaming stores win where the destination does not fit into the last-level cache,
// since a plain store reads each line before it overwrites it; they lose where it does fit.
// Phases: head up to the destination's first whole line; four vectors at a time; tail. 2n bytes.
#pragma once

#include "cpu/elementwise.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

template <bool STREAM>
static void copy_floats(const char* from, char* to, int64_t bytes) {
  constexpr int64_t width = sizeof(F), line = 64;
  const int64_t to_line = (line - reinterpret_cast<uintptr_t>(to) % line) % line;
  const int64_t head = to_line < bytes ? to_line : bytes;
  std::memcpy(to, from, static_cast<size_t>(head));
  int64_t i = head;
  for (; i + 4 * width <= bytes; i += 4 * width) {
    if constexpr (STREAM)
      for (int k = 0; k < 4; ++k) fetch_on(from + i + k * width);
    for (int k = 0; k < 4; ++k) {
      F v;  // not through a float pointer: the source may stand at any byte
      std::memcpy(&v, from + i + k * width, sizeof v);
      put<STREAM>(reinterpret_cast<float*>(to + i + k * width), v);
    }
  }
  std::memcpy(to + i, from + i, static_cast<size_t>(bytes - i));
}

static void copy_entry(const void* from, void* to, int64_t bytes, bool stream) {
  const char* source = static_cast<const char*>(from);
  char* destination = static_cast<char*>(to);
  if (!stream) return copy_floats<false>(source, destination, bytes);
  copy_floats<true>(source, destination, bytes);
  end_of_streaming();
}

}  // namespace
}  // namespace benchbench::BB_ISA
