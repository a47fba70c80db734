//! The plan of a data set: the grid on which a network sees it.

use crate::extent::USUAL_SPACING_MM;
use crate::topology::{self, DOWNSAMPLINGS};
use crate::{Error, IntensitySummary, Result, json};
use liseg_mri::normalize::{
    Statistics, clip_and_scale, min_max, robust_z_score, z_score, z_score_masked,
};
use liseg_mri::summarize;
use liseg_volume::{Orientation, Spacing};
use ndarray::{ArrayView3, ArrayViewMut3};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Voxels of a patch along an axis, at most: no image of a body has more.
const LONGEST_PATCH: usize = 4096;

/// Voxels of a patch, at most: more than images of bodies have, and 1 GiB of floats.
const LARGEST_PATCH: usize = 1 << 28;

/// Patches per step, at most: hundreds of times what networks are trained with.
const LARGEST_BATCH: usize = 1024;

/// How intensities are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Normalization {
    /// `zscore`: every image by its own mean and standard deviation over the whole cropped image, as
    /// nnU-Net; over what is not background when the plan has `use_mask_for_norm`.
    #[default]
    #[serde(rename = "zscore")]
    ZScore,
    /// `robust_zscore`: the same with everything above the image's 90th percentile counted as that
    /// percentile, clipped to ±5 ([`robust_z_score`]). For phases on which fluid is very bright.
    #[serde(rename = "robust_zscore")]
    RobustZScore,
    /// `ct`: clipped to the 0.5th and 99.5th percentile of the foreground of all images, then scaled by
    /// its mean and standard deviation; the plan's `foreground_intensity_properties` has them.
    #[serde(rename = "ct")]
    Ct,
    /// `rescale_to_0_1`: the image's own least value becomes 0 and its greatest 1.
    #[serde(rename = "rescale_to_0_1")]
    RescaleTo01,
    /// `rgb_to_0_1`: divided by 255; values outside 0 to 255 are refused.
    #[serde(rename = "rgb_to_0_1")]
    RgbTo01,
    /// `nonorm`: as the file has them.
    #[serde(rename = "nonorm")]
    None,
}

impl Normalization {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ZScore,
        Self::RobustZScore,
        Self::Ct,
        Self::RescaleTo01,
        Self::RgbTo01,
        Self::None,
    ];

    /// Its name in a plan, the name of a channel that makes nnU-Net choose it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ZScore => "zscore",
            Self::RobustZScore => "robust_zscore",
            Self::Ct => "ct",
            Self::RescaleTo01 => "rescale_to_0_1",
            Self::RgbTo01 => "rgb_to_0_1",
            Self::None => "nonorm",
        }
    }

    /// Normalises an image `[z, y, x]` in place. `mask` restricts `zscore`; `properties` are those of
    /// the foreground of all images, which `ct` needs.
    ///
    /// # Errors
    /// [`Error::Mri`] when voxels are NaN or infinite, or there are none; [`Error::Setting`] for `ct`
    /// without properties and for `rgb_to_0_1` of other values.
    pub fn apply(
        self,
        image: &mut ArrayViewMut3<'_, f32>,
        mask: Option<ArrayView3<'_, bool>>,
        properties: Option<&IntensitySummary>,
    ) -> Result<()> {
        match self {
            Self::ZScore => match mask {
                // An image of zeros has no inside.
                Some(mask) if mask.iter().any(|&inside| inside) => {
                    z_score_masked(image, mask).map(drop)?;
                }
                _ => z_score(image).map(drop)?,
            },
            Self::RobustZScore => robust_z_score(image, 90.0, 5.0).map(drop)?,
            Self::RescaleTo01 => min_max(image, [0.0, 1.0]).map(drop)?,
            Self::RgbTo01 => {
                let found = summarize(image.view());
                if found.is_some_and(|s| s.minimum < 0.0 || s.maximum > 255.0) {
                    let reason = "rgb_to_0_1 is for values from 0 to 255";
                    return Err(Error::setting("normalization_scheme", reason));
                }
                image.mapv_inplace(|v| v / 255.0);
            }
            Self::Ct => {
                let properties = properties.ok_or_else(|| {
                    let reason =
                        "ct needs foreground_intensity_properties; plan the data set again";
                    Error::setting("normalization_scheme", reason)
                })?;
                let limits = [properties.percentile_00_5, properties.percentile_99_5];
                let statistics = Statistics {
                    mean: properties.mean,
                    std: properties.std,
                };
                clip_and_scale(image, limits.map(|v| v as f32), statistics)?;
            }
            Self::None => {}
        }
        Ok(())
    }
}

impl std::str::FromStr for Normalization {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scheme| scheme.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("expected one of {names}")
        })
    }
}

/// The grid on which a network sees a data set: spacing, patch and poolings.
///
/// Stored as JSON, meant to be read and edited; names are nnU-Net's where they mean the same. All
/// arrays are in the order (z, y, x) of canonical RAS volumes: there is no transposition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Name of the data set the plan was made for.
    pub dataset_name: String,
    /// Orientation of everything a network sees; always RAS.
    pub orientation: Orientation,
    /// Voxel spacing after resampling, `[z, y, x]` in mm.
    pub spacing: Spacing,
    /// Median shape of the cropped images at that spacing, in voxels; may end in .5.
    pub median_image_size_in_voxels: [f64; 3],
    /// What the network sees at once, in voxels; a multiple of the product of the strides.
    pub patch_size: [usize; 3],
    /// Patches per step of optimisation.
    pub batch_size: usize,
    /// Strides of the five down-samplings, fine to coarse, 1 or 2 per axis.
    pub pool_op_kernel_sizes: [[usize; 3]; DOWNSAMPLINGS],
    /// How intensities are normalised, before resampling.
    pub normalization_scheme: Normalization,
    /// Other normalizations for single phases, by the name of the phase in `cases.json`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub normalization_by_phase: BTreeMap<String, Normalization>,
    /// Whether a z-score looks at, and changes, only what is not background: voxels that are not zero,
    /// their holes, and labelled ones. nnU-Net's choice where cropping takes a quarter of the images.
    #[serde(default)]
    pub use_mask_for_norm: bool,
    /// Intensities in the foreground of all labelled images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreground_intensity_properties: Option<IntensitySummary>,
    /// Label values by name; `background` is 0.
    pub labels: BTreeMap<String, u8>,
    /// Median spacing of the images before resampling, for information.
    pub original_median_spacing: Spacing,
    /// Median shape of the cropped images before resampling, for information.
    pub original_median_shape: [f64; 3],
}

impl Plan {
    /// The grid that the published STU-Net weights were trained on: 1.5 mm, patches of 128³, the last
    /// pooling along x alone.
    ///
    /// For predicting with these weights as they are; fine-tuning takes the plan of its own data set.
    ///
    /// # Source
    /// The plan files of STU-Net's releases (Huang et al. 2023, arXiv 2304.06716).
    pub fn stunet_pretrained(dataset_name: &str, labels: BTreeMap<String, u8>) -> Self {
        // Positive and finite, so never the fall-back.
        let spacing = Spacing::new(1.5, 1.5, 1.5).unwrap_or(Spacing::ISOTROPIC_1MM);
        let median = [228.0, 228.0, 240.0];
        Self {
            dataset_name: dataset_name.to_owned(),
            orientation: Orientation::RAS,
            spacing,
            median_image_size_in_voxels: median,
            patch_size: [128; 3],
            batch_size: 2,
            pool_op_kernel_sizes: [[2; 3], [2; 3], [2; 3], [2; 3], [1, 1, 2]],
            normalization_scheme: Normalization::ZScore,
            normalization_by_phase: BTreeMap::new(),
            use_mask_for_norm: false,
            foreground_intensity_properties: None,
            labels,
            original_median_spacing: spacing,
            original_median_shape: median,
        }
    }

    /// Reads and validates a plan.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Json`] for fields that are missing, unknown or of the wrong kind, and
    /// the errors of [`Plan::validate`].
    pub fn read(path: &Path) -> Result<Self> {
        let plan: Self = json::read(path)?;
        plan.validate()?;
        Ok(plan)
    }

    /// Writes the plan as JSON, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write(path, self)
    }

    /// Checks that a network can be built and trained by the plan.
    ///
    /// # Errors
    /// [`Error::Patch`], naming the nearest valid patch, when the patch is not divisible by the
    /// strides; [`Error::Setting`] for any other field.
    pub fn validate(&self) -> Result<()> {
        if self.orientation != Orientation::RAS {
            let reason = format!("it is {}; networks see RAS", self.orientation);
            return Err(Error::setting("orientation", reason));
        }
        if !(1..=LARGEST_BATCH).contains(&self.batch_size) {
            let reason = format!("it is {}; expected 1 to {LARGEST_BATCH}", self.batch_size);
            return Err(Error::setting("batch_size", reason));
        }
        let [least, most] = USUAL_SPACING_MM;
        if !self
            .spacing
            .zyx()
            .iter()
            .all(|mm| (least..=most).contains(mm))
        {
            let reason = format!("it is {}; expected {least} to {most} mm", self.spacing);
            return Err(Error::setting("spacing", reason));
        }
        if let Some(stride) = self
            .pool_op_kernel_sizes
            .iter()
            .find(|stride| stride.iter().any(|s| !(1..=2).contains(s)))
        {
            let reason = format!("it has {stride:?}; a stride is 1 or 2 along every axis");
            return Err(Error::setting("pool_op_kernel_sizes", reason));
        }
        let mut schemes = self.normalization_by_phase.values();
        if (self.normalization_scheme == Normalization::Ct
            || schemes.any(|scheme| *scheme == Normalization::Ct))
            && self.foreground_intensity_properties.is_none()
        {
            let reason = "ct needs foreground_intensity_properties; plan the data set again";
            return Err(Error::setting("normalization_scheme", reason));
        }
        check_labels(&self.labels).map_err(|reason| Error::setting("labels", reason))?;
        check_patch(self.patch_size, &self.pool_op_kernel_sizes)
    }

    /// Number of classes, background included.
    pub fn classes(&self) -> usize {
        self.labels.len()
    }

    /// The normalization of a phase.
    pub fn normalization(&self, phase: Option<&str>) -> Normalization {
        let own = phase.and_then(|phase| self.normalization_by_phase.get(phase));
        *own.unwrap_or(&self.normalization_scheme)
    }

    /// Normalises an image of a phase in place.
    pub(crate) fn normalize(
        &self,
        phase: Option<&str>,
        image: &mut ArrayViewMut3<'_, f32>,
        mask: Option<ArrayView3<'_, bool>>,
    ) -> Result<()> {
        let properties = self.foreground_intensity_properties.as_ref();
        self.normalization(phase).apply(image, mask, properties)
    }

    /// A hash of the fields that preprocessing depends on, as hexadecimal text. Another patch or
    /// batch size keeps preprocessed cases valid; another spacing does not.
    pub fn preprocessing_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.orientation.to_string().as_bytes());
        for millimetres in self.spacing.zyx() {
            hasher.update(&millimetres.to_le_bytes());
        }
        hasher.update(self.normalization_scheme.name().as_bytes());
        hasher.update(&[u8::from(self.use_mask_for_norm)]);
        for (phase, scheme) in &self.normalization_by_phase {
            hasher.update(phase.as_bytes());
            hasher.update(&[0]);
            hasher.update(scheme.name().as_bytes());
        }
        if let Some(p) = &self.foreground_intensity_properties {
            for value in [p.mean, p.std, p.percentile_00_5, p.percentile_99_5] {
                hasher.update(&value.to_le_bytes());
            }
        }
        for (name, value) in &self.labels {
            hasher.update(name.as_bytes());
            hasher.update(&[0, *value]);
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Checks that label values are 0, 1, 2, … with 0 called `background`, and fit the stored type.
pub(crate) fn check_labels(labels: &BTreeMap<String, u8>) -> Result<(), String> {
    if labels.get("background") != Some(&0) {
        return Err(format!("{labels:?} lacks `background` with value 0"));
    }
    let mut values: Vec<u8> = labels.values().copied().collect();
    values.sort_unstable();
    if values.iter().enumerate().any(|(i, &v)| usize::from(v) != i) {
        return Err(format!("values {values:?} are not consecutive from 0"));
    }
    if values.len() < 2 {
        return Err("only background is declared; name at least one structure".into());
    }
    if values.len() > 128 {
        return Err(format!(
            "{} labels are declared; at most 128 fit",
            values.len()
        ));
    }
    Ok(())
}

/// Checks that a patch is a positive multiple of the product of the strides, and no larger than images are.
pub(crate) fn check_patch(patch: [usize; 3], strides: &[[usize; 3]]) -> Result<()> {
    let voxels = patch
        .iter()
        .try_fold(1usize, |n, &side| n.checked_mul(side));
    if patch.iter().any(|&side| side > LONGEST_PATCH) || voxels.is_none_or(|n| n > LARGEST_PATCH) {
        let reason = format!(
            "it is {patch:?} (z, y, x); expected at most {LONGEST_PATCH} voxels along an axis and {LARGEST_PATCH} in all"
        );
        return Err(Error::setting("patch_size", reason));
    }
    let divisor = topology::divisor(strides);
    if (0..3).all(|a| patch[a] > 0 && patch[a].is_multiple_of(divisor[a])) {
        return Ok(());
    }
    let nearest = std::array::from_fn(|a| {
        let steps = (patch[a] as f64 / divisor[a] as f64).round().max(1.0);
        steps as usize * divisor[a]
    });
    Err(Error::Patch {
        patch,
        divisor,
        nearest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn survives_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        let plan = testing::plan();
        plan.write(&path).unwrap();
        assert_eq!(Plan::read(&path).unwrap(), plan);
    }

    #[test]
    fn golden_stunet_plan() {
        let golden = testing::golden("nnunet/planner.json");
        let expected = &testing::case(&golden, "stunet_pretrained_plan")["outputs"]["plan"];
        let plan = Plan::stunet_pretrained("any", testing::labels());
        plan.validate().unwrap();
        let found = serde_json::to_value(&plan).unwrap();
        for field in [
            "spacing",
            "patch_size",
            "batch_size",
            "pool_op_kernel_sizes",
            "use_mask_for_norm",
        ] {
            assert_eq!(found[field], expected[field], "{field}");
        }
        let whole = plan.median_image_size_in_voxels.map(|n| n as u64);
        assert_eq!(
            serde_json::json!(whole),
            expected["median_patient_size_in_voxels"]
        );
        assert_eq!(expected["normalization_scheme"], "nonCT");
        assert_eq!(plan.normalization_scheme, Normalization::ZScore);
        let pools = crate::divisor(&plan.pool_op_kernel_sizes).map(usize::ilog2);
        assert_eq!(serde_json::json!(pools), expected["num_pool_per_axis"]);
    }

    #[test]
    fn a_phase_may_have_its_own_normalization() {
        let mut plan = testing::plan();
        plan.normalization_by_phase
            .insert("T2WI".into(), Normalization::RobustZScore);
        assert_eq!(
            plan.normalization(Some("T2WI")),
            Normalization::RobustZScore
        );
        assert_eq!(plan.normalization(Some("GED4")), Normalization::ZScore);
        assert_eq!(plan.normalization(None), Normalization::ZScore);
        assert_ne!(
            plan.preprocessing_hash(),
            testing::plan().preprocessing_hash()
        );
        plan.normalization_by_phase
            .insert("CT".into(), Normalization::Ct);
        let error = plan.validate().unwrap_err().to_string();
        assert!(error.contains("foreground_intensity_properties"), "{error}");
    }

    #[test]
    fn names_what_is_wrong_in_an_edited_plan() {
        let message = |change: fn(&mut Plan)| {
            let mut plan = testing::plan();
            change(&mut plan);
            plan.validate().unwrap_err().to_string()
        };
        let patch = message(|p| p.patch_size = [30, 100, 1]);
        assert!(
            patch.contains("nearest valid patch is [32, 96, 16]"),
            "{patch}"
        );
        assert!(message(|p| p.batch_size = 0).contains("`batch_size`"));
        // Numbers that no memory has room for, before any is asked for.
        assert!(message(|p| p.batch_size = usize::MAX).contains("1024"));
        for patch in [[1 << 20, 32, 32], [2048, 2048, 2048], [usize::MAX - 31; 3]] {
            let mut plan = testing::plan();
            plan.patch_size = patch;
            let refused = plan.validate().unwrap_err().to_string();
            assert!(refused.contains("268435456 in all"), "{refused}");
        }
        for mm in [1e-6, 2000.0] {
            let mut plan = testing::plan();
            plan.spacing = Spacing::new(mm, 1.0, 1.0).unwrap();
            let refused = plan.validate().unwrap_err().to_string();
            assert!(refused.contains("0.01 to 100 mm"), "{refused}");
        }
        assert!(message(|p| p.pool_op_kernel_sizes[0] = [0, 2, 2]).contains("[0, 2, 2]"));
        assert!(message(|p| p.orientation = "LPS".parse().unwrap()).contains("LPS"));
        assert!(message(|p| p.labels = BTreeMap::new()).contains("background"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        testing::plan().write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("batch_size", "batchsize")).unwrap();
        let error = Plan::read(&path).unwrap_err().to_string();
        assert!(error.contains("batchsize"), "{error}");
    }

    #[test]
    fn schemes_have_one_name_in_plans_and_on_the_command_line() {
        for scheme in Normalization::ALL {
            let written = serde_json::to_string(&scheme).unwrap();
            assert_eq!(written, format!("\"{}\"", scheme.name()));
            assert_eq!(scheme.name().parse(), Ok(scheme));
        }
        assert!("minmax".parse::<Normalization>().is_err());
    }

    #[test]
    fn only_what_preprocessing_needs_is_hashed() {
        let plan = testing::plan();
        let mut other = plan.clone();
        other.patch_size = [16, 16, 16];
        other.batch_size = 7;
        assert_eq!(plan.preprocessing_hash(), other.preprocessing_hash());
        other.normalization_scheme = Normalization::RobustZScore;
        assert_ne!(plan.preprocessing_hash(), other.preprocessing_hash());
        let mut other = plan.clone();
        other.spacing = Spacing::ISOTROPIC_1MM;
        assert_ne!(plan.preprocessing_hash(), other.preprocessing_hash());
    }
}
