//! Pieces of a solid that lost their connection to the rest.

use crate::shape::Bounds;
use crate::vector::Point;

/// A lattice over a box.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lattice {
    low: Point,
    count: [usize; 3],
    step: f32,
}

impl Lattice {
    pub(crate) fn new(bounds: Bounds, step: f32) -> Self {
        let points = |a: usize| ((bounds.high[a] - bounds.low[a]).max(0.0) / step) as usize + 1;
        Self {
            low: bounds.low,
            count: [points(0), points(1), points(2)],
            step,
        }
    }

    /// The points of the lattice, x running fastest.
    pub(crate) fn points(self) -> impl Iterator<Item = Point> {
        (0..self.count.iter().product()).map(move |index| self.point(index))
    }

    fn point(&self, index: usize) -> Point {
        let [nx, ny, _] = self.count;
        let place = [index % nx, index / nx % ny, index / (nx * ny)];
        std::array::from_fn(|a| self.low[a] + place[a] as f32 * self.step)
    }

    /// The connected pieces (by six neighbours) of the points that are inside, without the largest
    /// piece. `open` says for each of [`Self::points`] whether it is inside.
    pub(crate) fn islands(&self, mut open: Vec<bool>) -> Vec<Vec<Point>> {
        let [nx, ny, nz] = self.count;
        let mut pieces: Vec<Vec<usize>> = Vec::new();
        for start in 0..open.len() {
            if !std::mem::replace(&mut open[start], false) {
                continue;
            }
            let (mut piece, mut next) = (vec![start], 0);
            while let Some(&index) = piece.get(next) {
                next += 1;
                let (x, y, z) = (index % nx, index / nx % ny, index / (nx * ny));
                let neighbours = [
                    (x > 0, index.wrapping_sub(1)),
                    (x + 1 < nx, index + 1),
                    (y > 0, index.wrapping_sub(nx)),
                    (y + 1 < ny, index + nx),
                    (z > 0, index.wrapping_sub(nx * ny)),
                    (z + 1 < nz, index + nx * ny),
                ];
                for (_, other) in neighbours.into_iter().filter(|(exists, _)| *exists) {
                    if std::mem::replace(&mut open[other], false) {
                        piece.push(other);
                    }
                }
            }
            pieces.push(piece);
        }
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
        let islands = pieces.iter().skip(1);
        islands
            .map(|piece| piece.iter().map(|&index| self.point(index)).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pieces_but_the_largest_are_found() {
        let bounds = Bounds {
            low: [-10.0; 3],
            high: [10.0; 3],
        };
        let lattice = Lattice::new(bounds, 2.0);
        assert_eq!(lattice.points().count(), 11 * 11 * 11);
        let ball =
            |p: Point, c: f32, r: f32| p.iter().map(|v| (v - c).powi(2)).sum::<f32>() < r * r;
        let inside = |p| ball(p, 4.0, 6.0) || ball(p, -8.0, 2.5);
        let islands = lattice.islands(lattice.points().map(inside).collect());
        assert_eq!(islands.len(), 1);
        assert_eq!(islands[0].len(), 7);
        assert!(islands[0].contains(&[-8.0; 3]));
        assert!(lattice.islands(vec![true; 11 * 11 * 11]).is_empty());
        assert!(lattice.islands(vec![false; 11 * 11 * 11]).is_empty());
    }
}
