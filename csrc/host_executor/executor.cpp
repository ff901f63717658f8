#include "host_executor/executor.h"

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "host_executor/fibre.h"
#include "host_executor/guarded.h"

namespace benchbench::host_executor {
namespace {

constexpr unsigned WARP = 32;
constexpr std::uint64_t SPINS = 2000000;  // without any other progress: it will never end
constexpr std::size_t LINE = 128;         // alignment of shared memory, bytes

struct Generator {  // splitmix64 (Steele, Lea & Flood 2014)
  std::uint64_t state;
  std::uint64_t next() {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  unsigned below(unsigned n) { return static_cast<unsigned>((next() >> 32) * n >> 32); }
};

struct Warp;
struct Block;

struct Thread {
  Fibre fibre;
  Warp* warp = nullptr;
  Dim3 index;
  unsigned lane = 0;
  bool done = false, spun = false;
  Site waits{};  // what == nullptr: it can run
};

// One exchange in flight among the lanes of a mask. Two sets of slots in turn: a lane can be at most
// one exchange ahead of one that still reads.
struct Exchange {
  unsigned mask = 0, arrived = 0, turn = 0;
  Site site{};
  std::uint64_t slots[2][WARP] = {};
};

struct Warp {
  Block* block = nullptr;
  std::vector<Thread*> threads;
  unsigned runnable = 0;  // a bit for each lane
  std::deque<Exchange> exchanges;
};

struct Barrier {
  std::vector<Thread*> waiting;
};

struct Cluster;

struct Block {
  Cluster* cluster = nullptr;
  Dim3 index;
  unsigned rank = 0, live = 0;
  std::vector<Warp> warps;
  std::vector<Thread*> threads;
  std::unique_ptr<Guarded> memory;
  char* shared = nullptr;
  Barrier barrier, named[16];
};

struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  Barrier barrier;
  std::size_t threads = 0, live = 0;
};

std::string text(Dim3 d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

std::string text(const Site& site) {
  return std::string(site.what) + " in " + site.file + ":" + std::to_string(site.line);
}

class Execution {
 public:
  Execution(const char* name, const Shape& shape, const std::function<void()>& kernel)
      : name_(name), shape_(shape), kernel_(kernel), random_{options().seed} {}

  std::string run();
  void yield() { running->fibre.leave(); }
  void wait(Barrier& barrier, std::size_t all, Site site);
  const std::uint64_t* exchange(unsigned mask, std::uint64_t value, Site site);
  void wake(Thread* thread) {
    thread->waits.what = nullptr;
    thread->warp->runnable |= 1u << thread->lane;
    progress_ = true;
  }
  [[noreturn]] void fail(const std::string& why) {
    if (error_.empty())
      error_ = "kernel " + name_ + ", " + (running ? where(running) + ": " : std::string()) + why;
    running->fibre.leave();  // never entered again
    std::abort();
  }
  std::string where(const Thread* t) const {
    return "block " + text(t->warp->block->index) + " thread " + text(t->index);
  }

  Thread* running = nullptr;
  const Shape& shape() const { return shape_; }
  Barrier grid_barrier;
  std::size_t all_threads() const { return shape_.grid.count() * shape_.block.count(); }
  Generator& random() { return random_; }

 private:
  static void body(void* execution);
  void start_cluster(std::size_t number);
  void run_warp(Warp& warp);
  void step(Thread* thread);
  void retire();
  std::string stuck() const;
  // What is asked for, filled up to whole lines, which nobody may write; then comes a guard page.
  std::size_t reserved() const { return (shape_.shared + LINE - 1) / LINE * LINE; }

  std::string name_;
  Shape shape_;
  const std::function<void()>& kernel_;
  Generator random_;
  std::vector<std::unique_ptr<Cluster>> resident_;
  std::vector<Warp*> warps_;
  std::vector<std::unique_ptr<Thread>> pool_;
  std::vector<Thread*> free_;
  std::vector<std::unique_ptr<Guarded>> memories_;
  std::string error_;
  bool progress_ = false;
};

thread_local Execution* current = nullptr;

void Execution::body(void* execution) {
  auto* self = static_cast<Execution*>(execution);
  self->kernel_();
  Thread* me = self->running;
  me->done = true;
  Block* block = me->warp->block;
  --block->live;
  --block->cluster->live;
  self->progress_ = true;
  me->fibre.leave(true);
}

// Blocks of a cluster are neighbours along x; clusters start in their order, as on a device.
void Execution::start_cluster(std::size_t number) {
  auto cluster = std::make_unique<Cluster>();
  const std::size_t per_row = shape_.grid.x / shape_.cluster;
  for (unsigned rank = 0; rank < shape_.cluster; ++rank) {
    auto block = std::make_unique<Block>();
    block->cluster = cluster.get();
    block->rank = rank;
    block->index = {static_cast<unsigned>(number % per_row * shape_.cluster + rank),
                    static_cast<unsigned>(number / per_row % shape_.grid.y),
                    static_cast<unsigned>(number / per_row / shape_.grid.y)};
    const std::size_t count = shape_.block.count();
    block->live = static_cast<unsigned>(count);
    if (memories_.empty()) {
      block->memory = std::make_unique<Guarded>(reserved(), true);
    } else {
      block->memory = std::move(memories_.back());
      memories_.pop_back();
      block->memory->poison();
    }
    block->shared = block->memory->data();
    block->warps.resize((count + WARP - 1) / WARP);
    for (std::size_t i = 0; i < count; ++i) {
      if (free_.empty()) {
        pool_.push_back(std::make_unique<Thread>());
        free_.push_back(pool_.back().get());
      }
      Thread* thread = free_.back();
      free_.pop_back();
      thread->warp = &block->warps[i / WARP];
      thread->lane = i % WARP;
      thread->index = {static_cast<unsigned>(i % shape_.block.x),
                       static_cast<unsigned>(i / shape_.block.x % shape_.block.y),
                       static_cast<unsigned>(i / shape_.block.x / shape_.block.y)};
      thread->done = thread->spun = false;
      thread->waits.what = nullptr;
      thread->fibre.prepare(&Execution::body, this);
      thread->warp->block = block.get();
      thread->warp->threads.push_back(thread);
      thread->warp->runnable |= 1u << thread->lane;
      block->threads.push_back(thread);
    }
    for (Warp& warp : block->warps) warps_.push_back(&warp);
    cluster->threads += count;
    cluster->blocks.push_back(std::move(block));
  }
  cluster->live = cluster->threads;
  resident_.push_back(std::move(cluster));
}

void Execution::step(Thread* thread) {
  running = thread;
  thread->fibre.enter();
  running = nullptr;
  if (thread->done) thread->warp->runnable &= ~(1u << thread->lane);
}

// Every runnable lane in turn from a random one, until none is left that can do more than spin.
void Execution::run_warp(Warp& warp) {
  while (warp.runnable && error_.empty()) {
    const unsigned count = static_cast<unsigned>(warp.threads.size());
    const unsigned first = options().round_robin ? 0 : random_.below(count);
    bool all_spun = true;
    for (unsigned i = 0; i < count && error_.empty(); ++i) {
      Thread* thread = warp.threads[(first + i) % count];
      if (!(warp.runnable >> thread->lane & 1)) continue;
      thread->spun = false;
      step(thread);
      all_spun = all_spun && thread->spun;
    }
    if (all_spun || options().round_robin || random_.below(64) == 0) return;
  }
}

// Take clusters off whose threads have all ended.
void Execution::retire() {
  for (std::size_t i = 0; i < resident_.size();) {
    if (resident_[i]->live) {
      ++i;
      continue;
    }
    for (auto& block : resident_[i]->blocks) {
      for (std::size_t b = shape_.shared; b < reserved(); ++b)
        if (static_cast<unsigned char>(block->shared[b]) != 0xff && error_.empty())
          error_ = "kernel " + name_ + ", block " + text(block->index) + ": wrote beyond its " +
                   std::to_string(shape_.shared) + " bytes of shared memory";
      memories_.push_back(std::move(block->memory));
      for (Thread* thread : block->threads) free_.push_back(thread);
      for (Warp& warp : block->warps)
        warps_.erase(std::find(warps_.begin(), warps_.end(), &warp));
    }
    resident_.erase(resident_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

std::string Execution::stuck() const {
  const Thread *waiting = nullptr, *other = nullptr;
  for (const auto& cluster : resident_)
    for (const auto& block : cluster->blocks)
      for (const Thread* thread : block->threads)
        if (thread->waits.what && !waiting) waiting = thread;
  std::string why = "kernel " + name_ + ": nothing can go on";
  if (!waiting) return why;
  why = "kernel " + name_ + ": " + where(waiting) + " waits for ever at " + text(waiting->waits);
  for (const Thread* thread : waiting->warp->block->threads)
    if (thread->done || thread->waits.line != waiting->waits.line) other = thread;
  if (other)
    why += "; " + where(other) +
           (other->done ? " has ended without it" : " waits at " + text(other->waits));
  return why + ": a barrier that not all threads reach";
}

std::string Execution::run() {
  const std::size_t clusters = shape_.grid.count() / shape_.cluster;
  const std::size_t limit = shape_.cooperative ? clusters : std::max(1u, options().resident);
  std::size_t started = 0;
  std::uint64_t idle = 0;
  unsigned turn = 0;
  while (error_.empty()) {
    while (started < clusters && resident_.size() < limit) start_cluster(started++);
    if (resident_.empty()) break;
    progress_ = false;
    const unsigned count = static_cast<unsigned>(warps_.size());
    const unsigned first = options().round_robin ? turn++ : random_.below(count);
    Warp* chosen = nullptr;
    for (unsigned i = 0; i < count && !chosen; ++i)
      if (warps_[(first + i) % count]->runnable) chosen = warps_[(first + i) % count];
    if (!chosen) {
      error_ = stuck();
      break;
    }
    run_warp(*chosen);
    if (chosen->runnable == 0) {
      progress_ = true;
      bool ended = true;
      for (const Thread* thread : chosen->threads) ended = ended && thread->done;
      if (ended && chosen->block->cluster->live == 0) retire();
    }
    idle = progress_ ? 0 : idle + 1;
    if (idle > SPINS) error_ = "kernel " + name_ + ": threads spin and nothing will ever end it";
  }
  return error_;
}

void Execution::wait(Barrier& barrier, std::size_t all, Site site) {
  Thread* me = running;
  if (!barrier.waiting.empty()) {
    const Thread* first = barrier.waiting.front();
    if (first->waits.line != site.line || std::strcmp(first->waits.file, site.file) != 0)
      fail("divergent barrier: it waits at " + text(site) + " while " + where(first) + " waits at " +
           text(first->waits));
  }
  me->waits = site;
  barrier.waiting.push_back(me);
  me->warp->runnable &= ~(1u << me->lane);
  if (barrier.waiting.size() == all) {
    for (Thread* thread : barrier.waiting) wake(thread);
    barrier.waiting.clear();
  }
  yield();
}

const std::uint64_t* Execution::exchange(unsigned mask, std::uint64_t value, Site site) {
  Thread* me = running;
  const unsigned bit = 1u << me->lane;
  if (!(mask & bit)) fail(text(site) + ": the mask does not name the lane that calls");
  Exchange* mine = nullptr;
  for (Exchange& e : me->warp->exchanges) {
    if (e.mask == mask) mine = &e;
    else if (e.arrived & mask)
      fail(text(site) + ": another exchange of some of these lanes waits at " + text(e.site));
  }
  if (!mine) {
    me->warp->exchanges.emplace_back();
    mine = &me->warp->exchanges.back();
    mine->mask = mask;
  }
  if (mine->arrived && (mine->site.line != site.line || std::strcmp(mine->site.what, site.what)))
    fail("divergent exchange: it is at " + text(site) + ", other lanes at " + text(mine->site));
  for (unsigned other = 0; other < WARP; ++other)
    if (mask >> other & 1)
      if (other >= me->warp->threads.size() || me->warp->threads[other]->done)
        fail(text(site) + ": the mask names lane " + std::to_string(other) + ", which has ended");
  mine->site = site;
  std::uint64_t* slots = mine->slots[mine->turn];
  slots[me->lane] = value;
  mine->arrived |= bit;
  if (mine->arrived == mask) {
    mine->arrived = 0;
    mine->turn ^= 1;
    for (Thread* thread : me->warp->threads)
      if (thread != me && (mask >> thread->lane & 1)) wake(thread);
  } else {
    me->waits = site;
    me->warp->runnable &= ~bit;
    yield();
  }
  return slots;
}

// What the processor refused in a kernel's thread: the thread leaves for good, from the handler.
void refused(int signal, siginfo_t* info, void*) {
  if (!current || !current->running) {  // not ours
    ::signal(signal, SIG_DFL);
    return;
  }
  char text[96];
  if (signal == SIGILL || signal == SIGTRAP || signal == SIGFPE)
    std::snprintf(text, sizeof text, "undefined behaviour (signal %d)", signal);
  else
    std::snprintf(text, sizeof text, "out of bounds: it touches address %p, which is nobody's",
                  info->si_addr);
  current->fail(text);
}

// Signals go to refused() while this lives. A sanitizer has handlers of its own, which say more.
class Handlers {
 public:
  Handlers() {
#if !defined(__SANITIZE_ADDRESS__)
    struct sigaction ours {};
    ours.sa_sigaction = refused;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;  // the handler is left without returning
    for (int i = 0; i < COUNT; ++i) sigaction(SIGNALS[i], &ours, &before_[i]);
#endif
  }
  ~Handlers() {
#if !defined(__SANITIZE_ADDRESS__)
    for (int i = 0; i < COUNT; ++i) sigaction(SIGNALS[i], &before_[i], nullptr);
#endif
  }

 private:
  static constexpr int COUNT = 5;
  static constexpr int SIGNALS[COUNT] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
  struct sigaction before_[COUNT];
};

}  // namespace

Options& options() {
  static Options chosen;
  return chosen;
}

namespace {

constexpr std::uint64_t REMEMBERED = 4;
std::string remembered[REMEMBERED];
std::uint64_t kernels = 0;

}  // namespace

std::string launched(unsigned back) {
  return back < REMEMBERED && back < kernels ? remembered[(kernels - 1 - back) % REMEMBERED] : "";
}

std::uint64_t& launches() {
  static std::uint64_t count = 0;
  return count;
}

std::string run(const char* name, const Shape& shape, const std::function<void()>& kernel) {
  ++launches();
  remembered[kernels++ % REMEMBERED] =
      std::string(name) + " " + std::to_string(shape.grid.x) + " " + std::to_string(shape.grid.y) + " " +
      std::to_string(shape.block.x) + " " + std::to_string(shape.cluster) + " " +
      std::to_string(shape.cooperative);
  const std::string in = std::string("kernel ") + name + ": ";
  if (!shape.grid.count() || !shape.block.count()) return in + "the grid or a block is empty";
  if (shape.block.count() > 1024) return in + "more than 1024 threads a block";
  if (shape.grid.y > 65535 || shape.grid.z > 65535 || shape.grid.x > 2147483647u)
    return in + "the grid is larger than a device allows: " + text(shape.grid);
  if (shape.shared > 227 * 1024) return in + "more than 227 KiB of shared memory a block";
  if (shape.cluster > 8 || shape.grid.x % shape.cluster)
    return in + "a cluster has at most 8 blocks, which divide the grid along x";
  Execution execution(name, shape, kernel);
  current = &execution;
  const Handlers handlers;
  std::string error = execution.run();
  current = nullptr;
  return error;
}

Dim3 thread_index() { return current->running->index; }
Dim3 block_index() { return current->running->warp->block->index; }
Dim3 block_size() { return current->shape().block; }
Dim3 grid_size() { return current->shape().grid; }
unsigned cluster_rank() { return current->running->warp->block->rank; }
unsigned cluster_size() { return current->shape().cluster; }
unsigned lane() { return current->running->lane; }

char* shared_memory() { return current->running->warp->block->shared; }

char* shared_memory_of(void* mine, unsigned rank) {
  Block* block = current->running->warp->block;
  const auto offset = static_cast<char*>(mine) - block->shared;
  if (rank >= block->cluster->blocks.size()) fail("no such block in the cluster");
  if (offset < 0 || offset >= static_cast<std::ptrdiff_t>(current->shape().shared))
    fail("not an address of shared memory");
  if (!block->cluster->blocks[rank]->live) fail("the block whose shared memory it wants has ended");
  return block->cluster->blocks[rank]->shared + offset;
}

void block_barrier(Site site) {
  Block* block = current->running->warp->block;
  current->wait(block->barrier, block->threads.size(), site);
}

void cluster_barrier(Site site) {
  Cluster* cluster = current->running->warp->block->cluster;
  current->wait(cluster->barrier, cluster->threads, site);
}

void grid_barrier(Site site) {
  if (!current->shape().cooperative) fail("a grid barrier needs a cooperative launch");
  current->wait(current->grid_barrier, current->all_threads(), site);
}

void named_barrier(int id, unsigned threads, Site site) {
  if (id < 1 || id > 15 || threads % WARP) fail("named barriers are 1 to 15, of whole warps");
  current->wait(current->running->warp->block->named[id], threads, site);
}

const std::uint64_t* exchange(unsigned mask, std::uint64_t value, Site site) {
  return current->exchange(mask, value, site);
}

void maybe_yield() {
  if (!options().round_robin && current->random().below(4) == 0) current->yield();
}

void spin() {
  current->running->spun = true;
  current->yield();
}

void fail(const std::string& why) { current->fail(why); }

}  // namespace benchbench::host_executor
