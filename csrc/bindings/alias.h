// Alias tables (Walker; Vose): a weighted draw by one look-up, whatever the weights.
//
// Column i of n holds category i with a share and one other category with the rest. An entry is the
// share in units of 2^-32 in the low half, the other category in the high half.
//
// A light category weighs at most a column and leaves a need, a heavy one more and has an excess.
// Swept in order, light ones are filled up from a heavy one until that is light itself and is filled
// up from the next (Huebschle-Schneider, Sanders: Parallel weighted random sampling, ESA 2019, section
// 4). Which heavy one a light one gets, and the other way round, follows from the running sums of needs
// and of excesses alone: the table is the merge of these two sorted sequences. So threads build any
// parts of it, split where a binary search says (as in a parallel merge: Odeh, Green et al., Merge
// path, 2012), and inside a part there is no branch to mispredict.
//
// Weights are rounded to whole units first, 2^bits to a column: sums of integers are the same in any
// order, so the table depends neither on the number of threads nor on the instruction set. bits is 43
// for a million categories; what rounding leaves over goes to the last heavy one.
//
// Phases: sum and check (reads the weights), measure blocks, separate light from heavy (writes 12 bytes
// a category), merge (reads them, writes 8).
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace benchbench {

constexpr int64_t ALIAS_BLOCK = 1 << 13;  // categories that a thread takes at a time

struct WeightSum {
  double total = 0, least = 0;  // the least is at most 0
};

// In eight partial sums by position: the same on every instruction set.
template <class T>
WeightSum sum_weights(const T* weights, int64_t n) {
  double total[8] = {}, least[8] = {};
  const int64_t whole = n / 8 * 8;
  for (int64_t i = 0; i < whole; i += 8)
    for (int64_t k = 0; k < 8; ++k) {
      const auto value = static_cast<double>(weights[i + k]);
      total[k] += value;
      least[k] = value < least[k] ? value : least[k];
    }
  for (int64_t i = whole; i < n; ++i) {
    const auto value = static_cast<double>(weights[i]);
    total[i - whole] += value;
    least[i - whole] = value < least[i - whole] ? value : least[i - whole];
  }
  WeightSum sum;
  sum.total = ((total[0] + total[1]) + (total[2] + total[3])) +
              ((total[4] + total[5]) + (total[6] + total[7]));
  sum.least = *std::min_element(least, least + 8);
  return sum;
}

// Of all weights, by blocks in parallel.
template <class T>
WeightSum sum_all_weights(const T* weights, int64_t n) {
  const int64_t blocks = (n + ALIAS_BLOCK - 1) / ALIAS_BLOCK;
  std::vector<WeightSum> sums(static_cast<size_t>(blocks));
  at::parallel_for(0, blocks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      sums[static_cast<size_t>(b)] = sum_weights(weights + b * ALIAS_BLOCK,
                                                 std::min(ALIAS_BLOCK, n - b * ALIAS_BLOCK));
  });
  WeightSum sum;
  for (const WeightSum& block : sums) {
    sum.total += block.total;
    sum.least = std::min(sum.least, block.least);
  }
  return sum;
}

// How weights become whole units. A multiple that overflows is avoided by lifting tiny weights first,
// by a power of two, which is exact.
class AliasUnits {
 public:
  AliasUnits(int64_t n, double total) {
    int width = 0;
    while (n >> width) ++width;
    bits_ = std::min(52, 63 - width);  // n columns fit into 63 bits
    lift_ = total < 0x1p-600 ? 0x1p700 : 1.0;
    factor_ = static_cast<double>(n) * static_cast<double>(column()) / (total * lift_);
  }

  int64_t column() const { return int64_t{1} << bits_; }

  // A column less the weight: a need, or when negative an excess.
  template <class T>
  int64_t need(T weight) const {
    return column() - std::llrint(static_cast<double>(weight) * lift_ * factor_);
  }

  // An entry; a full column belongs to its own category alone.
  uint64_t entry(int64_t own, int64_t index, int64_t other) const {
    const int64_t full = -static_cast<int64_t>(own >= column());
    const int64_t share = ((own << 1) >> (bits_ - 31)) + full;
    const int64_t rest = (index & full) | (other & ~full);
    return static_cast<uint64_t>(share) | static_cast<uint64_t>(rest) << 32;
  }

 private:
  int bits_;
  double lift_, factor_;
};

// What a block, or all blocks before one, have: light categories, their needs, heavy ones' excesses.
struct AliasCount {
  int64_t light = 0, need = 0, excess = 0;
};

template <class T>
AliasCount count_block(const T* weights, int64_t n, const AliasUnits& units) {
  AliasCount count;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t need = units.need(weights[i]), heavy = need >> 63;
    count.light += 1 + heavy;
    count.need += need & ~heavy;
    count.excess -= need & heavy;
  }
  return count;
}

// The light and the heavy categories in order, with running sums: `needs[j]` of the light ones before
// the j-th, `excesses[m]` up to and with the m-th heavy one. There are guards behind the ends.
struct AliasOrder {
  int64_t light_count, heavy_count, needed;
  int64_t *needs, *excesses;
  uint32_t *light, *heavy;

  static int64_t bytes(int64_t n) { return (n + 4) * 12 + 8; }

  AliasOrder(void* scratch, int64_t n, const AliasCount& all)
      : light_count(all.light), heavy_count(n - all.light), needed(all.need) {
    needs = static_cast<int64_t*>(scratch);
    excesses = needs + light_count + 2;
    light = reinterpret_cast<uint32_t*>(excesses + heavy_count + 1);
    heavy = light + light_count + 1;
  }

  // What rounding has left over is settled here: the last excess meets the last need. There is at least
  // one heavy category.
  void close() const {
    needs[light_count] = needs[light_count + 1] = needed;
    light[light_count] = 0;
    excesses[heavy_count] = std::numeric_limits<int64_t>::max();
    heavy[heavy_count] = heavy[heavy_count + 1] = heavy[heavy_count - 1];
    excesses[heavy_count - 1] = needed;
  }

  // Into its places, with the counts of all blocks before. Both candidates are written, one is kept;
  // as long as there are more of both in the block, so that no other block's place is touched.
  template <class T>
  void separate(const T* weights, int64_t first, int64_t n, const AliasUnits& units,
                AliasCount before, const AliasCount& after) const {
    int64_t j = before.light, m = first - before.light, i = 0;
    const int64_t j_end = after.light, m_end = first + n - after.light;
    for (; j < j_end && m < m_end; ++i) {
      const int64_t need = units.need(weights[i]), is_heavy = need >> 63;
      light[j] = heavy[m] = static_cast<uint32_t>(first + i);
      needs[j] = before.need;
      before.need += need & ~is_heavy;
      before.excess -= need & is_heavy;
      excesses[m] = std::min(before.excess, needed);
      j += 1 + is_heavy;
      m -= is_heavy;
    }
    for (; j < j_end; ++i, ++j) {
      light[j] = static_cast<uint32_t>(first + i);
      needs[j] = before.need;
      before.need += units.need(weights[i]);
    }
    for (; m < m_end; ++i, ++m) {
      heavy[m] = static_cast<uint32_t>(first + i);
      before.excess -= units.need(weights[i]);
      excesses[m] = std::min(before.excess, needed);
    }
  }

  // How many light ones are among the first `steps` columns that the sweep fills.
  int64_t light_among(int64_t steps) const {
    int64_t low = std::max<int64_t>(0, steps - heavy_count), high = std::min(steps, light_count);
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (needs[middle] < excesses[steps - middle - 1])
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }

  // Where the sweep stands: light and heavy categories that are done with.
  struct Cursor {
    int64_t j, m;
  };

  // Fills one column.
  void step(Cursor& at, const AliasUnits& units, uint64_t* table) const {
    const auto [j, m] = at;
    const int64_t need = needs[j], bound = excesses[m];
    const int64_t takes_light = -static_cast<int64_t>(need < bound);  // all ones, or none
    const int64_t own = units.column() + (((need - needs[j + 1]) & takes_light) |
                                          ((bound - need) & ~takes_light));
    const int64_t index = (light[j] & takes_light) | (heavy[m] & ~takes_light);
    table[index] = units.entry(own, index, heavy[m + 1 + takes_light]);
    at.j = j - takes_light;
    at.m = m + 1 + takes_light;
  }

  // Columns that the sweep fills in steps [first, last). A step waits for the one before it to say what
  // to compare next, so two halves are merged in turn.
  void merge(int64_t first, int64_t last, const AliasUnits& units, uint64_t* table) const {
    const int64_t middle = first + (last - first) / 2;
    const int64_t j = light_among(first), k = light_among(middle);
    Cursor early{j, first - j}, late{k, middle - k};
    for (int64_t i = first; i < middle; ++i) {
      step(early, units, table);
      step(late, units, table);
    }
    if ((last - first) % 2) step(late, units, table);
  }
};

// `total` is the weights' sum, positive and finite; n is at least 1 and below 2^32. `scratch` has room
// for AliasOrder::bytes(n), aligned to 8.
template <class T>
void build_alias(const T* weights, int64_t n, double total, void* scratch, uint64_t* table) {
  const AliasUnits units(n, total);
  const int64_t blocks = (n + ALIAS_BLOCK - 1) / ALIAS_BLOCK;
  const auto size = [n](int64_t b) { return std::min(ALIAS_BLOCK, n - b * ALIAS_BLOCK); };
  std::vector<AliasCount> before(static_cast<size_t>(blocks) + 1);
  at::parallel_for(0, blocks, 2, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      before[static_cast<size_t>(b) + 1] = count_block(weights + b * ALIAS_BLOCK, size(b), units);
  });
  for (size_t b = 1; b < before.size(); ++b) {
    before[b].light += before[b - 1].light;
    before[b].need += before[b - 1].need;
    before[b].excess += before[b - 1].excess;
  }
  const AliasOrder order(scratch, n, before.back());
  if (!order.heavy_count) {  // all alike
    at::parallel_for(0, n, 4 * ALIAS_BLOCK, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) table[i] = units.entry(units.column(), i, i);
    });
    return;
  }
  at::parallel_for(0, blocks, 2, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      order.separate(weights + b * ALIAS_BLOCK, b * ALIAS_BLOCK, size(b), units,
                     before[static_cast<size_t>(b)], before[static_cast<size_t>(b) + 1]);
  });
  order.close();
  at::parallel_for(0, blocks, 2, [&](int64_t begin, int64_t end) {
    order.merge(begin * ALIAS_BLOCK, std::min(end * ALIAS_BLOCK, n), units, table);
  });
}

}  // namespace benchbench
