//! What tch does not bind, through a small piece of C++ (`shim`).
//!
//! The only module of this crate that is unsafe for libtorch's sake; what it offers is safe.

#![expect(
    unsafe_code,
    reason = "calls C++ that was compiled against the same libtorch as tch"
)]

use crate::kernels::Element;
use crate::kernels::join::Join;
use crate::kernels::norm::{Backward, Forward, Norm};
use crate::kernels::weight_gradient::{self, Geometry};
use crate::{Error, Result};
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::Tensor;
use torch_sys::C_tensor;

type Run = unsafe extern "C" fn(*mut c_void, *const *const C_tensor, i64) -> *mut C_tensor;
type Drop = unsafe extern "C" fn(*mut c_void);
type AddUp = unsafe extern "C" fn(*const Geometry, *const f32, *const f32, *mut f32) -> bool;
type JoinMaps =
    unsafe extern "C" fn(*const Join, bool, *mut c_void, *mut c_void, *mut c_void, bool) -> bool;
type Task = unsafe extern "C" fn(*const c_void, i64);

/// What C++ calls `NormKernels`.
#[repr(C)]
#[derive(Debug)]
struct NormKernels {
    forward: unsafe extern "C" fn(
        *const Norm,
        *const c_void,
        *const c_void,
        *const f32,
        *const f32,
        *mut c_void,
        *mut f32,
    ) -> bool,
    backward: unsafe extern "C" fn(
        *const Norm,
        *const c_void,
        *const c_void,
        *const c_void,
        *const f32,
        *const f32,
        *mut c_void,
        *mut c_void,
        *mut f32,
    ) -> bool,
}

unsafe extern "C" {
    fn liseg_free_text(message: *mut c_char);
    fn liseg_records_gradients() -> bool;
    fn liseg_has_onednn() -> bool;
    fn liseg_checkpoint(
        first: *const C_tensor,
        second: *const C_tensor,
        anchor: *const C_tensor,
        state: *mut c_void,
        run: Run,
        drop: Drop,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn liseg_convolution(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        stride: *const i64,
        padding: *const i64,
        add_up: AddUp,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn liseg_join(
        coarse: *const C_tensor,
        fine: *const C_tensor,
        factor: *const i64,
        join: JoinMaps,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn liseg_normalise(
        x: *const C_tensor,
        scale: *const C_tensor,
        shift: *const C_tensor,
        across: *const C_tensor,
        epsilon: f64,
        slope: f64,
        kernels: *const NormKernels,
        over: bool,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn liseg_parallel(count: i64, task: Task, state: *const c_void) -> *mut c_char;
    fn liseg_fused_sgd(
        weights: *const *const C_tensor,
        gradients: *const *const C_tensor,
        velocities: *const *const C_tensor,
        count: i64,
        velocity_count: i64,
        lr: f64,
        momentum: f64,
        weight_decay: f64,
        nesterov: bool,
    ) -> *mut c_char;
    fn liseg_fused_adam(
        weights: *const *const C_tensor,
        gradients: *const *const C_tensor,
        means: *const *const C_tensor,
        squares: *const *const C_tensor,
        count: i64,
        steps: *const C_tensor,
        lr: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        weight_decay: f64,
        decoupled: bool,
    ) -> *mut c_char;
    fn liseg_norms(
        tensors: *const *const C_tensor,
        count: i64,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn liseg_scale(tensors: *const *const C_tensor, count: i64, factor: f64) -> *mut c_char;
    fn liseg_zero(tensors: *const *const C_tensor, count: i64) -> *mut c_char;
    fn liseg_average(
        averages: *const *const C_tensor,
        values: *const *const C_tensor,
        count: i64,
        decay: f64,
    ) -> *mut c_char;
    fn liseg_page_locked(tensor: *const C_tensor, output: *mut *mut C_tensor) -> *mut c_char;
    fn liseg_allow_tf32(allow: bool) -> *mut c_char;
    fn liseg_cuda_memory(index: i64, now: *mut i64, peak: *mut i64) -> *mut c_char;
    fn liseg_cuda_reset(index: i64) -> *mut c_char;
    fn liseg_reuse_memory();
    fn liseg_release_memory();
    fn liseg_count_memory(live: *mut i64, peak: *mut i64, kept: *mut i64);
}

/// The outcome of a call: nothing, or the text of a C++ exception.
fn outcome(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim returns null or a NUL-terminated string that it allocated and that we give back.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        liseg_free_text(message);
        text
    };
    Err(Error::Torch(tch::TchError::Torch(text)))
}

/// Whether this libtorch was built with oneDNN.
pub(crate) fn has_onednn() -> bool {
    // SAFETY: reads a constant of the build.
    unsafe { liseg_has_onednn() }
}

/// Whether operations of this thread record a graph for gradients.
pub(crate) fn records_gradients() -> bool {
    // SAFETY: reads a thread-local flag.
    unsafe { liseg_records_gradients() }
}

/// A stage as the C++ side holds it.
pub(crate) type Stage = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + Send>;

unsafe extern "C" fn run(
    state: *mut c_void,
    inputs: *const *const C_tensor,
    count: i64,
) -> *mut C_tensor {
    // No panic may unwind into C++.
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `state` is the box of `checkpoint`, alive until `drop_stage`, and libtorch calls it
        // from one thread at a time; `inputs` are `count` live tensors, whose clones own references of
        // their own.
        let (stage, inputs) = unsafe {
            let stage = &*state.cast_const().cast::<Stage>();
            let inputs = std::slice::from_raw_parts(inputs, usize::try_from(count).unwrap_or(0));
            let clone = |&input: &*const C_tensor| Tensor::clone_from_ptr(input.cast_mut());
            (stage, inputs.iter().map(clone).collect::<Vec<_>>())
        };
        stage(&inputs)
    }));
    match result {
        Ok(Ok(output)) => {
            let mut output = std::mem::ManuallyDrop::new(output);
            output.as_mut_ptr()
        }
        Ok(Err(error)) => {
            tracing::error!("a checkpointed stage failed: {error}");
            std::ptr::null_mut()
        }
        Err(_) => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn drop_stage(state: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `checkpoint`; the C++ side calls this once, last.
    drop(unsafe { Box::from_raw(state.cast::<Stage>()) });
}

/// Runs `stage` on one or two inputs without a graph; its backward pass runs it again with one.
pub(crate) fn checkpoint(
    (first, second): (&Tensor, Option<&Tensor>),
    anchor: &Tensor,
    stage: Stage,
) -> Result<Tensor> {
    let state = Box::into_raw(Box::new(stage)).cast::<c_void>();
    let mut output = std::ptr::null_mut();
    // SAFETY: the tensors live through the call; the C++ side owns `state` from here on, whether or not
    // the call succeeds; on success `output` is a tensor that is ours.
    unsafe {
        outcome(liseg_checkpoint(
            first.as_ptr(),
            second.map_or(std::ptr::null(), Tensor::as_ptr),
            anchor.as_ptr(),
            state,
            run,
            drop_stage,
            &raw mut output,
        ))?;
        Ok(Tensor::from_ptr(output))
    }
}

unsafe extern "C" fn run_task(state: *const c_void, i: i64) {
    // SAFETY: `state` is the reference of `in_parallel`, which waits for all tasks.
    let task = unsafe { *state.cast::<&(dyn Fn(usize) + Sync)>() };
    task(usize::try_from(i).unwrap_or(0));
}

/// Calls `task` with every number below `count`, on libtorch's threads; false if it could not.
fn in_parallel(count: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
    if count == 1 {
        task(0);
        return true;
    }
    // SAFETY: `run_task` reads from the pointer what is put into it here, before the call returns.
    let run = unsafe { liseg_parallel(count as i64, run_task, (&raw const task).cast()) };
    match outcome(run) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("no threads for a kernel: {error}");
            false
        }
    }
}

unsafe extern "C" fn add_up(
    geometry: *const Geometry,
    x: *const f32,
    g: *const f32,
    weights: *mut f32,
) -> bool {
    // SAFETY: the C++ side gives a shape and the contiguous values of tensors that have it.
    let (geometry, x, g, weights) = unsafe {
        let geometry = &*geometry;
        let [of_x, of_g, of_weights] = geometry.lengths();
        (
            geometry,
            std::slice::from_raw_parts(x, of_x),
            std::slice::from_raw_parts(g, of_g),
            std::slice::from_raw_parts_mut(weights, of_weights),
        )
    };
    weight_gradient::add_up(geometry, x, g, weights, &in_parallel)
}

/// A convolution in f32 on the CPU, whose gradient of the weights is summed by [`weight_gradient`].
pub(crate) fn convolution(
    x: &Tensor,
    [weight, bias]: [&Tensor; 2],
    stride: [i64; 3],
    padding: [i64; 3],
) -> Result<Tensor> {
    let mut output = std::ptr::null_mut();
    // SAFETY: the tensors and both arrays of three live through the call; on success `output` is ours.
    unsafe {
        outcome(liseg_convolution(
            x.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            stride.as_ptr(),
            padding.as_ptr(),
            add_up,
            &raw mut output,
        ))?;
        Ok(Tensor::from_ptr(output))
    }
}

unsafe extern "C" fn join_maps(
    shape: *const Join,
    bfloat16: bool,
    coarse: *mut c_void,
    fine: *mut c_void,
    joined: *mut c_void,
    back: bool,
) -> bool {
    // SAFETY: the C++ side gives a shape and the contiguous values, of that format, of tensors that have it.
    unsafe {
        let maps = [coarse, fine, joined];
        match bfloat16 {
            true => join_maps_of::<half::bf16>(&*shape, maps, back),
            false => join_maps_of::<f32>(&*shape, maps, back),
        }
    }
}

/// # Safety
/// The maps have the lengths of `shape` and do not overlap; with `back` the first two may be written, else the third.
unsafe fn join_maps_of<T: Element>(shape: &Join, maps: [*mut c_void; 3], back: bool) -> bool {
    use std::slice::{from_raw_parts, from_raw_parts_mut};
    let [coarse, fine, joined] = maps.map(|map| map.cast::<T>());
    let [of_coarse, of_fine, of_joined] = shape.lengths();
    // SAFETY: as the caller vouches for.
    unsafe {
        if back {
            let joined = from_raw_parts(joined, of_joined);
            let coarse = from_raw_parts_mut(coarse, of_coarse);
            let fine = from_raw_parts_mut(fine, of_fine);
            return shape.split(joined, coarse, fine, &in_parallel);
        }
        let coarse = from_raw_parts(coarse, of_coarse);
        let fine = from_raw_parts(fine, of_fine);
        shape.join(
            coarse,
            fine,
            from_raw_parts_mut(joined, of_joined),
            &in_parallel,
        )
    }
}

/// Nearest-neighbour enlargement and joining of channels on the CPU, by [`Join`]; maps of f32 or bf16.
pub(crate) fn join(coarse: &Tensor, factor: [i64; 3], fine: &Tensor) -> Result<Tensor> {
    let mut output = std::ptr::null_mut();
    // SAFETY: the tensors and the array of three live through the call; on success `output` is ours.
    unsafe {
        outcome(liseg_join(
            coarse.as_ptr(),
            fine.as_ptr(),
            factor.as_ptr(),
            join_maps,
            &raw mut output,
        ))?;
        Ok(Tensor::from_ptr(output))
    }
}

unsafe extern "C" fn norm_forward(
    norm: *const Norm,
    x: *const c_void,
    across: *const c_void,
    scale: *const f32,
    shift: *const f32,
    y: *mut c_void,
    statistics: *mut f32,
) -> bool {
    // SAFETY: the C++ side gives a shape, and the contiguous values, of the format it says, of tensors that have it; `y` and
    // `statistics` are its own.
    unsafe {
        let norm = &*norm;
        let weights = [scale, shift];
        match norm.bfloat16 {
            true => norm_forward_of::<half::bf16>(norm, [x, across], weights, y, statistics),
            false => norm_forward_of::<f32>(norm, [x, across], weights, y, statistics),
        }
    }
}

/// # Safety
/// Maps, of which the first two may be null, have the length of `norm`, weights and statistics that of its channels; what is
/// written overlaps nothing.
unsafe fn norm_forward_of<T: Element>(
    norm: &Norm,
    [x, across]: [*const c_void; 2],
    weights: [*const f32; 2],
    y: *mut c_void,
    statistics: *mut f32,
) -> bool {
    use std::slice::{from_raw_parts, from_raw_parts_mut};
    // SAFETY: as the caller vouches for.
    unsafe {
        let map = |map: *const c_void| {
            (!map.is_null()).then(|| from_raw_parts(map.cast::<T>(), norm.length()))
        };
        let [scale, shift] = weights.map(|w| from_raw_parts(w, norm.channels));
        let maps = Forward {
            x: map(x),
            across: map(across),
            scale,
            shift,
            y: from_raw_parts_mut(y.cast::<T>(), norm.length()),
            statistics: from_raw_parts_mut(statistics, norm.samples * 2 * norm.channels),
        };
        norm.forward(maps, &in_parallel)
    }
}

unsafe extern "C" fn norm_backward(
    norm: *const Norm,
    x: *const c_void,
    y: *const c_void,
    gradient: *const c_void,
    scale: *const f32,
    statistics: *const f32,
    of_x: *mut c_void,
    of_across: *mut c_void,
    of_weights: *mut f32,
) -> bool {
    // SAFETY: as for `norm_forward`; all that is written is the C++ side's own.
    unsafe {
        let norm = &*norm;
        let (read, written) = ([x, y, gradient], [of_x, of_across]);
        let beside = [scale, statistics];
        match norm.bfloat16 {
            true => norm_backward_of::<half::bf16>(norm, read, beside, written, of_weights),
            false => norm_backward_of::<f32>(norm, read, beside, written, of_weights),
        }
    }
}

/// # Safety
/// Maps, of which y and those that are written may be null, have the length of `norm`, weights and statistics that of its
/// channels; what is written overlaps nothing.
unsafe fn norm_backward_of<T: Element>(
    norm: &Norm,
    [x, y, gradient]: [*const c_void; 3],
    [scale, statistics]: [*const f32; 2],
    written: [*mut c_void; 2],
    of_weights: *mut f32,
) -> bool {
    use std::slice::{from_raw_parts, from_raw_parts_mut};
    // SAFETY: as the caller vouches for.
    unsafe {
        let map = |map: *const c_void| from_raw_parts(map.cast::<T>(), norm.length());
        let [of_x, of_across] = written.map(|map| {
            (!map.is_null()).then(|| from_raw_parts_mut(map.cast::<T>(), norm.length()))
        });
        let maps = Backward {
            x: map(x),
            y: (!y.is_null()).then(|| map(y)),
            gradient: map(gradient),
            scale: from_raw_parts(scale, norm.channels),
            statistics: from_raw_parts(statistics, norm.samples * 2 * norm.channels),
            of_x,
            of_across,
            of_weights: from_raw_parts_mut(of_weights, 2 * norm.channels),
        };
        norm.backward(maps, &in_parallel)
    }
}

/// How a map is normalised by [`normalise`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Normalise {
    /// Added to the variance.
    pub(crate) epsilon: f64,
    /// What values below zero are multiplied with.
    pub(crate) slope: f64,
    /// Whether to write over the map where its layout allows it; only for maps that no graph needs.
    pub(crate) over: bool,
}

/// Instance norm on the CPU, by [`Norm`], with `across` added before the rectifier; maps of f32 or bf16.
pub(crate) fn normalise(
    x: &Tensor,
    [scale, shift]: [&Tensor; 2],
    across: Option<&Tensor>,
    how: Normalise,
) -> Result<Tensor> {
    static KERNELS: NormKernels = NormKernels {
        forward: norm_forward,
        backward: norm_backward,
    };
    let mut output = std::ptr::null_mut();
    // SAFETY: the tensors live through the call, the kernels for ever; on success `output` is ours.
    unsafe {
        outcome(liseg_normalise(
            x.as_ptr(),
            scale.as_ptr(),
            shift.as_ptr(),
            across.map_or(std::ptr::null(), Tensor::as_ptr),
            how.epsilon,
            how.slope,
            &raw const KERNELS,
            how.over,
            &raw mut output,
        ))?;
        Ok(Tensor::from_ptr(output))
    }
}

fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

/// v = momentum·v + d with d = g + decay·w; w −= lr·(d + momentum·v) with Nesterov, else w −= lr·v;
/// all parameters in one kernel.
pub(crate) fn fused_sgd(
    [weights, gradients, velocities]: [&[Tensor]; 3],
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    nesterov: bool,
) -> Result<()> {
    let [w, g, v] = [weights, gradients, velocities].map(pointers);
    // Without momentum there are no velocities.
    if w.len() != g.len() || w.len() != v.len() && !(v.is_empty() && momentum.abs() == 0.0) {
        return Err(Error::Weights("lists of unequal length".into()));
    }
    // SAFETY: arrays of as many pointers to live tensors as the counts beside them say, whose contents
    // libtorch checks.
    outcome(unsafe {
        liseg_fused_sgd(
            w.as_ptr(),
            g.as_ptr(),
            v.as_ptr(),
            w.len() as i64,
            v.len() as i64,
            lr,
            momentum,
            weight_decay,
            nesterov,
        )
    })
}

/// The constants of a step of Adam or AdamW.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    pub(crate) lr: f64,
    pub(crate) betas: [f64; 2],
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
    /// Whether the decay acts on the weights (AdamW) or on the gradient (Adam).
    pub(crate) decoupled: bool,
}

/// Adam's step `steps` (a scalar f32 tensor, counted from 1), all parameters in one kernel.
pub(crate) fn fused_adam(
    [weights, gradients, means, squares]: [&[Tensor]; 4],
    steps: &Tensor,
    how: AdamStep,
) -> Result<()> {
    let [w, g, m, s] = [weights, gradients, means, squares].map(pointers);
    if [&g, &m, &s].iter().any(|list| list.len() != w.len()) {
        return Err(Error::Weights("lists of unequal length".into()));
    }
    // SAFETY: four arrays of `count` pointers to live tensors, whose contents libtorch checks.
    outcome(unsafe {
        liseg_fused_adam(
            w.as_ptr(),
            g.as_ptr(),
            m.as_ptr(),
            s.as_ptr(),
            w.len() as i64,
            steps.as_ptr(),
            how.lr,
            how.betas[0],
            how.betas[1],
            how.epsilon,
            how.weight_decay,
            how.decoupled,
        )
    })
}

/// The L2 norm of each tensor, as one vector; there must be one.
pub(crate) fn norms(tensors: &[Tensor]) -> Result<Tensor> {
    let list = pointers(tensors);
    let mut output = std::ptr::null_mut();
    // SAFETY: an array of as many pointers to live tensors as the count says; on success `output` is ours.
    unsafe {
        outcome(liseg_norms(
            list.as_ptr(),
            list.len() as i64,
            &raw mut output,
        ))?;
        Ok(Tensor::from_ptr(output))
    }
}

/// Each tensor times `factor`, in place.
pub(crate) fn scale(tensors: &[Tensor], factor: f64) -> Result<()> {
    let list = pointers(tensors);
    if list.is_empty() {
        return Ok(());
    }
    // SAFETY: an array of as many pointers to live tensors as the count says.
    outcome(unsafe { liseg_scale(list.as_ptr(), list.len() as i64, factor) })
}

/// Zeros into each tensor.
pub(crate) fn zero(tensors: &[Tensor]) -> Result<()> {
    let list = pointers(tensors);
    if list.is_empty() {
        return Ok(());
    }
    // SAFETY: an array of as many pointers to live tensors as the count says.
    outcome(unsafe { liseg_zero(list.as_ptr(), list.len() as i64) })
}

/// decay · average + (1 − decay) · value, into each average.
pub(crate) fn average(averages: &[Tensor], values: &[Tensor], decay: f64) -> Result<()> {
    if averages.len() != values.len() {
        return Err(Error::Weights("lists of unequal length".into()));
    }
    let [a, v] = [averages, values].map(pointers);
    if a.is_empty() {
        return Ok(());
    }
    // SAFETY: two arrays of `count` pointers to live tensors, whose contents libtorch checks.
    outcome(unsafe { liseg_average(a.as_ptr(), v.as_ptr(), a.len() as i64, decay) })
}

/// A copy of a tensor of the CPU in page-locked memory.
pub(crate) fn page_locked(tensor: &Tensor) -> Result<Tensor> {
    let mut output = std::ptr::null_mut();
    // SAFETY: the tensor lives through the call; on success `output` is a tensor that is ours.
    unsafe {
        outcome(liseg_page_locked(tensor.as_ptr(), &raw mut output))?;
        Ok(Tensor::from_ptr(output))
    }
}

/// Whether cuDNN may round the operands of f32 convolutions to TF32.
pub(crate) fn allow_tf32(allow: bool) -> Result<()> {
    // SAFETY: sets a flag of libtorch's; the C++ side catches what that throws.
    outcome(unsafe { liseg_allow_tf32(allow) })
}

/// Bytes that tensors hold on CUDA device `index`: (now, at most since the last reset).
pub(crate) fn cuda_memory(index: usize) -> Result<(u64, u64)> {
    let (mut now, mut peak) = (0, 0);
    // SAFETY: both point to integers of ours; the C++ side catches what a missing device throws.
    outcome(unsafe { liseg_cuda_memory(index as i64, &raw mut now, &raw mut peak) })?;
    Ok((
        u64::try_from(now).unwrap_or(0),
        u64::try_from(peak).unwrap_or(0),
    ))
}

/// Returns cached blocks to CUDA device `index` and forgets the peak.
pub(crate) fn cuda_reset(index: usize) -> Result<()> {
    // SAFETY: the C++ side catches what a missing device throws.
    outcome(unsafe { liseg_cuda_reset(index as i64) })
}

/// From here on, blocks of tensors on the CPU are reused.
pub(crate) fn reuse_memory() {
    // libtorch's table of allocators has no lock.
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: replaces a pointer to one allocator by that to another, which is never destroyed.
    ONCE.call_once(|| unsafe { liseg_reuse_memory() });
}

/// Returns blocks that wait for reuse to the system.
pub(crate) fn release_memory() {
    // SAFETY: unmaps pages that no tensor lies in, under the allocator's lock.
    unsafe { liseg_release_memory() }
}

/// Bytes of large tensors on the CPU: (now, at most since the last release, kept for reuse).
pub(crate) fn count_memory() -> [u64; 3] {
    let [mut live, mut peak, mut kept] = [0i64; 3];
    // SAFETY: all three point to integers of ours.
    unsafe { liseg_count_memory(&raw mut live, &raw mut peak, &raw mut kept) };
    [live, peak, kept].map(|bytes| u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Mutex;

    #[test]
    fn tasks_share_libtorchs_threads_and_each_runs_once() {
        tch::set_num_threads(2);
        let seen = Mutex::new((HashSet::new(), vec![0; 64]));
        assert!(in_parallel(64, &|i| {
            let mut seen = seen.lock().unwrap();
            seen.0.insert(std::thread::current().id());
            seen.1[i] += 1;
        }));
        let (threads, times) = seen.into_inner().unwrap();
        assert_eq!(threads.len(), 2);
        assert!(times.iter().all(|n| *n == 1));
    }
}
