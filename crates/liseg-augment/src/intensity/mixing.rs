//! Global non-linear mixing of intensities by random shallow convolutions.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::StandardNormal;

use super::statistics::{Statistics, restore};
use crate::simd::vectorised;
use crate::{Interval, Params, PatchInfo, Scratch, Transform};

/// Slope below zero of the leaky rectifier between layers.
const LEAK: f32 = 0.01;

/// Most layers and hidden channels.
pub(crate) const MOST: usize = 8;

/// Sends each channel through a small random convolutional network, mixes the result with the
/// original and restores mean and standard deviation: textures and contrasts that no scanner ever
/// made, with the anatomy in place (Ouyang et al. 2022, IEEE TMI 42: GIN, of causality-inspired
/// single-source domain generalisation).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixing {
    /// Layers; 4 in the publication.
    pub layers: usize,
    /// Channels between layers; 2 in the publication.
    pub hidden: usize,
    /// Share of the network's answer in the result.
    pub share: Interval,
}

impl Transform for Mixing {
    fn name(&self) -> &'static str {
        "mixing"
    }

    fn sample(&self, _: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Mixing {
            seed: rng.next_u64() >> 11,
            layers: self.layers,
            hidden: self.hidden,
            share: self.share.draw(rng),
        }
    }
}

/// One convolution: as many weights as in · out · side³, and a bias for each output.
struct Layer {
    side: usize,
    inputs: usize,
    outputs: usize,
    weights: Vec<f32>,
    biases: Vec<f32>,
}

impl Layer {
    fn random(inputs: usize, outputs: usize, rng: &mut ChaCha8Rng) -> Self {
        let side = if rng.random() { 1 } else { 3 };
        let count = inputs * side * side * side;
        // Of a size that keeps the spread of what passes through.
        let gain = 1.0 / (count as f32).sqrt();
        let mut normal = |gain: f32| -> f32 {
            let value: f32 = rng.sample(StandardNormal);
            gain * value
        };
        Self {
            side,
            inputs,
            outputs,
            weights: (0..count * outputs).map(|_| normal(gain)).collect(),
            biases: (0..outputs).map(|_| normal(0.5)).collect(),
        }
    }
}

/// Mixes one channel with the answer of the network of `seed`.
pub(crate) fn mix(
    image: &mut [f32],
    shape: [usize; 3],
    (layers, hidden): (usize, usize),
    share: f64,
    seed: u64,
    scratch: &mut Scratch,
) {
    let before = Statistics::of(image);
    if share == 0.0 || before.std == 0.0 || layers == 0 {
        return;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let voxels = image.len();
    // Standardised, so that the network treats all images alike.
    let (mean, gain) = (before.mean as f32, (1.0 / before.std) as f32);
    let mut current = scratch.floats(voxels);
    for (out, value) in current.iter_mut().zip(&*image) {
        *out = (value - mean) * gain;
    }
    for number in 0..layers {
        let inputs = if number == 0 { 1 } else { hidden };
        let outputs = if number + 1 == layers { 1 } else { hidden };
        let layer = Layer::random(inputs, outputs, &mut rng);
        let mut next = scratch.floats(outputs * voxels);
        run(&layer, &current, &mut next, shape, number + 1 < layers);
        scratch.give(std::mem::replace(&mut current, next));
    }
    let answer = Statistics::of(&current);
    let (share, own) = (share as f32, 1.0 - share as f32);
    let to_answer = match answer.std > 0.0 {
        true => (before.std / answer.std) as f32 * share,
        false => 0.0,
    };
    let middle = answer.mean as f32;
    for (value, found) in image.iter_mut().zip(&current) {
        *value = own * (*value - mean) + to_answer * (found - middle) + mean;
    }
    scratch.give(current);
    restore(image, &before);
}

vectorised! {
    /// One layer, with zeros beyond the border.
    fn run(layer: &Layer, input: &[f32], out: &mut [f32], shape: [usize; 3], rectify: bool) {
        let [nz, ny, nx] = shape;
        let voxels = nz * ny * nx;
        let reach = layer.side / 2;
        let taps = layer.side * layer.side * layer.side;
        for (o, out) in out.chunks_exact_mut(voxels).enumerate().take(layer.outputs) {
            for (row, out) in out.chunks_exact_mut(nx).enumerate() {
                let (z, y) = (row / ny, row % ny);
                out.fill(layer.biases[o]);
                for i in 0..layer.inputs {
                    let weights = &layer.weights[(o * layer.inputs + i) * taps..][..taps];
                    for (plane, line) in weights.chunks_exact(layer.side).enumerate() {
                        let (dz, dy) = (plane / layer.side, plane % layer.side);
                        let (Some(z), Some(y)) =
                            ((z + dz).checked_sub(reach), (y + dy).checked_sub(reach))
                        else {
                            continue;
                        };
                        if z >= nz || y >= ny {
                            continue;
                        }
                        let from = &input[i * voxels + (z * ny + y) * nx..][..nx];
                        add_line(out, from, line);
                    }
                }
                if rectify {
                    for value in out.iter_mut() {
                        let below = LEAK * *value;
                        *value = if *value > 0.0 { *value } else { below };
                    }
                }
            }
        }
    }
}

/// Adds a row, convolved along itself.
#[inline(always)]
fn add_line(out: &mut [f32], from: &[f32], weights: &[f32]) {
    let n = out.len();
    match *weights {
        [a, b, c] if n > 2 => {
            out[0] += b * from[0] + c * from[1];
            out[n - 1] += a * from[n - 2] + b * from[n - 1];
            let inner = &mut out[1..n - 1];
            let (left, here, right) = (&from[..n - 2], &from[1..n - 1], &from[2..]);
            for k in 0..n - 2 {
                inner[k] += a * left[k] + b * here[k] + c * right[k];
            }
        }
        _ => {
            let b = weights[weights.len() / 2];
            for (sum, value) in out.iter_mut().zip(from) {
                *sum += b * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread_stay_and_seeds_differ() {
        let shape = [6, 7, 8];
        let image: Vec<f32> = (0..336)
            .map(|k| (k as f32 * 0.7).sin() * 2.0 + 5.0)
            .collect();
        let make = |seed| {
            let mut mixed = image.clone();
            mix(&mut mixed, shape, (4, 2), 0.7, seed, &mut Scratch::new());
            mixed
        };
        let (before, after) = (Statistics::of(&image), Statistics::of(&make(1)));
        assert!((before.mean - after.mean).abs() < 1e-4);
        assert!((before.std - after.std).abs() < 1e-4);
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        assert_ne!(make(1), image);
    }

    #[test]
    fn a_layer_is_a_convolution_with_zeros_beyond_the_border() {
        let shape = [3, 4, 5];
        let input: Vec<f32> = (0..2 * 60).map(|k| (k as f32 * 1.3).cos()).collect();
        let layer = Layer {
            side: 3,
            inputs: 2,
            outputs: 1,
            weights: (0..54).map(|k| (k as f32 * 0.4).sin()).collect(),
            biases: vec![0.25],
        };
        let mut found = vec![0.0; 60];
        run(&layer, &input, &mut found, shape, false);
        for (flat, found) in found.iter().enumerate() {
            let at = [flat / 20, flat / 5 % 4, flat % 5];
            let mut expected = 0.25;
            for (tap, weight) in layer.weights.iter().enumerate() {
                let (i, step) = (tap / 27, [tap / 9 % 3, tap / 3 % 3, tap % 3]);
                let place = [0, 1, 2].map(|a| (at[a] + step[a]).wrapping_sub(1));
                if (0..3).all(|a| place[a] < shape[a]) {
                    expected += weight * input[i * 60 + (place[0] * 4 + place[1]) * 5 + place[2]];
                }
            }
            assert!(
                (found - expected).abs() < 1e-5,
                "{flat}: {found} not {expected}"
            );
        }
    }
}
