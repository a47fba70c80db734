//! Elementary functions without branches or tables, so that loops over them are vectorised.

/// 2^x for −126 ≤ x ≤ 127, to 2e-7 of the result; smaller x count as −126.
///
/// The polynomial is Cephes' `exp2f` (Moshier 1992) around the nearest whole number.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let x = if x > -126.0 { x } else { -126.0 };
    let (whole, number) = round(x);
    let f = x - whole;
    let mut p = 1.535_336_2e-4f32;
    p = p * f + 1.339_887_4e-3;
    p = p * f + 9.618_437e-3;
    p = p * f + 5.550_332_7e-2;
    p = p * f + 2.402_264_8e-1;
    p = p * f + 6.931_472e-1;
    p = p * f + 1.0;
    let power = (number.wrapping_add(127) << 23) as u32;
    p * f32::from_bits(power)
}

/// log₂ of a positive normal number, to 2e-7 absolutely or of the result. Zero gives −127.
///
/// Cephes' `log2f`: the mantissa is brought to √½..√2 and the rest is a polynomial.
#[inline(always)]
pub(crate) fn log2(x: f32) -> f32 {
    const ROOT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(ROOT_HALF);
    let exponent = (bits as i32) >> 23;
    let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(ROOT_HALF));
    let f = mantissa - 1.0;
    let mut p = 7.037_683_6e-2f32;
    p = p * f - 1.151_461e-1;
    p = p * f + 1.167_699_9e-1;
    p = p * f - 1.242_014_1e-1;
    p = p * f + 1.424_932_3e-1;
    p = p * f - 1.666_805_8e-1;
    p = p * f + 2.000_071_5e-1;
    p = p * f - 2.499_999_4e-1;
    p = p * f + 3.333_333e-1;
    let square = f * f;
    // ln(1 + f) = f − f²/2 + f³ p
    let natural = f + (square * f * p - 0.5 * square);
    natural * std::f32::consts::LOG2_E + exponent as f32
}

/// x^power for 0 ≤ x ≤ 1 and a positive power.
#[inline(always)]
pub(crate) fn power_of_unit(x: f32, power: f32) -> f32 {
    let raised = exp2(power * log2(x));
    if x > 0.0 { raised } else { 0.0 }
}

/// Cosine and sine of 2π `turn`, for 0 ≤ `turn` < 1, to 2e-7.
#[inline(always)]
pub(crate) fn cos_sin_of_turn(turn: f32) -> (f32, f32) {
    let quarters = turn * 4.0;
    let (whole, quadrant) = round(quarters);
    let angle = (quarters - whole) * std::f32::consts::FRAC_PI_2;
    let square = angle * angle;
    let sine = {
        let mut p = -1.951_529_6e-4f32;
        p = p * square + 8.332_161e-3;
        p = p * square - 1.666_665_5e-1;
        p * square * angle + angle
    };
    let cosine = {
        let mut p = 2.443_315_7e-5f32;
        p = p * square - 1.388_731_6e-3;
        p = p * square + 4.166_664_6e-2;
        p * square * square - 0.5 * square + 1.0
    };
    let (c, s) = if quadrant & 1 == 1 {
        (sine, cosine)
    } else {
        (cosine, sine)
    };
    let flip_cosine = ((quadrant + 1) as u32 & 2) << 30;
    let flip_sine = (quadrant as u32 & 2) << 30;
    (
        f32::from_bits(c.to_bits() ^ flip_cosine),
        f32::from_bits(s.to_bits() ^ flip_sine),
    )
}

/// The nearest whole number for |x| < 2²², as both kinds of number. Rust's conversion to an integer
/// looks for numbers that do not fit, one by one; here the last bits of a sum are the integer.
#[inline(always)]
fn round(x: f32) -> (f32, i32) {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2²³
    let shifted = x + SHIFT;
    let number = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    (shifted - SHIFT, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_agree_with_those_of_the_standard_library() {
        for k in 0..20_000u32 {
            let x = (f64::from(k) * 0.012_5 - 125.0) as f32;
            let (found, expected) = (f64::from(exp2(x)), f64::from(x).exp2());
            assert!((found / expected - 1.0).abs() < 3e-7, "2^{x}: {found}");

            let x = ((f64::from(k) + 1.0) / 20_000.0) as f32;
            let (found, expected) = (f64::from(log2(x)), f64::from(x).log2());
            let bound = 3e-7 * expected.abs().max(1.0);
            assert!((found - expected).abs() < bound, "log2 {x}: {found}");
            for power in [0.7f32, 1.0, 1.5] {
                let found = f64::from(power_of_unit(x, power));
                let expected = f64::from(x).powf(f64::from(power));
                assert!((found - expected).abs() < 6e-7, "{x}^{power}: {found}");
            }

            let turn = (f64::from(k) / 20_000.0) as f32;
            let angle = f64::from(turn) * std::f64::consts::TAU;
            let (c, s) = cos_sin_of_turn(turn);
            assert!((f64::from(c) - angle.cos()).abs() < 3e-7, "cos {turn}: {c}");
            assert!((f64::from(s) - angle.sin()).abs() < 3e-7, "sin {turn}: {s}");
        }
        assert!(power_of_unit(0.0, 0.7).abs() < f32::MIN_POSITIVE);
    }
}
