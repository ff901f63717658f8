// Rows by class: a counting sort of row numbers by label, in parallel and stable.
//
// Phases: range of the labels; a count for each chunk and class; where each chunk's rows of each class
// go; row numbers into their places. Two reads of the labels after the range, four bytes written a row.
#pragma once

#include <algorithm>
#include <vector>

#include "bindings/common.h"

namespace benchbench {

// Least and greatest of n numbers; 0 and -1 of none.
struct IndexRange {
  int64_t least = 0, most = -1;
};

inline IndexRange range_of(const int64_t* values, int64_t n) {
  constexpr int64_t size = 1 << 15;
  const int64_t chunks = (n + size - 1) / size;
  std::vector<IndexRange> found(static_cast<size_t>(chunks));
  at::parallel_for(0, chunks, 2, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const int64_t last = std::min(n, (c + 1) * size);
      IndexRange range;
      for (int64_t i = c * size; i < last; ++i) {
        range.least = std::min(range.least, values[i]);
        range.most = std::max(range.most, values[i]);
      }
      found[static_cast<size_t>(c)] = range;
    }
  });
  IndexRange range;
  for (const IndexRange& part : found) {
    range.least = std::min(range.least, part.least);
    range.most = std::max(range.most, part.most);
  }
  return range;
}

// Row numbers by label, ascending in each, and where each label's begin.
class Classes {
 public:
  // Labels are int64, n of them, n at least 1 and below 2^32, from 0 to `most`.
  Classes(const int64_t* labels, int64_t n, int64_t most)
      : begin_(static_cast<size_t>(most) + 2, 0),
        rows_(at::empty({n}, at::TensorOptions().dtype(at::kInt))) {
    const int64_t count = most + 1;
    // Chunks are so long that all counts together are few beside the rows.
    const int64_t size = std::max<int64_t>(1 << 15, 16 * count), chunks = (n + size - 1) / size;
    std::vector<int64_t> places(static_cast<size_t>(chunks * count), 0);
    const auto of_chunk = [&](int64_t c) { return places.data() + c * count; };
    at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        tally(labels + c * size, std::min(size, n - c * size), count, of_chunk(c));
    });
    int64_t at = 0;
    for (int64_t label = 0; label < count; ++label) {
      begin_[static_cast<size_t>(label)] = at;
      for (int64_t c = 0; c < chunks; ++c) {
        const int64_t here = of_chunk(c)[label];
        of_chunk(c)[label] = at;
        at += here;
      }
    }
    begin_.back() = at;
    uint32_t* rows = data();
    at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        int64_t* next = of_chunk(c);
        const int64_t last = std::min(n, (c + 1) * size);
        for (int64_t i = c * size; i < last; ++i) rows[next[labels[i]]++] = static_cast<uint32_t>(i);
      }
    });
  }

  int64_t labels() const { return static_cast<int64_t>(begin_.size()) - 1; }
  int64_t size(int64_t label) const { return begin_[static_cast<size_t>(label) + 1] - first(label); }
  uint32_t* rows(int64_t label) { return data() + first(label); }

 private:
  std::vector<int64_t> begin_;
  Tensor rows_;

  int64_t first(int64_t label) const { return begin_[static_cast<size_t>(label)]; }
  uint32_t* data() { return reinterpret_cast<uint32_t*>(rows_.mutable_data_ptr<int32_t>()); }

  // Few classes are counted in four tables in turn: with one, each addition waits for the one before.
  static void tally(const int64_t* labels, int64_t n, int64_t count, int64_t* counts) {
    constexpr int64_t few = 256;
    int64_t i = 0;
    if (count <= few) {
      uint32_t tables[4][few] = {};
      for (; i + 4 <= n; i += 4)
        for (int64_t k = 0; k < 4; ++k) ++tables[k][labels[i + k]];
      for (int64_t label = 0; label < count; ++label)
        counts[label] = int64_t{tables[0][label]} + tables[1][label] + tables[2][label] + tables[3][label];
    }
    for (; i < n; ++i) ++counts[labels[i]];
  }
};

}  // namespace benchbench
