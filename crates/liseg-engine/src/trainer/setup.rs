//! What a run needs before its first step.

use super::BuildStrategy;
use crate::network::{fresh_network, load_pretrained, set_training};
use crate::run::{CaseRoles, RunFolder};
use crate::{Error, Result, RunConfig};
use liseg_augment::{AugmentConfig, Preset};
use liseg_data::{Pipelines, Plan};
use liseg_nn::tch::{Device, Kind};
use liseg_nn::{SegmentationNet, Transfer, schedule};
use liseg_ssl::Strategy;
use liseg_stunet::Architecture;
use std::sync::Arc;

/// The plan of the data, with the run's own patch where it has one.
pub(super) fn plan_for(config: &RunConfig, plan: &Plan) -> Result<Plan> {
    let mut plan = plan.clone();
    if let Some(patch) = config.training.patch_size {
        plan.patch_size = patch;
    }
    plan.validate()?;
    Ok(plan)
}

pub(super) fn check_roles(strategy: &dyn Strategy, roles: &CaseRoles) -> Result<()> {
    if strategy.request().unlabelled > 0 && roles.unlabelled.is_empty() {
        return Err(Error::Setting {
            field: "strategy.name",
            reason: format!(
                "`{}` learns from unlabelled cases and the data have none of the wanted phases; put \
                 images without labels into imagesUn before preprocessing, widen \
                 unlabelled_phases, or train with name = \"supervised\"",
                strategy.name()
            ),
        });
    }
    Ok(())
}

pub(super) fn build_strategy(
    config: &RunConfig,
    shape: &Architecture,
    device: Device,
    build: &mut BuildStrategy<'_>,
) -> Result<Box<dyn Strategy>> {
    let start = &config.network;
    let several = config.strategy.learners() > 1 && start.second_weights.is_none();
    let fresh_heads = start.fresh_heads.unwrap_or(several);
    let mut failure = None;
    let mut make = |name: &str| -> liseg_nn::Result<Box<dyn SegmentationNet>> {
        let mut network = fresh_network(shape, config.seed, name, device)?;
        let how = Transfer {
            fresh_heads,
            partial: start.partial,
        };
        let second = start
            .second_weights
            .as_ref()
            .filter(|_| name == "network_b");
        if let Some(path) = second.or(start.weights.as_ref())
            && let Err(error) = load_pretrained(network.as_mut(), path, how)
        {
            let message = error.to_string();
            failure = Some(error);
            return Err(liseg_nn::Error::Weights(message));
        }
        if let Err(error) = set_training(config, network.as_mut()) {
            let message = error.to_string();
            failure = Some(error);
            return Err(liseg_nn::Error::Weights(message));
        }
        Ok(network)
    };
    let built = build(&mut make);
    match (built, failure) {
        (_, Some(error)) => Err(error),
        (built, None) => Ok(built?),
    }
}

/// Refuses to go on with a run under a config that would make it another one.
pub(super) fn refuse_other_run(
    config: &RunConfig,
    strategy: &str,
    folder: &RunFolder,
) -> Result<()> {
    let recorded = RunConfig::read(&folder.config_file(), &[])?;
    let difference = match folder.strategy() {
        Some(name) if name != strategy => {
            Some(format!("the strategy was {name} and is now {strategy}"))
        }
        _ => recorded.difference(config),
    };
    match difference {
        None => Ok(()),
        Some(what) => Err(Error::Run {
            path: folder.config_file(),
            reason: format!(
                "the run was started with other settings: {what}; resume it with the same config, or choose \
                 another --out"
            ),
        }),
    }
}

/// The learning rate of a step: the schedule's, with a linear warm-up.
pub(super) fn learning_rate(config: &RunConfig, iteration: u64) -> f64 {
    let t = &config.training;
    t.learning_rate
        * t.schedule.factor(iteration, config.iterations())
        * schedule::linear_warm_up(iteration, t.warm_up)
}

/// The transforms of labelled patches, of weak views and of strong ones.
///
/// A weak view is moved in space as a labelled patch is, and its intensities stay; a strong view is a
/// weak one with other intensities.
pub(super) fn pipelines(config: &RunConfig) -> Result<Pipelines> {
    let strong = AugmentConfig {
        preset: Preset::Intensity,
        ..config
            .strong_augment
            .as_ref()
            .unwrap_or(&config.augment)
            .clone()
    };
    Ok(Pipelines {
        labelled: Arc::new(config.augment.build()?),
        unlabelled: Arc::new(config.augment.views()?.weak),
        strong: Arc::new(strong.views()?.strong),
    })
}

/// Samples that go through a network at once.
///
/// On a CPU with bf16 single samples are fastest: instance norm has a kernel for them that keeps
/// the layout convolutions want. In f32 libtorch keeps small single samples from oneDNN, so there,
/// and on GPUs, the batch stays whole.
pub(super) fn micro_batch(config: &RunConfig, device: Device, strategy: &dyn Strategy) -> usize {
    let request = strategy.request();
    let whole = request.labelled.max(request.unlabelled);
    let narrow = config.precision.kind(device) == Kind::BFloat16;
    match config.training.micro_batch {
        0 if device == Device::Cpu && narrow => 1,
        0 => whole,
        n => n,
    }
}
