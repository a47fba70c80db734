//! Labels made from a teacher's answer.

use crate::Result;
use liseg_morphology::{Connectivity, Ties, keep_largest};
use liseg_nn::bridge::{labels_to_tensor, tensor_to_labels};
use liseg_nn::tch::{Kind, Tensor};

/// The hard label of every voxel, int64 `[n, z, y, x]`, of logits `[n, classes, z, y, x]`.
///
/// With two classes a foreground probability of exactly ½ is foreground (as BCP has it), where an
/// argmax would say background; with more classes it is the argmax.
///
/// # Errors
/// When libtorch fails.
pub fn hard_labels(logits: &Tensor) -> Result<Tensor> {
    let p = logits.f_detach()?.f_softmax(1, Kind::Float)?;
    if p.size().get(1) == Some(&2) {
        return Ok(p.f_select(1, 1)?.f_ge(0.5)?.f_to_kind(Kind::Int64)?);
    }
    Ok(p.f_argmax(1, false)?)
}

/// Keeps only the largest component of each sample's foreground (label > 0), the first in storage
/// order of several; an empty foreground stays empty. Runs on the CPU.
///
/// # Errors
/// When libtorch fails.
pub fn clean(label: &Tensor, connectivity: Connectivity) -> Result<Tensor> {
    let mut masks = Vec::new();
    for sample in 0..label.size().first().copied().unwrap_or(0) {
        let foreground = tensor_to_labels(&label.f_select(0, sample)?.f_gt(0)?)?;
        let kept = keep_largest(foreground.mapv(|v| v > 0).view(), connectivity, Ties::First);
        masks.push(kept.mapv(u8::from));
    }
    let views: Vec<_> = masks.iter().map(|mask| mask.view()).collect();
    let kept = labels_to_tensor(&views, Kind::Int64, label.device())?;
    Ok(label.f_mul(&kept)?)
}

/// The argmax of logits and its probability, both without gradient: int64 and f32 `[n, z, y, x]`.
///
/// # Errors
/// When libtorch fails.
pub fn label_and_confidence(logits: &Tensor) -> Result<(Tensor, Tensor)> {
    let p = logits.f_detach()?.f_softmax(1, Kind::Float)?;
    let (confidence, label) = p.f_max_dim(1, false)?;
    Ok((label, confidence))
}

/// The argmax of logits and whether its softmax is above `threshold` (strictly), both without
/// gradient: int64 and bool `[n, z, y, x]`.
///
/// # Errors
/// When libtorch fails.
pub fn confident_labels(logits: &Tensor, threshold: f64) -> Result<(Tensor, Tensor)> {
    let (label, confidence) = label_and_confidence(logits)?;
    Ok((label, confidence.f_gt(threshold)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_morphology::connected_components;
    use liseg_nn::tch::Device;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cleaning_is_idempotent_and_takes_a_subset(bits in proptest::collection::vec(0i64..2, 60)) {
            let label = Tensor::from_slice(&bits).view([1, 3, 4, 5]);
            for connectivity in [Connectivity::Face, Connectivity::Edge, Connectivity::Vertex] {
                let once = clean(&label, connectivity).unwrap();
                prop_assert!(clean(&once, connectivity).unwrap().equal(&once));
                prop_assert_eq!((&label - &once).min().int64_value(&[]), 0);
                prop_assert_eq!(once.max().int64_value(&[]), label.max().int64_value(&[]));
                let kept = tensor_to_labels(&once.select(0, 0).gt(0)).unwrap().mapv(|v| v > 0);
                prop_assert!(connected_components(kept.view(), connectivity).count() <= 1);
            }
        }

        #[test]
        fn a_threshold_below_chance_trusts_all_and_one_trusts_none(values in proptest::collection::vec(-9.0f32..9.0, 24)) {
            let logits = Tensor::from_slice(&values).view([1, 2, 2, 2, 3]);
            let share = |threshold: f64| {
                let (_, sure) = confident_labels(&logits, threshold).unwrap();
                sure.to_kind(Kind::Float).mean(Kind::Float).double_value(&[])
            };
            prop_assert!(share(0.49) == 1.0 && share(1.0) == 0.0);
        }
    }

    #[test]
    fn one_half_is_foreground() {
        let even = Tensor::zeros([1, 2, 1, 1, 1], (Kind::Float, Device::Cpu));
        assert_eq!(hard_labels(&even).unwrap().int64_value(&[0, 0, 0, 0]), 1);
    }
}
