// Activations, alone, with a bias, and gated. Included once per instruction set.
//
// One pass over memory: load, compute in float (double for float64), store; 2n elements of traffic
// forward, 3n backward, gated forms 3n and 5n. The last vector of a range is loaded and stored in
// part, by the same arithmetic, so a value does not depend on where a range ends. Outputs that are
// larger than the last-level cache are streamed past it (the caller says so): a plain store would read
// each line before it overwrites it; inputs are asked for ahead then (vectors.h).
//
// In float beyond the cache memory is the limit on AVX-512. Elsewhere it is the number of instructions
// in flight (about 150 on Zen 5) over the length of an element's chain of them: hence polynomials in
// pairs of terms, tables in place of divisions, and, for results of 16 bits, shorter functions and
// conversions that move no lanes (pairs.h).
#pragma once

#include "cpu/kernels.h"
#include "cpu/pairs.h"
#include "cpu/short_functions.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// An activation, out of a kind of mathematics M (see Math): value(x); slope(x, value), its derivative,
// with the value at no extra cost; and slope_from(kept), the derivative from what autograd keeps,
// which is the output where that is enough (it is then needed by the next operator anyway), else the
// input.

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

template <class M>
struct Sigmoid {
  template <class V>
  static inline V value(V x) {
    return M::sigmoid(x);
  }
  template <class V>
  static inline V slope_from(V y) {
    return y * (splat<V>(1.0) - y);
  }
};

template <class M>
struct Tanh {
  template <class V>
  static inline V value(V x) {
    return M::tanh(x);
  }
  template <class V>
  static inline V slope_from(V y) {
    return splat<V>(1.0) - y * y;
  }
};

// x Phi(x)
template <class M>
struct Gelu {
  template <class V>
  static inline V value(V x) {
    return M::gelu(x);
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
template <class M>
struct GeluTanh {
  static constexpr double A = 1.5957691216057307117;  // 2 sqrt(2/pi)
  static constexpr double B = A * 0.044715;
  template <class V>
  static inline V value(V x) {
    return x * M::sigmoid(x * (splat<V>(B) * (x * x) + splat<V>(A)));
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

template <class M>
struct Silu {
  template <class V>
  static inline V value(V x) {
    return M::silu(x);
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
  for_pairs<T>(n, [=](int64_t i, auto tag) {
    put<STREAM>(y + i, map([](auto v) { return Op::value(v); }, take<STREAM>(x + i, tag)), tag);
  });
}

template <class Op, bool STREAM, class T>
static void unary_backward(const T* dy, const T* kept, T* dx, int64_t n) {
  for_pairs<T>(n, [=](int64_t i, auto tag) {
    const auto gradient = [](auto d, auto v) { return d * Op::slope_from(v); };
    put<STREAM>(dx + i, map(gradient, take<STREAM>(dy + i, tag), take<STREAM>(kept + i, tag)), tag);
  });
}

// Four rows at a time, for which the bias is loaded (and put in a pair's order) once.
template <class Op, bool STREAM, class T>
static void bias(const T* x, const typename Element<T>::Sum* b, T* y, int64_t rows,
                 int64_t columns) {
  const auto some = [=](int64_t first, auto count) {
    constexpr int together = decltype(count)::value;
    for_pairs<T>(columns, [=](int64_t i, auto tag) {
      const auto add = load_as<T>(b + i, tag);
      for (int64_t k = first * columns + i, n = 0; n < together; ++n, k += columns) {
        const auto value = [](auto v, auto a) { return Op::value(v + a); };
        put<STREAM>(y + k, map(value, take<STREAM>(x + k, tag), add), tag);
      }
    });
  };
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) some(row, std::integral_constant<int, 4>{});
  for (; row < rows; ++row) some(row, std::integral_constant<int, 1>{});
}

// Four rows at a time, added in pairs before they join db: fewer passes over db, less rounding. The
// caller keeps the rows of a call few.
template <class Op, bool STREAM, class T>
static void bias_backward(const T* dy, const T* x, const typename Element<T>::Sum* b, T* dx,
                          typename Element<T>::Sum* db, int64_t rows, int64_t columns) {
  const auto gradient = [=](int64_t i, auto add, auto tag) {
    const auto one = [](auto d, auto v, auto a) {
      decltype(v) ignored;
      return d * Op::slope(v + a, ignored);
    };
    const auto g = map(one, take<STREAM>(dy + i, tag), take<STREAM>(x + i, tag), add);
    put<STREAM>(dx + i, g, tag);
    return g;
  };
  const auto sum = [](auto u, auto v) { return u + v; };
  for (int64_t i = 0; i < columns; ++i) db[i] = 0;
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4)
    for_pairs<T>(columns, [=](int64_t i, auto tag) {
      const int64_t p = row * columns + i, q = p + columns, r = q + columns, s = r + columns;
      const auto add = load_as<T>(b + i, tag);
      const auto first = map(sum, gradient(p, add, tag), gradient(q, add, tag));
      const auto last = map(sum, gradient(r, add, tag), gradient(s, add, tag));
      store_as<T>(db + i, map(sum, load_as<T>(db + i, tag), map(sum, first, last)), tag);
    });
  for (; row < rows; ++row)
    for_pairs<T>(columns, [=](int64_t i, auto tag) {
      const auto g = gradient(row * columns + i, load_as<T>(b + i, tag), tag);
      store_as<T>(db + i, map(sum, load_as<T>(db + i, tag), g), tag);
    });
}

template <class Op, bool STREAM, class T>
static void gated(const T* g, const T* u, T* y, int64_t n) {
  for_pairs<T>(n, [=](int64_t i, auto tag) {
    const auto value = [](auto v, auto w) { return Op::value(v) * w; };
    put<STREAM>(y + i, map(value, take<STREAM>(g + i, tag), take<STREAM>(u + i, tag)), tag);
  });
}

template <class Op, bool STREAM, class T>
static void gated_backward(const T* dy, const T* g, const T* u, T* dg, T* du, int64_t n) {
  for_pairs<T>(n, [=](int64_t i, auto tag) {
    const auto d = take<STREAM>(dy + i, tag), w = take<STREAM>(u + i, tag);
    auto value = d;
    const auto for_g = [](auto d, auto w, auto v, auto& value) {
      const auto slope = Op::slope(v, value);
      return d * w * slope;
    };
    put<STREAM>(dg + i, map(for_g, d, w, take<STREAM>(g + i, tag), value), tag);
    put<STREAM>(du + i, map([](auto d, auto v) { return d * v; }, d, value), tag);
  });
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

template <class M, class Body>
static inline void for_op(Activation op, Body body) {
  switch (op) {
    case Activation::relu: return body(Relu{});
    case Activation::sigmoid: return body(Sigmoid<M>{});
    case Activation::tanh: return body(Tanh<M>{});
    case Activation::gelu: return body(Gelu<M>{});
    case Activation::gelu_tanh: return body(GeluTanh<M>{});
    case Activation::silu: return body(Silu<M>{});
  }
}

// Those that have fused forms.
template <class M, class Body>
static inline void for_fused_op(Activation op, Body body) {
  switch (op) {
    case Activation::relu: return body(Relu{});
    case Activation::gelu: return body(Gelu<M>{});
    case Activation::gelu_tanh: return body(GeluTanh<M>{});
    case Activation::silu: return body(Silu<M>{});
    default: return;
  }
}

#define BB_EACH(for_ops, op, type, stream, ...)                          \
  for_type(type, [=](auto element) {                                     \
    using T = decltype(element);                                         \
    using R [[maybe_unused]] = typename Element<T>::Sum;                 \
    for_ops<Math<T>>(op, [=](auto functor) {                             \
      using Op = decltype(functor);                                      \
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
