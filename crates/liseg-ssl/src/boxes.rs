//! Boxes that are cut out of one patch and pasted into another.

use crate::Result;
use liseg_nn::tch::{Device, Kind, Tensor};
use rand::{Rng, RngExt};

/// An axis-aligned box of voxels, (z, y, x).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasteBox {
    /// First voxel.
    pub offset: [usize; 3],
    /// Number of voxels.
    pub size: [usize; 3],
}

impl PasteBox {
    /// BCP's box: ⌊`share` · n⌋ voxels along every axis of `shape`, its offset uniform on
    /// 0..n − size (the last fitting position is never drawn, as published); 0 where it fills the
    /// axis.
    pub fn of_share(shape: [usize; 3], share: f64, rng: &mut impl Rng) -> Self {
        let size = Self::sides_of_share(shape, share);
        let offset = Self::offsets(shape, size).map(|count| rng.random_range(0..count));
        Self { offset, size }
    }

    /// The sides of BCP's box, ⌊`share` · n⌋ voxels; a product that falls short of a whole number by rounding alone counts
    /// as that number.
    pub fn sides_of_share(shape: [usize; 3], share: f64) -> [usize; 3] {
        // 0.29 of 100 voxels are 29: the product of floats may lie just below a whole number.
        shape.map(|n| ((share * n as f64 + 1e-9).floor() as usize).min(n))
    }

    /// How many offsets of BCP's box there are along every axis: 0 up to one below this number.
    pub fn offsets(shape: [usize; 3], size: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|axis| shape[axis].saturating_sub(size[axis]).max(1))
    }

    /// CutMix's box as MiDSS draws it, in 3-D: a share of the volume in U(0.02, 0.4), the ratios of
    /// two sides to the first in U(0.3, 1/0.3), drawn again until it fits; position uniform.
    pub fn random(shape: [usize; 3], rng: &mut impl Rng) -> Self {
        let share = rng.random_range(0.02..0.4);
        let relative = loop {
            let mut ratio = || rng.random_range(0.3..1.0 / 0.3);
            let sides = relative_sides(share, ratio(), ratio());
            if sides.iter().all(|&s| s <= 1.0) {
                break sides;
            }
        };
        let size = sides_in_voxels(relative, shape);
        Self::anywhere(shape, size, rng)
    }

    /// A box of that size, its position uniform.
    fn anywhere(shape: [usize; 3], size: [usize; 3], rng: &mut impl Rng) -> Self {
        let offset = std::array::from_fn(|axis| rng.random_range(0..=shape[axis] - size[axis]));
        Self { offset, size }
    }

    /// One of the three boxes of CutMix as CPS uses it (French et al., BMVC 2020), in 3-D: together
    /// a share of the volume in U(0.25, 0.5), split into its sides at two uniform places of the
    /// logarithm, each side 3^(−1/3) of that so that three boxes make up the share.
    fn third(shape: [usize; 3], rng: &mut impl Rng) -> Self {
        let share: f64 = rng.random_range(0.25..0.5);
        let mut cuts = [rng.random::<f64>(), rng.random::<f64>()];
        cuts.sort_by(f64::total_cmp);
        let parts = [cuts[0], cuts[1] - cuts[0], 1.0 - cuts[1]];
        let relative = parts.map(|part| share.powf(part) / 3f64.cbrt());
        let size = std::array::from_fn(|axis| {
            ((relative[axis] * shape[axis] as f64).round() as usize).min(shape[axis])
        });
        Self::anywhere(shape, size, rng)
    }

    /// Number of voxels inside.
    pub fn volume(&self) -> usize {
        self.size.iter().product()
    }

    /// Its voxels on a grid of `shape`: bool `[z, y, x]`, true inside.
    ///
    /// # Errors
    /// When the box reaches outside or libtorch fails.
    pub fn mask(&self, shape: [usize; 3], device: Device) -> Result<Tensor> {
        let mask = Tensor::f_zeros(shape.map(|n| n as i64), (Kind::Bool, device))?;
        let mut inside = mask.shallow_clone();
        for axis in 0..3 {
            let (start, length) = (self.offset[axis] as i64, self.size[axis] as i64);
            inside = inside.f_narrow(axis as i64, start, length)?;
        }
        let _ = inside.f_fill_(1.0)?;
        Ok(mask)
    }
}

/// Sides relative to the patch, (d, ρ_h d, ρ_w d), whose product is `share`.
pub fn relative_sides(share: f64, ratio_h: f64, ratio_w: f64) -> [f64; 3] {
    let depth = (share / (ratio_h * ratio_w)).cbrt();
    [depth, ratio_h * depth, ratio_w * depth]
}

/// ⌊relative · n⌋ along every axis.
pub fn sides_in_voxels(relative: [f64; 3], shape: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| (relative[axis] * shape[axis] as f64).floor() as usize)
}

/// The mask of CPS's CutMix, bool `[z, y, x]`: three random boxes, true inside an odd number of
/// them.
///
/// # Errors
/// When libtorch fails.
pub fn toggled_boxes(shape: [usize; 3], rng: &mut impl Rng, device: Device) -> Result<Tensor> {
    let mut mask = Tensor::f_zeros(shape.map(|n| n as i64), (Kind::Bool, device))?;
    for _ in 0..3 {
        mask = mask.f_logical_xor(&PasteBox::third(shape, rng).mask(shape, device)?)?;
    }
    Ok(mask)
}

/// `inner` where `inside` is true and `outer` elsewhere, for images `[n, channels, z, y, x]` and a
/// mask of every sample, `[n, z, y, x]`.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn paste_images(outer: &Tensor, inner: &Tensor, inside: &Tensor) -> Result<Tensor> {
    paste(outer, inner, &inside.f_unsqueeze(1)?)
}

/// `inner` where `inside` is true and `outer` elsewhere; for images and labels alike.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn paste(outer: &Tensor, inner: &Tensor, inside: &Tensor) -> Result<Tensor> {
    Ok(inner.f_where_self(inside, outer)?)
}

/// The spatial axes of `[.., z, y, x]`.
pub(crate) fn grid(tensor: &Tensor) -> [usize; 3] {
    let size = tensor.size();
    let axis = |back: usize| size.len().checked_sub(back).map_or(1, |i| size[i] as usize);
    [axis(3), axis(2), axis(1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Seed;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_published_offset_occurs_and_no_other() {
        let drawn: BTreeSet<_> = (0..400)
            .map(|i| PasteBox::of_share([7, 6, 5], 2.0 / 3.0, &mut Seed(1).stream("b", i, 0)))
            .inspect(|b| assert_eq!(b.size, [4, 4, 3]))
            .map(|b| b.offset)
            .collect();
        assert_eq!(drawn.len(), 3 * 2 * 2);
        assert!(drawn.iter().all(|o| o[0] < 3 && o[1] < 2 && o[2] < 2));
    }

    #[test]
    fn sides_match_the_published_rule() {
        let sides = relative_sides(0.02, 2.5, 0.4);
        assert!((sides[0] - 0.271_441_761_659_490_7).abs() < 1e-9);
        assert!((sides[1] - 0.678_604_404_148_726_7).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn boxes_of_a_share_lie_at_every_published_offset_and_at_no_other(
            seed: u64, z in 1usize..9, y in 1usize..9, x in 1usize..9, share in 0.0f64..=1.0,
        ) {
            let shape = [z, y, x];
            let mut seen: [BTreeSet<usize>; 3] = Default::default();
            for i in 0..400 {
                let drawn = PasteBox::of_share(shape, share, &mut Seed(seed).stream("b", i, 0));
                for axis in 0..3 {
                    prop_assert_eq!(drawn.size[axis], (share * shape[axis] as f64).floor() as usize);
                    seen[axis].insert(drawn.offset[axis]);
                }
            }
            for axis in 0..3 {
                // The authors' randint(0, n − side) leaves the last place out, and there is one where the box fills the axis.
                let places = shape[axis] - (share * shape[axis] as f64).floor() as usize;
                let expected: BTreeSet<usize> = (0..places.max(1)).collect();
                prop_assert_eq!(&seen[axis], &expected);
            }
        }

        #[test]
        fn masks_hold_the_boxes_voxels(seed: u64, z in 1usize..9, y in 1usize..9, x in 1usize..9, share in 0.0f64..=1.0) {
            let shape = [z, y, x];
            let mut rng = Seed(seed).stream("box", 0, 0);
            for paste_box in [PasteBox::of_share(shape, share, &mut rng), PasteBox::random(shape, &mut rng)] {
                let mask = paste_box.mask(shape, Device::Cpu).unwrap();
                prop_assert_eq!(mask.sum(Kind::Int64).int64_value(&[]), paste_box.volume() as i64);
            }
        }

        #[test]
        fn toggled_masks_hold_at_most_three_thirds(seed: u64, z in 4usize..12, y in 4usize..12, x in 4usize..12) {
            let shape = [z, y, x];
            let mask = toggled_boxes(shape, &mut Seed(seed).stream("box", 0, 0), Device::Cpu).unwrap();
            let share = mask.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
            // Rounding a side of four voxels can enlarge it by an eighth.
            prop_assert!(share <= 0.5 * 1.125f64.powi(3) && mask.size() == [z as i64, y as i64, x as i64]);
        }

        #[test]
        fn pasting_a_patch_into_itself_changes_nothing(seed: u64) {
            let a = Tensor::arange(60, (Kind::Float, Device::Cpu)).view([1, 1, 3, 4, 5]);
            let b = PasteBox::random([3, 4, 5], &mut Seed(seed).stream("box", 0, 0));
            let mask = b.mask([3, 4, 5], Device::Cpu).unwrap();
            prop_assert!(paste(&a, &a, &mask).unwrap().equal(&a));
            let c = &a + 100.0;
            let there = paste(&a, &c, &mask).unwrap();
            let back = paste(&c, &a, &mask.logical_not()).unwrap();
            prop_assert!(there.equal(&back));
        }
    }
}
