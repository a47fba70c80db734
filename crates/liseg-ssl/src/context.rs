//! What a strategy is told about the run, and how it hands back losses.

use crate::Result;
use liseg_nn::tch::{Kind, Tensor};
use liseg_volume::Seed;
use rand::rngs::ChaCha8Rng;
use std::collections::BTreeMap;
use std::ops::Range;

/// How far the run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Steps taken so far; 0 in the first step.
    pub iteration: u64,
    /// Steps of the whole run.
    pub iterations: u64,
}

/// The step in which a strategy is: its progress, the size of micro-batches, and the log.
#[derive(Debug)]
pub struct StepContext {
    progress: Progress,
    micro_batch: usize,
    seed: Seed,
    loss_scale: f64,
    terms: BTreeMap<&'static str, Tensor>,
}

impl StepContext {
    /// A context whose [`StepContext::micro_batches`] hold at most `micro_batch` samples.
    pub fn new(progress: Progress, micro_batch: usize) -> Self {
        Self {
            progress,
            micro_batch: micro_batch.max(1),
            seed: Seed(0),
            loss_scale: 1.0,
            terms: BTreeMap::new(),
        }
    }

    /// The same step of a run with that seed; [`StepContext::new`] takes 0.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    /// The same step of half-precision training, whose gradients are multiplied by `scale` and divided
    /// by it again before they move a weight.
    #[must_use]
    pub fn with_loss_scale(self, scale: f64) -> Self {
        Self {
            loss_scale: scale,
            ..self
        }
    }

    /// A random stream of this step, for one purpose and sample. It depends on the seed and the
    /// iteration alone, so that a resumed run draws what an uninterrupted one would.
    pub fn stream(&self, purpose: &str, sample: u64) -> ChaCha8Rng {
        self.seed.stream(purpose, self.progress.iteration, sample)
    }

    /// How far the run has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Cuts `samples` samples into ranges that go through the networks one after another.
    ///
    /// Gradients add up, so the result is that of the whole batch as long as each range's loss is
    /// weighted by its share of the samples; memory is that of one range. (A Dice loss over the
    /// whole batch would couple samples; the per-sample Dice does not.)
    pub fn micro_batches(&self, samples: usize) -> Vec<Range<usize>> {
        (0..samples)
            .step_by(self.micro_batch)
            .map(|start| start..(start + self.micro_batch).min(samples))
            .collect()
    }

    /// Adds the gradients of `weight · loss`, times the loss scale of half-precision training, and frees
    /// its graph.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn backward(&mut self, loss: &Tensor, weight: f64) -> Result<()> {
        Ok(loss.f_mul_scalar(weight * self.loss_scale)?.f_backward()?)
    }

    /// Adds `weight · value` to the logged quantity `name`; values of several micro-batches add up.
    /// The number is fetched from the device only when the step is over.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn record(&mut self, name: &'static str, value: &Tensor, weight: f64) -> Result<()> {
        let value = value
            .f_detach()?
            .f_to_kind(Kind::Double)?
            .f_mul_scalar(weight)?;
        let sum = match self.terms.remove(name) {
            Some(sum) => sum.f_add(&value)?,
            None => value,
        };
        self.terms.insert(name, sum);
        Ok(())
    }

    /// Adds a number that is known already.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn record_number(&mut self, name: &'static str, value: f64) -> Result<()> {
        self.record(name, &Tensor::f_from_slice(&[value])?.f_squeeze()?, 1.0)
    }

    /// Everything recorded in this step, by name.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn log(&self) -> Result<BTreeMap<&'static str, f64>> {
        self.terms
            .iter()
            .map(|(name, value)| Ok((*name, value.f_double_value(&[])?)))
            .collect()
    }
}
