//! Surface elements on the dual grid: points at voxel corners, each with the area of the surface
//! that passes it.
//!
//! Around a corner lie eight voxels. Where they are neither all object nor all background the
//! surface passes, as a few triangles whose area depends on the pattern alone (marching cubes;
//! Nikolov et al. 2021, the measures of the package `surface-distance`).

use liseg_volume::Spacing;
use ndarray::{Array3, ArrayView3};

/// Sums of three triangle sides' components (a, b, c), one triple for each triangle of a pattern.
type Triangles = &'static [[f64; 3]];

/// One pattern of each class; flips and permutations of axes and the complement give the others.
const CLASSES: [(u8, Triangles); 13] = [
    (1, &[[1.0, 1.0, 1.0]]),
    (3, &[[2.0, 2.0, 0.0]; 2]),
    (6, &[[1.0, 1.0, 1.0]; 2]),
    (24, &[[1.0, 1.0, 1.0]; 2]),
    (7, &[[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [4.0, 0.0, 0.0]]),
    (22, &[[1.0, 1.0, 1.0]; 3]),
    (25, &[[0.0, 2.0, 2.0], [0.0, 2.0, 2.0], [1.0, 1.0, 1.0]]),
    (15, &[[4.0, 0.0, 0.0]; 2]),
    (
        23,
        &[
            [1.0, 1.0, 1.0],
            [1.0, 1.0, 1.0],
            [2.0, 2.0, 2.0],
            [2.0, 2.0, 2.0],
        ],
    ),
    (
        27,
        &[
            [0.0, 2.0, 2.0],
            [1.0, 1.0, 1.0],
            [2.0, 0.0, 2.0],
            [3.0, 3.0, 3.0],
        ],
    ),
    (
        30,
        &[
            [1.0, 1.0, 1.0],
            [1.0, 1.0, 1.0],
            [2.0, 2.0, 2.0],
            [4.0, 0.0, 0.0],
        ],
    ),
    (60, &[[2.0, 2.0, 0.0]; 4]),
    (105, &[[1.0, 1.0, 1.0]; 4]),
];

const PERMUTATIONS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// The area in mm² that each of the 256 patterns stands for.
pub(crate) fn areas(spacing: Spacing) -> [f64; 256] {
    let [s0, s1, s2] = spacing.zyx();
    let faces = [s1 * s2, s0 * s2, s0 * s1];
    let mut areas = [0.0; 256];
    for (pattern, triangles) in CLASSES {
        for permutation in PERMUTATIONS {
            // The triples move with the axes of the pattern.
            let area: f64 = triangles
                .iter()
                .map(|triple| {
                    let squared =
                        (0..3).map(|axis| (triple[axis] * faces[permutation[axis]]).powi(2));
                    squared.sum::<f64>().sqrt() / 8.0
                })
                .sum();
            for flips in 0..8 {
                let code = moved(pattern, permutation, flips);
                areas[usize::from(code)] = area;
                areas[usize::from(!code)] = area;
            }
        }
    }
    areas
}

/// The pattern after its axis `a` became axis `permutation[a]` and the axes in `flips` turned round.
fn moved(pattern: u8, permutation: [usize; 3], flips: usize) -> u8 {
    (0..8)
        .filter(|corner| pattern >> (7 - corner) & 1 == 1)
        .map(|corner| {
            // Axis a of a corner is bit 2 − a of its number.
            let to: usize = (0..3)
                .map(|axis| (corner >> (2 - axis) & 1) << (2 - permutation[axis]))
                .sum();
            1u8 << (7 - (to ^ flips))
        })
        .sum()
}

/// For every corner of the voxels the pattern of the eight voxels around it, the first of them in
/// the highest bit; beyond the mask is background. One longer than the mask along each axis.
pub(crate) fn patterns(mask: ArrayView3<'_, bool>) -> Array3<u8> {
    let (depth, height, width) = mask.dim();
    let mut patterns = Array3::<u8>::zeros((depth + 1, height + 1, width + 1));
    for ((z, y, x), _) in mask.indexed_iter().filter(|&(_, &inside)| inside) {
        // To its corner (0, 0, 0) this voxel is the last of eight, to corner (1, 1, 1) the first.
        for corner in 0..8 {
            let at = [
                z + (corner >> 2 & 1),
                y + (corner >> 1 & 1),
                x + (corner & 1),
            ];
            patterns[at] |= 1 << corner;
        }
    }
    patterns
}

/// Whether the surface passes a corner of this pattern.
pub(crate) fn is_on_surface(pattern: u8) -> bool {
    pattern != 0 && pattern != u8::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    /// The areas of surface-distance 0.1 on four grids; the file lies in the repository.
    #[test]
    fn areas_equal_those_of_surface_distance() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/metrics/surfel_areas.json"
        );
        let text = std::fs::read(file).unwrap();
        let stored: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let grids = stored["areas_by_spacing"].as_object().unwrap();
        assert_eq!(grids.len(), 4);
        for (spacing, expected) in grids {
            let sides: Vec<f64> = spacing.split(',').map(|s| s.parse().unwrap()).collect();
            let found = areas(Spacing::new(sides[0], sides[1], sides[2]).unwrap());
            let expected = expected.as_array().unwrap();
            assert_eq!(expected.len(), 256);
            for (pattern, (found, expected)) in found.iter().zip(expected).enumerate() {
                let expected = expected.as_f64().unwrap();
                assert!((found - expected).abs() < 1e-12, "{spacing} {pattern}");
            }
        }
    }

    #[test]
    fn every_pattern_but_empty_and_full_has_an_area() {
        let areas = areas(Spacing::new(3.0, 1.2, 0.8).unwrap());
        for (pattern, area) in areas.iter().enumerate() {
            assert_eq!(*area > 0.0, (1..255).contains(&pattern), "{pattern}");
        }
    }

    #[test]
    fn a_flat_face_has_the_area_of_its_voxels() {
        let mut mask = Array3::from_elem((4, 6, 6), false);
        mask.slice_mut(s![..2, .., ..]).fill(true);
        let patterns = patterns(mask.view());
        let areas = areas(Spacing::new(5.0, 1.5, 2.0).unwrap());
        // Inside the slab's upper face each corner stands for one voxel's 1.5 × 2 mm².
        let inner = patterns.slice(s![2, 1..6, 1..6]);
        assert!(
            inner
                .iter()
                .all(|&p| (areas[usize::from(p)] - 3.0).abs() < 1e-12)
        );
        // Inside the slab nothing is on the surface.
        assert!(!is_on_surface(patterns[[1, 3, 3]]));
        assert!(!is_on_surface(patterns[[4, 3, 3]]));
    }
}
