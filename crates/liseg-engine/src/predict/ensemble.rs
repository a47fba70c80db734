//! Several networks, one answer.

use super::Tta;
use crate::Result;
use liseg_nn::SegmentationNet;
use liseg_nn::tch::{Kind, Tensor, no_grad_guard};
use serde::{Deserialize, Serialize};

/// What is averaged over networks. Over flips it is always the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mean {
    /// The softmax maps; the answer is the logarithm of their mean.
    #[default]
    Probabilities,
    /// The logits, as nnU-Net averages its folds.
    Logits,
}

impl std::str::FromStr for Mean {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "probabilities" => Ok(Self::Probabilities),
            "logits" => Ok(Self::Logits),
            _ => Err("expected probabilities or logits".into()),
        }
    }
}

/// Networks that answer together.
#[derive(Clone, Copy)]
pub(super) struct Ensemble<'a> {
    pub(super) networks: &'a [&'a dyn SegmentationNet],
    pub(super) tta: Tta,
    pub(super) mean: Mean,
    /// Of two classes give one channel, the logit of the second minus that of the first: all that
    /// softmax and arg-max look at.
    pub(super) margin: bool,
    /// Add a last channel: how much the networks differ, the mean over pairs of the total variation
    /// distance ½ Σ |p − q| between their softmax maps, in 0..=1.
    pub(super) disagreement: bool,
}

impl Ensemble<'_> {
    /// The logits of a batch of tiles: f32 `[n, 1, z, y, x]` → `[n, channels, z, y, x]`.
    pub(super) fn answer(&self, input: &Tensor) -> Result<Tensor> {
        let _guard = no_grad_guard();
        let mut sum: Option<Tensor> = None;
        let mut maps = Vec::new();
        let several = self.networks.len() > 1;
        for network in self.networks {
            let logits = self.mean_over_flips(*network, input)?;
            let as_probabilities = self.mean == Mean::Probabilities || self.disagreement;
            let softmax = if several && as_probabilities {
                Some(logits.f_softmax(1, Kind::Float)?)
            } else {
                None
            };
            let term = match (&softmax, self.mean) {
                (Some(softmax), Mean::Probabilities) => softmax.shallow_clone(),
                _ => logits,
            };
            sum = Some(match sum {
                None => term,
                Some(sum) => sum.f_add(&term)?,
            });
            maps.extend(softmax.filter(|_| self.disagreement));
        }
        let mut logits = sum.unwrap_or_else(|| input.shallow_clone());
        if several {
            logits = logits.f_mul_scalar(1.0 / self.networks.len() as f64)?;
            if self.mean == Mean::Probabilities {
                logits = logits.f_clamp_min(1e-12)?.f_log()?;
            }
        }
        if self.margin {
            logits = logits
                .f_narrow(1, 1, 1)?
                .f_sub(&logits.f_narrow(1, 0, 1)?)?;
        }
        if self.disagreement {
            let differ = disagreement(&maps, &logits)?;
            logits = Tensor::f_cat(&[logits, differ], 1)?;
        }
        Ok(logits)
    }

    fn mean_over_flips(&self, network: &dyn SegmentationNet, input: &Tensor) -> Result<Tensor> {
        let flips = self.tta.flips();
        let mut sum: Option<Tensor> = None;
        for axes in &flips {
            let output = if axes.is_empty() {
                network.forward(input)?
            } else {
                let flipped = input.f_flip(axes.as_slice())?;
                network.forward(&flipped)?.f_flip(axes.as_slice())?
            };
            sum = Some(match sum {
                None => output,
                Some(mut sum) => sum.f_add_(&output)?,
            });
        }
        let sum = sum.unwrap_or_else(|| input.shallow_clone());
        Ok(if flips.len() == 1 {
            sum
        } else {
            sum.f_mul_scalar(1.0 / flips.len() as f64)?
        })
    }
}

/// One channel; zero where there is nothing to compare.
fn disagreement(maps: &[Tensor], like: &Tensor) -> Result<Tensor> {
    let mut sum = like.f_narrow(1, 0, 1)?.f_zeros_like()?;
    let mut pairs = 0;
    for (i, a) in maps.iter().enumerate() {
        for b in &maps[i + 1..] {
            let differ = a.f_sub(b)?.f_abs()?;
            sum = sum.f_add(&differ.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?)?;
            pairs += 1;
        }
    }
    Ok(sum.f_mul_scalar(0.5 / f64::from(pairs.max(1)))?)
}
