//! Low-frequency amplitudes of one image with the phases of another.

use crate::Result;
use liseg_nn::tch::{Kind, Tensor};

/// The low frequencies that are mixed: |k| ≤ half width along every axis (z, y, x), a box around
/// the mean. An axis of `None` is not transformed: each of its slices is mixed on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrequencyWindow {
    /// Half widths in coefficients, (z, y, x).
    pub half_width: [Option<usize>; 3],
}

impl FrequencyWindow {
    /// max(1, ⌊β n⌋) coefficients along every axis of a patch of `shape`.
    ///
    /// The original, in 2-D, takes ⌊0.01 · shortest side⌋, which is 0 below 100 voxels and would
    /// mix nothing but the mean of most 3-D patches.
    pub fn of_share(shape: [usize; 3], beta: f64) -> Self {
        Self {
            half_width: shape.map(|n| Some(published_half_width(n, beta).max(1))),
        }
    }

    /// The same within the slices only; neighbouring slices are mixed independently.
    pub fn in_plane(shape: [usize; 3], beta: f64) -> Self {
        let [_, y, x] = Self::of_share(shape, beta).half_width;
        Self {
            half_width: [None, y, x],
        }
    }

    /// The transformed axes, counted from the last.
    fn axes(self) -> Vec<i64> {
        (0..3)
            .filter(|&axis| self.half_width[axis].is_some())
            .map(|axis| axis as i64 - 3)
            .collect()
    }

    /// Whether a coefficient lies in the window: bool, broadcastable to the half spectrum of images
    /// `[.., z, y, x]`.
    fn mask(self, image: &Tensor) -> Result<Tensor> {
        let size = image.size();
        let mut mask = Tensor::f_ones([1, 1, 1], (Kind::Bool, image.device()))?;
        let last = self.axes().last().copied();
        for (axis, width) in self.half_width.into_iter().enumerate() {
            let Some(width) = width else { continue };
            let n = size[size.len() - 3 + axis] as usize;
            // The last transformed axis holds frequencies 0..=n/2 only: the rest is conjugate.
            let kept = if last == Some(axis as i64 - 3) {
                n / 2 + 1
            } else {
                n
            };
            let inside: Vec<bool> = (0..kept).map(|k| k.min(n - k) <= width).collect();
            let mut shape = [1i64; 3];
            shape[axis] = kept as i64;
            let inside = Tensor::f_from_slice(&inside)?
                .f_view(shape)?
                .f_to_device(image.device())?;
            mask = mask.f_logical_and(&inside)?;
        }
        Ok(mask)
    }
}

/// ⌊β n⌋, the half width of the published window for a shortest side of `n` pixels.
pub fn published_half_width(n: usize, beta: f64) -> usize {
    (beta * n as f64).floor() as usize
}

/// `source` with amplitudes (1 − λ) |F_source| + λ |F_target| inside the window and its own phases
/// everywhere, without any offset or clipping.
///
/// `source`, `target`: f32 `[n, channels, z, y, x]`; `lambda`: one number for every sample, f32
/// `[n]`. A coefficient of amplitude 0 has phase 0.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn mix_spectra(
    source: &Tensor,
    target: &Tensor,
    lambda: &Tensor,
    window: FrequencyWindow,
) -> Result<Tensor> {
    let axes = window.axes();
    if axes.is_empty() {
        return Ok(source.f_detach_copy()?);
    }
    let image = source.f_to_kind(Kind::Float)?;
    let of_source = image.f_fft_rfftn(None::<&[i64]>, axes.as_slice(), "backward")?;
    let of_target =
        target
            .f_to_kind(Kind::Float)?
            .f_fft_rfftn(None::<&[i64]>, axes.as_slice(), "backward")?;
    let lambda = lambda
        .f_to_device(source.device())?
        .f_to_kind(Kind::Float)?
        .f_view([-1, 1, 1, 1, 1])?;
    let own = of_source.f_abs()?;
    let amplitude = own.f_add(&of_target.f_abs()?.f_sub(&own)?.f_mul(&lambda)?)?;
    let mixed = Tensor::f_polar(&amplitude, &of_source.f_angle()?)?;
    let spectrum = mixed.f_where_self(&window.mask(&image)?, &of_source)?;
    let size = image.size();
    let sizes: Vec<i64> = axes
        .iter()
        .map(|&axis| size[(size.len() as i64 + axis) as usize])
        .collect();
    Ok(spectrum.f_fft_irfftn(sizes.as_slice(), axes.as_slice(), "backward")?)
}

/// Mixes the low-frequency amplitudes of `target` into `source` (Ma et al., CVPR 2024, after Yang &
/// Soatto, CVPR 2020): the style of one scan, the anatomy of the other.
///
/// Normalised MRI is signed, and the phase of a mean is 0 or π: amplitudes of such data would mix
/// |mean|s. So the joint minimum of each pair and channel is subtracted before and added after; the
/// result is clipped to the joint range.
///
/// `source`, `target`: f32 `[n, channels, z, y, x]`, paired sample by sample; `lambda`: the share
/// of the target for every sample, 0..=1.
///
/// # Errors
/// When shapes do not fit or libtorch fails.
pub fn mix_amplitudes(
    source: &Tensor,
    target: &Tensor,
    lambda: &[f64],
    window: FrequencyWindow,
) -> Result<Tensor> {
    const VOXELS: [i64; 3] = [-3, -2, -1];
    let low = |t: &Tensor| t.f_amin(VOXELS.as_slice(), true);
    let high = |t: &Tensor| t.f_amax(VOXELS.as_slice(), true);
    let floor = low(source)?.f_minimum(&low(target)?)?;
    let ceiling = high(source)?.f_maximum(&high(target)?)?;
    let lambda = Tensor::f_from_slice(lambda)?;
    let mixed = mix_spectra(
        &source.f_sub(&floor)?,
        &target.f_sub(&floor)?,
        &lambda,
        window,
    )?;
    Ok(mixed
        .f_add(&floor)?
        .f_maximum(&floor)?
        .f_minimum(&ceiling)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: [i64; 5] = [2, 1, 5, 6, 8];

    fn image(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).view(SHAPE)
    }

    fn pair() -> impl Strategy<Value = (Tensor, Tensor)> {
        let values = || proptest::collection::vec(-3.0f32..4.0, 480);
        (values(), values()).prop_map(|(a, b)| (image(&a), image(&b)))
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    fn windows() -> [FrequencyWindow; 3] {
        [
            FrequencyWindow {
                half_width: [Some(1), Some(1), Some(2)],
            },
            FrequencyWindow {
                half_width: [None, Some(1), Some(1)],
            },
            FrequencyWindow {
                half_width: [Some(9); 3],
            },
        ]
    }

    fn spectrum(t: &Tensor) -> Tensor {
        t.fft_fftn(None::<&[i64]>, [-3i64, -2, -1].as_slice(), "backward")
    }

    /// Whether a coefficient of the full spectrum lies in a window over all axes.
    fn inside(half_width: [usize; 3]) -> Tensor {
        let n = [5usize, 6, 8];
        let near = |k: usize, axis: usize| k.min(n[axis] - k) <= half_width[axis];
        let all: Vec<bool> = (0..5)
            .flat_map(|z| (0..6).flat_map(move |y| (0..8).map(move |x| [z, y, x])))
            .map(|k| (0..3).all(|axis| near(k[axis], axis)))
            .collect();
        Tensor::from_slice(&all).view([5, 6, 8])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(3)))]

        #[test]
        fn no_share_or_an_equal_target_changes_nothing((a, b) in pair()) {
            for window in windows() {
                prop_assert!(difference(&mix_amplitudes(&a, &b, &[0.0, 0.0], window).unwrap(), &a) < 1e-4);
                prop_assert!(difference(&mix_amplitudes(&a, &a, &[0.7, 1.0], window).unwrap(), &a) < 1e-4);
            }
        }

        #[test]
        fn a_full_window_takes_all_amplitudes_and_no_phase((a, b) in pair()) {
            let window = FrequencyWindow { half_width: [Some(9); 3] };
            let mixed = mix_spectra(&a, &b, &Tensor::from_slice(&[1.0f32, 1.0]), window).unwrap();
            prop_assert!(difference(&spectrum(&mixed).abs(), &spectrum(&b).abs()) < 2e-3);
            // Phases agree where the amplitude is large enough to have one.
            let (own, new) = (spectrum(&a), spectrum(&mixed));
            let cross = (&new * own.conj()).resolve_conj();
            let along = cross.real() - cross.abs();
            prop_assert!((along / (cross.abs() + 1.0)).abs().max().double_value(&[]) < 1e-2);
        }

        #[test]
        fn a_window_of_the_mean_alone_adds_a_constant((a, b) in pair(), share in 0.0f64..1.0) {
            let window = FrequencyWindow { half_width: [Some(0); 3] };
            let lambda = Tensor::from_slice(&[share as f32, share as f32]);
            let mixed = mix_spectra(&(&a + 5.0), &(&b + 5.0), &lambda, window).unwrap();
            let change = mixed - (&a + 5.0);
            let spread = change.amax([-1i64, -2, -3].as_slice(), false)
                - change.amin([-1i64, -2, -3].as_slice(), false);
            prop_assert!(spread.max().double_value(&[]) < 1e-4);
        }

        #[test]
        fn with_the_offset_means_mix_linearly((a, b) in pair(), share in 0.0f64..1.0) {
            for window in windows() {
                let floor = a.min().minimum(&b.min());
                let lambda = Tensor::from_slice(&[share as f32, share as f32]);
                let mixed = mix_spectra(&(&a - &floor), &(&b - &floor), &lambda, window).unwrap() + floor;
                let mean = |t: &Tensor| t.mean_dim([-1i64, -2, -3].as_slice(), false, Kind::Float);
                let expected = mean(&a) * (1.0 - share) + mean(&b) * share;
                prop_assert!(difference(&mean(&mixed), &expected) < 1e-4);
            }
        }

        #[test]
        fn scaling_both_scales_the_result((a, b) in pair(), factor in 0.1f64..8.0) {
            for window in windows() {
                let mixed = mix_amplitudes(&a, &b, &[0.3, 0.9], window).unwrap() * factor;
                let scaled = mix_amplitudes(&(&a * factor), &(&b * factor), &[0.3, 0.9], window).unwrap();
                prop_assert!(difference(&mixed, &scaled) < 2e-4 * factor.max(1.0));
            }
        }

        #[test]
        fn the_result_stays_in_the_joint_range((a, b) in pair(), share in 0.0f64..=1.0) {
            for window in windows() {
                let mixed = mix_amplitudes(&a, &b, &[share, 1.0], window).unwrap();
                for i in 0..2 {
                    let of = |t: &Tensor| t.get(i);
                    let low = of(&a).min().minimum(&of(&b).min()).double_value(&[]);
                    let high = of(&a).max().maximum(&of(&b).max()).double_value(&[]);
                    prop_assert!(of(&mixed).min().double_value(&[]) >= low);
                    prop_assert!(of(&mixed).max().double_value(&[]) <= high);
                }
            }
        }

        #[test]
        fn half_and_full_spectra_agree_and_the_rest_stays((a, b) in pair(), share in 0.0f64..=1.0) {
            let half_width = [1, 1, 2];
            let window = FrequencyWindow { half_width: half_width.map(Some) };
            let (a, b) = (a + 3.0, b + 3.0);
            let lambda = Tensor::from_slice(&[share as f32, share as f32]);
            let mixed = mix_spectra(&a, &b, &lambda, window).unwrap();
            let (own, other) = (spectrum(&a), spectrum(&b));
            let amplitude = own.abs() * (1.0 - share) + other.abs() * share;
            let full = Tensor::polar(&amplitude, &own.angle()).where_self(&inside(half_width), &own);
            let back = full.fft_ifftn(None::<&[i64]>, [-3i64, -2, -1].as_slice(), "backward");
            prop_assert!(back.imag().abs().max().double_value(&[]) < 1e-4);
            prop_assert!(difference(&back.real(), &mixed) < 1e-4);
            let outside = inside(half_width).logical_not();
            let moved = (spectrum(&mixed) - own).abs() * outside.to_kind(Kind::Float);
            prop_assert!(moved.max().double_value(&[]) < 2e-3);
        }
    }

    #[test]
    fn windows_grow_with_the_patch_and_never_vanish() {
        let width = |shape| FrequencyWindow::of_share(shape, 0.01).half_width;
        assert_eq!(width([48, 192, 224]), [Some(1), Some(1), Some(2)]);
        assert_eq!(width([16, 300, 96]), [Some(1), Some(3), Some(1)]);
        let flat = FrequencyWindow::in_plane([48, 192, 224], 0.01).half_width;
        assert_eq!(flat, [None, Some(1), Some(2)]);
    }
}
