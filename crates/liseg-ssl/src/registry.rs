//! From a name and its settings to a strategy.

use crate::{Bcp, BcpConfig, Cps, CpsConfig, MeanTeacher, MeanTeacherConfig};
use crate::{Midss, MidssConfig, WeakToStrong, WeakToStrongConfig};
use crate::{Result, Strategy, Supervised, SupervisedConfig};
use liseg_nn::{OptimiserConfig, SegmentationNet};
use serde::{Deserialize, Serialize};

/// Makes the networks a strategy asks for, each by name, so that two networks of one run start
/// from different weights.
pub type NetworkFactory<'a> = dyn FnMut(&str) -> liseg_nn::Result<Box<dyn SegmentationNet>> + 'a;

/// Which strategy, with its settings. In a config file: `name = "cps"` and the fields of its
/// settings beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum StrategyConfig {
    /// Labelled patches only.
    Supervised(SupervisedConfig),
    /// Cross pseudo supervision.
    Cps(CpsConfig),
    /// Bidirectional copy-paste.
    Bcp(BcpConfig),
    /// A student and the average of its past.
    MeanTeacher(MeanTeacherConfig),
    /// Mixed domains.
    Midss(MidssConfig),
    /// Weak views teach strong ones.
    WeakToStrong(WeakToStrongConfig),
}

impl Default for StrategyConfig {
    fn default() -> Self {
        Self::Supervised(SupervisedConfig::default())
    }
}

impl StrategyConfig {
    /// The names that configs may use.
    pub const NAMES: [&'static str; 6] = [
        "supervised",
        "cps",
        "bcp",
        "mean-teacher",
        "midss",
        "weak-to-strong",
    ];

    /// The strategy's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Supervised(_) => "supervised",
            Self::Cps(_) => "cps",
            Self::Bcp(_) => "bcp",
            Self::MeanTeacher(_) => "mean-teacher",
            Self::Midss(_) => "midss",
            Self::WeakToStrong(_) => "weak-to-strong",
        }
    }

    /// Number of networks that are optimised. Those of one checkpoint need fresh heads to differ.
    pub fn learners(&self) -> usize {
        match self {
            Self::Cps(_) => 2,
            _ => 1,
        }
    }

    /// Labelled patches in a batch: what a supervised control needs to see as many.
    pub fn labelled_patches(&self) -> usize {
        match self {
            Self::Supervised(config) => config.batch_size,
            Self::Cps(config) => config.labelled,
            Self::Bcp(config) => config.patches,
            Self::MeanTeacher(config) => config.labelled,
            Self::Midss(config) => config.patches,
            Self::WeakToStrong(config) => config.labelled,
        }
    }

    /// Builds the strategy on networks from `networks`.
    ///
    /// # Errors
    /// When a setting is out of range, a network cannot be made, or libtorch fails.
    pub fn build(
        &self,
        optimiser: OptimiserConfig,
        networks: &mut NetworkFactory<'_>,
    ) -> Result<Box<dyn Strategy>> {
        Ok(match self {
            Self::Supervised(config) => Box::new(Supervised::new(
                config.clone(),
                networks("network")?,
                optimiser,
            )?),
            Self::Cps(config) => {
                let pair = [networks("network")?, networks("network_b")?];
                Box::new(Cps::new(config.clone(), pair, optimiser)?)
            }
            Self::Bcp(config) => {
                let pair = [networks("network")?, networks("teacher")?];
                Box::new(Bcp::new(config.clone(), pair, optimiser)?)
            }
            Self::MeanTeacher(config) => {
                let pair = [networks("network")?, networks("teacher")?];
                Box::new(MeanTeacher::new(config.clone(), pair, optimiser)?)
            }
            Self::Midss(config) => {
                let pair = [networks("network")?, networks("teacher")?];
                Box::new(Midss::new(config.clone(), pair, optimiser)?)
            }
            Self::WeakToStrong(config) => {
                let pair = [networks("network")?, networks("teacher")?];
                Box::new(WeakToStrong::new(config.clone(), pair, optimiser)?)
            }
        })
    }
}
