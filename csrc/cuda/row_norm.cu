// Layer norm and RMS norm forward, on the row engine (rows.h), with a residual and parameters.
//
// Phases: read x (and the residual: add, round, write the sum), sum, squared deviations, write.
// Bytes: 2ne; with a residual 4ne. See row_moments.h for the arithmetic. The mean is kept as a double:
// beside a large one, a float would lose what the backward needs.
#include "cuda/row_moments.h"

namespace benchbench::cuda {
namespace {

template <class T_, bool WHOLE>
struct RowNormOp {
  using T = T_;
  using R = Real<T>;
  using P = Place<T, WHOLE>;
  static constexpr int REDUCED = 1, W = WIDTH<T>;
  static constexpr unsigned LARGEST = 1024;

  const T *x, *residual;
  Parameter w, b;
  T *y, *sum;
  double* mean;
  R* rstd;
  double eps;
  bool rms;  // at run time: memory is what costs, and half as many kernels are compiled

  __device__ void load(int64_t row, const P& place, Words (&v)[1][K]) const {
    read(x + row * place.n, place, v[0]);
    if (!residual) return;
    Words other[K];
    read(residual + row * place.n, place, other);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      R a[W], c[W];
      widen(v[0][k], a, T{});
      widen(other[k], c, T{});
#pragma unroll
      for (int i = 0; i < W; ++i) a[i] += c[i];
      write(sum + row * place.n, place, k, a);
      v[0][k] = narrow(a, T{});
    }
  }
  __device__ void reload(int64_t row, const P& place, Words (&v)[1][K]) const {
    read((residual ? sum : x) + row * place.n, place, v[0]);
  }

  template <class Team>
  __device__ Measure measure(Team& team, const P& place, const Words (&v)[1][K], int64_t n) const {
    if (rms) {
      R squares = 0;
      each(place, v[0], [&](int, int, R e) { squares += e * e; });
      return {static_cast<double>(team.sum(squares)), 0};
    } else {
      return tile_moments(team, place, v[0], n);
    }
  }

  template <class Team>
  __device__ Measure merge(Team& team, const Measure* m, int64_t tiles, int64_t size, int64_t n) const {
    if (rms) {
      double squares = 0;
      for (int64_t i = team.lane(); i < tiles; i += team.size()) squares += m[i].a;
      return {team.sum(squares), 0};
    } else {
      return row_moments(team, m, tiles, size, n);
    }
  }

  __device__ void finish(int64_t row, const P& place, const Words (&v)[1][K], const Measure& m,
                         bool leader) const {
    const double square = rms ? m.a : m.b;
    const R variance = static_cast<R>(square) / static_cast<R>(place.n);
    const R scale = R(1) / sqrt_of(variance + static_cast<R>(eps));
    const R center = rms ? R(0) : static_cast<R>(m.a);
    const R offset = rms ? R(0) : -static_cast<R>(m.a - static_cast<double>(center)) * scale;
    if (leader) {
      rstd[row] = scale;
      if (!rms) mean[row] = m.a;
    }
#pragma unroll
    for (int k = 0; k < K; ++k) {
      R e[W], p[W];
      widen(v[0][k], e, T{});
#pragma unroll
      for (int i = 0; i < W; ++i) e[i] = (e[i] - center) * scale + offset;
      if (w.p) {
        read<T, WHOLE>(w, place, k, p);
#pragma unroll
        for (int i = 0; i < W; ++i) e[i] *= p[i];
      }
      if (b.p) {
        read<T, WHOLE>(b, place, k, p);
#pragma unroll
        for (int i = 0; i < W; ++i) e[i] += p[i];
      }
      write(y + row * place.n, place, k, e);
    }
  }
};

template <class T, bool WHOLE>
Failure run(const RowNormForward& k, void* between, const Device& device) {
  RowNormOp<T, WHOLE> op;
  op.x = static_cast<const T*>(k.x);
  op.residual = static_cast<const T*>(k.residual);
  op.w = k.w;
  op.b = k.b;
  op.y = static_cast<T*>(k.y);
  op.sum = static_cast<T*>(k.sum);
  op.mean = k.mean;
  op.rstd = static_cast<Real<T>*>(k.rstd);
  op.eps = k.eps;
  op.rms = k.rms;
  return run_rows<decltype(op), WHOLE>("norm_rows", op, k.rows, k.columns, between, device);
}

}  // namespace

Failure row_norm(Type type, const RowNormForward& k, void* between, const Device& device) {
  if (!k.rows || !k.columns) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const bool whole = k.columns % WIDTH<T> == 0 && aligned(k.x) && aligned(k.residual) &&
                       aligned(k.y) && aligned(k.sum) && aligned(k.w.p) && aligned(k.b.p);
    return whole ? run<T, true>(k, between, device) : run<T, false>(k, between, device);
  });
}

// Asked as if there were neither clusters nor large blocks: there it is needed soonest.
int64_t row_workspace(Type type, int64_t rows, int64_t columns) {
  const RowTier tier = row_tier(columns, width_of(type), false, LEAST_MOST);
  return tier.kind == RowTier::grid ? rows * tier.tiles * int64_t(sizeof(Measure)) : 0;
}

}  // namespace benchbench::cuda
