//! The measures that a report lists, and their values for one case and label.

use crate::{Counts, Empty};
use liseg_volume::Geometry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A measure that a report lists. Its name is that of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Measure {
    /// Dice similarity coefficient, 0 to 1.
    Dice,
    /// Intersection over union, 0 to 1.
    #[serde(rename = "IoU")]
    Iou,
    /// Hausdorff distance (maximum), mm.
    #[serde(rename = "HD")]
    Hd,
    /// 95th percentile of the surface distances, mm.
    #[serde(rename = "HD95")]
    Hd95,
    /// Average surface distance, mm.
    #[serde(rename = "ASSD")]
    Assd,
    /// Mean of the two directed average surface distances, mm.
    #[serde(rename = "MASD")]
    Masd,
    /// Root of the mean squared surface distance, mm.
    #[serde(rename = "RMSD")]
    Rmsd,
    /// Surface Dice at the tolerance of the settings, 0 to 1.
    #[serde(rename = "NSD")]
    Nsd,
    /// TP / (TP + FP), 0 to 1.
    #[serde(rename = "precision")]
    Precision,
    /// TP / (TP + FN), 0 to 1.
    #[serde(rename = "recall")]
    Recall,
    /// Between the centres of mass of prediction and reference, mm.
    #[serde(rename = "centre_distance_mm")]
    CentreDistance,
    /// Volume of the prediction, ml.
    #[serde(rename = "volume_ml")]
    VolumeMl,
    /// Volume of the reference, ml.
    #[serde(rename = "reference_volume_ml")]
    ReferenceVolumeMl,
    /// Volume of the prediction minus that of the reference, ml.
    #[serde(rename = "volume_error_ml")]
    VolumeErrorMl,
    /// (|P| − |R|) / |R|.
    #[serde(rename = "relative_volume_error")]
    RelativeVolumeError,
}

impl Measure {
    /// All measures, in the order of the columns.
    pub const ALL: [Self; 15] = [
        Self::Dice,
        Self::Iou,
        Self::Hd,
        Self::Hd95,
        Self::Assd,
        Self::Masd,
        Self::Rmsd,
        Self::Nsd,
        Self::Precision,
        Self::Recall,
        Self::CentreDistance,
        Self::VolumeMl,
        Self::ReferenceVolumeMl,
        Self::VolumeErrorMl,
        Self::RelativeVolumeError,
    ];

    /// The name of the column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dice => "Dice",
            Self::Iou => "IoU",
            Self::Hd => "HD",
            Self::Hd95 => "HD95",
            Self::Assd => "ASSD",
            Self::Masd => "MASD",
            Self::Rmsd => "RMSD",
            Self::Nsd => "NSD",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::CentreDistance => "centre_distance_mm",
            Self::VolumeMl => "volume_ml",
            Self::ReferenceVolumeMl => "reference_volume_ml",
            Self::VolumeErrorMl => "volume_error_ml",
            Self::RelativeVolumeError => "relative_volume_error",
        }
    }

    /// Whether the measure is a distance in millimetres.
    pub fn is_distance(self) -> bool {
        matches!(
            self,
            Self::Hd | Self::Hd95 | Self::Assd | Self::Masd | Self::Rmsd | Self::CentreDistance
        )
    }

    /// Whether the measure is a share of agreement, from 0 to 1.
    pub fn is_share(self) -> bool {
        matches!(
            self,
            Self::Dice | Self::Iou | Self::Nsd | Self::Precision | Self::Recall
        )
    }

    /// The worst value there is on a grid: 0 for a share, the diagonal of the image for a
    /// distance. A volume and its error know no worst value.
    pub fn worst(self, geometry: &Geometry) -> Option<f64> {
        if self.is_share() {
            Some(0.0)
        } else {
            self.is_distance().then(|| geometry.diagonal_mm())
        }
    }

    /// The best value there is: 1 for a share, 0 for a distance or an error. A volume has none.
    pub fn perfect(self) -> Option<f64> {
        match self {
            Self::VolumeMl | Self::ReferenceVolumeMl => None,
            _ if self.is_share() => Some(1.0),
            _ => Some(0.0),
        }
    }

    /// How bad a value is, 0 for a perfect one: 1 − share, the distance, or the size of the error.
    /// `None` for a volume, which is neither good nor bad.
    pub fn badness(self, value: f64) -> Option<f64> {
        Some((value - self.perfect()?).abs())
    }
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The measures of one label in one case.
///
/// A measure without a value is `None`. [`CaseMetrics::reasons`] says why, and also where the empty
/// policy put a value in its place. Never NaN or infinite.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CaseMetrics {
    /// Dice similarity coefficient, 0 to 1.
    #[serde(rename = "Dice")]
    pub dice: Option<f64>,
    /// Intersection over union, 0 to 1.
    #[serde(rename = "IoU")]
    pub iou: Option<f64>,
    /// Hausdorff distance (maximum of both directions), mm.
    #[serde(rename = "HD")]
    pub hd: Option<f64>,
    /// 95th percentile of the surface distances as the convention combines them, mm.
    #[serde(rename = "HD95")]
    pub hd95: Option<f64>,
    /// Average surface distance as the convention combines both directions, mm.
    #[serde(rename = "ASSD")]
    pub assd: Option<f64>,
    /// Mean of the two directed average surface distances, mm.
    #[serde(rename = "MASD", default)]
    pub masd: Option<f64>,
    /// Root of the mean squared surface distance, mm.
    #[serde(rename = "RMSD", default)]
    pub rmsd: Option<f64>,
    /// Surface Dice at the tolerance of the settings, 0 to 1.
    #[serde(rename = "NSD")]
    pub nsd: Option<f64>,
    /// TP / (TP + FP), 0 to 1.
    pub precision: Option<f64>,
    /// TP / (TP + FN), 0 to 1.
    pub recall: Option<f64>,
    /// Between the centres of mass of prediction and reference, mm.
    #[serde(default)]
    pub centre_distance_mm: Option<f64>,
    /// Volume of the prediction, ml.
    #[serde(default)]
    pub volume_ml: Option<f64>,
    /// Volume of the reference, ml.
    #[serde(default)]
    pub reference_volume_ml: Option<f64>,
    /// Volume of the prediction minus that of the reference, ml.
    pub volume_error_ml: Option<f64>,
    /// (|P| − |R|) / |R|.
    pub relative_volume_error: Option<f64>,
    /// True positives: voxels in both.
    #[serde(rename = "TP")]
    pub true_positive: u64,
    /// False positives: voxels in the prediction alone.
    #[serde(rename = "FP")]
    pub false_positive: u64,
    /// False negatives: voxels in the reference alone.
    #[serde(rename = "FN")]
    pub false_negative: u64,
    /// True negatives: voxels in neither.
    #[serde(rename = "TN")]
    pub true_negative: u64,
    /// Voxels of the prediction.
    pub n_pred: u64,
    /// Voxels of the reference.
    pub n_ref: u64,
    /// The spacing in which distances were measured, in file order x, y, z, in mm: always that of
    /// the reference's affine.
    pub spacing_mm: [f64; 3],
    /// Why a measure has no value, or by which rule it has one that was not measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<Measure, String>,
}

impl CaseMetrics {
    pub(crate) fn new(counts: &Counts, geometry: &Geometry) -> Self {
        Self {
            true_positive: counts.true_positive,
            false_positive: counts.false_positive,
            false_negative: counts.false_negative,
            true_negative: counts.true_negative,
            n_pred: counts.predicted(),
            n_ref: counts.referenced(),
            spacing_mm: geometry.spacing().xyz(),
            ..Self::default()
        }
    }

    /// The value of a measure.
    pub fn get(&self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::Dice => self.dice,
            Measure::Iou => self.iou,
            Measure::Hd => self.hd,
            Measure::Hd95 => self.hd95,
            Measure::Assd => self.assd,
            Measure::Masd => self.masd,
            Measure::Rmsd => self.rmsd,
            Measure::Nsd => self.nsd,
            Measure::Precision => self.precision,
            Measure::Recall => self.recall,
            Measure::CentreDistance => self.centre_distance_mm,
            Measure::VolumeMl => self.volume_ml,
            Measure::ReferenceVolumeMl => self.reference_volume_ml,
            Measure::VolumeErrorMl => self.volume_error_ml,
            Measure::RelativeVolumeError => self.relative_volume_error,
        }
    }

    pub(crate) fn set(&mut self, measure: Measure, value: Option<f64>, reason: Option<String>) {
        *match measure {
            Measure::Dice => &mut self.dice,
            Measure::Iou => &mut self.iou,
            Measure::Hd => &mut self.hd,
            Measure::Hd95 => &mut self.hd95,
            Measure::Assd => &mut self.assd,
            Measure::Masd => &mut self.masd,
            Measure::Rmsd => &mut self.rmsd,
            Measure::Nsd => &mut self.nsd,
            Measure::Precision => &mut self.precision,
            Measure::Recall => &mut self.recall,
            Measure::CentreDistance => &mut self.centre_distance_mm,
            Measure::VolumeMl => &mut self.volume_ml,
            Measure::ReferenceVolumeMl => &mut self.reference_volume_ml,
            Measure::VolumeErrorMl => &mut self.volume_error_ml,
            Measure::RelativeVolumeError => &mut self.relative_volume_error,
        } = value;
        if let Some(reason) = reason {
            self.reasons.insert(measure, reason);
        }
    }

    /// The four counts.
    pub fn counts(&self) -> Counts {
        Counts {
            true_positive: self.true_positive,
            false_positive: self.false_positive,
            false_negative: self.false_negative,
            true_negative: self.true_negative,
        }
    }

    /// Which of the masks are empty.
    pub fn empty(&self) -> Option<Empty> {
        self.counts().empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_has_one_name_everywhere() {
        let written = serde_json::to_value(CaseMetrics::default()).unwrap();
        for measure in Measure::ALL {
            assert_eq!(serde_json::to_value(measure).unwrap(), measure.name());
            assert!(written.get(measure.name()).is_some(), "{measure}");
            let mut metrics = CaseMetrics::default();
            metrics.set(measure, Some(0.25), None);
            assert_eq!(metrics.get(measure), Some(0.25));
            let written = serde_json::to_value(&metrics).unwrap();
            assert_eq!(written[measure.name()], 0.25);
        }
    }
}
