// What LiSeg uses of libtorch beyond tch's bindings: activation checkpointing, kernels of our own in its graph, fused
// optimiser steps, operations on lists of tensors, page-locked copies, TF32 and the statistics of device memory. Tensors cross as pointers to at::Tensor, as in tch. No
// exception leaves a function: failures come back as text.

#include <ATen/Context.h>
#include <ATen/TensorIterator.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/mkldnn_convolution.h>
#include <ATen/ops/sum.h>
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

constexpr auto kChannelsLast = at::MemoryFormat::ChannelsLast3d;
const std::vector<std::int64_t> kOnce(3, 1);

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

// A convolution and the maps it joins; axes are (z, y, x). `Geometry` on the other side.
struct ConvolutionShape {
  std::size_t samples, inputs, outputs;
  std::size_t input[3], output[3], kernel[3], stride[3], padding[3];
};

// Sums the gradient of the weights, `[outputs, inputs, z, y, x]`, of channels-last maps; false where it cannot.
using AddUp = bool (*)(const ConvolutionShape*, const float* x, const float* gradient, float* weights);

// oneDNN's convolution, but for the gradient of the weights.
struct Convolution : torch::autograd::Function<Convolution> {
  static Variable forward(
      AutogradContext* context,
      const Variable& x,
      const Variable& weight,
      const Variable& bias,
      std::vector<std::int64_t> stride,
      std::vector<std::int64_t> padding,
      std::int64_t add_up) {
    context->save_for_backward({x, weight});
    context->saved_data["stride"] = stride;
    context->saved_data["padding"] = padding;
    context->saved_data["add_up"] = add_up;
    return at::mkldnn_convolution(x, weight, bias, padding, stride, kOnce, 1);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto stride = context->saved_data["stride"].toIntVector();
    const auto padding = context->saved_data["padding"].toIntVector();
    const auto add_up = reinterpret_cast<AddUp>(context->saved_data["add_up"].toInt());
    const auto gradient = gradients[0].contiguous(kChannelsLast);
    Variable of_x, of_weight, of_bias;
    if (context->needs_input_grad(0)) {
      of_x = of_input(gradient, saved[0], saved[1], stride, padding);
    }
    if (context->needs_input_grad(1)) {
      const auto x = saved[0].contiguous(kChannelsLast);
      of_weight = at::empty(saved[1].sizes(), saved[1].options(), at::MemoryFormat::Contiguous);
      const auto shape = shape_of(x, gradient, of_weight, stride, padding);
      if (!add_up(
              &shape, x.const_data_ptr<float>(), gradient.const_data_ptr<float>(),
              of_weight.mutable_data_ptr<float>())) {
        throw std::runtime_error("the gradient of a convolution's weights cannot be summed");
      }
    }
    if (context->needs_input_grad(2)) {
      of_bias = gradient.sum({0, 2, 3, 4});
    }
    return {of_x, of_weight, of_bias, Variable(), Variable(), Variable()};
  }

  // libtorch would unfold small single samples here as well; at stride 1 this gradient is a convolution with the mirrored
  // kernel.
  static at::Tensor of_input(
      const at::Tensor& gradient,
      const at::Tensor& x,
      const at::Tensor& weight,
      const std::vector<std::int64_t>& stride,
      const std::vector<std::int64_t>& padding) {
    if (stride != std::vector<std::int64_t>(3, 1)) {
      return std::get<0>(at::convolution_backward(
          gradient, x, weight, std::nullopt, stride, padding, kOnce, false, {0, 0, 0}, 1,
          {true, false, false}));
    }
    std::vector<std::int64_t> beyond(3);
    for (int a = 0; a < 3; ++a) {
      beyond[a] = weight.size(a + 2) - 1 - padding[a];
    }
    const auto mirrored = weight.flip({2, 3, 4}).transpose(0, 1);
    return at::mkldnn_convolution(gradient, mirrored, std::nullopt, beyond, stride, kOnce, 1);
  }

  static ConvolutionShape shape_of(
      const at::Tensor& x,
      const at::Tensor& gradient,
      const at::Tensor& weight,
      const std::vector<std::int64_t>& stride,
      const std::vector<std::int64_t>& padding) {
    ConvolutionShape shape{};
    shape.samples = x.size(0);
    shape.inputs = x.size(1);
    shape.outputs = gradient.size(1);
    for (int a = 0; a < 3; ++a) {
      shape.input[a] = x.size(a + 2);
      shape.output[a] = gradient.size(a + 2);
      shape.kernel[a] = weight.size(a + 2);
      shape.stride[a] = stride[a];
      shape.padding[a] = padding[a];
    }
    return shape;
  }
};

// A coarse map and the finer one it is joined with; axes are (z, y, x). `Join` on the other side.
struct JoinShape {
  std::size_t samples, channels[2], coarse[3], factor[3];
};

// From a coarse and a fine map to the joined one, and with gradients the other way; false where they do not fit. Maps are
// channels-last, of bfloat16 or float.
using JoinMaps = bool (*)(const JoinShape*, bool bfloat16, void* coarse, void* fine, void* joined, bool back);

// Nearest-neighbour enlargement and joining of channels.
struct JoinEnlarged : torch::autograd::Function<JoinEnlarged> {
  static Variable forward(
      AutogradContext* context,
      const Variable& coarse,
      const Variable& fine,
      std::vector<std::int64_t> factor,
      std::int64_t join) {
    context->saved_data["coarse"] = coarse.sizes().vec();
    context->saved_data["fine"] = fine.sizes().vec();
    context->saved_data["factor"] = factor;
    context->saved_data["join"] = join;
    auto size = fine.sizes().vec();
    size[1] += coarse.size(1);
    auto joined = at::empty(size, fine.options(), kChannelsLast);
    call(join, factor, coarse.contiguous(kChannelsLast), fine.contiguous(kChannelsLast), joined, false);
    return joined;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto joined = gradients[0].contiguous(kChannelsLast);
    auto coarse =
        at::empty(context->saved_data["coarse"].toIntVector(), joined.options(), kChannelsLast);
    auto fine = at::empty(context->saved_data["fine"].toIntVector(), joined.options(), kChannelsLast);
    const auto factor = context->saved_data["factor"].toIntVector();
    call(context->saved_data["join"].toInt(), factor, coarse, fine, joined, true);
    return {coarse, fine, Variable(), Variable()};
  }

  static void call(
      std::int64_t join,
      const std::vector<std::int64_t>& factor,
      const at::Tensor& coarse,
      const at::Tensor& fine,
      const at::Tensor& joined,
      bool back) {
    JoinShape shape{};
    shape.samples = coarse.size(0);
    shape.channels[0] = coarse.size(1);
    shape.channels[1] = fine.size(1);
    bool fits = fine.size(0) == coarse.size(0) && fine.scalar_type() == coarse.scalar_type() &&
        coarse.is_cpu() && fine.is_cpu() && coarse.numel() > 0 && fine.numel() > 0;
    for (int a = 0; a < 3; ++a) {
      shape.coarse[a] = coarse.size(a + 2);
      shape.factor[a] = factor[a];
      fits = fits && fine.size(a + 2) == coarse.size(a + 2) * factor[a];
    }
    const auto kind = coarse.scalar_type();
    fits = fits && (kind == at::kFloat || kind == at::kBFloat16);
    const auto run = reinterpret_cast<JoinMaps>(join);
    if (!fits || !run(&shape, kind == at::kBFloat16, coarse.data_ptr(), fine.data_ptr(), joined.data_ptr(), back)) {
      throw std::runtime_error("maps do not fit together");
    }
  }
};

// A map and how it is normalised. `Norm` on the other side.
struct NormShape {
  std::size_t samples, channels, voxels;
  double epsilon;
  float slope;
  bool bfloat16;
};

// Instance norm and rectifier of channels-last maps; false where it cannot.
struct NormKernels {
  // `x` is null where the map lies in `y`; `across` may be null.
  bool (*forward)(
      const NormShape*, const void* x, const void* across, const float* scale, const float* shift,
      void* y, float* statistics);
  // `y`, `of_x` and `of_across` may be null.
  bool (*backward)(
      const NormShape*, const void* x, const void* y, const void* gradient, const float* scale,
      const float* statistics, void* of_x, void* of_across, float* of_weights);
};

// Instance norm, what is added to it, and the rectifier.
struct Normalisation : torch::autograd::Function<Normalisation> {
  static Variable forward(
      AutogradContext* context,
      const Variable& x,
      const Variable& scale,
      const Variable& shift,
      const std::optional<at::Tensor>& across,
      double epsilon,
      double slope,
      std::int64_t kernels) {
    const auto map = x.contiguous(kChannelsLast);
    const auto y = at::empty(map.sizes(), map.options(), kChannelsLast);
    const auto statistics = write(&map, across, scale, shift, shape_of(map, epsilon, slope), kernels, y);
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["slope"] = slope;
    context->saved_data["kernels"] = kernels;
    context->saved_data["added"] = across.has_value();
    // Without a rectifier the result is not needed, and others may write over it.
    context->save_for_backward({map, slope == 1 ? Variable() : y, scale, statistics});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto& x = saved[0];
    const auto scale = saved[2].contiguous();
    const auto gradient = gradients[0].contiguous(kChannelsLast);
    const auto shape =
        shape_of(x, context->saved_data["epsilon"].toDouble(), context->saved_data["slope"].toDouble());
    const auto* kernels =
        reinterpret_cast<const NormKernels*>(context->saved_data["kernels"].toInt());
    const auto map = [&](bool wanted) {
      return wanted ? at::empty(x.sizes(), x.options(), kChannelsLast) : Variable();
    };
    // An absent input is not counted among those that may want a gradient.
    const bool added = context->saved_data["added"].toBool();
    const auto of_x = map(context->needs_input_grad(0));
    const auto of_across = map(added && context->needs_input_grad(3));
    const auto of_weights = at::empty({2, x.size(1)}, scale.options());
    if (!kernels->backward(
            &shape, x.const_data_ptr(), address(saved[1]), gradient.const_data_ptr(),
            scale.const_data_ptr<float>(), saved[3].const_data_ptr<float>(), address(of_x),
            address(of_across), of_weights.mutable_data_ptr<float>())) {
      throw std::runtime_error("the gradient of a norm cannot be computed");
    }
    return {of_x, of_weights[0], of_weights[1], of_across, Variable(), Variable(), Variable()};
  }

  // Fills `y` from `x`, or over itself without one; gives mean and 1 / deviation, `[samples, 2, channels]`.
  static at::Tensor write(
      const at::Tensor* x,
      const std::optional<at::Tensor>& across,
      const at::Tensor& scale,
      const at::Tensor& shift,
      const NormShape& shape,
      std::int64_t kernels,
      const at::Tensor& y) {
    at::Tensor added;
    bool fits = y.is_cpu() && y.numel() > 0 && scale.is_cpu() && shift.is_cpu();
    if (across.has_value()) {
      added = across->contiguous(kChannelsLast);
      fits = fits && added.is_cpu() && added.sizes() == y.sizes() && added.scalar_type() == y.scalar_type();
    }
    const auto channels = static_cast<std::int64_t>(shape.channels);
    fits = fits && scale.numel() == channels && shift.numel() == channels;
    auto statistics = at::empty({y.size(0), 2, channels}, y.options().dtype(at::kFloat));
    const auto* run = reinterpret_cast<const NormKernels*>(kernels);
    if (!fits ||
        !run->forward(
            &shape, x == nullptr ? nullptr : x->const_data_ptr(), address(added),
            scale.contiguous().const_data_ptr<float>(), shift.contiguous().const_data_ptr<float>(),
            y.data_ptr(), statistics.mutable_data_ptr<float>())) {
      throw std::runtime_error("maps and weights of a norm do not fit together");
    }
    return statistics;
  }

  static void* address(const at::Tensor& map) {
    return map.defined() ? map.data_ptr() : nullptr;
  }

  static NormShape shape_of(const at::Tensor& map, double epsilon, double slope) {
    NormShape shape{};
    shape.samples = map.size(0);
    shape.channels = map.size(1);
    shape.voxels = map.size(2) * map.size(3) * map.size(4);
    shape.epsilon = epsilon;
    shape.slope = static_cast<float>(slope);
    shape.bfloat16 = map.scalar_type() == at::kBFloat16;
    if (!shape.bfloat16 && map.scalar_type() != at::kFloat) {
      throw std::runtime_error("a norm wants maps of float or bfloat16");
    }
    return shape;
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

// A convolution in f32 on the CPU whose gradient of the weights `add_up` sums. `stride` and `padding` are 3 numbers each.
char* liseg_convolution(
    const at::Tensor* x,
    const at::Tensor* weight,
    const at::Tensor* bias,
    const std::int64_t* stride,
    const std::int64_t* padding,
    AddUp add_up,
    at::Tensor** output) {
  return guarded([&] {
    *output = new at::Tensor(Convolution::apply(
        *x, *weight, *bias, std::vector<std::int64_t>(stride, stride + 3),
        std::vector<std::int64_t>(padding, padding + 3), reinterpret_cast<std::int64_t>(add_up)));
  });
}

// Enlarges `coarse` `factor` times (3 numbers), nearest-neighbour, and puts its channels before those of `fine`.
char* liseg_join(
    const at::Tensor* coarse,
    const at::Tensor* fine,
    const std::int64_t* factor,
    JoinMaps join,
    at::Tensor** output) {
  return guarded([&] {
    *output = new at::Tensor(JoinEnlarged::apply(
        *coarse, *fine, std::vector<std::int64_t>(factor, factor + 3),
        reinterpret_cast<std::int64_t>(join)));
  });
}

// Instance norm of a map on the CPU, plus `across` (may be null), and a rectifier with that slope below zero. With `over`,
// which is for maps that no graph needs, written over the map where its layout allows it.
char* liseg_normalise(
    const at::Tensor* x,
    const at::Tensor* scale,
    const at::Tensor* shift,
    const at::Tensor* across,
    double epsilon,
    double slope,
    const NormKernels* kernels,
    bool over,
    at::Tensor** output) {
  return guarded([&] {
    std::optional<at::Tensor> added;
    if (across != nullptr) {
      added = *across;
    }
    const auto run = reinterpret_cast<std::int64_t>(kernels);
    // Nor over a map that is added to itself.
    const bool alone = !added.has_value() || !added->is_alias_of(*x);
    if (over && alone && x->is_contiguous(kChannelsLast)) {
      const auto shape = Normalisation::shape_of(*x, epsilon, slope);
      Normalisation::write(nullptr, added, *scale, *shift, shape, run, *x);
      *output = new at::Tensor(*x);
      return;
    }
    *output =
        new at::Tensor(Normalisation::apply(*x, *scale, *shift, added, epsilon, slope, run));
  });
}

// Calls `task` with every number below `count`, on libtorch's threads: at::parallel_for is a template, which has them
// only where it is compiled with their OpenMP; libtorch's loop over the elements of a tensor is compiled.
char* liseg_parallel(
    std::int64_t count,
    void (*task)(const void* state, std::int64_t i),
    const void* state) {
  return guarded([&] {
    auto numbers = at::arange(count, at::kLong);
    auto iterator = at::TensorIteratorConfig()
                        .resize_outputs(false)
                        .check_all_same_dtype(false)
                        .add_output(numbers)
                        .build();
    const auto loop = [&](char** data, const std::int64_t* strides, std::int64_t n, std::int64_t m) {
      for (std::int64_t j = 0; j < m; ++j) {
        for (std::int64_t i = 0; i < n; ++i) {
          task(state, *reinterpret_cast<std::int64_t*>(data[0] + j * strides[1] + i * strides[0]));
        }
      }
    };
    iterator.for_each(loop, 1);
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

// Leaves each parameter without a gradient, and frees it.
char* liseg_forget_gradients(const at::Tensor* const* parameters, std::int64_t count) {
  return guarded([&] {
    for (std::int64_t i = 0; i < count; ++i) {
      parameters[i]->mutable_grad().reset();
    }
  });
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
