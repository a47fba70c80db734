//! Which normalization for which phase, as a configuration.

use super::{Nyul, clip_percentiles, min_max, robust_z_score, z_score, z_score_nonzero};
use crate::Result;
use ndarray::ArrayViewMut3;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One step of a normalization, as in `{ method = "z_score" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Step {
    /// [`z_score`] of all voxels.
    ZScore,
    /// [`z_score_nonzero`].
    ZScoreNonzero,
    /// [`robust_z_score`].
    RobustZScore {
        /// Percentile above which voxels count as that percentile.
        upper: f64,
        /// Deviations to which the result is clipped.
        #[serde(deserialize_with = "finite")]
        limit: f32,
    },
    /// [`clip_percentiles`].
    ClipPercentiles {
        /// Lower percentage.
        lower: f64,
        /// Upper percentage.
        upper: f64,
    },
    /// [`min_max`].
    MinMax {
        /// What the least voxel becomes.
        #[serde(deserialize_with = "finite")]
        low: f32,
        /// What the greatest voxel becomes.
        #[serde(deserialize_with = "finite")]
        high: f32,
    },
    /// [`Nyul::apply`] of a standard learned before.
    Nyul {
        /// The standard.
        standard: Nyul,
    },
}

/// A number within the range of f32: beyond it, it would become infinite.
fn finite<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<f32, D::Error> {
    let value = f32::deserialize(deserializer)?;
    if value.is_finite() {
        Ok(value)
    } else {
        Err(serde::de::Error::custom(
            "expected a finite number of single precision",
        ))
    }
}

impl Step {
    /// Applies the step to an image `[z, y, x]`, in place.
    ///
    /// # Errors
    /// As the function it stands for.
    pub fn apply(&self, data: &mut ArrayViewMut3<'_, f32>) -> Result<()> {
        match self {
            Self::ZScore => z_score(data).map(drop),
            Self::ZScoreNonzero => z_score_nonzero(data).map(drop),
            Self::RobustZScore { upper, limit } => robust_z_score(data, *upper, *limit).map(drop),
            Self::ClipPercentiles { lower, upper } => {
                clip_percentiles(data, *lower, *upper).map(drop)
            }
            Self::MinMax { low, high } => min_max(data, [*low, *high]).map(drop),
            Self::Nyul { standard } => standard.apply(data),
        }
    }
}

/// The steps for each phase, in order, and those for all other phases.
///
/// # Examples
/// ```
/// use liseg_mri::normalize::NormalizationTable;
///
/// let table: NormalizationTable = serde_json::from_str(
///     r#"{"phases": {"DWI": [
///         {"method": "clip_percentiles", "lower": 0.5, "upper": 99.5},
///         {"method": "min_max", "low": 0.0, "high": 1.0}
///     ]}}"#,
/// )?;
/// assert_eq!(table.steps(Some("DWI")).len(), 2);
/// assert_eq!(table.steps(Some("GED4")), NormalizationTable::default().default);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormalizationTable {
    /// For phases that are not listed and images whose phase is unknown; a z-score by default, as in
    /// nnU-Net for MRI. An empty list leaves images as they are.
    pub default: Vec<Step>,
    /// By the name of the phase, exactly as written in the data set.
    pub phases: BTreeMap<String, Vec<Step>>,
}

impl Default for NormalizationTable {
    fn default() -> Self {
        Self {
            default: vec![Step::ZScore],
            phases: BTreeMap::new(),
        }
    }
}

impl NormalizationTable {
    /// The steps for a phase.
    pub fn steps(&self, phase: Option<&str>) -> &[Step] {
        let listed = phase.and_then(|name| self.phases.get(name));
        listed.unwrap_or(&self.default)
    }

    /// Normalises an image `[z, y, x]` of a phase, in place.
    ///
    /// # Errors
    /// As the steps; those before the failing one have then been applied.
    pub fn apply(&self, data: &mut ArrayViewMut3<'_, f32>, phase: Option<&str>) -> Result<()> {
        self.steps(phase)
            .iter()
            .try_for_each(|step| step.apply(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalize::NyulConfig;
    use ndarray::Array3;

    #[test]
    fn each_phase_gets_its_steps_and_the_table_survives_json() {
        let image = Array3::from_shape_fn((2, 4, 5), |(z, y, x)| (20 * z + 5 * y + x) as f32);
        let standard = Nyul::fit(NyulConfig::default(), [image.view()]).unwrap();
        let clip = Step::ClipPercentiles {
            lower: 5.0,
            upper: 95.0,
        };
        let scale = Step::MinMax {
            low: 0.0,
            high: 1.0,
        };
        let phases = [
            ("T1WI".to_owned(), vec![clip, scale]),
            ("T2WI".to_owned(), vec![Step::Nyul { standard }]),
            ("DWI".to_owned(), Vec::new()),
        ];
        let table = NormalizationTable {
            phases: phases.into(),
            ..NormalizationTable::default()
        };
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(
            serde_json::from_str::<NormalizationTable>(&text).unwrap(),
            table
        );

        let of = |phase| {
            let mut data = image.clone();
            table.apply(&mut data.view_mut(), phase).unwrap();
            data
        };
        assert!(of(Some("T1WI")).iter().all(|v| (0.0..=1.0).contains(v)));
        assert_eq!(of(Some("DWI")), image);
        assert!(
            (of(Some("T2WI")) - of(Some("T1WI")))
                .iter()
                .any(|v| v.abs() > 1.0)
        );
        assert!(of(None).mean().unwrap().abs() < 1e-6);
        assert_eq!(of(None), of(Some("GED4")));
        let unknown = r#"{"default": [{"method": "z_score_typo"}]}"#;
        assert!(serde_json::from_str::<NormalizationTable>(unknown).is_err());
        // Infinite in f32, and null when written again.
        let beyond = r#"{"default": [{"method": "min_max", "low": 1e308, "high": 1}]}"#;
        let error = serde_json::from_str::<NormalizationTable>(beyond).unwrap_err();
        assert!(error.to_string().contains("finite"), "{error}");
    }
}
