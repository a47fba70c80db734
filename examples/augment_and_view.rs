//! Draws random transforms, makes a patch from them, and looks at it: one picture with the original and
//! three augmented patches, liver outlined.
//!
//!     cargo run -p examples --example augment_and_view -- sheet.png
//!
//! `liseg augment-preview` draws a fuller sheet of one's own images.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use anyhow::{Context, Result, ensure};
use liseg::augment::{AugmentConfig, PatchInfo, Pipeline, Preset, Sample};
use liseg::mri::normalize::z_score;
use liseg::phantom::{PhantomConfig, Resolution, patient};
use liseg::picture::{Layout, Picture, Plane, overlay};
use liseg::volume::{Affine, Seed, Spacing, Volume};
use ndarray::{Axis, s};
use std::path::PathBuf;

/// What the network would see, `[z, y, x]`.
const PATCH: [usize; 3] = [16, 80, 80];

/// The middle slice of a patch with the outline of its label.
fn picture(sample: &Sample, spacing: Spacing, caption: &str) -> Result<Picture> {
    let middle = sample.shape()[0] / 2;
    let image = sample.image.index_axis(Axis(0), 0);
    let image = image.slice(s![middle..=middle, .., ..]).to_owned();
    let label = sample.label.slice(s![middle..=middle, .., ..]);
    let affine = Affine::from_spacing(spacing);
    let volume = Volume::new(image, affine)?;
    // −1 marks voxels outside the image.
    let mask = Volume::new(label.mapv(|v| u8::from(v > 0)), affine)?;
    let layout = Layout::slices(Plane::Axial, 1);
    Ok(overlay(&volume, &[(&mask, [64, 220, 96])], &layout)?.captioned(caption, 1))
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = std::env::args().nth(1).map(PathBuf::from);
    let file = file.unwrap_or_else(|| folder.path().join("sheet.png"));

    // A scan in canonical orientation with mean 0 and deviation 1, as training sees it.
    let config = PhantomConfig::default().with_resolution(Resolution::Small);
    let patient = patient(&config, 0)?;
    let scan = patient.scans.first().context("the patient has no scan")?;
    let image = scan.image.to_canonical();
    let label = scan.liver.to_canonical().map(|&v| v as i8);
    let spacing = image.spacing();
    let mut image = image.into_data();
    z_score(&mut image.view_mut())?;
    let whole = Sample::new(image.insert_axis(Axis(0)), label.into_data());

    // A preset, and what one changes of it.
    let mut settings = AugmentConfig::preset(Preset::LisegPlus);
    settings.mirror_axes = Vec::new();
    let pipeline = settings.build()?;
    for (name, probability) in pipeline.steps() {
        println!("{probability:>5.2}  {name}");
    }

    let cropped = AugmentConfig::preset(Preset::None).build()?;
    let mut rng = Seed(1).stream("example", 0, 0);
    let plain = cropped.run(whole.clone(), PATCH, &mut rng)?;
    let mut pictures = vec![picture(&plain, spacing, "original")?];
    for number in 1..=3 {
        // Drawing comes first and is all the randomness: the same parameters make the same patch.
        let mut rng = Seed(1).stream("example", 0, number);
        let info = PatchInfo {
            final_shape: PATCH,
            channels: 1,
        };
        let params = pipeline.draw(&info, &mut rng);
        let sample = Pipeline::apply(&params, whole.clone())?;
        ensure!(Pipeline::apply(&params, whole.clone())? == sample);
        pictures.push(picture(&sample, spacing, &format!("sample {number}"))?);
    }
    let sheet = Picture::beside(&pictures, 4);
    sheet.write_png(&file)?;
    println!(
        "{}: {} x {} pixels",
        file.display(),
        sheet.width,
        sheet.height
    );
    Ok(())
}
