//! How far a run has come, beside the tensors in its checkpoint.

use crate::run::{StepSeconds, json_text};
use crate::{Error, Result};
use liseg_data::LoaderStats;
use liseg_nn::GradientScaler;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The key of a checkpoint's facts under which progress is kept.
const KEY: &str = "liseg_progress";

/// How far a run has come. With the weights, the optimisers and the seed this is all there is to
/// know: patches and augmentation follow from the iteration. Losses and norms may be NaN or infinite; they are written
/// as [`liseg_file::number`] says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ProgressState {
    /// Steps taken.
    pub(crate) iteration: u64,
    /// Best mean validation Dice so far.
    #[serde(default, with = "liseg_file::number")]
    pub(crate) best: Option<f64>,
    /// Sums over the steps of the epoch in progress, by name.
    #[serde(with = "liseg_file::number")]
    pub(crate) sums: BTreeMap<String, f64>,
    /// In how many of these steps each was logged.
    #[serde(default)]
    pub(crate) counts: BTreeMap<String, u64>,
    /// Sum of the gradients' norms in the epoch in progress.
    #[serde(with = "liseg_file::number")]
    pub(crate) gradient_norm: f64,
    /// Seconds spent in the epoch in progress.
    pub(crate) seconds: f64,
    /// Of these, waiting for patches.
    pub(crate) waited: f64,
    /// Seconds that the loader's threads spent making patches meanwhile, summed over threads.
    #[serde(default)]
    pub(crate) preparing: f64,
    /// And what else they went to, as far as it was timed.
    #[serde(default)]
    pub(crate) parts: StepSeconds,
    /// The factor on the loss, in half-precision training.
    #[serde(default)]
    pub(crate) scaler: Option<GradientScaler>,
    /// Troubled epochs in a row, by sentinel.
    #[serde(default)]
    pub(crate) troubles: BTreeMap<String, u32>,
}

impl ProgressState {
    /// Adds the progress to the facts of the checkpoint `path`.
    pub(crate) fn write_into(
        &self,
        facts: &mut BTreeMap<String, String>,
        path: &Path,
    ) -> Result<()> {
        facts.insert(KEY.to_owned(), json_text(path, self)?);
        Ok(())
    }

    pub(crate) fn read_from(facts: &BTreeMap<String, String>, path: &Path) -> Result<Self> {
        let refuse = |reason: String| Error::Run {
            path: path.to_owned(),
            reason,
        };
        let text = facts.get(KEY).ok_or_else(|| {
            refuse("holds weights but no progress; it cannot be resumed".to_owned())
        })?;
        serde_json::from_str(text).map_err(|e| {
            refuse(format!(
                "its progress cannot be read, so it cannot be resumed: {e}"
            ))
        })
    }

    /// Adds what a step logged.
    pub(crate) fn add_terms(&mut self, terms: &BTreeMap<&'static str, f64>) {
        for (name, value) in terms {
            *self.sums.entry((*name).to_owned()).or_default() += value;
            *self.counts.entry((*name).to_owned()).or_default() += 1;
        }
    }

    /// The means over the steps that logged them: a loss of the second half of an epoch is not halved.
    pub(crate) fn means(&self) -> BTreeMap<String, f64> {
        let mean = |(name, sum): (&String, &f64)| {
            let steps = self.counts.get(name).copied().unwrap_or(1).max(1);
            (name.clone(), sum / steps as f64)
        };
        self.sums.iter().map(mean).collect()
    }

    /// Adds what the loader says of the steps since it was last asked.
    pub(crate) fn add_loading(&mut self, stats: &LoaderStats) {
        self.waited += stats.waited.as_secs_f64();
        self.preparing += stats.making.as_secs_f64();
    }

    /// Forgets the sums of the epoch that has ended.
    pub(crate) fn begin_epoch(&mut self) {
        *self = Self {
            iteration: self.iteration,
            best: self.best,
            scaler: self.scaler.take(),
            troubles: std::mem::take(&mut self.troubles),
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_part_of_an_epoch_logs_is_averaged_over_that_part() {
        let mut state = ProgressState::default();
        state.add_terms(&BTreeMap::from([("supervised", 2.0)]));
        state.add_terms(&BTreeMap::from([("supervised", 4.0), ("pseudo", 0.5)]));
        let mut facts = BTreeMap::new();
        state.write_into(&mut facts, Path::new("last")).unwrap();
        let mut state = ProgressState::read_from(&facts, Path::new("last")).unwrap();
        state.add_terms(&BTreeMap::from([("supervised", 0.0), ("pseudo", 1.0)]));
        let means = state.means();
        assert_eq!((means["supervised"], means["pseudo"]), (2.0, 0.75));
    }

    #[test]
    fn loading_adds_up_over_a_stop_until_the_epoch_ends() {
        let stats = |waited, making| LoaderStats {
            waited: Duration::from_millis(waited),
            making: Duration::from_millis(making),
            ..LoaderStats::default()
        };
        let mut state = ProgressState {
            iteration: 7,
            ..ProgressState::default()
        };
        state.add_loading(&stats(250, 1000));
        let mut facts = BTreeMap::new();
        state.write_into(&mut facts, Path::new("last")).unwrap();
        let mut state = ProgressState::read_from(&facts, Path::new("last")).unwrap();
        state.add_loading(&stats(500, 3000));
        assert!((state.waited - 0.75).abs() < 1e-9 && (state.preparing - 4.0).abs() < 1e-9);
        state.begin_epoch();
        let fresh = ProgressState {
            iteration: 7,
            ..ProgressState::default()
        };
        assert_eq!(state, fresh);
    }

    #[test]
    fn losses_that_are_not_finite_survive_a_stop() {
        let mut state = ProgressState {
            iteration: 7,
            best: Some(0.5),
            gradient_norm: f64::INFINITY,
            ..ProgressState::default()
        };
        state.add_terms(&BTreeMap::from([("supervised", f64::NAN), ("pseudo", 0.5)]));
        let mut facts = BTreeMap::new();
        state.write_into(&mut facts, Path::new("last")).unwrap();
        let back = ProgressState::read_from(&facts, Path::new("last")).unwrap();
        assert!(back.sums["supervised"].is_nan() && back.gradient_norm.is_infinite());
        assert_eq!(
            (back.iteration, back.best, back.sums["pseudo"]),
            (7, Some(0.5), 0.5)
        );
        // As LiSeg wrote it before.
        let old = facts[KEY]
            .replace(r#""NaN""#, "null")
            .replace(r#""Infinity""#, "null");
        facts.insert(KEY.to_owned(), old);
        let back = ProgressState::read_from(&facts, Path::new("last")).unwrap();
        assert!(back.sums["supervised"].is_nan() && back.gradient_norm.is_nan());
    }
}
