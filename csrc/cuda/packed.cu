// Gated activations of one tensor, y = f(g) u for rows (g, u): forward (3ne for outputs of n elements) and
// backward (5ne), one launch each. Reading the halves where they are saves the copies, and the
// concatenation of their gradients, that two views cost.
//
//   row of x, dx   │ g  g  g  g │ u  u  u  u │        a thread has two vectors of outputs and reads
//   row of y, dy   │ y  y  y  y │                     what lies at the same place in both halves
//
// The row of an output is a multiplication (quotient.h), once a vector; where rows are not whole vectors,
// once an element.
#include "cuda/columns.h"
#include "cuda/functions.h"
#include "cuda/support/quotient.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 256;
constexpr int EACH = 2;  // units of a thread, all loaded before the first is computed

struct Halves {
  int64_t units;     // of the output
  int64_t columns;   // elements of a half row
  Quotient row;      // of an element of the output
  // Of the gate that belongs to output i.
  __device__ __forceinline__ int64_t gate(int64_t i) const { return i + row(i) * columns; }
};

__device__ __forceinline__ int64_t unit_of(int k) {
  return (int64_t(blockIdx.x) * EACH + k) * THREADS + threadIdx.x;
}

template <Activation OP, class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS) packed_gates(const T* x, T* y, Halves h) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  Words g[EACH], u[EACH];
#pragma unroll
  for (int k = 0; k < EACH; ++k)
    if (unit_of(k) < h.units) {
      const int64_t at = h.gate(unit_of(k) * S);
      load_span<T, WHOLE>(x + at, g[k]);
      load_span<T, WHOLE>(x + at + h.columns, u[k]);
    }
#pragma unroll
  for (int k = 0; k < EACH; ++k)
    if (unit_of(k) < h.units) {
      R a[S], b[S], slope;
      widen_span<T, WHOLE>(g[k], a);
      widen_span<T, WHOLE>(u[k], b);
#pragma unroll
      for (int i = 0; i < S; ++i) a[i] = activation<OP, sizeof(T) >= 4>(a[i], slope) * b[i];
      store_span<T, WHOLE>(y + unit_of(k) * S, a);
    }
}

// Told how many blocks suffice, the compiler spends the registers; untold, it saves some and spills.
template <Activation OP, class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS, 2)
    packed_gates_backward(const T* dy, const T* x, T* dx, Halves h) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>;
  Words g[EACH], u[EACH], d[EACH];
  int64_t at[EACH];
#pragma unroll
  for (int k = 0; k < EACH; ++k)
    if (unit_of(k) < h.units) {
      at[k] = h.gate(unit_of(k) * S);
      load_span<T, WHOLE>(dy + unit_of(k) * S, d[k]);
      load_span<T, WHOLE>(x + at[k], g[k]);
      load_span<T, WHOLE>(x + at[k] + h.columns, u[k]);
    }
#pragma unroll
  for (int k = 0; k < EACH; ++k)
    if (unit_of(k) < h.units) {
      R a[S], b[S], c[S];
      widen_span<T, WHOLE>(g[k], a);
      widen_span<T, WHOLE>(u[k], b);
      widen_span<T, WHOLE>(d[k], c);
#pragma unroll
      for (int i = 0; i < S; ++i) {
        R slope;
        const R value = activation<OP, sizeof(T) >= 4>(a[i], slope);
        a[i] = c[i] * b[i] * slope;
        b[i] = c[i] * value;
      }
      store_span<T, WHOLE>(dx + at[k], a);
      store_span<T, WHOLE>(dx + at[k] + h.columns, b);
    }
}

template <class Kernel, class... Arrays>
Failure run(const char* name, Kernel kernel, int64_t rows, int64_t columns, int span, const Device& device,
            Arrays... arrays) {
  const Halves h{rows * columns / span, columns, Quotient(columns, rows * columns)};
  Shape shape;
  shape.threads = THREADS;
  shape.blocks = static_cast<uint64_t>(divided_up(h.units, THREADS * EACH));
  return launch(name, kernel, shape, device, arrays..., h);
}

}  // namespace

Failure packed(Activation op, Type type, const void* x, void* y, int64_t rows, int64_t columns,
               const Device& device) {
  if (!rows || !columns) return {};
  return with_activation<false, Failure>(op, [&](auto chosen) {
    return with_type(type, [&](auto zero) {
      using T = decltype(zero);
      constexpr Activation OP = decltype(chosen)::value;
      const bool whole = columns % WIDTH<T> == 0 && aligned(x) && aligned(y);
      return run("packed", whole ? packed_gates<OP, T, true> : packed_gates<OP, T, false>, rows, columns,
                 whole ? WIDTH<T> : 1, device, static_cast<const T*>(x), static_cast<T*>(y));
    });
  });
}

Failure packed_backward(Activation op, Type type, const void* dy, const void* x, void* dx, int64_t rows,
                        int64_t columns, const Device& device) {
  if (!rows || !columns) return {};
  return with_activation<false, Failure>(op, [&](auto chosen) {
    return with_type(type, [&](auto zero) {
      using T = decltype(zero);
      constexpr Activation OP = decltype(chosen)::value;
      const bool whole = columns % WIDTH<T> == 0 && aligned(dy) && aligned(x) && aligned(dx);
      return run("packed_backward",
                 whole ? packed_gates_backward<OP, T, true> : packed_gates_backward<OP, T, false>, rows,
                 columns, whole ? WIDTH<T> : 1, device, static_cast<const T*>(dy),
                 static_cast<const T*>(x), static_cast<T*>(dx));
    });
  });
}

}  // namespace benchbench::cuda
