// Mean and squared deviations of rows, for the row engine (rows.h): those of a tile from its registers,
// those of a row from its tiles.
//
// A tile is measured in two passes over the registers: the mean m in float, then the sums of x - m and of
// its square, which correct both the mean and the square for m's rounding. Tiles are merged in double
// with their counts (Chan, Golub & LeVeque 1979).
#pragma once

#include "cuda/rows.h"

namespace benchbench::cuda {

// (mean, sum of squared deviations) of the team's tile, which has n elements.
template <class T, bool WHOLE, class Team>
__device__ __forceinline__ Measure tile_moments(Team& team, const Place<T, WHOLE>& place,
                                                const Words (&v)[K], int64_t n) {
  using R = Real<T>;
  R total = 0;
  each(place, v, [&](int, int, R e) { total += e; });
  const R inverse = R(1) / static_cast<R>(larger(n, int64_t(1)));
  const R m = team.sum(total) * inverse;
  R rest = 0, squares = 0;
  each(place, v, [&](int, int, R e) {
    const R d = e - m;
    rest += d;
    squares += d * d;
  });
  team.sums(rest, squares);
  const R step = rest * inverse;
  return {static_cast<double>(m) + static_cast<double>(step),
          static_cast<double>(larger(squares - rest * step, R(0)))};
}

// The same of a row of n elements from its tiles, of `size` each but the last.
template <class Team>
__device__ __forceinline__ Measure row_moments(Team& team, const Measure* m, int64_t tiles, int64_t size,
                                               int64_t n) {
  const double base = m[0].a;
  double rest = 0, squares = 0;
  for (int64_t i = team.lane(); i < tiles; i += team.size()) {
    const int64_t left = n - i * size;
    const auto count = static_cast<double>(left < 0 ? 0 : smaller(left, size));
    const double d = m[i].a - base;
    rest += count * d;
    squares += m[i].b + count * d * d;
  }
  team.sums(rest, squares);
  const double step = rest / static_cast<double>(n);
  const double deviations = squares - rest * step;
  return {base + step, deviations < 0 ? 0 : deviations};
}

}  // namespace benchbench::cuda
