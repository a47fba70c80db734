//! From config and plan to a network.

use crate::{Error, Result, RunConfig};
use liseg_data::Plan;
use liseg_nn::tch::Device;
use liseg_nn::{LoadReport, Precision, SegmentationNet, TensorMap, Weights};
use liseg_stunet::{StuNet, StuNetConfig};
use liseg_volume::Seed;
use std::path::Path;

/// The shape of the network that a config asks for on data of that plan.
pub(crate) fn network_shape(config: &RunConfig, plan: &Plan) -> StuNetConfig {
    let shape = StuNetConfig::new(config.network.size, plan.classes() as i64);
    StuNetConfig {
        widths: config.network.widths.unwrap_or(shape.widths),
        strides: plan.pool_op_kernel_sizes,
        precision: config.precision,
        ..shape
    }
}

/// A network with fresh weights from the run's seed and `name`: two networks of one run differ.
pub(crate) fn fresh_network(
    shape: &StuNetConfig,
    seed: Seed,
    name: &str,
    device: Device,
) -> liseg_nn::Result<StuNet> {
    StuNet::new(
        shape,
        device,
        &mut seed.stream(&format!("weights/{name}"), 0, 0),
    )
}

/// Fills a network from pretrained weights. Heads may differ or be missing and keep their fresh
/// draws; everything else must fit.
pub(crate) fn load_pretrained(
    network: &mut dyn SegmentationNet,
    path: &Path,
    fresh_heads: bool,
) -> Result<LoadReport> {
    let heads = network.head_prefixes();
    let is_head = |name: &String| heads.iter().any(|h| name.starts_with(h.as_str()));
    let tensors: TensorMap = Weights::read(path)?
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
        .filter(|(name, _)| !(fresh_heads && is_head(name)))
        .collect();
    let report = network.parameters_mut().load_where("", &tensors, |report| {
        !report.matched.is_empty()
            && report.missing.iter().all(is_head)
            && report.unexpected.iter().all(is_head)
            && report.mismatched.iter().all(|(name, _, _)| is_head(name))
    });
    report.map_err(|e| Error::Run {
        path: path.to_owned(),
        reason: format!("cannot start from these weights: {e}"),
    })
}

/// Refuses a patch whose training step would not fit into memory, before it is tried.
pub(crate) fn check_memory(
    shape: &StuNetConfig,
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
    let wide = shape.precision.kind(device) == liseg_nn::tch::Kind::Float;
    let activations = shape.activation_bytes(patch) / if wide { 1 } else { 2 };
    // Weights, gradients and two moments; the networks of a step hold their graphs together.
    let needed = networks as u64 * (activations * micro_batch as u64 + 16 * parameters as u64);
    if needed <= available {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    Err(Error::Setting {
        field: "training.patch_size",
        reason: format!(
            "a step on a patch of {patch:?} voxels needs about {:.1} GiB and {:.1} GiB are free; \
             choose a smaller patch, a smaller network or precision = \"bf16\"",
            gib(needed),
            gib(available)
        ),
    })
}

/// The number formats a run computes in, as written in its manifest.
pub(crate) fn describe(precision: Precision, device: Device) -> (String, String) {
    let kind = match precision.kind(device) {
        liseg_nn::tch::Kind::BFloat16 => "bf16",
        _ => "f32",
    };
    let place = match device {
        Device::Cuda(i) => format!("cuda:{i}"),
        _ => "cpu".to_owned(),
    };
    (place, kind.to_owned())
}
