// Run a CUDA kernel on the CPU, from the source that nvcc compiles: one fibre for each CUDA thread.
//
//   grid ── clusters ── blocks ── warps ── threads (fibres)
//            └ a few clusters are resident at a time (all, in a cooperative launch)
//
// A thread runs until it waits (barrier, shuffle, spin) or is taken off at an atomic; the scheduler
// then picks what runs next by a seeded generator. It is *warp-greedy*: a warp that was picked runs on
// as long as any of its lanes can, so one warp gets as far ahead of the others as the barriers allow,
// which is where a missing barrier shows. Lanes run in a random order too.
//
// What it finds: results that depend on the schedule (shared memory starts as NaNs, so what is read
// before it is written is seen), barriers that not all threads reach, shuffles by lanes that their
// mask does not name, waits that never end, vector accesses that are misaligned, and addresses out of
// bounds: shared memory and the arrays of guarded.h end at pages that nobody may touch, and a fault
// of the processor becomes an error with the kernel's name and thread. What it cannot: weak memory
// order, fences that are missing, speed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace benchbench::host_executor {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  std::size_t count() const { return std::size_t(x) * y * z; }
};

struct Shape {
  Dim3 grid, block;
  std::size_t shared = 0;  // bytes a block
  unsigned cluster = 1;    // blocks a cluster, along x
  bool cooperative = false;
};

// Of the next launches; state of the process, as a device's would be.
struct Options {
  std::uint64_t seed = 0;
  unsigned resident = 4;    // clusters at a time
  bool round_robin = false;  // the schedule that finds little, for comparison
};
Options& options();
std::uint64_t& launches();  // kernels and memsets so far
// What the kernel `back` launches before the last one was started with; the last few are known.
std::string launched(unsigned back);

// Run `kernel` for every thread of the grid. Returns what went wrong, or an empty string.
std::string run(const char* name, const Shape& shape, const std::function<void()>& kernel);

// ---- for the code of a thread; `what` names the call, `line` and `file` its place ----

struct Site {
  const char* what;
  const char* file;
  int line;
};

Dim3 thread_index();
Dim3 block_index();
Dim3 block_size();
Dim3 grid_size();
unsigned cluster_rank();
unsigned cluster_size();

char* shared_memory();
// The same place in the shared memory of another block of the cluster.
char* shared_memory_of(void* mine, unsigned rank);

void block_barrier(Site site);
void cluster_barrier(Site site);
void grid_barrier(Site site);
// Barrier `id` (1 to 15) of `threads` of the block.
void named_barrier(int id, unsigned threads, Site site);

// All lanes of `mask` give a value; returns where those of all 32 lie until the lane's next exchange.
const std::uint64_t* exchange(unsigned mask, std::uint64_t value, Site site);
unsigned lane();

void maybe_yield();  // a place where other threads may come in between
void spin();         // this thread can only go on when another one does something
[[noreturn]] void fail(const std::string& why);

}  // namespace benchbench::host_executor
