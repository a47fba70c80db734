//! The end of an epoch: validation, record, checkpoint.

use super::Trainer;
use super::setup::{learning_rate, plan_for};
use crate::predict::{Description, Training, save_predictors};
use crate::run::{EpochRecord, StepSeconds};
use crate::validation::{Voxels, by_name, validate};
use crate::watch::watch;
use crate::{Error, OnTrouble, Result};
use liseg_data::{StoredCase, Subset};
use liseg_nn::{TensorMap, checkpoint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Trainer<'_> {
    /// Validates when it is time, records the epoch, saves.
    pub(super) fn end_epoch(&mut self) -> Result<EpochRecord> {
        let per_epoch = self.config.training.iterations_per_epoch;
        let epoch = self.progress.iteration / per_epoch - 1;
        let last = epoch + 1 == self.config.training.epochs;
        let due = (epoch + 1).is_multiple_of(self.config.validation.every) || last;
        let (voxels, validation) = match due {
            true => self.validate()?.unzip(),
            false => (None, None),
        };
        let vitals = self.strategy.vitals()?;
        let mean = |sum: f64| sum / per_epoch as f64;
        let p = &mut self.progress;
        let mut terms = p.means();
        terms.extend(vitals.iter().map(|&(name, value)| (name.to_owned(), value)));
        let sentinels = self.strategy.sentinels();
        let warnings = watch(&sentinels, &terms, voxels, &mut p.troubles);
        let timed = p.parts.copying + p.parts.networks + p.parts.optimising;
        let record = EpochRecord {
            epoch,
            iteration: p.iteration,
            learning_rate: learning_rate(self.config, p.iteration - 1),
            terms,
            gradient_norm: mean(p.gradient_norm),
            seconds: p.seconds,
            data_wait: if p.seconds > 0.0 {
                (p.waited / p.seconds).min(1.0)
            } else {
                0.0
            },
            preparing: p.preparing,
            parts: StepSeconds {
                waiting: p.waited,
                recording: (p.seconds - p.waited - timed).max(0.0),
                ..p.parts
            },
            peak_memory: liseg_nn::runtime::peak_memory_bytes(),
            peak_device_memory: liseg_nn::runtime::cuda_memory_bytes(self.device)
                .map(|(_, peak)| peak),
            validation,
            warnings,
        };
        // The record goes first: resuming drops a record without its checkpoint.
        self.folder.append_metrics(&record)?;
        if let Some(events) = &mut self.events {
            record.write_events(per_epoch, events)?;
        }
        self.progress.begin_epoch();
        self.save()?;
        match record.warnings.first() {
            Some(message) if self.config.training.on_trouble == OnTrouble::Stop => {
                Err(Error::Trouble {
                    epoch,
                    message: message.clone(),
                })
            }
            _ => Ok(record),
        }
    }

    /// Scores the cases kept back and keeps the best weights; what the first candidate found, and all scores.
    fn validate(&mut self) -> Result<Option<(Voxels, BTreeMap<String, f64>)>> {
        let cases: Vec<Arc<StoredCase>> = self
            .roles
            .validation
            .iter()
            .filter_map(|id| self.store.get(id).cloned())
            .collect();
        let found = validate(self.strategy.as_ref(), &cases, self.patch)?;
        if let Some(events) = &mut self.events {
            found
                .extremes
                .write_events(self.progress.iteration, events)?;
        }
        let scores = found.scores;
        let Some((_, score)) = scores.first() else {
            return Ok(None);
        };
        let better = self.progress.best.is_none_or(|best| *score > best);
        if better && self.config.validation.keep_best {
            self.progress.best = Some(*score);
            let facts = self.model_facts()?;
            save_predictors(
                &self.folder.best_checkpoint(),
                &self.strategy.predictors(),
                &facts,
            )?;
        }
        Ok(Some((found.voxels, by_name(&scores))))
    }

    pub(super) fn save(&self) -> Result<()> {
        let mut tensors = TensorMap::new();
        self.strategy.save_into(&mut tensors)?;
        let mut facts = self.model_facts()?;
        let file = self.folder.last_checkpoint();
        self.progress.write_into(&mut facts, &file)?;
        Ok(checkpoint::write(&file, &tensors, &facts)?)
    }

    fn model_facts(&self) -> Result<BTreeMap<String, String>> {
        let names = self
            .strategy
            .predictors()
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let plan = plan_for(self.config, self.store.plan())?;
        let description = Description {
            network: self.shape.clone(),
            plan,
            patch_size: self.patch,
            predictors: names,
            training: self.training_facts(),
        };
        description.facts()
    }

    fn training_facts(&self) -> Training {
        let cases = || {
            let labelled = self.store.subset(Subset::Labelled);
            labelled.chain(self.store.subset(Subset::Unlabelled))
        };
        let phases: BTreeSet<String> = cases()
            .filter_map(|case| case.record().provenance.phase.clone())
            .collect();
        let spacing_range = cases()
            .map(|case| case.record().restore.source_spacing().zyx())
            .map(|spacing| [spacing; 2])
            .reduce(|[low, high], [spacing, _]| {
                [
                    std::array::from_fn(|a| low[a].min(spacing[a])),
                    std::array::from_fn(|a| high[a].max(spacing[a])),
                ]
            });
        Training {
            phases: phases.into_iter().collect(),
            mirror_axes: Some(self.config.augment.mirrored_axes()),
            spacing_range,
        }
    }
}
