//! Memory of the process.

/// Lets tensors on the CPU reuse each other's memory: a block of 256 KiB or more is cut from pages that
/// other tensors gave back, before the system is asked for new ones.
///
/// A network allocates and frees maps of tens of megabytes by the hundred. glibc either maps each one
/// afresh, and the kernel clears it page by page, a quarter of a training step's time on a CPU; or it keeps
/// them in its heap, where a block that is asked for with an alignment rarely fits into one of the same
/// size that was freed, and the process grows to a multiple of what lives at once. Here it grows to the
/// largest sum of tensors alive, and a sixteenth of that.
///
/// For good, and for every user of libtorch in this process. Call at the start of a program. Does nothing
/// but on Linux.
pub fn reuse_tensor_memory() {
    crate::shim::reuse_memory();
}

/// Makes the C allocator keep large blocks for reuse instead of returning them to the system, for programs
/// that train: their loaders allocate the same arrays again and again. [`reuse_tensor_memory`] does so for
/// tensors. Call at the start. Does nothing where the allocator is not glibc's.
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

/// For programs that hold few but large arrays, as predicting does: [`reuse_tensor_memory`], and every
/// array of 1 MiB or more returns to the system as soon as it is freed. Call at the start. Does nothing
/// where the allocator is not glibc's.
pub fn return_large_blocks() {
    reuse_tensor_memory();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
    // SAFETY: mallopt only sets parameters of the allocator and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 << 20);
    }
}

/// Gives memory that was freed but kept for reuse back to the system, as after loading weights, so that
/// [`resident_memory_bytes`] says what is in use; the peak of [`tensor_memory`] is forgotten.
pub fn release_free_memory() {
    crate::shim::release_memory();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]
    // SAFETY: malloc_trim only returns free pages to the system and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What tensors on the CPU hold, in bytes; blocks below 256 KiB, and those from before
/// [`reuse_tensor_memory`], are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TensorMemory {
    /// Alive.
    pub now: u64,
    /// Alive at most, since [`release_free_memory`].
    pub peak: u64,
    /// Freed, and kept for reuse.
    pub kept: u64,
}

/// What tensors on the CPU hold; all zero before [`reuse_tensor_memory`] and where that does nothing.
pub fn tensor_memory() -> TensorMemory {
    let [now, peak, kept] = crate::shim::count_memory();
    TensorMemory { now, peak, kept }
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
