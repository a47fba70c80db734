//! What a network has wrong, and of how much of it it is sure: what a threshold on pseudo labels lets through.

use crate::case::same_grid;
use crate::{Error, Result};
use liseg_volume::{GRID_TOLERANCE_MM, LabelMap, Volume};
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Add;

/// Voxels that a network has wrong, and those of them that it is sure of.
///
/// The network answers foreground where its probability p is above ½, and is sure where its confidence,
/// max(p, 1 − p), reaches a threshold. Pseudo-labelling methods believe what is sure (FixMatch, Sohn et al.,
/// NeurIPS 2020, eq. 4): of a network's mistakes the sure ones are those that it would teach itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Mistakes {
    /// Voxels of the reference.
    pub referenced: u64,
    /// Foreground for the network alone.
    pub false_positive: u64,
    /// Foreground in the reference alone.
    pub false_negative: u64,
    /// False positives that it is sure of.
    pub sure_false_positive: u64,
    /// False negatives that it is sure of.
    pub sure_false_negative: u64,
}

impl Mistakes {
    /// Counts the mistakes of a class' probabilities, judged by a label of the reference.
    ///
    /// `threshold` is the confidence from which on the network is sure, 0.5..=1.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Grid`] when the grids differ, [`Error::Probability`] when a voxel's
    /// value or the threshold is none.
    ///
    /// # Examples
    /// ```
    /// use liseg_metrics::Mistakes;
    /// use liseg_volume::{Affine, Spacing, Volume};
    /// use ndarray::arr3;
    ///
    /// let affine = Affine::from_spacing(Spacing::new(5.0, 1.0, 1.0)?);
    /// let probability = Volume::new(arr3(&[[[0.98, 0.6, 0.3, 0.01_f32]]]), affine)?;
    /// let reference = Volume::new(arr3(&[[[0, 0, 1, 1_u8]]]), affine)?;
    /// let mistakes = Mistakes::of(&probability, &reference, 1, 0.95)?;
    /// assert_eq!((mistakes.all(), mistakes.sure()), (4, 2));
    /// assert_eq!(mistakes.per_reference(), Some(2.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(
        probability: &Volume<f32>,
        reference: &LabelMap,
        label: u8,
        threshold: f64,
    ) -> Result<Self> {
        if !(0.5..=1.0).contains(&threshold) {
            return Err(Error::Probability {
                what: "the threshold of confidence",
                found: threshold,
                least: 0.5,
            });
        }
        by_slice([probability], reference, |[p], r| {
            let mut found = Self::default();
            for (&p, &r) in p.iter().zip(r) {
                found.add_voxel(probability_of(p)?, r == label, threshold);
            }
            Ok(found)
        })
    }

    /// How many mistakes two networks share: voxels that both have wrong.
    ///
    /// # Errors
    /// As [`Mistakes::of`].
    pub fn shared(
        first: &Volume<f32>,
        second: &Volume<f32>,
        reference: &LabelMap,
        label: u8,
    ) -> Result<u64> {
        by_slice([first, second], reference, |[p, q], r| {
            let mut shared = 0;
            for ((&p, &q), &r) in p.iter().zip(q).zip(r) {
                let is_label = r == label;
                let wrong = |p: f64| (p > 0.5) != is_label;
                let both = wrong(probability_of(p)?) & wrong(probability_of(q)?);
                shared += u64::from(both);
            }
            Ok(shared)
        })
    }

    /// Voxels that are wrong.
    pub fn all(&self) -> u64 {
        self.false_positive + self.false_negative
    }

    /// Voxels that are wrong and of which the network is sure.
    pub fn sure(&self) -> u64 {
        self.sure_false_positive + self.sure_false_negative
    }

    /// Wrong voxels per voxel of the reference, 0 or more; none when the reference is empty.
    pub fn per_reference(&self) -> Option<f64> {
        share(self.all(), self.referenced)
    }

    /// The share of the wrong voxels of which the network is sure, 0 to 1; none when nothing is wrong.
    pub fn sure_share(&self) -> Option<f64> {
        share(self.sure(), self.all())
    }

    fn add_voxel(&mut self, p: f64, is_label: bool, threshold: f64) {
        let answer = p > 0.5;
        self.referenced += u64::from(is_label);
        if answer == is_label {
            return;
        }
        let sure = u64::from(p.max(1.0 - p) >= threshold);
        if answer {
            self.false_positive += 1;
            self.sure_false_positive += sure;
        } else {
            self.false_negative += 1;
            self.sure_false_negative += sure;
        }
    }
}

impl Add for Mistakes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            referenced: self.referenced + other.referenced,
            false_positive: self.false_positive + other.false_positive,
            false_negative: self.false_negative + other.false_negative,
            sure_false_positive: self.sure_false_positive + other.sure_false_positive,
            sure_false_negative: self.sure_false_negative + other.sure_false_negative,
        }
    }
}

impl std::iter::Sum for Mistakes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// `part` of `whole`, 0 or more; none when `whole` is 0.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A voxel's value, if it is a probability. Interpolation and rounding may leave it a little outside.
fn probability_of(value: f32) -> Result<f64> {
    const SLACK: f64 = 1e-3;
    let value = f64::from(value);
    if (-SLACK..=1.0 + SLACK).contains(&value) {
        return Ok(value.clamp(0.0, 1.0));
    }
    Err(Error::Probability {
        what: "a voxel's value",
        found: value,
        least: 0.0,
    })
}

/// Sums what `count` finds in every slice of maps that lie on the grid of the reference.
fn by_slice<const N: usize, S>(
    maps: [&Volume<f32>; N],
    reference: &LabelMap,
    count: impl Fn([ArrayView2<'_, f32>; N], ArrayView2<'_, u8>) -> Result<S> + Sync,
) -> Result<S>
where
    S: Add<Output = S> + Default + Send,
{
    for map in maps {
        same_grid(&map.geometry(), &reference.geometry(), GRID_TOLERANCE_MM)?;
    }
    let slices = (0..reference.shape()[0]).into_par_iter();
    let counted = slices.map(|z| {
        let slices = maps.map(|map| map.data().index_axis_move(Axis(0), z));
        count(slices, reference.data().index_axis_move(Axis(0), z))
    });
    counted.try_reduce(S::default, |a, b| Ok(a + b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pairs;
    use liseg_volume::Affine;
    use ndarray::{Array3, arr3};
    use proptest::prelude::*;

    fn volume<T>(data: Array3<T>) -> Volume<T> {
        let columns = [[0.0, 0.0, 2.0], [0.0, 1.5, 0.0], [1.0, 0.0, 0.0], [0.0; 3]];
        let [x, y, z, origin] = columns;
        Volume::new(data, Affine::from_columns(x, y, z, origin).unwrap()).unwrap()
    }

    /// Probabilities with the mask's side of a half, and how sure: 0 for a half, 1 for certain.
    fn map(mask: &Array3<bool>, sure: f32) -> Volume<f32> {
        let at = |&inside: &bool| {
            if inside {
                0.5 + sure / 2.0
            } else {
                0.5 - sure / 2.0
            }
        };
        volume(mask.map(at))
    }

    proptest! {
        #[test]
        fn mistakes_are_those_of_the_masks((p, r) in pairs(), sure in 0.01f32..1.0, threshold in 0.5..=1.0f64) {
            let reference = volume(r.map(|&v| 3 * u8::from(v)));
            let found = Mistakes::of(&map(&p, sure), &reference, 3, threshold).unwrap();
            let counts = crate::Counts::of_masks(p.view(), r.view()).unwrap();
            prop_assert_eq!(found.referenced, counts.referenced());
            prop_assert_eq!(found.false_positive, counts.false_positive);
            prop_assert_eq!(found.false_negative, counts.false_negative);
            prop_assert!(found.sure_false_positive <= found.false_positive);
            let lenient = Mistakes::of(&map(&p, sure), &reference, 3, 0.5).unwrap();
            prop_assert_eq!(lenient.sure(), lenient.all());
            let all_or_none = [0, found.all()].contains(&found.sure());
            prop_assert!(all_or_none, "one confidence for all: {found:?}");
        }

        #[test]
        fn a_network_shares_all_mistakes_with_itself_and_none_with_the_truth((p, r) in pairs()) {
            let reference = volume(r.map(|&v| u8::from(v)));
            let (own, truth) = (map(&p, 0.4), map(&r, 0.9));
            let all = Mistakes::of(&own, &reference, 1, 0.95).unwrap().all();
            prop_assert_eq!(Mistakes::shared(&own, &own, &reference, 1).unwrap(), all);
            prop_assert_eq!(Mistakes::shared(&own, &truth, &reference, 1).unwrap(), 0);
        }
    }

    #[test]
    fn by_hand() {
        let reference = volume(arr3(&[[[1u8, 1, 1, 0, 0, 0]], [[2, 0, 1, 1, 0, 0]]]));
        let first = volume(arr3(&[
            [[0.97f32, 0.5, 0.03, 0.97, 0.6, 0.03]],
            [[0.99, 0.0, 1.0, 0.2, 0.5, 1.0]],
        ]));
        let second = volume(first.data().map(|_| 0.0));
        let found = Mistakes::of(&first, &reference, 1, 0.95).unwrap();
        let expected = Mistakes {
            referenced: 5,
            false_positive: 4,      // 0.97, 0.6, 0.99 on another label, 1.0
            false_negative: 3,      // exactly a half is background, 0.03, 0.2
            sure_false_positive: 3, // all but 0.6
            sure_false_negative: 1, // 0.03
        };
        assert_eq!(found, expected);
        assert_eq!(found.per_reference(), Some(1.4));
        assert_eq!(found.sure_share(), Some(4.0 / 7.0));
        // The second answers nothing: it shares what the first has missed.
        assert_eq!(Mistakes::shared(&first, &second, &reference, 1).unwrap(), 3);
        let twice: Mistakes = [found, found].into_iter().sum();
        assert_eq!((twice.all(), twice.sure(), twice.referenced), (14, 8, 10));
        assert_eq!(Mistakes::default().sure_share(), None);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        let reference = volume(arr3(&[[[1u8, 0]]]));
        for wrong in [f32::NAN, 1.1, -0.2, f32::INFINITY] {
            let map = volume(arr3(&[[[0.5, wrong]]]));
            let error = Mistakes::of(&map, &reference, 1, 0.95).unwrap_err();
            assert!(matches!(error, Error::Probability { .. }), "{error}");
        }
        let map = volume(arr3(&[[[1.0f32, 0.0]]]));
        for wrong in [0.4, 1.01, f64::NAN] {
            let error = Mistakes::of(&map, &reference, 1, wrong).unwrap_err();
            assert!(error.to_string().contains("threshold"), "{error}");
        }
        let other = volume(arr3(&[[[1.0f32, 0.0, 0.0]]]));
        let error = Mistakes::shared(&map, &other, &reference, 1).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }
}
