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
    let Some(patch) = config.training.patch_size else {
        plan.validate()?;
        return Ok(plan);
    };
    plan.patch_size = patch;
    plan.validate().map_err(|error| match error {
        liseg_data::Error::Setting {
            field: "patch_size",
            reason,
        } => Error::Setting {
            field: "training.patch_size",
            reason,
        },
        other => other.into(),
    })?;
    Ok(plan)
}

/// Refuses to learn from unlabelled cases where there are none.
pub(crate) fn check_roles(
    strategy: &str,
    learns_from_unlabelled: bool,
    roles: &CaseRoles,
) -> Result<()> {
    if !learns_from_unlabelled || !roles.unlabelled.is_empty() {
        return Ok(());
    }
    Err(Error::Setting {
        field: "strategy.name",
        reason: format!(
            "`{strategy}` learns from unlabelled cases and the data have none of the wanted phases; put \
             images without labels into imagesUn before preprocessing, widen unlabelled_phases, or train \
             with name = \"supervised\""
        ),
    })
}

/// The strategy with its networks. Several that learn from one checkpoint get heads of their own, unless the
/// config says otherwise: they must start different.
pub(super) fn build_strategy(
    config: &RunConfig,
    shape: &Architecture,
    device: Device,
    build: &mut BuildStrategy<'_>,
) -> Result<Box<dyn Strategy>> {
    let start = &config.network;
    let one_file = start.weights.is_some() && start.second_weights.is_none();
    let fresh_heads = |learners: usize| start.fresh_heads.unwrap_or(one_file && learners > 1);
    let expected = config.strategy.learners();
    let built = build_with(config, shape, device, build, fresh_heads(expected))?;
    // A strategy of the caller's own tells how many networks learn when it is there.
    match built.learners().len() {
        found if fresh_heads(found) == fresh_heads(expected) => Ok(built),
        found => build_with(config, shape, device, build, fresh_heads(found)),
    }
}

fn build_with(
    config: &RunConfig,
    shape: &Architecture,
    device: Device,
    build: &mut BuildStrategy<'_>,
    fresh_heads: bool,
) -> Result<Box<dyn Strategy>> {
    let start = &config.network;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{network_shape, tests::plan};
    use liseg_nn::checkpoint;
    use liseg_nn::tch::Tensor;
    use liseg_ssl::{Cps, CpsConfig, StrategyConfig};
    use std::path::PathBuf;

    fn config(strategy: &str) -> RunConfig {
        let mut config = RunConfig::new("data");
        config.network.widths = Some(vec![2; 6]);
        config.strategy = toml::from_str(&format!("name = \"{strategy}\"")).unwrap();
        config
    }

    /// A checkpoint whose parameters are all `value`.
    fn checkpoint_of(value: f64, folder: &std::path::Path) -> PathBuf {
        let shape = network_shape(&config("supervised"), &plan()).unwrap();
        let network = fresh_network(&shape, liseg_volume::Seed(9), "any", Device::Cpu).unwrap();
        let of = |(name, tensor): (&str, &Tensor)| (name.to_owned(), tensor.full_like(value));
        let tensors = network.parameters().iter().map(of).collect();
        let file = folder.join(format!("{value}.safetensors"));
        checkpoint::write(&file, &tensors, &Default::default()).unwrap();
        file
    }

    /// For both networks: whether all parameters but those of heads are `value`, and whether heads are.
    fn starts(strategy: &dyn Strategy, values: [f64; 2]) -> [(bool, bool); 2] {
        let learners = strategy.learners();
        [0, 1].map(|i| {
            let network = learners[i].network();
            let heads = network.head_prefixes();
            let is_head = |name: &str| heads.iter().any(|head| name.starts_with(head.as_str()));
            let all = |head: bool| {
                let mut of = network
                    .parameters()
                    .iter()
                    .filter(|(n, _)| is_head(n) == head);
                of.all(|(_, tensor)| tensor.equal(&tensor.full_like(values[i])))
            };
            (all(false), all(true))
        })
    }

    fn build(config: &RunConfig, build: &mut BuildStrategy<'_>) -> Result<Box<dyn Strategy>> {
        let shape = network_shape(config, &plan()).unwrap();
        build_strategy(config, &shape, Device::Cpu, build)
    }

    fn configured(config: &RunConfig) -> Result<Box<dyn Strategy>> {
        build(config, &mut |networks| {
            config.strategy.build(config.optimiser, networks)
        })
    }

    #[test]
    fn two_networks_from_one_checkpoint_get_heads_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config("cps");
        config.network.weights = Some(checkpoint_of(0.5, folder.path()));
        let cps = configured(&config).unwrap();
        assert_eq!(starts(cps.as_ref(), [0.5; 2]), [(true, false); 2]);
        // Heads of the checkpoint would make the two one.
        config.network.fresh_heads = Some(false);
        let refused = configured(&config).err().unwrap().to_string();
        assert!(refused.contains("the same weights"), "{refused}");
    }

    #[test]
    fn two_networks_from_two_checkpoints_keep_their_heads() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config("cps");
        config.network.weights = Some(checkpoint_of(0.5, folder.path()));
        config.network.second_weights = Some(checkpoint_of(0.25, folder.path()));
        let cps = configured(&config).unwrap();
        assert_eq!(starts(cps.as_ref(), [0.5, 0.25]), [(true, true); 2]);
    }

    #[test]
    fn the_folder_of_a_run_stands_for_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config("cps");
        config.network.weights = Some(folder.path().to_owned());
        config.network.second_weights = Some(checkpoint_of(0.25, folder.path()));
        let refused = configured(&config).err().unwrap().to_string();
        assert!(refused.contains("no run here"), "{refused}");
        std::fs::write(folder.path().join("config.toml"), "").unwrap();
        let refused = configured(&config).err().unwrap().to_string();
        assert!(refused.contains("no checkpoint yet"), "{refused}");
        let checkpoints = folder.path().join("checkpoints");
        std::fs::create_dir(&checkpoints).unwrap();
        let last = checkpoints.join("last.safetensors");
        std::fs::rename(checkpoint_of(0.5, folder.path()), last).unwrap();
        let started = configured(&config).unwrap();
        assert_eq!(starts(started.as_ref(), [0.5, 0.25]), [(true, true); 2]);
    }

    #[test]
    fn so_do_networks_of_a_strategy_of_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        // The config says nothing of it: its strategy is another one, with one network.
        let mut config = config("supervised");
        config.network.weights = Some(checkpoint_of(0.5, folder.path()));
        let views = CpsConfig {
            views: liseg_ssl::Views::PerNetwork,
            ..CpsConfig::default()
        };
        let own = build(&config, &mut |networks| {
            let pair = [networks("network")?, networks("network_b")?];
            Ok(Box::new(Cps::new(views.clone(), pair, config.optimiser)?))
        });
        assert_eq!(starts(own.unwrap().as_ref(), [0.5; 2]), [(true, false); 2]);
        assert_eq!(StrategyConfig::Cps(views).learners(), 2);
    }
}
