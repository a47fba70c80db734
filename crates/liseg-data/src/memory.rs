//! How many cases fit into memory at a time.

use crate::{Error, Plan, Result};
use liseg_mri::nifti::Header;
use liseg_mri::resample::resampled_shape;
use liseg_volume::{Geometry, Spacing};
use rayon::prelude::*;
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

/// Refuses a file whose voxels take more memory than is free, before any of them is read. `bytes` are those that are held
/// for every voxel at once, at least.
///
/// # Errors
/// [`Error::Voxels`].
pub fn check_voxels(file: &Path, header: &Header, bytes: u64) -> Result<()> {
    let needed = voxels_of(header).saturating_mul(bytes);
    match available_memory() {
        Some(available) if needed > available => Err(Error::Voxels {
            path: file.to_owned(),
            shape: header.geometry().shape,
            needed,
            available,
        }),
        _ => Ok(()),
    }
}

fn voxels_of(header: &Header) -> u64 {
    let sides = header.geometry().shape.map(|n| n as u64);
    sides.into_iter().fold(1, u64::saturating_mul)
}

/// Works on all items, on as many threads as rayon has; items of which so many might not fit into the free memory come
/// after the others, one by one. Results are in the order of the items. `bytes` says what an item takes; it need not be
/// exact.
pub fn side_by_side<'a, T: Sync, R: Send>(
    items: &'a [T],
    bytes: impl Fn(&'a T) -> u64,
    work: impl Fn(&'a T) -> R + Sync,
) -> Vec<R> {
    within(available_memory(), items, bytes, work)
}

fn within<'a, T: Sync, R: Send>(
    free: Option<u64>,
    items: &'a [T],
    bytes: impl Fn(&'a T) -> u64,
    work: impl Fn(&'a T) -> R + Sync,
) -> Vec<R> {
    let share = free.map_or(u64::MAX, |free| free / rayon::current_num_threads() as u64);
    let (small, large): (Vec<usize>, Vec<usize>) =
        (0..items.len()).partition(|&at| bytes(&items[at]) <= share);
    let done = |at: usize| (at, work(&items[at]));
    let mut results: Vec<(usize, R)> = small.into_par_iter().map(done).collect();
    results.extend(large.into_iter().map(done));
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What the voxels of a file take at so many bytes each; nothing where its header cannot be read.
pub fn bytes_of_voxels(file: &Path, bytes: u64) -> u64 {
    let header = liseg_mri::nifti::read_header(file);
    header.map_or(0, |header| voxels_of(&header).saturating_mul(bytes))
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

    #[test]
    fn items_too_large_to_go_side_by_side_come_one_by_one() {
        let (running, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build();
        let sizes = [60, 1, 50, 2, 3, 70, 4];
        let doubled = pool.unwrap().install(|| {
            let work = |&size: &u64| {
                let now = running.fetch_add(size, Ordering::SeqCst) + size;
                most.fetch_max(now, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(size, Ordering::SeqCst);
                2 * size
            };
            within(Some(100), &sizes, |&size| size, work)
        });
        assert_eq!(doubled, [120, 2, 100, 4, 6, 140, 8]);
        let most = most.into_inner();
        assert_eq!(most, 70, "large items ran beside others");
    }

    #[test]
    fn voxels_that_do_not_fit_are_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vast.nii");
        let image = liseg_volume::Volume::new(
            ndarray::Array3::<u8>::zeros((2, 2, 2)),
            liseg_volume::Affine::from_spacing(Spacing::ISOTROPIC_1MM),
        );
        liseg_mri::nifti::write_labels(&path, &image.unwrap(), None).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for axis in 0..3 {
            let at = 42 + 2 * axis;
            bytes[at..at + 2].copy_from_slice(&20_000i16.to_le_bytes());
        }
        std::fs::write(&path, &bytes).unwrap();
        // A hole on the disk is long enough.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(352 + 20_000u64.pow(3)).unwrap();
        let header = liseg_mri::nifti::read_header(&path).unwrap();
        let message = check_voxels(&path, &header, 1).unwrap_err().to_string();
        assert!(
            message.contains("vast.nii") && message.contains("7450.6 GiB"),
            "{message}"
        );
        assert_eq!(bytes_of_voxels(&path, 2), 2 * 20_000u64.pow(3));
    }
}
