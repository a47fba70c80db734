//! What tch does not bind, through a small piece of C++ (`shim`).
//!
//! The only module of this crate that is unsafe for libtorch's sake; what it offers is safe.

#![expect(
    unsafe_code,
    reason = "calls C++ that was compiled against the same libtorch as tch"
)]

mod kernels;
mod lists;
mod memory;
mod stage;

pub(crate) use kernels::{Normalise, convolution, join, normalise};
pub(crate) use lists::{AdamStep, average, forget_gradients, fused_adam, fused_sgd, norms, scale};
pub(crate) use memory::{
    count_memory, cuda_memory, cuda_reset, page_locked, release_memory, reuse_memory,
};
pub(crate) use stage::checkpoint;

use crate::Result;
use std::ffi::{CStr, c_char};

unsafe extern "C" {
    fn liseg_free_text(message: *mut c_char);
    fn liseg_records_gradients() -> bool;
    fn liseg_has_onednn() -> bool;
    fn liseg_allow_tf32(allow: bool) -> *mut c_char;
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
    Err(tch::TchError::Torch(text).into())
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

/// Whether cuDNN may round the operands of f32 convolutions to TF32.
pub(crate) fn allow_tf32(allow: bool) -> Result<()> {
    // SAFETY: sets a flag of libtorch's; the C++ side catches what that throws.
    outcome(unsafe { liseg_allow_tf32(allow) })
}
