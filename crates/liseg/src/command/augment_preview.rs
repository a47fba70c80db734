//! `liseg augment-preview`.

use super::failure::chain;
use super::{Failure, Outcome, Result, Shared, print_json, say};
use liseg::augment::{AugmentConfig, OUTSIDE, Pipeline, Preset, Sample, intensity};
use liseg::data::CaseStore;
use liseg::mri::nifti::{read_image, read_labels};
use liseg::mri::normalize::z_score;
use liseg::mri::replace_non_finite;
use liseg::picture::{Layout, Picture, Plane, overlay};
use liseg::volume::{Affine, Seed, Spacing, Volume};
use ndarray::{Array3, ArrayView3, Axis};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Green, as in reports.
const OUTLINE: [u8; 3] = [64, 220, 96];
/// Pictures of one row of the sheet.
const ACROSS: usize = 8;
/// Longest side of a picture, in pixels.
const PICTURE: f64 = 150.0;
/// Voxels of a patch along an axis, at most.
const LONGEST: usize = 512;
/// Black pixels between pictures.
const GAP: usize = 4;

/// Draw what augmentation does to a case: every transform, and whole samples.
///
/// The sheet shows one slice: first of the case itself, then of each transform by itself, drawn
/// twice with the preset's ranges, then of samples as training would get them. Outlines are of the
/// label, which moves along.
#[derive(Debug, clap::Args)]
pub(crate) struct AugmentPreview {
    /// A NIfTI image, or a preprocessed case: the folder of `liseg preprocess`, a slash, the case's
    /// id.
    #[arg(value_name = "CASE")]
    case: PathBuf,
    /// The label of a NIfTI image.
    #[arg(long, value_name = "FILE")]
    label: Option<PathBuf>,
    /// What to draw: none, spatial, intensity, nnunet, nnunet-v1, midss-full, midss-weak,
    /// contrast-robust or liseg-plus.
    #[arg(long, value_name = "PRESET", default_value = "nnunet")]
    preset: Preset,
    /// How many whole samples to draw.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    samples: u16,
    /// Size of a patch in voxels, slices first; that of the case, but at most 64,160,160, when
    /// absent.
    #[arg(long, value_name = "Z,Y,X", value_delimiter = ',')]
    patch: Option<Vec<usize>>,
    /// The picture to write, a PNG.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// An image with its label, ready to be cut.
struct Case {
    image: Array3<f32>,
    label: Array3<i8>,
    spacing: Spacing,
}

impl AugmentPreview {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        if self.out.extension().is_none_or(|ending| ending != "png") {
            return Err(Failure::usage(format!(
                "--out {}: the picture is a PNG; end its name in .png",
                self.out.display()
            )));
        }
        let case = self.load()?;
        let (z, y, x) = case.image.dim();
        let patch = match self.patch.as_deref() {
            None => [z.min(64), y.min(160), x.min(160)],
            Some(&[z, y, x]) if [z, y, x].iter().all(|side| (1..=LONGEST).contains(side)) => {
                [z, y, x]
            }
            Some(_) => {
                let text = "--patch wants three sizes from 1 to 512, such as 64,160,160";
                return Err(Failure::usage(text));
            }
        };
        let mut config = AugmentConfig::preset(self.preset);
        config.histogram.references = vec![opposite(&case.image)];
        let seed = Seed(shared.seed.unwrap_or(0));
        let sheet = sheet(&case, &config, patch, self.samples.into(), seed)?;
        sheet
            .write_png(&self.out)
            .map_err(|e| Failure::work(chain(&e)))?;
        if shared.json {
            print_json(&json!({
                "file": self.out.display().to_string(),
                "preset": self.preset.name(),
                "patch": patch,
                "width": sheet.width,
                "height": sheet.height,
            }));
        } else {
            say!("preset {} in {}", self.preset, self.out.display());
        }
        Ok(Outcome::Done)
    }

    fn load(&self) -> Result<Case> {
        let name = self.case.to_string_lossy();
        if name.ends_with(".nii") || name.ends_with(".nii.gz") {
            return self.load_nifti();
        }
        if self.label.is_some() {
            let text = "--label goes with a NIfTI image; a preprocessed case has its own";
            return Err(Failure::usage(text));
        }
        let (Some(folder), Some(id)) = (self.case.parent(), self.case.file_name()) else {
            return Err(Failure::usage(
                "CASE is neither a .nii file nor FOLDER/ID of a preprocessed case",
            ));
        };
        let store = CaseStore::open(match folder {
            folder if folder.as_os_str().is_empty() => Path::new("."),
            folder => folder,
        })?;
        let id = id.to_string_lossy();
        let case = store.get(&id).ok_or_else(|| {
            let text = format!("case `{id}` is not in store {}", folder.display());
            Failure::usage(text)
        })?;
        let image = case.image().to_owned();
        let label = match case.label() {
            Some(label) => label.to_owned(),
            None => Array3::zeros(image.dim()),
        };
        let spacing = store.plan().spacing;
        Ok(Case {
            image,
            label,
            spacing,
        })
    }

    fn load_nifti(&self) -> Result<Case> {
        let work = |e: liseg::mri::Error| Failure::work(chain(&e));
        let image = read_image(&self.case).map_err(work)?.volume;
        let label = match &self.label {
            None => image.map(|_| 0u8),
            Some(file) => read_labels(file).map_err(work)?.volume,
        };
        if !image.geometry().same_grid(&label.geometry()) {
            let text = "image and label are not on one grid; `liseg info` describes both";
            return Err(Failure::work(text));
        }
        let (image, label) = (image.to_canonical(), label.to_canonical());
        let spacing = image.spacing();
        let mut image = image.into_data();
        let replaced = replace_non_finite(&mut image.view_mut()).map_err(work)?;
        if replaced > 0 {
            let case = self.case.display();
            tracing::warn!(
                "{case}: {replaced} voxels were NaN or infinite and count as background"
            );
        }
        z_score(&mut image.view_mut()).map_err(work)?;
        // Labels above 127 are of no use in training.
        let label = label.into_data().mapv(|v| v.min(127) as i8);
        Ok(Case {
            image,
            label,
            spacing,
        })
    }
}

/// The histogram that the case would have with its contrast reversed: something to transfer from.
fn opposite(image: &Array3<f32>) -> [f64; 11] {
    let voxels: Vec<f32> = image.iter().copied().collect();
    let mut own = intensity::landmarks(&voxels, |_| true);
    own.reverse();
    own.map(|value| -value)
}

fn sheet(
    case: &Case,
    config: &AugmentConfig,
    patch: [usize; 3],
    samples: usize,
    seed: Seed,
) -> Result<Picture> {
    let usage = |e: liseg::augment::Error| Failure::usage(chain(&e));
    let mut draw = Drawer {
        case,
        patch,
        seed,
        count: 0,
    };
    let mut pictures = vec![
        draw.picture(&Pipeline::new(), "the case")?,
        draw.picture(
            &AugmentConfig::preset(Preset::None).build().map_err(usage)?,
            "cropped",
        )?,
    ];
    for (name, pipeline) in config.catalogue().map_err(usage)? {
        pictures.push(draw.picture(&pipeline, name)?);
        pictures.push(draw.picture(&pipeline, "")?);
    }
    let mut parts = vec![
        heading("each transform by itself, twice"),
        rows(&pictures),
        heading(&format!("samples of preset {}", config.preset)),
    ];
    let pipeline = config.build().map_err(usage)?;
    let whole: Result<Vec<_>> = (1..=samples)
        .map(|number| draw.picture(&pipeline, &number.to_string()))
        .collect();
    parts.push(rows(&whole?));
    Ok(Picture::below(&parts, 2 * GAP))
}

fn heading(text: &str) -> Picture {
    Picture::filled(ACROSS * PICTURE as usize, 1, [0; 3]).captioned(text, 2)
}

fn rows(pictures: &[Picture]) -> Picture {
    let rows: Vec<_> = pictures
        .chunks(ACROSS)
        .map(|row| Picture::beside(row, GAP))
        .collect();
    Picture::below(&rows, GAP)
}

/// Makes one picture after another, each from a random stream of its own.
struct Drawer<'a> {
    case: &'a Case,
    patch: [usize; 3],
    seed: Seed,
    count: u64,
}

impl Drawer<'_> {
    fn picture(&mut self, pipeline: &Pipeline, caption: &str) -> Result<Picture> {
        let work = |e: &dyn std::error::Error| Failure::work(chain(e));
        let size = pipeline.initial_shape(self.patch);
        let corner = corner(self.case.label.view(), size);
        let image = cut(self.case.image.view(), corner, size, 0.0);
        let label = cut(self.case.label.view(), corner, size, OUTSIDE);
        let sample = Sample::new(image.insert_axis(Axis(0)), label);
        let mut rng = self.seed.stream("preview", 0, self.count);
        self.count += 1;
        let sample = pipeline
            .run(sample, self.patch, &mut rng)
            .map_err(|e| work(&e))?;
        let affine = Affine::from_spacing(self.case.spacing);
        let slice = sample.shape()[0] / 2;
        let image = sample.image.index_axis_move(Axis(0), 0);
        let thin = |z: usize| z..z + 1;
        let image = image.slice_move(ndarray::s![thin(slice), .., ..]);
        let label = sample.label.slice_move(ndarray::s![thin(slice), .., ..]);
        let mask = label.mapv(|label| label.max(0) as u8);
        let volume = Volume::new(image.as_standard_layout().into_owned(), affine);
        let mask = Volume::new(mask.as_standard_layout().into_owned(), affine);
        let (volume, mask) = (volume.map_err(|e| work(&e))?, mask.map_err(|e| work(&e))?);
        let sides = self.case.spacing.zyx();
        let longest = (self.patch[1] as f64 * sides[1]).max(self.patch[2] as f64 * sides[2]);
        let layout = Layout::slices(Plane::Axial, 1).with_pixels_per_mm(PICTURE / longest);
        let picture = overlay(&volume, &[(&mask, OUTLINE)], &layout).map_err(|e| work(&e))?;
        Ok(picture.captioned(caption, 1))
    }
}

/// Where a block of `size` begins so that its middle is that of the label's foreground, or of the
/// case.
fn corner(label: ArrayView3<'_, i8>, size: [usize; 3]) -> [isize; 3] {
    let mut sums = [0.0f64; 3];
    let mut count = 0.0;
    for ((z, y, x), _) in label.indexed_iter().filter(|(_, label)| **label > 0) {
        for (sum, at) in sums.iter_mut().zip([z, y, x]) {
            *sum += at as f64;
        }
        count += 1.0;
    }
    let (nz, ny, nx) = label.dim();
    let shape = [nz, ny, nx];
    std::array::from_fn(|axis| {
        let room = shape[axis] as f64 - size[axis] as f64;
        let middle = match count > 0.0 {
            true => sums[axis] / count,
            false => shape[axis] as f64 / 2.0,
        };
        let wanted = middle - size[axis] as f64 / 2.0;
        // Inside where it fits, centred where it does not.
        let at = if room < 0.0 {
            room / 2.0
        } else {
            wanted.clamp(0.0, room)
        };
        at.round() as isize
    })
}

/// A block that may reach beyond the volume, where it holds `outside`.
fn cut<T: Copy>(
    volume: ArrayView3<'_, T>,
    corner: [isize; 3],
    [z, y, x]: [usize; 3],
    outside: T,
) -> Array3<T> {
    Array3::from_shape_fn((z, y, x), |(z, y, x)| {
        let at = [z, y, x];
        let at: [usize; 3] = std::array::from_fn(|axis| {
            usize::try_from(at[axis] as isize + corner[axis]).unwrap_or(usize::MAX)
        });
        volume.get(at).copied().unwrap_or(outside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_shows_every_transform_and_as_many_samples_as_asked() {
        let image = Array3::from_shape_fn((6, 20, 20), |(z, y, x)| (z + y * x) as f32 * 0.01);
        let label = Array3::from_shape_fn((6, 20, 20), |(_, y, x)| i8::from(y > 5 && x > 9));
        let spacing = Spacing::new(4.0, 2.0, 2.0).unwrap();
        let case = Case {
            image,
            label,
            spacing,
        };
        let mut config = AugmentConfig::preset(Preset::LisegPlus);
        config.histogram.references = vec![opposite(&case.image)];
        let height = |samples| {
            let made = sheet(&case, &config, [4, 16, 16], samples, Seed(1)).unwrap();
            assert!(made.width >= ACROSS * PICTURE as usize);
            made.height
        };
        // Another row of samples makes the sheet higher by a picture.
        assert!(height(9) >= height(8) + PICTURE as usize);
    }

    #[test]
    fn blocks_are_centred_on_the_label_and_stay_inside_where_they_fit() {
        let mut label = Array3::<i8>::zeros((10, 10, 10));
        label[[5, 9, 0]] = 1;
        assert_eq!(corner(label.view(), [4, 4, 4]), [3, 6, 0]);
        assert_eq!(corner(label.view(), [14, 10, 10]), [-2, 0, 0]);
        let block = cut(label.view(), [-1, 8, 0], [2, 3, 1], OUTSIDE);
        assert_eq!(block[[0, 0, 0]], OUTSIDE);
        assert_eq!(block[[1, 1, 0]], 0);
        assert_eq!(block[[1, 2, 0]], OUTSIDE);
    }
}
