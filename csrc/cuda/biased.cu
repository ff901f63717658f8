// Activations with a parameter along the rows, forward (2ne, one launch) and backward (3ne, two launches:
// the gradient of x with partial sums of the parameter's, then their sums). See columns.h. They are
// f(x + b) for a bias b, and PReLU, whose slope below zero is the parameter.
#include "cuda/columns.h"
#include "cuda/functions.h"

namespace benchbench::cuda {
namespace {

template <Activation OP>
struct OfBias {
  template <bool PRECISE, class R>
  __device__ static R value(R x, R b) {
    R slope;
    return activation<OP, PRECISE>(x + b, slope);
  }
  // dx from dy; returns the parameter's share.
  template <bool PRECISE, class R>
  __device__ static R gradient(R dy, R x, R b, R& dx) {
    R slope;
    activation<OP, PRECISE>(x + b, slope);
    return dx = dy * slope;
  }
};

struct OfSlope {
  template <bool, class R>
  __device__ static R value(R x, R w) { return x > R(0) ? x : x * w; }
  template <bool, class R>
  __device__ static R gradient(R dy, R x, R w, R& dx) {
    dx = x > R(0) ? dy : dy * w;
    return x > R(0) ? R(0) : dy * x;
  }
};

template <class F, class T, bool WHOLE>
__global__ void __launch_bounds__(COLUMN_THREADS) biased(const T* x, Parameter b, T* y, int64_t rows,
                                                         int64_t columns, unsigned across,
                                                         int64_t per_group) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  const Column<T, WHOLE> c(rows, columns, across, per_group);
  if (!c.there) return;
  R add[S];
  parameter_span<T, WHOLE>(b, c.column, add);
  for (int64_t row = c.first; row < c.last; row += AHEAD * c.step) {
    Words v[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; ++k)
      if (row + k * c.step < c.last)
        load_span<T, WHOLE>(x + (row + k * c.step) * columns + c.column, v[k]);
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) {
      if (row + k * c.step >= c.last) break;
      R e[S];
      widen_span<T, WHOLE>(v[k], e);
#pragma unroll
      for (int i = 0; i < S; ++i) e[i] = F::template value<sizeof(T) >= 4>(e[i], add[i]);
      store_span<T, WHOLE>(y + (row + k * c.step) * columns + c.column, e);
    }
  }
}

template <class F, class T, bool WHOLE>
__global__ void __launch_bounds__(COLUMN_THREADS)
    biased_backward(const T* dy, const T* x, Parameter b, T* dx, Real<T>* partial, int64_t rows,
                    int64_t columns, unsigned across, int64_t per_group) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  const Column<T, WHOLE> c(rows, columns, across, per_group);
  R add[S] = {}, sums[S] = {};
  if (c.there) {
    parameter_span<T, WHOLE>(b, c.column, add);
    for (int64_t row = c.first; row < c.last; row += AHEAD * c.step) {
      Words v[AHEAD], g[AHEAD];
#pragma unroll
      for (int k = 0; k < AHEAD; ++k) {
        const int64_t at = (row + k * c.step) * columns + c.column;
        if (row + k * c.step < c.last) {
          load_span<T, WHOLE>(x + at, v[k]);
          load_span<T, WHOLE>(dy + at, g[k]);
        }
      }
#pragma unroll
      for (int k = 0; k < AHEAD; ++k) {
        if (row + k * c.step >= c.last) break;
        R e[S], d[S];
        widen_span<T, WHOLE>(v[k], e);
        widen_span<T, WHOLE>(g[k], d);
#pragma unroll
        for (int i = 0; i < S; ++i)
          sums[i] += F::template gradient<sizeof(T) >= 4>(d[i], e[i], add[i], d[i]);
        store_span<T, WHOLE>(dx + (row + k * c.step) * columns + c.column, d);
      }
    }
  }
  write_partial(sums, across, c.there && threadIdx.x < across,
                partial + int64_t(blockIdx.x) * columns + c.column);
}

// 32 columns a block, 8 threads to each, their sums in double.
template <class R, class Out>
__global__ void __launch_bounds__(COLUMN_THREADS) column_sums(const R* partial, Out* out,
                                                              const R* partial2, Out* out2,
                                                              int64_t rows, int64_t columns) {
  auto* const shared = reinterpret_cast<double*>(shared_memory());
  const int64_t column = int64_t(blockIdx.x) * 32 + threadIdx.x % 32;
  const R* from = blockIdx.y ? partial2 : partial;
  Out* to = blockIdx.y ? out2 : out;
  double sum = 0;
  if (column < columns && to)
    for (int64_t row = threadIdx.x / 32; row < rows; row += COLUMN_THREADS / 32)
      sum += from[row * columns + column];
  shared[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x < 32 && column < columns && to) {
    for (unsigned t = threadIdx.x + 32; t < COLUMN_THREADS; t += 32) sum += shared[t];
    to[column] = narrow(static_cast<Real<Out>>(sum), Out{});
  }
}

Failure too_wide(const char* name, int64_t columns) {
  Failure failure;
  std::snprintf(failure.text, sizeof failure.text,
                "%s: rows of %lld elements are more than a grid can have; use shorter ones", name,
                static_cast<long long>(columns));
  return failure;
}

Shape shape_of(const ColumnShape& c) {
  Shape shape;
  shape.blocks = static_cast<uint64_t>(c.groups);
  shape.rows = static_cast<unsigned>(smaller(c.tiles, int64_t(65536)));
  shape.threads = COLUMN_THREADS;
  return shape;
}

}  // namespace

Failure sum_columns(Type type, bool real, const void* partial, void* out, const void* partial2, void* out2,
                    int64_t rows, int64_t columns, const Device& device) {
  Shape shape;
  shape.blocks = static_cast<uint64_t>((columns + 31) / 32);
  shape.threads = COLUMN_THREADS;
  shape.shared = COLUMN_THREADS * sizeof(double);
  shape.rows = out2 ? 2 : 1;
  return with_type(real && type != Type::f64 ? Type::f32 : type, [&](auto zero) {
    using Out = decltype(zero);
    using R = Real<Out>;
    return launch("sum_columns", column_sums<R, Out>, shape, device, static_cast<const R*>(partial),
                  static_cast<Out*>(out), static_cast<const R*>(partial2), static_cast<Out*>(out2), rows,
                  columns);
  });
}

namespace {

template <class F>
Failure forward(const char* name, Type type, const void* x, Parameter b, void* y, int64_t rows,
                int64_t columns, const Device& device) {
  if (!rows || !columns) return {};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const bool whole = columns % WIDTH<T> == 0 && aligned(x) && aligned(b.p) && aligned(y);
    const auto run = [&](auto kernel, int span) {
      // Enough rows a group that its threads have AHEAD each.
      ColumnShape c = column_shape(rows, columns, span, 1);
      const int64_t each = int64_t(AHEAD) * (COLUMN_THREADS / c.across);
      c = column_shape(rows, columns, span, (rows + each - 1) / each);
      if (c.tiles > 65535) return too_wide(name, columns);
      return launch(name, kernel, shape_of(c), device, static_cast<const T*>(x), b, static_cast<T*>(y),
                    rows, columns, c.across, c.per_group);
    };
    return whole ? run(biased<F, T, true>, WIDTH<T>) : run(biased<F, T, false>, 1);
  });
}

template <class F>
Failure backward(const char* name, Type type, const void* dy, const void* x, Parameter b, void* dx,
                 void* db, void* partial, int64_t rows, int64_t columns, const Device& device) {
  if (!columns) return {};
  int64_t groups = 0;
  Failure failure;
  if (rows)
    failure = with_type(type, [&](auto zero) {
      using T = decltype(zero);
      const bool whole =
          columns % WIDTH<T> == 0 && aligned(dy) && aligned(x) && aligned(b.p) && aligned(dx);
      const auto run = [&](auto kernel, int span) {
        const ColumnShape c = column_shape(rows, columns, span, row_groups(rows, device));
        if (c.tiles > 65535) return too_wide(name, columns);
        groups = c.groups;
        Shape shape = shape_of(c);
        shape.shared = static_cast<unsigned>(COLUMN_THREADS * span * sizeof(Real<T>));
        return launch(name, kernel, shape, device, static_cast<const T*>(dy),
                      static_cast<const T*>(x), b, static_cast<T*>(dx),
                      static_cast<Real<T>*>(partial), rows, columns, c.across, c.per_group);
      };
      return whole ? run(biased_backward<F, T, true>, WIDTH<T>)
                   : run(biased_backward<F, T, false>, 1);
    });
  if (failure) return failure;
  return sum_columns(type, b.real, partial, db, nullptr, nullptr, groups, columns, device);
}

}  // namespace

int64_t bias_partial_rows(int64_t rows, const Device& device) { return row_groups(rows, device); }

Failure bias(Activation op, Type type, const void* x, Parameter b, void* y, int64_t rows,
             int64_t columns, const Device& device) {
  return with_activation<false, Failure>(op, [&](auto chosen) {
    return forward<OfBias<decltype(chosen)::value>>("bias", type, x, b, y, rows, columns, device);
  });
}

Failure bias_backward(Activation op, Type type, const void* dy, const void* x, Parameter b, void* dx,
                      void* db, void* partial, int64_t rows, int64_t columns, const Device& device) {
  return with_activation<false, Failure>(op, [&](auto chosen) {
    return backward<OfBias<decltype(chosen)::value>>("bias_backward", type, dy, x, b, dx, db, partial,
                                                     rows, columns, device);
  });
}

Failure slope_rows(Type type, const void* x, Parameter w, void* y, int64_t rows, int64_t columns,
                   const Device& device) {
  return forward<OfSlope>("prelu", type, x, w, y, rows, columns, device);
}

Failure slope_rows_backward(Type type, const void* dy, const void* x, Parameter w, void* dx, void* dw,
                            void* partial, int64_t rows, int64_t columns, const Device& device) {
  return backward<OfSlope>("prelu_backward", type, dy, x, w, dx, dw, partial, rows, columns, device);
}

}  // namespace benchbench::cuda
