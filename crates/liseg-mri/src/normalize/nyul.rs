//! Nyúl's standardization: one piecewise linear map per image that brings the landmarks of its
//! histogram to those of a standard learned from many images, without labels.

use crate::summary::{check_finite, summarize};
use crate::{Error, Result};
use ndarray::{ArrayView3, ArrayViewMut3};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// Which voxels of an image give its landmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Foreground {
    /// Every voxel.
    All,
    /// Voxels that are not exactly zero; zeros keep their value. For images masked before.
    NonZero,
    /// Voxels above the image's mean, which leaves out the air around the patient (Nyúl & Udupa 1999).
    AboveMean,
}

/// How a standard is learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NyulConfig {
    /// Percentages of the landmarks, at least two, ascending, from 0 to 100. Default: 1, 10, 20, …,
    /// 90, 99 (Nyúl, Udupa & Zhang 2000, deciles, with the outermost 1 % left out).
    pub percentages: Vec<f64>,
    /// Intensities to which the outermost landmarks are sent; default 0 and 100.
    pub range: [f64; 2],
    /// Which voxels count; default [`Foreground::AboveMean`].
    pub foreground: Foreground,
}

impl Default for NyulConfig {
    fn default() -> Self {
        Self {
            percentages: vec![
                1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0,
            ],
            range: [0.0, 100.0],
            foreground: Foreground::AboveMean,
        }
    }
}

impl NyulConfig {
    fn check(&self) -> Result<()> {
        let p = &self.percentages;
        let ascending = p.windows(2).all(|w| w[0] < w[1]);
        if p.len() < 2 || !ascending || !p.iter().all(|p| (0.0..=100.0).contains(p)) {
            return Err(Error::Selection {
                reason: format!(
                    "landmark percentages {p:?} are not two or more, ascending from 0 to 100"
                ),
            });
        }
        let [low, high] = self.range;
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(Error::Selection {
                reason: format!("range {low} to {high} is not finite and ascending"),
            });
        }
        Ok(())
    }
}

/// Learns a [`Nyul`] standard, image by image: only landmarks are kept, never voxels.
#[derive(Debug, Clone)]
pub struct NyulFit {
    config: NyulConfig,
    sums: Vec<f64>,
    images: usize,
}

impl NyulFit {
    /// A fit that has seen no image.
    ///
    /// # Errors
    /// [`Error::Selection`] for percentages or a range out of order.
    pub fn new(config: NyulConfig) -> Result<Self> {
        config.check()?;
        let sums = vec![0.0; config.percentages.len()];
        Ok(Self {
            config,
            sums,
            images: 0,
        })
    }

    /// Takes the landmarks of one image `[z, y, x]`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when voxels are NaN or infinite, [`Error::Selection`] when the foreground
    /// is empty or its outermost landmarks are equal. The fit is then as before, and may go on.
    pub fn add(&mut self, image: ArrayView3<'_, f32>) -> Result<()> {
        let found = landmarks(image, &self.config.percentages, self.config.foreground)?;
        let (first, last) = (found[0], found[found.len() - 1]);
        let [low, high] = self.config.range;
        for (sum, landmark) in self.sums.iter_mut().zip(found) {
            *sum += low + (landmark - first) / (last - first) * (high - low);
        }
        self.images += 1;
        Ok(())
    }

    /// The standard: the mean of all images' landmarks, each image scaled to the range first.
    ///
    /// # Errors
    /// [`Error::Selection`] when no image was added.
    pub fn finish(self) -> Result<Nyul> {
        if self.images == 0 {
            return Err(Error::Selection {
                reason: "no image was given to learn an intensity standard from".into(),
            });
        }
        let landmarks = self.sums.iter().map(|s| s / self.images as f64).collect();
        Nyul::try_from(Saved {
            percentages: self.config.percentages,
            landmarks,
            foreground: self.config.foreground,
            images: self.images,
        })
    }
}

/// A standard histogram, given by landmarks, to which images are brought.
///
/// An image's landmarks `p₁ < … < pₙ` go to the standard's `s₁ ≤ … ≤ sₙ`, linearly between, and the
/// first and last segments go on beyond. The map never exchanges the order of two intensities, and
/// does not depend on the image's gain and offset. Landmarks are voxels' own values (the nearest
/// rank), so that an image whose landmarks are the standard's is unchanged.
///
/// # Source
/// Nyúl & Udupa 1999, Magn Reson Med 42(6); Nyúl, Udupa & Zhang 2000, IEEE TMI 19(2).
///
/// # Examples
/// ```
/// use liseg_mri::normalize::{Nyul, NyulConfig};
/// use ndarray::Array3;
///
/// let dim = Array3::from_shape_fn((4, 8, 8), |(z, y, x)| (64 * z + 8 * y + x) as f32);
/// let mut bright = dim.mapv(|v| 3.0 * v + 40.0);
/// let standard = Nyul::fit(NyulConfig::default(), [dim.view(), bright.view()])?;
/// let mut dim = dim;
/// standard.apply(&mut dim.view_mut())?;
/// standard.apply(&mut bright.view_mut())?;
/// assert!(dim.iter().zip(&bright).all(|(a, b)| (a - b).abs() < 1e-3));
/// # Ok::<(), liseg_mri::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct Nyul {
    saved: Saved,
}

/// What is written to a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    percentages: Vec<f64>,
    landmarks: Vec<f64>,
    foreground: Foreground,
    images: usize,
}

impl TryFrom<Saved> for Nyul {
    type Error = Error;

    fn try_from(saved: Saved) -> Result<Self> {
        let marks = &saved.landmarks;
        let (Some(&first), Some(&last)) = (marks.first(), marks.last()) else {
            return Err(Error::Selection {
                reason: "an intensity standard needs landmarks".into(),
            });
        };
        NyulConfig {
            percentages: saved.percentages.clone(),
            range: [first, last],
            foreground: saved.foreground,
        }
        .check()?;
        if marks.len() != saved.percentages.len() || !marks.windows(2).all(|w| w[0] <= w[1]) {
            return Err(Error::Selection {
                reason: format!(
                    "landmarks {marks:?} are not ascending, one for each percentage in {:?}",
                    saved.percentages
                ),
            });
        }
        Ok(Self { saved })
    }
}

impl From<Nyul> for Saved {
    fn from(standard: Nyul) -> Self {
        standard.saved
    }
}

impl Nyul {
    /// Learns a standard from images `[z, y, x]`; [`NyulFit`] takes them one by one.
    ///
    /// # Errors
    /// As [`NyulFit`], for the first image that cannot be used.
    pub fn fit<'a>(
        config: NyulConfig,
        images: impl IntoIterator<Item = ArrayView3<'a, f32>>,
    ) -> Result<Self> {
        let mut fit = NyulFit::new(config)?;
        images.into_iter().try_for_each(|image| fit.add(image))?;
        fit.finish()
    }

    /// Percentages and intensities of the landmarks.
    pub fn landmarks(&self) -> impl Iterator<Item = (f64, f64)> {
        let marks = self.saved.landmarks.iter().copied();
        self.saved.percentages.iter().copied().zip(marks)
    }

    /// From how many images the standard was learned.
    pub fn images(&self) -> usize {
        self.saved.images
    }

    /// Brings an image `[z, y, x]` to the standard, in place.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when voxels are NaN or infinite, [`Error::Selection`] when the foreground
    /// is empty or its outermost landmarks are equal, as in a constant image. The image is then
    /// unchanged.
    pub fn apply(&self, image: &mut ArrayViewMut3<'_, f32>) -> Result<()> {
        let foreground = self.saved.foreground;
        let found = landmarks(image.view(), &self.saved.percentages, foreground)?;
        let knots = knots(&found, &self.saved.landmarks);
        image.par_mapv_inplace(|v| {
            let outside = foreground == Foreground::NonZero && v.abs() <= 0.0;
            if outside {
                v
            } else {
                map(&knots, v.into()) as f32
            }
        });
        Ok(())
    }

    /// Writes the standard as JSON; the file appears when it is complete.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written to.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        liseg_file::write_with(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })
        .map_err(Error::io(path, "write the file"))
    }

    /// Reads what [`Nyul::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Standard`] when it is no valid standard.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = liseg_file::read_text(path).map_err(Error::io(path, "read the file"))?;
        serde_json::from_str(&text).map_err(|error| Error::Standard {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// The foreground's values at the nearest ranks of the percentages; the outermost differ.
fn landmarks(
    image: ArrayView3<'_, f32>,
    percentages: &[f64],
    foreground: Foreground,
) -> Result<Vec<f64>> {
    check_finite(image)?;
    let mean = summarize(image).map_or(0.0, |s| s.mean);
    let counts = |v: f32| match foreground {
        Foreground::All => true,
        Foreground::NonZero => v.abs() > 0.0,
        Foreground::AboveMean => f64::from(v) > mean,
    };
    let mut values: Vec<f32> = image.iter().copied().filter(|&v| counts(v)).collect();
    let last = values.len().saturating_sub(1);
    let mut found = Vec::with_capacity(percentages.len());
    let mut start = 0;
    for &percentage in percentages {
        // Ranks ascend, so each selection leaves the rest to search behind it.
        let rank = ((percentage / 100.0 * last as f64).round() as usize).min(last);
        if start < values.len() {
            let (_, &mut value, _) =
                values[start..].select_nth_unstable_by(rank - start, f32::total_cmp);
            found.push(f64::from(value));
            start = rank;
        }
    }
    match (found.first(), found.last()) {
        (Some(first), Some(last)) if first < last => Ok(found),
        _ => Err(Error::Selection {
            reason: format!(
                "the foreground's {} voxels have no contrast to standardize: the image is constant or nearly so",
                values.len()
            ),
        }),
    }
}

/// Pairs of image and standard intensity, the former strictly ascending: landmarks that coincide in
/// the image go to the mean of theirs in the standard.
fn knots(image: &[f64], standard: &[f64]) -> Vec<(f64, f64)> {
    let mut knots: Vec<(f64, f64)> = Vec::with_capacity(image.len());
    let mut start = 0;
    while start < image.len() {
        let same = image[start..].iter().take_while(|&&v| v <= image[start]);
        let end = start + same.count().max(1);
        let mean = standard[start..end].iter().sum::<f64>() / (end - start) as f64;
        knots.push((image[start], mean));
        start = end;
    }
    knots
}

/// The piecewise linear map through two or more knots, its outer segments going on.
fn map(knots: &[(f64, f64)], value: f64) -> f64 {
    let above = knots
        .partition_point(|&(x, _)| x < value)
        .clamp(1, knots.len() - 1);
    let ((x0, y0), (x1, y1)) = (knots[above - 1], knots[above]);
    y0 + (value - x0) * ((y1 - y0) / (x1 - x0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;
    use proptest::prelude::*;

    fn config(foreground: Foreground) -> NyulConfig {
        NyulConfig {
            foreground,
            ..NyulConfig::default()
        }
    }

    fn images() -> impl Strategy<Value = Array3<f32>> {
        let values = prop::collection::vec(-300i16..300, 120);
        let contrast = values.prop_filter("has contrast", |v| {
            let mut sorted = v.clone();
            sorted.sort_unstable();
            sorted[1] < sorted[118]
        });
        contrast.prop_map(|v| {
            Array3::from_shape_vec((4, 5, 6), v)
                .unwrap()
                .mapv(f32::from)
        })
    }

    fn applied(standard: &Nyul, image: &Array3<f32>) -> Array3<f32> {
        let mut image = image.clone();
        standard.apply(&mut image.view_mut()).unwrap();
        image
    }

    #[test]
    fn landmarks_go_to_the_mean_of_the_scaled_landmarks() {
        // Landmarks 0, 1, 10 become 0, 10, 100; landmarks 0, 3, 10 become 0, 30, 100.
        let config = NyulConfig {
            percentages: vec![0.0, 50.0, 100.0],
            foreground: Foreground::All,
            ..NyulConfig::default()
        };
        let image = |v: [f32; 3]| Array3::from_shape_vec((1, 1, 3), v.to_vec()).unwrap();
        let (a, b) = (image([0.0, 1.0, 10.0]), image([10.0, 3.0, 0.0]));
        let standard = Nyul::fit(config, [a.view(), b.view()]).unwrap();
        let marks: Vec<_> = standard.landmarks().collect();
        assert_eq!(marks, [(0.0, 0.0), (50.0, 20.0), (100.0, 100.0)]);
        assert_eq!(standard.images(), 2);
        let c = applied(&standard, &image([2.0, 4.0, 8.0]));
        assert_eq!(c.as_slice().unwrap(), &[0.0, 20.0, 100.0]);
    }

    #[test]
    fn images_without_contrast_or_with_nan_are_refused_and_the_fit_goes_on() {
        let mut fit = NyulFit::new(config(Foreground::All)).unwrap();
        let flat = Array3::from_elem((3, 3, 3), 4.0f32);
        assert!(matches!(fit.add(flat.view()), Err(Error::Selection { .. })));
        let mut broken = flat.clone();
        broken[[1, 1, 1]] = f32::NAN;
        assert!(matches!(
            fit.add(broken.view()),
            Err(Error::NotFinite { .. })
        ));
        assert!(matches!(fit.clone().finish(), Err(Error::Selection { .. })));
        let good = Array3::from_shape_fn((3, 3, 3), |(z, y, x)| (9 * z + 3 * y + x) as f32);
        fit.add(good.view()).unwrap();
        let standard = fit.finish().unwrap();
        let mut flat = flat;
        assert!(standard.apply(&mut flat.view_mut()).is_err());
        assert!(
            Nyul::fit(
                config(Foreground::NonZero),
                [Array3::zeros((2, 2, 2)).view()]
            )
            .is_err()
        );
    }

    #[test]
    fn a_standard_survives_its_file_and_a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("standard.json");
        let image = Array3::from_shape_fn((3, 4, 5), |(z, y, x)| ((z * y) + x) as f32 * 0.3);
        let standard = Nyul::fit(NyulConfig::default(), [image.view()]).unwrap();
        standard.write(&path).unwrap();
        assert_eq!(Nyul::read(&path).unwrap(), standard);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replace("\"percentages\": [", "\"percentages\": [7.0,"),
        )
        .unwrap();
        let error = Nyul::read(&path).unwrap_err();
        assert!(matches!(error, Error::Standard { .. }));
        assert!(error.to_string().contains("standard.json"), "{error}");
    }

    proptest! {
        #[test]
        fn standardization_is_monotone(images in prop::collection::vec(images(), 1..4), other in images()) {
            let views = images.iter().map(|image| image.view());
            let standard = Nyul::fit(config(Foreground::All), views).unwrap();
            let result = applied(&standard, &other);
            let mut pairs: Vec<_> = other.iter().zip(&result).collect();
            pairs.sort_by(|a, b| a.0.total_cmp(b.0));
            prop_assert!(pairs.windows(2).all(|p| p[0].1 <= p[1].1));
        }

        #[test]
        fn standardization_is_idempotent(image in images(), other in images()) {
            // Where landmarks coincide, the standard's are averaged, and a second pass moves them again.
            let standard = Nyul::fit(config(Foreground::All), [image.view()]).unwrap();
            let percentages = &standard.saved.percentages;
            let found = landmarks(other.view(), percentages, Foreground::All).unwrap();
            prop_assume!(found.windows(2).all(|w| w[0] < w[1]));
            let mut marks = standard.landmarks().map(|(_, s)| s);
            let mut previous = f64::NEG_INFINITY;
            prop_assume!(marks.all(|s| std::mem::replace(&mut previous, s) < s));
            let once = applied(&standard, &other);
            let twice = applied(&standard, &once);
            for (a, b) in once.iter().zip(&twice) {
                prop_assert!((a - b).abs() < 1e-2, "{a} became {b}");
            }
        }

        #[test]
        fn standardization_is_invariant_to_gain_and_offset(image in images(), gain in 1u8..8, offset in -50i8..50) {
            for foreground in [Foreground::All, Foreground::AboveMean] {
                let fit = Nyul::fit(config(foreground), [image.view()]);
                let Ok(standard) = fit else { continue };
                let scaled = image.mapv(|v| f32::from(gain) * v + f32::from(offset));
                let (a, b) = (applied(&standard, &image), applied(&standard, &scaled));
                for (a, b) in a.iter().zip(&b) {
                    prop_assert!((a - b).abs() <= 1e-3 * a.abs().max(1.0), "{a} became {b}");
                }
            }
        }
    }
}
