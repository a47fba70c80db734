//! Predicting a volume tile by tile.

use super::gaussian::importance_map;
use crate::{Error, Result};
use liseg_nn::SegmentationNet;
use liseg_nn::tch::{Device, Kind, Tensor, no_grad_guard};
use ndarray::{Array3, Array4, ArrayView3, Axis, Zip, s};
use serde::{Deserialize, Serialize};

/// Test-time augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tta {
    /// Each tile once.
    #[default]
    None,
    /// The mean of the logits over all eight flips of each tile; eight times the work.
    Mirror,
}

impl Tta {
    /// The sets of flipped tensor axes, the identity first.
    fn flips(self) -> Vec<Vec<i64>> {
        match self {
            Self::None => vec![vec![]],
            Self::Mirror => (0..8u8)
                .map(|set| {
                    (0..3)
                        .filter(|a| set >> a & 1 == 1)
                        .map(|a| a + 2)
                        .collect()
                })
                .collect(),
        }
    }
}

/// A sliding window with Gaussian weighting, as nnU-Net predicts.
#[derive(Debug, Clone)]
pub struct SlidingWindow {
    tile: [usize; 3],
    step: f64,
    tta: Tta,
    importance: Array3<f32>,
}

impl SlidingWindow {
    /// A window of `tile` voxels (z, y, x) that moves by at most `step` of its size.
    ///
    /// # Errors
    /// [`Error::Setting`] for an empty tile or a step outside (0, 1].
    pub fn new(tile: [usize; 3], step: f64, tta: Tta) -> Result<Self> {
        if tile.contains(&0) {
            let reason = format!("a tile of {tile:?} voxels has no voxel");
            return Err(Error::Setting {
                field: "patch_size",
                reason,
            });
        }
        if !(step > 0.0 && step <= 1.0) {
            let reason = format!("{step} must lie in 0..=1, as a share of the tile; 0.5 is usual");
            return Err(Error::Setting {
                field: "step",
                reason,
            });
        }
        Ok(Self {
            tile,
            step,
            tta,
            importance: importance_map(tile),
        })
    }

    /// Number of tiles an image of that shape takes.
    pub fn tiles(&self, shape: [usize; 3]) -> usize {
        self.starts(shape).iter().map(Vec::len).product()
    }

    /// Class logits `[classes, z, y, x]` of an image `[z, y, x]`.
    ///
    /// With one network these are the weighted means of its logits, as in nnU-Net. With several,
    /// each tile gives the logarithm of the mean of their softmax maps. `on_tile` is called after
    /// every tile and stops the work by returning false.
    ///
    /// # Errors
    /// When there is no network or libtorch fails.
    pub fn predict(
        &self,
        networks: &[&dyn SegmentationNet],
        image: ArrayView3<'_, f32>,
        on_tile: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Array4<f32>>> {
        let first = networks.first().ok_or_else(|| Error::Setting {
            field: "networks",
            reason: "there is no network to predict with".into(),
        })?;
        let device = first.parameters().device();
        let classes = first.classes() as usize;
        let (z, y, x) = image.dim();
        let shape = [z, y, x];
        let padded: [usize; 3] = std::array::from_fn(|a| shape[a].max(self.tile[a]));
        let before: [usize; 3] = std::array::from_fn(|a| (padded[a] - shape[a]) / 2);

        let mut logits = Array4::<f32>::zeros((classes, padded[0], padded[1], padded[2]));
        let mut weight = Array3::<f32>::zeros(padded);
        let [starts_z, starts_y, starts_x] = self.starts(shape);
        let mut buffer = vec![0.0f32; self.tile.iter().product()];
        for &z in &starts_z {
            for &y in &starts_y {
                for &x in &starts_x {
                    let start = [z, y, x];
                    self.cut(image, start, before, &mut buffer);
                    let tile = self.run(networks, &buffer, device)?;
                    self.add(&tile, start, &mut logits, &mut weight);
                    if !on_tile() {
                        return Ok(None);
                    }
                }
            }
        }
        for mut class in logits.axis_iter_mut(Axis(0)) {
            Zip::from(&mut class)
                .and(&weight)
                .par_for_each(|l, &w| *l /= w);
        }
        if padded == shape {
            return Ok(Some(logits));
        }
        let [a, b, c] = before;
        Ok(Some(
            logits
                .slice(s![.., a..a + shape[0], b..b + shape[1], c..c + shape[2]])
                .to_owned(),
        ))
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
        let Ok(mut tile) = ndarray::ArrayViewMut3::from_shape(self.tile, buffer) else {
            return;
        };
        tile.slice_mut(s![
            at[0]..at[0] + to[0] - from[0],
            at[1]..at[1] + to[1] - from[1],
            at[2]..at[2] + to[2] - from[2]
        ])
        .assign(&image.slice(s![from[0]..to[0], from[1]..to[1], from[2]..to[2]]));
    }

    /// The logits of one tile, on the CPU, f32 `[classes, z, y, x]`.
    fn run(
        &self,
        networks: &[&dyn SegmentationNet],
        tile: &[f32],
        device: Device,
    ) -> Result<Vec<f32>> {
        let _guard = no_grad_guard();
        let [z, y, x] = self.tile.map(|n| n as i64);
        let input = Tensor::f_from_slice(tile)?
            .f_view([1, 1, z, y, x])?
            .f_to_device(device)?;
        let mut together: Option<Tensor> = None;
        for network in networks {
            let mut output = self.mean_over_flips(*network, &input)?;
            if networks.len() > 1 {
                output = output.f_softmax(1, Kind::Float)?;
            }
            together = Some(match together {
                None => output,
                Some(sum) => sum.f_add(&output)?,
            });
        }
        let mut logits = together.unwrap_or(input);
        if networks.len() > 1 {
            let mean = logits.f_mul_scalar(1.0 / networks.len() as f64)?;
            logits = mean.f_clamp_min(1e-12)?.f_log()?;
        }
        let host = logits.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut values = vec![0.0f32; host.numel()];
        host.f_copy_data(&mut values, host.numel())?;
        Ok(values)
    }

    fn mean_over_flips(&self, network: &dyn SegmentationNet, input: &Tensor) -> Result<Tensor> {
        let flips = self.tta.flips();
        let mut sum: Option<Tensor> = None;
        for axes in &flips {
            let output = if axes.is_empty() {
                network.forward(input)?
            } else {
                network
                    .forward(&input.f_flip(axes.as_slice())?)?
                    .f_flip(axes.as_slice())?
            };
            sum = Some(match sum {
                None => output,
                Some(sum) => sum.f_add(&output)?,
            });
        }
        let sum = sum.unwrap_or_else(|| input.shallow_clone());
        Ok(if flips.len() == 1 {
            sum
        } else {
            sum.f_mul_scalar(1.0 / flips.len() as f64)?
        })
    }

    /// Adds a tile's weighted logits to the volume.
    fn add(
        &self,
        tile: &[f32],
        start: [usize; 3],
        logits: &mut Array4<f32>,
        weight: &mut Array3<f32>,
    ) {
        let [a, b, c] = start;
        let [z, y, x] = self.tile;
        let place = s![a..a + z, b..b + y, c..c + x];
        let per_class = tile.chunks_exact(z * y * x);
        for (mut class, values) in logits.axis_iter_mut(Axis(0)).zip(per_class) {
            let Ok(values) = ArrayView3::from_shape(self.tile, values) else {
                return;
            };
            Zip::from(class.slice_mut(place))
                .and(&values)
                .and(&self.importance)
                .par_for_each(|sum, &value, &w| *sum += value * w);
        }
        let mut sums = weight.slice_mut(place);
        sums += &self.importance;
    }
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
