// What the units of group norm share: the shape's sizes, and how a block's shared memory is spent.
#pragma once

#include "cuda/batch_norm.h"

namespace benchbench::cuda {

// slope, curve and rest of dx = slope g + curve (x - center) + rest, where g sums to `sum` over the group
// and g (x - mean) to `cross`, both weighted; the slope is that of weight 1.
template <class R>
__device__ __forceinline__ Slope<R> group_slope(double sum, double cross, double mean, R rstd,
                                                double count) {
  const double inverse = static_cast<double>(rstd);
  const double curve = -inverse * inverse * inverse * cross / count;
  const double beside = mean - static_cast<double>(static_cast<R>(mean));  // what the center lacks of it
  return {rstd, static_cast<R>(curve), static_cast<R>(-inverse * sum / count - curve * beside)};
}

// Of group_pixels_backward().
int64_t pixel_partial_rows(Type, const GroupNormShape&, const Device&);

// The second launch: `partial` has `rows` of dw's sums, and behind them as many of db's.
inline Failure sum_group_columns(Type type, const GroupNormGradient& k, const void* partial, int64_t rows,
                                 const Device& device) {
  const int64_t bytes = rows * k.shape.channels * (type == Type::f64 ? 8 : 4);
  const void* const second = static_cast<const char*>(partial) + bytes;
  return sum_columns(type, k.real, k.dw ? partial : second, k.dw ? k.dw : k.db, second,
                     k.dw ? k.db : nullptr, rows, k.shape.channels, device);
}

}  // namespace benchbench::cuda
