//! The process that libtorch runs in: threads, memory, CUDA.

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
        Self {
            libtorch: "2.11.0",
            threads: tch::get_num_threads(),
            cuda_devices: cuda.as_ref().map_or(0, |n| *n),
            cuda_unavailable: cuda.err(),
            cudnn: tch::Cuda::cudnn_is_available(),
            cpu_bf16: crate::precision::cpu_multiplies_bf16(),
        }
    }
}

/// Number of usable CUDA devices, or why there is none.
///
/// # Errors
/// A sentence that says whether this libtorch lacks CUDA or the machine lacks a usable device.
pub fn cuda_devices() -> Result<usize, String> {
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if count > 0 && tch::Cuda::is_available() {
        return Ok(count);
    }
    Err(if cuda_library_is_loaded() {
        "this libtorch has CUDA, but no usable device was found (driver missing or too old, or no GPU)"
            .into()
    } else {
        "the CUDA part of libtorch is not loaded (this libtorch is a CPU build, or its libtorch_cuda was not linked)"
            .into()
    })
}

#[cfg(target_os = "linux")]
fn cuda_library_is_loaded() -> bool {
    std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains("libtorch_cuda"))
}

#[cfg(not(target_os = "linux"))]
fn cuda_library_is_loaded() -> bool {
    tch::Cuda::is_available()
}

/// Splits every CPU operation of libtorch over `threads` threads.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}

/// Makes the C allocator keep large blocks for reuse instead of returning them to the system.
///
/// A training step allocates and frees activations of tens of megabytes by the hundred. By default
/// glibc maps each one afresh and the kernel zeroes it page by page on first touch, a quarter of
/// the step's time on a CPU. Call once, at the start of a program that trains or predicts. Does
/// nothing where the allocator is not glibc's.
pub fn keep_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
    // SAFETY: mallopt only sets parameters of the allocator and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

/// The largest amount of memory this process has held so far, in bytes, where the system says.
pub fn peak_memory_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// The memory that this process holds now, in bytes, where the system says.
pub fn resident_memory_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Memory the system can still give out, in bytes, where it says.
pub fn available_memory_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
