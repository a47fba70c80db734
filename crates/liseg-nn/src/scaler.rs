//! Scaling the loss, so that small gradients survive half precision.

use crate::{Parameters, Result, shim};
use serde::{Deserialize, Serialize};

/// The factor of the first step, 2¹⁶, as in PyTorch.
const FIRST_SCALE: f64 = 65_536.0;

/// Steps without an overflow after which the factor doubles, as in PyTorch.
const GROWTH_INTERVAL: u64 = 2000;

/// Below this an overflow is no matter of scale: something is wrong with the loss itself.
const LEAST_SCALE: f64 = 1.0;

/// A factor on the loss of half-precision training that grows while gradients stay finite and is halved
/// when they overflow.
///
/// # Source
/// Micikevicius et al. 2018, ICLR; the constants of PyTorch's `GradScaler`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradientScaler {
    scale: f64,
    good_steps: u64,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaledStep {
    /// Gradients were finite; the weights moved.
    Taken,
    /// Gradients overflowed; the step was left out and the scale halved.
    Skipped,
    /// Gradients are not finite however small the scale: the loss itself is broken.
    Broken,
}

impl Default for GradientScaler {
    fn default() -> Self {
        Self {
            scale: FIRST_SCALE,
            good_steps: 0,
        }
    }
}

impl GradientScaler {
    /// What losses are to be multiplied by before their backward pass.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Divides all gradients by the scale.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn unscale(&self, parameters: &Parameters) -> Result<()> {
        let _guard = tch::no_grad_guard();
        shim::scale(&parameters.gradients()?, 1.0 / self.scale)
    }

    /// Adapts the scale to a step whose gradients were all `finite` or not.
    pub fn update(&mut self, finite: bool) -> ScaledStep {
        if finite {
            self.good_steps += 1;
            if self.good_steps == GROWTH_INTERVAL {
                self.scale *= 2.0;
                self.good_steps = 0;
            }
            return ScaledStep::Taken;
        }
        self.good_steps = 0;
        if self.scale <= LEAST_SCALE {
            return ScaledStep::Broken;
        }
        self.scale *= 0.5;
        ScaledStep::Skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Optimiser, OptimiserConfig, clip_gradients};
    use tch::{Device, Kind, Tensor};

    #[test]
    fn the_scale_grows_slowly_and_falls_at_once() {
        let mut scaler = GradientScaler::default();
        for _ in 0..GROWTH_INTERVAL - 1 {
            assert_eq!(scaler.update(true), ScaledStep::Taken);
        }
        assert_eq!(scaler.scale(), FIRST_SCALE);
        scaler.update(true);
        assert_eq!(scaler.scale(), 2.0 * FIRST_SCALE);
        assert_eq!(scaler.update(false), ScaledStep::Skipped);
        assert_eq!(scaler.scale(), FIRST_SCALE);
        for _ in 0..16 {
            assert_eq!(scaler.update(false), ScaledStep::Skipped);
        }
        assert_eq!(
            (scaler.scale(), scaler.update(false)),
            (1.0, ScaledStep::Broken)
        );
        let text = serde_json::to_string(&scaler).unwrap();
        assert_eq!(
            serde_json::from_str::<GradientScaler>(&text).unwrap(),
            scaler
        );
    }

    /// Gradients of 1e-6 vanish in halves; scaled they do not. An overflow leaves the weights alone.
    #[test]
    fn small_gradients_survive_half_precision_and_overflows_are_skipped() {
        let mut p = Parameters::new(Device::Cpu);
        let w = p.add("w", Tensor::from_slice(&[1.0f32, 1.0])).unwrap();
        let config = OptimiserConfig::Sgd {
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        };
        let mut optimiser = Optimiser::new(config, &p).unwrap();
        let mut scaler = GradientScaler::default();
        let mut step = |slope: f64, scaler: &mut GradientScaler| {
            p.zero_grad().unwrap();
            // The gradient passes through a half: slope · scale must fit, and must not round to zero.
            let loss = (w.to_kind(Kind::Half) * 1.0)
                .to_kind(Kind::Float)
                .sum(Kind::Float)
                * slope;
            (loss * scaler.scale()).backward();
            scaler.unscale(&p).unwrap();
            let norm = clip_gradients(&p, 1e9).unwrap();
            if norm.is_finite() {
                optimiser.step(&p, 1.0).unwrap();
            }
            scaler.update(norm.is_finite())
        };
        assert_eq!(step(1e-8, &mut scaler), ScaledStep::Taken);
        assert!((w.double_value(&[0]) - (1.0 - 1e-8)).abs() < 1e-7);
        assert!((p.get("w").unwrap().grad().double_value(&[0]) / 1e-8 - 1.0).abs() < 1e-2);
        let before = w.double_value(&[1]);
        assert_eq!(step(10.0, &mut scaler), ScaledStep::Skipped);
        assert_eq!(w.double_value(&[1]), before);
        let mut taken = 0;
        while step(10.0, &mut scaler) == ScaledStep::Skipped {
            taken += 1;
        }
        assert!(taken <= 5, "a scale that fits is found at once");
        assert!((w.double_value(&[1]) - (before - 10.0)).abs() < 1e-2);
    }
}
