// Counter-based random numbers, one at a time: what samplers need beside their vector kernels.
//
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, as easy as 1, 2, 3; SC 2011)
// turns a key and a counter into four words, so a draw depends on where it stands in its stream and
// on nothing else: neither on the number of threads nor on the instruction set.
//
// Words of a stream lie in groups of 64, made from 16 counters: word j of all 16, then word j + 1.
// csrc/cpu/philox.h makes the same groups by vectors.
#pragma once

#include <cmath>
#include <cstdint>

namespace benchbench {

// A stream of up to 2^34 words. What draws independently has another stream: `part` and `item` are
// free for the user (a chunk of the output, a replicate), `use` tells calls apart.
struct RandomStream {
  uint64_t key;
  uint32_t part, item, use;
};

constexpr int64_t GROUP = 64;  // words

namespace random_detail {

constexpr void round(uint32_t c[4], uint32_t k0, uint32_t k1) {
  const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
  const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
                            static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
  for (int i = 0; i < 4; ++i) c[i] = next[i];
}

}  // namespace random_detail

// The four words of one counter; `words` holds the counter before and the words after. CUDA kernels call
// it too, which nvcc allows of constant expressions.
constexpr void philox(uint64_t key, uint32_t words[4]) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int i = 0; i < 10; ++i) {
    random_detail::round(words, k0, k1);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// One number after the other from a stream.
class Sequence {
 public:
  explicit Sequence(const RandomStream& stream) : stream_(stream) {}

  uint32_t word() {
    if (left_ == 0) {
      words_[0] = position_++;
      words_[1] = stream_.part;
      words_[2] = stream_.item;
      words_[3] = stream_.use;
      philox(stream_.key, words_);
      left_ = 4;
    }
    return words_[4 - left_--];
  }

  uint64_t word64() {
    const uint64_t low = word();
    return low | static_cast<uint64_t>(word()) << 32;
  }

  // In (0, 1), a multiple of 2^-53 and a half.
  double uniform() { return (static_cast<double>(word64() >> 11) + 0.5) * 0x1p-53; }

  // Below n, all alike but for 2^-64 n.
  uint64_t below(uint64_t n) {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(word64()) * n >> 64);
  }

 private:
  RandomStream stream_;
  uint32_t words_[4] = {};
  uint32_t position_ = 0;
  int left_ = 0;
};

namespace random_detail {

// ln(k!) - ((k + 1/2) ln(k + 1) - (k + 1) + ln(2 pi) / 2), Stirling's error.
inline double stirling_error(double k) {
  static constexpr double table[] = {0.08106146679532726, 0.04134069595540929, 0.02767792568499834,
                                     0.02079067210376509, 0.01664469118982119, 0.01387612882307075,
                                     0.01189670994589177, 0.01041126526197209, 0.009255462182712733,
                                     0.008330563433362871};
  if (k < 10) return table[static_cast<int>(k)];
  const double inverse = 1.0 / (k + 1), square = inverse * inverse;
  return (1.0 / 12 - (1.0 / 360 - square / 1260) * square) * inverse;
}

// p <= 1/2 and n p >= 10: transformed rejection (Hoermann: The generation of binomial random
// variates, J. Stat. Comput. Simul. 46, 1993; algorithm BTRS).
inline int64_t binomial_by_rejection(Sequence& random, double n, double p) {
  const double q = 1 - p, spread = std::sqrt(n * p * q);
  const double b = 1.15 + 2.53 * spread, a = -0.0873 + 0.0248 * b + 0.01 * p, c = n * p + 0.5;
  const double inner = 0.92 - 4.2 / b, ratio = p / q, alpha = (2.83 + 5.1 / b) * spread;
  const double m = std::floor((n + 1) * p);
  for (;;) {
    const double u = random.uniform() - 0.5, v = random.uniform(), us = 0.5 - std::fabs(u);
    const double k = std::floor((2 * a / us + b) * u + c);
    if (us >= 0.07 && v <= inner) return static_cast<int64_t>(k);
    if (k < 0 || k > n) continue;
    const double bound = (m + 0.5) * std::log((m + 1) / (ratio * (n - m + 1))) +
                         (n + 1) * std::log((n - m + 1) / (n - k + 1)) +
                         (k + 0.5) * std::log(ratio * (n - k + 1) / (k + 1)) + stirling_error(m) +
                         stirling_error(n - m) - stirling_error(k) - stirling_error(n - k);
    if (std::log(v * alpha / (a / (us * us) + b)) <= bound) return static_cast<int64_t>(k);
  }
}

// n p < 10: distances between successes are geometric (Devroye: Non-uniform random variate
// generation, X.4.3).
inline int64_t binomial_by_waiting(Sequence& random, double n, double p) {
  const double scale = 1.0 / std::log1p(-p);
  double at = 0;
  for (int64_t k = 0;; ++k) {
    at += std::floor(std::log(random.uniform()) * scale) + 1;
    if (at > n) return k;
  }
}

}  // namespace random_detail

// How many of n independent trials succeed, each with probability p.
inline int64_t binomial(Sequence& random, int64_t n, double p) {
  if (n <= 0 || p <= 0) return 0;
  if (p >= 1) return n;
  if (p > 0.5) return n - binomial(random, n, 1 - p);
  const double count = static_cast<double>(n);
  return count * p < 10 ? random_detail::binomial_by_waiting(random, count, p)
                        : random_detail::binomial_by_rejection(random, count, p);
}

// Poisson with a mean of at least 10 by transformed rejection (Hoermann: The transformed rejection
// method for generating Poisson random variables, Insurance: Math. Econ. 12, 1993; PTRS), else by
// multiplying uniform numbers (Knuth).
inline int64_t poisson(Sequence& random, double mean) {
  if (mean <= 0) return 0;
  if (mean < 10) {
    const double least = std::exp(-mean);
    double product = random.uniform();
    int64_t k = 0;
    for (; product > least; ++k) product *= random.uniform();
    return k;
  }
  const double b = 0.931 + 2.53 * std::sqrt(mean), a = -0.059 + 0.02483 * b;
  const double inner = 0.9277 - 3.6224 / (b - 2), inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
  for (;;) {
    const double u = random.uniform() - 0.5, v = random.uniform(), us = 0.5 - std::fabs(u);
    const double k = std::floor((2 * a / us + b) * u + mean + 0.43);
    if (us >= 0.07 && v <= inner) return static_cast<int64_t>(k);
    if (k < 0 || (us < 0.013 && v > us)) continue;
    const double log_factorial = (k + 0.5) * std::log(k + 1) - (k + 1) + 0.9189385332046727418 +
                                 random_detail::stirling_error(k);
    if (std::log(v * inverse_alpha / (a / (us * us) + b)) <= k * std::log(mean) - mean - log_factorial)
      return static_cast<int64_t>(k);
  }
}

}  // namespace benchbench
