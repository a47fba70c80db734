//! Operations on lists of tensors: one kernel, or a few, in place of one for each tensor.

use super::outcome;
use crate::{Error, Result};
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
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
    fn liseg_forget_gradients(parameters: *const *const C_tensor, count: i64) -> *mut c_char;
    fn liseg_average(
        averages: *const *const C_tensor,
        values: *const *const C_tensor,
        count: i64,
        decay: f64,
    ) -> *mut c_char;
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
    // SAFETY: arrays of as many pointers to live tensors as the counts beside them say; the caller gives tensors of equal
    // size, format and device at equal places.
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
    // SAFETY: four arrays of `count` pointers to live tensors; the caller gives tensors of equal size, format and device at
    // equal places.
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

/// Leaves each of these parameters without a gradient.
pub(crate) fn forget_gradients(parameters: &[&Tensor]) -> Result<()> {
    let list: Vec<_> = parameters.iter().map(|p| p.as_ptr()).collect();
    // SAFETY: an array of as many pointers to live tensors as the count says.
    outcome(unsafe { liseg_forget_gradients(list.as_ptr(), list.len() as i64) })
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
