//! Soft Dice plus cross-entropy.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What logits are compared with.
#[derive(Debug)]
pub struct Target {
    /// Class of every voxel, int64 `[N, Z, Y, X]`.
    pub label: Tensor,
    /// Voxels that count, bool `[N, Z, Y, X]`; all of them when `None`.
    pub valid: Option<Tensor>,
}

/// Cross-entropy plus soft Dice: L = w_ce · CE + w_dice · (−mean Dice).
///
/// With p = softmax(logits), y the one-hot target and m the valid voxels, for every class c:
///
/// Dice_c = (2 Σ p y m + s) / max(Σ y m + Σ p m + s, 1e-8),  CE = mean over valid voxels of −log p_y
///
/// A class that is absent from the target contributes about 0, as in nnU-Net. Without any valid
/// voxel the cross-entropy is 0. Computed in f32 whatever the format of the logits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DiceCrossEntropy {
    /// Weight of the cross-entropy; nnU-Net: 1.
    pub cross_entropy_weight: f64,
    /// Weight of the Dice term; nnU-Net: 1. Zero leaves plain cross-entropy.
    pub dice_weight: f64,
    /// Smoothing constant s; nnU-Net: 1e-5.
    pub smooth: f64,
    /// One Dice over the whole batch instead of one per sample; nnU-Net: false for a single stage.
    pub batch_dice: bool,
    /// Whether the background counts as a class of the Dice term; nnU-Net: false.
    pub include_background: bool,
}

impl Default for DiceCrossEntropy {
    fn default() -> Self {
        Self {
            cross_entropy_weight: 1.0,
            dice_weight: 1.0,
            smooth: 1e-5,
            batch_dice: false,
            include_background: false,
        }
    }
}

/// The parts of a loss; `total` carries the gradient.
#[derive(Debug)]
pub struct LossTerms {
    /// The weighted sum, a scalar.
    pub total: Tensor,
    /// The cross-entropy, a scalar without gradient.
    pub cross_entropy: Tensor,
    /// Minus the mean Dice, a scalar without gradient.
    pub dice: Tensor,
}

impl DiceCrossEntropy {
    /// Plain cross-entropy.
    pub fn cross_entropy() -> Self {
        Self {
            dice_weight: 0.0,
            ..Self::default()
        }
    }

    /// The loss of logits `[N, C, Z, Y, X]` against a target on the same grid.
    ///
    /// # Errors
    /// [`Error::Shape`] when the grids differ; when libtorch fails.
    pub fn terms(&self, logits: &Tensor, target: &Target) -> Result<LossTerms> {
        let (n, _, z, y, x) = logits.size5()?;
        if target.label.size() != [n, z, y, x] {
            return Err(Error::Shape {
                what: "target".into(),
                expected: format!("{:?} as the logits", [n, z, y, x]),
                found: target.label.size(),
            });
        }
        let log_p = logits.f_log_softmax(1, Kind::Float)?;
        let label = target.label.f_unsqueeze(1)?;
        let valid = match &target.valid {
            Some(valid) => Some(valid.f_unsqueeze(1)?.f_to_kind(Kind::Float)?),
            None => None,
        };
        let cross_entropy = cross_entropy(&log_p, &label, valid.as_ref())?;
        let weighted = cross_entropy.f_mul_scalar(self.cross_entropy_weight)?;
        if self.dice_weight == 0.0 {
            let none = cross_entropy.f_detach()?.f_zeros_like()?;
            return Ok(LossTerms {
                total: weighted,
                cross_entropy: cross_entropy.f_detach()?,
                dice: none,
            });
        }
        let dice = self.dice(&log_p.f_exp()?, &label, valid.as_ref())?;
        Ok(LossTerms {
            total: weighted.f_add(&dice.f_mul_scalar(self.dice_weight)?)?,
            cross_entropy: cross_entropy.f_detach()?,
            dice: dice.f_detach()?,
        })
    }

    fn dice(&self, p: &Tensor, label: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
        let one = Tensor::f_ones([], (Kind::Float, p.device()))?;
        let mut y = p.f_detach()?.f_zeros_like()?;
        let _ = y.f_scatter_value_(1, label, one.f_double_value(&[])?)?;
        let (p, y) = match valid {
            Some(m) => (p.f_mul(m)?, y.f_mul(m)?),
            None => (p.shallow_clone(), y),
        };
        let axes: &[i64] = if self.batch_dice {
            &[0, 2, 3, 4]
        } else {
            &[2, 3, 4]
        };
        let sum = |t: &Tensor| t.f_sum_dim_intlist(axes, false, Kind::Float);
        let numerator = sum(&p.f_mul(&y)?)?
            .f_mul_scalar(2.0)?
            .f_add_scalar(self.smooth)?;
        let denominator = sum(&y)?
            .f_add(&sum(&p)?)?
            .f_add_scalar(self.smooth)?
            .f_clamp_min(1e-8)?;
        let dice = numerator.f_div(&denominator)?;
        let classes = *dice.size().last().unwrap_or(&1);
        let skipped = if self.include_background || classes == 1 {
            0
        } else {
            1
        };
        let dice = dice.f_narrow(-1, skipped, classes - skipped)?;
        Ok(dice.f_mean(Kind::Float)?.f_neg()?)
    }
}

fn cross_entropy(log_p: &Tensor, label: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
    let per_voxel = log_p.f_gather(1, label, false)?.f_neg()?;
    Ok(match valid {
        None => per_voxel.f_mean(Kind::Float)?,
        Some(m) => {
            let count = m.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
            per_voxel.f_mul(m)?.f_sum(Kind::Float)?.f_div(&count)?
        }
    })
}
