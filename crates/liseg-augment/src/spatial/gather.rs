//! Trilinear interpolation of many points at once.

use crate::simd::vectorised;

/// Points that are worked on together: their corners are fetched one by one, the arithmetic is
/// done on vectors.
const BLOCK: usize = 16;

/// Where the eight corners of a cell lie behind its first one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    /// To the next row.
    pub(super) row: usize,
    /// To the next slice; 0 reads one slice twice.
    pub(super) slice: usize,
}

vectorised! {
    /// Sets each output to the interpolation between the corners of the cell that begins at
    /// `first`, with the given shares along z, y and x. Cells that do not lie in the input panic.
    pub(super) fn interpolate(
        input: &[f32],
        cell: Cell,
        first: &[u32],
        share_z: &[f32],
        share_y: &[f32],
        share_x: &[f32],
        out: &mut [f32],
    ) {
        let n = out.len();
        let (first, share_z) = (&first[..n], &share_z[..n]);
        let (share_y, share_x) = (&share_y[..n], &share_x[..n]);
        let mut from = 0;
        while from < n {
            let count = BLOCK.min(n - from);
            if count == BLOCK {
                let corners = fetch(input, cell, &first[from..from + BLOCK]);
                for k in 0..BLOCK {
                    let at = from + k;
                    out[at] = mix(&corners, k, share_z[at], share_y[at], share_x[at]);
                }
            } else {
                let mut last = [first[from]; BLOCK];
                last[..count].copy_from_slice(&first[from..]);
                let corners = fetch(input, cell, &last);
                for k in 0..count {
                    let at = from + k;
                    out[at] = mix(&corners, k, share_z[at], share_y[at], share_x[at]);
                }
            }
            from += BLOCK;
        }
    }
}

#[inline(always)]
fn fetch(input: &[f32], Cell { row, slice }: Cell, first: &[u32]) -> [[f32; BLOCK]; 8] {
    let mut corners = [[0.0; BLOCK]; 8];
    let length = slice + row + 2;
    for k in 0..BLOCK {
        let cell = &input[first[k] as usize..][..length];
        corners[0][k] = cell[0];
        corners[1][k] = cell[1];
        corners[2][k] = cell[row];
        corners[3][k] = cell[row + 1];
        corners[4][k] = cell[slice];
        corners[5][k] = cell[slice + 1];
        corners[6][k] = cell[slice + row];
        corners[7][k] = cell[slice + row + 1];
    }
    corners
}

#[inline(always)]
fn mix(corners: &[[f32; BLOCK]; 8], k: usize, z: f32, y: f32, x: f32) -> f32 {
    let [a, b, c, d, e, f, g, h] = corners;
    let near = a[k] + (b[k] - a[k]) * x;
    let far = c[k] + (d[k] - c[k]) * x;
    let first = near + (far - near) * y;
    let near = e[k] + (f[k] - e[k]) * x;
    let far = g[k] + (h[k] - g[k]) * x;
    let second = near + (far - near) * y;
    first + (second - first) * z
}
