// Runs every kernel of csrc/cpu, on every instruction set that this machine has, over the shapes on the
// standard input, for the compiler's sanitizers to watch (tests/test_kernel_safety.py).
//
// Lines of input: `elements N`, `rows ROWS COLUMNS`, `planes BATCH CHANNELS AREA GROUPS`, `draws ROWS
// COUNT`, `signal LENGTH UP DOWN WIDTH`, and `beyond N`, which plants the fault that is looked for: an
// array that is one element short. Every array is an allocation of its own of exactly its size, so that
// one element too many is found, and begins a cache line, so that stores past the caches are tried.
// Values are ordinary ones with a few infinities, nans and extremes among them. Prints how many kernels
// ran; the outputs are compared by other tests.
#include <cmath>
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
      : type_(type), bytes_((count + skip) * size_of(type)), memory_(line(bytes_)),
        start_(memory_ + skip * size_of(type)) {
    for (int64_t i = 0; i < bytes_ / size_of(type); ++i) put(i);
  }
  Array(const Array&) = delete;
  ~Array() { std::free(memory_); }
  operator void*() const { return start_; }
  double* doubles() const { return reinterpret_cast<double*>(start_); }
  float* floats() const { return reinterpret_cast<float*>(start_); }

 private:
  static char* line(int64_t bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, static_cast<size_t>(bytes))) std::abort();
    return static_cast<char*>(memory);
  }

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
      for (const bool more : {false, true})
        for (const bool stream : {false, true}) {
          RowNorm norm{rms,  columns, 1e-5, x, more ? (void*)r : nullptr,
                       more ? (void*)w : nullptr,
                       more && !rms ? (void*)b : nullptr,
                       y, more ? (void*)sum : nullptr, nullptr, nullptr, stream};
          k.row_norm(type, norm, 0, count);
          norm.mean = mean.doubles();
          norm.rstd = rstd;
          k.row_norm(type, norm, 0, count);
          const RowNormBackward gradient{rms, columns, dy, x, more ? (void*)r : nullptr,
                                         more ? (void*)w : nullptr, mean.doubles(), rstd, dx,
                                         stream};
          k.row_norm_backward(type, gradient, 0, count, more ? (void*)dw : nullptr,
                              more && !rms ? (void*)db : nullptr);
          calls += 3;
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
    std::vector<uint8_t> plane_bits(static_cast<size_t>(batch * channels * passed_bytes(area)));
    std::vector<uint8_t> pixel_bits(static_cast<size_t>(pixels * passed_bytes(channels)));
    for (const bool training : {false, true})
      for (const bool relu : {false, true})
        for (const int mode : {0, 1, 2, 3}) {
          const bool more = mode & 1, stream = mode & 2;
          const double most = stream ? 6.0 : NAN;
          BatchNorm norm{training, relu, batch, channels, area, 1e-5, x,
                         more ? (void*)r : nullptr, more ? (void*)w : nullptr,
                         more ? (void*)b : nullptr, running, running, y, mean.doubles(),
                         variance.doubles(), rstd, most, stream,
                         more ? plane_bits.data() : nullptr};
          k.plane_norm(type, norm, 0, channels);
          norm.passed = more ? pixel_bits.data() : nullptr;
          k.pixel_apply(type, norm, coefficients, 0, pixels);
          BatchNormBackward back{training, relu, more, batch, channels, area, dy, x,
                                 more ? plane_bits.data() : nullptr, more ? (void*)w : nullptr,
                                 more ? (void*)b : nullptr, mean.doubles(), rstd, dx,
                                 more ? (void*)dr : nullptr, dw, db, most, stream};
          k.plane_norm_backward(type, back, 0, channels);
          back.passed = more ? pixel_bits.data() : nullptr;
          k.pixel_sums(type, back, coefficients, 0, pixels, 0, channels, mean.doubles(),
                       variance.doubles());
          k.pixel_gradient(type, back, coefficients, gradient, 0, pixels);
          calls += 5;
        }
    for (const bool far : {false, true})
      k.pixel_moments(type, x, far, channels, 0, pixels, 0, channels, mean.doubles(),
                      variance.doubles());

    const Array group_mean(Type::f64, batch * groups), group_variance(Type::f64, batch * groups),
        group_rstd(real, batch * groups);
    const Array sums(Type::f64, batch * channels), products(Type::f64, batch * channels);
    for (const bool affine : {false, true}) {
      void *weight = affine ? (void*)w : nullptr, *bias = affine ? (void*)b : nullptr;
      k.group_norm(type,
                   {channels, groups, area, 1e-5, x, weight, bias, y, group_mean.doubles(),
                    group_variance.doubles(), group_rstd, affine},
                   0, batch * groups);
      k.group_norm_backward(type,
                            {channels, groups, area, dy, x, weight, group_mean.doubles(),
                             group_rstd, dx, sums.doubles(), products.doubles(), affine},
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
    calls += 6 + 8 * batch;
  }
}

void draws(const Kernels& k, int64_t n, int64_t count) {
  const RandomStream stream{0x9E3779B97F4A7C15u, 1, 2, 3};
  int64_t block = 1;
  while (block < 8192 && 2 * block <= n) block *= 2;
  for (const Type type : {Type::f32, Type::f64}) {
    const Array rows(type, block), x(type, n);
    double sum = 0, squares = 0, weight = 0;
    k.sum_draws(type, {rows, block, 0.5}, count, stream, &sum, nullptr);
    k.sum_draws(type, {rows, block, 0.5}, count, stream, &sum, &squares);
    k.sum_exponential(type, x, n, stream, &sum, &weight);
    calls += 3;
  }
  const std::unique_ptr<int64_t[]> index(new int64_t[static_cast<size_t>(count)]);
  const std::unique_ptr<uint64_t[]> table(new uint64_t[static_cast<size_t>(n)]);
  for (int64_t i = 0; i < n; ++i)
    table[i] = static_cast<uint32_t>(i * 2654435761u) | static_cast<uint64_t>(i * 7 % n) << 32;
  k.draw_alias(table.get(), n, stream, count, index.get());
  k.draw_uniform(n, stream, count, index.get());
  calls += 2;
  for (const int64_t bytes : {1, 8, 12, 16, 64, 80})
    for (const bool streaming : {false, true}) {
      const Array from(Type::bf16, (n * bytes + 1) / 2), to(Type::bf16, (count * bytes + 1) / 2);
      k.take_rows(from, bytes, index.get(), count, to, streaming);
      ++calls;
    }
}

void resampled(const Kernels& k, int64_t length, int64_t up, int64_t down, int64_t width) {
  const int64_t outputs = length * up / down;
  const Array taps(Type::f32, up * width), x(Type::f32, length), y(Type::f32, outputs);
  const Polyphase job{up, down, width, width / 2 - 1, taps.floats()};
  k.resample(job, x.floats(), length, 0, outputs, y.floats());
  k.resample(job, x.floats(), length, outputs / 3, outputs, y.floats());
  calls += 2;
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
        what == "elements" || planted           ? 1
        : what == "rows" || what == "draws"     ? 2
        : what == "planes" || what == "signal" ? 4
                                                : 0;
    for (int i = 0; i < wanted; ++i)
      if (std::scanf("%lld", &n[i]) != 1) return 2;
    for (int i = 0; i < count; ++i) {
      choose(names[i]);
      if (wanted == 1) (planted ? beyond : elements)(kernels(), n[0]);
      if (wanted == 2) (what == "rows" ? rows : draws)(kernels(), n[0], n[1]);
      if (wanted == 4) (what == "planes" ? planes : resampled)(kernels(), n[0], n[1], n[2], n[3]);
    }
    if (!wanted) return 2;
  }
  std::printf("%ld calls on %d instruction sets\n", calls, count);
}
