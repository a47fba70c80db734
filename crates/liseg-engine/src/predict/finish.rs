//! From maps of the canonical image to what is written.

use super::alarm;
use super::export::Maps;
use super::uncertainty::UncertaintyScores;
use super::{Postprocessing, Training};
use crate::Result;
use liseg_data::{Plan, PreprocessedImage};
use liseg_mri::nifti::Warning;
use liseg_volume::{LabelMap, Volume};

/// What a model says about one image.
#[derive(Debug)]
pub struct Prediction {
    /// The label map, in the geometry of the image.
    pub labels: LabelMap,
    /// The probability of each foreground class, in the geometry of the image; empty when not asked
    /// for.
    pub probabilities: Vec<Volume<f32>>,
    /// Normalised entropy of the classes, in 0..=1, when asked for.
    pub entropy: Option<Volume<f32>>,
    /// How much the networks differ, in 0..=1, when asked for and there are several.
    pub disagreement: Option<Volume<f32>>,
    /// How unsure the whole is, when asked for.
    pub scores: Option<UncertaintyScores>,
    /// Foreground in millilitres.
    pub foreground_ml: f64,
    /// What is odd about the image, or was not met in training.
    pub remarks: Vec<String>,
    /// Likely causes when there is no foreground; else empty.
    pub alarm: Vec<String>,
    /// Seconds spent in the networks.
    pub network_seconds: f64,
    /// Seconds spent on everything else between preparing and finishing: cutting, summing, resampling.
    pub export_seconds: f64,
}

/// What finishing needs to know of the model.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) plan: Plan,
    pub(super) training: Training,
    pub(super) postprocessing: Postprocessing,
}

/// What the networks made of an image.
#[derive(Debug)]
pub(super) struct Segmented {
    pub(super) maps: Maps,
    pub(super) disagreement_known: bool,
    pub(super) prepared: PreprocessedImage,
    pub(super) network_seconds: f64,
    pub(super) export_seconds: f64,
}

impl Segmented {
    /// Cleans the mask and turns everything back into the geometry of the file.
    pub(super) fn finish(
        self,
        facts: &Facts,
        warnings: &[Warning],
        phase: Option<&str>,
    ) -> Result<Prediction> {
        let Self { maps, prepared, .. } = self;
        let restore = prepared.restore;
        let volume = restore.canonical().voxel_volume_mm3() / 1000.0;
        let ml =
            |labels: &LabelMap| labels.data().iter().filter(|&&l| l > 0).count() as f64 * volume;
        let mut labels = Volume::new(maps.labels, restore.canonical().affine)?;
        let before_cleaning_ml = ml(&labels);
        facts.postprocessing.apply(&mut labels);
        let foreground_ml = ml(&labels);
        let known = alarm::Facts {
            plan: &facts.plan,
            restore: &restore,
            warnings,
            phase,
            training: &facts.training,
            largest_probability: maps.largest_probability,
            before_cleaning_ml,
        };
        let remarks = alarm::remarks(&known, prepared.image.view());
        let alarm = if foreground_ml > 0.0 {
            Vec::new()
        } else {
            alarm::causes(&known, &remarks)
        };
        drop(prepared.image);
        let turn = |map| restore.restore_whole(map);
        let scores = maps.sums.scores(self.disagreement_known);
        Ok(Prediction {
            labels: restore.restore_whole(labels.into_data())?,
            probabilities: maps
                .probabilities
                .into_iter()
                .map(turn)
                .collect::<Result<_, _>>()?,
            scores: maps.entropy.is_some().then_some(scores),
            entropy: maps.entropy.map(turn).transpose()?,
            disagreement: maps.disagreement.map(turn).transpose()?,
            foreground_ml,
            remarks,
            alarm,
            network_seconds: self.network_seconds,
            export_seconds: self.export_seconds,
        })
    }
}
