// The kernels' interface: plain pointers, sizes and enumerations, the same for all instruction sets.
//
// A kernel works on one range in one thread; the binding splits the work and owns the threads.
#pragma once

#include <cstdint>

namespace benchbench {

enum class Type : int { f32, bf16, f16, f64 };

enum class Activation : int { relu, sigmoid, tanh, gelu, gelu_tanh, silu };

// Sums and statistics are float, or double when the type is f64; "real" below.
struct Kernels {
  const char* name;

  // `stream` asks for stores past the caches, for outputs beyond the last-level cache; it is followed
  // where the output is aligned.

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

  // Layer norm (rms false) or RMS norm of each row. With a residual, sum = x + residual is written
  // (rounded to the type) and normalised. w and b are real or null; mean (layer norm only) and rstd
  // are real, one a row; 2n, with a residual 4n.
  void (*norm)(Type, bool rms, const void* x, const void* residual, const void* w, const void* b,
               double eps, void* y, void* sum, void* mean, void* rstd, int64_t rows,
               int64_t columns);
  // x is what was normalised. dsum, when not null, is added to dx. dw and db (real, one row each,
  // written, may be null) are sums over these rows; 3n, with dsum 4n.
  void (*norm_backward)(Type, bool rms, const void* dy, const void* x, const void* w,
                        const void* mean, const void* rstd, const void* dsum, void* dx, void* dw,
                        void* db, int64_t rows, int64_t columns);

  // Batch norm of planes: x is (batch, channels, area), these are channels [first, last).
  // Sums of (x - shift) and of its square for each channel, with shift = x[0, c, 0].
  void (*plane_moments)(Type, const void* x, double* mean, double* variance, int64_t batch,
                        int64_t channels, int64_t area, int64_t first, int64_t last);
  // y = (x - mean) scale + offset, + residual, relu; mean, scale and offset are real by channel.
  void (*plane_apply)(Type, const void* x, const void* residual, const void* mean,
                      const void* scale, const void* offset, bool relu, void* y, int64_t batch,
                      int64_t channels, int64_t area, int64_t first, int64_t last);
  // With g = dy where y > 0 (y null: everywhere): sums of g and of g (x - mean).
  void (*plane_sums)(Type, const void* dy, const void* x, const void* y, const void* mean,
                     double* sum, double* product, int64_t batch, int64_t channels, int64_t area,
                     int64_t first, int64_t last);
  // dx = a g + b (x - mean) + c by channel; dresidual = g when not null.
  void (*plane_gradient)(Type, const void* dy, const void* x, const void* y, const void* mean,
                         const void* a, const void* b, const void* c, void* dx, void* dresidual,
                         int64_t batch, int64_t channels, int64_t area, int64_t first,
                         int64_t last);

  // The same for channels last: x is (rows, channels), these are rows of it.
  void (*pixel_moments)(Type, const void* x, const void* shift, double* sum, double* square,
                        int64_t rows, int64_t channels);
  void (*pixel_apply)(Type, const void* x, const void* residual, const void* mean,
                      const void* scale, const void* offset, bool relu, void* y, int64_t rows,
                      int64_t channels);
  void (*pixel_sums)(Type, const void* dy, const void* x, const void* y, const void* mean,
                     double* sum, double* product, int64_t rows, int64_t channels);
  void (*pixel_gradient)(Type, const void* dy, const void* x, const void* y, const void* mean,
                         const void* a, const void* b, const void* c, void* dx, void* dresidual,
                         int64_t rows, int64_t channels);
};

// The kernels for the best instruction set that this processor has, or the one that BENCHBENCH_ISA
// (base, avx2, avx512) or choose() names.
const Kernels& kernels();

// Whether an output of so many bytes is worth streaming past the caches: it is at least as large as
// the last-level cache (of this processor; 32 MiB where that is unknown).
bool beyond_cache(int64_t bytes);

// Use another instruction set from now on. False when it is not compiled or not supported here.
bool choose(const char* name);

// Names of the instruction sets that can be chosen here, the chosen one's name, and how many.
int available(const char** names, int limit);

}  // namespace benchbench
