// Chooses the instruction set at run time: the best one that this processor has.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu/kernels.h"

namespace benchbench {

namespace base {
extern const Kernels table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#endif

namespace {

struct Candidate {
  const Kernels* table;
  bool supported;
};

// Best first.
int candidates(Candidate* found) {
  int count = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  found[count++] = {&avx512::table, wide};
  found[count++] = {&avx2::table,
                    __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c")};
#endif
  found[count++] = {&base::table, true};
  return count;
}

const Kernels* find(const char* name) {
  Candidate list[3];
  const int count = candidates(list);
  for (int i = 0; i < count; ++i)
    if (list[i].supported && (!name || !std::strcmp(name, list[i].table->name)))
      return list[i].table;
  return nullptr;
}

const Kernels* first_choice() {
  const char* wanted = std::getenv("BENCHBENCH_ISA");
  const Kernels* found = wanted ? find(wanted) : nullptr;
  return found ? found : find(nullptr);
}

// Bytes. From sysfs, since sysconf() repeats what the processor says and in a virtual machine that is
// the cache of a whole socket.
int64_t last_level_cache() {
  int64_t found = 0;
  for (int index = 0; index < 8; ++index) {
    char path[64], unit = 0;
    long size = 0;
    std::snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
    std::FILE* file = std::fopen(path, "r");
    if (!file) break;
    if (std::fscanf(file, "%ld%c", &size, &unit) == 2) {
      const int64_t bytes = int64_t{size} << (unit == 'M' ? 20 : unit == 'K' ? 10 : 0);
      found = bytes > found ? bytes : found;
    }
    std::fclose(file);
  }
  return found > 0 ? found : int64_t{32} << 20;
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> current{first_choice()};
  return current;
}

std::atomic<int64_t>& threshold() {
  static std::atomic<int64_t> bytes{last_level_cache()};
  return bytes;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

bool beyond_cache(int64_t bytes) { return bytes >= threshold().load(std::memory_order_relaxed); }

int64_t stream_from(int64_t bytes) {
  return threshold().exchange(bytes < 0 ? last_level_cache() : bytes);
}

bool choose(const char* name) {
  const Kernels* found = find(name);
  if (found) chosen().store(found, std::memory_order_relaxed);
  return found != nullptr;
}

int available(const char** names, int limit) {
  Candidate list[3];
  const int count = candidates(list);
  int given = 0;
  for (int i = 0; i < count && given < limit; ++i)
    if (list[i].supported) names[given++] = list[i].table->name;
  return given;
}

}  // namespace benchbench
