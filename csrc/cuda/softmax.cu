// Softmax and log-softmax of scale x (+ mask), forward and backward, on the row engine (rows.h).
//
// Forward: read x, maximum, sum of e^(x - maximum), write; 2ne and the mask. A mask that keeps or drops
// puts -inf into the registers, and the scale waits for the exponent, so that neither rounds anything; one
// that is added is rounded with the scaled x to the type, once. Backward, from the output y: read dy
// and y, one sum, write; 3ne. The exponentials are computed twice rather than kept: registers decide
// how long a row a block can hold, and two of them an element are half of what the unit can do while
// the memory is busy. The sum of a tile is relative to the tile's own maximum; merging rescales.
#include "cuda/functions.h"
#include "cuda/rows.h"
#include "cuda/support/quotient.h"

namespace benchbench::cuda {
namespace {

__device__ __forceinline__ float logarithm_of(float x) { return logf(x); }
__device__ __forceinline__ double logarithm_of(double x) { return log(x); }

// A mask with what finding its row takes.
struct MaskRows {
  RowMask mask;
  Quotient last, middle;
  MaskRows(const RowMask& m, int64_t rows) : mask(m), last(m.size[2], rows), middle(m.size[1], rows) {}
  __device__ __forceinline__ int64_t offset(int64_t row) const {
    const int64_t above = last(row), first = middle(above);
    return first * mask.stride[0] + (above - first * mask.size[1]) * mask.stride[1] +
           (row - above * mask.size[2]) * mask.stride[2];
  }
};

// With scale and mask only where MASKED: they take registers, and those decide how long a row a cluster
// can hold.
template <class T_, bool WHOLE, bool MASKED>
struct SoftmaxOp {
  using T = T_;
  using R = Real<T>;
  using P = Place<T, WHOLE>;
  static constexpr int REDUCED = 1, W = WIDTH<T>;
  static constexpr unsigned LARGEST = MASKED ? 512 : 1024;
  static constexpr bool PRECISE = sizeof(T) >= 4;

  const T* x;
  T* y;
  bool logarithm;
  MaskRows rows;
  R scale;     // of differences in the exponent; not negative
  bool early;  // the scale is applied when x is read instead, and is `given`
  R given;

  __device__ void load(int64_t row, const P& place, Words (&v)[1][K]) const {
    read(x + row * place.n, place, v[0]);
    if constexpr (MASKED) prepare(row, place, v[0]);
  }
  // What is in the exponent after a difference of two elements.
  __device__ __forceinline__ R scaled(R difference) const {
    if constexpr (MASKED) return difference * scale;
    else return difference;
  }
  __device__ __forceinline__ void prepare(int64_t row, const P& place, Words (&v)[K]) const {
    const RowMask& mask = rows.mask;
    const int bytes = mask.kind == RowMask::keep ? 1 : mask.kind == RowMask::add ? sizeof(T) : sizeof(R);
    const char* const own =
        mask.p ? static_cast<const char*>(mask.p) + (rows.offset(row) + place.first) * bytes : nullptr;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (WHOLE && !place.has(k, 0)) continue;
      R e[W];
      widen(v[k], e, T{});
#pragma unroll
      for (int i = 0; i < W; ++i) {
        if (!WHOLE && !place.has(k, i)) continue;
        const int at = place.offset(k, i);
        e[i] = early ? e[i] * given : given < R(0) ? -e[i] : e[i];
        if (mask.kind == RowMask::keep) {
          if (!own[at]) e[i] = static_cast<R>(-INFINITY);
        } else if (mask.kind == RowMask::add) {
          e[i] += widen(reinterpret_cast<const T*>(own)[at]);
        } else if (mask.kind == RowMask::add_real) {
          e[i] += reinterpret_cast<const R*>(own)[at];
        }
      }
      v[k] = narrow(e, T{});
    }
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
    each(place, v[0], [&](int, int, R e) { sum += exponential<PRECISE>(scaled(e - base)); });
    return {static_cast<double>(most), static_cast<double>(team.sum(sum))};
  }

  template <class Team>
  __device__ Measure merge(Team& team, const Measure* m, int64_t tiles, int64_t, int64_t) const {
    double most = -INFINITY, sum = 0;
    for (int64_t i = team.lane(); i < tiles; i += team.size()) most = fmax(most, m[i].a);
    most = team.max(most);
    const double base = most == -INFINITY ? 0.0 : most;
    for (int64_t i = team.lane(); i < tiles; i += team.size())
      sum += m[i].b * exp((m[i].a - base) * (MASKED ? static_cast<double>(scale) : 1.0));
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
        e[i] = logarithm ? scaled(e[i] - most) - last : exponential<PRECISE>(scaled(e[i] - most)) * last;
      write(y + row * place.n, place, k, e);
    }
  }
};

// softmax: dx = scale y (dy - sum of dy y); log-softmax: dx = scale (dy - e^y (sum of dy)).
template <class T_, bool WHOLE>
struct SoftmaxBackwardOp {
  using T = T_;
  using R = Real<T>;
  using P = Place<T, WHOLE>;
  static constexpr int REDUCED = 2, W = WIDTH<T>;
  static constexpr unsigned LARGEST = 512;
  static constexpr bool PRECISE = sizeof(T) >= 4;

  const T *dy, *y;
  T* dx;
  bool logarithm, masked;
  R scale;

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
      for (int i = 0; i < W; ++i) {
        g[i] = scale *
               (logarithm ? g[i] - exponential<PRECISE>(kept[i]) * sum : kept[i] * (g[i] - sum));
        if (logarithm && masked && kept[i] == static_cast<R>(-INFINITY)) g[i] = 0;
      }
      write(dx + row * place.n, place, k, g);
    }
  }
};

}  // namespace

Failure softmax(Type type, bool logarithm, double scale, const RowMask& mask, const void* x, void* y,
                void* between, int64_t rows, int64_t columns, const Device& device) {
  if (!rows || !columns) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto run = [&](auto whole, auto masked) {
      constexpr bool WHOLE = decltype(whole)::value;
      using Op = SoftmaxOp<T, WHOLE, decltype(masked)::value>;
      using R = Real<T>;
      // A scale of zero would make nan of a dropped -inf in the exponent.
      const bool early = mask.kind == RowMask::add || mask.kind == RowMask::add_real || scale == 0;
      const Op op{static_cast<const T*>(x),
                  static_cast<T*>(y),
                  logarithm,
                  MaskRows(mask, rows),
                  static_cast<R>(early ? 1.0 : scale < 0 ? -scale : scale),
                  early,
                  static_cast<R>(scale)};
      return run_rows<Op, WHOLE>("softmax", op, rows, columns, between, device);
    };
    const bool whole = columns % WIDTH<T> == 0 && aligned(x) && aligned(y);
    constexpr std::true_type yes{};
    constexpr std::false_type no{};
    if (mask.kind == RowMask::none && scale == 1) return whole ? run(yes, no) : run(no, no);
    return whole ? run(yes, yes) : run(no, yes);
  });
}

Failure softmax_backward(Type type, bool logarithm, double scale, bool masked, const void* dy,
                         const void* y, void* dx, void* between, int64_t rows, int64_t columns,
                         const Device& device) {
  if (!rows || !columns) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto run = [&](auto whole) {
      constexpr bool WHOLE = decltype(whole)::value;
      using Op = SoftmaxBackwardOp<T, WHOLE>;
      const Op op{static_cast<const T*>(dy), static_cast<const T*>(y), static_cast<T*>(dx), logarithm,
                  masked, static_cast<Real<T>>(scale)};
      return run_rows<Op, WHOLE>("softmax_backward", op, rows, columns, between, device);
    };
    return columns % WIDTH<T> == 0 && aligned(dy) && aligned(y) && aligned(dx)
               ? run(std::true_type{})
               : run(std::false_type{});
  });
}

}  // namespace benchbench::cuda
