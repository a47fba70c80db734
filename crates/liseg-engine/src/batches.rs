//! From the loader's arrays to the strategy's tensors.

use crate::Result;
use liseg_nn::bridge::{images_to_tensor, labels_to_tensor};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_ssl::{Batch, Labelled, Unlabelled};
use ndarray::{Array3, Array4};

/// Moves a batch to the training device.
pub(crate) fn to_device(batch: &liseg_data::Batch, device: Device) -> Result<Batch> {
    let labelled = if batch.labelled.is_empty() {
        None
    } else {
        let patches = &batch.labelled;
        let labels: Vec<_> = patches.iter().map(|p| p.label.view()).collect();
        Some(Labelled {
            image: images(patches.iter().map(|p| &p.image), device)?,
            label: labels_to_tensor(&labels, Kind::Int64, device)?,
            valid: valid(patches.iter().map(|p| &p.valid), device)?,
        })
    };
    let unlabelled = if batch.unlabelled.is_empty() {
        None
    } else {
        let patches = &batch.unlabelled;
        Some(Unlabelled {
            image: images(patches.iter().map(|p| &p.image), device)?,
            strong: (0..patches[0].strong.len())
                .map(|view| images(patches.iter().map(|p| &p.strong[view]), device))
                .collect::<Result<_>>()?,
            valid: valid(patches.iter().map(|p| &p.valid), device)?,
        })
    };
    Ok(Batch {
        labelled,
        unlabelled,
    })
}

/// The cases of a batch, for messages.
pub(crate) fn cases(batch: &liseg_data::Batch) -> String {
    let labelled = batch.labelled.iter().map(|p| p.origin.case.as_str());
    let unlabelled = batch.unlabelled.iter().map(|p| p.origin.case.as_str());
    labelled.chain(unlabelled).collect::<Vec<_>>().join(", ")
}

fn images<'a>(patches: impl Iterator<Item = &'a Array4<f32>>, device: Device) -> Result<Tensor> {
    let views: Vec<_> = patches.map(|image| image.view()).collect();
    Ok(images_to_tensor(&views, device)?)
}

/// The voxels inside the scanned volumes; `None` when all are, which is the common case and the
/// cheaper one.
fn valid<'a>(
    masks: impl Iterator<Item = &'a Array3<u8>>,
    device: Device,
) -> Result<Option<Tensor>> {
    let views: Vec<_> = masks.map(|mask| mask.view()).collect();
    if views.iter().all(|mask| mask.iter().all(|&v| v != 0)) {
        return Ok(None);
    }
    Ok(Some(labels_to_tensor(&views, Kind::Bool, device)?))
}
