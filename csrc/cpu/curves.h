// Activations with parameters, and leaky ReLU with learned slopes (PReLU). Included once per
// instruction set.
//
// One pass over memory, as in elementwise.h, and the same streaming. Bytes: 2n forward, 3n backward;
// the gradient is computed from the input, which stays alive anyway in the models that use these.
// They win over a chain of operators wherever that leaves the cache, and over eager's single ones by
// cheaper functions.
//
// Numerics: float (double for float64). Softplus and log-sigmoid keep the left tail down to the
// subnormals; ELU's e^x - 1 does not cancel near 0; mish is a quotient of polynomials in e^-|x| without
// subtractions, corrected for its own rounding where multiply-add is fused (2.2 ulp at most, without it
// 3.1; eager 2.8). The slopes' gradient is summed as in vectors.h: short blocks in float, blocks in
// double.
#pragma once

#include "cpu/elementwise.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

// Without a beta there is nothing to divide by.
struct UnitSoftplus {
  double beta, threshold;
  template <class V>
  inline V value(V x) const {
    return x > splat<V>(threshold) ? x : log_one_plus_exponential(x);
  }
  template <class V>
  inline V slope(V x) const {
    return x > splat<V>(threshold) ? splat<V>(1.0) : exact_logistic(x);
  }
};

struct Softplus {
  double beta, threshold;
  template <class V>
  inline V value(V x) const {
    const V z = x * splat<V>(beta);
    return z > splat<V>(threshold) ? x : log_one_plus_exponential(z) / splat<V>(beta);
  }
  template <class V>
  inline V slope(V x) const {
    const V z = x * splat<V>(beta);
    return z > splat<V>(threshold) ? splat<V>(1.0) : exact_logistic(z);
  }
};

struct LogSigmoid {
  double unused[2];
  template <class V>
  inline V value(V x) const {
    return -log_one_plus_exponential(-x);
  }
  template <class V>
  inline V slope(V x) const {
    return exact_logistic(-x);
  }
};

struct Elu {
  double negative, positive;
  template <class V>
  inline V value(V x) const {
    const V left = splat<V>(negative) * exponential_less_one(minimum(splat<V>(0.0), x));
    return x > splat<V>(0.0) ? splat<V>(positive) * x : left;
  }
  template <class V>
  inline V slope(V x) const {
    const V left = splat<V>(negative) * exponential(x);
    return x > splat<V>(0.0) ? splat<V>(positive) : left;
  }
};

// With e = e^-|x|, tanh(ln(1 + e^x)) is p / q: p = e (e + 2), q = p + 2 where x < 0, else p = 1 + 2e,
// q = p + 2 e^2. 1 - (p/q)^2 = (q - p)(q + p) / q^2 without the difference.
struct Mish {
  double unused[2];
  template <class V>
  inline V value(V x) const {
    const V one = splat<V>(1.0), two = splat<V>(2.0), left = splat<V>(0.0);
    V lost;
    const V e = exponential(-absolute(x), lost), square = e * e;
    // The left tail is as exact as e is, so what e lost is put back: dp = 2 e (1 + e) lost.
    const V error = e * lost;
    const V near = (e + e) + (square + two * (error * e + error));
    const V p = x < left ? near : one + (e + e);
    const V large = x < left ? two : p, small = x < left ? p : two * square;
    const V q = large + small;
    // The quotient with what the sum and the division have lost.
    const V inverse = one / q, t = p * inverse;
    const V missing = (p - t * q) - t * (small - (q - large));
    return x * (missing * inverse + t);
  }
  template <class V>
  inline V slope(V x) const {
    const V zero = splat<V>(0.0), one = splat<V>(1.0), two = splat<V>(2.0);
    // Far out the second term is 0 and x may be infinite.
    const V near = minimum(splat<V>(200.0), maximum(splat<V>(-200.0), x));
    const V e = exponential(-absolute(near));
    const V p = near < zero ? e * (e + two) : one + (e + e);
    const V rest = near < zero ? two : two * e * e;
    const V q = p + rest, t = p / q;
    const V sigmoid = (near < zero ? e : one) / (one + e);
    return t + near * sigmoid * (rest / q) * (one + t);
  }
};

struct HardSwish {
  double unused[2];
  template <class V>
  inline V value(V x) const {
    // Divided before the product, which would overflow.
    const V gate = minimum(splat<V>(6.0), maximum(splat<V>(0.0), x + splat<V>(3.0)));
    return x * (gate / splat<V>(6.0));
  }
  template <class V>
  inline V slope(V x) const {
    const V middle = (x + splat<V>(1.5)) * splat<V>(1.0 / 3.0);  // exact where it crosses zero
    const V right = x >= splat<V>(3.0) ? splat<V>(1.0) : middle;
    return x <= splat<V>(-3.0) ? splat<V>(0.0) : right;
  }
};

struct LeakyRelu {
  double negative, unused;
  template <class V>
  inline V value(V x) const {
    return x > splat<V>(0.0) ? x : x * splat<V>(negative);
  }
  template <class V>
  inline V slope(V x) const {
    return x > splat<V>(0.0) ? splat<V>(1.0) : splat<V>(negative);
  }
};

template <bool STREAM, class Op, class T>
static void curve(Op op, const T* x, T* y, int64_t n) {
  for_pairs<T>(n, [=](int64_t i, auto tag) {
    put<STREAM>(y + i, map([=](auto v) { return op.value(v); }, take<STREAM>(x + i, tag)), tag);
  });
}

template <bool STREAM, class Op, class T>
static void curve_backward(Op op, const T* dy, const T* x, T* dx, int64_t n) {
  for_pairs<T>(n, [=](int64_t i, auto tag) {
    const auto gradient = [=](auto d, auto v) { return d * op.slope(v); };
    put<STREAM>(dx + i, map(gradient, take<STREAM>(dy + i, tag), take<STREAM>(x + i, tag)), tag);
  });
}

template <class T>
static double slope_backward(double slope, const T* dy, const T* x, T* dx, int64_t n) {
  using V = typename Element<T>::V;
  const V zero = splat<V>(0.0), w = splat<V>(slope);
  double total = 0;
  sum_range<1, T>(n, &total, [=](int64_t i, auto tag, V* sums) {
    const V d = load(dy + i, tag), v = load(x + i, tag);
    store(dx + i, v > zero ? d : d * w, tag);
    sums[0] += v > zero ? zero : d * v;  // zero past the end
  });
  return total;
}

template <bool STREAM, class T>
static void slope_rows(const T* x, const typename Element<T>::Sum* w, T* y, int64_t rows,
                       int64_t columns) {
  using V = typename Element<T>::V;
  for (int64_t row = 0; row < rows; ++row, x += columns, y += columns)
    for_vectors<T>(columns, [=](int64_t i, auto tag) {
      const V v = take<STREAM>(x + i, tag);
      put<STREAM>(y + i, v > splat<V>(0.0) ? v : v * load(w + i, tag), tag);
    });
}

// The caller keeps the rows of a call few, so that dw's rounding stays small.
template <bool STREAM, class T>
static void slope_rows_backward(const T* dy, const T* x, const typename Element<T>::Sum* w, T* dx,
                                typename Element<T>::Sum* dw, int64_t rows, int64_t columns) {
  using V = typename Element<T>::V;
  for (int64_t i = 0; i < columns; ++i) dw[i] = 0;
  for (int64_t row = 0; row < rows; ++row, dy += columns, x += columns, dx += columns)
    for_vectors<T>(columns, [=](int64_t i, auto tag) {
      const V zero = splat<V>(0.0), d = take<STREAM>(dy + i, tag), v = take<STREAM>(x + i, tag);
      put<STREAM>(dx + i, v > zero ? d : d * load(w + i, tag), tag);
      store(dw + i, load(dw + i, tag) + (v > zero ? zero : d * v), tag);
    });
}

template <class Body>
static inline void for_curve(Curve kind, double a, double b, Body body) {
  switch (kind) {
    case Curve::softplus: return a == 1 ? body(UnitSoftplus{a, b}) : body(Softplus{a, b});
    case Curve::log_sigmoid: return body(LogSigmoid{});
    case Curve::elu: return body(Elu{a, b});
    case Curve::mish: return body(Mish{});
    case Curve::hardswish: return body(HardSwish{});
    case Curve::leaky_relu: return body(LeakyRelu{a, b});
  }
}

// body(T{}, STREAM as a type)
template <class Body>
static inline void for_stores(Type type, bool stream, Body body) {
  for_type(type, [=](auto element) {
    using T = decltype(element);
    for_store<T>(stream, [=](auto past_caches) { body(element, past_caches); });
  });
}

static void curve_entry(Curve kind, Type type, double a, double b, const void* x, void* y, int64_t n,
                        bool stream) {
  for_stores(type, stream && can_stream(y), [=](auto element, auto past_caches) {
    using T = decltype(element);
    for_curve(kind, a, b, [=](auto op) {
      curve<decltype(past_caches)::value>(op, static_cast<const T*>(x), static_cast<T*>(y), n);
    });
  });
}

static void curve_backward_entry(Curve kind, Type type, double a, double b, const void* dy,
                                 const void* x, void* dx, int64_t n, bool stream) {
  for_stores(type, stream && can_stream(dx), [=](auto element, auto past_caches) {
    using T = decltype(element);
    for_curve(kind, a, b, [=](auto op) {
      curve_backward<decltype(past_caches)::value>(op, static_cast<const T*>(dy),
                                                   static_cast<const T*>(x), static_cast<T*>(dx), n);
    });
  });
}

static double slope_backward_entry(Type type, double slope, const void* dy, const void* x, void* dx,
                                   int64_t n) {
  double total = 0;
  for_type(type, [&](auto element) {
    using T = decltype(element);
    total = slope_backward(slope, static_cast<const T*>(dy), static_cast<const T*>(x),
                           static_cast<T*>(dx), n);
  });
  return total;
}

static int64_t row_bytes(Type type, int64_t columns) {
  return columns * (type == Type::f64 ? 8 : type == Type::f32 ? 4 : 2);
}

static void slope_rows_entry(Type type, const void* x, const void* w, void* y, int64_t rows,
                             int64_t columns, bool stream) {
  for_stores(type, stream && can_stream(y, row_bytes(type, columns)),
             [=](auto element, auto past_caches) {
               using T = decltype(element);
               using R = typename Element<T>::Sum;
               slope_rows<decltype(past_caches)::value>(static_cast<const T*>(x),
                                                        static_cast<const R*>(w),
                                                        static_cast<T*>(y), rows, columns);
             });
}

static void slope_rows_backward_entry(Type type, const void* dy, const void* x, const void* w,
                                      void* dx, void* dw, int64_t rows, int64_t columns,
                                      bool stream) {
  for_stores(type, stream && can_stream(dx, row_bytes(type, columns)),
             [=](auto element, auto past_caches) {
               using T = decltype(element);
               using R = typename Element<T>::Sum;
               slope_rows_backward<decltype(past_caches)::value>(
                   static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const R*>(w),
                   static_cast<T*>(dx), static_cast<R*>(dw), rows, columns);
             });
}

}  // namespace
}  // namespace benchbench::BB_ISA
