//! Predicting a volume tile by tile, slice by slice.

use super::accumulator::{Accumulator, Storage};
use super::ensemble::{Ensemble, Mean};
use super::gaussian::{Weighting, shares};
use super::tta::Tta;
use crate::{Error, Result};
use liseg_nn::SegmentationNet;
use liseg_nn::tch::{Device, Tensor};
use ndarray::{Array4, ArrayView3, ArrayView4, ArrayViewMut3, s};
use std::time::Instant;

/// A sliding window with Gaussian weighting, as nnU-Net predicts.
///
/// Tiles are worked through from the first slice to the last, so that only as many slices as a tile is
/// thick wait for further tiles; those before them are handed on at once.
#[derive(Debug, Clone)]
pub struct SlidingWindow {
    tile: [usize; 3],
    step: f64,
    tta: Tta,
    /// How overlapping tiles are weighted.
    pub weighting: Weighting,
    /// In which number format their sums are kept.
    pub storage: Storage,
    /// What is averaged over networks.
    pub mean: Mean,
    /// Tiles that go through the network at once; at least 1.
    pub batch: usize,
}

/// Slices that no further tile adds to.
#[derive(Debug)]
pub(super) struct Finished<'a> {
    /// Index of the first one in the image.
    pub(super) first: usize,
    /// Logits `[channels, slices, y, x]`.
    pub(super) logits: ArrayView4<'a, f32>,
}

/// Which channels a window hands on, see [`Ensemble`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Channels {
    pub(super) margin: bool,
    pub(super) disagreement: bool,
}

impl Channels {
    /// How many there are.
    pub(super) fn count(self, classes: usize) -> usize {
        (if self.margin { classes - 1 } else { classes }) + usize::from(self.disagreement)
    }
}

/// The smallest step.
const LEAST_STEP: f64 = 0.05;

impl SlidingWindow {
    /// A window of `tile` voxels (z, y, x) that moves by at most `step` of its size.
    ///
    /// # Errors
    /// [`Error::Setting`] for an empty tile or a step outside [0.05, 1]: at smaller ones there are thousands of tiles for each
    /// that covers the image.
    pub fn new(tile: [usize; 3], step: f64, tta: Tta) -> Result<Self> {
        if tile.contains(&0) {
            let reason = format!("a tile of {tile:?} voxels has no voxel");
            return Err(Error::Setting {
                field: "patch_size",
                reason,
            });
        }
        if !(LEAST_STEP..=1.0).contains(&step) {
            let reason = format!(
                "{step} of the tile cannot be used; expected {LEAST_STEP} to 1, and 0.5 is usual"
            );
            return Err(Error::Setting {
                field: "step",
                reason,
            });
        }
        Ok(Self {
            tile,
            step,
            tta,
            weighting: Weighting::default(),
            storage: Storage::default(),
            mean: Mean::default(),
            batch: 1,
        })
    }

    /// The same window with another step and other flips.
    ///
    /// # Errors
    /// As [`SlidingWindow::new`].
    pub fn moving(&self, step: f64, tta: Tta) -> Result<Self> {
        let fresh = Self::new(self.tile, step, tta)?;
        Ok(Self {
            step: fresh.step,
            tta: fresh.tta,
            ..self.clone()
        })
    }

    /// The same window with what takes least memory: single tiles, sums in half precision.
    pub(super) fn smallest(&self) -> Self {
        Self {
            batch: 1,
            storage: Storage::F16,
            ..self.clone()
        }
    }

    /// Voxels of a tile, (z, y, x).
    pub fn tile(&self) -> [usize; 3] {
        self.tile
    }

    /// Which flips of each tile are averaged.
    pub fn tta(&self) -> Tta {
        self.tta
    }

    /// How far the window moves at most, as a share of the tile.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// Number of tiles an image of that shape takes.
    pub fn tiles(&self, shape: [usize; 3]) -> usize {
        self.starts(shape).iter().map(Vec::len).product()
    }

    /// Class logits `[classes, z, y, x]` of an image `[z, y, x]`.
    ///
    /// With one network these are the weighted means of its logits, as in nnU-Net. With several,
    /// each tile gives the logarithm of the mean of their softmax maps, or the mean of their logits.
    /// `on_tile` is called after every tile and stops the work by returning false.
    ///
    /// # Errors
    /// When there is no network or libtorch fails.
    pub fn predict(
        &self,
        networks: &[&dyn SegmentationNet],
        image: ArrayView3<'_, f32>,
        on_tile: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Array4<f32>>> {
        let classes = classes(networks)?;
        let (z, y, x) = image.dim();
        let mut logits = Array4::<f32>::zeros((classes, z, y, x));
        let mut keep = |slices: Finished<'_>| {
            let end = slices.first + slices.logits.dim().1;
            let place = s![.., slices.first..end, .., ..];
            logits.slice_mut(place).assign(&slices.logits);
            Ok(())
        };
        let done = self.stream(networks, image, Channels::default(), &mut keep, on_tile)?;
        Ok(done.is_some().then_some(logits))
    }

    /// Hands finished slices of logits to `take`, from the first to the last. Returns the seconds spent in
    /// the networks, or `None` when `on_tile` stopped the work.
    pub(super) fn stream(
        &self,
        networks: &[&dyn SegmentationNet],
        image: ArrayView3<'_, f32>,
        channels: Channels,
        take: &mut dyn FnMut(Finished<'_>) -> Result<()>,
        on_tile: &mut dyn FnMut() -> bool,
    ) -> Result<Option<f64>> {
        let classes = classes(networks)?;
        let ensemble = Ensemble {
            networks,
            tta: self.tta,
            mean: self.mean,
            margin: channels.margin,
            disagreement: channels.disagreement,
        };
        let (z, y, x) = image.dim();
        let shape = [z, y, x];
        let padded: [usize; 3] = std::array::from_fn(|a| shape[a].max(self.tile[a]));
        let before = padding(shape, self.tile);
        let starts = self.starts(shape);
        let shares: [Vec<Vec<f32>>; 3] =
            std::array::from_fn(|a| shares(&self.weighting.profile(self.tile[a]), &starts[a]));
        let count = channels.count(classes);
        let ring = [self.tile[0], padded[1], padded[2]];
        let mut sums = Accumulator::new(self.storage, count, ring);
        let places: Vec<[usize; 2]> = (0..starts[1].len())
            .flat_map(|j| (0..starts[2].len()).map(move |i| [j, i]))
            .collect();
        let mut seconds = 0.0;
        let mut answers = Vec::new();
        for (k, &start) in starts[0].iter().enumerate() {
            for batch in places.chunks(self.batch.max(1)) {
                let corner = |[j, i]: [usize; 2]| [start, starts[1][j], starts[2][i]];
                let clock = Instant::now();
                let corners: Vec<_> = batch.iter().map(|&place| corner(place)).collect();
                self.run(&ensemble, image, before, &corners, &mut answers)?;
                seconds += clock.elapsed().as_secs_f64();
                let [tz, ty, tx] = self.tile;
                let of_batch = ArrayView4::from_shape((batch.len() * count, tz, ty, tx), &answers)
                    .map_err(|e| Error::Setting {
                        field: "networks",
                        reason: format!(
                            "a network answered in another shape than it was asked in: {e}"
                        ),
                    })?;
                for (n, &[j, i]) in batch.iter().enumerate() {
                    let tile = of_batch.slice(s![n * count..(n + 1) * count, .., .., ..]);
                    let weights = [&shares[0][k][..], &shares[1][j][..], &shares[2][i][..]];
                    sums.add(tile, [starts[1][j], starts[2][i]], weights);
                    if !on_tile() {
                        return Ok(None);
                    }
                }
            }
            let next = starts[0].get(k + 1).copied();
            let finished = next.map_or(self.tile[0], |next| next - start);
            sums.finish(finished, |offset, logits| {
                // Without the padding, which surrounds the image.
                let slices = logits.dim().1;
                let from = (start + offset).max(before[0]);
                let to = (start + offset + slices).min(before[0] + shape[0]);
                if from >= to {
                    return Ok(());
                }
                let (from_row, to_row) = (from - start - offset, to - start - offset);
                let [_, b, c] = before;
                let part = s![.., from_row..to_row, b..b + shape[1], c..c + shape[2]];
                take(Finished {
                    first: from - before[0],
                    logits: logits.slice(part),
                })
            })?;
        }
        Ok(Some(seconds))
    }

    fn starts(&self, shape: [usize; 3]) -> [Vec<usize>; 3] {
        std::array::from_fn(|a| tile_starts(shape[a].max(self.tile[a]), self.tile[a], self.step))
    }

    /// Copies a tile out of the image; voxels in the padding are 0.
    fn cut(
        &self,
        image: ArrayView3<'_, f32>,
        start: [usize; 3],
        before: [usize; 3],
        buffer: &mut [f32],
    ) {
        buffer.fill(0.0);
        let (z, y, x) = image.dim();
        let shape = [z, y, x];
        // The overlap of tile and image, in image and in tile coordinates.
        let from: [usize; 3] = std::array::from_fn(|a| start[a].saturating_sub(before[a]));
        let to: [usize; 3] = std::array::from_fn(|a| {
            (start[a] + self.tile[a])
                .saturating_sub(before[a])
                .min(shape[a])
        });
        let at: [usize; 3] = std::array::from_fn(|a| from[a] + before[a] - start[a]);
        let Ok(mut tile) = ArrayViewMut3::from_shape(self.tile, buffer) else {
            return;
        };
        tile.slice_mut(s![
            at[0]..at[0] + to[0] - from[0],
            at[1]..at[1] + to[1] - from[1],
            at[2]..at[2] + to[2] - from[2]
        ])
        .assign(&image.slice(s![from[0]..to[0], from[1]..to[1], from[2]..to[2]]));
    }

    /// The answers of the networks to tiles, on the CPU, `[tiles, channels, z, y, x]` in `answers`.
    fn run(
        &self,
        ensemble: &Ensemble<'_>,
        image: ArrayView3<'_, f32>,
        before: [usize; 3],
        corners: &[[usize; 3]],
        answers: &mut Vec<f32>,
    ) -> Result<()> {
        let voxels: usize = self.tile.iter().product();
        let mut buffer = vec![0.0f32; voxels * corners.len()];
        for (corner, tile) in corners.iter().zip(buffer.chunks_exact_mut(voxels)) {
            self.cut(image, *corner, before, tile);
        }
        let device = ensemble
            .networks
            .first()
            .map_or(Device::Cpu, |n| n.parameters().device());
        let [z, y, x] = self.tile.map(|n| n as i64);
        let input = Tensor::f_from_slice(&buffer)?
            .f_view([corners.len() as i64, 1, z, y, x])?
            .f_to_device(device)?;
        drop(buffer);
        let host = ensemble
            .answer(&input)?
            .f_to_device(Device::Cpu)?
            .f_contiguous()?;
        answers.resize(host.numel(), 0.0);
        host.f_copy_data(answers, host.numel())?;
        Ok(())
    }
}

fn classes(networks: &[&dyn SegmentationNet]) -> Result<usize> {
    let first = networks.first().ok_or_else(|| Error::Setting {
        field: "networks",
        reason: "there is no network to predict with".into(),
    })?;
    Ok(first.classes() as usize)
}

/// How many voxels are added in front of an image that is smaller than a tile, per axis: half of what is
/// missing, rounded down.
pub fn padding(shape: [usize; 3], tile: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|a| tile[a].saturating_sub(shape[a]) / 2)
}

/// Where tiles start along an axis of `size` voxels, `size` ≥ `tile`: evenly spread, the first at 0
/// and the last at the end, no further apart than `step` of a tile.
///
/// n = ⌈(size − tile) / (step · tile)⌉ + 1 tiles at round-half-even(i (size − tile) / (n − 1)),
/// as in nnU-Net.
pub fn tile_starts(size: usize, tile: usize, step: f64) -> Vec<usize> {
    let room = size.saturating_sub(tile);
    let count = (room as f64 / (tile as f64 * step)).ceil() as usize + 1;
    let gap = if count > 1 {
        room as f64 / (count - 1) as f64
    } else {
        0.0
    };
    (0..count)
        .map(|i| (gap * i as f64).round_ties_even() as usize)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_nn::Parameters;
    use ndarray::Array3;

    /// Logits (−x, 2x) of a one-channel image: what comes out is known everywhere.
    struct Linear(Parameters);

    impl SegmentationNet for Linear {
        fn forward_scales(&self, images: &Tensor) -> liseg_nn::Result<Vec<Tensor>> {
            Ok(vec![self.forward(images)?])
        }
        fn forward(&self, images: &Tensor) -> liseg_nn::Result<Tensor> {
            Ok(Tensor::f_cat(
                &[images.f_neg()?, images.f_mul_scalar(2.0)?],
                1,
            )?)
        }
        fn parameters(&self) -> &Parameters {
            &self.0
        }
        fn parameters_mut(&mut self) -> &mut Parameters {
            &mut self.0
        }
        fn classes(&self) -> i64 {
            2
        }
        fn stride_product(&self) -> [usize; 3] {
            [1; 3]
        }
        fn head_prefixes(&self) -> Vec<String> {
            vec![]
        }
    }

    fn image(shape: [usize; 3]) -> Array3<f32> {
        let mut n = 0u32;
        Array3::from_shape_simple_fn(shape, || {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (n >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
    }

    #[test]
    fn a_voxelwise_network_is_reproduced_whatever_the_tiles() {
        let net = Linear(Parameters::new(Device::Cpu));
        for (shape, tile, step, tta) in [
            ([9, 20, 17], [4, 8, 8], 0.5, Tta::None),
            ([9, 20, 17], [4, 8, 8], 1.0, Tta::Mirror),
            ([3, 20, 5], [4, 8, 8], 0.5, Tta::None), // smaller than a tile along two axes
        ] {
            let image = image(shape);
            let window = SlidingWindow::new(tile, step, tta).unwrap();
            let mut seen = 0;
            let mut count = || {
                seen += 1;
                true
            };
            let logits = window
                .predict(&[&net], image.view(), &mut count)
                .unwrap()
                .unwrap();
            assert_eq!(seen, window.tiles(shape));
            for ((z, y, x), value) in image.indexed_iter() {
                assert!((logits[[0, z, y, x]] + value).abs() < 1e-5);
                assert!((logits[[1, z, y, x]] - 2.0 * value).abs() < 1e-5);
            }
            // Two equal networks together: the log of the softmax of the same logits.
            let both = window
                .predict(&[&net, &net], image.view(), &mut || true)
                .unwrap()
                .unwrap();
            let (a, b) = (both[[0, 1, 2, 3]], both[[1, 1, 2, 3]]);
            assert!((b - a - 3.0 * image[[1, 2, 3]]).abs() < 1e-4);
        }
    }

    #[test]
    fn stops_when_told() {
        let net = Linear(Parameters::new(Device::Cpu));
        let window = SlidingWindow::new([4, 8, 8], 0.5, Tta::None).unwrap();
        let image = image([9, 20, 17]);
        assert!(
            window
                .predict(&[&net], image.view(), &mut || false)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn tiles_cover_the_axis_with_the_asked_overlap() {
        for size in 10..80 {
            for tile in 4..=10 {
                let starts = tile_starts(size, tile, 0.5);
                assert_eq!((starts[0], *starts.last().unwrap()), (0, size - tile));
                assert!(starts.windows(2).all(|w| w[1] - w[0] <= tile.div_ceil(2)));
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(SlidingWindow::new([0, 8, 8], 0.5, Tta::None).is_err());
        for step in [0.0, 1.5, f64::NAN] {
            assert!(SlidingWindow::new([4, 8, 8], step, Tta::None).is_err());
        }
    }
}
