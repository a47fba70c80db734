//! Supervoxels: compact groups of voxels of like intensity.

use super::statistics::Statistics;

/// How much a standard deviation of intensity weighs against a group's size in space.
const INTENSITY_WEIGHT: f32 = 4.0;

/// The centre of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Centre {
    place: [f32; 3],
    value: f32,
}

/// Groups the voxels of one channel (`[z, y, x]`) into supervoxels of about `size` voxels a side
/// and returns the number of each voxel's group.
///
/// Groups start on a regular grid and take the voxels that are nearest in space and intensity
/// (SLIC, Achanta et al. 2012, with two rounds). `size` counts as at least 2.
pub fn supervoxels(image: &[f32], shape: [usize; 3], size: usize) -> Vec<u32> {
    let [_, ny, nx] = shape;
    let size = size.max(2);
    let cells = shape.map(|side| (side + size / 2).div_euclid(size).max(1));
    let [_, cells_y, cells_x] = cells;
    let width = [0, 1, 2].map(|axis| shape[axis] as f32 / cells[axis] as f32);
    let spread = Statistics::of(image).std as f32;
    let of_intensity = match spread > 0.0 {
        true => INTENSITY_WEIGHT / (spread * spread),
        false => 0.0,
    };
    let of_space = width.map(|w| 1.0 / (w * w));
    let mut centres: Vec<Centre> = (0..cells.iter().product())
        .map(|cell: usize| {
            let index = [
                cell / (cells_y * cells_x),
                cell / cells_x % cells_y,
                cell % cells_x,
            ];
            let place = [0, 1, 2].map(|a| (index[a] as f32 + 0.5) * width[a] - 0.5);
            let [z, y, x] = place.map(|p| p.max(0.0) as usize);
            let value = image.get((z * ny + y) * nx + x).copied().unwrap_or(0.0);
            Centre { place, value }
        })
        .collect();
    let mut groups = vec![0u32; image.len()];
    for round in 0..2 {
        assign(
            image,
            shape,
            &centres,
            cells,
            width,
            (of_space, of_intensity),
            &mut groups,
        );
        if round == 0 {
            centres = means(image, shape, &groups, &centres);
        }
    }
    groups
}

/// Gives each voxel to the nearest of the eight centres around it.
fn assign(
    image: &[f32],
    [_, ny, nx]: [usize; 3],
    centres: &[Centre],
    cells: [usize; 3],
    width: [f32; 3],
    (of_space, of_intensity): ([f32; 3], f32),
    groups: &mut [u32],
) {
    // The two cells along an axis whose centres lie around a voxel.
    let around = |voxel: usize, axis: usize| -> [usize; 2] {
        let place = (voxel as f32 + 0.5) / width[axis] - 0.5;
        let last = cells[axis] - 1;
        let lower = (place.max(0.0) as usize).min(last);
        [
            lower,
            if place < 0.0 {
                lower
            } else {
                (lower + 1).min(last)
            },
        ]
    };
    let along_x: Vec<[usize; 2]> = (0..nx).map(|x| around(x, 2)).collect();
    for (row, groups) in groups.chunks_exact_mut(nx).enumerate() {
        let (z, y) = (row / ny, row % ny);
        let (near_z, near_y) = (around(z, 0), around(y, 1));
        for (x, group) in groups.iter_mut().enumerate() {
            let value = image[row * nx + x];
            let mut least = f32::INFINITY;
            for cz in near_z {
                for cy in near_y {
                    for cx in along_x[x] {
                        let cell = (cz * cells[1] + cy) * cells[2] + cx;
                        let Centre { place, value: mean } = centres[cell];
                        let (dz, dy, dx) = (
                            z as f32 - place[0],
                            y as f32 - place[1],
                            x as f32 - place[2],
                        );
                        let dv = value - mean;
                        let distance = dz * dz * of_space[0]
                            + dy * dy * of_space[1]
                            + dx * dx * of_space[2]
                            + dv * dv * of_intensity;
                        if distance < least {
                            least = distance;
                            *group = cell as u32;
                        }
                    }
                }
            }
        }
    }
}

/// Moves each centre to the mean of its group; an empty group stays where it was.
fn means(
    image: &[f32],
    [_, ny, nx]: [usize; 3],
    groups: &[u32],
    centres: &[Centre],
) -> Vec<Centre> {
    let mut sums = vec![([0.0f64; 3], 0.0f64, 0.0f64); centres.len()];
    for (flat, (&group, &value)) in groups.iter().zip(image).enumerate() {
        let (place, total, count) = &mut sums[group as usize];
        let at = [flat / (ny * nx), flat / nx % ny, flat % nx];
        for (sum, at) in place.iter_mut().zip(at) {
            *sum += at as f64;
        }
        *total += f64::from(value);
        *count += 1.0;
    }
    let moved = sums
        .into_iter()
        .zip(centres)
        .map(|((place, total, count), old)| match count > 0.0 {
            true => Centre {
                place: place.map(|sum| (sum / count) as f32),
                value: (total / count) as f32,
            },
            false => *old,
        });
    moved.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_do_not_cross_a_strong_edge_and_cover_the_volume() {
        let shape = [8, 8, 16];
        // An edge in the middle of a column of cells.
        let image: Vec<f32> = (0..1024)
            .map(|k| if k % 16 < 6 { 0.0 } else { 10.0 })
            .collect();
        let groups = supervoxels(&image, shape, 4);
        let mut sides: std::collections::BTreeMap<u32, [usize; 2]> = Default::default();
        for (group, value) in groups.iter().zip(&image) {
            sides.entry(*group).or_default()[usize::from(*value > 5.0)] += 1;
        }
        let mixed: usize = sides.values().map(|[dark, bright]| dark.min(bright)).sum();
        assert!(mixed < 40, "{mixed} of 1024 voxels on the wrong side");
        assert_eq!(sides.len(), 16);
    }

    #[test]
    fn flat_and_one_voxel_thick_volumes_have_groups() {
        assert_eq!(supervoxels(&[1.0; 12], [1, 1, 12], 4).len(), 12);
        assert_eq!(supervoxels(&[2.0; 8], [2, 2, 2], 100), [0; 8]);
    }
}
