// The executor for programs that load it as a library (the tests do, through ctypes): its options, and
// guarded memory for the arrays of a kernel.
#include "host_executor/executor.h"
#include "host_executor/guarded.h"

using namespace benchbench::host_executor;

extern "C" {

void executor_options(std::uint64_t seed, unsigned resident, int round_robin) {
  options().seed = seed;
  options().resident = resident;
  options().round_robin = round_robin != 0;
}

std::uint64_t executor_launches() { return launches(); }

// "name blocks rows-of-blocks threads cluster cooperative" of a kernel that was started.
const char* executor_launched(unsigned back) {
  static std::string text;
  text = launched(back);
  return text.c_str();
}

void* executor_allocate(std::size_t bytes, int flush_with_end) {
  return new Guarded(bytes, flush_with_end != 0);
}
void* executor_address(void* memory) { return static_cast<Guarded*>(memory)->data(); }
void executor_free(void* memory) { delete static_cast<Guarded*>(memory); }

}  // extern "C"
