// The kernels for base: see csrc/cpu/table.h.
// Standard headers come before the target is set: inline functions in them must stay baseline code,
// since the linker keeps one copy for all units.
#include <cmath>
#include <cstdint>
#include <cstring>

#define BB_ISA base
#define BB_ISA_NAME "base"
#define BB_LANES 4
#include "cpu/table.h"
