#include "host_executor/fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// void benchbench_switch(void** save, void* load): push what a call preserves, swap stacks, pop.
asm(R"(
.text
.globl benchbench_switch
.hidden benchbench_switch
.type benchbench_switch, @function
benchbench_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size benchbench_switch, .-benchbench_switch
)");
extern "C" void benchbench_switch(void** save, void* load);
#endif

namespace benchbench::host_executor {
namespace {

thread_local Fibre* entering = nullptr;

}  // namespace

Fibre::~Fibre() {
  if (stack_) munmap(stack_, STACK);
}

void Fibre::prepare(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  if (!stack_) {
    stack_ = mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack_ == MAP_FAILED) {
      std::fprintf(stderr, "host executor: no memory for a fibre's stack; run fewer threads\n");
      std::abort();
    }
  }
#if defined(__SANITIZE_ADDRESS__)
  // A body that was abandoned in the middle leaves its frames' poison behind.
  __asan_unpoison_memory_region(stack_, STACK);
#endif
  fake_stack_ = nullptr;
#if defined(__x86_64__)
  // As if start() had been interrupted in its first instruction: six registers, then its address.
  auto** top = reinterpret_cast<void**>(static_cast<char*>(stack_) + STACK);
  *--top = nullptr;  // keeps the stack pointer 16-byte aligned at entry, as after a call
  *--top = reinterpret_cast<void*>(&Fibre::start);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  inside_ = top;
#else
  getcontext(&inside_);
  inside_.uc_stack.ss_sp = stack_;
  inside_.uc_stack.ss_size = STACK;
  inside_.uc_link = nullptr;
  makecontext(&inside_, &Fibre::start, 0);
#endif
}

void Fibre::start() {
  Fibre* self = entering;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &self->outer_bottom_, &self->outer_size_);
#endif
  self->body_(self->argument_);
  std::abort();  // the body left for good
}

void Fibre::enter() {
  entering = this;
#if defined(__SANITIZE_ADDRESS__)
  void* mine = nullptr;
  __sanitizer_start_switch_fiber(&mine, stack_, STACK);
#endif
#if defined(__x86_64__)
  benchbench_switch(&outside_, inside_);
#else
  swapcontext(&outside_, &inside_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(mine, nullptr, nullptr);
#endif
}

void Fibre::leave(bool finally) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(finally ? nullptr : &fake_stack_, outer_bottom_, outer_size_);
#else
  (void)finally;
#endif
#if defined(__x86_64__)
  benchbench_switch(&inside_, outside_);
#else
  swapcontext(&inside_, &outside_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &outer_bottom_, &outer_size_);
#endif
}

}  // namespace benchbench::host_executor
