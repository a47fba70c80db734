//! Mirroring.

use rand::Rng;

use crate::transform::chance;
use crate::{Params, PatchInfo, Transform};

/// Reverses each allowed axis with the given probability, image and label together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mirror {
    /// Probability for each axis on its own.
    pub probability: f64,
    /// Axes that may be reversed, `[z, y, x]`.
    pub axes: [bool; 3],
}

impl Transform for Mirror {
    fn name(&self) -> &'static str {
        "mirror"
    }

    fn sample(&self, _: &PatchInfo, rng: &mut dyn Rng) -> Params {
        Params::Mirror {
            axes: self
                .axes
                .map(|allowed| allowed && chance(rng, self.probability)),
        }
    }
}

/// Reverses axes of one volume of the given shape (`[z, y, x]`), in place and in one pass: rows
/// change places in pairs.
pub(crate) fn flip<T>(volume: &mut [T], shape: [usize; 3], axes: [bool; 3]) {
    let [nz, ny, nx] = shape;
    let [flip_z, flip_y, flip_x] = axes;
    if !(flip_z || flip_y || flip_x) {
        return;
    }
    for z in 0..nz {
        let partner_z = if flip_z { nz - 1 - z } else { z };
        for y in 0..ny {
            let partner_y = if flip_y { ny - 1 - y } else { y };
            let (row, partner) = (z * ny + y, partner_z * ny + partner_y);
            if row > partner {
                continue;
            }
            let (head, tail) = volume.split_at_mut((row + 1) * nx);
            let first = &mut head[row * nx..];
            if row == partner {
                if flip_x {
                    first.reverse();
                }
                continue;
            }
            let second = &mut tail[(partner - row - 1) * nx..][..nx];
            if flip_x {
                for (a, b) in first.iter_mut().zip(second.iter_mut().rev()) {
                    std::mem::swap(a, b);
                }
            } else {
                first.swap_with_slice(second);
            }
        }
    }
}
