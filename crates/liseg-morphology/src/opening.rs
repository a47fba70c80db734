//! Opening and closing by millimetres.

use crate::{Outside, Result, dilate, erode};
use liseg_volume::Spacing;
use ndarray::{Array3, ArrayView3};

/// Erosion, then dilation: what is thinner than the ball goes, the rest keeps its shape.
///
/// What lies beyond the image is taken for object, so that an organ cut by the edge of the field of
/// view is not opened there.
///
/// # Shapes and units
/// `mask`: `[z, y, x]`; a radius of 0 changes nothing.
///
/// # Errors
/// [`Error::Radius`](crate::Error::Radius) when the radius is negative or not finite.
///
/// # Examples
/// ```
/// use liseg_morphology::open;
/// use liseg_volume::Spacing;
/// use ndarray::{Array3, s};
///
/// let mut mask = Array3::from_elem((7, 12, 7), false);
/// mask.slice_mut(s![1..6, 1..6, 1..6]).fill(true);
/// mask.slice_mut(s![3, 6..10, 3]).fill(true); // a vessel, one voxel wide
/// let opened = open(mask.view(), 1.0, Spacing::ISOTROPIC_1MM)?;
/// assert!(opened[[3, 3, 3]] && !opened[[3, 8, 3]]);
/// # Ok::<(), liseg_morphology::Error>(())
/// ```
pub fn open(mask: ArrayView3<'_, bool>, radius_mm: f64, spacing: Spacing) -> Result<Array3<bool>> {
    let eroded = erode(mask, radius_mm, spacing, Outside::Object)?;
    dilate(eroded.view(), radius_mm, spacing)
}

/// Dilation, then erosion: gaps and clefts narrower than the ball are filled.
///
/// What lies beyond the image is taken for object in the erosion, so that the edge takes nothing
/// away.
///
/// # Shapes and units
/// As [`open`].
///
/// # Errors
/// [`Error::Radius`](crate::Error::Radius) when the radius is negative or not finite.
pub fn close(mask: ArrayView3<'_, bool>, radius_mm: f64, spacing: Spacing) -> Result<Array3<bool>> {
    let dilated = dilate(mask, radius_mm, spacing)?;
    erode(dilated.view(), radius_mm, spacing, Outside::Object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::masks;
    use proptest::prelude::*;

    fn within(a: &Array3<bool>, b: &Array3<bool>) -> bool {
        a.iter().zip(b).all(|(&a, &b)| b || !a)
    }

    proptest! {
        #[test]
        fn opening_shrinks_closing_grows_and_a_second_time_changes_nothing(
            mask in masks(),
            radius in 0.0..4.0f64,
        ) {
            let spacing = Spacing::new(2.5, 1.2, 1.0).unwrap();
            let opened = open(mask.view(), radius, spacing).unwrap();
            let closed = close(mask.view(), radius, spacing).unwrap();
            prop_assert!(within(&opened, &mask) && within(&mask, &closed));
            prop_assert_eq!(&open(opened.view(), radius, spacing).unwrap(), &opened);
            prop_assert_eq!(&close(closed.view(), radius, spacing).unwrap(), &closed);
        }

        #[test]
        fn closing_is_opening_the_background(mask in masks(), radius in 0.0..4.0f64) {
            let spacing = Spacing::new(2.5, 1.2, 1.0).unwrap();
            let opened = open(mask.map(|v| !v).view(), radius, spacing).unwrap();
            let closed = close(mask.view(), radius, spacing).unwrap();
            prop_assert_eq!(opened.map(|v| !v), closed);
        }
    }
}
