//! How much memory a prediction will take, before it begins.
//!
//! Counted from what the code holds; n is the number of voxels of the file, m that of the image on the
//! plan's grid, t that of a batch of tiles, C the classes, all floats of 4 bytes unless said otherwise.
//!
//! | when | what |
//! |---|---|
//! | always | the process as it is before the first image: libtorch, weights |
//! | loading | the file's voxels and its compressed bytes, or the volume before and after turning, or before and after resampling, whichever is most |
//! | tiles | the image on the plan's grid, 4 m |
//! | | sums of tiles over one tile's thickness of slices, for each channel, in f32 or f16 |
//! | | the answers of the networks, 4 t for each channel |
//! | | one network's pass ([`Architecture::inference_bytes`](liseg_stunet::Architecture::inference_bytes)) and what waits meanwhile: logits of earlier flips and networks, 4 C t each; a sixteenth more for blocks that do not fit together |
//! | | labels, n, and maps that were asked for, 4 n each |
//! | | code and tables of libtorch that the first pass touches |
//! | writing | labels and maps, once more where axes are turned back, and buffers |
//!
//! Stages add up where they work at once; else the largest counts, and memory that waits for reuse is
//! returned between them. What the process held while it loaded weights counts as well.

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

/// The networks at work on a batch of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passes {
    /// The largest forward pass, input included, in bytes.
    pub(super) forward: u64,
    /// Voxels of the batch.
    pub(super) voxels: u64,
    pub(super) classes: u64,
    /// How many networks answer, and in how many flips.
    pub(super) networks: u64,
    pub(super) flips: u64,
    /// Whether each network's probabilities are kept to be compared.
    pub(super) disagreement: bool,
}

impl Passes {
    /// Memory of tensors at its worst, see [`Ensemble::answer`](super::ensemble::Ensemble::answer).
    fn bytes(self) -> u64 {
        let logits = 4 * self.voxels * self.classes;
        let several = self.networks > 1;
        let flipped = if self.flips > 1 { 4 * self.voxels } else { 0 };
        // Sums over flips and over networks, and the maps of the networks before.
        let waiting = u64::from(self.flips > 1)
            + u64::from(several)
            + if self.disagreement {
                self.networks - 1
            } else {
                0
            };
        // An answer, what is made of it, and the new sum.
        let answering = 4 * self.voxels + 3 * logits;
        let live = flipped + waiting * logits + self.forward.max(answering);
        live + live / 16
    }
}

/// Code and tables of libtorch, and its compiled kernels, that the first pass of a network touches.
const FIRST_PASS: u64 = 16 << 20;

/// Buffers that compressing and everything small takes.
const SMALL: u64 = 8 << 20;

/// The stages of one image; `passes` is `None` where networks do not compute in this memory.
pub(super) fn of_case(
    file: FileSize,
    plan: &Plan,
    window: &SlidingWindow,
    job: Job,
    passes: Option<Passes>,
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
    // What is beyond all memory stays there, and within 64 bits.
    let planned = resampled_shape(shape, spacing, plan.spacing).map(|n| n.clamp(1, 1 << 18));
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
    let answers = (window.batch * job.channels * tile.iter().product::<usize>() * 4) as u64;
    let maps = 4 * n * job.maps as u64;
    let network = FIRST_PASS + passes.map_or(0, Passes::bytes);
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
    /// What it has held at most until then, as while weights were loaded.
    pub before: u64,
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

/// Refuses an image whose prediction takes more than there is in the way that takes least.
///
/// # Errors
/// [`Error::Setting`] with what is needed and what would help.
pub(super) fn fits(needed: u64, limit: Option<u64>, chosen: bool) -> Result<()> {
    let Some(limit) = limit.filter(|limit| needed > *limit) else {
        return Ok(());
    };
    let (there, more) = if chosen {
        ("are allowed", "")
    } else {
        (
            "are there",
            ", or allow more than is free with --max-memory",
        )
    };
    Err(Error::Setting {
        field: "--max-memory",
        reason: format!(
            "the image needs {} at least and {} {there}: is its spacing right? Else a smaller patch, a smaller network \
             or --precision bf16 takes less{more}",
            gibibytes(needed),
            gibibytes(limit)
        ),
    })
}

/// Chooses the fastest way that stays below `limit`: stages together, else one by one, else with single
/// tiles, else with sums in half precision.
///
/// `estimate` says what the worst image takes with a window. Every image [`fits`] the last way.
pub(super) fn choose(
    window: &mut SlidingWindow,
    images: usize,
    (resident, before): (u64, u64),
    limit: Option<u64>,
    estimate: &dyn Fn(&SlidingWindow) -> CaseMemory,
) -> MemoryPlan {
    let several = images > 1;
    let mut ways = vec![(several, window.batch, window.storage)];
    if several {
        ways.push((false, window.batch, window.storage));
    }
    if window.batch > 1 {
        ways.push((false, 1, window.storage));
    }
    let smallest = window.smallest();
    let last = (false, smallest.batch, smallest.storage);
    let plan = |window: &mut SlidingWindow, (together, batch, storage)| {
        window.batch = batch;
        window.storage = storage;
        let worst = estimate(window);
        let stages = if together {
            worst.together()
        } else {
            worst.one_by_one()
        };
        // What is past cannot be made smaller.
        let needed = resident.saturating_add(stages);
        let plan = MemoryPlan {
            resident,
            before,
            worst,
            together,
            batch,
            storage,
            peak: before.max(needed),
        };
        (plan, limit.is_none_or(|limit| needed <= limit))
    };
    for way in ways {
        let (found, fits) = plan(window, way);
        if fits {
            return found;
        }
    }
    plan(window, last).0
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
        let way = |limit: u64| {
            let mut window = SlidingWindow::new([8; 3], 0.5, Tta::None).unwrap();
            window.batch = 2;
            let plan = choose(&mut window, 5, (1000, 1200), Some(limit), &fixed);
            assert_eq!((window.batch, window.storage), (plan.batch, plan.storage));
            assert!(plan.peak <= limit);
            (plan.together, plan.batch, plan.storage)
        };
        assert_eq!(way(2600), (true, 2, Storage::F32));
        assert_eq!(way(2599), (false, 2, Storage::F32));
        assert_eq!(way(2199), (false, 1, Storage::F32));
        assert_eq!(way(1799), (false, 1, Storage::F16));
        // The last way is that by which images are judged to fit.
        let mut window = SlidingWindow::new([8; 3], 0.5, Tta::None).unwrap();
        window.batch = 2;
        assert_eq!(fixed(&window.smallest()).one_by_one(), 600);
    }

    #[test]
    fn an_image_that_cannot_fit_is_refused() {
        assert!(fits(1600, None, false).is_ok() && fits(1600, Some(1600), true).is_ok());
        let told = |chosen| {
            fits(2 << 30, Some(1 << 30), chosen)
                .unwrap_err()
                .to_string()
        };
        let message = told(true);
        for part in ["--max-memory", "2.00 GiB at least", "1.00 GiB are allowed"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(told(false).contains("are there"));
    }

    #[test]
    fn a_single_image_has_nothing_to_overlap_with() {
        let mut window = SlidingWindow::new([8; 3], 0.5, Tta::None).unwrap();
        let plan = choose(&mut window, 1, (1000, 1200), None, &fixed);
        assert_eq!((plan.together, plan.peak), (false, 1800));
        let plan = choose(&mut window, 1, (1000, 2000), None, &fixed);
        assert_eq!(plan.peak, 2000, "loading weights took more");
    }

    #[test]
    fn what_waits_for_other_flips_and_networks_is_counted() {
        let one = Passes {
            forward: 16_000,
            voxels: 100,
            classes: 2,
            networks: 1,
            flips: 1,
            disagreement: false,
        };
        assert_eq!(one.bytes(), 17_000);
        let flipped = Passes { flips: 8, ..one };
        assert_eq!(flipped.bytes(), (16_000 + 400 + 800) * 17 / 16);
        let three = Passes {
            networks: 3,
            disagreement: true,
            ..one
        };
        assert_eq!(three.bytes(), (16_000 + 3 * 800) * 17 / 16);
        // Many classes: not the pass is the worst, but what is made of its logits.
        let many = Passes {
            classes: 100,
            ..one
        };
        assert_eq!(many.bytes(), (400 + 3 * 40_000) * 17 / 16);
    }
}
