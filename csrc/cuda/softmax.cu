// Softmax and log-softmax, forward and backward, on the row engine (rows.h).
//
// Forward: read x, maximum, sum of e^(x - maximum), write; 2ne. Backward, from the output y: read dy
// and y, one sum, write; 3ne. The exponentials are computed twice rather than kept: registers decide
// how long a row a block can hold, and two of them an element are half of what the unit can do while
// the memory is busy. The sum of a tile is relative to the tile's own maximum; merging rescales.
#include "cuda/functions.h"
#include "cuda/rows.h"

namespace benchbench::cuda {
namespace {

__device__ __forceinline__ float logarithm_of(float x) { return logf(x); }
__device__ __forceinline__ double logarithm_of(double x) { return log(x); }

template <class T_, bool WHOLE>
struct SoftmaxOp {
  using T = T_;
  using R = Real<T>;
  using P = Place<T, WHOLE>;
  static constexpr int REDUCED = 1, W = WIDTH<T>;
  static constexpr bool PRECISE = sizeof(T) >= 4;

  const T* x;
  T* y;
  bool logarithm;

  __device__ void load(int64_t row, const P& place, Words (&v)[1][K]) const {
    read(x + row * place.n, place, v[0]);
  }
  __device__ void reload(int64_t row, const P& place, Words (&v)[1][K]) const { load(row, place, v); }

  template <class Team>
  __device__ Measure measure(Team& team, const P& place, const Words (&v)[1][K], int64_t) const {
    R most = static_cast<R>(-INFINITY);
    each(place, v[0], [&](int, int, R e) { most = Max()(most, e); });
    most = team.max(most);
    // Without the choice a tile of -inf alone would make the whole row nan.
    const R base = most == static_cast<R>(-INFINITY) ? R(0) : most;
    R sum = 0;
    each(place, v[0], [&](int, int, R e) { sum += exponential<PRECISE>(e - base); });
    return {static_cast<double>(most), static_cast<double>(team.sum(sum))};
  }

  template <class Team>
  __device__ Measure merge(Team& team, const Measure* m, int64_t tiles, int64_t, int64_t) const {
    double most = -INFINITY, sum = 0;
    for (int64_t i = team.lane(); i < tiles; i += team.size()) most = fmax(most, m[i].a);
    most = team.max(most);
    const double base = most == -INFINITY ? 0.0 : most;
    for (int64_t i = team.lane(); i < tiles; i += team.size()) sum += m[i].b * exp(m[i].a - base);
    return {most, team.sum(sum)};
  }

  __device__ void finish(int64_t row, const P& place, const Words (&v)[1][K], const Measure& m,
                         bool) const {
    const R most = static_cast<R>(m.a), sum = static_cast<R>(m.b);
    const R last = logarithm ? logarithm_of(sum) : R(1) / sum;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      R e[W];
      widen(v[0][k], e, T{});
#pragma unroll
      for (int i = 0; i < W; ++i)
        e[i] = logarithm ? (e[i] - most) - last : exponential<PRECISE>(e[i] - most) * last;
      write(y + row * place.n, place, k, e);
    }
  }
};

// softmax: dx = y (dy - sum of dy y); log-softmax: dx = dy - e^y (sum of dy).
template <class T_, bool WHOLE>
struct SoftmaxBackwardOp {
  using T = T_;
  using R = Real<T>;
  using P = Place<T, WHOLE>;
  static constexpr int REDUCED = 2, W = WIDTH<T>;
  static constexpr bool PRECISE = sizeof(T) >= 4;

  const T *dy, *y;
  T* dx;
  bool logarithm;

  __device__ void load(int64_t row, const P& place, Words (&v)[2][K]) const {
    read(y + row * place.n, place, v[0]);
    read(dy + row * place.n, place, v[1]);
  }
  __device__ void reload(int64_t row, const P& place, Words (&v)[2][K]) const { load(row, place, v); }

  template <class Team>
  __device__ Measure measure(Team& team, const P&, const Words (&v)[2][K], int64_t) const {
    R sum = 0;  // elements that are not there are zero in both
#pragma unroll
    for (int k = 0; k < K; ++k) {
      R kept[W], g[W];
      widen(v[0][k], kept, T{});
      widen(v[1][k], g, T{});
#pragma unroll
      for (int i = 0; i < W; ++i) sum += logarithm ? g[i] : g[i] * kept[i];
    }
    return {static_cast<double>(team.sum(sum)), 0};
  }

  template <class Team>
  __device__ Measure merge(Team& team, const Measure* m, int64_t tiles, int64_t, int64_t) const {
    double sum = 0;
    for (int64_t i = team.lane(); i < tiles; i += team.size()) sum += m[i].a;
    return {team.sum(sum), 0};
  }

  __device__ void finish(int64_t row, const P& place, const Words (&v)[2][K], const Measure& m,
                         bool) const {
    const R sum = static_cast<R>(m.a);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      R kept[W], g[W];
      widen(v[0][k], kept, T{});
      widen(v[1][k], g, T{});
#pragma unroll
      for (int i = 0; i < W; ++i)
        g[i] = logarithm ? g[i] - exponential<PRECISE>(kept[i]) * sum : kept[i] * (g[i] - sum);
      write(dx + row * place.n, place, k, g);
    }
  }
};

}  // namespace

Failure softmax(Type type, bool logarithm, const void* x, void* y, void* between, int64_t rows,
                int64_t columns, const Device& device) {
  if (!rows || !columns) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto run = [&](auto op) {
      op.x = static_cast<const T*>(x);
      op.y = static_cast<T*>(y);
      op.logarithm = logarithm;
      return op;
    };
    if (columns % WIDTH<T> == 0 && aligned(x) && aligned(y))
      return run_rows<SoftmaxOp<T, true>, true>("softmax", run(SoftmaxOp<T, true>{}), rows, columns,
                                                between, device);
    return run_rows<SoftmaxOp<T, false>, false>("softmax", run(SoftmaxOp<T, false>{}), rows, columns,
                                                between, device);
  });
}

Failure softmax_backward(Type type, bool logarithm, const void* dy, const void* y, void* dx,
                         void* between, int64_t rows, int64_t columns, const Device& device) {
  if (!rows || !columns) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto run = [&](auto op) {
      op.dy = static_cast<const T*>(dy);
      op.y = static_cast<const T*>(y);
      op.dx = static_cast<T*>(dx);
      op.logarithm = logarithm;
      return op;
    };
    if (columns % WIDTH<T> == 0 && aligned(dy) && aligned(y) && aligned(dx))
      return run_rows<SoftmaxBackwardOp<T, true>, true>(
          "softmax_backward", run(SoftmaxBackwardOp<T, true>{}), rows, columns, between, device);
    return run_rows<SoftmaxBackwardOp<T, false>, false>(
        "softmax_backward", run(SoftmaxBackwardOp<T, false>{}), rows, columns, between, device);
  });
}

}  // namespace benchbench::cuda
