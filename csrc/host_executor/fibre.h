// Fibres: stacks that are switched by hand, one for each CUDA thread that the executor runs.
//
// A switch saves the registers that a call preserves and swaps stack pointers, some nanoseconds; where
// we have no assembly for the processor, ucontext does the same through system calls, some hundred
// nanoseconds. Under address sanitizer every switch is announced, or it would take the other stack's
// frames for overflows.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace benchbench::host_executor {

class Fibre {
 public:
  static constexpr std::size_t STACK = std::size_t(256) << 10;  // bytes; pages untouched cost nothing

  Fibre() = default;
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;
  ~Fibre();

  // The next enter() calls body(argument) on this fibre's own stack. The body must not return: it
  // leaves for good with leave(true). May be called again for another body once it has left.
  void prepare(void (*body)(void*), void* argument);
  void enter();                   // run it until it leaves
  void leave(bool finally = false);  // back to whoever entered

 private:
  static void start();
  void* stack_ = nullptr;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  // What sanitizers want to know of the stack that entered.
  void* fake_stack_ = nullptr;
  const void* outer_bottom_ = nullptr;
  std::size_t outer_size_ = 0;
#if defined(__x86_64__)
  void *inside_ = nullptr, *outside_ = nullptr;  // stack pointers
#else
  ucontext_t inside_, outside_;
#endif
};

}  // namespace benchbench::host_executor
