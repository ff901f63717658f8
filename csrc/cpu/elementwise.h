// Activations, alone, with a bias, and gated. Included once per instruction set.
//
// One pass over memory: load, compute in float (double for float64), store. The last vector of a
// range is loaded and stored in part, by the same arithmetic, so a value does not depend on where a
// range ends. Outputs that are larger than the last-level cache are streamed past it (the caller
// says so): a plain store would read each line before it overwrites it.
#pragma once

#include "cpu/functions.h"
#include "cpu/kernels.h"
#include "cpu/vectors.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// An activation: value(x); slope(x, value), its derivative, with the value at no extra cost; and
// slope_from(kept), the derivative from what autograd keeps, which is the output where that is
// enough (it is then needed by the next operator anyway), else the input.

struct Relu {
  template <class V>
  static inline V value(V x) {
    return maximum(splat<V>(0.0), x);  // a nan stays
  }
  template <class V>
  static inline V slope(V x, V& value_) {
    value_ = value(x);
    return x > splat<V>(0.0) ? splat<V>(1.0) : splat<V>(0.0);
  }
  template <class V>
  static inline V slope_from(V y) {
    return y > splat<V>(0.0) ? splat<V>(1.0) : splat<V>(0.0);
  }
};

struct Sigmoid {
  template <class V>
  static inline V value(V x) {
    return logistic(x);
  }
  template <class V>
  static inline V slope_from(V y) {
    return y * (splat<V>(1.0) - y);
  }
};

struct Tanh {
  template <class V>
  static inline V value(V x) {
    return tangent(x);
  }
  template <class V>
  static inline V slope_from(V y) {
    return splat<V>(1.0) - y * y;
  }
};

struct ShortTanh : Tanh {
  static inline F value(F x) { return short_tangent(x); }
};

// x Phi(x)
struct Gelu {
  template <class V>
  static inline V value(V x) {
    V gauss;
    return x * normal_cdf(x, gauss);
  }
  template <class V>
  static inline V slope(V x, V& value_) {
    V gauss;
    const V phi = normal_cdf(x, gauss);
    value_ = x * phi;
    // Far out the density is 0 and x may be infinite.
    const V near = minimum(splat<V>(40.0), maximum(splat<V>(-40.0), x));
    return phi + near * gauss * splat<V>(0.39894228040143267794);
  }
  template <class V>
  static inline V slope_from(V x) {
    V ignored;
    return slope(x, ignored);
  }
};

// x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), written as x / (1 + e^-2u), which keeps
// the precision of the left tail.
struct GeluTanh {
  static constexpr double A = 1.5957691216057307117;  // 2 sqrt(2/pi)
  static constexpr double B = A * 0.044715;
  template <class V>
  static inline V value(V x) {
    return x * logistic(x * (splat<V>(B) * (x * x) + splat<V>(A)));
  }
  template <class V>
  static inline V slope(V x, V& value_) {
    // Where |x| > 20 the logistic is 0 or 1; the bound keeps infinities out of its derivative.
    const V near = minimum(splat<V>(20.0), maximum(splat<V>(-20.0), x));
    const V square = near * near;
    V rest;
    const V s = logistic(near * (splat<V>(B) * square + splat<V>(A)), rest);
    value_ = x * s;
    return s + near * (s * rest) * (splat<V>(3.0 * B) * square + splat<V>(A));
  }
  template <class V>
  static inline V slope_from(V x) {
    V ignored;
    return slope(x, ignored);
  }
};

struct Silu {
  template <class V>
  static inline V value(V x) {
    return x / (splat<V>(1.0) + exponential(-x));
  }
  template <class V>
  static inline V slope(V x, V& value_) {
    V rest;
    const V s = logistic(x, rest);
    value_ = x * s;
    // Far out s (1 - s) is 0 and x may be infinite.
    const V near = minimum(splat<V>(200.0), maximum(splat<V>(-200.0), x));
    return s + near * (s * rest);
  }
  template <class V>
  static inline V slope_from(V x) {
    V ignored;
    return slope(x, ignored);
  }
};

template <class Op, bool STREAM, class T>
static void unary(const T* x, T* y, int64_t n) {
  using E = Element<T>;
  int64_t i = 0;
  for (; i + E::WIDTH <= n; i += E::WIDTH) put<STREAM>(y + i, Op::value(E::load(x + i)));
  if (i < n) E::store(y + i, Op::value(E::load(x + i, n - i)), n - i);
}

template <class Op, bool STREAM, class T>
static void unary_backward(const T* dy, const T* kept, T* dx, int64_t n) {
  using E = Element<T>;
  int64_t i = 0;
  for (; i + E::WIDTH <= n; i += E::WIDTH)
    put<STREAM>(dx + i, E::load(dy + i) * Op::slope_from(E::load(kept + i)));
  if (i < n) {
    const auto slope = Op::slope_from(E::load(kept + i, n - i));
    E::store(dx + i, E::load(dy + i, n - i) * slope, n - i);
  }
}

template <class Op, bool STREAM, class T>
static void bias(const T* x, const typename Element<T>::Sum* b, T* y, int64_t rows,
                 int64_t columns) {
  using E = Element<T>;
  using B = Element<typename E::Sum>;
  for (int64_t row = 0; row < rows; ++row, x += columns, y += columns) {
    int64_t i = 0;
    for (; i + E::WIDTH <= columns; i += E::WIDTH)
      put<STREAM>(y + i, Op::value(E::load(x + i) + B::load(b + i)));
    const int64_t left = columns - i;
    if (left) E::store(y + i, Op::value(E::load(x + i, left) + B::load(b + i, left)), left);
  }
}

// One vector of dx, stored and returned; `count` lanes of it count.
template <class Op, bool STREAM, class T>
static inline typename Element<T>::V bias_gradient(const T* dy, const T* x,
                                                   typename Element<T>::V b, T* dx,
                                                   int64_t count) {
  typename Element<T>::V ignored;
  const auto g = load(dy, count) * Op::slope(load(x, count) + b, ignored);
  if (count == Element<T>::WIDTH)
    put<STREAM>(dx, g);
  else
    Element<T>::store(dx, g, count);
  return g;
}

// Four rows at a time, added in pairs before they join db: fewer passes over db, less rounding. The
// caller keeps the rows of a call few.
template <class Op, bool STREAM, class T>
static void bias_backward(const T* dy, const T* x, const typename Element<T>::Sum* b, T* dx,
                          typename Element<T>::Sum* db, int64_t rows, int64_t columns) {
  constexpr int64_t width = Element<T>::WIDTH;
  const auto gradient = bias_gradient<Op, STREAM, T>;
  for (int64_t i = 0; i < columns; ++i) db[i] = 0;
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4)
    for (int64_t i = 0; i < columns; i += width) {
      const int64_t count = columns - i < width ? columns - i : width;
      const int64_t p = row * columns + i, q = p + columns, r = q + columns, s = r + columns;
      const auto add = load(b + i, count);
      const auto first = gradient(dy + p, x + p, add, dx + p, count) +
                         gradient(dy + q, x + q, add, dx + q, count);
      const auto last = gradient(dy + r, x + r, add, dx + r, count) +
                        gradient(dy + s, x + s, add, dx + s, count);
      store(db + i, load(db + i, count) + (first + last), count);
    }
  for (; row < rows; ++row)
    for (int64_t i = 0; i < columns; i += width) {
      const int64_t count = columns - i < width ? columns - i : width, p = row * columns + i;
      const auto g = gradient(dy + p, x + p, load(b + i, count), dx + p, count);
      store(db + i, load(db + i, count) + g, count);
    }
}

template <class Op, bool STREAM, class T>
static void gated(const T* g, const T* u, T* y, int64_t n) {
  using E = Element<T>;
  int64_t i = 0;
  for (; i + E::WIDTH <= n; i += E::WIDTH)
    put<STREAM>(y + i, Op::value(E::load(g + i)) * E::load(u + i));
  if (i < n) E::store(y + i, Op::value(E::load(g + i, n - i)) * E::load(u + i, n - i), n - i);
}

template <class Op, bool STREAM, class T>
static void gated_backward(const T* dy, const T* g, const T* u, T* dg, T* du, int64_t n) {
  using E = Element<T>;
  using V = typename E::V;
  int64_t i = 0;
  for (; i + E::WIDTH <= n; i += E::WIDTH) {
    V value;
    const V d = E::load(dy + i), slope = Op::slope(E::load(g + i), value);
    put<STREAM>(dg + i, d * E::load(u + i) * slope);
    put<STREAM>(du + i, d * value);
  }
  if (i < n) {
    V value;
    const V d = E::load(dy + i, n - i), slope = Op::slope(E::load(g + i, n - i), value);
    E::store(dg + i, d * E::load(u + i, n - i) * slope, n - i);
    E::store(du + i, d * value, n - i);
  }
}

// From the enumerations of the interface to a template: body(Op{}), body(T{}), body(true or false as
// a type).
template <class Body>
static inline void for_type(Type type, Body body) {
  switch (type) {
    case Type::f32: return body(float{});
    case Type::bf16: return body(bf16{});
    case Type::f16: return body(f16{});
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

// Those that have fused forms.
template <class Body>
static inline void for_fused_op(Activation op, Body body) {
  switch (op) {
    case Activation::relu: return body(Relu{});
    case Activation::gelu: return body(Gelu{});
    case Activation::gelu_tanh: return body(GeluTanh{});
    case Activation::silu: return body(Silu{});
    default: return;
  }
}

// The activation as elements of type T need it.
template <class Op, class T>
struct Fitting {
  using Result = Op;
};
template <>
struct Fitting<Tanh, bf16> {
  using Result = ShortTanh;
};
template <>
struct Fitting<Tanh, f16> {
  using Result = ShortTanh;
};

#define BB_EACH(for_ops, op, type, stream, ...)                          \
  for_type(type, [=](auto element) {                                     \
    using T = decltype(element);                                         \
    using R [[maybe_unused]] = typename Element<T>::Sum;                 \
    for_ops(op, [=](auto functor) {                                      \
      using Op = typename Fitting<decltype(functor), T>::Result;         \
      for_store<T>(stream, [=](auto past_caches) {                       \
        constexpr bool STREAM = decltype(past_caches)::value;            \
        __VA_ARGS__;                                                     \
      });                                                                \
    });                                                                  \
  })

static void unary_entry(Activation op, Type type, const void* x, void* y, int64_t n, bool stream) {
  BB_EACH(for_op, op, type, stream && can_stream(y),
          (unary<Op, STREAM>((const T*)x, (T*)y, n)));
}

static void unary_backward_entry(Activation op, Type type, const void* dy, const void* kept, void* dx,
                                 int64_t n, bool stream) {
  BB_EACH(for_op, op, type, stream && can_stream(dx),
          (unary_backward<Op, STREAM>((const T*)dy, (const T*)kept, (T*)dx, n)));
}

static void bias_entry(Activation op, Type type, const void* x, const void* b, void* y, int64_t rows,
                       int64_t columns, bool stream) {
  BB_EACH(for_fused_op, op, type, stream && can_stream(y, columns * int64_t(sizeof(T))),
          (bias<Op, STREAM>((const T*)x, (const R*)b, (T*)y, rows, columns)));
}

static void bias_backward_entry(Activation op, Type type, const void* dy, const void* x,
                                const void* b, void* dx, void* db, int64_t rows, int64_t columns,
                                bool stream) {
  BB_EACH(for_fused_op, op, type, stream && can_stream(dx, columns * int64_t(sizeof(T))),
          (bias_backward<Op, STREAM>((const T*)dy, (const T*)x, (const R*)b, (T*)dx, (R*)db, rows,
                                     columns)));
}

static void gated_entry(Activation op, Type type, const void* g, const void* u, void* y, int64_t n,
                        bool stream) {
  BB_EACH(for_fused_op, op, type, stream && can_stream(y),
          (gated<Op, STREAM>((const T*)g, (const T*)u, (T*)y, n)));
}

static void gated_backward_entry(Activation op, Type type, const void* dy, const void* g,
                                 const void* u, void* dg, void* du, int64_t n, bool stream) {
  BB_EACH(for_fused_op, op, type, stream && can_stream(dg) && can_stream(du),
          (gated_backward<Op, STREAM>((const T*)dy, (const T*)g, (const T*)u, (T*)dg, (T*)du, n)));
}

}  // namespace
}  // namespace benchbench::BB_ISA
