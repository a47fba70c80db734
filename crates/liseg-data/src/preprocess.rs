//! From a file's volume to what a network sees, and back.
//!
//! The order is nnU-Net v2's: reorient, crop to non-zero, normalise, resample. Training and
//! prediction share [`preprocess_image`], so that a network sees the same image in both.

use crate::plan::Plan;
use crate::{Error, Result};
use liseg_morphology::{Connectivity, fill_holes};
use liseg_mri::crop::nonzero_region;
use liseg_mri::replace_non_finite;
use liseg_mri::resample::{
    Resampling, SeparateZ, resample_array, resample_labels_array, resampled_shape,
};
use liseg_volume::{Geometry, LabelMap, Orientation, Region, Spacing, Volume};
use ndarray::{Array3, ArrayView3, s};
use serde::{Deserialize, Serialize};

/// An image as a network sees it, with the way back to its file.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessedImage {
    /// Normalised intensities `[z, y, x]` in canonical RAS at the plan's spacing.
    pub image: Array3<f32>,
    /// The way back.
    pub restore: Restore,
    /// Voxels of the image that were NaN or infinite, and were taken for background
    /// ([`replace_non_finite`]).
    pub replaced: usize,
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
        self.restore_whole(whole)
    }

    /// Turns voxels of the whole canonical image, `[z, y, x]` of the shape of
    /// [`Restore::canonical`], into the grid of the file; without a copy where only directions
    /// differ.
    ///
    /// # Errors
    /// [`Error::Shape`] when `whole` has another shape.
    pub fn restore_whole<T: Clone>(&self, whole: Array3<T>) -> Result<Volume<T>> {
        if <[usize; 3]>::from(whole.dim()) != self.canonical.shape {
            return Err(Error::Shape {
                what: "the map to restore",
                expected: self.canonical.shape,
                found: whole.dim().into(),
            });
        }
        let whole = Volume::new(whole, self.canonical.affine)?;
        let turned = whole.into_orientation(self.source_orientation());
        if turned.shape() != self.source.shape {
            return Err(Error::Shape {
                what: "the restored map",
                expected: self.source.shape,
                found: turned.shape(),
            });
        }
        Ok(Volume::new(turned.into_data(), self.source.affine)?)
    }
}

/// Brings an image of unknown phase to the grid and intensities of a plan.
///
/// Intensities are normalised over the cropped image at its own spacing; resampling is cubic, with
/// the slices of thick-sliced images resampled one by one.
///
/// # Errors
/// [`Error::Mri`] when most voxels are NaN or infinite; [`Error::Setting`] when resampling would leave
/// no voxel.
pub fn preprocess_image(volume: &Volume<f32>, plan: &Plan) -> Result<PreprocessedImage> {
    preprocess_phase(volume, None, plan)
}

/// As [`preprocess_image`], with the normalization that the plan has for the image's phase.
///
/// # Errors
/// As [`preprocess_image`].
pub fn preprocess_phase(
    volume: &Volume<f32>,
    phase: Option<&str>,
    plan: &Plan,
) -> Result<PreprocessedImage> {
    finish(
        volume.reorient(plan.orientation),
        volume.geometry(),
        phase,
        None,
        plan,
    )
}

/// As [`preprocess_phase`], without a second copy of the volume in memory. `label`, on the grid of the
/// image, decides with the image what a masked normalization takes for inside.
///
/// # Errors
/// As [`preprocess_image`], and [`Error::Shape`] when the label has another shape.
pub fn preprocess_volume(
    volume: Volume<f32>,
    phase: Option<&str>,
    label: Option<&LabelMap>,
    plan: &Plan,
) -> Result<PreprocessedImage> {
    let source = volume.geometry();
    let canonical = volume.into_orientation(plan.orientation);
    finish(canonical, source, phase, label, plan)
}

fn finish(
    mut canonical: Volume<f32>,
    source: Geometry,
    phase: Option<&str>,
    label: Option<&LabelMap>,
    plan: &Plan,
) -> Result<PreprocessedImage> {
    let replaced = replace_non_finite(&mut canonical.data_mut())?;
    let region = nonzero_region(canonical.data());
    let restore = Restore {
        source,
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
    let mut image = if region == Region::full(canonical.shape()) {
        canonical.into_data()
    } else {
        canonical.into_crop(region)?.into_data()
    };
    let mask = if plan.use_mask_for_norm {
        let label = label
            .map(|label| cropped_label(label, &restore))
            .transpose()?;
        let label = label.as_ref().map(|label| label.data());
        Some(nonzero_mask(&[image.view()], label))
    } else {
        None
    };
    plan.normalize(
        phase,
        &mut image.view_mut(),
        mask.as_ref().map(|m| m.view()),
    )?;
    drop(mask);
    if restore.plan_shape == restore.cropped_shape() {
        return Ok(PreprocessedImage {
            image,
            restore,
            replaced,
        });
    }
    let image = resample_array(
        image.view(),
        restore.plan_shape,
        restore.source_spacing(),
        restore.plan_spacing,
        Resampling::IMAGE,
    );
    Ok(PreprocessedImage {
        image,
        restore,
        replaced,
    })
}

/// What nnU-Net takes for inside a cropped image: voxels that any channel has not at zero, their
/// holes, and labelled voxels.
pub(crate) fn nonzero_mask(
    channels: &[ArrayView3<'_, f32>],
    label: Option<ArrayView3<'_, u8>>,
) -> Array3<bool> {
    let shape = channels.first().map_or((0, 0, 0), |channel| channel.dim());
    let mut mask = Array3::from_elem(shape, false);
    for channel in channels {
        mask.zip_mut_with(channel, |inside, &v| *inside |= v != 0.0);
    }
    // Background is joined by faces, so the object is joined over corners.
    let mut mask = fill_holes(mask.view(), Connectivity::Vertex);
    if let Some(label) = label {
        mask.zip_mut_with(&label, |inside, &l| *inside |= l > 0);
    }
    mask
}

/// Brings the label of a preprocessed image to the same grid.
///
/// The label must have the shape of the image file; its own affine is not looked at, so that it is
/// turned exactly as the image was.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn preprocess_label(label: &LabelMap, restore: &Restore) -> Result<Array3<u8>> {
    let cropped = cropped_label(label, restore)?;
    Ok(resample_labels_array(
        cropped.data(),
        restore.plan_shape,
        restore.source_spacing(),
        restore.plan_spacing,
        SeparateZ::Auto,
    ))
}

/// The label turned and cropped as its image was.
fn cropped_label(label: &LabelMap, restore: &Restore) -> Result<LabelMap> {
    if label.shape() != restore.source.shape {
        return Err(Error::Shape {
            what: "the label",
            expected: restore.source.shape,
            found: label.shape(),
        });
    }
    let placed = LabelMap::new(label.data().to_owned(), restore.source.affine)?;
    Ok(placed
        .reorient(restore.canonical.orientation())
        .crop(restore.region)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IntensitySummary, Normalization, testing};
    use liseg_volume::Affine;
    use proptest::prelude::*;
    use serde_json::from_value;

    #[test]
    fn golden_whole_cases() {
        let golden = testing::golden("nnunet/preprocess.json");
        let tensors = testing::Tensors::read("nnunet/preprocess.safetensors");
        for name in ["case_iso", "case_masked", "case_transposed_sepz"] {
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
            plan.use_mask_for_norm = case["params"]["use_mask_for_norm"][0] == true;

            let volume = Volume::new(image, affine).unwrap();
            let label = LabelMap::new(label, affine).unwrap();
            let made = preprocess_volume(volume, None, Some(&label), &plan).unwrap();
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
            let label = preprocess_label(&label, &made.restore).unwrap();
            let counts = &outputs["class_location_counts"];
            for value in [1u8, 2] {
                let found = label.iter().filter(|&&l| l == value).count();
                let stored = crate::foreground::remembered(found) as i64;
                let expected = counts[value.to_string()].as_i64().unwrap();
                assert!(
                    (stored - expected).abs() <= 4,
                    "{name}: {stored} {expected}"
                );
            }
            let expected = tensors.f32(&format!("{name}.out.seg"));
            let wrong = label
                .iter()
                .zip(&expected)
                .filter(|&(&a, &b)| a != b.max(0.0) as u8)
                .count();
            assert!(wrong <= 4, "{name}: {wrong} labels differ");
        }
    }

    /// Two channels without a label: each by its own scheme, on the box and mask of both.
    #[test]
    fn golden_case_of_two_channels() {
        let golden = testing::golden("nnunet/preprocess.json");
        let tensors = testing::Tensors::read("nnunet/preprocess.safetensors");
        let name = "case_two_channels_no_seg";
        let case = testing::case(&golden, name);
        let p = &case["params"];
        let channels = tensors.channels(&format!("{name}.in.data"));
        let joint = &channels[0].mapv(f32::abs) + &channels[1].mapv(f32::abs);
        let region = nonzero_region(joint.view());
        let (a, b) = (region.start, region.end);
        let inside = s![a[0]..b[0], a[1]..b[1], a[2]..b[2]];
        let views: Vec<_> = channels.iter().map(|channel| channel.view()).collect();
        let mask = nonzero_mask(&views, None);
        let properties: IntensitySummary = from_value(p["intensity_properties"].clone()).unwrap();
        let from: Spacing = from_value(p["spacing"].clone()).unwrap();
        let to: Spacing = from_value(p["target_spacing"].clone()).unwrap();
        let new = resampled_shape(region.shape(), from, to);
        let expected = tensors.channels(&format!("{name}.out.data"));
        for (c, scheme) in [Normalization::ZScore, Normalization::Ct]
            .into_iter()
            .enumerate()
        {
            let mut image = channels[c].slice(inside).to_owned();
            let masked = p["use_mask_for_norm"][c] == true;
            let view = masked.then(|| mask.slice(inside));
            scheme
                .apply(&mut image.view_mut(), view, Some(&properties))
                .unwrap();
            let image = resample_array(image.view(), new, from, to, Resampling::IMAGE);
            assert_eq!(image.dim(), expected[c].dim());
            let close = |(x, y): (&f32, &f32)| (x - y).abs() < 2e-5;
            assert!(image.iter().zip(&expected[c]).all(close), "channel {c}");
        }
        let marks = mask.slice(inside).mapv(|m| if m { 0i8 } else { -1 });
        let marks = resample_labels_array(marks.view(), new, from, to, SeparateZ::Auto);
        let expected = tensors.f32(&format!("{name}.out.seg"));
        let wrong = marks
            .iter()
            .zip(&expected)
            .filter(|&(&a, &b)| (f32::from(a) - b).abs() > 0.5)
            .count();
        assert!(wrong <= 4, "{wrong} marks differ");
    }

    /// Every golden case of cropping: box, filled mask, and the segmentation in which -1 marks what is
    /// outside of it. There may be several channels, of which any counts.
    #[test]
    fn golden_crops() {
        let golden = testing::golden("nnunet/preprocess.json");
        let tensors = testing::Tensors::read("nnunet/preprocess.safetensors");
        let cases = golden["cases"].as_array().unwrap().iter();
        let cases: Vec<_> = cases
            .filter(|case| case["op"] == "crop_to_nonzero")
            .collect();
        assert_eq!(cases.len(), 5);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let channels = tensors.channels(&format!("{name}.in.data"));
            let joint = channels
                .iter()
                .fold(Array3::<f32>::zeros(channels[0].dim()), |joint, channel| {
                    joint + channel.mapv(f32::abs)
                });
            let region = nonzero_region(joint.view());
            let (a, b) = (region.start, region.end);
            let bounds: [[usize; 2]; 3] = from_value(case["outputs"]["bbox"].clone()).unwrap();
            assert_eq!(
                [a, b],
                [bounds.map(|b| b[0]), bounds.map(|b| b[1])],
                "{name}"
            );

            let views: Vec<_> = channels.iter().map(|channel| channel.view()).collect();
            let expected = tensors.f32(&format!("{name}.out.nonzero_mask"));
            let mask = nonzero_mask(&views, None);
            assert_eq!(mask.mapv(|m| f32::from(u8::from(m))), expected, "{name}");

            let inside = s![a[0]..b[0], a[1]..b[1], a[2]..b[2]];
            let cropped: Vec<_> = channels
                .iter()
                .map(|c| c.slice(inside).to_owned())
                .collect();
            let expected = tensors.channels(&format!("{name}.out.data"));
            assert_eq!(cropped, expected, "{name}");
            // The mask of the crop is the crop of the mask.
            let views: Vec<_> = cropped.iter().map(|channel| channel.view()).collect();
            let own = nonzero_mask(&views, None);
            assert_eq!(own, mask.slice(inside), "{name}");
            let label = case["inputs"].get("seg").map(|_| {
                let label = tensors.f32(&format!("{name}.in.seg"));
                label.slice(inside).to_owned()
            });
            let label = label.unwrap_or_else(|| Array3::zeros(own.dim()));
            let marked = ndarray::Zip::from(&label)
                .and(&own)
                .map_collect(|&l, &inside| if l == 0.0 && !inside { -1.0 } else { l });
            assert_eq!(marked, tensors.f32(&format!("{name}.out.seg")), "{name}");
        }
    }

    /// Every golden case of normalization, those of nnU-Net v1 included.
    #[test]
    fn golden_normalizations() {
        let golden = testing::golden("nnunet/preprocess.json");
        let tensors = testing::Tensors::read("nnunet/preprocess.safetensors");
        let cases = golden["cases"].as_array().unwrap().iter();
        let normalise = |case: &&serde_json::Value| {
            case["op"]
                .as_str()
                .is_some_and(|op| op.starts_with("normalise"))
        };
        let cases: Vec<_> = cases.filter(normalise).collect();
        assert_eq!(cases.len(), 9);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let p = &case["params"];
            let scheme = match p["scheme"].as_str().unwrap() {
                // Version 1 adds its epsilon to the deviation, which is within the tolerance.
                "ZScoreNormalization" | "nonCT" => Normalization::ZScore,
                "CTNormalization" => Normalization::Ct,
                "RescaleTo01Normalization" => Normalization::RescaleTo01,
                "RGBTo01Normalization" => Normalization::RgbTo01,
                "NoNormalization" => Normalization::None,
                other => panic!("scheme {other}"),
            };
            let properties: Option<IntensitySummary> = p
                .get("intensity_properties")
                .map(|found| from_value(found.clone()).unwrap());
            let mask = (p["use_mask_for_norm"] == true).then(|| {
                tensors
                    .f32(&format!("{name}.in.seg"))
                    .mapv(|label| label >= 0.0)
            });
            let mut image = tensors.f32(&format!("{name}.in.image"));
            let view = mask.as_ref().map(|mask| mask.view());
            scheme
                .apply(&mut image.view_mut(), view, properties.as_ref())
                .unwrap();
            let expected = tensors.f32(&format!("{name}.out.result"));
            for (found, expected) in image.iter().zip(&expected) {
                let tolerance = 3e-6 + 3e-6 * expected.abs();
                assert!(
                    (found - expected).abs() <= tolerance,
                    "{name}: {found} {expected}"
                );
            }
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

        let broken = image.map(|_| f32::INFINITY);
        assert!(matches!(
            preprocess_image(&broken, &plan),
            Err(Error::Mri(_))
        ));
        plan.spacing = Spacing::new(100.0, 2.0, 2.0).unwrap();
        let message = preprocess_image(&image, &plan).unwrap_err().to_string();
        assert!(message.contains("no voxel left"), "{message}");
    }

    #[test]
    fn a_few_voxels_that_are_no_numbers_count_as_background() {
        let (image, _) = testing::image_and_label(0);
        let plan = testing::tiny_plan();
        let with = |value: f32| {
            let mut voxels = image.data().to_owned();
            voxels[[0, 0, 0]] = value;
            voxels[[3, 5, 7]] = value;
            preprocess_image(&image.with_data(voxels).unwrap(), &plan).unwrap()
        };
        let (expected, found) = (with(0.0), with(f32::NAN));
        assert_eq!((expected.replaced, found.replaced), (0, 2));
        assert_eq!(found.image, expected.image);
        assert_eq!(found.restore, expected.restore);
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
