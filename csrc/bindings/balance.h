// Rows gathered, and classes balanced by drawing rows.
//
// Over-sampling copies the rows as they are and then writes the drawn ones, chunk by chunk: a chunk's
// indices are made, used and forgotten in the cache. So memory is read and written once for each row
// of the result, past the caches where the result is larger than they are.
#pragma once

#include <ATen/ops/empty.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "bindings/classes.h"
#include "bindings/common.h"
#include "bindings/samplers.h"
#include "cpu/streams.h"

namespace benchbench {

struct RowsOf {
  Tensor data;
  int64_t bytes;
  explicit RowsOf(const Tensor& x)
      : data(x.contiguous()), bytes(x.size(0) ? static_cast<int64_t>(data.nbytes()) / x.size(0) : 0) {}
  const char* at(int64_t row) const {
    return static_cast<const char*>(data.const_data_ptr()) + row * bytes;
  }
};

inline void check_rows(const char* op, const Tensor& x) {
  TORCH_CHECK(x.device().is_cpu() && x.dim() >= 1, "benchbench::", op,
              ": the input has shape ", x.sizes(), " and is on ", x.device(),
              "; it must have rows and be on the CPU");
}

inline Tensor empty_rows(const Tensor& x, int64_t count) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] = count;
  return at::empty(shape, x.options());
}

inline Tensor take_rows(const Tensor& x, const Tensor& index) {
  check_rows("take_rows", x);
  check_taken(x, index);
  const Tensor wanted = index.contiguous();
  const int64_t* at = wanted.const_data_ptr<int64_t>();
  const int64_t count = wanted.numel(), n = x.size(0);
  const IndexRange range = range_of(at, count);
  TORCH_CHECK(range.least >= 0 && range.most < n, "benchbench::take_rows: the index has values from ",
              range.least, " to ", range.most, ", the input has ", n, " rows");
  Tensor out = empty_rows(x, count);
  const RowsOf rows(x);
  char* to = static_cast<char*>(out.mutable_data_ptr());
  const bool stream = beyond_cache(static_cast<int64_t>(out.nbytes()));
  const auto kernel = kernels().take_rows;
  at::parallel_for(0, count, 4 * GRAIN / (rows.bytes + 1) + 1, [&](int64_t begin, int64_t end) {
    kernel(rows.at(0), rows.bytes, at + begin, end - begin, to + begin * rows.bytes, stream);
  });
  return out;
}

inline Classes classes_of(const char* op, const Tensor& x, const Tensor& labels) {
  check_rows(op, x);
  TORCH_CHECK(labels.scalar_type() == at::kLong && labels.dim() == 1 &&
                  labels.size(0) == x.size(0) && x.size(0) > 0 && labels.device().is_cpu(),
              "benchbench::", op, ": labels are ", labels.scalar_type(), " of shape ",
              labels.sizes(), "; they must be int64, one for each of the ", x.size(0),
              " rows, on the CPU");
  const int64_t n = labels.numel();
  TORCH_CHECK(n < int64_t{1} << 32, "benchbench::", op, ": there are ", n,
              " rows; there may be up to 2^32 - 1. Balance parts of them one by one");
  const int64_t* at = labels.const_data_ptr<int64_t>();
  const IndexRange range = range_of(at, n);
  TORCH_CHECK(range.least >= 0 && range.most < n + 65536, "benchbench::", op, ": labels from ",
              range.least, " to ", range.most,
              "; number classes from 0 (torch.unique(return_inverse=True) does)");
  return {at, n, range.most};
}

// Part of what a class adds to the result: from row `first` of its own on.
struct Portion {
  int64_t label, first, count, at;  // `at` is the row of the result
};

// `wanted(label)` rows of each class, in portions of DRAWS; `at` counts from `start`.
template <class Wanted>
std::vector<Portion> portions_of(const Classes& classes, int64_t start, Wanted wanted) {
  std::vector<Portion> portions;
  for (int64_t label = 0; label < classes.labels(); ++label) {
    const int64_t count = wanted(label);
    for (int64_t first = 0; first < count; first += DRAWS)
      portions.push_back({label, first, std::min(DRAWS, count - first), start + first});
    start += count;
  }
  return portions;
}

// Each portion's rows and labels; `choose(portion, index)` says which rows.
template <class Choose>
void write_portions(const std::vector<Portion>& portions, const RowsOf& from, const Tensor& rows,
                    const Tensor& labels, Choose choose) {
  char* to = static_cast<char*>(rows.mutable_data_ptr());
  int64_t* y = labels.mutable_data_ptr<int64_t>();
  const bool stream = beyond_cache(static_cast<int64_t>(rows.nbytes()));
  const auto kernel = kernels().take_rows;
  at::parallel_for(0, static_cast<int64_t>(portions.size()), 1, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> index(static_cast<size_t>(DRAWS));
    for (int64_t k = begin; k < end; ++k) {
      const Portion& portion = portions[static_cast<size_t>(k)];
      choose(portion, index.data());
      kernel(from.at(0), from.bytes, index.data(), portion.count, to + portion.at * from.bytes, stream);
      std::fill_n(y + portion.at, portion.count, portion.label);
    }
  });
}

// All rows, then for each class but the largest as many drawn from it as it lacks.
inline std::tuple<Tensor, Tensor> oversample(const Tensor& x, const Tensor& given, int64_t seed) {
  const Tensor labels = given.contiguous();
  Classes classes = classes_of("oversample", x, labels);
  int64_t largest = 0, present = 0;
  for (int64_t label = 0; label < classes.labels(); ++label) {
    largest = std::max(largest, classes.size(label));
    present += classes.size(label) > 0;
  }
  const int64_t n = x.size(0), total = largest * present;
  Tensor rows = empty_rows(x, total), y = at::empty({total}, labels.options());
  const RowsOf from(x);
  const bool stream = beyond_cache(static_cast<int64_t>(rows.nbytes()));
  const auto copy = kernels().copy;
  char* to = static_cast<char*>(rows.mutable_data_ptr());
  const int64_t* old_labels = labels.const_data_ptr<int64_t>();
  int64_t* new_labels = y.mutable_data_ptr<int64_t>();
  at::parallel_for(0, n, 4 * GRAIN / (from.bytes + 1) + 1, [&](int64_t begin, int64_t end) {
    copy(from.at(begin), to + begin * from.bytes, (end - begin) * from.bytes, stream);
    std::copy(old_labels + begin, old_labels + end, new_labels + begin);
  });
  const auto portions = portions_of(classes, n, [&](int64_t label) {
    return classes.size(label) ? largest - classes.size(label) : 0;
  });
  const auto draw = kernels().draw_uniform;
  write_portions(portions, from, rows, y, [&](const Portion& portion, int64_t* index) {
    const RandomStream random{static_cast<uint64_t>(seed),
                              static_cast<uint32_t>(portion.first / DRAWS),
                              static_cast<uint32_t>(portion.label), UNIFORM};
    draw(classes.size(portion.label), random, portion.count, index);
    const uint32_t* members = classes.rows(portion.label);
    for (int64_t i = 0; i < portion.count; ++i) index[i] = members[index[i]];
  });
  return {rows, y};
}

// As many rows of each class as the smallest has, drawn without replacement: the first steps of a
// Fisher-Yates shuffle.
inline std::tuple<Tensor, Tensor> undersample(const Tensor& x, const Tensor& given, int64_t seed) {
  const Tensor labels = given.contiguous();
  Classes classes = classes_of("undersample", x, labels);
  int64_t least = x.size(0), present = 0;
  for (int64_t label = 0; label < classes.labels(); ++label)
    if (classes.size(label)) {
      least = std::min(least, classes.size(label));
      ++present;
    }
  at::parallel_for(0, classes.labels(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t label = begin; label < end; ++label) {
      const int64_t size = classes.size(label);
      Sequence random({static_cast<uint64_t>(seed), 0, static_cast<uint32_t>(label), SHUFFLE});
      uint32_t* members = classes.rows(label);
      for (int64_t i = 0; i < least && least < size; ++i) {
        const uint64_t left = static_cast<uint64_t>(size - i);
        std::swap(members[i], members[i + static_cast<int64_t>(random.below(left))]);
      }
    }
  });
  const int64_t total = least * present;
  Tensor rows = empty_rows(x, total), y = at::empty({total}, labels.options());
  const auto portions = portions_of(
      classes, 0, [&](int64_t label) { return classes.size(label) ? least : 0; });
  write_portions(portions, RowsOf(x), rows, y, [&](const Portion& portion, int64_t* index) {
    const uint32_t* members = classes.rows(portion.label) + portion.first;
    std::copy(members, members + portion.count, index);
  });
  return {rows, y};
}

}  // namespace benchbench
