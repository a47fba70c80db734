//! A network that follows another one.

use crate::{Error, Result};
use liseg_nn::tch::{Tensor, no_grad_guard};
use liseg_nn::{SegmentationNet, TensorMap};
use serde::{Deserialize, Serialize};

/// How slowly a teacher follows its student.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Decay {
    /// α, the share of the teacher that stays in every step, 0..=1; 0.99 in BCP, MiDSS and the
    /// medical mean teacher.
    pub rate: f64,
    /// Start with α = i / (i + 1) until that reaches `rate` (i = 0 in the first step), so that the
    /// first update is a copy and early, poor weights are soon forgotten.
    pub warm_up: bool,
}

impl Default for Decay {
    fn default() -> Self {
        Self {
            rate: 0.99,
            warm_up: true,
        }
    }
}

impl Decay {
    /// The same rate from the first step on.
    pub fn constant(rate: f64) -> Self {
        Self {
            rate,
            warm_up: false,
        }
    }

    /// α of step `iteration`, counted from 0.
    pub fn at(self, iteration: u64) -> f64 {
        let i = iteration as f64;
        if self.warm_up {
            self.rate.min(i / (i + 1.0))
        } else {
            self.rate
        }
    }

    pub(crate) fn check(self, strategy: &'static str) -> Result<()> {
        if (0.0..=1.0).contains(&self.rate) {
            return Ok(());
        }
        Err(Error::Start {
            strategy,
            reason: format!("decay.rate is {}; expected a share in 0..=1", self.rate),
        })
    }
}

/// The exponential moving average of a student's weights, never optimised (Tarvainen & Valpola,
/// NeurIPS 2017): θ̄ ← α θ̄ + (1 − α) θ.
pub struct Teacher {
    name: String,
    network: Box<dyn SegmentationNet>,
}

impl Teacher {
    /// Makes `network` a copy of `student`. `name` prefixes its tensors in checkpoints.
    ///
    /// # Errors
    /// When the two have different parameters.
    pub fn copy_of(
        student: &dyn SegmentationNet,
        name: &str,
        network: Box<dyn SegmentationNet>,
    ) -> Result<Self> {
        let mut teacher = Self {
            name: name.to_owned(),
            network,
        };
        teacher.follow(student, 0.0)?;
        Ok(teacher)
    }

    /// Moves the teacher towards `student`: θ̄ ← α θ̄ + (1 − α) θ. Parameters are paired by name.
    ///
    /// # Errors
    /// When the two have different parameters, or libtorch fails.
    pub fn follow(&mut self, student: &dyn SegmentationNet, decay: f64) -> Result<()> {
        let ours = self.network.parameters();
        Ok(ours.follow(student.parameters(), decay)?)
    }

    /// Logits at full resolution, without gradient.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let _guard = no_grad_guard();
        Ok(self.network.forward(image)?)
    }

    /// The network.
    pub fn network(&self) -> &dyn SegmentationNet {
        self.network.as_ref()
    }

    /// The name and the network.
    pub fn named(&self) -> (&str, &dyn SegmentationNet) {
        (&self.name, self.network.as_ref())
    }

    /// Copies the weights into `map`, under `{name}.`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn save_into(&self, map: &mut TensorMap) -> Result<()> {
        let prefix = format!("{}.", self.name);
        Ok(self.network.parameters().save_into(&prefix, map)?)
    }

    /// Restores what [`Teacher::save_into`] saved.
    ///
    /// # Errors
    /// When a tensor is missing, left over or of another shape.
    pub fn load(&mut self, map: &TensorMap) -> Result<()> {
        let prefix = format!("{}.", self.name);
        self.network.parameters_mut().load(&prefix, map)?;
        Ok(())
    }
}

impl std::fmt::Debug for Teacher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teacher")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
