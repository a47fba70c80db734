//! Where patches are cut from an image.
//!
//! The rules are nnU-Net v2's (Isensee et al. 2021, Nature Methods 18), so that a patch may reach
//! past the image by as much as the augmentation needs.

use crate::{Error, Result};
use ndarray::{Array3, ArrayView3, s};
use rand::{Rng, RngExt};

/// Whether patch `slot` of `batch` must show foreground: the last ones do, a `share` of them.
///
/// True from `round(batch · (1 − share))` on, halves to even. A batch of one is never forced at a
/// share of 0.33, and of a batch of two the second patch is.
pub fn is_forced(slot: usize, batch: usize, share: f64) -> bool {
    slot as f64 >= (batch as f64 * (1.0 - share)).round_ties_even()
}

/// Chooses the corner of a patch.
///
/// `initial` is what is cut, before augmentation; `last` what is left of it afterwards. Both are
/// `[z, y, x]` in voxels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchSampler {
    initial: [usize; 3],
    last: [usize; 3],
}

impl PatchSampler {
    /// A sampler for patches of `initial` voxels of which `last` are left after augmentation.
    ///
    /// # Errors
    /// [`Error::Shape`] when a size is zero, or `initial` is smaller than `last`.
    pub fn new(initial: [usize; 3], last: [usize; 3]) -> Result<Self> {
        if last.contains(&0) || (0..3).any(|a| initial[a] < last[a]) {
            return Err(Error::Shape {
                what: "the patch before augmentation",
                expected: last,
                found: initial,
            });
        }
        Ok(Self { initial, last })
    }

    /// What is cut, `[z, y, x]` in voxels.
    pub fn initial(&self) -> [usize; 3] {
        self.initial
    }

    /// The smallest and largest corner, both included, in an image of that shape; negative where
    /// the patch may start outside.
    pub fn corner_range(&self, shape: [usize; 3]) -> ([i64; 3], [i64; 3]) {
        let need: [i64; 3] = std::array::from_fn(|a| {
            let margin = self.initial[a] as i64 - self.last[a] as i64;
            margin.max(self.initial[a] as i64 - shape[a] as i64)
        });
        // An odd need is met by one voxel more before the image than behind it: −⌊−n/2⌋ = ⌈n/2⌉.
        let low = need.map(|n| (-n).div_euclid(2));
        let high = std::array::from_fn(|a| {
            let n = need[a];
            shape[a] as i64 + n.div_euclid(2) + n.rem_euclid(2) - self.initial[a] as i64
        });
        (low, high)
    }

    /// A corner drawn uniformly from [`PatchSampler::corner_range`].
    pub fn random_corner<R: Rng + ?Sized>(&self, shape: [usize; 3], rng: &mut R) -> [i64; 3] {
        let (low, high) = self.corner_range(shape);
        std::array::from_fn(|a| rng.random_range(low[a]..=high[a].max(low[a])))
    }

    /// The corner of the patch with `voxel` at its centre, moved only where it would start before
    /// the range; it may end past it.
    pub fn corner_around(&self, shape: [usize; 3], voxel: [usize; 3]) -> [i64; 3] {
        let (low, _) = self.corner_range(shape);
        std::array::from_fn(|a| {
            let centred = voxel[a] as i64 - (self.initial[a] / 2) as i64;
            centred.max(low[a])
        })
    }
}

/// Copies a box out of an array; `fill` where the box leaves it.
pub fn cut<T: Copy>(
    array: ArrayView3<'_, T>,
    corner: [i64; 3],
    size: [usize; 3],
    fill: T,
) -> Array3<T> {
    let mut patch = Array3::from_elem(size, fill);
    let (source, target) = overlap(array.dim().into(), corner, size);
    if source.iter().all(|range| range.start < range.end) {
        let [z, y, x] = source;
        let [tz, ty, tx] = target;
        patch
            .slice_mut(s![tz, ty, tx])
            .assign(&array.slice(s![z, y, x]));
    }
    patch
}

/// Copies a box row by row: `copy` is given where in the flat array a part of a row lies, and the part
/// of the box it belongs to. 0 where the box leaves the array.
pub(crate) fn cut_rows(
    shape: [usize; 3],
    corner: [i64; 3],
    size: [usize; 3],
    copy: impl Fn(std::ops::Range<usize>, &mut [f32]),
) -> Array3<f32> {
    let mut patch = Array3::zeros(size);
    let ([z, y, x], [tz, ty, tx]) = overlap(shape, corner, size);
    let Some(voxels) = patch.as_slice_mut() else {
        return patch;
    };
    for (z, tz) in z.zip(tz) {
        for (y, ty) in y.clone().zip(ty.clone()) {
            let source = (z * shape[1] + y) * shape[2];
            let target = (tz * size[1] + ty) * size[2];
            copy(
                source + x.start..source + x.end,
                &mut voxels[target + tx.start..target + tx.end],
            );
        }
    }
    patch
}

/// The label −1 outside the image and 0 inside, for an image of `shape`.
pub fn cut_inside(shape: [usize; 3], corner: [i64; 3], size: [usize; 3]) -> Array3<i8> {
    let mut patch = Array3::from_elem(size, -1);
    let (source, target) = overlap(shape, corner, size);
    if source.iter().all(|range| range.start < range.end) {
        let [z, y, x] = target;
        patch.slice_mut(s![z, y, x]).fill(0);
    }
    patch
}

type Ranges = [std::ops::Range<usize>; 3];

/// Where a box and an array overlap: in the array, and in the box.
fn overlap(shape: [usize; 3], corner: [i64; 3], size: [usize; 3]) -> (Ranges, Ranges) {
    let clamp = |value: i64, axis: usize| value.clamp(0, shape[axis] as i64) as usize;
    let source: Ranges =
        std::array::from_fn(|a| clamp(corner[a], a)..clamp(corner[a] + size[a] as i64, a));
    let target = std::array::from_fn(|a| {
        let start = (source[a].start as i64 - corner[a]).max(0) as usize;
        start..start + source[a].len()
    });
    (source, target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use liseg_volume::Seed;
    use proptest::prelude::*;
    use serde_json::from_value;

    #[test]
    fn golden_forced_slots() {
        let golden = testing::golden("nnunet/sampling.json");
        for row in testing::table(&golden, "oversampling") {
            let batch: usize = from_value(row["batch_size"].clone()).unwrap();
            let expected: Vec<bool> = from_value(row["forced"].clone()).unwrap();
            let forced: Vec<bool> = (0..batch).map(|j| is_forced(j, batch, 0.33)).collect();
            assert_eq!(forced, expected);
        }
    }

    #[test]
    fn golden_corner_ranges() {
        let golden = testing::golden("nnunet/sampling.json");
        for row in testing::table(&golden, "patch_bbox") {
            let array = |name: &str| from_value::<[usize; 3]>(row[name].clone()).unwrap();
            let signed = |value: &serde_json::Value| from_value::<[i64; 3]>(value.clone()).unwrap();
            let shape = array("image_shape");
            let sampler =
                PatchSampler::new(array("initial_patch_size"), array("final_patch_size")).unwrap();
            let expected = (signed(&row["min_lower"]), signed(&row["max_lower"]));
            assert_eq!(sampler.corner_range(shape), expected, "{row}");
            for forced in row["forced"].as_array().unwrap() {
                let voxel = from_value(forced["voxel"].clone()).unwrap();
                let corner = sampler.corner_around(shape, voxel);
                assert_eq!(corner, signed(&forced["lower"]), "{forced}");
            }
        }
    }

    #[test]
    fn golden_crop_and_pad() {
        let golden = testing::golden("nnunet/sampling.json");
        let tensors = testing::Tensors::read("nnunet/sampling.safetensors");
        for name in ["crop_pad_inside", "crop_pad_over"] {
            let bounds: [[i64; 2]; 3] =
                from_value(testing::case(&golden, name)["params"]["bbox"].clone()).unwrap();
            let corner = bounds.map(|[low, _]| low);
            let size = bounds.map(|[low, high]| (high - low) as usize);
            let data = tensors.f32(&format!("{name}.in.data"));
            let patch = cut(data.view(), corner, size, 0.0);
            assert_eq!(patch, tensors.f32(&format!("{name}.out.data")));
            let label = tensors.f32(&format!("{name}.in.seg")).mapv(|v| v as i8);
            let patch = cut(label.view(), corner, size, -1);
            assert_eq!(
                patch.mapv(f32::from),
                tensors.f32(&format!("{name}.out.seg"))
            );
        }
    }

    #[test]
    fn refuses_to_grow_a_patch() {
        assert!(PatchSampler::new([8, 8, 7], [8, 8, 8]).is_err());
        assert!(PatchSampler::new([0; 3], [0; 3]).is_err());
    }

    proptest! {
        #[test]
        fn corners_stay_in_range_and_the_image_is_met(
            shape in [1usize..40, 1..40, 1..40],
            last in [1usize..24, 1..24, 1..24],
            more in [0usize..12, 0..12, 0..12],
            seed: u64,
        ) {
            let initial = std::array::from_fn(|a| last[a] + more[a]);
            let sampler = PatchSampler::new(initial, last).unwrap();
            let (low, high) = sampler.corner_range(shape);
            let corner = sampler.random_corner(shape, &mut Seed(seed).stream("corner", 0, 0));
            for a in 0..3 {
                prop_assert!(low[a] <= corner[a] && corner[a] <= high[a].max(low[a]));
            }
            let inside = cut_inside(shape, corner, initial);
            let ones = Array3::<i8>::zeros(shape);
            prop_assert_eq!(&inside, &cut(ones.view(), corner, initial, -1));
            prop_assert!(inside.iter().any(|&v| v == 0));
        }
    }
}
