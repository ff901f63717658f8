// Activations alone and gated, forward and backward: one pass, 2ne to 5ne.
//
// A thread has four 16-byte vectors of one input, or two of each of several, and loads all of them
// before it computes: that is what keeps the memory busy. Arrays that begin anywhere, alike, have a
// head of single elements; arrays that begin unlike each other, and the end, go element by element.
#include "cuda/functions.h"
#include "cuda/support/launch.h"
#include "cuda/support/vectors.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 256;

// out = f(in) for each element; T and f come with Op.
template <class Op>
struct Arrays {
  const typename Op::T* in[Op::INPUTS];
  typename Op::T* out[Op::OUTPUTS];
};

template <class Op>
constexpr int VECTORS = Op::INPUTS == 1 ? 4 : 2;

template <class Op>
constexpr int64_t TILE = int64_t(THREADS) * VECTORS<Op> * WIDTH<typename Op::T>;

// Block b has the elements [head + b TILE, head + (b + 1) TILE), the first one the head too.
template <class Op>
__global__ void __launch_bounds__(THREADS) elementwise(Op op, Arrays<Op> arrays, int64_t n,
                                                       int64_t head, bool vectors) {
  using T = typename Op::T;
  using R = Real<T>;
  constexpr int W = WIDTH<T>, V = VECTORS<Op>, I = Op::INPUTS, O = Op::OUTPUTS;
  const int64_t begin = head + int64_t(blockIdx.x) * TILE<Op>;
  if (vectors && begin + TILE<Op> <= n) {
    const int64_t at = begin + threadIdx.x * W;
    Words v[V][I];
#pragma unroll
    for (int k = 0; k < V; ++k)
#pragma unroll
      for (int j = 0; j < I; ++j) v[k][j] = load_words(arrays.in[j] + at + k * int64_t(THREADS) * W);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      R x[I][W], y[O][W];
#pragma unroll
      for (int j = 0; j < I; ++j) widen(v[k][j], x[j], T{});
#pragma unroll
      for (int i = 0; i < W; ++i) {
        R in[I], out[O];
#pragma unroll
        for (int j = 0; j < I; ++j) in[j] = x[j][i];
        op.compute(in, out);
#pragma unroll
        for (int j = 0; j < O; ++j) y[j][i] = out[j];
      }
#pragma unroll
      for (int j = 0; j < O; ++j)
        store_words(arrays.out[j] + at + k * int64_t(THREADS) * W, narrow(y[j], T{}));
    }
    if (blockIdx.x != 0) return;
  }
  const auto one = [&](int64_t i) {
    R in[I], out[O];
#pragma unroll
    for (int j = 0; j < I; ++j) in[j] = widen(arrays.in[j][i]);
    op.compute(in, out);
#pragma unroll
    for (int j = 0; j < O; ++j) arrays.out[j][i] = narrow(out[j], T{});
  };
  if (blockIdx.x == 0 && threadIdx.x < smaller(head, n)) one(threadIdx.x);
  if (vectors && begin + TILE<Op> <= n) return;
#pragma unroll 1
  for (int64_t i = begin + threadIdx.x; i < smaller(n, begin + TILE<Op>); i += THREADS) one(i);
}

template <Activation OP, class T_>
struct UnaryOp {
  using T = T_;
  using R = Real<T>;
  static constexpr int INPUTS = 1, OUTPUTS = 1;
  __device__ void compute(const R (&in)[1], R (&out)[1]) const {
    R slope;
    out[0] = activation<OP, sizeof(T) >= 4>(in[0], slope);
  }
};

template <Activation OP, class T_>
struct UnaryBackwardOp {  // dy, kept -> dx
  using T = T_;
  using R = Real<T>;
  static constexpr int INPUTS = 2, OUTPUTS = 1;
  __device__ void compute(const R (&in)[2], R (&out)[1]) const {
    out[0] = in[0] * slope_of<OP, sizeof(T) >= 4>(in[1]);
  }
};

template <Activation OP, class T_>
struct GatedOp {  // g, u -> y
  using T = T_;
  using R = Real<T>;
  static constexpr int INPUTS = 2, OUTPUTS = 1;
  __device__ void compute(const R (&in)[2], R (&out)[1]) const {
    R slope;
    out[0] = activation<OP, sizeof(T) >= 4>(in[0], slope) * in[1];
  }
};

template <Activation OP, class T_>
struct GatedBackwardOp {  // dy, g, u -> dg, du
  using T = T_;
  using R = Real<T>;
  static constexpr int INPUTS = 3, OUTPUTS = 2;
  __device__ void compute(const R (&in)[3], R (&out)[2]) const {
    R slope;
    out[1] = in[0] * activation<OP, sizeof(T) >= 4>(in[1], slope);
    out[0] = in[0] * in[2] * slope;
  }
};

// A curve and its gradient from the input.
template <Curve C, class T_>
struct CurveOp {
  using T = T_;
  using R = Real<T>;
  static constexpr int INPUTS = 1, OUTPUTS = 1;
  R a, b;
  __device__ void compute(const R (&in)[1], R (&out)[1]) const {
    out[0] = curve_value<C, sizeof(T) >= 4>(in[0], a, b);
  }
};

template <Curve C, class T_>
struct CurveBackwardOp {  // dy, x -> dx
  using T = T_;
  using R = Real<T>;
  static constexpr int INPUTS = 2, OUTPUTS = 1;
  R a, b;
  __device__ void compute(const R (&in)[2], R (&out)[1]) const {
    out[0] = in[0] * curve_slope<C, sizeof(T) >= 4>(in[1], a, b);
  }
};

template <class Op>
Failure run(const char* name, const Op& op, const void* const (&in)[Op::INPUTS],
            void* const (&out)[Op::OUTPUTS], int64_t n, const Device& device) {
  using T = typename Op::T;
  if (n == 0) return {};
  Arrays<Op> arrays;
  const auto beyond = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16; };
  bool alike = true;
  for (int j = 0; j < Op::INPUTS; ++j) {
    arrays.in[j] = static_cast<const T*>(in[j]);
    alike = alike && beyond(in[j]) == beyond(out[0]);
  }
  for (int j = 0; j < Op::OUTPUTS; ++j) {
    arrays.out[j] = static_cast<T*>(out[j]);
    alike = alike && beyond(out[j]) == beyond(out[0]);
  }
  const int64_t head = alike ? static_cast<int64_t>((16 - beyond(out[0])) % 16 / sizeof(T)) : 0;
  const int64_t rest = larger(n - head, int64_t(1));
  Shape shape;
  shape.blocks = static_cast<uint64_t>((rest + TILE<Op> - 1) / TILE<Op>);
  shape.threads = THREADS;
  return launch(name, elementwise<Op>, shape, device, op, arrays, n, head, alike);
}

}  // namespace

Failure unary(Activation op, Type type, const void* x, void* y, int64_t n, const Device& device) {
  return with_activation<true, Failure>(op, [&](auto chosen) {
    return with_type(type, [&](auto zero) {
      return run("activation", UnaryOp<decltype(chosen)::value, decltype(zero)>{}, {x}, {y}, n, device);
    });
  });
}

Failure unary_backward(Activation op, Type type, const void* dy, const void* kept, void* dx, int64_t n,
                       const Device& device) {
  return with_activation<true, Failure>(op, [&](auto chosen) {
    return with_type(type, [&](auto zero) {
      return run("activation_backward", UnaryBackwardOp<decltype(chosen)::value, decltype(zero)>{},
                 {dy, kept}, {dx}, n, device);
    });
  });
}

Failure gated(Activation op, Type type, const void* g, const void* u, void* y, int64_t n,
              const Device& device) {
  return with_activation<false, Failure>(op, [&](auto chosen) {
    return with_type(type, [&](auto zero) {
      return run("gated", GatedOp<decltype(chosen)::value, decltype(zero)>{}, {g, u}, {y}, n, device);
    });
  });
}

Failure gated_backward(Activation op, Type type, const void* dy, const void* g, const void* u, void* dg,
                       void* du, int64_t n, const Device& device) {
  return with_activation<false, Failure>(op, [&](auto chosen) {
    return with_type(type, [&](auto zero) {
      return run("gated_backward", GatedBackwardOp<decltype(chosen)::value, decltype(zero)>{},
                 {dy, g, u}, {dg, du}, n, device);
    });
  });
}

Failure curve(Curve which, Type type, double a, double b, const void* x, void* y, int64_t n,
              const Device& device) {
  return with_curve<Failure>(which, [&](auto chosen) {
    return with_type(type, [&](auto zero) {
      using Op = CurveOp<decltype(chosen)::value, decltype(zero)>;
      using R = typename Op::R;
      return run("curve", Op{static_cast<R>(a), static_cast<R>(b)}, {x}, {y}, n, device);
    });
  });
}

Failure curve_backward(Curve which, Type type, double a, double b, const void* dy, const void* x,
                       void* dx, int64_t n, const Device& device) {
  return with_curve<Failure>(which, [&](auto chosen) {
    return with_type(type, [&](auto zero) {
      using Op = CurveBackwardOp<decltype(chosen)::value, decltype(zero)>;
      using R = typename Op::R;
      return run("curve_backward", Op{static_cast<R>(a), static_cast<R>(b)}, {dy, x}, {dx}, n, device);
    });
  });
}

}  // namespace benchbench::cuda
