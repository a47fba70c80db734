//! Masks of which every value but 0 means the organ, whatever it is.

use liseg_mri::nifti::{self, Nifti};
use liseg_mri::{Error, Result};
use std::path::Path;

/// A mask as labels, and what of it was no label.
#[derive(Debug)]
pub(crate) struct Mask {
    /// The values of the file; 0 and 1 where some of them are no labels.
    pub(crate) read: Nifti<u8>,
    /// Where some values are no whole numbers from 0 to 255: how many voxels became what.
    pub(crate) odd: Option<String>,
}

/// Reads a label file. With `any_foreground` every value counts as one label: fractions that resampling
/// leaves, negative and large ones are foreground, NaN and infinity are not.
///
/// # Errors
/// As [`nifti::read_labels`]; with `any_foreground` values are no error.
pub(crate) fn read(path: &Path, any_foreground: bool) -> Result<Mask> {
    match nifti::read_labels(path) {
        Ok(read) => Ok(Mask { read, odd: None }),
        Err(Error::Label { .. }) if any_foreground => read_any(path),
        Err(error) => Err(error),
    }
}

fn read_any(path: &Path) -> Result<Mask> {
    let Nifti {
        volume,
        header,
        warnings,
    } = nifti::read_image(path)?;
    let is_label = |v: f32| (0.0..=255.0).contains(&v) && v.fract() == 0.0;
    let (mut foreground, mut background) = (0usize, 0usize);
    for &v in volume.data().iter().filter(|&&v| !is_label(v)) {
        match v.is_finite() {
            true => foreground += 1,
            false => background += 1,
        }
    }
    let parts = [
        (foreground, "voxels of values that are no labels became 1"),
        (background, "voxels that are no numbers became 0"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let odd: Vec<String> = parts
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let volume = volume.map(|&v| u8::from(v.is_finite() && v != 0.0));
    let read = Nifti {
        volume,
        header,
        warnings,
    };
    Ok(Mask {
        read,
        odd: Some(odd.join(", ")),
    })
}
