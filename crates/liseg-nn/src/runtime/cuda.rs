//! CUDA: whether it can be used, and its memory.

use std::sync::OnceLock;

/// Number of usable CUDA devices, or why there is none.
///
/// Loads libtorch's CUDA part first where an NVIDIA driver is there; see [`load_cuda`].
///
/// # Errors
/// A sentence that says whether this libtorch lacks CUDA or the machine lacks a usable device.
pub fn cuda_devices() -> Result<usize, String> {
    let driver = driver_is_there();
    // libtorch keeps its first answer about CUDA: it is not asked before that part is loaded.
    if (driver && load_cuda()) || LOADED.get() == Some(&true) {
        let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
        if count > 0 && tch::Cuda::is_available() {
            return Ok(count);
        }
    }
    Err(why_no_cuda(
        library().is_some(),
        driver,
        std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref(),
    ))
}

/// Whether the CUDA part was loaded, once that was tried.
static LOADED: OnceLock<bool> = OnceLock::new();

/// Loads libtorch's CUDA part for good, and says whether it is there.
///
/// Programs are linked to libtorch without it: its libraries take 0.2 GiB and a second of every start,
/// GPU or not. [`cuda_devices`] and [`DeviceChoice::resolve`](crate::DeviceChoice::resolve) load it when
/// needed. Whoever makes a CUDA device by hand calls this first, and before asking libtorch anything about
/// CUDA: it keeps its first answer.
pub fn load_cuda() -> bool {
    *LOADED.get_or_init(load)
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

/// Whether a driver is loaded, here or on the host of a virtual machine.
fn driver_is_there() -> bool {
    ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"]
        .iter()
        .any(|path| std::path::Path::new(path).exists())
}

/// The CUDA part of the libtorch that this process uses, when it has one.
#[cfg(target_os = "linux")]
fn library() -> Option<std::path::PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let of_line = |line: &str| line.find('/').map(|at| line[at..].to_owned());
    let cpu = maps
        .lines()
        .filter_map(of_line)
        .find(|path| path.ends_with("/libtorch_cpu.so"))?;
    let cuda = std::path::Path::new(&cpu).with_file_name("libtorch_cuda.so");
    cuda.exists().then_some(cuda)
}

/// Elsewhere it is loaded from the start, or not at all.
#[cfg(not(target_os = "linux"))]
fn library() -> Option<std::path::PathBuf> {
    tch::Cuda::is_available().then(std::path::PathBuf::new)
}

/// Loads it; its kernels make themselves known to libtorch.
#[cfg(target_os = "linux")]
fn load() -> bool {
    use std::os::unix::ffi::OsStrExt;
    let path = library().and_then(|p| std::ffi::CString::new(p.as_os_str().as_bytes()).ok());
    let Some(path) = path else { return false };
    #[expect(unsafe_code, reason = "loads a part of libtorch while it runs")]
    // SAFETY: the library lies beside the libtorch that is loaded and belongs to it; its initialisers add
    // to tables of libtorch that have locks. The text is copied at once.
    let failure = unsafe {
        if libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL).is_null() {
            let text = libc::dlerror();
            (!text.is_null()).then(|| {
                std::ffi::CStr::from_ptr(text)
                    .to_string_lossy()
                    .into_owned()
            })
        } else {
            None
        }
    };
    if let Some(text) = &failure {
        tracing::warn!("the CUDA part of libtorch cannot be loaded: {text}");
    }
    failure.is_none()
}

#[cfg(not(target_os = "linux"))]
fn load() -> bool {
    tch::Cuda::is_available()
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

/// Whether convolutions of f32 maps on CUDA devices may round their operands to TF32, 10 bits of mantissa in place of 23.
///
/// libtorch lets them, and so does LiSeg. Without it f32 on a GPU agrees with f32 on a CPU to rounding. Holds for the whole
/// process; gradients of a map are to be taken as the map was computed.
///
/// # Errors
/// When libtorch fails.
pub fn allow_tf32(allow: bool) -> crate::Result<()> {
    crate::shim::allow_tf32(allow)
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
