//! `liseg info`.

use super::failure::chain;
use super::{Outcome, Result, Shared, print_json, say, terminal};
use liseg::mri::nifti::{Nifti, read_image, read_volume};
use liseg::mri::{Error, summarize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Geometry, type and intensities of image files, with warnings.
#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// NIfTI files, `.nii` or `.nii.gz`.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Info {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let mut described = Vec::new();
        let mut outcome = Outcome::Done;
        for file in &self.files {
            match read(file) {
                Ok(image) => described.push(describe(file, &image)),
                Err(error) => {
                    terminal::complain(&chain(&error));
                    outcome = Outcome::Partly;
                }
            }
        }
        if shared.json {
            print_json(&Value::Array(described));
        } else {
            described.iter().for_each(print_text);
        }
        Ok(outcome)
    }
}

/// The image; of a file with several volumes, such as a series over time or a vector field, the first.
fn read(file: &Path) -> liseg::mri::Result<Nifti<f32>> {
    match read_image(file) {
        Err(Error::SeveralVolumes { .. }) => read_volume(file, 0),
        image => image,
    }
}

fn describe(file: &Path, image: &Nifti<f32>) -> Value {
    let volume = &image.volume;
    let mut affine: Vec<Vec<f64>> = volume
        .affine()
        .rows()
        .iter()
        .map(|row| row.to_vec())
        .collect();
    affine.push(vec![0.0, 0.0, 0.0, 1.0]);
    let mut warnings: Vec<String> = image.warnings.iter().map(ToString::to_string).collect();
    let summary = summarize(volume.data());
    let volumes = image.header.volumes();
    let [z, y, x] = volume.shape().map(|n| n as u64);
    let mut shape = vec![x, y, z];
    if volumes > 1 {
        shape = image.header.dims();
        warnings.push(format!(
            "the file holds {volumes} volumes and the intensities are those of the first; other verbs take files of one \
             volume: split it"
        ));
    }
    if summary.is_none_or(|s| s.minimum >= s.maximum) {
        warnings.push("the image is constant".into());
    }
    let of = |f: fn(&liseg::mri::Summary) -> f64| summary.as_ref().map(f);
    json!({
        "file": file.display().to_string(),
        "shape": shape,
        "volumes": volumes,
        "spacing_mm": volume.spacing().xyz(),
        "orientation": volume.orientation().to_string(),
        "affine": affine,
        "dtype": image.header.data_type().name(),
        "min": of(|s| f64::from(s.minimum)),
        "max": of(|s| f64::from(s.maximum)),
        "mean": of(|s| s.mean),
        "sum": of(|s| s.sum),
        "warnings": warnings,
    })
}

/// A number with at most four decimals.
fn short(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn print_text(d: &Value) {
    say!("{}", d["file"].as_str().unwrap_or_default());
    let list = |v: &Value| {
        let numbers = v.as_array().into_iter().flatten();
        let text = numbers.map(|n| n.as_f64().map_or("–".into(), short));
        text.collect::<Vec<_>>().join(" × ")
    };
    let several = d["volumes"].as_u64().is_some_and(|n| n > 1);
    let axes = if several { "x, y, z, …" } else { "x, y, z" };
    say!(
        "  voxels       {}   ({}), {}",
        list(&d["shape"]),
        axes,
        d["dtype"].as_str().unwrap_or("?")
    );
    say!("  spacing      {} mm", list(&d["spacing_mm"]));
    say!(
        "  orientation  {}",
        d["orientation"].as_str().unwrap_or("?")
    );
    let number = |key: &str| d[key].as_f64().map_or("–".into(), |v| format!("{v:.4}"));
    say!(
        "  intensities  {} … {}, mean {}",
        number("min"),
        number("max"),
        number("mean")
    );
    for warning in d["warnings"].as_array().into_iter().flatten() {
        say!("  warning      {}", warning.as_str().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let numbers = [256.0, 2.0, 2.000_004, 1.25, 0.703_125, 10.0];
        let texts = ["256", "2", "2", "1.25", "0.7031", "10"];
        assert_eq!(numbers.map(short), texts);
    }
}
