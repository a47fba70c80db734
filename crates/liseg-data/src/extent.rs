//! Images of a size that no scanner makes.

use crate::{Error, Result};
use liseg_mri::nifti::Header;
use std::path::Path;

/// Spacings of MR and CT images in mm, with room to spare: from those of small animals to scout views.
pub(crate) const USUAL_SPACING_MM: [f64; 2] = [0.01, 100.0];

/// No body is longer, and no table.
const LONGEST_MM: f64 = 2500.0;

/// A whole body in a wide bore takes half a cubic metre.
const LARGEST_MM3: f64 = 1e9;

/// Refuses a header by which the image would show something much smaller or larger than a body. Its numbers
/// are mostly in another unit, and resampling them to millimetres would take any amount of memory.
///
/// # Errors
/// [`Error::Extent`] with the likely cause.
pub fn check_extent(file: &Path, header: &Header) -> Result<()> {
    let geometry = header.geometry();
    let spacing = geometry.spacing();
    let [least, most] = USUAL_SPACING_MM;
    // Along an axis of one voxel there is no distance that could be wrong.
    let usual = |(mm, voxels): (f64, usize)| voxels == 1 || (least..=most).contains(&mm);
    let unusual = !spacing.zyx().into_iter().zip(geometry.shape).all(usual);
    let sides: [f64; 3] = std::array::from_fn(|a| spacing.zyx()[a] * geometry.shape[a] as f64);
    let vast =
        sides.iter().any(|&mm| mm > LONGEST_MM) || sides.iter().product::<f64>() > LARGEST_MM3;
    if !(unusual || vast) {
        return Ok(());
    }
    let found = if unusual {
        format!("the spacing is {spacing} (z, y, x); expected {least} to {most} mm")
    } else {
        let [z, y, x] = sides.map(f64::round);
        format!("the image spans {z}×{y}×{x} mm (z, y, x), more than a body")
    };
    Err(Error::Extent {
        path: file.to_owned(),
        found,
        cause: likely_cause(header),
    })
}

/// Why a spacing is a thousand times too large or too small.
fn likely_cause(header: &Header) -> &'static str {
    match header.mm_factor() {
        Some(factor) if factor > 1.0 => {
            "the header says metres (xyzt_units 1) where its numbers are probably millimetres; \
             set the unit to millimetres (2)"
        }
        Some(factor) if factor < 1.0 => {
            "the header says micrometres (xyzt_units 3) where its numbers are probably \
             millimetres; set the unit to millimetres (2)"
        }
        _ => {
            "the numbers are probably in another unit, such as metres or micrometres, or a \
             conversion lost them; export the file again or correct sform, qform and pixdim"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_mri::nifti;
    use liseg_volume::{Affine, Spacing, Volume};

    #[test]
    fn images_larger_or_smaller_than_bodies_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image.nii");
        let told = |shape: [usize; 3], spacing: [f64; 3]| {
            let affine = Affine::from_spacing(Spacing::try_from(spacing).unwrap());
            let image = Volume::new(ndarray::Array3::<f32>::zeros(shape), affine).unwrap();
            nifti::write_image(&file, &image, None).unwrap();
            let header = nifti::read_header(&file).unwrap();
            check_extent(&file, &header).map_err(|error| error.to_string())
        };
        // A whole body, and one slice of unknown thickness.
        assert_eq!(told([40, 10, 10], [50.0, 50.0, 50.0]), Ok(()));
        assert_eq!(told([1, 10, 10], [500.0, 1.0, 1.0]), Ok(()));
        let refused = |shape, spacing| told(shape, spacing).unwrap_err();
        assert!(refused([4, 10, 10], [2000.0, 1.0, 1.0]).contains("0.01 to 100 mm"));
        assert!(refused([4, 10, 10], [1e-3, 1.0, 1.0]).contains("another unit"));
        let message = refused([30, 30, 30], [90.0, 5.0, 5.0]);
        assert!(message.contains("spans 2700×150×150 mm"), "{message}");
        assert!(refused([30, 30, 30], [40.0, 40.0, 40.0]).contains("more than a body"));
    }
}
