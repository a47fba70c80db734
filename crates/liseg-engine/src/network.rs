//! From config and plan to a network.

use crate::{ArchitectureName, Error, Result, RunConfig, RunFolder};
use liseg_data::Plan;
use liseg_nn::tch::Device;
use liseg_nn::{Precision, SegmentationNet, TensorMap, Weights};
use liseg_nn::{Transfer, TransferReport, transfer};
use liseg_stunet::{Architecture, StuNetConfig, UnetConfig};
use liseg_volume::Seed;
use std::path::{Path, PathBuf};

/// The shape of the network that a config asks for on data of that plan.
pub(crate) fn network_shape(config: &RunConfig, plan: &Plan) -> Result<Architecture> {
    let network = &config.network;
    let classes = plan.classes() as i64;
    let strides = match &network.strides {
        Some(strides) => strides.as_slice(),
        None => &plan.pool_op_kernel_sizes,
    };
    Ok(match network.architecture {
        ArchitectureName::StuNet => {
            let published = StuNetConfig::new(network.size, classes);
            Architecture::StuNet(StuNetConfig {
                widths: exactly("network.widths", &network.widths, published.widths)?,
                depths: exactly("network.depths", &network.depths, published.depths)?,
                strides: exactly("network.strides", &Some(strides.to_vec()), [[1; 3]; 5])?,
                deep_supervision: network.deep_supervision,
                upscale_logits: network.upscale_logits,
                checkpointing: network.checkpointing,
                precision: config.precision,
                ..published
            })
        }
        ArchitectureName::Unet => {
            if network.upscale_logits {
                return Err(Error::Setting {
                    field: "network.upscale_logits",
                    reason: "only STU-Net has it; leave it out, or set network.architecture = \"stunet\"".into(),
                });
            }
            let usual = UnetConfig::for_grid(plan.spacing, strides, classes);
            let [convolutions] = exactly("network.depths", &network.depths, [usual.convolutions])?;
            let widths = network.widths.clone();
            let stages = usual.stages();
            let features_per_stage = widths.unwrap_or_else(|| usual.features_per_stage.clone());
            if features_per_stage.len() != stages {
                return Err(Error::Setting {
                    field: "network.widths",
                    reason: format!(
                        "{} numbers for a U-Net of {stages} stages; expected one for each",
                        features_per_stage.len()
                    ),
                });
            }
            Architecture::Unet(UnetConfig {
                features_per_stage,
                convolutions,
                deep_supervision: network.deep_supervision,
                checkpointing: network.checkpointing,
                precision: config.precision,
                ..usual
            })
        }
    })
}

/// The numbers of a config as many as there must be, or the network's own.
fn exactly<T: Copy, const N: usize>(
    field: &'static str,
    given: &Option<Vec<T>>,
    own: [T; N],
) -> Result<[T; N]> {
    let Some(given) = given else { return Ok(own) };
    given.as_slice().try_into().map_err(|_| Error::Setting {
        field,
        reason: format!("{} entries; this network takes {N}", given.len()),
    })
}

/// A network with fresh weights from the run's seed and `name`: two networks of one run differ.
pub(crate) fn fresh_network(
    shape: &Architecture,
    seed: Seed,
    name: &str,
    device: Device,
) -> liseg_nn::Result<Box<dyn SegmentationNet>> {
    shape.build(device, &mut seed.stream(&format!("weights/{name}"), 0, 0))
}

/// The file with the weights: of a run's folder its checkpoint, else the path itself.
fn weights_file(path: &Path) -> Result<PathBuf> {
    if path.is_dir() {
        RunFolder::open(path)?.weights()
    } else {
        Ok(path.to_owned())
    }
}

/// Fills a network from pretrained weights. Heads may differ or be missing and keep their fresh
/// draws; everything else must fit unless the config says otherwise.
pub(crate) fn load_pretrained(
    network: &mut dyn SegmentationNet,
    path: &Path,
    how: Transfer,
) -> Result<TransferReport> {
    let path = &weights_file(path)?;
    let tensors: TensorMap = Weights::open(path)?
        .tensors
        .into_iter()
        .map(|(name, tensor)| {
            // A run's own checkpoint holds `network.` in front; the first network is taken.
            let bare = name.strip_prefix("network.").map(str::to_owned);
            (bare.unwrap_or(name), tensor)
        })
        .filter(|(name, _)| {
            let other = ["network_b.", "teacher."];
            !name.contains('/') && !other.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect();
    let report = transfer(network, tensors, how).map_err(|e| Error::Run {
        path: path.to_owned(),
        reason: format!(
            "cannot start from these weights: {e}; `liseg weights inspect` names their network, whose size or widths \
             [network] must have; network.partial = true takes what fits"
        ),
    })?;
    tracing::info!("{}: {report}", path.display());
    for (what, names) in [
        ("missing", &report.load.missing),
        ("left over", &report.load.unexpected),
    ] {
        for name in names {
            tracing::debug!("{}: {what}: {name}", path.display());
        }
    }
    for (name, own, theirs) in &report.load.mismatched {
        tracing::debug!(
            "{}: {name} is {own:?} here and {theirs:?} there",
            path.display()
        );
    }
    let missing = report.load.missing.iter();
    let fresh: Vec<&String> = missing
        .chain(report.load.mismatched.iter().map(|(name, _, _)| name))
        .collect();
    if let Some(first) = fresh.first() {
        tracing::warn!(
            "{}: {} tensors are drawn afresh and not taken from here, such as `{first}`",
            path.display(),
            fresh.len()
        );
    }
    Ok(report)
}

/// Takes out of training what the config freezes, and gives parameters their own learning rates.
pub(crate) fn set_training(config: &RunConfig, network: &mut dyn SegmentationNet) -> Result<()> {
    let parameters = network.parameters_mut();
    if !config.network.freeze.is_empty() {
        parameters.freeze(&config.network.freeze)?;
    }
    let rates = config.training.layer_rates.iter();
    let rates: Vec<_> = rates.map(|r| (r.prefix.clone(), r.factor)).collect();
    Ok(parameters.set_rates(&rates)?)
}

/// Refuses a patch whose training step would not fit into memory, before it is tried.
pub(crate) fn check_memory(
    shape: &Architecture,
    patch: [usize; 3],
    (networks, micro_batch): (usize, usize),
    device: Device,
    parameters: usize,
) -> Result<()> {
    if device != Device::Cpu {
        return Ok(());
    }
    let Some(available) = liseg_nn::runtime::available_memory_bytes() else {
        return Ok(());
    };
    let wide = shape.precision().kind(device) == liseg_nn::tch::Kind::Float;
    let activations = shape.activation_bytes(patch) / if wide { 1 } else { 2 };
    // Weights, gradients and two moments; the networks of a step hold their graphs together.
    let of_one = activations
        .saturating_mul(micro_batch as u64)
        .saturating_add(16u64.saturating_mul(parameters as u64));
    let needed = of_one.saturating_mul(networks as u64);
    if needed <= available {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let way_out = match wide && !Precision::Bf16.is_emulated(device) {
        true => "a smaller patch, a smaller network or precision = \"bf16\"",
        false => "a smaller patch or a smaller network",
    };
    Err(Error::Setting {
        field: "training.patch_size",
        reason: format!(
            "a step on a patch of {patch:?} voxels needs about {:.1} GiB and {:.1} GiB are free; \
             choose {way_out}",
            gib(needed),
            gib(available)
        ),
    })
}

/// The number formats a run computes in, as written in its manifest.
pub(crate) fn describe(precision: Precision, device: Device) -> (String, String) {
    let kind = match precision.kind(device) {
        liseg_nn::tch::Kind::BFloat16 => "bf16",
        liseg_nn::tch::Kind::Half => "fp16",
        _ => "f32",
    };
    let place = match device {
        Device::Cuda(i) => format!("cuda:{i}"),
        _ => "cpu".to_owned(),
    };
    (place, kind.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan() -> Plan {
        let text = r#"{"dataset_name": "d", "orientation": "RAS", "spacing": [3.0, 1.0, 1.0],
            "median_image_size_in_voxels": [32, 64, 64], "patch_size": [16, 64, 64],
            "batch_size": 2, "pool_op_kernel_sizes": [[1,2,2],[2,2,2],[2,2,2],[1,1,1],[1,1,1]],
            "normalization_scheme": "zscore", "labels": {"background": 0, "liver": 1},
            "original_median_spacing": [3.0, 1.0, 1.0], "original_median_shape": [32, 64, 64]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_config_chooses_architecture_and_shape() {
        let mut config = RunConfig::new("data");
        config.network.widths = Some(vec![4, 4, 8, 8, 8, 8]);
        config.network.upscale_logits = true;
        let Architecture::StuNet(shape) = network_shape(&config, &plan()).unwrap() else {
            panic!("STU-Net is the default");
        };
        assert_eq!(shape.strides, plan().pool_op_kernel_sizes);
        assert_eq!((shape.widths[5], shape.upscale_logits), (8, true));

        config.network.architecture = ArchitectureName::Unet;
        let message = network_shape(&config, &plan()).unwrap_err().to_string();
        assert!(message.starts_with("network.upscale_logits"), "{message}");
        config.network.upscale_logits = false;
        let message = network_shape(&config, &plan()).unwrap_err().to_string();
        assert!(message.contains("4 stages"), "{message}");
        config.network.widths = Some(vec![4, 6, 8, 8]);
        config.network.depths = Some(vec![1]);
        let Architecture::Unet(shape) = network_shape(&config, &plan()).unwrap() else {
            panic!("a U-Net was asked for");
        };
        assert_eq!(shape.kernel_sizes[0], [1, 3, 3]);
        assert_eq!((shape.strides.len(), shape.convolutions), (3, 1));
        config.network.depths = Some(vec![1, 2]);
        let message = network_shape(&config, &plan()).unwrap_err().to_string();
        assert!(
            message.starts_with("network.depths: 2 entries"),
            "{message}"
        );
    }

    #[test]
    fn frozen_parameters_and_rates_are_set_by_prefix() {
        let mut config = RunConfig::new("data");
        config.network.widths = Some(vec![2, 2, 2, 2, 2, 2]);
        let shape = network_shape(&config, &plan()).unwrap();
        let mut net = fresh_network(&shape, Seed(1), "network", Device::Cpu).unwrap();
        config.network.freeze = vec!["conv_blocks_context.".into()];
        set_training(&config, net.as_mut()).unwrap();
        for (name, weight) in net.parameters().iter() {
            let frozen = name.starts_with("conv_blocks_context.");
            assert_eq!(weight.requires_grad(), !frozen, "{name}");
        }
        config.training.layer_rates.push(crate::LayerRate {
            prefix: "encoder.".into(),
            factor: 0.1,
        });
        let message = set_training(&config, net.as_mut()).unwrap_err().to_string();
        assert!(message.contains("training.layer_rates"), "{message}");
    }
}
