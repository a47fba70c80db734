//! Trilinear interpolation of many points at once.

use crate::simd::vectorised;

/// Points that are worked on together: their corners are fetched one by one, the arithmetic is
/// done on vectors.
const BLOCK: usize = 64;

/// Neighbours along x: one load.
type Pairs = [[f32; 2]; BLOCK];

/// Where the eight corners of a cell lie behind its first one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    /// To the next row.
    pub(super) row: usize,
    /// To the next slice; 0 reads one slice twice.
    pub(super) slice: usize,
    /// To a cell that will be read soon, whose memory is asked for now; 0 asks for none.
    pub(super) ahead: isize,
}

impl Cell {
    /// Where a corner lies behind the first one; corners count in bits z, y, x.
    pub(super) fn offset(self, corner: usize) -> usize {
        (corner >> 2) * self.slice + (corner >> 1 & 1) * self.row + (corner & 1)
    }

    /// The volume as seen from the four first corners of a cell along x: at the place of a cell's
    /// first corner each holds one, and the other of its pair behind it. All have one length, so
    /// that one comparison serves all eight corners; they are empty where no cell fits.
    #[inline(always)]
    pub(super) fn views<T>(self, volume: &[T]) -> [&[T]; 4] {
        let length = volume.len().saturating_sub(self.slice + self.row);
        [0, self.row, self.slice, self.slice + self.row]
            .map(|start| volume.get(start..start + length).unwrap_or_default())
    }
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
        let views = cell.views(input);
        let mut corners = [[[0.0; 2]; BLOCK]; 4];
        for from in (0..n).step_by(BLOCK) {
            let block = from..n.min(from + BLOCK);
            if cell.ahead != 0 {
                first[block.clone()]
                    .iter()
                    .for_each(|&at| ask_for(input, at as usize, cell.ahead));
            }
            fetch(views, &first[block.clone()], &mut corners);
            mix(
                &corners,
                &share_z[block.clone()],
                &share_y[block.clone()],
                &share_x[block.clone()],
                &mut out[block],
            );
        }
    }
}

#[inline(always)]
fn fetch(views: [&[f32]; 4], first: &[u32], corners: &mut [Pairs; 4]) {
    let [a, b, c, d] = views;
    let n = a.len();
    let (b, c, d) = (&b[..n], &c[..n], &d[..n]);
    let [near, far, near_above, far_above] = corners;
    let pairs = near.iter_mut().zip(far).zip(near_above).zip(far_above);
    for (&at, (((near, far), near_above), far_above)) in first.iter().zip(pairs) {
        // The second one first: where it lies in the volume, so does the other.
        let pair = |view: &[f32]| {
            let second = view[at as usize + 1];
            [view[at as usize], second]
        };
        (*near, *far) = (pair(a), pair(b));
        (*near_above, *far_above) = (pair(c), pair(d));
    }
}

/// Asks the processor to bring the value that lies `ahead` of number `at` into its cache. A turned row
/// meets a new line of memory every few voxels, in an order that no processor foresees.
#[inline(always)]
fn ask_for(input: &[f32], at: usize, ahead: isize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = input.as_ptr().wrapping_add(at).wrapping_offset(ahead);
        #[expect(unsafe_code, reason = "there is no safe form of this hint")]
        // SAFETY: nothing is read; an address that is nowhere is ignored.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(place.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (input, at, ahead);
}

#[inline(always)]
fn mix(corners: &[Pairs; 4], z: &[f32], y: &[f32], x: &[f32], out: &mut [f32]) {
    let n = out.len();
    let [a, b, c, d] = corners;
    let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
    let (z, y, x) = (&z[..n], &y[..n], &x[..n]);
    for k in 0..n {
        let along = |[lower, upper]: [f32; 2], share: f32| lower + (upper - lower) * share;
        let below = along([along(a[k], x[k]), along(b[k], x[k])], y[k]);
        let above = along([along(c[k], x[k]), along(d[k], x[k])], y[k]);
        out[k] = along([below, above], z[k]);
    }
}
