// The CUDA kernels' interface: plain pointers, sizes and enumerations, and the stream they work in.
// Operations and names are those of cpu/kernels.h; a launcher returns what went wrong, if anything.
//
// "Real" is float, or double when the type is f64. Nothing here synchronises or allocates: memory for
// partial results comes from the caller, who asks how much. No header of CUDA is needed to include this.
#pragma once

#include "cpu/kernels.h"

namespace benchbench::cuda {

// What a launcher returns: nothing, or which call failed and what the runtime said. No exceptions:
// kernel units are torch-free and the bindings raise.
struct Failure {
  char text[240] = {};
  explicit operator bool() const { return text[0] != 0; }
};

// Where work goes: a stream of the current device, and what that device offers.
struct Device {
  void* stream;             // cudaStream_t
  int processors;           // streaming multiprocessors
  int major;                // of the compute capability; clusters from 9 on
  bool cooperative = true;  // whether it accepts launches whose blocks wait for each other
  int shared = 227 * 1024;  // bytes of shared memory that a block may have
};

// A parameter vector (weight, bias): of the elements' type, or real. Every row reads it, so it stays
// in the caches.
struct Parameter {
  const void* p;  // null: it is not there
  bool real;
};

// y = f(x), n elements.
Failure unary(Activation, Type, const void* x, void* y, int64_t n, const Device&);
// dx = dy f'; `kept` is the output for relu, sigmoid and tanh, else the input.
Failure unary_backward(Activation, Type, const void* dy, const void* kept, void* dx, int64_t n,
                       const Device&);

// y = f(x) of a Curve with two parameters, and its gradient from the input.
Failure curve(Curve, Type, double a, double b, const void* x, void* y, int64_t n, const Device&);
Failure curve_backward(Curve, Type, double a, double b, const void* dy, const void* x, void* dx,
                       int64_t n, const Device&);

// y = f(g) u, and its gradients. Not sigmoid, tanh.
Failure gated(Activation, Type, const void* g, const void* u, void* y, int64_t n, const Device&);
Failure gated_backward(Activation, Type, const void* dy, const void* g, const void* u, void* dg,
                       void* du, int64_t n, const Device&);

// y = f(x + b) for rows of `columns`. Not sigmoid, tanh.
Failure bias(Activation, Type, const void* x, Parameter b, void* y, int64_t rows, int64_t columns,
             const Device&);
// dx = dy f'(x + b) and db (of b's type, written) its column sums; two launches. `partial` is memory of
// bias_partial_rows() rows of `columns` reals.
int64_t bias_partial_rows(int64_t rows, const Device&);
Failure bias_backward(Activation, Type, const void* dy, const void* x, Parameter b, void* dx, void* db,
                      void* partial, int64_t rows, int64_t columns, const Device&);

// PReLU: y = x, or w x where x <= 0; w has one slope a channel (or `channels` is 1). Over planes (batch,
// channels, area), and over rows of columns, each a channel. dw is of w's type, written; two launches.
// `partial` is memory of so many rows of a real for each channel; for rows of bias_partial_rows().
Failure slopes(Type, const void* x, Parameter w, void* y, int64_t batch, int64_t channels, int64_t area,
               const Device&);
int64_t slopes_partial_rows(int64_t batch, int64_t area);
Failure slopes_backward(Type, const void* dy, const void* x, Parameter w, void* dx, void* dw,
                        void* partial, int64_t batch, int64_t channels, int64_t area, const Device&);
Failure slope_rows(Type, const void* x, Parameter w, void* y, int64_t rows, int64_t columns,
                   const Device&);
Failure slope_rows_backward(Type, const void* dy, const void* x, Parameter w, void* dx, void* dw,
                            void* partial, int64_t rows, int64_t columns, const Device&);

// Bytes of `between` that the row operations below need for this size; zero for all but giant rows.
int64_t row_workspace(Type, int64_t rows, int64_t columns);

Failure softmax(Type, bool logarithm, const void* x, void* y, void* between, int64_t rows,
                int64_t columns, const Device&);
Failure softmax_backward(Type, bool logarithm, const void* dy, const void* y, void* dx, void* between,
                         int64_t rows, int64_t columns, const Device&);

// As benchbench::RowNorm, with parameters of either type.
struct RowNormForward {
  bool rms;
  int64_t rows, columns;
  double eps;
  const void *x, *residual;
  Parameter w, b;
  void *y, *sum;
  double* mean;  // one a row, layer norm only
  void* rstd;    // real, one a row
};
Failure row_norm(Type, const RowNormForward&, void* between, const Device&);

// As benchbench::RowNormBackward, all rows. `dw` and `db` (`real` or of the type, written) may be null; with either there
// are two launches, otherwise one. `partial` is memory of 2 gradient_partial_rows() rows of `columns`
// reals, `between` of row_workspace() bytes.
struct RowNormGradient {
  bool rms;
  int64_t rows, columns;
  const void *dy, *x, *dsum;
  Parameter w;
  const double* mean;
  const void* rstd;
  void *dx, *dw, *db;
  bool real;
};
int64_t gradient_partial_rows(int64_t rows, const Device&);
Failure row_norm_backward(Type, const RowNormGradient&, void* partial, void* between, const Device&);

// Batch norm: (batch, channels, area) in memory as planes, or (batch area, channels) as pixels.
struct BatchNormShape {
  int64_t batch, channels, area;
};

// As benchbench::BatchNorm. In training `variance` is written unbiased; in evaluation mean and variance
// are the running ones.
struct BatchNormForward {
  bool training, relu;
  BatchNormShape shape;
  double eps;
  const void *x, *residual;
  Parameter w, b, running_mean, running_var;
  void* y;
  double *mean, *variance;
  void* rstd;
};

// As benchbench::BatchNormBackward; `dw` and `db` (`real` or of the type) may both be null.
struct BatchNormGradient {
  bool training, relu;
  BatchNormShape shape;
  const void *dy, *x, *y;
  Parameter w, b;
  const double* mean;
  const void* rstd;
  void *dx, *dresidual, *dw, *db;
  bool real;
};

Failure plane_norm(Type, const BatchNormForward&, const Device&);
Failure plane_norm_backward(Type, const BatchNormGradient&, const Device&);

// `between` is memory of pixel_workspace() bytes.
int64_t pixel_workspace(const BatchNormShape&, const Device&);
Failure pixel_norm(Type, const BatchNormForward&, void* between, const Device&);
Failure pixel_norm_backward(Type, const BatchNormGradient&, void* between, const Device&);

}  // namespace benchbench::cuda
