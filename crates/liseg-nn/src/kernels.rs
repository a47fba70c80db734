//! Loops of our own over maps on the CPU, where libtorch's are slow; `shim` gives them to libtorch's graph and threads.
//!
//! Maps are channels-last. A kernel is cut into tasks by its shapes alone, so that its result does not depend on the
//! number of threads.

pub(crate) mod join;
pub(crate) mod norm;
mod vectorised;
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

/// A number format that maps are stored in; arithmetic is in f32 or wider.
pub(crate) trait Element: Copy + Send + Sync {
    fn to_f32(self) -> f32;
    fn of_f32(value: f32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn of_f32(value: f32) -> Self {
        value
    }
}

impl Element for half::bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }

    #[inline(always)]
    fn of_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
}

#[cfg(test)]
mod testing {
    /// A [`super::Run`] of this thread alone.
    pub(super) fn one_by_one(count: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
        (0..count).for_each(task);
        true
    }

    /// Numbers between -1 and 1.24, other ones for another `seed`.
    pub(super) fn values(count: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 7919 + seed * 31) % 113) as f32 / 50.0 - 1.0;
        (0..count).map(value).collect()
    }
}
