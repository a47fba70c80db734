//! The kernels of this crate, as nodes of libtorch's graph and on its threads.

use super::outcome;
use crate::Result;
use crate::kernels::Element;
use crate::kernels::join::Join;
use crate::kernels::norm::{Backward, Forward, Norm};
use crate::kernels::weight_gradient::{self, Geometry};
use std::ffi::{c_char, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

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
