// Alias tables (Walker; Vose): a weighted draw by one look-up, whatever the weights.
//
// Column i of n holds category i with a share and one other category with the rest. An entry is the
// share in units of 2^-32 in the low half, the other category in the high half. Built by sweeping two
// indices over the weights, one over those below the average and one over those above (Huebschle-
// Schneider, Sanders: Parallel weighted random sampling, ESA 2019, section 4.1): memory is read in
// order and nothing is kept beside the table.
#pragma once

#include <cstdint>

namespace benchbench {

// `total` is the weights' sum, positive and finite; n is at least 1 and below 2^32.
template <class T>
void build_alias(const T* weights, int64_t n, double total, uint64_t* table) {
  const double scale = static_cast<double>(n) / total;
  const auto weight = [=](int64_t i) { return static_cast<double>(weights[i]) * scale; };
  const auto entry = [](double share, int64_t other) {
    const double units = share * 0x1p32;
    const uint64_t low = units >= 0x1p32 - 1 ? 0xffffffffu : static_cast<uint64_t>(units);
    return low | static_cast<uint64_t>(other) << 32;
  };
  int64_t light = 0, heavy = 0;
  while (light < n && weight(light) > 1) ++light;
  while (heavy < n && weight(heavy) <= 1) ++heavy;
  double left = heavy < n ? weight(heavy) : 0;  // of the heavy category, to be spread
  while (heavy < n) {
    if (left > 1) {
      if (light >= n) break;
      const double own = weight(light);
      table[light] = entry(own, heavy);
      left -= 1 - own;
      do ++light;
      while (light < n && weight(light) > 1);
    } else {
      const int64_t full = heavy;
      do ++heavy;
      while (heavy < n && weight(heavy) <= 1);
      if (heavy >= n) {
        heavy = full;
        break;
      }
      table[full] = entry(left, heavy);
      left += weight(heavy) - 1;
    }
  }
  // What is left over is full but for rounding.
  for (; light < n; ++light)
    if (weight(light) <= 1) table[light] = entry(1, light);
  for (; heavy < n; ++heavy)
    if (weight(heavy) > 1) table[heavy] = entry(1, heavy);
}

}  // namespace benchbench
