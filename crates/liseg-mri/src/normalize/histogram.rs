//! Giving an image the intensity distribution of another one.

use crate::summary::check_finite;
use crate::{Error, Result};
use ndarray::{ArrayView3, ArrayViewMut3};
use rayon::prelude::*;

/// The intensity distribution of an image, to which others are matched.
///
/// Matching sends each intensity to the one with the same rank in the reference:
/// `F_ref⁻¹(F_image(x))` with the empirical distribution functions of all voxels, interpolated
/// linearly between the reference's distinct values. There are no bins, so an image matched to itself
/// is unchanged. Same rule as scikit-image's `match_histograms` (Gonzalez & Woods, Digital Image
/// Processing, §3.3).
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramReference {
    distribution: Vec<(f32, f64)>,
}

impl HistogramReference {
    /// Takes the distribution of an image `[z, y, x]`.
    ///
    /// A constant image is a valid reference: all that is matched to it becomes that constant.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when voxels are NaN or infinite, [`Error::Selection`] for an image without
    /// voxels.
    pub fn new(image: ArrayView3<'_, f32>) -> Result<Self> {
        Ok(Self {
            distribution: distribution(image)?,
        })
    }

    /// Matches an image `[z, y, x]` to this distribution, in place.
    ///
    /// Monotone: the order of intensities is kept. A constant image becomes the reference's greatest
    /// value, whose rank it has.
    ///
    /// # Errors
    /// As [`HistogramReference::new`]; the image is then unchanged.
    pub fn apply(&self, image: &mut ArrayViewMut3<'_, f32>) -> Result<()> {
        let source = distribution(image.view())?;
        let matched: Vec<f32> = source.iter().map(|&(_, rank)| self.value(rank)).collect();
        image.par_mapv_inplace(|v| {
            let place = source.partition_point(|&(value, _)| value < v);
            matched[place.min(matched.len() - 1)]
        });
        Ok(())
    }

    /// The intensity of a rank in 0..=1, clamped to the range of the reference.
    fn value(&self, rank: f64) -> f32 {
        let knots = &self.distribution;
        let above = knots
            .partition_point(|&(_, r)| r < rank)
            .min(knots.len() - 1);
        let (high, high_rank) = knots[above];
        if above == 0 || rank >= high_rank {
            return high;
        }
        let (low, low_rank) = knots[above - 1];
        let share = (rank - low_rank) / (high_rank - low_rank);
        (f64::from(low) + share * (f64::from(high) - f64::from(low))) as f32
    }
}

/// Distinct values in ascending order, each with the share of voxels that are not greater.
fn distribution(image: ArrayView3<'_, f32>) -> Result<Vec<(f32, f64)>> {
    check_finite(image)?;
    if image.is_empty() {
        return Err(Error::Selection {
            reason: "an image without voxels has no histogram".into(),
        });
    }
    // Adding zero turns −0 into 0, which is the same intensity.
    let mut values: Vec<f32> = image.iter().map(|v| v + 0.0).collect();
    values.par_sort_unstable_by(f32::total_cmp);
    let mut knots: Vec<(f32, f64)> = Vec::new();
    for (i, &value) in values.iter().enumerate() {
        let rank = (i + 1) as f64 / values.len() as f64;
        match knots.last_mut() {
            Some(last) if last.0 >= value => last.1 = rank,
            _ => knots.push((value, rank)),
        }
    }
    Ok(knots)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;
    use ndarray::Array3;
    use proptest::prelude::*;

    fn image(values: Vec<f32>) -> Array3<f32> {
        Array3::from_shape_vec((1, 1, values.len()), values).unwrap()
    }

    #[test]
    fn ranks_are_exchanged_and_interpolated() {
        // Ranks of 1, 2, 3, 4 are ¼ … 1; the reference 10, 20 has ½ and 1.
        let reference = HistogramReference::new(image(vec![10.0, 20.0]).view()).unwrap();
        let mut data = image(vec![4.0, 1.0, 3.0, 2.0]);
        reference.apply(&mut data.view_mut()).unwrap();
        assert_eq!(data.as_slice().unwrap(), [20.0, 10.0, 15.0, 10.0]);
    }

    #[test]
    fn odd_images_are_refused_or_documented() {
        let reference = HistogramReference::new(image(vec![1.0, 2.0]).view()).unwrap();
        let mut flat = image(vec![5.0; 3]);
        reference.apply(&mut flat.view_mut()).unwrap();
        assert!(flat.iter().all(|&v| v == 2.0));
        let mut broken = image(vec![0.0, f32::NAN]);
        let error = reference.apply(&mut broken.view_mut());
        assert!(matches!(error, Err(Error::NotFinite { count: 1, .. })));
        let empty = HistogramReference::new(Array3::zeros((0, 1, 1)).view());
        assert!(matches!(empty, Err(Error::Selection { .. })));
    }

    proptest! {
        #[test]
        fn matching_an_image_to_itself_is_the_identity(
            values in prop::collection::vec(-1e3f32..1e3, 1..60),
        ) {
            let original = image(values);
            let mut data = original.clone();
            HistogramReference::new(data.view()).unwrap().apply(&mut data.view_mut()).unwrap();
            prop_assert_eq!(data, original);
        }

        #[test]
        fn matching_keeps_the_order_and_stays_in_the_range_of_the_reference(
            values in prop::collection::vec(-100i16..100, 2..60),
            reference in prop::collection::vec(-100i16..100, 1..60),
        ) {
            let original = image(values.into_iter().map(f32::from).collect());
            let reference = image(reference.into_iter().map(f32::from).collect());
            let mut data = original.clone();
            HistogramReference::new(reference.view()).unwrap().apply(&mut data.view_mut()).unwrap();
            let mut pairs: Vec<_> = original.iter().zip(&data).collect();
            pairs.sort_by(|a, b| a.0.total_cmp(b.0));
            prop_assert!(pairs.windows(2).all(|p| p[0].1 <= p[1].1));
            let low = reference.iter().copied().fold(f32::INFINITY, f32::min);
            let high = reference.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert!(data.iter().all(|v| (low..=high).contains(v)));
        }
    }
}
