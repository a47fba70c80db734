//! Growing and shrinking by millimetres.

use crate::{Error, Outside, Result, squared_distance_to, squared_distance_where};
use liseg_volume::Spacing;
use ndarray::{Array3, ArrayView3};

/// Squared distances are compared with this relative slack, so that a radius of 3.6 mm reaches
/// over three voxels of 1.2 mm whatever the rounding of 3·1.2.
const SLACK: f64 = 1e-9;

/// The voxels no further than `radius_mm` from the object: dilation by a ball.
///
/// # Shapes and units
/// `mask`: `[z, y, x]`; distances run from centre to centre; a radius of 0 changes nothing.
///
/// # Errors
/// [`Error::Radius`] when the radius is negative or not finite.
pub fn dilate(
    mask: ArrayView3<'_, bool>,
    radius_mm: f64,
    spacing: Spacing,
) -> Result<Array3<bool>> {
    let limit = squared_limit(radius_mm)?;
    Ok(squared_distance_to(mask, spacing).map(|&squared| squared <= limit))
}

/// The object voxels further than `radius_mm` from the background: erosion by a ball.
///
/// # Shapes and units
/// `mask`: `[z, y, x]`; distances run from centre to centre; a radius of 0 changes nothing.
/// `outside` says whether the object also shrinks from the edge of the image.
///
/// # Errors
/// [`Error::Radius`] when the radius is negative or not finite.
///
/// # Examples
/// ```
/// use liseg_morphology::{Outside, erode};
/// use liseg_volume::Spacing;
/// use ndarray::Array3;
///
/// let mask = Array3::from_elem((3, 3, 3), true);
/// let eroded = erode(mask.view(), 1.0, Spacing::ISOTROPIC_1MM, Outside::Background)?;
/// assert_eq!(eroded.iter().filter(|&&inside| inside).count(), 1);
/// # Ok::<(), liseg_morphology::Error>(())
/// ```
pub fn erode(
    mask: ArrayView3<'_, bool>,
    radius_mm: f64,
    spacing: Spacing,
    outside: Outside,
) -> Result<Array3<bool>> {
    let limit = squared_limit(radius_mm)?;
    let (depth, height, width) = mask.dim();
    let shape = [depth, height, width];
    let step = spacing.zyx();
    let squared = squared_distance_where(mask, |&inside| !inside, spacing);
    let mut eroded = Array3::from_elem(shape, false);
    ndarray::Zip::indexed(&mut eroded)
        .and(&squared)
        .par_for_each(|(z, y, x), kept, &squared| {
            let place = [z, y, x];
            // The nearest voxel beyond the image lies straight along an axis.
            let to_edge = |axis: usize| {
                let voxels = (place[axis] + 1).min(shape[axis] - place[axis]);
                (voxels as f64 * step[axis]).powi(2)
            };
            let from_edge = outside == Outside::Object || (0..3).all(|a| to_edge(a) > limit);
            // The squared distance is 0 on the background itself.
            *kept = squared > 0.0 && squared > limit && from_edge;
        });
    Ok(eroded)
}

fn squared_limit(radius_mm: f64) -> Result<f64> {
    if radius_mm.is_finite() && radius_mm >= 0.0 {
        Ok(radius_mm * radius_mm * (1.0 + SLACK))
    } else {
        Err(Error::Radius { found: radius_mm })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::masks;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn eroding_is_dilating_the_background(mask in masks(), radius in 0.0..4.0f64) {
            let spacing = Spacing::new(2.5, 1.2, 1.0).unwrap();
            let grown = dilate(mask.map(|v| !v).view(), radius, spacing).unwrap();
            let shrunk = erode(mask.view(), radius, spacing, Outside::Object).unwrap();
            prop_assert_eq!(grown.map(|v| !v), shrunk);
            prop_assert_eq!(dilate(mask.view(), 0.0, spacing).unwrap(), mask);
        }

        #[test]
        fn the_edge_counts_as_background_when_asked(mask in masks(), radius in 0.0..4.0f64) {
            // A frame of background, wide enough for the radius, says the same.
            let spacing = Spacing::new(2.5, 1.2, 1.0).unwrap();
            let (depth, height, width) = mask.dim();
            let mut framed = Array3::from_elem((depth + 10, height + 10, width + 10), false);
            let inner = ndarray::s![5..5 + depth, 5..5 + height, 5..5 + width];
            framed.slice_mut(inner).assign(&mask);
            let expected = erode(framed.view(), radius, spacing, Outside::Object).unwrap();
            let found = erode(mask.view(), radius, spacing, Outside::Background).unwrap();
            prop_assert_eq!(found, expected.slice(inner));
        }
    }

    #[test]
    fn refuses_what_is_no_radius() {
        let mask = Array3::from_elem((1, 1, 1), true);
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            let result = dilate(mask.view(), bad, Spacing::ISOTROPIC_1MM);
            assert!(matches!(result, Err(Error::Radius { .. })));
        }
    }
}
