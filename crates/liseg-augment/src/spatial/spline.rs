//! Cubic B-spline interpolation.

/// Pole of the cubic B-spline's prefilter, √3 − 2.
const POLE: f64 = -0.267_949_192_431_122_7;

/// Turns voxels into the coefficients of the cubic B-spline through them, in place, along every
/// axis with more than one voxel. Lines are continued by reflection at their outermost voxels
/// (SciPy's "mirror"; Thévenaz et al. 2000).
pub(crate) fn prefilter(volume: &mut [f32], shape: [usize; 3]) {
    let [nz, ny, nx] = shape;
    if nx > 1 {
        for row in volume.chunks_exact_mut(nx) {
            line(row, 1, nx);
        }
    }
    if ny > 1 {
        for slice in volume.chunks_exact_mut(ny * nx) {
            lines(slice, nx, ny);
        }
    }
    if nz > 1 {
        // Blocks of columns that stay in the cache.
        lines(volume, ny * nx, nz);
    }
}

/// One line of `count` voxels, `stride` apart.
fn line(values: &mut [f32], stride: usize, count: usize) {
    lines_block(values, stride, count, 0, 1);
}

/// All lines that cross `count` rows of `width` voxels.
fn lines(values: &mut [f32], width: usize, count: usize) {
    const BLOCK: usize = 64;
    let mut from = 0;
    while from < width {
        let to = (from + BLOCK).min(width);
        lines_block(values, width, count, from, to);
        from = to;
    }
}

/// The lines through columns `from..to` of `count` rows that lie `stride` apart.
fn lines_block(values: &mut [f32], stride: usize, count: usize, from: usize, to: usize) {
    let pole = POLE as f32;
    let gain = 6.0f32;
    for k in 0..count {
        values[k * stride + from..k * stride + to]
            .iter_mut()
            .for_each(|value| *value *= gain);
    }
    // The sum over the reflected line, until its terms vanish in f32.
    let horizon = count.min(20);
    for column in from..to {
        let at = |k: usize| f64::from(values[k * stride + column]);
        let first = if horizon < count {
            let mut sum = at(0);
            let mut power = POLE;
            for k in 1..horizon {
                sum += power * at(k);
                power *= POLE;
            }
            sum
        } else {
            // The whole period 2 (count − 1) in closed form.
            let last = POLE.powi(count as i32 - 1);
            let mut sum = at(0) + last * at(count - 1);
            let (mut power, mut back) = (POLE, last * last / POLE);
            for k in 1..count - 1 {
                sum += (power + back) * at(k);
                power *= POLE;
                back /= POLE;
            }
            sum / (1.0 - last * last)
        };
        values[column] = first as f32;
    }
    for k in 1..count {
        let (before, here) = values.split_at_mut(k * stride);
        let before = &before[(k - 1) * stride..];
        for column in from..to {
            here[column] += pole * before[column];
        }
    }
    let end = (POLE / (POLE * POLE - 1.0)) as f32;
    for column in from..to {
        let (last, before) = (
            values[(count - 1) * stride + column],
            values[(count - 2) * stride + column],
        );
        values[(count - 1) * stride + column] = end * (pole * before + last);
    }
    for k in (0..count - 1).rev() {
        let (here, after) = values.split_at_mut((k + 1) * stride);
        let here = &mut here[k * stride..];
        for column in from..to {
            here[column] = pole * (after[column] - here[column]);
        }
    }
}

/// Weights of the four coefficients around a point `t` (0..1) beyond the second of them.
#[inline(always)]
pub(crate) fn weights(t: f32) -> [f32; 4] {
    let s = 1.0 - t;
    let sixth = 1.0 / 6.0;
    [
        s * s * s * sixth,
        (3.0 * t * t * t - 6.0 * t * t + 4.0) * sixth,
        (3.0 * s * s * s - 6.0 * s * s + 4.0) * sixth,
        t * t * t * sixth,
    ]
}

/// The voxel at `index` of a line of `count` that is reflected at its outermost voxels.
#[inline(always)]
pub(crate) fn mirrored(index: i64, count: usize) -> usize {
    let last = count as i64 - 1;
    if last == 0 {
        return 0;
    }
    let at = index.rem_euclid(2 * last);
    at.min(2 * last - at) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spline_passes_through_the_voxels_of_short_and_long_lines() {
        for shape in [[1, 1, 2], [2, 3, 5], [4, 25, 30]] {
            let [nz, ny, nx] = shape;
            let image: Vec<f32> = (0..nz * ny * nx).map(|k| (k as f32 * 0.9).sin()).collect();
            let mut coefficients = image.clone();
            prefilter(&mut coefficients, shape);
            for (flat, expected) in image.iter().enumerate() {
                let at = [flat / (ny * nx), flat / nx % ny, flat % nx];
                let mut found = 0.0;
                for corner in 0..27 {
                    let step = [corner / 9, corner / 3 % 3, corner % 3];
                    let index =
                        [0, 1, 2].map(|a| mirrored(at[a] as i64 + step[a] as i64 - 1, shape[a]));
                    let weight: f32 = step
                        .iter()
                        .zip(shape)
                        .map(|(&k, n)| match n {
                            // Along one voxel there is no spline.
                            1 => {
                                if k == 1 {
                                    1.0
                                } else {
                                    0.0
                                }
                            }
                            _ => weights(0.0)[k],
                        })
                        .product();
                    found += weight * coefficients[(index[0] * ny + index[1]) * nx + index[2]];
                }
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{shape:?}: {found} not {expected}"
                );
            }
        }
    }
}
