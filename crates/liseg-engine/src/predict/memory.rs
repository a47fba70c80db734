//! How much memory a prediction will take, before it begins.

use super::accumulator::Storage;
use super::sliding_window::SlidingWindow;
use crate::{Error, Result};
use liseg_data::Plan;
use liseg_mri::resample::{Resampling, resampled_shape, separate_axis};
use liseg_volume::Geometry;

/// What one image takes in each stage of its way, in bytes, beside what the process holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaseMemory {
    /// Reading, turning, resampling.
    pub loading: u64,
    /// The image on the network's grid, the network at work, sums of tiles, masks and maps.
    pub tiles: u64,
    /// Cleaning, turning back, writing.
    pub writing: u64,
}

impl CaseMemory {
    /// The worst stage when one follows the other.
    pub fn one_by_one(&self) -> u64 {
        self.loading.max(self.tiles).max(self.writing)
    }

    /// All stages at once: the next image loads and the last is written while tiles run.
    pub fn together(&self) -> u64 {
        self.loading + self.tiles + self.writing
    }

    fn or_worse(self, other: Self) -> Self {
        Self {
            loading: self.loading.max(other.loading),
            tiles: self.tiles.max(other.tiles),
            writing: self.writing.max(other.writing),
        }
    }
}

/// What is known about a file from its header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FileSize {
    pub(super) geometry: Geometry,
    /// Bytes on disk.
    pub(super) bytes: u64,
}

/// What a prediction makes, as far as memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    /// Channels whose tiles are summed.
    pub(super) channels: usize,
    /// Maps of floats on the file's grid.
    pub(super) maps: usize,
}

/// How much more than its live activations a network on the CPU holds. The allocator keeps large blocks
/// for reuse ([`liseg_nn::runtime::keep_large_blocks`]), and a block asked for with an alignment rarely
/// fits into one of the same size that was freed. Measured with STU-Net-S, patches of 48×192×224, bf16.
const HELD: f64 = 2.4;

/// Buffers that compressing and everything small takes.
const SMALL: u64 = 48 << 20;

/// The stages of one image; `network` is the largest sum of live activations for one batch of tiles.
pub(super) fn of_case(
    file: FileSize,
    plan: &Plan,
    window: &SlidingWindow,
    job: Job,
    network: u64,
) -> CaseMemory {
    let geometry = file.geometry;
    let (n, source) = (geometry.voxels() as u64, geometry.orientation());
    // Turned axes: shape and spacing in RAS, as far as they are permuted.
    let order: [usize; 3] = std::array::from_fn(|a| {
        let wanted = plan.orientation.xyz()[2 - a].world_axis();
        let found = source.xyz().iter().position(|d| d.world_axis() == wanted);
        2 - found.unwrap_or(2 - a)
    });
    let permuted = order != [0, 1, 2];
    let shape = order.map(|a| geometry.shape[a]);
    let spacing = order.map(|a| geometry.spacing().zyx()[a]);
    let spacing = liseg_volume::Spacing::try_from(spacing).unwrap_or(plan.spacing);
    let planned = resampled_shape(shape, spacing, plan.spacing).map(|n| n.max(1));
    let m: u64 = planned.iter().map(|&n| n as u64).product();

    let turning = if permuted { 8 * n } else { 4 * n };
    let resampling = if planned == shape {
        4 * n
    } else if separate_axis(spacing, plan.spacing, Resampling::IMAGE.separate_z).is_some() {
        4 * n + 8 * m
    } else if planned[0] == shape[0] {
        4 * n + 4 * m
    } else {
        // Slices are resized first, in f64.
        4 * n + 8 * shape[0] as u64 * (planned[1] * planned[2]) as u64 + 4 * m
    };
    // A compressed file lies in the memory of its voxels, as far as there is room.
    let loading = (4 * n + file.bytes.min(n / 2)).max(turning).max(resampling);

    let tile = window.tile();
    let slices: usize = (1..3).map(|a| planned[a].max(tile[a])).product();
    let sums = (job.channels * tile[0] * slices * window.storage.bytes()) as u64;
    let answers = (window.batch * (job.channels + 2) * tile.iter().product::<usize>() * 4) as u64;
    let maps = 4 * n * job.maps as u64;
    let network = (network as f64 * HELD) as u64;
    CaseMemory {
        loading,
        tiles: 4 * m + sums + answers + n + maps + network + SMALL,
        writing: n
            + maps
            + if permuted {
                n.max(if job.maps > 0 { 4 * n } else { 0 })
            } else {
                0
            }
            + SMALL,
    }
}

/// How a set of images will be predicted, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What the process holds before the first image, weights included.
    pub resident: u64,
    /// The worst image in each stage.
    pub worst: CaseMemory,
    /// Whether the next image is loaded and the last one written while tiles run.
    pub together: bool,
    /// Tiles that go through the network at once.
    pub batch: usize,
    /// How sums of tiles are kept.
    pub storage: Storage,
    /// The largest memory of the process, in bytes, as far as can be told.
    pub peak: u64,
}

/// Chooses the fastest way that stays below `limit`: stages together, else one by one, else with single
/// tiles, else with sums in half precision.
///
/// `estimate` says what the worst image takes with a window. Nothing is left out when there is no
/// limit.
///
/// # Errors
/// [`Error::Setting`] naming what would be needed when no way fits.
pub(super) fn choose(
    window: &mut SlidingWindow,
    images: usize,
    resident: u64,
    limit: Option<u64>,
    estimate: &dyn Fn(&SlidingWindow) -> CaseMemory,
) -> Result<MemoryPlan> {
    let several = images > 1;
    let mut ways = vec![(several, window.batch, window.storage)];
    if several {
        ways.push((false, window.batch, window.storage));
    }
    if window.batch > 1 {
        ways.push((false, 1, window.storage));
    }
    if window.storage == Storage::F32 {
        ways.push((false, 1, Storage::F16));
    }
    let mut last = None;
    for (together, batch, storage) in ways {
        window.batch = batch;
        window.storage = storage;
        let worst = estimate(window);
        let stages = if together {
            worst.together()
        } else {
            worst.one_by_one()
        };
        let plan = MemoryPlan {
            resident,
            worst,
            together,
            batch,
            storage,
            peak: resident + stages,
        };
        if limit.is_none_or(|limit| plan.peak <= limit) {
            return Ok(plan);
        }
        last = Some(plan);
    }
    let needed = last.map_or(0, |plan| plan.peak);
    let worst = last.map_or_else(CaseMemory::default, |plan| plan.worst);
    let stage = if worst.one_by_one() == worst.tiles {
        "segmenting it on the plan's grid; a smaller patch, a smaller network or --precision bf16 takes less"
    } else {
        "reading and resampling it"
    };
    Err(Error::Setting {
        field: "--max-memory",
        reason: format!(
            "{} are allowed and the largest image needs {} at least: most of it for {stage}",
            gibibytes(limit.unwrap_or(0)),
            gibibytes(needed)
        ),
    })
}

/// The worst stages of several images.
pub(super) fn worst(cases: impl Iterator<Item = CaseMemory>) -> CaseMemory {
    cases.fold(CaseMemory::default(), CaseMemory::or_worse)
}

/// Bytes as people read them.
pub fn gibibytes(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Tta;

    fn fixed(window: &SlidingWindow) -> CaseMemory {
        CaseMemory {
            loading: 300,
            tiles: 400 * window.batch as u64 + 100 * window.storage.bytes() as u64,
            writing: 100,
        }
    }

    #[test]
    fn the_fastest_way_that_fits_is_taken() {
        let way = |limit: u64| -> Result<(bool, usize, Storage)> {
            let mut window = SlidingWindow::new([8; 3], 0.5, Tta::None).unwrap();
            window.batch = 2;
            let plan = choose(&mut window, 5, 1000, Some(limit), &fixed)?;
            assert_eq!((window.batch, window.storage), (plan.batch, plan.storage));
            assert!(plan.peak <= limit);
            Ok((plan.together, plan.batch, plan.storage))
        };
        assert_eq!(way(2600).unwrap(), (true, 2, Storage::F32));
        assert_eq!(way(2599).unwrap(), (false, 2, Storage::F32));
        assert_eq!(way(2199).unwrap(), (false, 1, Storage::F32));
        assert_eq!(way(1799).unwrap(), (false, 1, Storage::F16));
        let message = way(1599).unwrap_err().to_string();
        assert!(
            message.contains("--max-memory") && message.contains("at least"),
            "{message}"
        );
    }

    #[test]
    fn a_single_image_has_nothing_to_overlap_with() {
        let mut window = SlidingWindow::new([8; 3], 0.5, Tta::None).unwrap();
        let plan = choose(&mut window, 1, 1000, None, &fixed).unwrap();
        assert_eq!((plan.together, plan.peak), (false, 1800));
    }
}
