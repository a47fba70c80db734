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

/// The trilinear weights of all corners.
#[inline]
pub(super) fn corner_weights([z, y, x]: [f32; 3]) -> [f32; 8] {
    let [near, far, near_above, far_above] =
        [(1.0 - z) * (1.0 - y), (1.0 - z) * y, z * (1.0 - y), z * y];
    let before = 1.0 - x;
    [
        near * before,
        near * x,
        far * before,
        far * x,
        near_above * before,
        near_above * x,
        far_above * before,
        far_above * x,
    ]
}

/// The label with the largest total weight among the corners of a point; ties go to the nearest
/// voxel's label if tied, else to the smallest.
#[inline]
pub(super) fn vote(labels: [i8; 8], odd: [bool; 3], share: [f32; 3]) -> i8 {
    let weights = corner_weights(share);
    let one = labels[0];
    let (mut other, mut of_one, mut of_others) = (one, 0.0, 0.0);
    for (&label, weight) in labels.iter().zip(weights) {
        other = if label == one { other } else { label };
        of_one += if label == one { weight } else { 0.0 };
        of_others += if label == one { 0.0 } else { weight };
    }
    let only_two = labels.iter().all(|&label| label == one || label == other);
    // One label that outweighs all others wins; between two, as nearly always, so does the other.
    if of_others < of_one - TIE {
        one
    } else if only_two && of_one < of_others - TIE {
        other
    } else if only_two {
        labels[nearest_corner(odd, share)]
    } else {
        vote_among_many(labels, weights, nearest_corner(odd, share))
    }
}

fn vote_among_many(labels: [i8; 8], weights: [f32; 8], nearest: usize) -> i8 {
    let total = |wanted: i8| -> f32 {
        let votes = labels.iter().zip(weights);
        votes
            .map(|(&label, weight)| if label == wanted { weight } else { 0.0 })
            .sum()
    };
    let totals = labels.map(total);
    let most = totals.iter().fold(0.0f32, |most, &total| most.max(total));
    let tied = |corner: &usize| totals[*corner] >= most - TIE;
    if tied(&nearest) {
        return labels[nearest];
    }
    let winners = (0..8).filter(tied).map(|corner| labels[corner]);
    winners.min().unwrap_or(labels[nearest])
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
