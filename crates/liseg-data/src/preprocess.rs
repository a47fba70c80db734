//! From a file's volume to what a network sees, and back.
//!
//! The order is nnU-Net v2's: reorient, crop to non-zero, normalise, resample. Training and
//! prediction share [`preprocess_image`], so that a network sees the same image in both.

use crate::plan::Plan;
use crate::{Error, Result};
use liseg_mri::crop::nonzero_region;
use liseg_mri::resample::{
    Resampling, SeparateZ, resample_array, resample_labels_array, resampled_shape,
};
use liseg_volume::{Geometry, LabelMap, Orientation, Region, Spacing, Volume};
use ndarray::{Array3, s};
use serde::{Deserialize, Serialize};

/// An image as a network sees it, with the way back to its file.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessedImage {
    /// Normalised intensities `[z, y, x]` in canonical RAS at the plan's spacing.
    pub image: Array3<f32>,
    /// The way back.
    pub restore: Restore,
}

/// The way back from a network's grid to the grid of the file.
///
/// A prediction is resampled from [`Restore::plan_shape`] to [`Restore::cropped_shape`] (between
/// [`Restore::plan_spacing`] and [`Restore::source_spacing`]); [`Restore::restore_labels`] does the
/// rest exactly, without interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    source: Geometry,
    canonical: Geometry,
    region: Region,
    plan_spacing: Spacing,
    plan_shape: [usize; 3],
}

impl Restore {
    /// Grid of the file: shape and exact affine.
    pub fn source(&self) -> Geometry {
        self.source
    }

    /// In which directions the axes of the file run.
    pub fn source_orientation(&self) -> Orientation {
        self.source.orientation()
    }

    /// Grid of the whole image in canonical RAS.
    pub fn canonical(&self) -> Geometry {
        self.canonical
    }

    /// The non-zero box within the canonical image.
    pub fn region(&self) -> Region {
        self.region
    }

    /// Voxels of the box at the image's own spacing, (z, y, x) in canonical RAS.
    pub fn cropped_shape(&self) -> [usize; 3] {
        self.region.shape()
    }

    /// The image's own spacing, in canonical RAS.
    pub fn source_spacing(&self) -> Spacing {
        self.canonical.spacing()
    }

    /// The spacing a network sees.
    pub fn plan_spacing(&self) -> Spacing {
        self.plan_spacing
    }

    /// Voxels of the box at the plan's spacing: the shape of the preprocessed image.
    pub fn plan_shape(&self) -> [usize; 3] {
        self.plan_shape
    }

    /// Puts labels of the cropped canonical image, `[z, y, x]` of [`Restore::cropped_shape`], back
    /// into the grid of the file; background outside the box.
    ///
    /// No voxel moves in the patient, and the affine is the file's own, bit for bit.
    ///
    /// # Errors
    /// [`Error::Shape`] when `labels` has another shape.
    pub fn restore_labels(&self, labels: Array3<u8>) -> Result<LabelMap> {
        if <[usize; 3]>::from(labels.dim()) != self.cropped_shape() {
            return Err(Error::Shape {
                what: "the label map to restore",
                expected: self.cropped_shape(),
                found: labels.dim().into(),
            });
        }
        self.region.check(self.canonical.shape)?;
        let Region { start: a, end: b } = self.region;
        let mut whole = Array3::zeros(self.canonical.shape);
        whole
            .slice_mut(s![a[0]..b[0], a[1]..b[1], a[2]..b[2]])
            .assign(&labels);
        let turned =
            LabelMap::new(whole, self.canonical.affine)?.reorient(self.source_orientation());
        if turned.shape() != self.source.shape {
            return Err(Error::Shape {
                what: "the restored label map",
                expected: self.source.shape,
                found: turned.shape(),
            });
        }
        Ok(LabelMap::new(turned.into_data(), self.source.affine)?)
    }
}

/// Brings an image to the grid and intensities of a plan.
///
/// The z-score is taken over the cropped image at its own spacing; resampling is cubic, with the
/// slices of thick-sliced images resampled one by one.
///
/// # Errors
/// [`Error::Mri`] for voxels that are NaN or infinite; [`Error::Setting`] when resampling would leave
/// no voxel.
pub fn preprocess_image(volume: &Volume<f32>, plan: &Plan) -> Result<PreprocessedImage> {
    let canonical = volume.reorient(plan.orientation);
    let region = nonzero_region(canonical.data());
    let restore = Restore {
        source: volume.geometry(),
        canonical: canonical.geometry(),
        region,
        plan_spacing: plan.spacing,
        plan_shape: resampled_shape(region.shape(), canonical.spacing(), plan.spacing),
    };
    if restore.plan_shape.contains(&0) {
        let reason = format!(
            "an image of {:?} voxels (z, y, x) at {} has no voxel left at {}",
            region.shape(),
            canonical.spacing(),
            plan.spacing
        );
        return Err(Error::setting("spacing", reason));
    }
    let mut image = canonical.crop(region)?.into_data();
    drop(canonical);
    plan.normalization_scheme.apply(&mut image.view_mut())?;
    let image = resample_array(
        image.view(),
        restore.plan_shape,
        restore.source_spacing(),
        restore.plan_spacing,
        Resampling::IMAGE,
    );
    Ok(PreprocessedImage { image, restore })
}

/// Brings the label of a preprocessed image to the same grid.
///
/// The label must have the shape of the image file; its own affine is not looked at, so that it is
/// turned exactly as the image was.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn preprocess_label(label: &LabelMap, restore: &Restore) -> Result<Array3<u8>> {
    if label.shape() != restore.source.shape {
        return Err(Error::Shape {
            what: "the label",
            expected: restore.source.shape,
            found: label.shape(),
        });
    }
    let placed = LabelMap::new(label.data().to_owned(), restore.source.affine)?;
    let cropped = placed
        .reorient(restore.canonical.orientation())
        .crop(restore.region)?;
    Ok(resample_labels_array(
        cropped.data(),
        restore.plan_shape,
        restore.source_spacing(),
        restore.plan_spacing,
        SeparateZ::Auto,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use liseg_volume::Affine;
    use proptest::prelude::*;
    use serde_json::from_value;

    #[test]
    fn golden_whole_cases() {
        let Some(golden) = testing::golden("nnunet/preprocess.json") else {
            return;
        };
        let tensors = testing::Tensors::read("nnunet/preprocess.safetensors");
        for name in ["case_iso", "case_transposed_sepz"] {
            let case = testing::case(&golden, name);
            // What the reference transposes is here given in that order from the start.
            let order: [usize; 3] =
                from_value(case["params"]["transpose_forward"].clone()).unwrap();
            let turned = |key: &str| tensors.f32(key).permuted_axes(order);
            let spacing: [f64; 3] = from_value(case["params"]["spacing"].clone()).unwrap();
            let spacing = Spacing::try_from(order.map(|a| spacing[a])).unwrap();
            let affine = Affine::from_spacing(spacing);
            let standard = |array: Array3<f32>| array.as_standard_layout().into_owned();
            let image = standard(turned(&format!("{name}.in.data")));
            let label = standard(turned(&format!("{name}.in.seg"))).mapv(|v| v as u8);
            let mut plan = testing::plan();
            plan.spacing = from_value(case["params"]["target_spacing"].clone()).unwrap();

            let volume = Volume::new(image, affine).unwrap();
            let made = preprocess_image(&volume, &plan).unwrap();
            let outputs = &case["outputs"];
            let bounds: [[usize; 2]; 3] = from_value(outputs["bbox"].clone()).unwrap();
            assert_eq!(made.restore.region().start, bounds.map(|b| b[0]), "{name}");
            assert_eq!(made.restore.region().end, bounds.map(|b| b[1]), "{name}");
            let expected = tensors.f32(&format!("{name}.out.data"));
            assert_eq!(made.image.dim(), expected.dim(), "{name}");
            let worst = made
                .image
                .iter()
                .zip(&expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst < 2e-5, "{name}: images differ by up to {worst}");

            // The reference marks zeros outside the non-zero mask as -1 and later takes them for
            // background; here they are background from the start.
            let label = LabelMap::new(label, affine).unwrap();
            let label = preprocess_label(&label, &made.restore).unwrap();
            let expected = tensors.f32(&format!("{name}.out.seg"));
            let wrong = label
                .iter()
                .zip(&expected)
                .filter(|&(&a, &b)| a != b.max(0.0) as u8)
                .count();
            assert!(wrong <= 4, "{name}: {wrong} labels differ");
        }
    }

    #[test]
    fn says_why_an_image_cannot_be_used() {
        let (image, label) = testing::image_and_label(0);
        let mut plan = testing::tiny_plan();
        let made = preprocess_image(&image, &plan).unwrap();
        let other = testing::image_and_label(1).1;
        assert!(matches!(
            preprocess_label(&other, &made.restore),
            Err(Error::Shape { .. })
        ));
        assert!(made.restore.restore_labels(label.into_data()).is_err());

        let mut voxels = image.data().to_owned();
        voxels[[2, 2, 2]] = f32::INFINITY;
        let broken = image.with_data(voxels).unwrap();
        assert!(matches!(
            preprocess_image(&broken, &plan),
            Err(Error::Mri(_))
        ));
        plan.spacing = Spacing::new(100.0, 2.0, 2.0).unwrap();
        let message = preprocess_image(&image, &plan).unwrap_err().to_string();
        assert!(message.contains("no voxel left"), "{message}");
    }

    #[test]
    fn an_image_of_zeros_is_kept_whole() {
        let image = testing::image_and_label(0).0.map(|_| 0.0f32);
        let made = preprocess_image(&image, &testing::tiny_plan()).unwrap();
        assert_eq!(made.restore.cropped_shape(), [10, 24, 20]);
        assert!(made.image.iter().all(|&v| v == 0.0));
    }

    proptest! {
        /// Whatever the orientation: labels on the cropped grid come back to their own voxels, with
        /// the affine of the file bit for bit.
        #[test]
        fn labels_come_back_exactly(
            code in proptest::sample::select(vec!["RAS", "LPS", "PIR", "SAL", "AIL", "RSP"]),
            shape in [3usize..9, 3..9, 3..9],
            tilt in -0.3f64..0.3,
        ) {
            let (s, c) = tilt.sin_cos();
            let affine = Affine::from_columns(
                [1.3 * c, 1.3 * s, 0.0], [-0.9 * s, 0.9 * c, 0.0], [0.0, 0.0, 4.1], [9.7, -3.3, 1.1],
            ).unwrap();
            let number = |(z, y, x): (usize, usize, usize)| ((z * 7 + y * 3 + x) % 5) as u8;
            let labels = Array3::from_shape_fn(shape, number);
            let file = LabelMap::new(labels, affine).unwrap().reorient(code.parse().unwrap());
            // The image is zero in a border that is cropped away; so is the label there.
            let [z, y, x] = file.shape();
            let mut inside = Array3::from_elem((z, y, x), 0.0f32);
            inside.slice_mut(s![1.., ..y - 1, 1..]).fill(2.0);
            let mut labels = file.data().to_owned();
            labels.zip_mut_with(&inside, |label, &v| if v == 0.0 { *label = 0 });
            let image = Volume::new(inside, file.affine()).unwrap();

            let restore = preprocess_image(&image, &testing::tiny_plan()).unwrap().restore;
            prop_assert_eq!(restore.cropped_shape().iter().product::<usize>(),
                (z - 1) * (y - 1) * (x - 1));
            let turned = LabelMap::new(labels.clone(), file.affine()).unwrap()
                .to_canonical().crop(restore.region()).unwrap();
            let back = restore.restore_labels(turned.into_data()).unwrap();
            prop_assert_eq!(back.data(), labels.view());
            prop_assert_eq!(back.affine(), file.affine());
            let text = serde_json::to_string(&restore).unwrap();
            prop_assert_eq!(serde_json::from_str::<Restore>(&text).unwrap(), restore);
        }
    }
}
