//! Elementary functions without branches or tables, so that loops over them are vectorised.

/// Added to a small number, it leaves the nearest whole number in the last bits: 1.5 · 2²³.
const SHIFT: f32 = 12_582_912.0;

/// 2^x for −126 ≤ x ≤ 127, to 2e-7 of the result; smaller x count as −126.
///
/// The polynomial of degree 5 is the best on −½..½ with 1 and ln 2 in front, fitted by linear
/// programming. It is evaluated in pairs of terms: a processor has few long chains of operations in
/// flight at a time.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let x = if x > -126.0 { x } else { -126.0 };
    let shifted = x + SHIFT;
    let f = x - (shifted - SHIFT);
    let square = f * f;
    let high = 1.330_026_4e-3f32 * f + 9.669_708e-3;
    let middle = 5.550_56e-2 * f + 2.402_228_1e-1;
    let low = std::f32::consts::LN_2 * f + 1.0;
    let p = (high * square + middle) * square + low;
    // The nearest whole number is in the last bits of the sum: here they become the exponent.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// log₂ of a positive normal number, to 1e-7 absolutely or 6e-7 of the result. Zero gives −127.
///
/// The mantissa is brought to √½..√2; log₂(1 + f) / f is a polynomial of degree 7, fitted and
/// evaluated as that of [`exp2`].
#[inline(always)]
pub(crate) fn log2(x: f32) -> f32 {
    const ROOT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(ROOT_HALF);
    let exponent = (bits as i32) >> 23;
    let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(ROOT_HALF));
    let f = mantissa - 1.0;
    let square = f * f;
    let high =
        (-1.457_445e-1f32 * f + 2.368_903_8e-1) * square + (-2.500_690_2e-1 * f + 2.867_074_6e-1);
    let low =
        (-3.600_872_2e-1f32 * f + 4.809_394_5e-1) * square + (-7.213_571_7e-1 * f + 1.442_694_8);
    (high * (square * square) + low) * f + exponent as f32
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
