//! Reads a NIfTI image, brings it to canonical orientation and another spacing, and writes a mask
//! back into the file's own geometry.
//!
//!     cargo run -p examples --example read_volume -- image.nii.gz
//!
//! Without an argument it draws a phantom scan first.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use anyhow::{Context, Result};
use liseg::mri::{nifti, resample, summarize};
use liseg::phantom::{PhantomConfig, Resolution, patient};
use liseg::volume::Spacing;
use std::path::PathBuf;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = match std::env::args().nth(1) {
        Some(file) => PathBuf::from(file),
        None => {
            let config = PhantomConfig::default().with_resolution(Resolution::Small);
            let patient = patient(&config, 0)?;
            let scan = patient.scans.first().context("the patient has no scan")?;
            let file = folder.path().join("phantom.nii.gz");
            nifti::write_image(&file, &scan.image, None)?;
            file
        }
    };

    let image = nifti::read_image(&file)?;
    let volume = &image.volume;
    println!("{}: {:?} voxels (z, y, x)", file.display(), volume.shape());
    println!(
        "spacing {}, stored {}",
        volume.spacing(),
        volume.orientation()
    );
    if let Some(summary) = summarize(volume.data()) {
        println!("intensities {} to {}", summary.minimum, summary.maximum);
    }

    // What a network would see: right-anterior-superior, 4 mm voxels.
    let canonical = volume.to_canonical();
    let coarse = resample::resample_image(&canonical, Spacing::new(4.0, 4.0, 4.0)?)?;
    println!(
        "at 4 mm: {:?} voxels, {}",
        coarse.shape(),
        coarse.orientation()
    );

    // A mask made in canonical orientation goes back exactly.
    let threshold = summarize(volume.data()).map_or(0.0, |s| s.mean as f32);
    let mask = canonical
        .map(|&v| u8::from(v > threshold))
        .reorient(volume.orientation());
    let out = folder.path().join("mask.nii.gz");
    nifti::write_labels(&out, &mask, Some(&image.header))?;
    let written = nifti::read_labels(&out)?;
    assert!(
        written
            .volume
            .geometry()
            .is_within(&volume.geometry(), 1e-3)
    );
    println!("the mask lies on the image's own grid");
    Ok(())
}
