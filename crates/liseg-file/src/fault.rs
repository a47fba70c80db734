//! A process that ends, or a disk that is full, at a chosen write: for tests of what is left then.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Ends the process at once, before the n-th of its files gets its name, where `LISEG_KILL_AT_WRITE` is n.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] from the n-th file on, where `LISEG_FULL_AT_WRITE` is n.
pub(crate) fn before_naming() -> io::Result<()> {
    static AT: OnceLock<[Option<u64>; 2]> = OnceLock::new();
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let [kill, full] =
        *AT.get_or_init(|| ["LISEG_KILL_AT_WRITE", "LISEG_FULL_AT_WRITE"].map(number));
    let write = 1 + WRITES.fetch_add(1, Ordering::Relaxed);
    if kill == Some(write) {
        std::process::abort();
    }
    match full.is_some_and(|first| write >= first) {
        true => Err(io::ErrorKind::StorageFull.into()),
        false => Ok(()),
    }
}
