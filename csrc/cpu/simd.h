// One vector type for all instruction sets.
//
// Included once per instruction set by a unit of csrc/cpu/isa/, which has set the target by a pragma
// and defined BB_ISA (the namespace) and BB_LANES (floats in a register: 4 for SSE2 and NEON, 8 for
// AVX2, 16 for AVX-512). The vectors are those of the compiler (GCC and Clang): arithmetic,
// comparison and selection are operators, and a multiply that feeds an add is contracted to a fused
// one where the target has it. Intrinsics stand only where the compiler's own code is poor (narrowing
// to 16 bits) or where there is no operator (masks, streaming stores, min and max).
//
// No standard containers here: their weak symbols, compiled for a newer processor and kept by the
// linker, would crash an older one.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int LANES = BB_LANES;

typedef float F __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));
typedef uint16_t H __attribute__((vector_size(2 * LANES)));  // LANES values of a 16-bit type
typedef float F4 __attribute__((vector_size(16)));
typedef double D __attribute__((vector_size(4 * LANES)));  // half as many doubles
typedef uint64_t W __attribute__((vector_size(4 * LANES)));

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

template <class To, class From>
static inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// A vector with the same value in every lane; for double, which runs one value at a time, itself.
template <class V>
static inline V splat(double value) {
  if constexpr (sizeof(V) == sizeof(double))
    return static_cast<V>(value);
  else
    return V{} + static_cast<float>(value);
}

alignas(64) constexpr int32_t LANE_NUMBERS[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// True (all ones) in the first `count` lanes.
static inline I first_lanes(int64_t count) {
  I lane;
  std::memcpy(&lane, LANE_NUMBERS, sizeof lane);
  return lane < (I{} + static_cast<int32_t>(count));
}

// The first `count` lanes of v, the others `rest`.
static inline F keep(F v, int64_t count, float rest = 0.0f) {
  return count == LANES ? v : (first_lanes(count) ? v : F{} + rest);
}
static inline double keep(double v, int64_t, double = 0.0) { return v; }

// Less than a vector, in pieces of fixed size: a memcpy of unknown length is a call.
template <int MOST>
static inline void copy_some(void* to, const void* from, int64_t bytes) {
  if constexpr (MOST >= 2) {
    constexpr int piece = MOST / 2;
    if (bytes & piece) {
      std::memcpy(to, from, piece);
      to = static_cast<char*>(to) + piece;
      from = static_cast<const char*>(from) + piece;
    }
    copy_some<piece>(to, from, bytes);
  }
}

// Adding it to a float of at most 2^22 rounds to an integer, which then stands in the low bits.
constexpr float ROUNDS = 12582912.0f;

// ---- what differs between instruction sets ----
// minimum and maximum give their second argument when either is a nan. whole(y, power) rounds y to an
// integer n, after which times(v, power) is v 2^n.

#if BB_LANES == 16
static inline F minimum(F a, F b) { return _mm512_min_ps(a, b); }
static inline F maximum(F a, F b) { return _mm512_max_ps(a, b); }
static inline F square_root(F v) { return _mm512_sqrt_ps(v); }
static inline F load_some(const float* p, int64_t count) {
  return _mm512_maskz_loadu_ps(_cvtu32_mask16((1u << count) - 1u), p);
}
static inline void store_some(float* p, F v, int64_t count) {
  _mm512_mask_storeu_ps(p, _cvtu32_mask16((1u << count) - 1u), v);
}
static inline H load_some(const uint16_t* p, int64_t count) {
  return (H)_mm256_maskz_loadu_epi16(_cvtu32_mask16((1u << count) - 1u), p);
}
static inline void store_some(uint16_t* p, H h, int64_t count) {
  _mm256_mask_storeu_epi16(p, _cvtu32_mask16((1u << count) - 1u), (__m256i)h);
}
static inline void stream(float* p, F v) { _mm512_stream_ps(p, v); }
static inline void stream(uint16_t* p, H h) { _mm256_stream_si256((__m256i*)p, (__m256i)h); }
static inline U widen(H h) { return (U)_mm512_cvtepu16_epi32((__m256i)h); }
static inline H narrow(U u) { return (H)_mm512_cvtepi32_epi16((__m512i)u); }
static inline F half_to_float(H h) { return _mm512_cvtph_ps((__m256i)h); }
static inline H float_to_half(F v) {
  return (H)_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
struct Power {
  F n;
};
static inline F whole(F y, Power& power) { return power.n = _mm512_roundscale_ps(y, 8); }
static inline F times(F v, Power power) { return _mm512_scalef_ps(v, power.n); }
static inline D low_half(F v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
static inline D high_half(F v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }
static inline F joined(D low, D high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
template <class Fold>
static inline F4 fold(F v, Fold f) {
  return f(f(_mm512_extractf32x4_ps(v, 0), _mm512_extractf32x4_ps(v, 1)),
           f(_mm512_extractf32x4_ps(v, 2), _mm512_extractf32x4_ps(v, 3)));
}
#elif BB_LANES == 8
static inline F minimum(F a, F b) { return _mm256_min_ps(a, b); }
static inline F maximum(F a, F b) { return _mm256_max_ps(a, b); }
static inline F square_root(F v) { return _mm256_sqrt_ps(v); }
static inline F load_some(const float* p, int64_t count) {
  return _mm256_maskload_ps(p, (__m256i)first_lanes(count));
}
static inline void store_some(float* p, F v, int64_t count) {
  _mm256_maskstore_ps(p, (__m256i)first_lanes(count), v);
}
static inline void stream(float* p, F v) { _mm256_stream_ps(p, v); }
static inline void stream(uint16_t* p, H h) { _mm_stream_si128((__m128i*)p, (__m128i)h); }
static inline U widen(H h) { return (U)_mm256_cvtepu16_epi32((__m128i)h); }
static inline H narrow(U u) {
  // The packing works in each half of the register, so its quarters come out as 0 1 0 1.
  const __m256i packed = _mm256_packus_epi32((__m256i)u, (__m256i)u);
  return (H)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}
static inline F half_to_float(H h) { return _mm256_cvtph_ps((__m128i)h); }
static inline H float_to_half(F v) { return (H)_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
static inline D low_half(F v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
static inline D high_half(F v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }
static inline F joined(D low, D high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high), 1);
}
template <class Fold>
static inline F4 fold(F v, Fold f) {
  return f(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
}
#else
#if defined(__x86_64__)
static inline F minimum(F a, F b) { return _mm_min_ps(a, b); }
static inline F maximum(F a, F b) { return _mm_max_ps(a, b); }
static inline F square_root(F v) { return _mm_sqrt_ps(v); }
static inline void stream(float* p, F v) { _mm_stream_ps(p, v); }
static inline void stream(uint16_t* p, H h) { _mm_stream_si64((long long*)p, bits<long long>(h)); }
static inline D low_half(F v) { return _mm_cvtps_pd(v); }
static inline D high_half(F v) { return _mm_cvtps_pd(_mm_movehl_ps(v, v)); }
static inline F joined(D low, D high) { return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high)); }
#else
static inline F minimum(F a, F b) { return a < b ? a : b; }
static inline F maximum(F a, F b) { return a > b ? a : b; }
static inline F square_root(F v) {
  for (int i = 0; i < LANES; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}
static inline void stream(float* p, F v) { std::memcpy(p, &v, sizeof v); }
static inline void stream(uint16_t* p, H h) { std::memcpy(p, &h, sizeof h); }
static inline D low_half(F v) { return D{v[0], v[1]}; }
static inline D high_half(F v) { return D{v[2], v[3]}; }
static inline F joined(D low, D high) {
  return __builtin_convertvector(__builtin_shufflevector(low, high, 0, 1, 2, 3), F);
}
#endif
static inline U widen(H h) { return __builtin_convertvector(h, U); }
static inline H narrow(U u) { return __builtin_convertvector(u, H); }
// float16 by integer arithmetic, as SSE2 has nothing for it.
static inline F half_to_float(H h) {
  const U u = widen(h);
  const F scaled = bits<F>((u & 0x7fffu) << 13) * 0x1p112f;  // exact, for subnormals too
  const U magnitude = (u & 0x7c00u) == 0x7c00u ? bits<U>(scaled) | 0x7f800000u : bits<U>(scaled);
  return bits<F>(magnitude | (u & 0x8000u) << 16);
}
static inline H float_to_half(F v) {
  const U u = bits<U>(v), a = u & 0x7fffffffu;
  const U normal = (a + 0xfffu + ((a >> 13) & 1u) - (112u << 23)) >> 13;
  const U small = bits<U>(bits<F>(a) + 0.5f) - 0x3f000000u;  // 0.5 has float16's least step
  U h = a < 0x38800000u ? small : normal;
  h = a > 0x477fefffu ? U{} + 0x7c00u : h;
  h = a > 0x7f800000u ? U{} + 0x7e00u : h;
  return narrow(h | (u >> 16 & 0x8000u));
}
template <class Fold>
static inline F4 fold(F v, Fold) {
  return v;
}
#endif

#if BB_LANES < 16
static inline H load_some(const uint16_t* p, int64_t count) {
  H h{};
  copy_some<sizeof h>(&h, p, 2 * count);
  return h;
}
static inline void store_some(uint16_t* p, H h, int64_t count) { copy_some<sizeof h>(p, &h, 2 * count); }
// For -158 <= n <= 94. Two factors, so that subnormal results come out by rounding: 2^(n + 32), put
// together from the integer that rounding leaves in the low bits, and 2^-32.
struct Power {
  F factor;
};
static inline F whole(F y, Power& power) {
  const F shifted = y + ROUNDS;
  power.factor = bits<F>((bits<U>(shifted) + (127u + 32u)) << 23);
  return shifted - ROUNDS;
}
static inline F times(F v, Power power) { return v * power.factor * 0x1p-32f; }
#endif
#if BB_LANES == 4
static inline F load_some(const float* p, int64_t count) {
  F v{};
  copy_some<sizeof v>(&v, p, 4 * count);
  return v;
}
static inline void store_some(float* p, F v, int64_t count) { copy_some<sizeof v>(p, &v, 4 * count); }
#endif

// After the last of a range's streaming stores: what other threads see next must come after them.
static inline void end_of_streaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// ---- element types ----
// What a kernel needs to know of one: the type that it computes in, and how to load and store a whole
// vector or the first `count` < WIDTH lanes of one (the others read as zero). stream() writes past the
// caches and needs p aligned to the vector in memory.

template <class T>
struct Element;

template <>
struct Element<float> {
  using V = F;
  using Sum = float;
  static constexpr int WIDTH = LANES;
  static inline V load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static inline V load(const float* p, int64_t count) { return load_some(p, count); }
  static inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
  static inline void store(float* p, V v, int64_t count) { store_some(p, v, count); }
  static inline void stream(float* p, V v) { BB_ISA::stream(p, v); }
};

static inline F to_float(bf16, H h) { return bits<F>(widen(h) << 16); }
static inline F to_float(f16, H h) { return half_to_float(h); }
// Round to nearest, ties to even; a nan stays one whatever its low bits.
static inline H from_float(bf16, F v) {
  const U u = bits<U>(v);
  const U rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return narrow(v == v ? rounded : (u >> 16) | 0x40u);
}
static inline H from_float(f16, F v) { return float_to_half(v); }

template <class T>
struct Sixteen {
  using V = F;
  using Sum = float;
  static constexpr int WIDTH = LANES;
  static inline V load(const T* p) {
    H h;
    std::memcpy(&h, p, sizeof h);
    return to_float(T{}, h);
  }
  static inline V load(const T* p, int64_t count) { return to_float(T{}, load_some(&p->bits, count)); }
  static inline void store(T* p, V v) {
    const H h = from_float(T{}, v);
    std::memcpy(p, &h, sizeof h);
  }
  static inline void store(T* p, V v, int64_t count) { store_some(&p->bits, from_float(T{}, v), count); }
  static inline void stream(T* p, V v) { BB_ISA::stream(&p->bits, from_float(T{}, v)); }
};

template <>
struct Element<bf16> : Sixteen<bf16> {};
template <>
struct Element<f16> : Sixteen<f16> {};

// float64 is for gradient checks: one value at a time.
template <>
struct Element<double> {
  using V = double;
  using Sum = double;
  static constexpr int WIDTH = 1;
  static inline V load(const double* p) { return *p; }
  static inline V load(const double* p, int64_t) { return *p; }
  static inline void store(double* p, V v) { *p = v; }
  static inline void store(double* p, V v, int64_t) { *p = v; }
  static inline void stream(double* p, V v) { *p = v; }
};

// A vector of which `count` lanes count; all of them is the usual case.
template <class T>
static inline typename Element<T>::V load(const T* p, int64_t count) {
  return count == Element<T>::WIDTH ? Element<T>::load(p) : Element<T>::load(p, count);
}

template <class T>
static inline void store(T* p, typename Element<T>::V v, int64_t count) {
  if (count == Element<T>::WIDTH)
    Element<T>::store(p, v);
  else
    Element<T>::store(p, v, count);
}

// ---- across lanes and signs ----

static inline double minimum(double a, double b) { return a < b ? a : b; }
static inline double maximum(double a, double b) { return a > b ? a : b; }
static inline double square_root(double v) { return std::sqrt(v); }

static inline float sum_lanes(F v) {
  const F4 q = fold(v, [](F4 a, F4 b) { return a + b; });
  return (q[0] + q[2]) + (q[1] + q[3]);
}
static inline double sum_lanes(double v) { return v; }

static inline float max_lanes(F v) {
  const F4 q = fold(v, [](F4 a, F4 b) { return a > b ? a : b; });
  const float a = q[0] > q[2] ? q[0] : q[2], b = q[1] > q[3] ? q[1] : q[3];
  return a > b ? a : b;
}
static inline double max_lanes(double v) { return v; }

static inline F absolute(F x) { return bits<F>(bits<U>(x) & 0x7fffffffu); }
static inline double absolute(double x) { return std::fabs(x); }

static inline F copy_sign(F magnitude, F sign) {
  return bits<F>((bits<U>(magnitude) & 0x7fffffffu) | (bits<U>(sign) & 0x80000000u));
}
static inline double copy_sign(double magnitude, double sign) { return std::copysign(magnitude, sign); }

}  // namespace
}  // namespace benchbench::BB_ISA
