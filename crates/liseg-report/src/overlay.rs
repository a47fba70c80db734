//! Pictures of the best, the median and the worst cases.

use crate::evaluation::{Case, Evaluation, Outcome};
use crate::table::number;
use crate::{Result, escape, file};
use liseg_metrics::{CaseMetrics, Measure};
use liseg_mri::nifti;
use liseg_picture::{Layout, Picture, overlay};
use liseg_volume::{LabelMap, Region, Volume};
use std::path::{Path, PathBuf};

/// Amber and blue: apart for the colour-blind, and apart from grey.
pub(crate) const REFERENCE: [u8; 3] = [255, 176, 32];
pub(crate) const PREDICTION: [u8; 3] = [64, 196, 255];
/// What is shown around the organ, in millimetres.
const MARGIN_MM: f64 = 25.0;
/// Pixels that the three sections share.
const WIDTH: f64 = 1080.0;

/// A pictured case, or why there is no picture.
pub(crate) struct Figure {
    /// Best, median or worst.
    pub(crate) rank: String,
    pub(crate) case: String,
    pub(crate) group: String,
    pub(crate) facts: String,
    /// The bytes of a PNG with its width and height, or the reason, not escaped.
    pub(crate) picture: Result<(Vec<u8>, [usize; 2]), String>,
}

/// The figures of an evaluation, which are also written into `folder`; empty without images.
pub(crate) fn gallery(
    evaluation: &Evaluation,
    index: usize,
    worst: usize,
    folder: &Path,
) -> Result<Vec<Figure>> {
    let images = &evaluation.images;
    let Some(label) = evaluation.labels().first().copied() else {
        return Ok(Vec::new());
    };
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let mut ranked: Vec<(f64, &Case, &CaseMetrics)> = evaluation
        .cases
        .iter()
        .filter_map(|case| {
            let metrics = case.metrics.get(label)?;
            let shown = case.outcome(metrics) != Outcome::Missing;
            shown.then_some((metrics.dice?, case, metrics))
        })
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.id.cmp(&b.1.id)));
    let mut figures = Vec::new();
    for (rank, place) in places(ranked.len(), worst) {
        let (_, case, metrics) = ranked[place];
        let value = |measure| number(measure, metrics.get(measure));
        let facts = format!(
            "Dice {}, HD95 {} mm",
            value(Measure::Dice),
            value(Measure::Hd95)
        );
        let picture = match draw(evaluation, case, images) {
            Ok(picture) => {
                let name = [&evaluation.name, &rank, &case.id].map(|part| escape::file_name(part));
                let path = folder.join(format!("{}-{}.png", index + 1, name.join("-")));
                let written = captioned(&picture, &format!("{}  {facts}", case.id)).to_png();
                let png = written.and_then(|file| Ok((file, picture.to_png()?)));
                match png {
                    Ok((bytes, png)) => {
                        file::write(&path, &bytes)?;
                        Ok((png, [picture.width, picture.height]))
                    }
                    Err(error) => Err(reasons(&error)),
                }
            }
            Err(why) => Err(why),
        };
        let group: Vec<&str> = case.group.values().map(String::as_str).collect();
        figures.push(Figure {
            rank,
            case: case.id.clone(),
            group: group.join(", "),
            facts,
            picture,
        });
    }
    Ok(figures)
}

/// Which of `count` ranked cases are shown and what they are called; none twice.
fn places(count: usize, worst: usize) -> Vec<(String, usize)> {
    let mut places = Vec::new();
    if count > 0 {
        places.push(("Best".to_owned(), 0));
    }
    if count > 2 {
        places.push(("Median".to_owned(), (count - 1) / 2));
    }
    let first = count.saturating_sub(worst);
    let shown = |places: &[(String, usize)], place| places.iter().any(|(_, p)| *p == place);
    for place in (first..count).rev() {
        if !shown(&places, place) {
            let rank = count - place;
            let name = if rank == 1 {
                "Worst".into()
            } else {
                format!("Worst, {rank} from the end")
            };
            places.push((name, place));
        }
    }
    places
}

fn draw(evaluation: &Evaluation, case: &Case, images: &[PathBuf]) -> Result<Picture, String> {
    let image = nifti::read_image(image_file(images, &case.stem)?).map_err(|e| reasons(&e))?;
    let labels = |file: &str| {
        let read = nifti::read_labels(evaluation.locate(file)).map_err(|e| reasons(&e))?;
        Ok::<_, String>(read.volume)
    };
    let reference = labels(&case.reference_file)?;
    let prediction = labels(case.prediction_file.as_deref().unwrap_or_default())?;
    let volume = image.volume;
    if reference.shape() != volume.shape() || prediction.shape() != volume.shape() {
        return Err(format!(
            "image, reference and prediction have {:?}, {:?} and {:?} voxels (z, y, x)",
            volume.shape(),
            reference.shape(),
            prediction.shape()
        ));
    }
    let region = around(&[&reference, &prediction]);
    let crop = |mask: &LabelMap| mask.crop(region).map_err(|e| reasons(&e));
    let (reference, prediction) = (crop(&reference)?, crop(&prediction)?);
    let volume = volume.crop(region).map_err(|e| reasons(&e))?;
    let layout = Layout::three_planes().with_pixels_per_mm(pixels_per_mm(&volume));
    let outlines = [(&reference, REFERENCE), (&prediction, PREDICTION)];
    overlay(&volume, &outlines, &layout).map_err(|e| reasons(&e))
}

fn image_file(folders: &[PathBuf], stem: &str) -> Result<PathBuf, String> {
    let names = ["_0000.nii.gz", ".nii.gz", "_0000.nii", ".nii"].map(|end| format!("{stem}{end}"));
    let places = folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)));
    places
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
            let folders = folders.join(" or ");
            format!("no image {} or {} in {folders}", names[0], names[1])
        })
}

/// The box around all masks with a margin; the whole volume when they are empty.
fn around(masks: &[&LabelMap]) -> Region {
    let shape = masks[0].shape();
    let (mut start, mut end) = (shape, [0; 3]);
    for mask in masks {
        for ((z, y, x), _) in mask.data().indexed_iter().filter(|(_, label)| **label != 0) {
            for (axis, index) in [z, y, x].into_iter().enumerate() {
                start[axis] = start[axis].min(index);
                end[axis] = end[axis].max(index + 1);
            }
        }
    }
    let region = Region { start, end };
    if region.is_empty() {
        return Region::full(shape);
    }
    let margin = masks[0]
        .spacing()
        .zyx()
        .map(|mm| (MARGIN_MM / mm).ceil() as usize);
    region.dilated(margin, shape)
}

/// The resolution at which the three sections fill the page.
fn pixels_per_mm(volume: &Volume<f32>) -> f64 {
    let (shape, spacing) = (volume.shape(), volume.spacing().zyx());
    let mut extent_mm = [0.0; 3];
    for (axis, direction) in volume.orientation().xyz().into_iter().enumerate() {
        let stored = 2 - axis;
        extent_mm[direction.world_axis()] = shape[stored] as f64 * spacing[stored];
    }
    // Axial and coronal sections are as wide as the body, the sagittal one is as wide as deep.
    (WIDTH / (2.0 * extent_mm[0] + extent_mm[1])).clamp(0.25, 4.0)
}

/// The picture with a caption and a legend, for those who open the file alone.
fn captioned(picture: &Picture, caption: &str) -> Picture {
    let mut sheet = picture.captioned("", 2).captioned(caption, 2);
    let row = 2 * 2 + 7 * 2 + 4 + 4;
    let legend = [
        ("reference", REFERENCE, 4),
        ("prediction", PREDICTION, 4 + 11 * 12),
    ];
    for (name, colour, x) in legend {
        sheet.text(x, row, name, colour, 2);
    }
    sheet
}

/// An error with its causes.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::{Affine, Spacing};
    use ndarray::Array3;

    #[test]
    fn no_case_is_shown_twice() {
        let of = |count, worst| {
            places(count, worst)
                .into_iter()
                .map(|p| p.1)
                .collect::<Vec<_>>()
        };
        assert!(of(0, 3).is_empty());
        assert_eq!(of(1, 3), [0]);
        assert_eq!(of(2, 3), [0, 1]);
        assert_eq!(of(5, 2), [0, 2, 4, 3]);
        assert_eq!(of(5, 9), [0, 2, 4, 3, 1]);
        assert_eq!(of(5, 0), [0, 2]);
    }

    #[test]
    fn the_box_keeps_its_margin_within_the_volume() {
        let affine = Affine::from_spacing(Spacing::new(5.0, 1.0, 1.0).unwrap());
        let mut mask = LabelMap::new(Array3::zeros((30, 90, 90)), affine).unwrap();
        assert_eq!(around(&[&mask]), Region::full([30, 90, 90]));
        mask.data_mut()[[10, 10, 50]] = 1;
        let region = around(&[&mask]);
        assert_eq!((region.start, region.end), ([5, 0, 25], [16, 36, 76]));
    }
}
