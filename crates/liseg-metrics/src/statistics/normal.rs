//! The standard normal distribution.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Φ(z), the probability of a value up to `z`.
pub(super) fn cumulative(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// 1 − Φ(z), exact far out in the tail.
pub(super) fn tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// Φ⁻¹(p) by bisection followed by Newton's method; ±∞ at 0 and 1.
pub(super) fn quantile(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (-39.0, 39.0);
    for _ in 0..30 {
        let middle = 0.5 * (low + high);
        if cumulative(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut z = 0.5 * (low + high);
    for _ in 0..4 {
        let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
        if density > 0.0 {
            z -= (cumulative(z) - p) / density;
        }
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_quantiles() {
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-13);
        assert!((quantile(0.5)).abs() < 1e-15);
        assert!((quantile(1e-10) + 6.361_340_902_404_056).abs() < 1e-9);
        assert_eq!(quantile(0.0), f64::NEG_INFINITY);
        for z in [-5.0, -1.0, 0.3, 4.0] {
            assert!((quantile(cumulative(z)) - z).abs() < 1e-9);
            assert!((cumulative(z) + tail(z) - 1.0).abs() < 1e-15);
        }
    }
}
