// The kernels' interface: plain pointers, sizes and enumerations, the same for all instruction sets.
//
// A kernel works on one range in one thread; the binding splits the work and owns the threads.
#pragma once

#include <cstdint>

#include "cpu/random.h"

namespace benchbench {

enum class Type : int { f32, bf16, f16, f64 };

enum class Activation : int { relu, sigmoid, tanh, gelu, gelu_tanh, silu };

// With two parameters a and b, where they have any:
//   softplus     ln(1 + e^(a x)) / a, and x where a x > b
//   log_sigmoid  ln sigmoid(x)
//   elu          a (e^x - 1) where x <= 0, b x elsewhere (SELU and ELU)
//   mish         x tanh(ln(1 + e^x))
//   hardswish    x min(max(x + 3, 0), 6) / 6
//   leaky_relu   a x where x <= 0, x elsewhere
enum class Curve : int { softplus, log_sigmoid, elu, mish, hardswish, leaky_relu };

// In the structures below `stream` asks for stores past the caches, for outputs beyond the last-level
// cache; it is followed where the outputs' rows, or planes, are aligned.

// Layer norm (rms false) or RMS norm of rows of `columns` elements. With a residual, the sum of x and
// residual is written, rounded to the type, and normalised.
struct RowNorm {
  bool rms;
  int64_t columns;
  double eps;
  const void *x, *residual;
  const void *w, *b;  // real, or null for 1 and 0
  void *y, *sum;
  // Statistics, one a row, or null where nobody wants them. The mean is that of layer norm only; a
  // float would lose what matters beside a large mean.
  double* mean;
  void* rstd;  // real
  bool stream = false;
};

// x is what was normalised. dsum, when not null, is added to dx.
struct RowNormBackward {
  bool rms;
  int64_t columns;
  const void *dy, *x, *dsum;
  const void* w;
  const double* mean;
  const void* rstd;
  void* dx;
  bool stream = false;
};

// y = relu?((x - mean) rstd w + b + residual?) by channel. Planes lie in memory as (batch, channels,
// area), pixels as (batch area, channels). `most` cuts what the ReLU lets through (6 in ReLU6); a nan,
// which nothing reaches, cuts nothing.
struct BatchNorm {
  bool training, relu;
  int64_t batch, channels, area;
  double eps;
  const void *x, *residual;
  const void *w, *b;                        // real, or null for 1 and 0
  const void *running_mean, *running_var;   // real; read in evaluation only
  void* y;
  double *mean, *variance;  // written; in training those of the batch, the variance biased
  void* rstd;               // real, written
  double most = NAN;
  bool stream = false;
  uint8_t* passed = nullptr;  // written where not null, a residual and a ReLU: passed_bytes() a row
};

// Bytes of the bits that say which of n elements (a plane's, or a pixel's channels) the ReLU let through;
// cpu/passed.h has their order.
template <class Int>
static inline Int passed_bytes(Int n) {
  return (n + 7) / 8;
}

// With g = dy where the ReLU let the value through uncut and xhat = (x - mean) rstd: db = sum of g, dw = sum
// of g xhat, dx = w rstd (g - db/m - xhat dw/m) in training, w rstd g in evaluation, dresidual = g.
struct BatchNormBackward {
  bool training, relu;
  bool sums;  // whether dw and db are wanted; in training they are computed anyway
  int64_t batch, channels, area;
  const void *dy, *x;
  const uint8_t* passed;  // what the ReLU let through, as BatchNorm writes it; null: found from x
  const void *w, *b;
  const double* mean;
  const void* rstd;
  void *dx, *dresidual;  // dresidual may be null
  void *dw, *db;         // real, written by planes when `sums`
  double most = NAN;
  bool stream = false;
};

// y = (x - mean) rstd w + b with the statistics of a group: `channels / groups` neighbouring planes of
// `area` elements. Statistics are one a group, sample by sample.
struct GroupNorm {
  int64_t channels, groups, area;
  double eps;
  const void* x;
  const void *w, *b;  // real, one a channel, or null for 1 and 0
  void* y;
  double *mean, *variance;  // written, the variance biased
  void* rstd;               // real, written
  bool stream = false;
};

// `sum` and `product` (one a plane, written): those of dy and dy (x - mean).
struct GroupNormBackward {
  int64_t channels, groups, area;
  const void *dy, *x;
  const void* w;
  const double* mean;
  const void* rstd;
  void* dx;
  double *sum, *product;
  bool stream = false;
};

// y = x / s^beta with s = k + scale times the sum of squares over channels c - before .. c + after, as
// far as there are such. Planes: (batch, channels, area).
struct ResponseNorm {
  int64_t channels, area, before, after;
  double scale, beta, k;
  const void *x, *dy;  // dy in the gradient only
  void* to;            // y, or dx
};

// Reals of scratch that a call of response_norm needs for each channel: two for each element of the
// widest strip.
constexpr int64_t RESPONSE_SCRATCH = 128;

// A block of `rows` rows (a power of two, at most 2^13) from which draws are summed.
struct DrawnSums {
  const void* x;
  int64_t rows;
  double middle;  // squares are of distances from it
};

// Taps of a resampler: `up` phases of `width` floats, a multiple of 16; an output at input position
// p begins `before` samples ahead of it.
struct Polyphase {
  int64_t up, down, width, before;
  const float* taps;
};

// Sums and statistics are float, or double when the type is f64; "real" below. `coefficients` are
// three rows of a real a channel: middle, scale, offset, with y = (x - middle) scale + offset before
// residual and ReLU. `gradient` are three more: a, b, c, with dx = a g + b (x - middle) + c.
struct Kernels {
  const char* name;

  // Adds the sum of `count` rows drawn alike from a block to `sum`, and where `squares` is not null
  // distances and squared distances from the middle instead. float32 and float64.
  void (*sum_draws)(Type, const DrawnSums&, int64_t count, const RandomStream&, double* sum,
                    double* squares);
  // Adds the sum of w x over all rows, with standard exponential weights w, and the sum of w.
  void (*sum_exponential)(Type, const void* x, int64_t rows, const RandomStream&, double* sum,
                          double* weight);
  // `count` indices below n, alike, or by an alias table (csrc/bindings/alias.h).
  void (*draw_uniform)(int64_t n, const RandomStream&, int64_t count, int64_t* out);
  void (*draw_alias)(const uint64_t* table, int64_t n, const RandomStream&, int64_t count,
                     int64_t* out);
  // Rows of `bytes` bytes.
  void (*take_rows)(const void* from, int64_t bytes, const int64_t* index, int64_t count, void* to,
                    bool stream);
  // Outputs [first, last) of a resampled signal.
  void (*resample)(const Polyphase&, const float* x, int64_t length, int64_t first, int64_t last,
                   float* y);

  // `stream` means here what it does in the structures above.

  // y = f(x), n elements; 2n elements of traffic.
  void (*unary)(Activation, Type, const void* x, void* y, int64_t n, bool stream);
  // dx = dy f'; 3n. `kept` is the output y for relu, sigmoid and tanh, else the input x.
  void (*unary_backward)(Activation, Type, const void* dy, const void* kept, void* dx, int64_t n,
                         bool stream);

  // y = f(x + b), b of `columns` elements (real) added to each row; 2n. Not sigmoid, tanh.
  void (*bias)(Activation, Type, const void* x, const void* b, void* y, int64_t rows,
               int64_t columns, bool stream);
  // dx = dy f'(x + b); db (real, one row, written) = its column sums over these rows; 3n.
  void (*bias_backward)(Activation, Type, const void* dy, const void* x, const void* b, void* dx,
                        void* db, int64_t rows, int64_t columns, bool stream);

  // y = f(g) u; 3n. Not sigmoid, tanh.
  void (*gated)(Activation, Type, const void* g, const void* u, void* y, int64_t n, bool stream);
  // dg = dy u f'(g), du = dy f(g); 5n.
  void (*gated_backward)(Activation, Type, const void* dy, const void* g, const void* u, void* dg,
                         void* du, int64_t n, bool stream);

  // Softmax of each row, or its logarithm; 2n.
  void (*softmax)(Type, bool logarithm, const void* x, void* y, int64_t rows, int64_t columns,
                  bool stream);
  // From the output y; 3n.
  void (*softmax_backward)(Type, bool logarithm, const void* dy, const void* y, void* dx,
                           int64_t rows, int64_t columns, bool stream);

  // y = f(x) of a Curve; 2n, and 3n for the gradient, which is computed from the input.
  void (*curve)(Curve, Type, double a, double b, const void* x, void* y, int64_t n, bool stream);
  void (*curve_backward)(Curve, Type, double a, double b, const void* dy, const void* x, void* dx,
                         int64_t n, bool stream);
  // Leaky ReLU's gradient and, returned, the slope's own: the sum of dy x where x <= 0; 3n.
  double (*slope_backward)(Type, double slope, const void* dy, const void* x, void* dx, int64_t n);
  // Leaky ReLU with a slope for each column (real); 2n. Its gradient; dw (real, one row, written) is
  // the slopes' own over these rows; 3n.
  void (*slope_rows)(Type, const void* x, const void* w, void* y, int64_t rows, int64_t columns,
                     bool stream);
  void (*slope_rows_backward)(Type, const void* dy, const void* x, const void* w, void* dx, void* dw,
                              int64_t rows, int64_t columns, bool stream);

  // Rows [first, last) of RowNorm; 2n, with a residual 4n.
  void (*row_norm)(Type, const RowNorm&, int64_t first, int64_t last);
  // The same of the gradient; dw and db (real, one row each, written, may be null) are the sums over
  // these rows; 3n, with dsum 4n.
  void (*row_norm_backward)(Type, const RowNormBackward&, int64_t first, int64_t last, void* dw,
                            void* db);

  // Batch norm of planes: all of it for channels [first, last).
  void (*plane_norm)(Type, const BatchNorm&, int64_t first, int64_t last);
  void (*plane_norm_backward)(Type, const BatchNormBackward&, int64_t first, int64_t last);

  // Puts `rows` rows of coefficients, a float for each channel, into the order in which the passes
  // below read them; float64's and float32's stay as they are.
  void (*pixel_order)(Type, void* coefficients, int64_t rows, int64_t channels);
  // Batch norm of pixels, in phases with a reduction over rows between them. Moments of channels
  // [c0, c1) over rows [first, last): the mean, and the sum of squared deviations from it. `far` says
  // that the tensor is beyond the last-level cache, as `stream` does where there is an output.
  void (*pixel_moments)(Type, const void* x, bool far, int64_t channels, int64_t first, int64_t last,
                        int64_t c0, int64_t c1, double* mean, double* squares);
  // y from x by `coefficients`.
  void (*pixel_apply)(Type, const BatchNorm&, const void* coefficients, int64_t first,
                      int64_t last);
  // Sums of g and of g (x - middle), g as in BatchNormBackward.
  void (*pixel_sums)(Type, const BatchNormBackward&, const void* coefficients, int64_t first,
                     int64_t last, int64_t c0, int64_t c1, double* sum, double* product);
  // dx (and dresidual) from dy and x by `coefficients`, to which `gradient` adds.
  void (*pixel_gradient)(Type, const BatchNormBackward&, const void* coefficients,
                         const void* gradient, int64_t first, int64_t last);

  // Groups [first, last), counted through all samples.
  void (*group_norm)(Type, const GroupNorm&, int64_t first, int64_t last);
  void (*group_norm_backward)(Type, const GroupNormBackward&, int64_t first, int64_t last);

  // Positions [begin, end) of one sample's planes; scratch is for this call alone.
  void (*response_norm)(Type, const ResponseNorm&, int64_t sample, int64_t begin, int64_t end,
                        void* scratch);
  void (*response_norm_backward)(Type, const ResponseNorm&, int64_t sample, int64_t begin,
                                 int64_t end, void* scratch);

  // Copies bytes that do not overlap, by plain or by streaming stores: the roof of all the others.
  void (*copy)(const void* from, void* to, int64_t bytes, bool stream);
};

// The kernels for the best instruction set that this processor has, or the one that BENCHBENCH_ISA
// (base, avx2, avx512) or choose() names.
const Kernels& kernels();

// Bytes of a core's second cache; 1 MiB where that is unknown.
int64_t second_level_cache();

// Whether an output of so many bytes is worth streaming past the caches: it is at least as large as
// the last-level cache (32 MiB where that is unknown), or as 16 MiB for each processor that this
// process may use.
bool beyond_cache(int64_t bytes);

// Another limit for beyond_cache(), negative for the default; returns the one before. For tests and
// tuning.
int64_t stream_from(int64_t bytes);

// Use another instruction set from now on. False when it is not compiled or not supported here.
bool choose(const char* name);

// Names of the instruction sets that can be chosen here, the chosen one's name, and how many.
int available(const char** names, int limit);

}  // namespace benchbench
