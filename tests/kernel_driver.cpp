// Runs every kernel of csrc/cpu, on every instruction set that this machine has, over the shapes on the
// standard input, for the compiler's sanitizers to watch (tests/test_kernel_safety.py).
//
// Lines of input: `elements N`, `rows ROWS COLUMNS`, `planes BATCH CHANNELS AREA GROUPS`, and `beyond N`,
// which plants the fault that is looked for: an array that is one element short. Every array is an
// allocation of its own of exactly its size, so that one element too many is found. Values are ordinary
// ones with a few infinities, nans and extremes among them. Prints how many kernels ran; the outputs
// are compared by other tests.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "cpu/kernels.h"

using namespace benchbench;

namespace {

constexpr Type TYPES[] = {Type::f32, Type::bf16, Type::f16, Type::f64};
long calls = 0;

int64_t size_of(Type type) { return type == Type::f64 ? 8 : type == Type::f32 ? 4 : 2; }
// Statistics, parameters and sums.
Type real_of(Type type) { return type == Type::f64 ? Type::f64 : Type::f32; }

class Array {
 public:
  // `skip` elements stand before those that are used: kernels must not depend on alignment.
  Array(Type type, int64_t count, int64_t skip = 0)
      : type_(type), bytes_((count + skip) * size_of(type)),
        memory_(static_cast<char*>(std::malloc(static_cast<size_t>(bytes_)))),
        start_(memory_ + skip * size_of(type)) {
    if (!memory_ && bytes_) std::abort();
    for (int64_t i = 0; i < bytes_ / size_of(type); ++i) put(i);
  }
  Array(const Array&) = delete;
  ~Array() { std::free(memory_); }
  operator void*() const { return start_; }
  double* doubles() const { return reinterpret_cast<double*>(start_); }

 private:
  void put(int64_t i) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    const uint32_t drawn = static_cast<uint32_t>(state_ >> 33);
    double value = static_cast<double>(drawn) / (1u << 30) * 4 - 4;
    if (drawn % 97 == 0) {
      constexpr double odd[] = {std::numeric_limits<double>::infinity(),
                                -std::numeric_limits<double>::infinity(),
                                std::numeric_limits<double>::quiet_NaN(), 3e38, -3e38, 1e-40, 0.0};
      value = odd[drawn / 97 % 7];
    }
    char* to = memory_ + i * size_of(type_);
    const float narrow = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &narrow, sizeof bits);
    const uint16_t upper = static_cast<uint16_t>(bits >> 16);
    const uint16_t half = static_cast<uint16_t>(drawn);  // any pattern at all
    if (type_ == Type::f64) std::memcpy(to, &value, sizeof value);
    if (type_ == Type::f32) std::memcpy(to, &narrow, sizeof narrow);
    if (type_ == Type::bf16) std::memcpy(to, &upper, sizeof upper);
    if (type_ == Type::f16) std::memcpy(to, &half, sizeof half);
  }

  static inline uint64_t state_ = 1;
  Type type_;
  int64_t bytes_;
  char *memory_, *start_;
};

void elements(const Kernels& k, int64_t n) {
  for (const Type type : TYPES)
    for (const int64_t skip : {0, 1, 3}) {
      const Array a(type, n, skip), b(type, n, skip), c(type, n, skip), d(type, n, skip),
          e(type, n, skip);
      for (const bool stream : {false, true}) {
        for (int op = 0; op < 6; ++op, calls += 4) {
          const auto which = static_cast<Activation>(op);
          k.unary(which, type, a, b, n, stream);
          k.unary_backward(which, type, a, b, c, n, stream);
          if (which == Activation::sigmoid || which == Activation::tanh) continue;
          k.gated(which, type, a, b, c, n, stream);
          k.gated_backward(which, type, a, b, c, d, e, n, stream);
        }
        for (int op = 0; op < 6; ++op, calls += 4) {
          const auto which = static_cast<Curve>(op);
          for (const double first : {1.0, 1.5}) {
            k.curve(which, type, first, 2.0, a, b, n, stream);
            k.curve_backward(which, type, first, 2.0, a, b, c, n, stream);
          }
        }
        k.copy(a, b, n * size_of(type), stream);
        ++calls;
      }
      k.slope_backward(type, 0.25, a, b, c, n);
      ++calls;
    }
}

void rows(const Kernels& k, int64_t count, int64_t columns) {
  const int64_t n = count * columns;
  for (const Type type : TYPES) {
    const Type real = real_of(type);
    const Array x(type, n), r(type, n), y(type, n), sum(type, n), dy(type, n), dx(type, n);
    const Array w(real, columns), b(real, columns), dw(real, columns), db(real, columns);
    const Array mean(Type::f64, count), rstd(real, count);
    for (const bool stream : {false, true}) {
      for (const auto op : {Activation::relu, Activation::gelu, Activation::gelu_tanh,
                            Activation::silu}) {
        k.bias(op, type, x, b, y, count, columns, stream);
        k.bias_backward(op, type, dy, x, b, dx, db, count, columns, stream);
      }
      for (const bool logarithm : {false, true}) {
        k.softmax(type, logarithm, x, y, count, columns, stream);
        k.softmax_backward(type, logarithm, dy, y, dx, count, columns, stream);
      }
      k.slope_rows(type, x, w, y, count, columns, stream);
      k.slope_rows_backward(type, dy, x, w, dx, dw, count, columns, stream);
      calls += 14;
    }
    for (const bool rms : {false, true})
      for (const bool more : {false, true}) {
        const RowNorm norm{rms,  columns, 1e-5, x, more ? (void*)r : nullptr,
                           more ? (void*)w : nullptr,
                           more && !rms ? (void*)b : nullptr,
                           y, more ? (void*)sum : nullptr, mean.doubles(), rstd};
        k.row_norm(type, norm, 0, count);
        const RowNormBackward gradient{rms, columns, dy, x, more ? (void*)r : nullptr,
                                       more ? (void*)w : nullptr, mean.doubles(), rstd, dx};
        k.row_norm_backward(type, gradient, 0, count, more ? (void*)dw : nullptr,
                            more && !rms ? (void*)db : nullptr);
        calls += 2;
      }
  }
}

void planes(const Kernels& k, int64_t batch, int64_t channels, int64_t area, int64_t groups) {
  const int64_t n = batch * channels * area, pixels = batch * area;
  for (const Type type : TYPES) {
    const Type real = real_of(type);
    const Array x(type, n), r(type, n), y(type, n), dy(type, n), dx(type, n), dr(type, n);
    const Array w(real, channels), b(real, channels), dw(real, channels), db(real, channels);
    const Array running(real, channels), rstd(real, channels), coefficients(real, 3 * channels),
        gradient(real, 3 * channels);
    const Array mean(Type::f64, channels), variance(Type::f64, channels);
    for (const bool training : {false, true})
      for (const bool relu : {false, true})
        for (const bool more : {false, true}) {
          const BatchNorm norm{training, relu, batch, channels, area, 1e-5, x,
                               more ? (void*)r : nullptr, more ? (void*)w : nullptr,
                               more ? (void*)b : nullptr, running, running, y, mean.doubles(),
                               variance.doubles(), rstd};
          k.plane_norm(type, norm, 0, channels);
          k.pixel_apply(type, norm, coefficients, 0, pixels);
          const BatchNormBackward back{training, relu, more, batch, channels, area, dy, x,
                                       more ? (void*)y : nullptr, more ? (void*)w : nullptr,
                                       more ? (void*)b : nullptr, mean.doubles(), rstd, dx,
                                       more ? (void*)dr : nullptr, dw, db};
          k.plane_norm_backward(type, back, 0, channels);
          k.pixel_sums(type, back, coefficients, 0, pixels, 0, channels, mean.doubles(),
                       variance.doubles());
          k.pixel_gradient(type, back, coefficients, gradient, 0, pixels);
          calls += 5;
        }
    k.pixel_moments(type, x, channels, 0, pixels, 0, channels, mean.doubles(), variance.doubles());

    const Array group_mean(Type::f64, batch * groups), group_variance(Type::f64, batch * groups),
        group_rstd(real, batch * groups);
    const Array sums(Type::f64, batch * channels), products(Type::f64, batch * channels);
    for (const bool affine : {false, true}) {
      void *weight = affine ? (void*)w : nullptr, *bias = affine ? (void*)b : nullptr;
      k.group_norm(type,
                   {channels, groups, area, 1e-5, x, weight, bias, y, group_mean.doubles(),
                    group_variance.doubles(), group_rstd},
                   0, batch * groups);
      k.group_norm_backward(type,
                            {channels, groups, area, dy, x, weight, group_mean.doubles(),
                             group_rstd, dx, sums.doubles(), products.doubles()},
                            0, batch * groups);
    }
    const Array scratch(real, channels * RESPONSE_SCRATCH);
    for (const double beta : {0.75, 0.5, 1.0, 0.3}) {
      const ResponseNorm response{channels, area, 2, 1, 0.1, beta, 1.0, x, dy, dx};
      for (int64_t sample = 0; sample < batch; ++sample) {
        k.response_norm(type, response, sample, 0, area, scratch);
        k.response_norm_backward(type, response, sample, area / 3, area, scratch);
      }
    }
    calls += 5 + 8 * batch;
  }
}

void beyond(const Kernels& k, int64_t n) {
  const Array x(Type::bf16, n - 1), y(Type::bf16, n);
  k.unary(Activation::silu, Type::bf16, x, y, n, false);
}

}  // namespace

int main() {
  const char* names[3];
  const int count = available(names, 3);
  char kind[16];
  while (std::scanf("%15s", kind) == 1) {
    long long n[4] = {};
    const std::string what = kind;
    const bool planted = what == "beyond";
    const int wanted =
        what == "elements" || planted ? 1 : what == "rows" ? 2 : what == "planes" ? 4 : 0;
    for (int i = 0; i < wanted; ++i)
      if (std::scanf("%lld", &n[i]) != 1) return 2;
    for (int i = 0; i < count; ++i) {
      choose(names[i]);
      if (wanted == 1) (planted ? beyond : elements)(kernels(), n[0]);
      if (wanted == 2) rows(kernels(), n[0], n[1]);
      if (wanted == 4) planes(kernels(), n[0], n[1], n[2], n[3]);
    }
    if (!wanted) return 2;
  }
  std::printf("%ld calls on %d instruction sets\n", calls, count);
}
