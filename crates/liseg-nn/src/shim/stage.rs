//! Stages of a network that libtorch runs again in the backward pass.

use super::outcome;
use crate::Result;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::Tensor;
use torch_sys::C_tensor;

type Run = unsafe extern "C" fn(*mut c_void, *const *const C_tensor, i64) -> *mut C_tensor;
type Drop = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    fn liseg_checkpoint(
        first: *const C_tensor,
        second: *const C_tensor,
        anchor: *const C_tensor,
        state: *mut c_void,
        run: Run,
        drop: Drop,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
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
