// Activations, alone, with a bias, and gated. Included once per instruction set.
//
// One pass over memory: load, compute in float32 (float64 for float64), store. The last vector of a
// range is loaded and stored in part. The derivative is computed from the input, not from a saved
// output, so that forward keeps nothing that autograd does not hold already.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

struct Relu {
  template <class V>
  static inline V value(V x) {
    return x < splat<V>(0.0) ? splat<V>(0.0) : x;  // a nan stays
  }
  template <class V>
  static inline V slope(V x) {
    return x > splat<V>(0.0) ? splat<V>(1.0) : splat<V>(0.0);
  }
};

struct Sigmoid {
  template <class V>
  static inline V value(V x) {
    return logistic(x);
  }
  template <class V>
  static inline V slope(V x) {
    // s (1 - s) from the side where 1 - s does not cancel.
    const V s = logistic(-absolute(x));
    return s * (splat<V>(1.0) - s);
  }
};

struct Tanh {
  template <class V>
  static inline V value(V x) {
    return tangent(x);
  }
  template <class V>
  static inline V slope(V x) {
    const V t = tangent(x);
    return splat<V>(1.0) - t * t;
  }
};

// x Phi(x)
struct Gelu {
  template <class V>
  static inline V value(V x) {
    V gauss;
    return x * normal_cdf(x, gauss);
  }
  template <class V>
  static inline V slope(V x) {
    V gauss;
    const V phi = normal_cdf(x, gauss);
    return phi + x * gauss * splat<V>(0.39894228040143267794);
  }
};

// x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), written as x / (1 + e^-2u), which keeps
// the precision of the left tail.
struct GeluTanh {
  static constexpr double TWICE = 1.5957691216057307117;  // 2 sqrt(2/pi)
  template <class V>
  static inline V value(V x) {
    const V u = splat<V>(TWICE) * x * (splat<V>(1.0) + splat<V>(0.044715) * x * x);
    return x * logistic(u);
  }
  template <class V>
  static inline V slope(V x) {
    const V square = x * x;
    const V u = splat<V>(TWICE) * x * (splat<V>(1.0) + splat<V>(0.044715) * square);
    const V du = splat<V>(TWICE) * (splat<V>(1.0) + splat<V>(3.0 * 0.044715) * square);
    const V s = logistic(u);
    const V rest = logistic(-u);
    const V bend = x * s * rest * du;
    // Far out s (1 - s) is 0 and du may be infinite: the slope there is that of the asymptote.
    return s + (absolute(x) > splat<V>(20.0) ? splat<V>(0.0) : bend);
  }
};

struct Silu {
  template <class V>
  static inline V value(V x) {
    return x / (splat<V>(1.0) + exponential(-x));
  }
  template <class V>
  static inline V slope(V x) {
    const V s = logistic(x);
    return s + x * s * logistic(-x);
  }
};

// Calls body(count) for each vector of a range: WIDTH for whole ones, less for the last.
template <class T, class Whole, class Part>
static inline void each(int64_t n, Whole whole, Part part) {
  constexpr int width = Element<T>::WIDTH;
  int64_t i = 0;
  for (; i + width <= n; i += width) whole(i);
  if (i < n) part(i, n - i);
}

template <class Op, class T>
static void unary(const T* x, T* y, int64_t n) {
  using E = Element<T>;
  each<T>(
      n, [=](int64_t i) { E::store(y + i, Op::value(E::load(x + i))); },
      [=](int64_t i, int64_t count) { E::store(y + i, Op::value(E::load(x + i, count)), count); });
}

template <class Op, class T>
static void unary_backward(const T* dy, const T* x, T* dx, int64_t n) {
  using E = Element<T>;
  each<T>(
      n, [=](int64_t i) { E::store(dx + i, E::load(dy + i) * Op::slope(E::load(x + i))); },
      [=](int64_t i, int64_t count) {
        E::store(dx + i, E::load(dy + i, count) * Op::slope(E::load(x + i, count)), count);
      });
}

template <class Op, class T>
static void bias(const T* x, const T* b, T* y, int64_t rows, int64_t columns) {
  using E = Element<T>;
  for (int64_t row = 0; row < rows; ++row, x += columns, y += columns)
    each<T>(
        columns, [=](int64_t i) { E::store(y + i, Op::value(E::load(x + i) + E::load(b + i))); },
        [=](int64_t i, int64_t count) {
          E::store(y + i, Op::value(E::load(x + i, count) + E::load(b + i, count)), count);
        });
}

template <class Op, class T>
static void bias_backward(const T* dy, const T* x, const T* b, T* dx, typename Element<T>::Sum* db,
                          int64_t rows, int64_t columns) {
  using E = Element<T>;
  using S = Element<typename E::Sum>;
  for (int64_t i = 0; i < columns; ++i) db[i] = 0;
  for (int64_t row = 0; row < rows; ++row, dy += columns, x += columns, dx += columns)
    each<T>(
        columns,
        [=](int64_t i) {
          const auto g = E::load(dy + i) * Op::slope(E::load(x + i) + E::load(b + i));
          E::store(dx + i, g);
          S::store(db + i, S::load(db + i) + g);
        },
        [=](int64_t i, int64_t count) {
          const auto z = E::load(x + i, count) + E::load(b + i, count);
          const auto g = E::load(dy + i, count) * Op::slope(z);
          E::store(dx + i, g, count);
          S::store(db + i, S::load(db + i, count) + g, count);
        });
}

template <class Op, class T>
static void gated(const T* g, const T* u, T* y, int64_t n) {
  using E = Element<T>;
  each<T>(
      n, [=](int64_t i) { E::store(y + i, Op::value(E::load(g + i)) * E::load(u + i)); },
      [=](int64_t i, int64_t count) {
        E::store(y + i, Op::value(E::load(g + i, count)) * E::load(u + i, count), count);
      });
}

template <class Op, class T>
static void gated_backward(const T* dy, const T* g, const T* u, T* dg, T* du, int64_t n) {
  using E = Element<T>;
  each<T>(
      n,
      [=](int64_t i) {
        const auto d = E::load(dy + i), x = E::load(g + i);
        E::store(dg + i, d * E::load(u + i) * Op::slope(x));
        E::store(du + i, d * Op::value(x));
      },
      [=](int64_t i, int64_t count) {
        const auto d = E::load(dy + i, count), x = E::load(g + i, count);
        E::store(dg + i, d * E::load(u + i, count) * Op::slope(x), count);
        E::store(du + i, d * Op::value(x), count);
      });
}

// From the enumerations of the interface to a template: body(Op, T).
template <class Body>
static inline void for_type(Type type, Body body) {
  switch (type) {
    case Type::f32: return body(float{});
    case Type::bf16: return body(bf16{});
    case Type::f64: return body(double{});
  }
}

template <class Body>
static inline void for_op(Activation op, Body body) {
  switch (op) {
    case Activation::relu: return body(Relu{});
    case Activation::sigmoid: return body(Sigmoid{});
    case Activation::tanh: return body(Tanh{});
    case Activation::gelu: return body(Gelu{});
    case Activation::gelu_tanh: return body(GeluTanh{});
    case Activation::silu: return body(Silu{});
  }
}

#define BB_EACH(op, type, ...)                                           \
  for_type(type, [=](auto element) {                                     \
    using T = decltype(element);                                         \
    using Sum [[maybe_unused]] = typename Element<T>::Sum;               \
    for_op(op, [=](auto functor) {                                       \
      using Op = decltype(functor);                                      \
      __VA_ARGS__;                                                       \
    });                                                                  \
  })

static void unary_entry(Activation op, Type type, const void* x, void* y, int64_t n) {
  BB_EACH(op, type, (unary<Op, T>((const T*)x, (T*)y, n)));
}

static void unary_backward_entry(Activation op, Type type, const void* dy, const void* x, void* dx,
                                 int64_t n) {
  BB_EACH(op, type, (unary_backward<Op, T>((const T*)dy, (const T*)x, (T*)dx, n)));
}

static void bias_entry(Activation op, Type type, const void* x, const void* b, void* y, int64_t rows,
                       int64_t columns) {
  BB_EACH(op, type, (bias<Op, T>((const T*)x, (const T*)b, (T*)y, rows, columns)));
}

static void bias_backward_entry(Activation op, Type type, const void* dy, const void* x,
                                const void* b, void* dx, void* db, int64_t rows, int64_t columns) {
  BB_EACH(op, type, (bias_backward<Op, T>((const T*)dy, (const T*)x, (const T*)b, (T*)dx, (Sum*)db,
                                          rows, columns)));
}

static void gated_entry(Activation op, Type type, const void* g, const void* u, void* y, int64_t n) {
  BB_EACH(op, type, (gated<Op, T>((const T*)g, (const T*)u, (T*)y, n)));
}

static void gated_backward_entry(Activation op, Type type, const void* dy, const void* g,
                                 const void* u, void* dg, void* du, int64_t n) {
  BB_EACH(op, type, (gated_backward<Op, T>((const T*)dy, (const T*)g, (const T*)u, (T*)dg, (T*)du, n)));
}

}  // namespace
}  // namespace benchbench::BB_ISA
