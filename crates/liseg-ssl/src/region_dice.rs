//! Soft Dice over a region, in the conventions of the published semi-supervised methods.

use crate::Result;
use liseg_nn::tch::{Kind, Tensor};
use serde::{Deserialize, Serialize};

/// Which Dice loss. All include the background, average over classes and are
/// 1 − (2 Σ p t + ε) / (denominator + ε) for every class; an empty region costs 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RegionDice {
    /// Per sample, Σ p + Σ t, ε = 1e-5: BCP in 3-D. Samples do not couple.
    SampleLinear,
    /// Over the batch, Σ p² + Σ t², ε = 1e-10: MiDSS with the region applied to every class.
    BatchSquare,
    /// As [`Self::BatchSquare`], but the region is not applied to the background: what MiDSS
    /// published.
    BatchSquareBackgroundUnmasked,
    /// As [`Self::BatchSquare`] with ε = 1e-5: the usual medical baselines.
    BatchSquareEps5,
}

impl RegionDice {
    /// Whether samples of a batch couple, so that micro-batches would change the loss.
    pub fn couples_samples(self) -> bool {
        self != Self::SampleLinear
    }

    /// The loss, a scalar with gradient. `p`: probabilities `[n, classes, z, y, x]`; `label`: int64
    /// `[n, z, y, x]`; `region`: the voxels that count, `[n, z, y, x]` or broadcastable, all when
    /// `None`.
    ///
    /// # Errors
    /// When shapes do not fit or libtorch fails.
    pub fn loss(self, p: &Tensor, label: &Tensor, region: Option<&Tensor>) -> Result<Tensor> {
        let mut target = p.f_detach()?.f_zeros_like()?;
        let _ = target.f_scatter_value_(1, &label.f_unsqueeze(1)?, 1.0)?;
        let mask = match region {
            Some(region) => self.class_mask(p, region)?,
            None => target.f_ones_like()?,
        };
        let (axes, squared, epsilon): (&[i64], bool, f64) = match self {
            Self::SampleLinear => (&[2, 3, 4], false, 1e-5),
            Self::BatchSquareEps5 => (&[0, 2, 3, 4], true, 1e-5),
            _ => (&[0, 2, 3, 4], true, 1e-10),
        };
        let sum = |t: &Tensor| t.f_mul(&mask)?.f_sum_dim_intlist(axes, false, Kind::Float);
        let size = if squared {
            sum(&p.f_square()?)?
        } else {
            sum(p)?
        };
        let numerator = sum(&p.f_mul(&target)?)?
            .f_mul_scalar(2.0)?
            .f_add_scalar(epsilon)?;
        // A one-hot target is its own square.
        let denominator = size.f_add(&sum(&target)?)?.f_add_scalar(epsilon)?;
        let dice = numerator.f_div(&denominator)?.f_mean(Kind::Float)?;
        Ok(dice.f_neg()?.f_add_scalar(1.0)?)
    }

    fn class_mask(self, p: &Tensor, region: &Tensor) -> Result<Tensor> {
        let mask = region.f_to_kind(Kind::Float)?.f_unsqueeze(-4)?;
        if self != Self::BatchSquareBackgroundUnmasked {
            return Ok(mask.f_expand_as(p)?);
        }
        // A copy: the caller's region must not change with it.
        let mask = mask.f_expand_as(p)?.f_detach_copy()?;
        let _ = mask.f_select(1, 0)?.f_fill_(1.0)?;
        Ok(mask)
    }
}

/// Mean of the cross-entropy over a region, over the whole batch: Σ ℓ m / (Σ m + 1e-16).
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn region_cross_entropy(log_p: &Tensor, label: &Tensor, region: &Tensor) -> Result<Tensor> {
    let per_voxel = voxel_cross_entropy(log_p, label)?;
    let mask = region.f_to_kind(Kind::Float)?.f_expand_as(&per_voxel)?;
    let count = mask.f_sum(Kind::Float)?.f_add_scalar(1e-16)?;
    Ok(per_voxel.f_mul(&mask)?.f_sum(Kind::Float)?.f_div(&count)?)
}

/// −log p of the label of every voxel, `[n, z, y, x]`.
pub(crate) fn voxel_cross_entropy(log_p: &Tensor, label: &Tensor) -> Result<Tensor> {
    let picked = log_p.f_gather(1, &label.f_unsqueeze(1)?, false)?;
    Ok(picked.f_squeeze_dim(1)?.f_neg()?)
}
