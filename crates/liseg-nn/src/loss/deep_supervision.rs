//! One loss at every scale of the decoder.

use super::{DiceCrossEntropy, LossTerms, Target};
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// The same loss at every scale, finest first, with weights that halve from scale to scale.
///
/// The coarsest of several scales gets weight 0 and the weights sum to 1, as in nnU-Net: five
/// scales give 8/15, 4/15, 2/15, 1/15, 0.
#[derive(Debug, Clone)]
pub struct DeepSupervision {
    loss: DiceCrossEntropy,
}

impl DeepSupervision {
    /// Applies `loss` at every scale.
    pub fn new(loss: DiceCrossEntropy) -> Self {
        Self { loss }
    }

    /// The weights of `scales` scales, finest first.
    pub fn weights(scales: usize) -> Vec<f64> {
        if scales <= 1 {
            return vec![1.0; scales];
        }
        let mut weights: Vec<f64> = (0..scales).map(|i| 0.5f64.powi(i as i32)).collect();
        weights[scales - 1] = 0.0;
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
        weights
    }

    /// The weighted loss over all scales against a target at full resolution, which is brought to
    /// the coarser grids by [`downsample_target`]. The reported parts are those of the finest.
    ///
    /// # Errors
    /// [`Error::Shape`] without scales or when the grids do not fit; when libtorch fails.
    pub fn terms(&self, scales: &[Tensor], target: &Target) -> Result<LossTerms> {
        let Some((finest, coarser)) = scales.split_first() else {
            return Err(Error::Shape {
                what: "the list of logits".into(),
                expected: "at least one scale".into(),
                found: vec![0],
            });
        };
        let weights = Self::weights(scales.len());
        let terms = self.loss.terms(finest, target)?;
        let mut total = terms.total.f_mul_scalar(weights[0])?;
        for (logits, &weight) in coarser.iter().zip(&weights[1..]) {
            if weight == 0.0 {
                continue;
            }
            let (_, _, z, y, x) = logits.size5()?;
            let coarse = Target {
                label: downsample_target(&target.label, [z, y, x])?,
                valid: match &target.valid {
                    Some(valid) => Some(downsample_target(valid, [z, y, x])?),
                    None => None,
                },
            };
            let term = self.loss.terms(logits, &coarse)?.total;
            total = total.f_add(&term.f_mul_scalar(weight)?)?;
        }
        Ok(LossTerms { total, ..terms })
    }
}

/// A map `[N, Z, Y, X]` on a coarser grid: each new voxel takes the old one nearest to its centre,
/// index ⌊(k + ½) · n / m⌋ ("nearest-exact").
///
/// # Errors
/// When libtorch fails.
pub fn downsample_target(map: &Tensor, shape: [i64; 3]) -> Result<Tensor> {
    let mut map = map.shallow_clone();
    for (axis, &new) in shape.iter().enumerate() {
        let axis = axis as i64 + 1;
        let old = map.size()[axis as usize];
        if old == new || new == 0 {
            continue;
        }
        let centre = |k: i64| ((2 * k + 1) * old / (2 * new)).min(old - 1);
        let index: Vec<i64> = (0..new).map(centre).collect();
        let index = Tensor::f_from_slice(&index)?.f_to_device(map.device())?;
        map = map.f_index_select(axis, &index.f_to_kind(Kind::Int64)?)?;
    }
    Ok(map)
}
