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
    Err(why_no_cuda(
        cuda_library_is_loaded(),
        std::path::Path::new("/proc/driver/nvidia/version").exists(),
        std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref(),
    ))
}

/// What is missing, and what to do about it.
fn why_no_cuda(library: bool, driver: bool, visible: Option<&str>) -> String {
    match (library, driver, visible) {
        (false, false, _) => "this libtorch is a CPU build, and no NVIDIA driver is loaded here; to use a \
                              GPU, install a driver and a libtorch with CUDA, then run `cargo xtask setup`"
            .into(),
        (false, true, _) => "an NVIDIA driver is loaded, but this libtorch is a CPU build or its \
                             libtorch_cuda was not found; put a libtorch 2.11.0 with CUDA on LIBTORCH (to \
                             build) or LD_LIBRARY_PATH (to run)"
            .into(),
        (true, false, _) => "this libtorch has CUDA, but no NVIDIA driver is loaded on this machine".into(),
        (true, true, Some(devices)) => format!(
            "this libtorch has CUDA and a driver is loaded, but CUDA_VISIBLE_DEVICES is `{devices}`, \
             which leaves no usable device"
        ),
        (true, true, None) => "this libtorch has CUDA and a driver is loaded, but no device can be used; \
                               the driver may be older than this CUDA needs (see nvidia-smi)"
            .into(),
    }
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

/// Gives memory that was freed but kept for reuse back to the system, as after loading weights, so that
/// [`resident_memory_bytes`] says what is in use. Does nothing where the allocator is not glibc's.
pub fn release_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]
    // SAFETY: malloc_trim only returns free pages to the system and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
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

/// Memory that tensors hold on a CUDA device, in bytes: now, and at most since
/// [`reset_cuda_memory`]. Nothing for other devices.
pub fn cuda_memory_bytes(device: tch::Device) -> Option<(u64, u64)> {
    match device {
        tch::Device::Cuda(index) => crate::shim::cuda_memory(index).ok(),
        _ => None,
    }
}

/// Returns libtorch's cached blocks to a CUDA device and forgets the peak of
/// [`cuda_memory_bytes`]. Does nothing for other devices.
///
/// # Errors
/// When there is no such device.
pub fn reset_cuda_memory(device: tch::Device) -> crate::Result<()> {
    match device {
        tch::Device::Cuda(index) => crate::shim::cuda_reset(index),
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn every_reason_for_no_gpu_has_its_own_cure() {
        assert!(why_no_cuda(false, false, None).contains("cargo xtask setup"));
        assert!(why_no_cuda(false, true, None).contains("LD_LIBRARY_PATH"));
        assert!(why_no_cuda(true, false, None).contains("no NVIDIA driver"));
        assert!(why_no_cuda(true, true, Some("")).contains("CUDA_VISIBLE_DEVICES"));
        assert!(why_no_cuda(true, true, None).contains("nvidia-smi"));
    }

    #[test]
    fn memory_of_a_device_that_is_not_there_is_unknown() {
        assert_eq!(cuda_memory_bytes(Device::Cpu), None);
        assert!(reset_cuda_memory(Device::Cpu).is_ok());
        if cuda_devices().is_err() {
            assert_eq!(cuda_memory_bytes(Device::Cuda(0)), None);
            assert!(reset_cuda_memory(Device::Cuda(0)).is_err());
        }
    }
}
