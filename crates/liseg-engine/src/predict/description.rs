//! What a checkpoint says about the networks in it.

use super::Tta;
use crate::{Error, Result};
use liseg_data::Plan;
use liseg_nn::{SegmentationNet, TensorMap, checkpoint};
use liseg_stunet::Architecture;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The key of a checkpoint's facts under which a model describes itself.
pub(super) const KEY: &str = "liseg_model";

/// What a checkpoint says about the networks in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) network: Architecture,
    pub(crate) plan: Plan,
    pub(crate) patch_size: [usize; 3],
    pub(crate) predictors: Vec<String>,
    #[serde(flatten)]
    pub(crate) training: Training,
}

/// What the networks were trained on, as far as it is known: of weights from elsewhere nothing is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Training {
    /// Phases of the images; empty where unknown.
    pub(crate) phases: Vec<String>,
    /// Axes (z, y, x) along which patches were mirrored, nnU-Net's `inference_allowed_mirroring_axes`.
    pub(crate) mirror_axes: Option<[bool; 3]>,
    /// The smallest and the largest spacing of the images along z, y and x, in mm.
    pub(crate) spacing_range: Option<[[f64; 3]; 2]>,
}

impl Training {
    /// What several models were all trained on; unknown where it is so of one of them.
    pub(super) fn and(mut self, other: &Self) -> Self {
        let both = |a: [bool; 3], b: [bool; 3]| std::array::from_fn(|axis| a[axis] && b[axis]);
        let narrower = |[low, high]: [[f64; 3]; 2], [other_low, other_high]: [[f64; 3]; 2]| {
            [
                std::array::from_fn(|axis| low[axis].max(other_low[axis])),
                std::array::from_fn(|axis| high[axis].min(other_high[axis])),
            ]
        };
        // A model without phases saw images of unknown ones.
        match self.phases.is_empty() {
            true => self.phases.clone_from(&other.phases),
            false if other.phases.is_empty() => {}
            false => self.phases.retain(|phase| other.phases.contains(phase)),
        }
        Self {
            mirror_axes: self
                .mirror_axes
                .zip(other.mirror_axes)
                .map(|(a, b)| both(a, b)),
            spacing_range: self
                .spacing_range
                .zip(other.spacing_range)
                .map(|(a, b)| narrower(a, b)),
            ..self
        }
    }

    /// Turns `mirror` into the axes that training mirrored, and refuses others.
    ///
    /// # Errors
    /// [`Error::Setting`] for an axis that training never mirrored.
    pub(super) fn flips(&self, tta: Tta) -> Result<Tta> {
        let Some(trained) = self.mirror_axes else {
            if tta.passes() > 1 {
                tracing::warn!(
                    "the model does not say along which axes its training mirrored images; if it was not along those \
                     of `{tta}`, masks get worse"
                );
            }
            return Ok(tta);
        };
        let known = Tta::Axes(trained);
        match tta {
            Tta::None => Ok(tta),
            Tta::Mirror => {
                if known.passes() == 1 {
                    tracing::warn!("the model was trained without mirroring: nothing is flipped");
                }
                Ok(known)
            }
            Tta::Axes(axes) if (0..3).all(|axis| trained[axis] || !axes[axis]) => Ok(tta),
            Tta::Axes(_) => Err(Error::Setting {
                field: "--tta",
                reason: format!(
                    "the model was asked to see images flipped along `{tta}` and was trained on flips along `{known}`; \
                     choose `mirror`, which means these, or --force-tta"
                ),
            }),
        }
    }
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
        description.check().map_err(refuse)?;
        Ok(description)
    }

    /// Checks plan, patch and networks against each other.
    fn check(&self) -> std::result::Result<(), String> {
        let plan = Plan {
            patch_size: self.patch_size,
            ..self.plan.clone()
        };
        plan.validate()
            .map_err(|e| format!("its plan cannot be used: {e}"))?;
        let (classes, labels) = (self.network.classes(), plan.classes());
        if classes != labels as i64 {
            return Err(format!(
                "its network tells {classes} classes apart and its plan has {labels} labels; they belong to two models"
            ));
        }
        let channels = self.network.input_channels();
        if channels != 1 {
            return Err(format!(
                "its network sees {channels} channels; LiSeg gives it 1, the image of one phase"
            ));
        }
        let names: BTreeSet<&String> = self.predictors.iter().collect();
        if names.is_empty() || names.len() != self.predictors.len() {
            return Err(format!(
                "its networks are {:?}; expected one or more, each once",
                self.predictors
            ));
        }
        Ok(())
    }

    /// The facts that let a model find its way in a checkpoint.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number that has no form in JSON.
    pub(crate) fn facts(&self) -> Result<BTreeMap<String, String>> {
        let text = serde_json::to_string(self).map_err(|e| Error::Setting {
            field: "plan",
            reason: format!("the model cannot be described: {e}"),
        })?;
        Ok(BTreeMap::from([(KEY.to_owned(), text)]))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_flipped_only_as_it_was_trained() {
        let trained = |axes| Training {
            mirror_axes: Some(axes),
            ..Training::default()
        };
        let in_plane = trained([false, true, true]);
        let axes = |z, y, x| Tta::Axes([z, y, x]);
        assert_eq!(in_plane.flips(Tta::None).unwrap(), Tta::None);
        assert_eq!(
            in_plane.flips(Tta::Mirror).unwrap(),
            axes(false, true, true)
        );
        assert_eq!(
            in_plane.flips(axes(false, false, true)).unwrap(),
            axes(false, false, true)
        );
        let message = in_plane.flips(axes(true, false, true)).unwrap_err();
        let message = message.to_string();
        assert!(
            message.contains("`zx`") && message.contains("`yx`"),
            "{message}"
        );
        let never = trained([false; 3]);
        assert_eq!(never.flips(Tta::Mirror).unwrap().passes(), 1);
        assert!(never.flips(axes(false, false, true)).is_err());
        // Several models are flipped as all of them were.
        let both = in_plane.and(&trained([true, false, true]));
        assert_eq!(both.mirror_axes, Some([false, false, true]));
        let unknown = Training::default();
        assert_eq!(unknown.clone().and(&both).mirror_axes, None);
        assert_eq!(both.and(&unknown).mirror_axes, None);
        let met = |low: f64, high: f64| Training {
            spacing_range: Some([[low; 3], [high; 3]]),
            ..Training::default()
        };
        let range = met(1.0, 3.0).and(&met(2.0, 4.0)).spacing_range;
        assert_eq!(range, Some([[2.0; 3], [3.0; 3]]));
        assert_eq!(unknown.flips(Tta::Mirror).unwrap(), Tta::Mirror);
    }

    #[test]
    fn descriptions_of_before_say_nothing_of_training() {
        let old = r#"{"phases": ["T2"]}"#;
        let training: Training = serde_json::from_str(old).unwrap();
        assert_eq!(training.phases, ["T2"]);
        assert_eq!(training.mirror_axes, None);
    }

    #[test]
    fn plan_patch_and_network_belong_together() {
        let plan = crate::network::tests::plan();
        let config = crate::RunConfig::new("data");
        let sound = Description {
            network: crate::network::network_shape(&config, &plan).unwrap(),
            patch_size: plan.patch_size,
            plan,
            predictors: vec!["network".into()],
            training: Training::default(),
        };
        let told = |change: &dyn Fn(&mut Description)| {
            let mut described = sound.clone();
            change(&mut described);
            let facts = described.facts().unwrap();
            let read = Description::of_facts(Path::new("a.safetensors"), &facts);
            read.map_err(|error| error.to_string())
        };
        assert_eq!(told(&|_| {}), Ok(sound.clone()));
        type Change = fn(&mut Description);
        let changes: [(Change, &str); 6] = [
            (
                |d| d.plan.labels.extend([("tumour".into(), 2)]),
                "2 classes apart and its plan has 3 labels",
            ),
            (|d| d.patch_size = [15, 64, 64], "divisible"),
            (|d| d.patch_size = [1 << 40; 3], "`patch_size`"),
            (|d| d.predictors.clear(), "expected one or more"),
            (|d| d.predictors.push("network".into()), "each once"),
            (
                |d| match &mut d.network {
                    Architecture::StuNet(config) => config.input_channels = 4,
                    Architecture::Unet(config) => config.input_channels = 4,
                },
                "sees 4 channels",
            ),
        ];
        for (change, part) in changes {
            let refused = told(&change).unwrap_err();
            assert!(
                refused.contains("a.safetensors") && refused.contains(part),
                "{refused}"
            );
        }
    }
}
