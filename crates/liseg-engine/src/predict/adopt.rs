//! Models of weights that were trained elsewhere.

use super::description::{Description, Training, save_predictors};
use crate::{Error, Result};
use liseg_data::Plan;
use liseg_nn::tch::Device;
use liseg_nn::{TensorMap, Transfer, transfer};
use liseg_stunet::Architecture;
use liseg_volume::Seed;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes bare weights, such as those of a published checkpoint, as a file that [`Model::load`](super::Model::load) predicts
/// with: `plan` says on which grid, in which patches and with which normalization the network sees images, and which labels
/// its classes are. Strides leave no trace in an STU-Net's weights and are the plan's too.
///
/// `facts` go into the header beside the description. Returns what the network is.
///
/// # Errors
/// [`Error::Setting`] when the weights are of no network of this crate, or the plan has other classes, more image channels
/// or a patch that the strides do not divide; when weights are missing or too many; when the file cannot be written.
pub fn write_model(
    file: &Path,
    tensors: TensorMap,
    plan: &Plan,
    mut facts: BTreeMap<String, String>,
) -> Result<Architecture> {
    let refuse = |reason: String| Error::Setting {
        field: "plans",
        reason,
    };
    let shape = Architecture::of_weights(&tensors).ok_or_else(|| {
        refuse("the weights are neither an STU-Net's nor a plain U-Net's by their names".into())
    })?;
    let shape = match shape {
        Architecture::StuNet(mut config) => {
            config.strides = plan.pool_op_kernel_sizes;
            config.into()
        }
        unet @ Architecture::Unet(_) => unet,
    };
    if shape.classes() != plan.classes() as i64 {
        return Err(refuse(format!(
            "the network tells {} classes apart and the plan has {} labels, background included; its `labels` must \
             name each class of the network",
            shape.classes(),
            plan.classes()
        )));
    }
    if shape.input_channels() != 1 {
        return Err(refuse(format!(
            "the network takes images of {} channels; scans of one phase have one",
            shape.input_channels()
        )));
    }
    shape.summary(plan.patch_size)?;
    let mut rng = Seed(0).stream("overwritten", 0, 0);
    let mut network = shape.build(Device::Cpu, &mut rng)?;
    let report = transfer(network.as_mut(), tensors, Transfer::default())?;
    if !report.load.missing.is_empty() {
        return Err(refuse(format!("the weights do not suffice: {report}")));
    }
    let predictors = vec!["network".to_owned()];
    let description = Description {
        network: shape.clone(),
        plan: plan.clone(),
        patch_size: plan.patch_size,
        predictors,
        training: Training::default(),
    };
    facts.extend(description.facts()?);
    save_predictors(file, &[("network", network.as_ref())], &facts)?;
    Ok(shape)
}
