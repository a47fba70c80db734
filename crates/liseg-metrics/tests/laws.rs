//! Laws of the measures, each named by the test that draws cases for it.

use liseg_metrics::{Convention, Counts, PercentileRule, SurfaceDistances, SurfaceRule};
use liseg_volume::Spacing;
use ndarray::{Array3, s};
use proptest::prelude::*;

const SHAPE: [usize; 3] = [5, 6, 7];

fn masks<const N: usize>() -> impl Strategy<Value = [Array3<bool>; N]> {
    let voxels = SHAPE.iter().product::<usize>();
    let mask = (0.02..=0.9f64).prop_flat_map(move |density| {
        prop::collection::vec(prop::bool::weighted(density), voxels).prop_map(|mut data| {
            if !data.contains(&true) {
                data[0] = true;
            }
            Array3::from_shape_vec(SHAPE, data).unwrap()
        })
    });
    prop::collection::vec(mask, N).prop_map(|masks| masks.try_into().unwrap())
}

fn spacing() -> Spacing {
    Spacing::new(2.5, 1.2, 0.8).unwrap()
}

fn between(a: &Array3<bool>, b: &Array3<bool>, rule: SurfaceRule) -> Option<SurfaceDistances> {
    SurfaceDistances::between(a.view(), b.view(), spacing(), rule).ok()
}

fn dice(a: &Array3<bool>, b: &Array3<bool>) -> f64 {
    Counts::of_masks(a.view(), b.view())
        .unwrap()
        .dice()
        .unwrap()
}

/// All measures of surfaces at once.
fn measures(found: &SurfaceDistances, rule: SurfaceRule) -> [f64; 5] {
    [
        found.hausdorff(),
        found.hausdorff_percentile(95.0, rule.percentile).unwrap(),
        found.average(rule.mean),
        found.root_mean_square(),
        found.surface_dice(2.0).unwrap(),
    ]
}

fn rules() -> impl Iterator<Item = SurfaceRule> {
    Convention::NAMED
        .into_iter()
        .map(|(_, convention)| convention.rule())
}

proptest! {
    #[test]
    fn exchanging_prediction_and_reference_changes_no_measure([a, b] in masks()) {
        prop_assert!((dice(&a, &b) - dice(&b, &a)).abs() < 1e-15);
        for rule in rules() {
            let (Some(there), Some(back)) = (between(&a, &b, rule), between(&b, &a, rule)) else {
                continue;
            };
            for (x, y) in measures(&there, rule).iter().zip(measures(&back, rule)) {
                prop_assert!((x - y).abs() < 1e-12, "{x} and {y}");
            }
        }
    }

    #[test]
    fn moving_both_masks_alike_changes_no_measure([a, b] in masks(), by in [0usize..4, 0..4, 0..4]) {
        // With room around them: what lies beyond the image is then background either way.
        let at = |mask: &Array3<bool>, by: [usize; 3]| {
            let mut moved = Array3::from_elem(SHAPE.map(|n| n + 5), false);
            let [z, y, x] = by.map(|n| n + 1);
            let [d, h, w] = SHAPE;
            moved.slice_mut(s![z..z + d, y..y + h, x..x + w]).assign(mask);
            moved
        };
        for rule in rules() {
            let still = between(&at(&a, [0; 3]), &at(&b, [0; 3]), rule).unwrap();
            let moved = between(&at(&a, by), &at(&b, by), rule).unwrap();
            for (x, y) in measures(&still, rule).iter().zip(measures(&moved, rule)) {
                prop_assert!((x - y).abs() < 1e-12, "{x} and {y}");
            }
        }
        let (still, moved) = (dice(&at(&a, [0; 3]), &at(&b, [0; 3])), dice(&at(&a, by), &at(&b, by)));
        prop_assert!((still - moved).abs() < 1e-15);
    }

    #[test]
    fn the_hausdorff_distance_obeys_the_triangle_inequality([a, b, c] in masks()) {
        for rule in rules().filter(|rule| rule.points == rule.targets) {
            let hd = |p, r| between(p, r, rule).map(|found| found.hausdorff());
            if let (Some(ab), Some(bc), Some(ac)) = (hd(&a, &b), hd(&b, &c), hd(&a, &c)) {
                prop_assert!(ac <= ab + bc + 1e-9, "{ac} > {ab} + {bc}");
            }
        }
    }

    #[test]
    fn dice_is_1_for_equal_masks_0_for_disjoint_ones_and_between_for_others([a, b] in masks()) {
        prop_assert!((dice(&a, &a) - 1.0).abs() < 1e-15);
        let outside = Array3::from_shape_fn(SHAPE, |at| b[at] && !a[at]);
        if outside.iter().any(|&v| v) {
            prop_assert!(dice(&a, &outside).abs() < 1e-15);
        }
        let found = dice(&a, &b);
        prop_assert!((0.0..=1.0).contains(&found));
        let touching = a.iter().zip(&b).any(|(&a, &b)| a && b);
        prop_assert_eq!(found > 0.0, touching);
        prop_assert_eq!(found >= 1.0, a == b);
    }

    #[test]
    fn the_hausdorff_distance_is_0_for_equal_masks_and_at_most_the_diagonal([a, b] in masks()) {
        let steps = spacing().zyx();
        // Points of the dual grid lie one step further apart than voxels.
        let diagonal = (0..3).map(|k| (SHAPE[k] as f64 * steps[k]).powi(2)).sum::<f64>().sqrt();
        for rule in rules() {
            if let Some(same) = between(&a, &a, rule)
                && rule.points == rule.targets
            {
                prop_assert!(same.hausdorff().abs() < 1e-15);
                prop_assert!(same.surface_dice(0.0).unwrap() >= 1.0);
            }
            if let Some(found) = between(&a, &b, rule) {
                prop_assert!(found.hausdorff() <= diagonal);
            }
        }
    }

    #[test]
    fn percentiles_never_fall_as_the_percentage_grows([a, b] in masks()) {
        let combine = [
            PercentileRule::MaxOfDirected,
            PercentileRule::MeanOfDirected,
            PercentileRule::Pooled,
        ];
        for (rule, combine) in rules().flat_map(|rule| combine.map(|c| (rule, c))) {
            let Some(found) = between(&a, &b, rule) else { continue };
            let mut last = 0.0;
            for q in [0.0, 1.0, 25.0, 50.0, 77.7, 95.0, 99.0, 100.0] {
                let value = found.hausdorff_percentile(q, combine).unwrap();
                prop_assert!(value >= last - 1e-12, "{value} after {last} at {q}");
                last = value;
            }
            prop_assert!(last <= found.hausdorff() + 1e-12);
        }
    }

    #[test]
    fn surface_dice_never_falls_as_the_tolerance_grows_and_ends_at_1([a, b] in masks()) {
        for rule in rules() {
            let Some(found) = between(&a, &b, rule) else { continue };
            let mut last = 0.0;
            for tolerance in [0.0, 0.5, 0.8, 1.2, 2.0, 2.5, 5.0, 1000.0] {
                let share = found.surface_dice(tolerance).unwrap();
                prop_assert!((last..=1.0).contains(&share), "{share} after {last}");
                last = share;
            }
            prop_assert!(last >= 1.0);
        }
    }

    #[test]
    fn averages_lie_below_the_root_mean_square_and_that_below_the_hausdorff_distance([a, b] in masks()) {
        for rule in rules() {
            let Some(found) = between(&a, &b, rule) else { continue };
            let pooled = found.average(liseg_metrics::MeanRule::Pooled);
            prop_assert!(pooled <= found.root_mean_square() + 1e-12);
            prop_assert!(found.root_mean_square() <= found.hausdorff() + 1e-12);
        }
    }
}
