//! How learning rates and loss weights change over a run.

/// Polynomial decay, lr₀ · (1 − i / n)^exponent; 0 from i = n on.
///
/// nnU-Net uses exponent 0.9 and counts epochs.
pub fn polynomial(initial: f64, step: u64, steps: u64, exponent: f64) -> f64 {
    if step >= steps {
        return 0.0;
    }
    initial * (1.0 - step as f64 / steps as f64).powf(exponent)
}

/// Sigmoid-shaped ramp from e⁻⁵ to 1 (Laine & Aila 2017): exp(−5 (1 − clip(i, 0, n) / n)²);
/// 1 when n is 0.
pub fn sigmoid_ramp(step: u64, length: u64) -> f64 {
    if length == 0 {
        return 1.0;
    }
    let phase = 1.0 - step.min(length) as f64 / length as f64;
    (-5.0 * phase * phase).exp()
}

/// Linear warm-up, (i + 1) / n up to 1; 1 when n is 0.
pub fn linear_warm_up(step: u64, length: u64) -> f64 {
    if length == 0 {
        1.0
    } else {
        ((step + 1) as f64 / length as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn polynomial_matches_nnunet() {
        // Values of nnU-Net's PolyLRScheduler.
        assert!((polynomial(0.01, 1, 1000, 0.9) - 0.009990999549834914).abs() < 1e-15);
        assert!((polynomial(0.01, 500, 1000, 0.9) - 0.005358867312681466).abs() < 1e-15);
        assert_eq!(polynomial(0.01, 1000, 1000, 0.9), 0.0);
    }

    proptest! {
        #[test]
        fn ramps_rise_from_almost_nothing_to_one(step in 0u64..2000, length in 1u64..1000) {
            let value = sigmoid_ramp(step, length);
            prop_assert!(value <= sigmoid_ramp(step + 1, length));
            prop_assert!((f64::exp(-5.0) - 1e-12..=1.0).contains(&value));
            if step >= length {
                prop_assert!(value == 1.0 && linear_warm_up(step, length) == 1.0);
            }
        }
    }
}
