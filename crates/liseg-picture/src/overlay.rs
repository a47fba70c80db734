//! From a volume and masks to a picture.

use crate::{Arrangement, Error, Layout, MAX_SIDE, Picture, Plane, Result};
use liseg_volume::{LabelMap, Volume};
use ndarray::{ArrayView2, ArrayView3, Axis};

/// Black pixels between sections.
const GAP: usize = 4;
/// Percentiles are taken from at most about this many voxels, evenly spread.
const PERCENTILE_SAMPLES: usize = 200_000;

/// Draws sections of a volume in grey, with the outlines of masks (labels other than 0) on top.
///
/// The grey window is taken from percentiles of the whole volume; values that are not finite are
/// black. Slices follow the stored axes, so an oblique volume is shown in its own planes. Later
/// outlines are drawn over earlier ones.
///
/// # Errors
/// [`Error::Layout`] for a layout that makes no picture, [`Error::Grid`] for a mask on another grid
/// than the image, [`Error::Size`] for a picture with a side above [`MAX_SIDE`].
pub fn overlay(
    volume: &Volume<f32>,
    outlines: &[(&LabelMap, [u8; 3])],
    layout: &Layout,
) -> Result<Picture> {
    layout.check()?;
    for (index, (mask, _)) in outlines.iter().enumerate() {
        if !volume.geometry().same_grid(&mask.geometry()) {
            return Err(Error::Grid {
                index,
                expected: volume.shape(),
                found: mask.shape(),
            });
        }
    }
    let image = Canonical::of(volume);
    let masks: Vec<_> = outlines
        .iter()
        .map(|(mask, colour)| (Canonical::of(mask).view, *colour))
        .collect();
    let focus = Focus::of(&masks, image.view.dim());
    let sections = focus.sections(layout.arrangement);
    let sizes: Vec<_> = sections
        .iter()
        .map(|(plane, _)| image.size(*plane, layout.pixels_per_mm))
        .collect();
    let gaps = GAP * (sizes.len() - 1);
    let width = sizes
        .iter()
        .fold(gaps, |sum, (_, width)| sum.saturating_add(*width));
    let height = sizes.iter().map(|(height, _)| *height).max().unwrap_or(0);
    if width.max(height) > MAX_SIDE {
        return Err(Error::Size {
            width,
            height,
            limit: MAX_SIDE,
        });
    }
    let window = Window::of(volume, layout);
    let pictures: Vec<_> = sections
        .iter()
        .zip(sizes)
        .map(|(&(plane, index), size)| {
            let [across, ..] = plane.axes();
            let slice = image.view.index_axis(Axis(across), index);
            let mut picture = draw_slice(slice, size, window);
            for (mask, colour) in &masks {
                draw_outline(
                    &mut picture,
                    mask.index_axis(Axis(across), index),
                    size,
                    *colour,
                );
            }
            picture
        })
        .collect();
    let row = Picture::beside(&pictures, GAP);
    Ok(match &layout.caption {
        Some(caption) => row.captioned(caption, if row.height >= 200 { 2 } else { 1 }),
        None => row,
    })
}

/// A volume seen in RAS order, without a copy.
struct Canonical<'a, T> {
    /// Axes (z, y, x), growing to superior, anterior and right.
    view: ArrayView3<'a, T>,
    spacing: [f64; 3],
}

impl<'a, T> Canonical<'a, T> {
    fn of(volume: &'a Volume<T>) -> Self {
        let mut permutation = [0; 3];
        let mut flipped = [false; 3];
        for (file_axis, direction) in volume.orientation().xyz().into_iter().enumerate() {
            let canonical = 2 - direction.world_axis();
            permutation[canonical] = 2 - file_axis;
            flipped[canonical] = !direction.is_positive();
        }
        let stored = volume.spacing().zyx();
        let mut view = volume.data().permuted_axes(permutation);
        for (axis, flip) in flipped.into_iter().enumerate() {
            if flip {
                view.invert_axis(Axis(axis));
            }
        }
        Self {
            view,
            spacing: permutation.map(|axis| stored[axis]),
        }
    }

    /// Rows and columns of a section's picture.
    fn size(&self, plane: Plane, pixels_per_mm: f64) -> (usize, usize) {
        let [_, down, along] = plane.axes();
        // A float cast saturates, so absurd resolutions end in Error::Size.
        let pixels = |axis: usize| {
            let length_mm = self.view.len_of(Axis(axis)) as f64 * self.spacing[axis];
            ((length_mm * pixels_per_mm).round() as usize).max(1)
        };
        (pixels(down), pixels(along))
    }
}

/// The box and the centre that sections are chosen by, (z, y, x).
struct Focus {
    first: [usize; 3],
    last: [usize; 3],
    centre: [usize; 3],
}

impl Focus {
    fn of(masks: &[(ArrayView3<'_, u8>, [u8; 3])], shape: (usize, usize, usize)) -> Self {
        let last = [shape.0 - 1, shape.1 - 1, shape.2 - 1];
        let whole = Self {
            first: [0; 3],
            last,
            centre: last.map(|l| l.div_ceil(2)),
        };
        let found = masks.iter().find_map(|(mask, _)| Self::of_mask(mask));
        found.unwrap_or(whole)
    }

    fn of_mask(mask: &ArrayView3<'_, u8>) -> Option<Self> {
        let (mut first, mut last) = ([usize::MAX; 3], [0; 3]);
        let (mut sum, mut count) = ([0usize; 3], 0usize);
        for ((z, y, x), _) in mask.indexed_iter().filter(|(_, label)| **label != 0) {
            count += 1;
            for (axis, index) in [z, y, x].into_iter().enumerate() {
                first[axis] = first[axis].min(index);
                last[axis] = last[axis].max(index);
                sum[axis] += index;
            }
        }
        (count > 0).then(|| Self {
            first,
            last,
            centre: sum.map(|s| (s + count / 2) / count),
        })
    }

    fn sections(&self, arrangement: Arrangement) -> Vec<(Plane, usize)> {
        match arrangement {
            Arrangement::ThreePlanes => [Plane::Axial, Plane::Coronal, Plane::Sagittal]
                .map(|plane| (plane, self.centre[plane.axes()[0]]))
                .to_vec(),
            Arrangement::Slices { plane, count } => {
                let axis = plane.axes()[0];
                let length = (self.last[axis] - self.first[axis] + 1) as f64;
                // The middles of `count` equal parts: the ends of an organ show little.
                (0..count)
                    .map(|i| (i as f64 + 0.5) / count as f64 * length)
                    .map(|offset| (plane, self.first[axis] + offset as usize))
                    .collect()
            }
        }
    }
}

/// Intensities shown black and white.
#[derive(Clone, Copy)]
struct Window {
    low: f32,
    high: f32,
}

impl Window {
    fn of(volume: &Volume<f32>, layout: &Layout) -> Self {
        let data = volume.data();
        // An odd step does not fall into step with even row lengths.
        let step = (data.len() / PERCENTILE_SAMPLES) | 1;
        let mut values: Vec<f32> = data
            .iter()
            .step_by(step)
            .copied()
            .filter(|v| v.is_finite())
            .collect();
        if values.is_empty() {
            return Self {
                low: 0.0,
                high: 1.0,
            };
        }
        let mut percentile = |percent: f64| {
            let place = (percent / 100.0 * (values.len() - 1) as f64).round() as usize;
            *values.select_nth_unstable_by(place, f32::total_cmp).1
        };
        Self {
            low: percentile(layout.lower_percentile),
            high: percentile(layout.upper_percentile),
        }
    }

    fn grey(self, value: f32) -> u8 {
        let range = self.high - self.low;
        if range <= 0.0 {
            return if value > self.high { 255 } else { 0 };
        }
        // A cast from float saturates, and NaN becomes 0.
        ((value - self.low) / range * 255.0).round() as u8
    }
}

/// Where the pixels of one side lie between two voxels: (lower, upper, weight of the upper).
/// The axis runs backwards, as all three canonical axes do in radiological pictures.
fn places(voxels: usize, pixels: usize) -> Vec<(usize, usize, f32)> {
    (0..pixels)
        .map(|pixel| {
            let at = voxels as f64 * (1.0 - (pixel as f64 + 0.5) / pixels as f64) - 0.5;
            let at = at.clamp(0.0, (voxels - 1) as f64);
            let lower = at as usize;
            ((lower), (lower + 1).min(voxels - 1), at.fract() as f32)
        })
        .collect()
}

/// Linear interpolation of `value` at every pixel, rows first.
fn interpolate<T: Copy>(
    slice: ArrayView2<'_, T>,
    (height, width): (usize, usize),
    value: impl Fn(T) -> f32,
) -> Vec<f32> {
    let rows = places(slice.nrows(), height);
    let columns = places(slice.ncols(), width);
    let mut pixels = Vec::with_capacity(height * width);
    for &(y0, y1, fy) in &rows {
        for &(x0, x1, fx) in &columns {
            let mix = |a: T, b: T, t: f32| {
                if t > 0.0 {
                    value(a) * (1.0 - t) + value(b) * t
                } else {
                    value(a)
                }
            };
            let upper = mix(slice[[y0, x0]], slice[[y0, x1]], fx);
            let lower = mix(slice[[y1, x0]], slice[[y1, x1]], fx);
            pixels.push(if fy > 0.0 {
                upper * (1.0 - fy) + lower * fy
            } else {
                upper
            });
        }
    }
    pixels
}

fn draw_slice(slice: ArrayView2<'_, f32>, size: (usize, usize), window: Window) -> Picture {
    let values = interpolate(slice, size, |v| v);
    Picture {
        width: size.1,
        height: size.0,
        rgb: values.iter().flat_map(|&v| [window.grey(v); 3]).collect(),
    }
}

/// Colours the pixels inside the mask that touch a pixel outside it (four neighbours).
///
/// The mask is interpolated linearly and cut at one half, so that the outline of a coarse mask is
/// a smooth line and not a staircase.
fn draw_outline(
    picture: &mut Picture,
    mask: ArrayView2<'_, u8>,
    size: (usize, usize),
    colour: [u8; 3],
) {
    let (height, width) = size;
    let inside = interpolate(mask, size, |label| f32::from(u8::from(label != 0)));
    let is_inside = |y: Option<usize>, x: Option<usize>| match (y, x) {
        (Some(y), Some(x)) if y < height && x < width => inside[y * width + x] >= 0.5,
        _ => false,
    };
    for y in 0..height {
        for x in 0..width {
            let (here_y, here_x) = (Some(y), Some(x));
            let inner = is_inside(y.checked_sub(1), here_x)
                && is_inside(y.checked_add(1), here_x)
                && is_inside(here_y, x.checked_sub(1))
                && is_inside(here_y, x.checked_add(1));
            if is_inside(here_y, here_x) && !inner {
                picture.set(x, y, colour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::{Affine, Orientation, Spacing};
    use ndarray::Array3;
    use proptest::prelude::*;

    /// A dark volume with a bright block at the patient's right, front and top.
    fn marked() -> Volume<f32> {
        let mut data = Array3::zeros((6, 10, 20));
        data.slice_mut(ndarray::s![4.., 7.., 15..]).fill(1.0);
        Volume::new(
            data,
            Affine::from_spacing(Spacing::new(5.0, 2.0, 2.0).unwrap()),
        )
        .unwrap()
    }

    fn exact() -> Layout {
        Layout {
            lower_percentile: 0.0,
            upper_percentile: 100.0,
            ..Layout::default()
        }
    }

    #[test]
    fn sections_have_true_proportions_and_radiological_sides() {
        let volume = marked();
        let mask = volume.map(|&v| u8::from(v > 0.5));
        let picture = overlay(&volume, &[], &exact()).unwrap();
        assert_eq!(
            (picture.width, picture.height),
            (40 + 40 + 20 + 2 * GAP, 30)
        );
        // Through the block: it is at the top left of all three sections.
        let red = [255, 0, 0];
        let picture = overlay(&volume, &[(&mask, red)], &exact()).unwrap();
        for left in [0, 40 + GAP, 80 + 2 * GAP] {
            assert_eq!(picture.pixel(left, 0), Some(red));
            assert_eq!(picture.pixel(left + 3, 2), Some([255; 3]));
            assert_eq!(picture.pixel(left + 18, 2), Some([0; 3]));
            assert_eq!(picture.pixel(left + 3, 18), Some([0; 3]));
        }
    }

    #[test]
    fn the_outline_encloses_the_mask_and_spares_its_inside() {
        let volume = marked();
        let mut data = Array3::zeros((6, 10, 20));
        data.slice_mut(ndarray::s![2..4, 3..7, 5..15]).fill(3u8);
        let mask = volume.with_data(data).unwrap();
        let picture = overlay(&volume, &[(&mask, [0, 255, 0])], &exact()).unwrap();
        let green = |x, y| picture.pixel(x, y) == Some([0, 255, 0]);
        // The axial section is 20 rows high: the mask takes rows 6 to 14 and columns 10 to 30.
        assert!(green(10, 10) && green(29, 10) && green(20, 6) && green(20, 13));
        assert!(!green(20, 10) && !green(5, 10) && !green(20, 3));
    }

    #[test]
    fn slices_are_spread_over_the_mask() {
        let volume = marked();
        let mask = volume.map(|&v| u8::from(v > 0.5));
        let masks = [(mask.data(), [0; 3])];
        let focus = Focus::of(&masks, volume.data().dim());
        let indices = |count| {
            let sections = focus.sections(Arrangement::Slices {
                plane: Plane::Sagittal,
                count,
            });
            sections.iter().map(|(_, i)| *i).collect::<Vec<_>>()
        };
        assert_eq!(indices(1), [17]);
        assert_eq!(indices(5), [15, 16, 17, 18, 19]);
        assert_eq!(indices(7).len(), 7);
        let empty = volume.map(|_| 0u8);
        let focus = Focus::of(&[(empty.data(), [0; 3])], volume.data().dim());
        assert_eq!((focus.first, focus.last), ([0; 3], [5, 9, 19]));
    }

    #[test]
    fn masks_on_other_grids_and_absurd_sizes_are_refused() {
        let volume = marked();
        let mask = volume.map(|_| 1u8).pad([0; 3], [0, 0, 1], 0);
        let error = overlay(&volume, &[(&mask, [0; 3])], &exact()).unwrap_err();
        assert!(error.to_string().contains("outline 0"), "{error}");
        for absurd in [1e4, 1e300] {
            let layout = exact().with_pixels_per_mm(absurd);
            let error = overlay(&volume, &[], &layout).unwrap_err();
            assert!(matches!(error, Error::Size { .. }), "{error}");
        }
        let picture = overlay(&volume, &[], &exact().with_pixels_per_mm(1e-9)).unwrap();
        assert_eq!(picture.height, 1);
    }

    #[test]
    fn values_that_are_not_finite_and_constant_volumes_still_make_a_picture() {
        let mut volume = marked();
        volume.data_mut()[[0, 0, 0]] = f32::NAN;
        volume.data_mut()[[5, 9, 19]] = f32::INFINITY;
        overlay(&volume, &[], &exact()).unwrap();
        for value in [0.0, f32::NAN] {
            let flat = volume.map(|_| value);
            let picture = overlay(&flat, &[], &Layout::default()).unwrap();
            assert_eq!(picture.rgb.iter().max(), Some(&0));
        }
    }

    proptest! {
        /// A picture shows the patient, not the way the file is stored.
        #[test]
        fn the_stored_orientation_does_not_show(
            code in prop::sample::select(vec!["RAS", "LPS", "LAS", "PIR", "ASL", "SRP", "IPL"]),
            values in prop::collection::vec(0.0f32..1.0, 3 * 4 * 5),
        ) {
            let data = Array3::from_shape_vec((3, 4, 5), values).unwrap();
            let affine = Affine::from_spacing(Spacing::new(6.0, 2.0, 3.0).unwrap());
            let volume = Volume::new(data, affine).unwrap();
            let mask = volume.map(|&v| u8::from(v > 0.7));
            let orientation: Orientation = code.parse().unwrap();
            for layout in [exact(), Layout::slices(Plane::Coronal, 3)] {
                let canonical = overlay(&volume, &[(&mask, [1, 2, 3])], &layout).unwrap();
                let stored = (volume.reorient(orientation), mask.reorient(orientation));
                let other = overlay(&stored.0, &[(&stored.1, [1, 2, 3])], &layout).unwrap();
                prop_assert_eq!(&canonical, &other);
            }
        }
    }
}
