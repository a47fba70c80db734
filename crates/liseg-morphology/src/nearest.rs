//! Which voxel is the nearest one.
//!
//! The passes are those of the distance transform, with the place of the nearest target carried
//! along: along x in the row, along y in the slice, along z in the volume.

use liseg_volume::Spacing;
use ndarray::{Array3, ArrayView3, ArrayViewMut2, Axis};
use rayon::prelude::*;

/// Squared distance to the nearest target, and where that lies.
///
/// Made by [`nearest_target`].
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    /// Squared distance in mm², `[z, y, x]`; +∞ everywhere when there is no target.
    pub squared: Array3<f64>,
    /// Index of the nearest target in storage order (z slowest, x fastest), `[z, y, x]`; `None`
    /// everywhere when there is no target.
    index: Array3<u32>,
}

/// A place that is no place.
const NOWHERE: u32 = u32::MAX;

impl Nearest {
    /// Where the target nearest to a voxel lies, (z, y, x); `None` without targets or outside the
    /// volume.
    pub fn place(&self, voxel: [usize; 3]) -> Option<[usize; 3]> {
        let index = *self.index.get(voxel).filter(|&&index| index != NOWHERE)? as usize;
        let (_, height, width) = self.index.dim();
        Some([
            index / (height * width),
            index / width % height,
            index % width,
        ])
    }
}

/// The nearest `true` voxel of every voxel: the Euclidean feature transform.
///
/// Of several targets at one distance any may be given; which one depends on the mask alone.
///
/// # Shapes and units
/// `mask`: `[z, y, x]`, in any memory layout, of fewer than 2³² − 1 voxels; distances run from
/// centre to centre in mm.
///
/// # Errors
/// [`Error::Voxels`](crate::Error::Voxels) when there are too many to be numbered.
///
/// # Examples
/// ```
/// use liseg_morphology::nearest_target;
/// use liseg_volume::Spacing;
/// use ndarray::Array3;
///
/// let mut mask = Array3::from_elem((3, 4, 5), false);
/// mask[[0, 0, 4]] = true;
/// mask[[2, 0, 0]] = true;
/// let nearest = nearest_target(mask.view(), Spacing::new(5.0, 1.0, 1.0)?)?;
/// assert_eq!(nearest.place([2, 3, 3]), Some([2, 0, 0]));
/// assert_eq!(nearest.squared[[2, 3, 3]], 18.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn nearest_target(mask: ArrayView3<'_, bool>, spacing: Spacing) -> crate::Result<Nearest> {
    let voxels = mask.len();
    if voxels >= NOWHERE as usize {
        return Err(crate::Error::Voxels { found: voxels });
    }
    let mut squared = Array3::from_elem(mask.dim(), f64::INFINITY);
    let mut index = Array3::from_elem(mask.dim(), NOWHERE);
    let (_, height, width) = mask.dim();
    let slices = squared.outer_iter_mut().into_par_iter();
    let slices = slices.zip(index.outer_iter_mut()).zip(mask.outer_iter());
    slices.enumerate().for_each_init(
        Envelope::default,
        |envelope, (z, ((mut squared, mut index), mask))| {
            for (y, row) in mask.outer_iter().enumerate() {
                let first = ((z * height + y) * width) as u32;
                let targets = row.iter().enumerate().filter(|&(_, &inside)| inside);
                for (x, _) in targets {
                    squared[[y, x]] = 0.0;
                    index[[y, x]] = first + x as u32;
                }
            }
            envelope.along_rows(
                squared.view_mut().reversed_axes(),
                index.view_mut().reversed_axes(),
                spacing.x(),
            );
            envelope.along_rows(squared, index, spacing.y());
        },
    );
    let planes = squared.axis_iter_mut(Axis(1)).into_par_iter();
    planes.zip(index.axis_iter_mut(Axis(1))).for_each_init(
        Envelope::default,
        |envelope, (squared, index)| {
            envelope.along_rows(squared, index, spacing.z());
        },
    );
    Ok(Nearest { squared, index })
}

/// A parabola of the lower envelope, and the target that it stands for.
#[derive(Clone, Copy)]
struct Parabola {
    at: f64,
    height: f64,
    target: u32,
}

/// Working memory of one thread.
#[derive(Default)]
struct Envelope {
    parabolas: Vec<Parabola>,
}

impl Envelope {
    /// Takes the lower envelope of every column, from row to row.
    fn along_rows(
        &mut self,
        mut squared: ArrayViewMut2<'_, f64>,
        mut index: ArrayViewMut2<'_, u32>,
        spacing: f64,
    ) {
        let s2 = spacing * spacing;
        let columns = squared.columns_mut().into_iter();
        for (mut squared, mut index) in columns.zip(index.columns_mut()) {
            self.parabolas.clear();
            for (at, (&height, &target)) in squared.iter().zip(&index).enumerate() {
                if height.is_finite() {
                    let at = at as f64;
                    self.push(Parabola { at, height, target }, s2);
                }
            }
            let Some((&(mut current), mut rest)) = self.parabolas.split_first() else {
                continue;
            };
            for (at, (squared, index)) in squared.iter_mut().zip(&mut index).enumerate() {
                let from = |p: &Parabola| p.height + s2 * (at as f64 - p.at).powi(2);
                while let Some((next, others)) = rest.split_first() {
                    if from(next) > from(&current) {
                        break;
                    }
                    (current, rest) = (*next, others);
                }
                (*squared, *index) = (from(&current), current.target);
            }
        }
    }

    /// Adds a parabola behind the others and takes away those that it hides; the test is that of
    /// the distance transform.
    fn push(&mut self, new: Parabola, s2: f64) {
        while let [.., first, middle] = self.parabolas[..] {
            let (a, b) = (middle.at - first.at, new.at - middle.at);
            let c = a + b;
            if c * middle.height - b * first.height - a * new.height < a * b * c * s2 {
                break;
            }
            self.parabolas.pop();
        }
        self.parabolas.push(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squared_distance_to;
    use crate::testing::masks;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_nearest_target_is_a_target_at_the_distance_told(
            mask in masks(),
            s in [0.2..9.0f64, 0.2..9.0, 0.2..9.0],
        ) {
            let spacing = Spacing::try_from(s).unwrap();
            let nearest = nearest_target(mask.view(), spacing).unwrap();
            let expected = squared_distance_to(mask.view(), spacing);
            for ((z, y, x), &expected) in expected.indexed_iter() {
                let found = nearest.squared[[z, y, x]];
                let Some(place) = nearest.place([z, y, x]) else {
                    prop_assert!(found.is_infinite() && expected.is_infinite());
                    continue;
                };
                prop_assert!(mask[place]);
                let at = [z, y, x];
                let measured: f64 = (0..3)
                    .map(|a| (s[a] * (at[a] as f64 - place[a] as f64)).powi(2))
                    .sum();
                for other in [found, measured] {
                    prop_assert!((other - expected).abs() <= 1e-12 * expected.max(1.0));
                }
            }
            prop_assert!(nearest.place([99, 0, 0]).is_none());
        }

        #[test]
        fn memory_layout_does_not_matter(mask in masks()) {
            let spacing = Spacing::new(3.0, 1.3, 0.7).unwrap();
            let turned = mask.view().reversed_axes().as_standard_layout().into_owned();
            let view = turned.view().reversed_axes();
            prop_assert_eq!(
                nearest_target(view, spacing).unwrap(),
                nearest_target(mask.view(), spacing).unwrap()
            );
        }
    }
}
