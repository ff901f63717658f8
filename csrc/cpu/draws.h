// Draws: sums over rows drawn at random, uniform and weighted indices, rows gathered. Included once
// per instruction set.
//
// Sums over draws run on a block of at most 2^13 rows that stays in the first-level cache; how many
// draws a block gets was decided before, exactly (csrc/bindings/samplers.cpp). A block's size is a
// power of two, so 16 random bits make an index without rejection, and a draw costs a load and an add.
#pragma once

#include "cpu/copy.h"
#include "cpu/philox.h"
#include "cpu/vectors.h"

namespace benchbench::BB_ISA {
namespace {  // internal linkage: no symbol of a vector unit is weak

constexpr int64_t BATCH = 16 * GROUP;  // words made at a time: 4 KiB

// Sum of x[index] over `count` indices in the halves of words. Eight float sums take 32 values each
// before they go into a double, so little is lost.
template <class T>
static inline double sum_at(const T* x, const uint32_t* words, int64_t count) {
  double total = 0;
  int64_t word = 0;
  const int64_t pairs = count / 2;
  while (word < pairs) {
    const int64_t end = word + 128 < pairs ? word + 128 : pairs;
    T s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
    for (; word + 4 <= end; word += 4) {
      uint64_t a, b;
      std::memcpy(&a, words + word, 8);
      std::memcpy(&b, words + word + 2, 8);
      s0 += x[a & 0xffff];
      s1 += x[(a >> 16) & 0xffff];
      s2 += x[(a >> 32) & 0xffff];
      s3 += x[a >> 48];
      s4 += x[b & 0xffff];
      s5 += x[(b >> 16) & 0xffff];
      s6 += x[(b >> 32) & 0xffff];
      s7 += x[b >> 48];
    }
    for (; word < end; ++word) {
      s0 += x[words[word] & 0xffff];
      s1 += x[words[word] >> 16];
    }
    total += ((static_cast<double>(s0) + s1) + (static_cast<double>(s2) + s3)) +
             ((static_cast<double>(s4) + s5) + (static_cast<double>(s6) + s7));
  }
  if (count % 2) total += x[words[pairs] & 0xffff];
  return total;
}

// Of squared distances from `middle`; `sum` gets those of the distances themselves.
template <class T>
static inline double squares_at(const T* x, const uint32_t* words, int64_t count, double middle,
                                double& sum) {
  double s[4] = {}, q[4] = {};
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t word = words[i / 2];
    const double d = static_cast<double>(x[i % 2 ? word >> 16 : word & 0xffff]) - middle;
    s[i % 4] += d;
    q[i % 4] += d * d;
  }
  sum += (s[0] + s[1]) + (s[2] + s[3]);
  return (q[0] + q[1]) + (q[2] + q[3]);
}

template <class T>
static void sum_draws(const DrawnSums& job, int64_t count, const RandomStream& stream, double* sum,
                      double* squares) {
  alignas(64) uint32_t words[BATCH];
  const T* x = static_cast<const T*>(job.x);
  const uint32_t half = static_cast<uint32_t>(job.rows - 1), mask = half | half << 16;
  double total = 0, squared = 0;
  uint32_t group = 0;
  while (count > 0) {
    const int64_t now = count < 2 * BATCH ? count : 2 * BATCH;
    const int groups = static_cast<int>((now + 2 * GROUP - 1) / (2 * GROUP));
    random_words(stream, group, groups, mask, words);
    if (squares)
      squared += squares_at(x, words, now, job.middle, total);
    else
      total += sum_at(x, words, now);
    group += static_cast<uint32_t>(groups);
    count -= now;
  }
  *sum += total;
  if (squares) *squares += squared;
}

static void sum_draws_entry(Type type, const DrawnSums& job, int64_t count,
                            const RandomStream& stream, double* sum, double* squares) {
  if (type == Type::f64)
    sum_draws<double>(job, count, stream, sum, squares);
  else
    sum_draws<float>(job, count, stream, sum, squares);
}

// ---- weights of the Bayesian bootstrap ----

// -ln u of the word's upper 24 bits, u = (bits + 1/2) 2^-24: standard exponential, up to 17.3. The
// mantissa is brought to [sqrt 1/2, sqrt 2); ln(1 + f) by Cephes' logf.
static inline F exponential_variate(U word) {
  const F u = (__builtin_convertvector((I)(word >> 8), F) + 0.5f) * 0x1p-24f;
  const U raw = bits<U>(u) + (0x3f800000u - 0x3f3504f3u);
  const F e = __builtin_convertvector((I)(raw >> 23), F) - 127.0f;
  const F f = bits<F>((raw & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const F z = f * f;
  F p = splat<F>(7.0376836292e-2);
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const F tail = p * f * z + e * -2.12194440e-4f - 0.5f * z;
  return -(e * 0.693359375f + (f + tail));
}

// Sum of w x over rows with standard exponential weights w, and the sum of w.
template <class T>
static void sum_exponential(const T* x, int64_t rows, const RandomStream& stream, double* sum,
                            double* weight) {
  alignas(64) uint32_t words[BATCH];
  alignas(64) float weights[BATCH];
  double total = 0, mass = 0;
  uint32_t group = 0;
  for (int64_t at = 0; at < rows; at += BATCH) {
    const int64_t now = rows - at < BATCH ? rows - at : BATCH;
    const int groups = static_cast<int>((now + GROUP - 1) / GROUP);
    random_words(stream, group, groups, ~0u, words);
    group += static_cast<uint32_t>(groups);
    for (int64_t i = 0; i < now; i += LANES) {
      U word;
      std::memcpy(&word, words + i, sizeof word);
      const F w = exponential_variate(word);
      std::memcpy(weights + i, &w, sizeof w);
    }
    using V = typename Element<T>::V;
    V s{}, m{};
    for_vectors<T>(now, [&](int64_t i, auto tag) {
      V w;
      if constexpr (sizeof(T) == sizeof(double))
        w = static_cast<double>(weights[i]);
      else
        w = keep(Element<float>::load(weights + i), tag);
      s += w * load(x + at + i, tag);
      m += w;
    });
    total += sum_lanes(s);
    mass += sum_lanes(m);
  }
  *sum += total;
  *weight += mass;
}

static void sum_exponential_entry(Type type, const void* x, int64_t rows,
                                  const RandomStream& stream, double* sum, double* weight) {
  if (type == Type::f64)
    sum_exponential(static_cast<const double*>(x), rows, stream, sum, weight);
  else
    sum_exponential(static_cast<const float*>(x), rows, stream, sum, weight);
}

// ---- indices ----

// f(word of 64 bits, draw) for `count` draws: the words 0 and 1 of a counter, then its words 2 and 3.
template <class Take>
static inline void for_draws(const RandomStream& stream, int64_t count, Take take) {
  alignas(64) uint32_t words[BATCH];
  uint32_t group = 0;
  for (int64_t at = 0; at < count; at += BATCH / 2) {
    const int64_t now = count - at < BATCH / 2 ? count - at : BATCH / 2;
    const int groups = static_cast<int>((2 * now + GROUP - 1) / GROUP);
    random_words(stream, group, groups, ~0u, words);
    group += static_cast<uint32_t>(groups);
    for (int64_t i = 0; i < now; ++i) {
      const uint32_t* from = words + i / 32 * GROUP + i % 32 / 16 * 32 + i % 16;
      take(from[0] | static_cast<uint64_t>(from[16]) << 32, at + i);
    }
  }
}

// f(places, first draw, draws) for draws below n < 2^32, at most BATCH / 2 at a time. A place is the
// upper 64 of 96 bits of word times n: the index in its upper half, in the lower one a uniform number
// that is left over. The same words as of for_draws(), by vectors. Places go on for AHEAD past the end,
// whatever they are they are below n.
constexpr int64_t AHEAD = 64;  // draws

template <class Take>
static inline void for_places(int64_t n, const RandomStream& stream, int64_t count, Take take) {
  alignas(64) uint32_t words[BATCH];
  alignas(64) uint64_t places[BATCH / 2 + AHEAD] = {};
  const auto factor = static_cast<uint32_t>(n);
  uint32_t group = 0;
  for (int64_t at = 0; at < count; at += BATCH / 2) {
    const int64_t now = count - at < BATCH / 2 ? count - at : BATCH / 2;
    const int groups = static_cast<int>((2 * now + GROUP - 1) / GROUP);
    random_words(stream, group, groups, ~0u, words);
    group += static_cast<uint32_t>(groups);
    for (int half = 0; half < 2 * groups; ++half) {
      const uint32_t *low = words + 32 * half, *high = low + 16;
      uint64_t* to = places + 16 * half;
      for (int lane = 0; lane < 16; ++lane)
        to[lane] = uint64_t{high[lane]} * factor + (uint64_t{low[lane]} * factor >> 32);
    }
    take(places, at, now);
  }
}

static void draw_uniform_entry(int64_t n, const RandomStream& stream, int64_t count, int64_t* out) {
  if (n < int64_t{1} << 32)
    for_places(n, stream, count, [=](const uint64_t* places, int64_t first, int64_t some) {
      for (int64_t i = 0; i < some; ++i) out[first + i] = static_cast<int64_t>(places[i] >> 32);
    });
  else
    for_draws(stream, count, [=](uint64_t word, int64_t i) {
      out[i] = static_cast<int64_t>(
          static_cast<unsigned __int128>(word) * static_cast<uint64_t>(n) >> 64);
    });
}

// The entry that is looked up in AHEAD draws is asked for now, so that as many misses are under way as
// the processor can have.
static void draw_alias_entry(const uint64_t* table, int64_t n, const RandomStream& stream,
                             int64_t count, int64_t* out) {
  for_places(n, stream, count, [=](const uint64_t* places, int64_t first, int64_t some) {
    for (int64_t i = 0; i < AHEAD; ++i) __builtin_prefetch(table + (places[i] >> 32));
    for (int64_t i = 0; i < some; ++i) {
      __builtin_prefetch(table + (places[i + AHEAD] >> 32));
      const uint64_t place = places[i], entry = table[place >> 32];
      const bool stays = static_cast<uint32_t>(place) < static_cast<uint32_t>(entry);
      out[first + i] = static_cast<int64_t>((stays ? place : entry) >> 32);
    }
  });
}

// ---- rows ----

// A row, without a call for a length that the compiler does not know. The last vector of a row
// overlaps the one before.
static inline void copy_row(char* to, const char* from, int64_t bytes) {
  if (bytes < 16) return copy_some<16>(to, from, bytes);
  int64_t at = 0;
  for (; at + 64 <= bytes; at += 64) std::memcpy(to + at, from + at, 64);
  for (; at + 16 <= bytes; at += 16) std::memcpy(to + at, from + at, 16);
  if (at < bytes) std::memcpy(to + bytes - 16, from + bytes - 16, 16);
}

// f(row) for each index, with rows to come asked for about two KiB ahead.
template <class Take>
static inline void for_rows(const char* source, int64_t bytes, const int64_t* index, int64_t count,
                            Take take) {
  constexpr int64_t REACH = 2048, MOST = 32, LINE = 64;
  const int64_t ahead = bytes * MOST <= REACH ? MOST : 1 + REACH / bytes;
  const int64_t touched = bytes < REACH ? bytes : REACH;
  for (int64_t i = 0; i < count; ++i) {
    if (i + ahead < count) {
      const char* later = source + index[i + ahead] * bytes;
      for (int64_t at = 0; at < touched; at += LINE) __builtin_prefetch(later + at);
      __builtin_prefetch(later + touched - 1);
    }
    take(source + index[i] * bytes);
  }
}

// Rows of `bytes` bytes at `index`, one after the other. Streaming stores have to fill whole lines, and
// rows begin and end anywhere: short ones are gathered in the first-level cache and leave it by lines.
static void take_rows_entry(const void* from, int64_t bytes, const int64_t* index, int64_t count,
                            void* to, bool streaming) {
  constexpr int64_t FULL = 8192, LONGEST = 1024, PIECE = 256;
  const char* source = static_cast<const char*>(from);
  char* out = static_cast<char*>(to);
  if (!bytes) return;
  if (!streaming) {
    for_rows(source, bytes, index, count, [&](const char* row) {
      copy_row(out, row, bytes);
      out += bytes;
    });
    return;
  }
  if (bytes > LONGEST) {
    for_rows(source, bytes, index, count, [&](const char* row) {
      copy_floats<true>(row, out, bytes);
      out += bytes;
    });
    return end_of_streaming();
  }
  alignas(64) char held[FULL + LONGEST];
  int64_t filled = 0;
  for_rows(source, bytes, index, count, [&](const char* row) {
    copy_row(held + filled, row, bytes);
    filled += bytes;
    if (filled < FULL) return;
    const int64_t over = static_cast<int64_t>((reinterpret_cast<uintptr_t>(out) +
                                               static_cast<uintptr_t>(filled)) % PIECE);
    copy_floats<true>(held, out, filled - over);
    out += filled - over;
    std::memcpy(held, held + filled - over, static_cast<size_t>(over));
    filled = over;
  });
  copy_floats<true>(held, out, filled);
  end_of_streaming();
}

}  // namespace
}  // namespace benchbench::BB_ISA
