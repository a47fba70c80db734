//! Memory of tensors: page-locked copies, statistics, reuse.

use super::outcome;
use crate::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn liseg_page_locked(tensor: *const C_tensor, output: *mut *mut C_tensor) -> *mut c_char;
    fn liseg_cuda_memory(index: i64, now: *mut i64, peak: *mut i64) -> *mut c_char;
    fn liseg_cuda_reset(index: i64) -> *mut c_char;
    fn liseg_reuse_memory();
    fn liseg_release_memory();
    fn liseg_count_memory(live: *mut i64, peak: *mut i64, kept: *mut i64);
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
