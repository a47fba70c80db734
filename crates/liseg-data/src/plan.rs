//! The plan of a data set: the grid on which a network sees it.

use crate::topology::{self, DOWNSAMPLINGS};
use crate::{Error, Result, json};
use liseg_mri::normalize::{robust_z_score, z_score};
use liseg_volume::{Orientation, Spacing};
use ndarray::ArrayViewMut3;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// How intensities are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    /// `zscore`: every image by its own mean and standard deviation over the whole cropped image, as
    /// nnU-Net.
    #[default]
    ZScore,
    /// `robust_zscore`: the same with everything above the image's 90th percentile counted as that
    /// percentile, clipped to ±5 ([`robust_z_score`]). For phases on which fluid is very bright.
    #[serde(rename = "robust_zscore")]
    RobustZScore,
}

impl Normalization {
    /// Its name in a plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::ZScore => "zscore",
            Self::RobustZScore => "robust_zscore",
        }
    }

    /// Normalises an image `[z, y, x]` in place.
    ///
    /// # Errors
    /// [`Error::Mri`] when voxels are NaN or infinite, or there are none.
    pub fn apply(self, image: &mut ArrayViewMut3<'_, f32>) -> Result<()> {
        match self {
            Self::ZScore => z_score(image)?,
            Self::RobustZScore => robust_z_score(image, 90.0, 5.0)?,
        };
        Ok(())
    }
}

impl std::str::FromStr for Normalization {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        [Self::ZScore, Self::RobustZScore]
            .into_iter()
            .find(|scheme| scheme.name() == text)
            .ok_or_else(|| "expected zscore or robust_zscore".to_owned())
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
    /// Label values by name; `background` is 0.
    pub labels: BTreeMap<String, u8>,
    /// Median spacing of the images before resampling, for information.
    pub original_median_spacing: Spacing,
    /// Median shape of the cropped images before resampling, for information.
    pub original_median_shape: [f64; 3],
}

impl Plan {
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
        if self.batch_size == 0 {
            return Err(Error::setting(
                "batch_size",
                "it is 0; at least 1 is needed",
            ));
        }
        if let Some(stride) = self
            .pool_op_kernel_sizes
            .iter()
            .find(|stride| stride.iter().any(|s| !(1..=2).contains(s)))
        {
            let reason = format!("it has {stride:?}; a stride is 1 or 2 along every axis");
            return Err(Error::setting("pool_op_kernel_sizes", reason));
        }
        check_labels(&self.labels).map_err(|reason| Error::setting("labels", reason))?;
        check_patch(self.patch_size, &self.pool_op_kernel_sizes)
    }

    /// Number of classes, background included.
    pub fn classes(&self) -> usize {
        self.labels.len()
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

/// Checks that a patch is a positive multiple of the product of the strides.
pub(crate) fn check_patch(patch: [usize; 3], strides: &[[usize; 3]]) -> Result<()> {
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
        for scheme in [Normalization::ZScore, Normalization::RobustZScore] {
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
