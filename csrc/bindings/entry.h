// The shortest way from Python to an operator.
//
// A call through torch.ops matches its arguments with the schema and boxes them, which on a small tensor
// costs more than the kernel. An entry unpacks them by the operator's signature in C++ and calls the
// dispatcher, which does what it always does: autograd, modes, other devices. Whatever an entry does not
// know (subclasses of Tensor, modes of __torch_function__, torch.jit.trace, numbers of another kind,
// named arguments) goes the usual way: to `whole`, with the same arguments.
#pragma once

#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/TracerMode.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include <memory>
#include <string>
#include <utility>

#include "bindings/common.h"

namespace benchbench {

// fits(): whether a Python value is one of this type without any conversion; take(): the value.
template <class T>
struct Argument;

template <>
struct Argument<const Tensor&> {
  static bool fits(PyObject* given) { return THPVariable_CheckExact(given); }
  static Tensor take(PyObject* given) { return THPVariable_Unpack(given); }
};

template <>
struct Argument<const OptionalTensor&> {
  static bool fits(PyObject* given) { return given == Py_None || THPVariable_CheckExact(given); }
  static OptionalTensor take(PyObject* given) {
    return given == Py_None ? OptionalTensor() : OptionalTensor(THPVariable_Unpack(given));
  }
};

template <>
struct Argument<int64_t> {
  static bool fits(PyObject* given) {
    int overflow = 1;
    if (PyLong_CheckExact(given)) PyLong_AsLongLongAndOverflow(given, &overflow);
    return overflow == 0;
  }
  static int64_t take(PyObject* given) { return PyLong_AsLongLong(given); }
};

template <>
struct Argument<double> {
  static bool fits(PyObject* given) {
    return PyFloat_CheckExact(given) || Argument<int64_t>::fits(given);
  }
  static double take(PyObject* given) { return PyFloat_AsDouble(given); }
};

template <>
struct Argument<bool> {
  static bool fits(PyObject* given) { return PyBool_Check(given); }
  static bool take(PyObject* given) { return given == Py_True; }
};

inline PyObject* wrapped(Tensor&& tensor) {
  PyObject* object = THPVariable_Wrap(std::move(tensor));
  if (!object) throw python_error();
  return object;
}

template <class... T>
PyObject* wrapped(std::tuple<T...>&& results) {
  pybind11::tuple objects(sizeof...(T));
  Py_ssize_t next = 0;
  std::apply(
      [&](T&... each) {
        (PyTuple_SET_ITEM(objects.ptr(), next++, wrapped(std::move(each))), ...);
      },
      results);
  return objects.release().ptr();
}

template <class Signature>
class Entry;

template <class Result, class... Given>
class Entry<Result(Given...)> {
 public:
  Entry(const char* name, pybind11::object whole)
      : operator_(typed_operator<Result(Given...)>((std::string("benchbench::") + name).c_str())),
        whole_(std::move(whole)) {}

  // A Python function of positional arguments.
  static pybind11::object make(const char* name, pybind11::object whole) {
    // METH_FASTCALL functions have another type than the table's field.
    static PyMethodDef method{"entry",
                              reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call)),
                              METH_FASTCALL, nullptr};
    auto entry = std::make_unique<Entry>(name, std::move(whole));
    pybind11::capsule self(entry.release(), [](void* p) { delete static_cast<Entry*>(p); });
    PyObject* function = PyCFunction_New(&method, self.ptr());
    if (!function) throw pybind11::error_already_set();
    return pybind11::reinterpret_steal<pybind11::object>(function);
  }

 private:
  using Indices = std::index_sequence_for<Given...>;

  static PyObject* call(PyObject* self, PyObject* const* given, Py_ssize_t count) {
    HANDLE_TH_ERRORS
    const Entry& entry = *static_cast<Entry*>(PyCapsule_GetPointer(self, nullptr));
    const bool plain =
        !at::impl::torch_function_mode_enabled() && !at::tracer::impl::is_dispatch_enabled();
    if (!plain || count != sizeof...(Given) || !fit(given, Indices{}))
      return PyObject_Vectorcall(entry.whole_.ptr(), given, static_cast<size_t>(count), nullptr);
    return wrapped(entry.run(given, Indices{}));
    END_HANDLE_TH_ERRORS
  }

  template <size_t... I>
  static bool fit(PyObject* const* given, std::index_sequence<I...>) {
    return (Argument<Given>::fits(given[I]) && ...);
  }

  template <size_t... I>
  Result run(PyObject* const* given, std::index_sequence<I...>) const {
    std::tuple<decltype(Argument<Given>::take(nullptr))...> taken{
        Argument<Given>::take(given[I])...};
    pybind11::gil_scoped_release others_may_run;
    return operator_.call(std::get<I>(taken)...);
  }

  c10::TypedOperatorHandle<Result(Given...)> operator_;
  pybind11::object whole_;
};

void bind_entries(pybind11::module_& m);

}  // namespace benchbench
