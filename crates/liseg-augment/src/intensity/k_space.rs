//! Artefacts of moving patients: ghosts and jumps.
//!
//! Lines of k-space are acquired one after another along the phase-encoding axis. What happens to
//! single lines is, in the image, a convolution along that axis that goes on at the other end, so
//! no Fourier transform is needed.

use rand::{Rng, RngExt};

use crate::convolve::{Border, convolve};
use crate::transform::per_channel;
use crate::{Interval, Params, PatchInfo, Scratch, Transform};

/// Copies of the patient along one axis, as from breathing in step with the acquisition: every n-th
/// line of k-space keeps its strength, the others are weakened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ghosting {
    /// How many ghosts; rounded down.
    pub ghosts: Interval,
    /// Their strength, 0 to 1.
    pub strength: Interval,
}

impl Transform for Ghosting {
    fn name(&self) -> &'static str {
        "ghosting"
    }

    fn sample(&self, info: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Ghosting {
            axis: rng.random_range(0..3),
            ghosts: self.ghosts.draw(rng) as usize,
            strengths: per_channel(info, 1.0, rng, |rng| self.strength.draw(rng)),
        }
    }
}

/// y = (1 − s) x + s · mean of x moved by 0, 1/n, … (n − 1)/n of the axis: the mean is kept.
pub(crate) fn ghost(
    image: &mut [f32],
    shape: [usize; 3],
    axis: usize,
    ghosts: usize,
    strength: f64,
    scratch: &mut Scratch,
) {
    let side = shape[axis];
    let ghosts = ghosts.min(side);
    if strength == 0.0 || ghosts < 2 {
        return;
    }
    let mut period = vec![0.0f64; side];
    period[0] = 1.0 - strength;
    for k in 0..ghosts {
        let place = (k * side) as f64 / ghosts as f64;
        period[place.round() as usize % side] += strength / ghosts as f64;
    }
    convolve_period(image, shape, axis, &period, scratch);
}

/// Jumps along one axis: parts of k-space see the patient at another place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    /// How many jumps; rounded down.
    pub jumps: Interval,
    /// Largest distance from the first place, in voxels.
    pub distance: Interval,
}

impl Transform for Motion {
    fn name(&self) -> &'static str {
        "motion"
    }

    fn sample(&self, _: &PatchInfo, rng: &mut dyn Rng) -> Params {
        let jumps = self.jumps.draw(rng) as usize;
        let most = self.distance.draw(rng);
        let range = Interval::new(-most, most);
        // The middle of k-space, acquired first, sees the patient in place.
        let later = (0..jumps).map(|_| range.draw(rng));
        Params::Motion {
            shifts: std::iter::once(0.0).chain(later).collect(),
            axis: rng.random_range(0..3),
        }
    }
}

/// Moves equal parts of k-space, from the middle outwards, by `shifts` voxels along the axis. Lines
/// on both sides of the middle move together, so that the image stays real; its mean is kept.
pub(crate) fn jump(
    image: &mut [f32],
    shape: [usize; 3],
    axis: usize,
    shifts: &[f64],
    scratch: &mut Scratch,
) {
    use std::f64::consts::TAU;
    let side = shape[axis];
    if side < 2 || shifts.iter().all(|&shift| shift == 0.0) {
        return;
    }
    let n = side as f64;
    let shift_of = |line: usize| shifts[line * shifts.len() / (side / 2 + 1)];
    let period: Vec<f64> = (0..side)
        .map(|place| {
            let of_line = |line: usize| {
                // The middle and, of an even number, the outermost line stand alone.
                let share = if line == 0 || 2 * line == side {
                    1.0
                } else {
                    2.0
                };
                let shift = if line == 0 { 0.0 } else { shift_of(line) };
                share * (TAU * line as f64 * (place as f64 - shift) / n).cos()
            };
            (0..=side / 2).map(of_line).sum::<f64>() / n
        })
        .collect();
    convolve_period(image, shape, axis, &period, scratch);
}

/// Convolves periodically with a kernel given at the places 0, 1, … of one period.
fn convolve_period(
    image: &mut [f32],
    shape: [usize; 3],
    axis: usize,
    period: &[f64],
    scratch: &mut Scratch,
) {
    let side = period.len();
    let half = side / 2;
    // A weight at place p reads the voxel p before: kernel[j] belongs to voxel j − half after.
    let mut kernel = vec![0.0f32; 2 * half + 1];
    for (place, weight) in period.iter().enumerate() {
        let after = (side - place) % side;
        let signed = if after > half {
            after as isize - side as isize
        } else {
            after as isize
        };
        kernel[(signed + half as isize) as usize] = *weight as f32;
    }
    convolve(image, shape, axis, &kernel, Border::Periodic, scratch);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ghosts_are_moved_copies() {
        let mut image = vec![0.0f32; 12];
        image[2] = 1.0;
        ghost(&mut image, [1, 1, 12], 2, 3, 0.6, &mut Scratch::new());
        for (k, value) in image.iter().enumerate() {
            let expected = match k {
                2 => 0.6,
                6 | 10 => 0.2,
                _ => 0.0,
            };
            assert!((value - expected).abs() < 1e-6, "{k}: {value}");
        }
    }

    #[test]
    fn one_jump_of_all_lines_moves_the_image() {
        let line: Vec<f32> = (0..16)
            .map(|k| (k as f32 * 0.8).sin() + (k as f32).cos())
            .collect();
        for axis in 0..3 {
            let mut shape = [1; 3];
            shape[axis] = 15;
            let mut image = line[..15].to_vec();
            jump(&mut image, shape, axis, &[3.0], &mut Scratch::new());
            for k in 0..15 {
                let expected = line[(k + 15 - 3) % 15];
                assert!((image[k] - expected).abs() < 1e-5, "axis {axis} at {k}");
            }
        }
    }
}
