//! Clipping gradients, and noticing when they are no numbers.

use crate::{Parameters, Result, shim};
use tch::Kind;

/// The global L2 norm of all gradients of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientNorm(pub f64);

impl GradientNorm {
    /// Whether every gradient was a finite number.
    pub fn is_finite(self) -> bool {
        self.0.is_finite()
    }
}

/// Scales all gradients down together when their global L2 norm exceeds `max_norm`:
/// g ← g · min(1, max_norm / (norm + 1e-6)).
///
/// Returns the norm before clipping. When it is not finite nothing is scaled, so the caller can
/// refuse the step; PyTorch's function would scale every gradient to NaN there.
///
/// # Errors
/// When libtorch fails.
pub fn clip_gradients(parameters: &Parameters, max_norm: f64) -> Result<GradientNorm> {
    let _guard = tch::no_grad_guard();
    let gradients = parameters.gradients()?;
    if gradients.is_empty() {
        return Ok(GradientNorm(0.0));
    }
    // One number crosses from the device, not one for every parameter.
    let norm = shim::norms(&gradients)?.f_to_kind(Kind::Double)?.f_norm()?;
    let norm = GradientNorm(norm.f_double_value(&[])?);
    let factor = max_norm / (norm.0 + 1e-6);
    if norm.is_finite() && factor < 1.0 {
        shim::scale(&gradients, factor)?;
    }
    Ok(norm)
}
