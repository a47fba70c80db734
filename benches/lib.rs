//! Data for the benchmarks beside this file; run them with `cargo xtask bench`.

use liseg_volume::Seed;
use ndarray::Array3;
use rand::RngExt;

/// Smooth-ish noise with the range of an MR image.
pub fn image(shape: [usize; 3]) -> Array3<f32> {
    let mut rng = Seed(1).stream("bench", 0, 0);
    Array3::from_shape_fn(shape, |(z, y, x)| {
        let wave = (z as f32 / 7.0).sin() + (y as f32 / 31.0).cos() + (x as f32 / 17.0).sin();
        300.0 + 100.0 * wave + rng.random_range(-20.0f32..20.0)
    })
}

/// An organ-sized ellipsoid.
pub fn organ(shape: [usize; 3]) -> Array3<bool> {
    let [z, y, x] = shape.map(|n| n as f64);
    Array3::from_shape_fn(shape, |(i, j, k)| {
        let d = [i as f64 / z - 0.5, j as f64 / y - 0.5, k as f64 / x - 0.4];
        (d[0] / 0.35).powi(2) + (d[1] / 0.25).powi(2) + (d[2] / 0.25).powi(2) <= 1.0
    })
}
