//! Laws of resampling, each named by the test that draws cases for it.

use liseg_mri::resample::{
    Interpolation, Resampling, SeparateZ, resample_array, resample_labels_array,
};
use liseg_volume::Spacing;
use ndarray::{Array3, Axis};
use proptest::prelude::*;

const ONE: Spacing = Spacing::ISOTROPIC_1MM;

fn how(interpolation: Interpolation) -> Resampling {
    Resampling {
        interpolation,
        along_z: interpolation,
        separate_z: SeparateZ::Never,
    }
}

fn resample(data: &Array3<f32>, new: [usize; 3], interpolation: Interpolation) -> Array3<f32> {
    resample_array(data.view(), new, ONE, ONE, how(interpolation))
}

fn smooth() -> impl Strategy<Value = Interpolation> {
    prop_oneof![Just(Interpolation::Linear), Just(Interpolation::Cubic)]
}

fn images(largest: usize) -> impl Strategy<Value = Array3<f32>> {
    [1..largest, 1..largest, 1..largest].prop_flat_map(|shape| {
        let voxels = shape.iter().product::<usize>();
        prop::collection::vec(-100.0..100.0f32, voxels)
            .prop_map(move |data| Array3::from_shape_vec(shape, data).unwrap())
    })
}

/// Where the centre of a new voxel lies among the old ones.
fn centre(i: usize, old: usize, new: usize) -> f64 {
    (i as f64 + 0.5) * old as f64 / new as f64 - 0.5
}

proptest! {
    #[test]
    fn a_linear_ramp_is_exact_inside(
        interpolation in smooth(),
        old in [26usize..34, 26..34, 26..34],
        new in [10usize..50, 10..50, 10..50],
        slope in [-3.0..3.0f64, -3.0..3.0, -3.0..3.0],
    ) {
        let ramp = |at: [f64; 3]| (0..3).map(|a| slope[a] * at[a]).sum::<f64>();
        let data = Array3::from_shape_fn(old, |(z, y, x)| ramp([z, y, x].map(|i| i as f64)) as f32);
        let found = resample(&data, new, interpolation);
        // A cubic spline sees the edge from some voxels away; linear interpolation from one.
        let margin = if interpolation == Interpolation::Cubic { 11.0 } else { 0.0 };
        for ((z, y, x), &value) in found.indexed_iter() {
            let index = [z, y, x];
            let at = [0, 1, 2].map(|a| centre(index[a], old[a], new[a]));
            if (0..3).all(|a| at[a] >= margin && at[a] <= (old[a] - 1) as f64 - margin) {
                prop_assert!((f64::from(value) - ramp(at)).abs() < 1e-4, "{value} at {at:?}");
            }
        }
    }

    #[test]
    fn a_constant_stays_that_constant(
        interpolation in smooth(), value in -1e4..1e4f32,
        old in [1usize..9, 1..9, 1..9], new in [1usize..20, 1..20, 1..20],
    ) {
        let found = resample(&Array3::from_elem(old, value), new, interpolation);
        prop_assert!(found.iter().all(|v| (v - value).abs() <= 1e-6 * value.abs()));
    }

    #[test]
    fn enlarging_by_an_odd_factor_and_shrinking_back_returns_the_image(
        interpolation in smooth(), image in images(8), half in [0usize..3, 0..3, 0..3],
    ) {
        let old: [usize; 3] = image.dim().into();
        let new = [0, 1, 2].map(|a| old[a] * (2 * half[a] + 1));
        let back = resample(&resample(&image, new, interpolation), old, interpolation);
        for (a, b) in back.iter().zip(&image) {
            prop_assert!((a - b).abs() < 1e-2, "{a} came back for {b}");
        }
    }

    #[test]
    fn labels_enlarged_by_an_odd_factor_and_shrunk_back_are_the_same(
        image in images(7), half in [0usize..3, 0..3, 0..3],
    ) {
        let labels = image.mapv(|v| u8::from(v > 0.0) + u8::from(v > 50.0));
        let old: [usize; 3] = labels.dim().into();
        let new = [0, 1, 2].map(|a| old[a] * (2 * half[a] + 1));
        let large = resample_labels_array(labels.view(), new, ONE, ONE, SeparateZ::Never);
        let back = resample_labels_array(large.view(), old, ONE, ONE, SeparateZ::Never);
        prop_assert_eq!(back, labels);
    }

    #[test]
    fn resampling_commutes_with_flips_and_exchanges_of_axes(
        interpolation in smooth(), image in images(9),
        new in [1usize..14, 1..14, 1..14],
        order in Just([0usize, 1, 2]).prop_shuffle(), signs in 0u8..8,
    ) {
        let turn = |image: &Array3<f32>| {
            let mut view = image.view().permuted_axes(order);
            for axis in (0..3).filter(|axis| signs >> axis & 1 == 1) {
                view.invert_axis(Axis(axis));
            }
            view.as_standard_layout().into_owned()
        };
        let first = turn(&resample(&image, new, interpolation));
        let last = resample(&turn(&image), order.map(|a| new[a]), interpolation);
        prop_assert_eq!(first.dim(), last.dim());
        for (a, b) in first.iter().zip(&last) {
            prop_assert!((a - b).abs() < 1e-3, "{a} and {b}");
        }
    }
}
