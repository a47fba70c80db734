//! One linear resampling of image and label through an affine map.

use super::gather::interpolate;
use super::params::empty;
use super::row::{Bounds, Cells, Part, Row, fixed};
use super::vote::{nearest_corner, vote};
use super::warp::Grid;
use crate::{MapKind, OUTSIDE, Sample, Scratch};

/// Resamples through the affine map of `grid`.
///
/// Image: trilinear, 0 outside, so that the border fades over one voxel. Label: the label with
/// the largest total weight among the eight corners, where the outside is labelled −1; ties go to
/// the nearest voxel's label if tied, else to the smallest.
///
/// Expects arrays in C order.
pub(super) fn resample(sample: &Sample, grid: &Grid, scratch: &mut Scratch) -> Sample {
    let [nz, ny, nx] = grid.output;
    let mut result = empty(sample, grid.output, scratch);
    let (voxels_in, voxels_out) = (sample.label.len(), result.label.len());
    let labels = Labels::new(sample.label.as_slice().unwrap_or_default(), grid.input);
    let step = grid.step().map(fixed);
    let ahead = grid.rows_ahead(TILE);
    let mut cells = Cells::default();
    for place in tiled(nz, ny) {
        let row = Row::new(grid.input, grid.start(place).map(fixed), step, nx);
        cells.find(&row);
        let at = (place[0] * ny + place[1]) * nx;
        let voxels = at..at + nx;
        if let (Some(from), Some(to)) = (sample.image.as_slice(), result.image.as_slice_mut()) {
            let channels = from.chunks_exact(voxels_in);
            for (from, to) in channels.zip(to.chunks_exact_mut(voxels_out)) {
                fill_values(&row, &cells, ahead, from, &mut to[voxels.clone()]);
            }
        }
        if let Some(to) = result.label.as_slice_mut() {
            labels.fill(&row, &cells, &mut to[voxels.clone()]);
        }
        for (from, to) in sample.maps.iter().zip(&mut result.maps) {
            let kind = from.kind;
            if let (Some(from), Some(to)) = (from.values.as_slice(), to.values.as_slice_mut()) {
                let to = &mut to[voxels.clone()];
                match kind {
                    MapKind::Quantity => fill_values(&row, &cells, ahead, from, to),
                    MapKind::Regions => fill_regions(&row, &cells, from, to),
                }
            }
        }
    }
    result
}

/// Rows along each side of a tile.
const TILE: usize = 8;

/// Rows (z, y) of the output in square tiles: neighbouring rows in both directions read much the same
/// part of a turned input, which is still in the cache then.
pub(super) fn tiled(nz: usize, ny: usize) -> impl Iterator<Item = [usize; 2]> {
    (0..nz).step_by(TILE).flat_map(move |z_from| {
        (0..ny).step_by(TILE).flat_map(move |y_from| {
            (z_from..nz.min(z_from + TILE))
                .flat_map(move |z| (y_from..ny.min(y_from + TILE)).map(move |y| [z, y]))
        })
    })
}

/// Interpolates what touches the input; the rest is 0. Asks for the memory that the row of the next
/// tile will read.
fn fill_values(row: &Row, cells: &Cells, ahead: isize, from: &[f32], out: &mut [f32]) {
    out[..row.touching.0].fill(0.0);
    out[row.touching.1..].fill(0.0);
    let [share_z, share_y, share_x] = &cells.share;
    let inside = &mut out[row.inside.0..row.inside.1];
    interpolate(
        from,
        row.cell(ahead),
        &cells.first,
        share_z,
        share_y,
        share_x,
        inside,
    );
    for (x, border) in &cells.border {
        out[*x] = border.value(from);
    }
}

/// Takes the nearest voxel's value.
fn fill_regions(row: &Row, cells: &Cells, from: &[f32], out: &mut [f32]) {
    let outside = MapKind::Regions.outside();
    out[..row.touching.0].fill(outside);
    out[row.touching.1..].fill(outside);
    let (start, end) = row.inside;
    for (k, out) in out[start..end].iter_mut().enumerate() {
        let corner = nearest_corner(row.odd(start + k), cells.share(k));
        *out = from[cells.first[k] as usize + row.cell(0).offset(corner)];
    }
    for (x, border) in &cells.border {
        let corner = nearest_corner(border.odd, border.share);
        out[*x] = border.corners(from, outside)[corner];
    }
}

/// The labels of the input.
struct Labels<'a> {
    from: &'a [i8],
    /// The label of all voxels but those in the box `others`.
    background: i8,
    others: Option<Bounds>,
}

impl<'a> Labels<'a> {
    fn new(from: &'a [i8], shape: [usize; 3]) -> Self {
        let background = from.first().copied().unwrap_or(OUTSIDE);
        Self {
            from,
            background,
            others: bounds_of_others(from, background, shape),
        }
    }

    fn fill(&self, row: &Row, cells: &Cells, out: &mut [i8]) {
        let (touching, inside) = (row.touching, row.inside);
        out[..touching.0].fill(OUTSIDE);
        out[touching.1..].fill(OUTSIDE);
        let others = row.meets(self.others);
        let within = |x: usize| x.clamp(inside.0, inside.1);
        let voted = (within(others.0), within(others.1));
        out[inside.0..voted.0].fill(self.background);
        out[voted.1..inside.1].fill(self.background);
        self.vote_inside(row, voted, cells, out);
        for (x, border) in &cells.border {
            let labels = if (others.0..others.1).contains(x) {
                border.corners(self.from, OUTSIDE)
            } else {
                border.corners_of(self.background, OUTSIDE)
            };
            out[*x] = vote(labels, border.odd, border.share);
        }
    }

    /// Votes for the voxels of a part that lies inside.
    fn vote_inside(&self, row: &Row, part: Part, cells: &Cells, out: &mut [i8]) {
        let [a, b, c, d] = row.cell(0).views(self.from);
        let n = a.len();
        let (b, c, d) = (&b[..n], &c[..n], &d[..n]);
        let before = row.inside.0;
        let first = &cells.first[part.0 - before..part.1 - before];
        for (k, (out, &at)) in out[part.0..part.1].iter_mut().zip(first).enumerate() {
            let pair = |view: &[i8]| {
                let second = view[at as usize + 1];
                [view[at as usize], second]
            };
            let [near, far, near_above, far_above] = [pair(a), pair(b), pair(c), pair(d)];
            // Nearly always all corners agree.
            let alike = near == far && near == near_above && near == far_above;
            *out = if alike && near[0] == near[1] {
                near[0]
            } else {
                let [[a, b], [c, d], [e, f], [g, h]] = [near, far, near_above, far_above];
                let labels = [a, b, c, d, e, f, g, h];
                let x = part.0 + k;
                vote(labels, row.odd(x), cells.share(x - before))
            };
        }
    }
}

/// The box that holds all voxels with another label than `background`, if there are any.
fn bounds_of_others(label: &[i8], background: i8, [_, ny, nx]: [usize; 3]) -> Option<Bounds> {
    let mut bounds: Option<Bounds> = None;
    for (number, row) in label.chunks_exact(nx).enumerate() {
        let differs = row.iter().fold(0, |all, label| all | (label ^ background));
        if differs == 0 {
            continue;
        }
        let other = |label: &i8| *label != background;
        let (first, last) = (row.iter().position(other), row.iter().rposition(other));
        let (z, y) = (number / ny, number % ny);
        let (first, last) = (first.unwrap_or(0), last.unwrap_or(nx - 1));
        let [of_z, of_y, of_x] = bounds.unwrap_or([(z, z), (y, y), (first, last)]);
        bounds = Some([
            (of_z.0, z),
            (of_y.0.min(y), of_y.1.max(y)),
            (of_x.0.min(first), of_x.1.max(last)),
        ]);
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_visit_every_row_once() {
        for (nz, ny) in [(1, 1), (8, 8), (9, 37), (3, 40)] {
            let mut rows: Vec<_> = tiled(nz, ny).collect();
            rows.sort_unstable();
            let all = (0..nz).flat_map(|z| (0..ny).map(move |y| [z, y]));
            assert!(rows.into_iter().eq(all));
        }
    }

    #[test]
    fn other_labels_are_found_in_a_box() {
        let shape = [4, 5, 6];
        let mut label = vec![0i8; 4 * 5 * 6];
        assert_eq!(bounds_of_others(&label, 0, shape), None);
        for [z, y, x] in [[1, 3, 2], [2, 1, 5], [2, 4, 2]] {
            label[(z * 5 + y) * 6 + x] = -1;
        }
        let expected = [(1, 2), (1, 4), (2, 5)];
        assert_eq!(bounds_of_others(&label, 0, shape), Some(expected));
    }

    #[test]
    fn labels_away_from_the_others_need_no_vote() {
        let shape = [6, 12, 14];
        // A liver in the middle, one in the corner, and a whole volume beside a corner of another label.
        for (first, end) in [
            ([2, 5, 3], [4, 9, 7]),
            ([4, 8, 9], [6, 12, 14]),
            ([0, 0, 1], [6, 12, 14]),
        ] {
            let label = |at: usize| {
                let point = [at / (12 * 14), at / 14 % 12, at % 14];
                i8::from((0..3).all(|axis| (first[axis]..end[axis]).contains(&point[axis])))
            };
            let label: Vec<i8> = (0..6 * 12 * 14).map(label).collect();
            let quick = Labels::new(&label, shape);
            let all = Labels {
                others: Some([(0, 5), (0, 11), (0, 13)]),
                ..Labels::new(&label, shape)
            };
            let mut cells = Cells::default();
            let step = [-0.21, 0.37, 0.93].map(fixed);
            for k in 0..200 {
                let k = f64::from(k);
                let start = [k * 0.037, k * 0.05 - 2.0, k * 0.021 - 3.0].map(fixed);
                let row = Row::new(shape, start, step, 20);
                cells.find(&row);
                let filled = |labels: &Labels<'_>| {
                    let mut out = vec![9; 20];
                    labels.fill(&row, &cells, &mut out);
                    out
                };
                assert_eq!(filled(&quick), filled(&all), "row {k}");
            }
        }
    }
}
