// The CUDA kernels' launchers for the tests, on the host executor: plain C, and a device of so many
// processors. Each returns what went wrong, or an empty string.
#include <cstdio>

#include "cuda/draws.h"
#include "cuda/support/quotient.h"

using namespace benchbench;
using namespace benchbench::cuda;

namespace {

Device device{nullptr, 4, 9, true};

const char* told(const Failure& failure) {
  static char text[sizeof failure.text];
  std::snprintf(text, sizeof text, "%s", failure.text);
  return text;
}

Activation activation(int op) { return static_cast<Activation>(op); }
Type type(int t) { return static_cast<Type>(t); }

}  // namespace

extern "C" {

// `major` of the compute capability: clusters from 9 on; `shared` bytes that a block may have.
void set_device(int processors, int major, int cooperative, int shared) {
  device = {nullptr, processors, major, cooperative != 0, shared};
}

const char* run_unary(int op, int t, const void* x, void* y, int64_t n) {
  return told(unary(activation(op), type(t), x, y, n, device));
}
const char* run_unary_backward(int op, int t, const void* dy, const void* kept, void* dx, int64_t n) {
  return told(unary_backward(activation(op), type(t), dy, kept, dx, n, device));
}
const char* run_curve(int kind, int t, double a, double b, const void* x, void* y, int64_t n) {
  return told(curve(static_cast<Curve>(kind), type(t), a, b, x, y, n, device));
}
const char* run_curve_backward(int kind, int t, double a, double b, const void* dy, const void* x,
                               void* dx, int64_t n) {
  return told(curve_backward(static_cast<Curve>(kind), type(t), a, b, dy, x, dx, n, device));
}
const char* run_gated(int op, int t, const void* g, const void* u, void* y, int64_t n) {
  return told(gated(activation(op), type(t), g, u, y, n, device));
}
const char* run_gated_backward(int op, int t, const void* dy, const void* g, const void* u, void* dg,
                               void* du, int64_t n) {
  return told(gated_backward(activation(op), type(t), dy, g, u, dg, du, n, device));
}
const char* run_bias(int op, int t, const void* x, const void* b, int real, void* y, int64_t rows,
                     int64_t columns) {
  return told(bias(activation(op), type(t), x, {b, real != 0}, y, rows, columns, device));
}
int64_t partial_rows(int64_t rows) { return bias_partial_rows(rows, device); }
const char* run_bias_backward(int op, int t, const void* dy, const void* x, const void* b, int real,
                              void* dx, void* db, void* partial, int64_t rows, int64_t columns) {
  return told(bias_backward(activation(op), type(t), dy, x, {b, real != 0}, dx, db, partial, rows,
                            columns, device));
}
const char* run_slopes(int rows, int t, const void* x, const void* w, int real, void* y, int64_t batch,
                       int64_t channels, int64_t area) {
  const Parameter p{w, real != 0};
  return told(rows ? slope_rows(type(t), x, p, y, batch * area, channels, device)
                   : slopes(type(t), x, p, y, batch, channels, area, device));
}
int64_t slope_partial(int rows, int64_t batch, int64_t area) {
  return rows ? bias_partial_rows(batch * area, device) : slopes_partial_rows(batch, area);
}
const char* run_slopes_backward(int rows, int t, const void* dy, const void* x, const void* w, int real,
                                void* dx, void* dw, void* partial, int64_t batch, int64_t channels,
                                int64_t area) {
  const Parameter p{w, real != 0};
  return told(rows ? slope_rows_backward(type(t), dy, x, p, dx, dw, partial, batch * area, channels,
                                         device)
                   : slopes_backward(type(t), dy, x, p, dx, dw, partial, batch, channels, area, device));
}
int64_t workspace(int t, int64_t rows, int64_t columns) {
  return row_workspace(type(t), rows, columns);
}
const char* run_softmax(int t, int logarithm, const void* x, void* y, void* between, int64_t rows,
                        int64_t columns) {
  return told(softmax(type(t), logarithm != 0, 1, {}, x, y, between, rows, columns, device));
}
const char* run_softmax_backward(int t, int logarithm, const void* dy, const void* y, void* dx,
                                 void* between, int64_t rows, int64_t columns) {
  return told(
      softmax_backward(type(t), logarithm != 0, 1, false, dy, y, dx, between, rows, columns, device));
}
// The mask of rows (i, j, k) with the sizes and strides of i, j and k; `kind` as in RowMask.
const char* run_masked_softmax(int t, int logarithm, double scale, int kind, const void* mask,
                               const int64_t* sizes, const int64_t* strides, const void* x, void* y,
                               void* between, int64_t rows, int64_t columns) {
  RowMask m;
  m.kind = static_cast<RowMask::Kind>(kind);
  m.p = mask;
  for (int i = 0; i < 3; ++i) {
    m.size[i] = sizes[i];
    m.stride[i] = strides[i];
  }
  return told(softmax(type(t), logarithm != 0, scale, m, x, y, between, rows, columns, device));
}
const char* run_masked_softmax_backward(int t, int logarithm, double scale, const void* dy, const void* y,
                                        void* dx, void* between, int64_t rows, int64_t columns) {
  return told(
      softmax_backward(type(t), logarithm != 0, scale, true, dy, y, dx, between, rows, columns, device));
}
const char* run_packed(int op, int t, const void* x, void* y, int64_t rows, int64_t columns) {
  return told(packed(activation(op), type(t), x, y, rows, columns, device));
}
const char* run_packed_backward(int op, int t, const void* dy, const void* x, void* dx, int64_t rows,
                                int64_t columns) {
  return told(packed_backward(activation(op), type(t), dy, x, dx, rows, columns, device));
}
const char* run_row_norm(int t, int rms, int64_t rows, int64_t columns, double eps, const void* x,
                         const void* residual, const void* w, int w_real, const void* b, int b_real,
                         void* y, void* sum, double* mean, void* rstd, void* between) {
  return told(row_norm(type(t),
                       {rms != 0, rows, columns, eps, x, residual, {w, w_real != 0}, {b, b_real != 0},
                        y, sum, mean, rstd},
                       between, device));
}

int64_t gradient_rows(int64_t rows) { return gradient_partial_rows(rows, device); }
const char* run_row_norm_backward(int t, int rms, int64_t rows, int64_t columns, const void* dy,
                                  const void* x, const void* dsum, const void* w, int w_real,
                                  const double* mean, const void* rstd, void* dx, void* dw, void* db,
                                  int real, void* partial, void* between) {
  return told(row_norm_backward(type(t),
                                {rms != 0, rows, columns, dy, x, dsum, {w, w_real != 0}, mean, rstd, dx,
                                 dw, db, real != 0},
                                partial, between, device));
}

int64_t pixel_bytes(int64_t channels) { return pixel_workspace({1, channels, 1}, device); }
const char* run_batch_norm(int t, int pixels, int training, int relu, int64_t batch, int64_t channels,
                           int64_t area, double eps, const void* x, const void* residual, const void* w,
                           const void* b, const void* running_mean, const void* running_var, int real,
                           void* y, double* mean, double* variance, void* rstd, void* between) {
  const bool r = real != 0;
  const BatchNormForward k{training != 0, relu != 0, {batch, channels, area}, eps,      x,    residual,
                           {w, r},        {b, r},    {running_mean, r},       {running_var, r}, y,
                           mean,          variance,  rstd};
  return told(pixels ? pixel_norm(type(t), k, between, device) : plane_norm(type(t), k, device));
}
const char* run_batch_norm_backward(int t, int pixels, int training, int relu, int64_t batch,
                                    int64_t channels, int64_t area, const void* dy, const void* x,
                                    const void* y, const void* w, const void* b, int real,
                                    const double* mean, const void* rstd, void* dx, void* dresidual,
                                    void* dw, void* db, void* between) {
  const bool r = real != 0;
  const BatchNormGradient k{training != 0, relu != 0, {batch, channels, area}, dy, x, y, {w, r}, {b, r},
                            mean,          rstd,      dx, dresidual, dw, db, r};
  return told(pixels ? pixel_norm_backward(type(t), k, between, device)
                     : plane_norm_backward(type(t), k, device));
}

int64_t group_bytes(int t, int64_t batch, int64_t channels, int64_t groups, int64_t area) {
  return group_workspace(type(t), {batch, channels, groups, area});
}
const char* run_group_norm(int t, int pixels, int64_t batch, int64_t channels, int64_t groups, int64_t area,
                           double eps, const void* x, const void* w, const void* b, int real, void* y,
                           double* mean, double* variance, void* rstd, void* between) {
  const bool r = real != 0;
  const GroupNormForward k{{batch, channels, groups, area}, eps, x, {w, r}, {b, r}, y, mean, variance, rstd};
  return told(pixels ? group_pixels(type(t), k, device) : group_planes(type(t), k, between, device));
}
int64_t group_rows(int t, int pixels, int64_t batch, int64_t channels, int64_t groups, int64_t area) {
  return group_partial_rows(type(t), {batch, channels, groups, area}, pixels != 0, device);
}
const char* run_group_norm_backward(int t, int pixels, int64_t batch, int64_t channels, int64_t groups,
                                    int64_t area, const void* dy, const void* x, const void* w, int real,
                                    const double* mean, const void* rstd, void* dx, void* dw, void* db,
                                    void* partial) {
  const bool r = real != 0;
  const GroupNormGradient k{{batch, channels, groups, area}, dy, x, {w, r}, mean, rstd, dx, dw, db, r};
  return told(pixels ? group_pixels_backward(type(t), k, partial, device)
                     : group_planes_backward(type(t), k, partial, device));
}
int group_fits(int64_t channels, int64_t groups) { return group_pixels_fit({1, channels, groups, 1}); }

const char* run_response_norm(int t, int pixels, int64_t batch, int64_t channels, int64_t area,
                              int64_t size, double alpha, double beta, double k, const void* x, void* y) {
  return told(response_norm(type(t), {batch, channels, area, pixels != 0},
                            {size / 2, (size - 1) / 2, alpha / static_cast<double>(size), beta, k}, x, y,
                            device));
}
const char* run_response_norm_backward(int t, int pixels, int64_t batch, int64_t channels, int64_t area,
                                       int64_t size, double alpha, double beta, double k, const void* dy,
                                       const void* x, void* dx) {
  return told(response_norm_backward(type(t), {batch, channels, area, pixels != 0},
                                     {size / 2, (size - 1) / 2, alpha / static_cast<double>(size), beta, k},
                                     dy, x, dx, device));
}

const char* run_draw_uniform(int64_t n, int64_t key, int64_t count, int64_t* out) {
  return told(draw_uniform(n, static_cast<uint64_t>(key), count, out, device));
}
const char* run_draw_alias(const uint64_t* table, int64_t n, int64_t key, int64_t count, int64_t* out) {
  return told(draw_alias(table, n, static_cast<uint64_t>(key), count, out, device));
}
const char* run_take_rows(const void* from, int64_t rows, int64_t bytes, const int64_t* index, int64_t count,
                          void* to) {
  return told(take_rows(from, rows, bytes, index, count, to, device));
}
const char* run_resample(const float* taps, int64_t up, int64_t down, int64_t width, int64_t before,
                         const float* x, int64_t signals, int64_t length, int64_t size, float* y) {
  return told(resample({up, down, width, before, taps}, x, signals, length, size, y, device));
}
const char* run_sum_draws(int t, const void* x, int64_t n, int64_t blocks, int64_t replicates,
                          const uint32_t* counts, int squares, double middle, int64_t key, double* partial,
                          double* sums) {
  const Replicates job{type(t), x, n, blocks, replicates, counts, squares != 0, middle};
  return told(sum_draws(job, static_cast<uint64_t>(key), partial, sums, device));
}
int64_t draw_chunks(int64_t n) { return weighed_chunks(n); }
const char* run_sum_exponential(int t, const void* x, int64_t n, int64_t replicates, int64_t key,
                                double* partial, double* sums) {
  return told(
      sum_exponential(type(t), x, n, replicates, static_cast<uint64_t>(key), partial, sums, device));
}

int64_t quotient(int64_t n, int64_t by, int64_t most) { return Quotient(by, most)(n); }

}  // extern "C"
