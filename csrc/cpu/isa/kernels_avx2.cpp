// The kernels for avx2: see csrc/cpu/table.h.
#if defined(__x86_64__)
// Standard headers come before the target is set: inline functions in them must stay baseline code,
// since the linker keeps one copy for all units.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define BB_ISA avx2
#define BB_ISA_NAME "avx2"
#define BB_LANES 8
#include "cpu/table.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
