// The table of one instruction set's kernels; the last thing that a unit of csrc/cpu/isa/ includes.
#pragma once

#include "cpu/copy.h"
#include "cpu/curves.h"
#include "cpu/draws.h"
#include "cpu/group_norm.h"
#include "cpu/pixel_norm.h"
#include "cpu/polyphase.h"
#include "cpu/response_norm.h"
#include "cpu/row_norm.h"
#include "cpu/softmax.h"

namespace benchbench::BB_ISA {

extern const Kernels table;
const Kernels table = {
    BB_ISA_NAME,
    sum_draws_entry,
    sum_exponential_entry,
    draw_uniform_entry,
    draw_alias_entry,
    take_rows_entry,
    resample_entry,
    unary_entry,
    unary_backward_entry,
    bias_entry,
    bias_backward_entry,
    gated_entry,
    gated_backward_entry,
    softmax_entry,
    softmax_backward_entry,
    curve_entry,
    curve_backward_entry,
    slope_backward_entry,
    slope_rows_entry,
    slope_rows_backward_entry,
    row_norm_entry,
    row_norm_backward_entry,
    plane_norm_entry,
    plane_norm_backward_entry,
    pixel_order_entry,
    pixel_moments_entry,
    pixel_apply_entry,
    pixel_sums_entry,
    pixel_gradient_entry,
    group_norm_entry,
    group_norm_backward_entry,
    response_norm_entry,
    response_norm_backward_entry,
    copy_entry,
};

}  // namespace benchbench::BB_ISA
