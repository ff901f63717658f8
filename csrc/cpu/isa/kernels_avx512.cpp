// The kernels for avx512: see csrc/cpu/table.h.
#if defined(__x86_64__)
// Standard headers come before the target is set: inline functions in them must stay baseline code,
// since the linker keeps one copy for all units.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's intrinsics pass a deliberately undefined register and warn about it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define BB_ISA avx512
#define BB_ISA_NAME "avx512"
#define BB_LANES 16
#include "cpu/table.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
