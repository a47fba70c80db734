//! A process that ends at a chosen write, for tests of what a kill leaves behind.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Ends the process at once, before the n-th of its files gets its name, where `LISEG_KILL_AT_WRITE` is n.
pub(crate) fn before_naming() {
    static AT: OnceLock<Option<u64>> = OnceLock::new();
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let at = AT.get_or_init(|| std::env::var("LISEG_KILL_AT_WRITE").ok()?.parse().ok());
    if *at == Some(1 + WRITES.fetch_add(1, Ordering::Relaxed)) {
        std::process::abort();
    }
}
