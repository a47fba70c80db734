// What LiSeg uses of libtorch beyond tch's bindings: activation checkpointing, fused optimiser steps, operations on
// lists of tensors, page-locked copies, TF32 and the statistics of device memory. Tensors cross as pointers to at::Tensor, as in tch. No
// exception leaves a function: failures come back as text.

#include <ATen/Context.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_zero.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/stack.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Text handed to the caller, who returns it to liseg_free_text.
char* text(const char* what) {
  const std::string message(what);
  char* copy = new char[message.size() + 1];
  std::memcpy(copy, message.c_str(), message.size() + 1);
  return copy;
}

template <typename F>
char* guarded(F f) {
  try {
    f();
    return nullptr;
  } catch (const std::exception& e) {
    return text(e.what());
  } catch (...) {
    return text("an unknown C++ exception");
  }
}

// A stage of a network, owned by the other side of the boundary.
struct Stage : torch::CustomClassHolder {
  using Run = at::Tensor* (*)(void* state, const at::Tensor* const* inputs, std::int64_t count);
  using Drop = void (*)(void* state);

  Stage(void* state, Run run, Drop drop) : state(state), run(run), drop(drop) {}
  ~Stage() override { drop(state); }

  at::Tensor operator()(const std::vector<at::Tensor>& inputs) const {
    std::vector<const at::Tensor*> pointers;
    for (const auto& input : inputs) {
      pointers.push_back(&input);
    }
    at::Tensor* output =
        run(state, pointers.data(), static_cast<std::int64_t>(pointers.size()));
    if (output == nullptr) {
      throw std::runtime_error("a checkpointed stage failed");
    }
    at::Tensor result = std::move(*output);
    delete output;
    return result;
  }

  void* state;
  Run run;
  Drop drop;
};

// Forward without a graph; backward builds the stage's graph from its inputs and runs it. Gradients of
// the stage's weights add up in their .grad there.
struct Checkpoint : torch::autograd::Function<Checkpoint> {
  // `anchor` is a weight of the stage: with it the result needs a gradient even where the inputs need
  // none.
  static Variable forward(
      AutogradContext* context,
      const Variable& first,
      const std::optional<at::Tensor>& second,
      const Variable& anchor,
      c10::intrusive_ptr<Stage> stage) {
    std::vector<at::Tensor> inputs{first};
    if (second.has_value()) {
      inputs.push_back(*second);
    }
    context->save_for_backward(inputs);
    context->saved_data["stage"] = c10::IValue::make_capsule(stage);
    return (*stage)(inputs);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    std::vector<at::Tensor> inputs;
    for (const auto& saved : context->get_saved_variables()) {
      inputs.push_back(saved.detach().set_requires_grad(saved.requires_grad()));
    }
    auto stage = c10::static_intrusive_pointer_cast<Stage>(context->saved_data["stage"].toCapsule());
    at::Tensor output;
    {
      c10::AutoGradMode on(true);
      output = (*stage)(inputs);
    }
    torch::autograd::backward({output}, {gradients[0]});
    // The anchor's gradient has been added up above; the stage is no tensor.
    const auto second = inputs.size() > 1 ? inputs[1].grad() : Variable();
    return {inputs[0].grad(), second, Variable(), Variable()};
  }
};

std::vector<at::Tensor> list(const at::Tensor* const* tensors, std::int64_t count) {
  std::vector<at::Tensor> all;
  all.reserve(count);
  for (std::int64_t i = 0; i < count; ++i) {
    all.push_back(*tensors[i]);
  }
  return all;
}

}  // namespace

extern "C" {

void liseg_free_text(char* message) {
  delete[] message;
}

bool liseg_has_onednn() {
  return at::hasMKLDNN();
}

bool liseg_records_gradients() {
  return c10::GradMode::is_enabled();
}

char* liseg_checkpoint(
    const at::Tensor* first,
    const at::Tensor* second,  // may be null
    const at::Tensor* anchor,
    void* state,
    Stage::Run run,
    Stage::Drop drop,
    at::Tensor** output) {
  return guarded([&] {
    auto stage = c10::make_intrusive<Stage>(state, run, drop);
    std::optional<at::Tensor> more;
    if (second != nullptr) {
      more = *second;
    }
    *output = new at::Tensor(Checkpoint::apply(*first, more, *anchor, std::move(stage)));
  });
}

char* liseg_fused_sgd(
    const at::Tensor* const* weights,
    const at::Tensor* const* gradients,
    const at::Tensor* const* velocities,
    std::int64_t count,
    std::int64_t velocity_count,  // 0 without momentum
    double lr,
    double momentum,
    double weight_decay,
    bool nesterov) {
  return guarded([&] {
    at::_fused_sgd_(
        list(weights, count), list(gradients, count), list(velocities, velocity_count), weight_decay,
        momentum, lr, 0.0, nesterov, false, false);
  });
}

char* liseg_fused_adam(
    const at::Tensor* const* weights,
    const at::Tensor* const* gradients,
    const at::Tensor* const* means,
    const at::Tensor* const* squares,
    std::int64_t count,
    const at::Tensor* steps,
    double lr,
    double beta1,
    double beta2,
    double epsilon,
    double weight_decay,
    bool decoupled) {
  return guarded([&] {
    const std::vector<at::Tensor> all_steps(count, *steps);
    const auto w = list(weights, count), g = list(gradients, count);
    const auto m = list(means, count), s = list(squares, count);
    if (decoupled) {
      at::_fused_adamw_(
          w, g, m, s, {}, all_steps, lr, beta1, beta2, weight_decay, epsilon, false, false);
    } else {
      at::_fused_adam_(
          w, g, m, s, {}, all_steps, lr, beta1, beta2, weight_decay, epsilon, false, false);
    }
  });
}

// The L2 norm of each tensor, as one vector.
char* liseg_norms(const at::Tensor* const* tensors, std::int64_t count, at::Tensor** output) {
  return guarded([&] {
    *output = new at::Tensor(at::stack(at::_foreach_norm(list(tensors, count), 2)));
  });
}

// Each tensor times a factor, in place.
char* liseg_scale(const at::Tensor* const* tensors, std::int64_t count, double factor) {
  return guarded([&] { at::_foreach_mul_(list(tensors, count), factor); });
}

// Zeros into each tensor.
char* liseg_zero(const at::Tensor* const* tensors, std::int64_t count) {
  return guarded([&] { at::_foreach_zero_(list(tensors, count)); });
}

// averages <- decay * averages + (1 - decay) * values
char* liseg_average(
    const at::Tensor* const* averages,
    const at::Tensor* const* values,
    std::int64_t count,
    double decay) {
  return guarded([&] {
    const auto a = list(averages, count);
    at::_foreach_mul_(a, decay);
    at::_foreach_add_(a, list(values, count), 1.0 - decay);
  });
}

// A copy in page-locked memory. tch names a device, which libtorch 2.11 warns of at every call.
char* liseg_page_locked(const at::Tensor* tensor, at::Tensor** output) {
  return guarded([&] { *output = new at::Tensor(tensor->pin_memory()); });
}

// Whether cuDNN may round the operands of f32 convolutions to TF32.
char* liseg_allow_tf32(bool allow) {
  return guarded([&] { at::globalContext().setAllowTF32CuDNN(allow); });
}

// Bytes that the caching allocator of CUDA device `index` has given out: now, and at most so far.
char* liseg_cuda_memory(std::int64_t index, std::int64_t* now, std::int64_t* peak) {
  return guarded([&] {
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    const auto& all = stats.allocated_bytes[static_cast<std::size_t>(
        c10::CachingAllocator::StatType::AGGREGATE)];
    *now = all.current;
    *peak = all.peak;
  });
}

// Forgets that peak and returns cached blocks to the device.
char* liseg_cuda_reset(std::int64_t index) {
  return guarded([&] {
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    allocator->emptyCache();
    allocator->resetPeakStats(static_cast<c10::DeviceIndex>(index));
  });
}

}  // extern "C"
