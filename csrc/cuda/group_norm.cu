// Group norm of planes, forward, on the row engine (rows.h): a group of channels lies in one piece, so it
// is a row. Instance norm is the case of one channel a group.
//
// Phases: read x, moments (row_moments.h), write. Bytes: 2ne; groups that are giant rows 3ne. The weight
// and the bias of an element follow from its place in the group: a division by the area of a plane, once
// for a vector where planes are whole vectors.
//
// Wins over eager, which reads x twice and makes scale and shift of each channel in a kernel of its own.
#include "cuda/group_norm.h"
#include "cuda/row_moments.h"
#include "cuda/support/quotient.h"

namespace benchbench::cuda {
namespace {

template <class T_, bool WHOLE>
struct GroupNormOp {
  using T = T_;
  using R = Real<T>;
  using P = Place<T, WHOLE>;
  static constexpr int REDUCED = 1, W = WIDTH<T>;
  static constexpr unsigned LARGEST = 512;

  const T* x;
  Parameter w, b;
  T* y;
  double *mean, *variance;
  R* rstd;
  double eps;
  Quotient plane;  // of an element in its group
  int64_t groups, planes;
  bool together;  // a vector lies in one plane

  __device__ void load(int64_t row, const P& place, Words (&v)[1][K]) const {
    read(x + row * place.n, place, v[0]);
  }
  __device__ void reload(int64_t row, const P& place, Words (&v)[1][K]) const { load(row, place, v); }

  template <class Team>
  __device__ Measure measure(Team& team, const P& place, const Words (&v)[1][K], int64_t n) const {
    return tile_moments(team, place, v[0], n);
  }
  template <class Team>
  __device__ Measure merge(Team& team, const Measure* m, int64_t tiles, int64_t size, int64_t n) const {
    return row_moments(team, m, tiles, size, n);
  }

  __device__ void finish(int64_t row, const P& place, const Words (&v)[1][K], const Measure& m,
                         bool leader) const {
    const double biased = m.b / static_cast<double>(place.n);
    const R scale = R(1) / sqrt_of(static_cast<R>(biased) + static_cast<R>(eps));
    const Affine<R> f = affine<R>(m.a, scale, R(1), R(0));
    if (leader) {
      mean[row] = m.a;
      variance[row] = biased;
      rstd[row] = scale;
    }
    const int64_t first = row % groups * planes;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (WHOLE && !place.has(k, 0)) continue;
      R e[W];
      widen(v[0][k], e, T{});
#pragma unroll
      for (int i = 0; i < W; ++i) e[i] = f(e[i]);
      if (WHOLE && together) {
        const int64_t channel = first + plane(place.at(k, 0));
        const R slope = w.p ? parameter<T>(w, channel) : R(1);
        const R shift = b.p ? parameter<T>(b, channel) : R(0);
#pragma unroll
        for (int i = 0; i < W; ++i) e[i] = e[i] * slope + shift;
      } else if (w.p || b.p) {
#pragma unroll
        for (int i = 0; i < W; ++i)
          if (WHOLE || place.has(k, i)) {
            const int64_t channel = first + plane(place.at(k, i));
            if (w.p) e[i] *= parameter<T>(w, channel);
            if (b.p) e[i] += parameter<T>(b, channel);
          }
      }
      write(y + row * place.n, place, k, e);
    }
  }
};

template <class T, bool WHOLE>
Failure run(const GroupNormForward& k, void* between, const Device& device) {
  const int64_t planes = k.shape.planes(), n = planes * k.shape.area;
  const GroupNormOp<T, WHOLE> op{static_cast<const T*>(k.x),
                                 k.w,
                                 k.b,
                                 static_cast<T*>(k.y),
                                 k.mean,
                                 k.variance,
                                 static_cast<Real<T>*>(k.rstd),
                                 k.eps,
                                 Quotient(k.shape.area, n),
                                 k.shape.groups,
                                 planes,
                                 k.shape.area % WIDTH<T> == 0};
  using Op = GroupNormOp<T, WHOLE>;
  return run_rows<Op, WHOLE>("group_norm", op, k.shape.rows(), n, between, device);
}

}  // namespace

int64_t group_workspace(Type type, const GroupNormShape& s) {
  return row_workspace(type, s.rows(), s.planes() * s.area);
}

Failure group_planes(Type type, const GroupNormForward& k, void* between, const Device& device) {
  if (k.shape.empty()) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const bool whole =
        k.shape.planes() * k.shape.area % WIDTH<T> == 0 && aligned(k.x) && aligned(k.y);
    return whole ? run<T, true>(k, between, device) : run<T, false>(k, between, device);
  });
}

}  // namespace benchbench::cuda
