//! Labelled patches only.

use crate::{Batch, BatchRequest, Error, Learner, Result, StepContext, Strategy};
use liseg_nn::loss::{DeepSupervision, DiceCrossEntropy, Target};
use liseg_nn::{OptimiserConfig, SegmentationNet};
use serde::{Deserialize, Serialize};

/// Settings of supervised training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SupervisedConfig {
    /// Labelled patches in a batch; nnU-Net: 2.
    pub batch_size: usize,
    /// The loss, applied at every scale.
    pub loss: DiceCrossEntropy,
}

impl Default for SupervisedConfig {
    fn default() -> Self {
        Self {
            batch_size: 2,
            loss: DiceCrossEntropy::default(),
        }
    }
}

/// One network trained on labelled patches with deep supervision: nnU-Net's training, and the
/// control that every semi-supervised strategy is compared with.
#[derive(Debug)]
pub struct Supervised {
    config: SupervisedConfig,
    loss: DeepSupervision,
    learners: [Learner; 1],
}

impl Supervised {
    /// Trains `network`.
    ///
    /// # Errors
    /// When a setting is out of range or libtorch fails.
    pub fn new(
        config: SupervisedConfig,
        network: Box<dyn SegmentationNet>,
        optimiser: OptimiserConfig,
    ) -> Result<Self> {
        if config.batch_size == 0 {
            let reason = "batch_size is 0; expected 1 or more".into();
            return Err(Error::Start {
                strategy: "supervised",
                reason,
            });
        }
        let learners = [Learner::new("network", network, optimiser)?];
        Ok(Self {
            loss: DeepSupervision::new(config.loss),
            config,
            learners,
        })
    }
}

impl Strategy for Supervised {
    fn name(&self) -> &'static str {
        "supervised"
    }

    fn request(&self) -> BatchRequest {
        BatchRequest {
            labelled: self.config.batch_size,
            unlabelled: 0,
            strong_views: 0,
            weak_labelled: false,
        }
    }

    fn step(&mut self, batch: &Batch, context: &mut StepContext) -> Result<()> {
        let needed = Error::Batch {
            strategy: "supervised",
            needed: "labelled patches",
        };
        let labelled = batch
            .labelled
            .as_ref()
            .filter(|l| !l.is_empty())
            .ok_or(needed)?;
        for range in context.micro_batches(labelled.len()) {
            let share = range.len() as f64 / labelled.len() as f64;
            let part = labelled.part(range.start, range.len())?;
            let scales = self.learners[0].network().forward_scales(&part.image)?;
            let target = Target {
                label: part.label,
                valid: part.valid,
            };
            let terms = self.loss.terms(&scales, &target)?;
            context.backward(&terms.total, share)?;
            context.record("supervised", &terms.total, share)?;
            context.record("cross_entropy", &terms.cross_entropy, share)?;
            context.record("dice_loss", &terms.dice, share)?;
        }
        Ok(())
    }

    fn learners(&self) -> &[Learner] {
        &self.learners
    }

    fn learners_mut(&mut self) -> &mut [Learner] {
        &mut self.learners
    }

    fn predictors(&self) -> Vec<(&str, &dyn SegmentationNet)> {
        vec![self.learners[0].named()]
    }
}
