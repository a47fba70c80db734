//! How many cases fit into memory at a time.

use crate::{Error, Plan, Result};
use liseg_mri::nifti::Header;
use liseg_mri::resample::resampled_shape;
use liseg_volume::{Geometry, Spacing};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that preprocessing of an image needs at its peak, from its header alone: the image twice
/// while it is turned and cropped, then once beside the intermediate results of resampling, which are
/// in f64.
///
/// # Errors
/// [`Error::Memory`] when that is more than is free.
pub(crate) fn needed(image: &Path, header: &Header, plan: &Plan) -> Result<u64> {
    let grid = header.geometry();
    let (shape, spacing) = turned(&grid);
    let new = resampled_shape(shape, spacing, plan.spacing);
    let count = |shape: [usize; 3]| {
        let sides = shape.iter().map(|&n| n as u64);
        sides.fold(1, u64::saturating_mul)
    };
    let [_, height, width] = new;
    let middle = count([shape[0], height, width]);
    let (source, target) = (count(grid.shape), count(new));
    let resampling = [(5, source), (8, middle.max(target)), (5, target)]
        .map(|(bytes, voxels)| voxels.saturating_mul(bytes))
        .into_iter()
        .fold(0, u64::saturating_add);
    let needed = source.saturating_mul(8).max(resampling);
    match available_memory() {
        Some(available) if needed > available => Err(Error::Memory {
            path: image.to_owned(),
            needed,
            available,
            spacing: plan.spacing,
        }),
        _ => Ok(needed),
    }
}

/// Shape and spacing of a grid once its axes are in canonical order.
fn turned(grid: &Geometry) -> ([usize; 3], Spacing) {
    let mut shape = grid.shape;
    let mut spacing = grid.spacing().zyx();
    for (axis, direction) in grid.orientation().xyz().into_iter().enumerate() {
        let place = 2 - direction.world_axis();
        shape[place] = grid.shape[2 - axis];
        spacing[place] = grid.spacing().zyx()[2 - axis];
    }
    (shape, Spacing::try_from(spacing).unwrap_or(grid.spacing()))
}

/// Bytes of memory that are free for use, where the system tells.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// A budget that cases take their share of before they begin, and give back afterwards.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    running: usize,
}

/// A share of a budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(total: u64) -> Self {
        Self {
            total,
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// Waits until `bytes` are free. A case that is larger than the whole budget runs alone.
    pub(crate) fn take(&self, bytes: u64) -> Share<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let full =
            |state: &mut State| state.running > 0 && state.used.saturating_add(bytes) > self.total;
        let mut state = self
            .freed
            .wait_while(state, full)
            .unwrap_or_else(PoisonError::into_inner);
        state.used = state.used.saturating_add(bytes);
        state.running += 1;
        Share {
            budget: self,
            bytes,
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let state = self.budget.state.lock();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.used = state.used.saturating_sub(self.bytes);
        state.running -= 1;
        drop(state);
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn the_budget_is_never_exceeded_and_large_cases_run_alone() {
        let budget = Budget::new(100);
        let (used, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..6u64 {
                let (budget, used, most) = (&budget, &used, &most);
                scope.spawn(move || {
                    for round in 0..20 {
                        let bytes = if (thread, round) == (3, 7) {
                            500
                        } else {
                            10 + 15 * thread
                        };
                        let share = budget.take(bytes);
                        let now = used.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        // The large one counts as the whole budget when it is alone.
                        most.fetch_max(if now == 500 { 100 } else { now }, Ordering::SeqCst);
                        std::thread::yield_now();
                        used.fetch_sub(bytes, Ordering::SeqCst);
                        drop(share);
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!(most <= 100, "{most}");
        assert!(most > 50, "nothing ran side by side");
    }

    #[test]
    fn memory_is_estimated_from_the_header() {
        let (_folder, dataset) = crate::testing::dataset();
        let mut plan = crate::testing::tiny_plan();
        let voxels = 10 * 24 * 20;
        let image = &dataset.cases()[0].image;
        let header = liseg_mri::nifti::read_header(image).unwrap();
        let estimate = needed(image, &header, &plan).unwrap();
        assert!((8 * voxels..40 * voxels).contains(&estimate), "{estimate}");
        // Finer than any memory has room for.
        plan.spacing = Spacing::try_from([1e-4; 3]).unwrap();
        let message = needed(image, &header, &plan).unwrap_err().to_string();
        assert!(message.contains("are free"), "{message}");
    }
}
