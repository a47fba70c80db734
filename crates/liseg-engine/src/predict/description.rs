//! What a checkpoint says about the networks in it.

use crate::{Error, Result};
use liseg_data::Plan;
use liseg_nn::{SegmentationNet, TensorMap, checkpoint};
use liseg_stunet::Architecture;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The key of a checkpoint's facts under which a model describes itself.
pub(super) const KEY: &str = "liseg_model";

/// What a checkpoint says about the networks in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(super) network: Architecture,
    pub(super) plan: Plan,
    pub(super) patch_size: [usize; 3],
    pub(super) predictors: Vec<String>,
    /// Phases of the training images; empty where unknown.
    #[serde(default)]
    pub(super) phases: Vec<String>,
}

impl Description {
    /// Finds the description among the facts of a checkpoint.
    pub(super) fn of_facts(path: &Path, facts: &BTreeMap<String, String>) -> Result<Self> {
        let refuse = |reason: String| Error::Run {
            path: path.to_owned(),
            reason,
        };
        let text = facts.get(KEY).ok_or_else(|| {
            refuse(
                "it does not say how its network sees images; give a run's checkpoint, or let `liseg weights convert \
                 FILE --plans PLAN` write the weights with a plan"
                    .into(),
            )
        })?;
        let description: Self = serde_json::from_str(text)
            .map_err(|e| refuse(format!("its description cannot be read: {e}")))?;
        description.plan.validate()?;
        Ok(description)
    }

    /// Refuses a network larger than its weights before it is built: a few bytes of text may describe any.
    pub(super) fn refuse_without_weights(&self, path: &Path, tensors: &TensorMap) -> Result<()> {
        let needed = self.network.summary(self.patch_size)?.parameters;
        for name in &self.predictors {
            let own = tensors.iter().filter(|(tensor, _)| {
                tensor
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
            });
            let held: usize = own.map(|(_, tensor)| tensor.numel()).sum();
            if (held as u64) < needed {
                return Err(Error::Run {
                    path: path.to_owned(),
                    reason: format!(
                        "it describes `{name}` as {} of {needed} weights and holds {held} of them; it is cut short or \
                         was put together by hand",
                        self.network.name()
                    ),
                });
            }
        }
        Ok(())
    }

    /// How the names of the tensors begin that the networks which predict are made of, where that can be
    /// read.
    pub(super) fn predictors(facts: &BTreeMap<String, String>) -> Option<Vec<String>> {
        let description: Self = serde_json::from_str(facts.get(KEY)?).ok()?;
        let names = description.predictors.iter();
        Some(names.map(|name| format!("{name}.")).collect())
    }
}

/// The facts that let a model find its way in a checkpoint.
pub(crate) fn describe_model(
    network: &Architecture,
    plan: &Plan,
    patch_size: [usize; 3],
    predictors: Vec<String>,
    phases: Vec<String>,
) -> BTreeMap<String, String> {
    let description = Description {
        network: network.clone(),
        plan: plan.clone(),
        patch_size,
        predictors,
        phases,
    };
    let text = serde_json::to_string(&description).unwrap_or_default();
    BTreeMap::from([(KEY.to_owned(), text)])
}

/// Saves networks for prediction alone: no optimiser, no progress.
pub(crate) fn save_predictors(
    path: &Path,
    predictors: &[(&str, &dyn SegmentationNet)],
    facts: &BTreeMap<String, String>,
) -> Result<()> {
    let mut tensors = TensorMap::new();
    for (name, network) in predictors {
        network
            .parameters()
            .save_into(&format!("{name}."), &mut tensors)?;
    }
    Ok(checkpoint::write(path, &tensors, facts)?)
}
