// The kernels for base: see csrc/cpu/table.h.
// Standard headers come before the target is set: inline functions in them must stay baseline code,
// since the linker keeps one copy for all units.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define BB_ISA base
#define BB_ISA_NAME "base"
#define BB_LANES 4
#include "cpu/table.h"
