//! Masks to draw for the tests of this crate.

use ndarray::Array3;
use proptest::prelude::*;

/// Two masks on one grid, of any density, empty and full ones among them.
pub(crate) fn pairs() -> impl Strategy<Value = (Array3<bool>, Array3<bool>)> {
    let shape = [1usize..6, 1..7, 1..8];
    (shape, 0.0..=1.0f64, 0.0..=1.0f64).prop_flat_map(|(shape, first, second)| {
        let mask = move |density: f64| {
            let voxels = shape.iter().product::<usize>();
            prop::collection::vec(prop::bool::weighted(density), voxels)
                .prop_map(move |data| Array3::from_shape_vec(shape, data).unwrap())
        };
        (mask(first), mask(second))
    })
}
