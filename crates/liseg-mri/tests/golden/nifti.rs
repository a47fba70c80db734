//! Every file of the corpus: valid ones give nibabel's numbers, malformed ones an error or, where
//! the manifest allows it, the voxels of a valid twin.

use super::reference::{fixtures, json};
use liseg_mri::nifti::{AffineSource, Nifti, Warning, read_header, read_image};
use liseg_mri::{Error, Result};
use liseg_volume::{Affine, Volume};
use serde_json::Value;
use std::path::Path;

/// A number; non-finite ones are stored as strings.
fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| match value.as_str().unwrap() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            other => panic!("{other} is no number"),
        })
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

/// Compares voxels with sums, extremes and probes; says what differs first.
fn compare_voxels(volume: &Volume<f32>, expected: &Value) -> Result<(), String> {
    let data = volume.data();
    let finite: Vec<f64> = data
        .iter()
        .filter(|v| v.is_finite())
        .map(|&v| v.into())
        .collect();
    let close = |name: &str, found: f64, expected: f64, tolerance: f64| {
        if (found - expected).abs() <= tolerance || found == expected {
            Ok(())
        } else {
            Err(format!("{name} is {found}, expected {expected}"))
        }
    };
    if finite.len() as u64 != expected["finite"].as_u64().unwrap() {
        return Err(format!(
            "{} finite voxels, expected {}",
            finite.len(),
            expected["finite"]
        ));
    }
    let scale = 1e-6 * number(&expected["abs_sum"]);
    close("sum", finite.iter().sum(), number(&expected["sum"]), scale)?;
    let minimum = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let maximum = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for (name, found) in [("min", minimum), ("max", maximum)] {
        let expected = number(&expected[name]);
        close(name, found, expected, 1e-6 * expected.abs())?;
    }
    for probe in expected["probes"].as_array().unwrap() {
        let index: Vec<usize> = probe["index"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_u64().unwrap() as usize)
            .collect();
        let at = |axis: usize| index.get(axis).copied().unwrap_or(0);
        let found = f64::from(data[[at(2), at(1), at(0)]]);
        let value = number(&probe["value"]);
        if value.is_nan() != found.is_nan() {
            return Err(format!("voxel {index:?} is {found}, expected {value}"));
        }
        if !value.is_nan() {
            close(
                &format!("voxel {index:?}"),
                found,
                value,
                1e-6 * value.abs(),
            )?;
        }
    }
    Ok(())
}

/// Compares an affine in millimetres with one in the file's unit.
fn compare_affine(found: Affine, expected: &Value, factor: f64) -> Result<(), String> {
    for (r, row) in found.rows().iter().enumerate() {
        for (c, (&found, expected)) in row.iter().zip(numbers(&expected[r])).enumerate() {
            let expected = expected * factor;
            // nibabel computes the same f32 fields in f64 too; qforms differ by their last digits.
            let tolerance = 1e-9 + 2e-6 * expected.abs().max(factor);
            if (found - expected).abs() > tolerance {
                return Err(format!("affine[{r}][{c}] is {found}, expected {expected}"));
            }
        }
    }
    Ok(())
}

fn check_valid(nifti: &Nifti<f32>, entry: &Value) -> Result<(), String> {
    let header = &nifti.header;
    let dims: Vec<u64> = entry["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap())
        .collect();
    if header.dims() != dims {
        return Err(format!("dimensions {:?}, expected {dims:?}", header.dims()));
    }
    for (name, found) in [
        ("dtype", header.data_type().name().to_owned()),
        ("affine_from", header.affine_source().name().to_owned()),
        ("qform_code", header.qform_code().to_string()),
        ("sform_code", header.sform_code().to_string()),
        ("orientation", nifti.volume.orientation().to_string()),
    ] {
        let expected = &entry[name];
        let expected = expected
            .as_str()
            .map_or_else(|| expected.to_string(), str::to_owned);
        if found != expected {
            return Err(format!("{name} is {found}, expected {expected}"));
        }
    }
    let factor = header.mm_factor().unwrap_or(1.0);
    if let Some(expected) = entry["mm_factor"].as_f64()
        && (factor - expected).abs() > 1e-12
    {
        return Err(format!("mm_factor is {factor}, expected {expected}"));
    }
    compare_affine(nifti.volume.affine(), &entry["affine"], factor)?;
    compare_voxels(&nifti.volume, &entry["float32"])?;
    let canonical = &entry["canonical_ras"];
    let volume = nifti.volume.to_canonical();
    let expected: Vec<u64> = numbers(&canonical["shape"])
        .iter()
        .map(|&v| v as u64)
        .collect();
    let mut found: Vec<u64> = volume.shape().iter().rev().map(|&v| v as u64).collect();
    found.resize(expected.len().max(3), 1);
    found.truncate(expected.len());
    if found != expected {
        return Err(format!("canonical shape {found:?}, expected {expected:?}"));
    }
    compare_affine(volume.affine(), &canonical["affine"], factor)
        .and_then(|()| compare_voxels(&volume, &canonical["float32"]))
        .map_err(|e| format!("canonical: {e}"))
}

#[test]
fn reads_every_valid_file_as_nibabel_does() {
    let folder = fixtures("nifti");
    let manifest = json(&folder.join("manifest.json"));
    let mut failures = Vec::new();
    let (mut read, mut refused) = (0, 0);
    for entry in manifest["valid"].as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let dims = numbers(&entry["shape"]);
        let volumes: f64 = dims.iter().skip(3).product();
        match read_image(folder.join(file)) {
            Ok(nifti) if volumes == 1.0 => {
                read += 1;
                if let Err(reason) = check_valid(&nifti, entry) {
                    failures.push(format!("{file}: {reason}"));
                }
            }
            Err(Error::SeveralVolumes { volumes: found, .. }) if volumes > 1.0 => {
                refused += 1;
                assert_eq!(found as f64, volumes);
                let header = read_header(folder.join(file)).unwrap();
                compare_affine(header.geometry().affine, &entry["affine"], 1.0).unwrap();
            }
            other => failures.push(format!("{file}: {:?}", other.map(|n| n.header))),
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
    // Three of the 151 hold several volumes, which are refused on purpose.
    eprintln!("{read} read, {refused} refused for holding several volumes");
    assert!(read >= 100 && refused >= 1);
}

#[test]
fn the_48_orientations_hold_one_scene() {
    let folder = fixtures("nifti");
    let reference = read_image(folder.join("valid/orient_RAS.nii"))
        .unwrap()
        .volume;
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.join("valid")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("orient_")
        {
            let volume = read_image(&path).unwrap().volume.to_canonical();
            assert_eq!(volume.data(), reference.data(), "{}", path.display());
            assert!(volume.geometry().is_within(&reference.geometry(), 1e-9));
            seen += 1;
        }
    }
    assert_eq!(seen, 48);
}

/// The valid file whose voxels a lenient reader must give.
fn twin(folder: &Path, condition: &str) -> Option<Volume<f32>> {
    let start = condition.find("valid/")?;
    let name = condition[start..].split(".nii").next()?;
    let end = if condition[start + name.len()..].starts_with(".nii.gz") {
        ".nii.gz"
    } else {
        ".nii"
    };
    Some(
        read_image(folder.join(format!("{name}{end}")))
            .unwrap()
            .volume,
    )
}

#[test]
fn malformed_files_are_refused_or_read_right() {
    let folder = fixtures("nifti");
    let manifest = json(&folder.join("manifest.json"));
    let mut failures = Vec::new();
    for entry in manifest["malformed"].as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let path = folder.join(file);
        match (read_image(&path), entry["expect"].as_str().unwrap()) {
            (Ok(_), "reject") => failures.push(format!("{file}: accepted ({})", entry["reason"])),
            (Ok(nifti), _) => {
                let condition = entry["if_accepted"].as_str().unwrap();
                eprintln!("{file}: accepted, {:?}", nifti.warnings);
                if let Some(twin) = twin(&folder, condition) {
                    if twin.data() != nifti.volume.data() {
                        failures.push(format!("{file}: other voxels than {condition}"));
                    }
                    if condition.contains("affine") && twin.affine() != nifti.volume.affine() {
                        failures.push(format!("{file}: another affine than {condition}"));
                    }
                } else {
                    let [x, y, z] = nifti.volume.spacing().xyz();
                    let expected = match condition {
                        c if c.contains("1.5, 2, 4") => Some([1.5, 2.0, 4.0]),
                        c if c.contains("1, 1, 1 and a warning") => {
                            let warned = |w: &Warning| matches!(w, Warning::ZeroSpacing { .. });
                            assert!(nifti.warnings.iter().any(warned), "{file}: no warning");
                            Some([1.0; 3])
                        }
                        _ => None,
                    };
                    if expected.is_some_and(|e| e != [x, y, z]) {
                        failures.push(format!("{file}: spacing {x}, {y}, {z}; {condition}"));
                    }
                }
            }
            (Err(error), _) => {
                let text = error.to_string();
                let stem = Path::new(file).file_stem().unwrap().to_str().unwrap();
                let stem = stem.split('.').next().unwrap();
                if !text.contains(stem) {
                    failures.push(format!("{file}: the error names no file: {text}"));
                }
                eprintln!("{text}");
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn a_missing_form_is_read_as_nibabel_does_and_said() {
    let folder = fixtures("nifti");
    let nifti = read_image(folder.join("valid/aff_neither.nii")).unwrap();
    assert_eq!(nifti.header.affine_source(), AffineSource::Pixdim);
    assert!(nifti.warnings.contains(&Warning::NoForm));
}
