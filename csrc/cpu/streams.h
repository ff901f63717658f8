// What the samplers' streams of random words are for, and how work is cut into them, by size alone.
#pragma once

#include <cstdint>

namespace benchbench {

// The last word of a stream's counters: two uses of one seed never share words.
enum Use : uint32_t { SPLIT, SUMS, EXPONENTIAL, UNIFORM, ALIAS, SHUFFLE };

constexpr int64_t DRAWS = 1 << 14;         // indices from one stream
constexpr int64_t SUMMED_ROWS = 1 << 13;   // rows of a block of a bootstrap, at most
constexpr int64_t WEIGHED_ROWS = 1 << 16;  // rows with exponential weights from one stream

}  // namespace benchbench
