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

// The same of rows of 2 `columns`, the gates in front: y has rows of `columns`, dx is like x.
Failure packed(Activation, Type, const void* x, void* y, int64_t rows, int64_t columns, const Device&);
Failure packed_backward(Activation, Type, const void* dy, const void* x, void* dx, int64_t rows,
                        int64_t columns, const Device&);

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

// A mask over rows, broadcast: the element of row (i, j, k) and column c, with k < size[2] and so on, is
// p[i stride[0] + j stride[1] + k stride[2] + c].
struct RowMask {
  enum Kind { none, keep, add, add_real };  // keep: bytes, zero where an element counts as -inf
  Kind kind = none;
  const void* p = nullptr;  // for add of the elements' type, for add_real real
  int64_t size[3] = {1, 1, 1}, stride[3] = {0, 0, 0};
};

// Softmax of scale x (+ mask), or its logarithm.
Failure softmax(Type, bool logarithm, double scale, const RowMask&, const void* x, void* y, void* between,
                int64_t rows, int64_t columns, const Device&);
// With `masked` no gradient reaches where the logarithm is -inf.
Failure softmax_backward(Type, bool logarithm, double scale, bool masked, const void* dy, const void* y,
                         void* dx, void* between, int64_t rows, int64_t columns, const Device&);

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

// Group norm: (batch, channels, area) as planes or as pixels, as batch norm; instance norm has as many
// groups as channels.
struct GroupNormShape {
  int64_t batch, channels, groups, area;
  constexpr int64_t planes() const { return channels / groups; }  // of a group
  constexpr int64_t rows() const { return batch * groups; }
  constexpr bool empty() const { return !batch || !channels || !area; }
};

// Mean, variance (biased) and rstd (real) are written, one a sample and group.
struct GroupNormForward {
  GroupNormShape shape;
  double eps;
  const void* x;
  Parameter w, b;
  void* y;
  double *mean, *variance;
  void* rstd;
};

// `dw` and `db` (`real` or of the type, written) may both be null: then there is one launch, else two.
struct GroupNormGradient {
  GroupNormShape shape;
  const void *dy, *x;
  Parameter w;
  const double* mean;
  const void* rstd;
  void *dx, *dw, *db;
  bool real;
};

// `between` is memory of group_workspace() bytes, `partial` of twice group_partial_rows() rows of a real
// for each channel.
int64_t group_workspace(Type, const GroupNormShape&);
Failure group_planes(Type, const GroupNormForward&, void* between, const Device&);
int64_t group_partial_rows(Type, const GroupNormShape&, bool pixels, const Device&);
Failure group_planes_backward(Type, const GroupNormGradient&, void* partial, const Device&);

// Pixels of groups that are too wide for a block's tables must be made planes first.
bool group_pixels_fit(const GroupNormShape&);
Failure group_pixels(Type, const GroupNormForward&, const Device&);
Failure group_pixels_backward(Type, const GroupNormGradient&, void* partial, const Device&);

// Local response norm: x / s^beta with s = k + scale (sum of x^2 over the channels from `before` before to
// `after` after), and its gradient, as benchbench::ResponseNorm. (batch, channels, area) as planes, or
// (batch area, channels) as pixels.
struct ResponseNormShape {
  int64_t batch, channels, area;
  bool pixels;
};
struct ResponseWindow {
  int64_t before, after;
  double scale, beta, k;
};
Failure response_norm(Type, const ResponseNormShape&, const ResponseWindow&, const void* x, void* y,
                      const Device&);
Failure response_norm_backward(Type, const ResponseNormShape&, const ResponseWindow&, const void* dy,
                               const void* x, void* dx, const Device&);

}  // namespace benchbench::cuda
