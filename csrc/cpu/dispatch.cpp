// Chooses the instruction set at run time: the best one that this processor has.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#endif

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

// Bytes of the caches; 1 and 32 MiB where unknown. From sysfs, since sysconf() repeats what the processor
// says and in a virtual machine that is the cache of a whole socket.
struct Caches {
  int64_t second = int64_t{1} << 20, last = 0;

  Caches() {
    for (int index = 0; index < 8; ++index) {
      long level = 0, size = 0;
      char unit = 0;
      if (read(index, "level", &level, &unit) < 1) break;
      if (read(index, "size", &size, &unit) < 2) continue;
      const int64_t bytes = int64_t{size} << (unit == 'M' ? 20 : unit == 'K' ? 10 : 0);
      if (level == 2) second = bytes;
      last = bytes > last ? bytes : last;
    }
    if (last == 0) last = int64_t{32} << 20;
  }

  static int read(int index, const char* name, long* number, char* unit) {
    char path[80];
    std::snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    std::FILE* file = std::fopen(path, "r");
    if (!file) return 0;
    const int found = std::fscanf(file, "%ld%c", number, unit);
    std::fclose(file);
    return found;
  }
};

const Caches& caches() {
  static const Caches found;
  return found;
}

// Processors that this process may use.
int64_t processors() {
#if defined(__linux__)
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) return CPU_COUNT(&mask);
#endif
  const long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count > 0 ? count : 1;
}

// What of the last-level cache a process can count on. In many virtual machines sysfs, too, names the
// cache of a whole socket, of which two of its processors get what the others leave; few have more
// than 16 MiB for a core. (Two processors of a Xeon whose sysfs says 480 MiB: copying 64 MiB by
// streaming stores takes 0.6 of the time of plain ones, and less than theirs from 4 MiB on.)
int64_t share_of_cache() {
  constexpr int64_t MOST = int64_t{16} << 20;
  const int64_t all = caches().last, most = MOST * processors();
  return all < most ? all : most;
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> current{first_choice()};
  return current;
}

std::atomic<int64_t>& threshold() {
  static std::atomic<int64_t> bytes{share_of_cache()};
  return bytes;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

int64_t second_level_cache() { return caches().second; }

bool beyond_cache(int64_t bytes) { return bytes >= threshold().load(std::memory_order_relaxed); }

int64_t stream_from(int64_t bytes) {
  return threshold().exchange(bytes < 0 ? share_of_cache() : bytes);
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
