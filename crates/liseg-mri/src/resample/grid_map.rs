//! Which voxels of one grid a voxel of another is interpolated from, for those who resample piece by
//! piece.

use super::operator::{linear, nearest};
use super::{Interpolation, Resampling, separate_axis};
use liseg_volume::Spacing;
use std::ops::Range;

/// From which two samples along an axis a new one is made: `(1 − t) · below + t · above`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tap {
    /// Index of the lower sample.
    pub below: usize,
    /// Index of the upper sample; equal to `below` at the edge and where nothing is interpolated.
    pub above: usize,
    /// The fraction of the way from the lower to the upper sample.
    pub t: f32,
}

/// The taps along one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisMap {
    first: usize,
    taps: Vec<Tap>,
}

impl AxisMap {
    /// Between `old` and `new` samples over one extent, with half-pixel centres.
    ///
    /// Cubic splines look at whole lines and cannot be had piecewise: they count as linear.
    pub fn new(old: usize, new: usize, interpolation: Interpolation) -> Self {
        let exactly = |index: usize| Tap {
            below: index,
            above: index,
            t: 0.0,
        };
        let taps = if old == new {
            (0..new).map(exactly).collect()
        } else if interpolation == Interpolation::Nearest {
            nearest(old, new).into_iter().map(exactly).collect()
        } else {
            linear(old, new)
                .into_iter()
                .map(|(below, t)| Tap {
                    below,
                    above: if t > 0.0 {
                        (below + 1).min(old - 1)
                    } else {
                        below
                    },
                    t: t as f32,
                })
                .collect()
        };
        Self { first: 0, taps }
    }

    /// The map when only the old samples `kept` are there: the new samples nearest to one of them,
    /// interpolated between them with the edge value beyond, and indices counted from `kept.start`.
    pub fn restricted(&self, kept: Range<usize>) -> Self {
        let inside = |tap: &Tap| kept.contains(&if tap.t < 0.5 { tap.below } else { tap.above });
        let first = self.taps.iter().position(inside).unwrap_or(0);
        let clamp = |index: usize| {
            index.clamp(kept.start, kept.end.saturating_sub(1).max(kept.start)) - kept.start
        };
        let taps = self.taps.iter().filter(|tap| inside(tap)).map(|tap| Tap {
            below: clamp(tap.below),
            above: clamp(tap.above),
            t: tap.t,
        });
        Self {
            first: self.first + first,
            taps: taps.collect(),
        }
    }

    /// Index of the first new sample that the map makes.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The taps of the new samples, from [`AxisMap::first`] on; indices never fall.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// Whether every new sample is the old one of the same place in the list.
    pub fn is_identity(&self) -> bool {
        let mut taps = self.taps.iter().enumerate();
        taps.all(|(k, tap)| tap.below == k && tap.above == k)
    }
}

/// The taps along all three axes, (z, y, x): [`resample_array`](super::resample_array) with linear or
/// nearest interpolation, voxel by voxel.
#[derive(Debug, Clone, PartialEq)]
pub struct GridMap {
    /// Along z, y and x.
    pub axes: [AxisMap; 3],
}

impl GridMap {
    /// Between two shapes; the spacings only decide about thick slices.
    pub fn new(
        old: [usize; 3],
        new: [usize; 3],
        (from, to): (Spacing, Spacing),
        how: Resampling,
    ) -> Self {
        let separate = separate_axis(from, to, how.separate_z);
        let axes = std::array::from_fn(|axis| {
            let interpolation = if separate == Some(axis) {
                how.along_z
            } else {
                how.interpolation
            };
            AxisMap::new(old[axis], new[axis], interpolation)
        });
        Self { axes }
    }

    /// The map when only a box of the old grid is there, (z, y, x); see [`AxisMap::restricted`].
    pub fn restricted(&self, kept: [Range<usize>; 3]) -> Self {
        let [z, y, x] = kept;
        let [a, b, c] = &self.axes;
        Self {
            axes: [a.restricted(z), b.restricted(y), c.restricted(x)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::resample_array;
    use super::*;
    use ndarray::Array3;
    use proptest::prelude::*;

    proptest! {
        /// Voxel by voxel is what the whole array gives, thick slices or not.
        #[test]
        fn taps_give_what_resampling_gives(
            old in [1usize..7, 1..7, 1..9], new in [1usize..9, 1..9, 1..12], z in 0.5..9.0f64,
        ) {
            let data = Array3::from_shape_fn(old, |(z, y, x)| ((z * 31 + y * 17 + x * 7) % 23) as f32);
            let spacings = (Spacing::new(z, 1.0, 1.0).unwrap(), Spacing::ISOTROPIC_1MM);
            let whole = resample_array(data.view(), new, spacings.0, spacings.1, Resampling::LOGITS);
            let map = GridMap::new(old, new, spacings, Resampling::LOGITS);
            let [mz, my, mx] = &map.axes;
            for ((k, j, i), expected) in whole.indexed_iter() {
                let (a, b, c) = (mz.taps()[k], my.taps()[j], mx.taps()[i]);
                let mix = |t: f32, p: f32, q: f32| p + t * (q - p);
                let row = |z, y| mix(c.t, data[[z, y, c.below]], data[[z, y, c.above]]);
                let plane = |z| mix(b.t, row(z, b.below), row(z, b.above));
                let found = mix(a.t, plane(a.below), plane(a.above));
                prop_assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
            }
        }
    }

    #[test]
    fn a_box_keeps_the_voxels_nearest_to_it() {
        let whole = AxisMap::new(10, 20, Interpolation::Linear);
        let part = whole.restricted(3..6);
        assert_eq!((part.first(), part.taps().len()), (6, 6));
        // Voxel 6 lies at 2.75: three quarters of the way to sample 3, which is now the first.
        assert_eq!(
            part.taps()[0],
            Tap {
                below: 0,
                above: 0,
                t: 0.75
            }
        );
        assert!(part.taps().iter().all(|tap| tap.above < 3));
        assert_eq!(whole.restricted(0..10), whole);
        assert!(AxisMap::new(7, 7, Interpolation::Linear).is_identity());
        assert!(whole.restricted(0..0).taps().is_empty());
    }
}
