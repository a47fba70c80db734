//! Which label a point between voxels gets.

/// Total weights this close count as equal. The reference compares votes of up to 1000 in half
/// precision, whose steps there are 0.25 to 0.5.
const TIE: f32 = 2.5e-4;

/// Whether corner number `corner` of 0..8 is the upper one along the axis: bits z, y, x.
pub(super) fn is_upper(corner: usize, axis: usize) -> bool {
    corner >> (2 - axis) & 1 == 1
}

/// The trilinear weight of a corner, from how far the point lies above the lower voxels.
pub(super) fn corner_weight(share: [f32; 3], corner: usize) -> f32 {
    (0..3)
        .map(|axis| match is_upper(corner, axis) {
            true => share[axis],
            false => 1.0 - share[axis],
        })
        .product()
}

/// The corner nearest to a point; halves go to the even voxel. `odd` says which lower voxels have
/// odd numbers.
#[expect(clippy::float_cmp, reason = "a tie is an exact half")]
pub(super) fn nearest_corner(odd: [bool; 3], share: [f32; 3]) -> usize {
    (0..3).fold(0, |corner, axis| {
        let upper = share[axis] > 0.5 || (share[axis] == 0.5 && odd[axis]);
        corner << 1 | usize::from(upper)
    })
}

/// The label with the largest total weight among the corners of a point; ties go to the nearest
/// voxel's label if tied, else to the smallest.
pub(super) fn vote(labels: [i8; 8], odd: [bool; 3], share: [f32; 3]) -> i8 {
    let mut seen = [(0i8, 0f32); 8];
    let mut count = 0;
    for (corner, &label) in labels.iter().enumerate() {
        let weight = corner_weight(share, corner);
        match seen[..count].iter_mut().find(|(other, _)| *other == label) {
            Some((_, total)) => *total += weight,
            None => {
                seen[count] = (label, weight);
                count += 1;
            }
        }
    }
    let seen = &seen[..count];
    let most = seen
        .iter()
        .fold(0.0f32, |most, &(_, total)| most.max(total));
    let tied = |&&(_, total): &&(i8, f32)| total >= most - TIE;
    let nearest = labels[nearest_corner(odd, share)];
    if seen.iter().filter(tied).any(|&(label, _)| label == nearest) {
        return nearest;
    }
    seen.iter()
        .filter(tied)
        .map(|&(label, _)| label)
        .min()
        .unwrap_or(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_decided_by_the_nearest_even_voxel() {
        let labels = [5, 1, 5, 1, 5, 1, 5, 1];
        let along_x = |odd, share| vote(labels, [false, false, odd], [0.0, 0.0, share]);
        // Along x between voxels 2 (label 5) and 3 (label 1): 2 is even.
        assert_eq!(along_x(false, 0.5), 5);
        // Between 3 and 4: 4, the upper one, is even.
        assert_eq!(along_x(true, 0.5), 1);
        // A clear majority needs no tie rule.
        assert_eq!(along_x(false, 0.25), 5);
        assert_eq!(along_x(false, 0.75), 1);
    }
}
