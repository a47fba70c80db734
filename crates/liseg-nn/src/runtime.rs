//! The process that libtorch runs in: threads, memory, CUDA.

mod cuda;
mod end;
mod memory;

pub use cuda::{allow_tf32, cuda_devices, cuda_memory_bytes, load_cuda, reset_cuda_memory};
pub use end::exit;
pub use memory::{
    TensorMemory, available_memory_bytes, keep_large_blocks, peak_memory_bytes,
    release_free_memory, resident_memory_bytes, return_large_blocks, reuse_tensor_memory,
    tensor_memory,
};

use serde::Serialize;

/// Facts about libtorch in this process, for reports and run manifests.
#[derive(Debug, Clone, Serialize)]
pub struct Runtime {
    /// The libtorch release this build is pinned to.
    pub libtorch: &'static str,
    /// Threads that one operation on the CPU is split over.
    pub threads: i32,
    /// Number of usable CUDA devices.
    pub cuda_devices: usize,
    /// Why there is none, when there is none.
    pub cuda_unavailable: Option<String>,
    /// Whether cuDNN is usable.
    pub cudnn: bool,
    /// Whether this processor multiplies bf16 natively.
    pub cpu_bf16: bool,
}

impl Runtime {
    /// Looks at the process as it is now.
    pub fn inspect() -> Self {
        let cuda = cuda_devices();
        let usable = cuda.is_ok();
        Self {
            libtorch: "2.11.0",
            threads: tch::get_num_threads(),
            cuda_devices: cuda.as_ref().map_or(0, |n| *n),
            cuda_unavailable: cuda.err(),
            cudnn: usable && tch::Cuda::cudnn_is_available(),
            cpu_bf16: crate::precision::cpu_multiplies_bf16(),
        }
    }
}

/// Splits every CPU operation of libtorch over `threads` threads.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}
