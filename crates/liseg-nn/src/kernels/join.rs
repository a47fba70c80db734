//! Nearest-neighbour enlargement and joining of channels in one pass, and its gradient.
//!
//! libtorch first writes the enlarged map, then copies it and the finer one into the joined map; in the backward pass it
//! turns the channels that were enlarged into the default layout and back.

use super::{Element, Run, with_own};
use std::sync::Mutex;

/// A coarse map and the finer one it is joined with; axes are (z, y, x). What C++ calls `JoinShape`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) samples: usize,
    /// Channels of the coarse map, which come first, and of the finer one.
    pub(crate) channels: [usize; 2],
    pub(crate) coarse: [usize; 3],
    /// Voxels of the finer map for one of the coarse map.
    pub(crate) factor: [usize; 3],
}

impl Join {
    /// Numbers in the coarse map, in the finer and in the joined one.
    pub(crate) fn lengths(&self) -> [usize; 3] {
        let [a, b] = self.channels;
        let coarse = self.samples * self.coarse.iter().product::<usize>();
        let fine = coarse * self.factor.iter().product::<usize>();
        [coarse * a, fine * b, fine * (a + b)]
    }

    /// Whether the maps have the [lengths](Self::lengths) and no axis or channel is empty.
    fn fits(&self, lengths: [usize; 3]) -> bool {
        lengths == self.lengths() && !lengths.contains(&0)
    }

    /// Voxels of a row of the finer map.
    fn width(&self) -> usize {
        self.coarse[2] * self.factor[2]
    }

    /// Numbers of all finer rows of a coarse plane, for a map of `channels`.
    fn of_plane(&self, channels: usize) -> usize {
        self.factor[0] * self.coarse[1] * self.factor[1] * self.width() * channels
    }

    /// Writes the joined map. False where maps or threads do not allow it.
    pub(crate) fn join<T: Element>(
        &self,
        coarse: &[T],
        fine: &[T],
        joined: &mut [T],
        run: Run,
    ) -> bool {
        if !self.fits([coarse.len(), fine.len(), joined.len()]) {
            return false;
        }
        let [a, b] = self.channels;
        let row = self.coarse[2] * a;
        let planes = joined.chunks_exact_mut(self.of_plane(a + b));
        let planes: Vec<_> = planes.map(Mutex::new).collect();
        run(planes.len(), &|i| {
            with_own(&planes, i, |joined| {
                let coarse = &coarse[i * self.coarse[1] * row..][..self.coarse[1] * row];
                let fine = &fine[i * self.of_plane(b)..][..self.of_plane(b)];
                let width = self.width();
                let rows = joined.chunks_exact_mut(width * (a + b));
                for (y, (joined, fine)) in rows.zip(fine.chunks_exact(width * b)).enumerate() {
                    let y = y / self.factor[1] % self.coarse[1];
                    self.join_row(&coarse[y * row..][..row], fine, joined);
                }
            });
        })
    }

    fn join_row<T: Element>(&self, coarse: &[T], fine: &[T], joined: &mut [T]) {
        let [a, b] = self.channels;
        let joined = joined.chunks_exact_mut(self.factor[2] * (a + b));
        let fine = fine.chunks_exact(self.factor[2] * b);
        for ((coarse, fine), joined) in coarse.chunks_exact(a).zip(fine).zip(joined) {
            for (fine, joined) in fine.chunks_exact(b).zip(joined.chunks_exact_mut(a + b)) {
                let (first, last) = joined.split_at_mut(a);
                first.copy_from_slice(coarse);
                last.copy_from_slice(fine);
            }
        }
    }

    /// Writes the gradients of both maps from that of the joined one; sums are taken in f32. False where maps or threads do
    /// not allow it.
    pub(crate) fn split<T: Element>(
        &self,
        joined: &[T],
        coarse: &mut [T],
        fine: &mut [T],
        run: Run,
    ) -> bool {
        if !self.fits([coarse.len(), fine.len(), joined.len()]) {
            return false;
        }
        let [a, b] = self.channels;
        let planes = coarse.chunks_exact_mut(self.coarse[1] * self.coarse[2] * a);
        let planes: Vec<_> = planes
            .zip(fine.chunks_exact_mut(self.of_plane(b)))
            .map(Mutex::new)
            .collect();
        run(planes.len(), &|i| {
            with_own(&planes, i, |(coarse, fine)| {
                let joined = &joined[i * self.of_plane(a + b)..][..self.of_plane(a + b)];
                self.split_plane(joined, coarse, fine);
            });
        })
    }

    fn split_plane<T: Element>(&self, joined: &[T], coarse: &mut [T], fine: &mut [T]) {
        let [a, b] = self.channels;
        let row = self.coarse[2] * a;
        let mut sums = vec![0.0f32; coarse.len()];
        let rows = joined.chunks_exact(self.width() * (a + b));
        for (y, (joined, fine)) in rows
            .zip(fine.chunks_exact_mut(self.width() * b))
            .enumerate()
        {
            let y = y / self.factor[1] % self.coarse[1];
            let sums = &mut sums[y * row..][..row];
            let joined = joined.chunks_exact(self.factor[2] * (a + b));
            let fine = fine.chunks_exact_mut(self.factor[2] * b);
            for ((sums, fine), joined) in sums.chunks_exact_mut(a).zip(fine).zip(joined) {
                for (fine, joined) in fine.chunks_exact_mut(b).zip(joined.chunks_exact(a + b)) {
                    let (first, last) = joined.split_at(a);
                    for (sum, value) in sums.iter_mut().zip(first) {
                        *sum += value.to_f32();
                    }
                    fine.copy_from_slice(last);
                }
            }
        }
        for (value, sum) in coarse.iter_mut().zip(sums) {
            *value = T::of_f32(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{one_by_one, values};
    use super::*;
    use proptest::prelude::*;

    fn joins() -> impl proptest::strategy::Strategy<Value = Join> {
        (
            1usize..3,
            [1usize..6, 1usize..6],
            [1usize..4, 1usize..4, 1usize..4],
            [1usize..4, 1usize..4, 1usize..4],
        )
            .prop_map(|(samples, channels, coarse, factor)| Join {
                samples,
                channels,
                coarse,
                factor,
            })
    }

    proptest! {
        #[test]
        fn every_voxel_holds_its_coarse_voxel_then_its_own(join in joins()) {
            let [of_coarse, of_fine, of_joined] = join.lengths();
            let (coarse, fine) = (values(of_coarse, 0), values(of_fine, 0));
            let mut joined = vec![f32::NAN; of_joined];
            prop_assert!(join.join(&coarse, &fine, &mut joined, &one_by_one));
            let [a, b] = join.channels;
            let [_, h, w] = join.coarse;
            let [fz, fy, fx] = join.factor;
            for (voxel, joined) in joined.chunks_exact(a + b).enumerate() {
                let (x, rest) = (voxel % (w * fx), voxel / (w * fx));
                let (y, z) = (rest % (h * fy), rest / (h * fy));
                let under = ((z / fz) * h + y / fy) * w + x / fx;
                prop_assert_eq!(&joined[..a], &coarse[under * a..][..a]);
                prop_assert_eq!(&joined[a..], &fine[voxel * b..][..b]);
            }
        }

        /// ⟨join(c, f), g⟩ = ⟨c, split(g)₁⟩ + ⟨f, split(g)₂⟩ for all c, f and g.
        #[test]
        fn the_gradient_is_the_adjoint(join in joins()) {
            let [of_coarse, of_fine, of_joined] = join.lengths();
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let (coarse, fine, g) = (values(of_coarse, 0), values(of_fine, 0), values(of_joined, 0));
            let mut joined = vec![f32::NAN; of_joined];
            let (mut to_coarse, mut to_fine) = (vec![f32::NAN; of_coarse], vec![f32::NAN; of_fine]);
            prop_assert!(join.join(&coarse, &fine, &mut joined, &one_by_one));
            prop_assert!(join.split(&g, &mut to_coarse, &mut to_fine, &one_by_one));
            let (there, back) = (dot(&joined, &g), dot(&coarse, &to_coarse) + dot(&fine, &to_fine));
            prop_assert!((there - back).abs() < 1e-3, "{there} and {back}");
        }
    }

    #[test]
    fn maps_that_do_not_fit_are_refused() {
        let join = Join {
            samples: 1,
            channels: [2, 3],
            coarse: [1, 2, 2],
            factor: [1, 2, 2],
        };
        let [of_coarse, of_fine, of_joined] = join.lengths();
        let (coarse, fine) = (values(of_coarse, 0), values(of_fine, 0));
        let mut joined = vec![0.5; of_joined];
        assert!(!join.join(&coarse[1..], &fine, &mut joined, &one_by_one));
        let empty = Join { samples: 0, ..join };
        assert!(!empty.join::<f32>(&[], &[], &mut [], &one_by_one));
        assert!(!join.join(&coarse, &fine, &mut joined, &|_, _| false));
        assert!(joined.iter().all(|v| *v == 0.5));
    }
}
