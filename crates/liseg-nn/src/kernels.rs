//! Loops of our own over maps on the CPU, where libtorch's are slow; `shim` gives them to libtorch's graph and threads.
//!
//! Maps are channels-last. A kernel is cut into tasks by its shapes alone, so that its result does not depend on the
//! number of threads.

pub(crate) mod join;
pub(crate) mod weight_gradient;

use std::sync::{Mutex, PoisonError};

/// Calls its second argument with every number below the first, on any threads; false if it could not.
pub(crate) type Run<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync)) -> bool;

/// What a task writes, of which no other task knows.
fn with_own<T>(parts: &[Mutex<T>], i: usize, task: impl FnOnce(&mut T)) {
    if let Some(part) = parts.get(i) {
        task(&mut part.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
