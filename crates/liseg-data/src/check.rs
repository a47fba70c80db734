//! Finds what is wrong with a data set before long work starts.

use crate::{
    Case, Dataset, Error, Subset, bytes_of_voxels, check_extent, check_voxels, listing, mask,
    side_by_side,
};
use liseg_mri::{mostly_non_finite, nifti};
use liseg_volume::{GRID_TOLERANCE_MM, Geometry};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes for every voxel of an image and its label.
const VOXEL_BYTES: u64 = 5;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look; work can go on.
    Warning,
    /// The case, or the data set, cannot be used as it is.
    Error,
}

/// Something that is wrong, or odd, about a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The case, where it concerns one.
    pub case: Option<String>,
    /// The file.
    pub file: PathBuf,
    /// What was found, and what was expected.
    pub message: String,
}

impl Dataset {
    /// Checks every case in full, in parallel: that its files can be read; that image and label have
    /// one shape and their corners lie within 0.1 mm; that label values are declared; that most
    /// voxels are finite; that the spacing is one of bodies; that some training label has foreground.
    /// Refused cases are errors. A few voxels that are NaN, single empty labels, constant images and
    /// oddities of the files are warnings.
    ///
    /// Returns all findings of all cases, errors first, in order of case ids.
    pub fn check(&self) -> Vec<Finding> {
        self.check_with(|findings| findings.voxels(self))
    }

    /// As [`Dataset::check`], but reads headers only: voxels are not looked at.
    pub fn check_headers(&self) -> Vec<Finding> {
        self.check_with(|findings| findings.headers())
    }

    fn check_with(&self, check: impl Fn(&mut Findings<'_>) + Sync) -> Vec<Finding> {
        let notes = self.notes().iter().map(|(case, file, message)| Finding {
            severity: Severity::Warning,
            case: case.clone(),
            file: file.clone(),
            message: message.clone(),
        });
        let refused = self.refused().iter().map(|case| Finding {
            severity: Severity::Error,
            case: Some(case.id.clone()),
            file: case.files.first().cloned().unwrap_or_default(),
            message: case.error().to_string(),
        });
        let check = |case| {
            let mut findings = Findings {
                case,
                found: Vec::new(),
                foreground: None,
            };
            check(&mut findings);
            findings
        };
        let per_case: Vec<Findings<'_>> = side_by_side(
            self.cases(),
            |case| bytes_of_voxels(&case.image, VOXEL_BYTES),
            check,
        );
        let nothing = self.nothing_to_learn(&per_case);
        let mut all: Vec<Finding> = refused
            .chain(notes)
            .chain(nothing)
            .chain(per_case.into_iter().flat_map(|findings| findings.found))
            .collect();
        let place = |finding: &Finding| (finding.severity != Severity::Error, finding.case.clone());
        all.sort_by_cached_key(place);
        all
    }

    /// An error where labels were read and none of those for training has foreground.
    fn nothing_to_learn(&self, per_case: &[Findings<'_>]) -> Option<Finding> {
        let labelled = per_case
            .iter()
            .filter(|f| f.case.subset == Subset::Labelled);
        let read: Vec<bool> = labelled.filter_map(|f| f.foreground).collect();
        if read.is_empty() || read.contains(&true) {
            return None;
        }
        Some(Finding {
            severity: Severity::Error,
            case: None,
            file: self.folder().to_owned(),
            message: no_foreground(read.len()),
        })
    }
}

/// What to say of labels that teach nothing.
pub(crate) fn no_foreground(labels: usize) -> String {
    format!(
        "the labels of all {labels} labelled training cases are empty, so there is nothing to learn: \
         check that they are the right files and values"
    )
}

/// The findings of one case.
struct Findings<'a> {
    case: &'a Case,
    found: Vec<Finding>,
    /// Whether the label has foreground; `None` where it was not read.
    foreground: Option<bool>,
}

impl Findings<'_> {
    fn add(&mut self, severity: Severity, file: &Path, message: String) {
        self.found.push(Finding {
            severity,
            case: Some(self.case.id.clone()),
            file: file.to_owned(),
            message,
        });
    }

    /// The value, or `None` and a finding.
    fn tried<T>(&mut self, file: &Path, result: liseg_mri::Result<T>) -> Option<T> {
        let message = match result {
            Ok(value) => return Some(value),
            Err(error) => unreadable(file, &error),
        };
        self.add(Severity::Error, file, message);
        None
    }

    fn headers(&mut self) {
        let case = self.case;
        let image = self.tried(&case.image, nifti::read_header(&case.image));
        if let Some(image) = &image {
            self.oddities(&case.image, image.warnings());
            self.spacing(image);
        }
        self.fits(&case.image);
        let Some(path) = &case.label else { return };
        let label = self.tried(path, nifti::read_header(path));
        self.fits(path);
        if let (Some(image), Some(label)) = (image, label) {
            self.grids(path, image.geometry(), label.geometry());
        }
    }

    /// Whether the voxels of a file fit into memory; else there is a finding. What is wrong with a header is for its
    /// reader to say.
    fn fits(&mut self, file: &Path) -> bool {
        let Ok(header) = nifti::read_header(file) else {
            return true;
        };
        match check_voxels(file, &header, VOXEL_BYTES) {
            Ok(()) => true,
            Err(error) => {
                if *file == self.case.image {
                    self.spacing(&header);
                }
                self.add(Severity::Error, file, error.to_string());
                false
            }
        }
    }

    fn voxels(&mut self, dataset: &Dataset) {
        let case = self.case;
        let files = [Some(&case.image), case.label.as_ref()];
        if files.into_iter().flatten().any(|file| !self.fits(file)) {
            return;
        }
        let image = self.tried(&case.image, nifti::read_image(&case.image));
        if let Some(image) = &image {
            self.oddities(&case.image, &image.warnings);
            self.spacing(&image.header);
            let voxels = image.volume.data();
            let first = voxels.first().copied().unwrap_or(0.0);
            let count = voxels.iter().filter(|v| !v.is_finite()).count();
            if mostly_non_finite(count, voxels.len()) {
                let message = format!(
                    "{count} of {} voxels are NaN or infinite: too many for an image",
                    voxels.len()
                );
                self.add(Severity::Error, &case.image, message);
            } else if count > 0 {
                let message =
                    format!("{count} voxels are NaN or infinite; they count as background");
                self.add(Severity::Warning, &case.image, message);
            } else if voxels.iter().all(|&v| v.to_bits() == first.to_bits()) {
                let message = format!("every voxel has the value {first}");
                self.add(Severity::Warning, &case.image, message);
            }
        }
        let Some(path) = &case.label else { return };
        let Some(label) = self.tried(path, mask::read(path, dataset.any_foreground)) else {
            return;
        };
        if let Some(odd) = label.odd {
            self.add(Severity::Warning, path, odd);
        }
        let label = label.read;
        if let Some(image) = &image {
            self.grids(path, image.volume.geometry(), label.volume.geometry());
        }
        let counts = value_counts(label.volume.data().iter().copied());
        let declared: Vec<u8> = dataset.labels().values().copied().collect();
        for (value, count) in &counts {
            if !declared.contains(value) && dataset.any_foreground {
                let message = format!("value {value} in {count} voxels counts as foreground");
                self.add(Severity::Warning, path, message);
            } else if !declared.contains(value) {
                let message = format!(
                    "label value {value} in {count} voxels is not declared in dataset.json, \
                     which has {:?}",
                    dataset.labels()
                );
                self.add(Severity::Error, path, message);
            }
        }
        let empty = counts.keys().all(|&value| value == 0);
        self.foreground = Some(!empty);
        if empty {
            let message = "the label is empty: every voxel is background".into();
            self.add(Severity::Warning, path, message);
        }
    }

    /// Image and label must lie on one grid.
    fn grids(&mut self, label_file: &Path, image: Geometry, label: Geometry) {
        if image.shape != label.shape {
            let message = format!(
                "the label has shape {:?} (z, y, x) and its image {:?}",
                label.shape, image.shape
            );
            self.add(Severity::Error, label_file, message);
        } else if !image.same_grid(&label) {
            let distance = image.corner_distance_mm(&label);
            let message = format!(
                "the label lies up to {distance:.3} mm away from its image; at most \
                 {GRID_TOLERANCE_MM} mm are accepted"
            );
            self.add(Severity::Error, label_file, message);
        }
    }

    fn oddities(&mut self, file: &Path, warnings: &[nifti::Warning]) {
        for warning in warnings {
            // Voxels that are no numbers are reported with the voxels.
            if !matches!(warning, nifti::Warning::NotFinite { .. }) {
                self.add(Severity::Warning, file, warning.to_string());
            }
        }
    }

    fn spacing(&mut self, header: &nifti::Header) {
        let file = self.case.image.clone();
        match check_extent(&file, header) {
            Ok(()) => self.unit_spacing(header.geometry()),
            Err(Error::Extent { found, cause, .. }) => {
                self.add(Severity::Error, &file, format!("{found}: {cause}"));
            }
            Err(error) => self.add(Severity::Error, &file, error.to_string()),
        }
    }

    /// Some collections have lost the spacing of a part of their files, which then say 1×1×1 mm.
    fn unit_spacing(&mut self, geometry: Geometry) {
        let unit = geometry
            .spacing()
            .zyx()
            .iter()
            .all(|s| (s - 1.0).abs() < 1e-9);
        let [z, y, x] = geometry.shape;
        // Slices that are true to 1 mm make a block, not a slab.
        if unit && 3 * z.min(y).min(x) < z.max(y).max(x) {
            let message = format!(
                "the spacing is 1×1×1 mm although the shape, {:?} (z, y, x), is that of thick \
                 slices: check whether the spacing was lost",
                geometry.shape
            );
            let file = self.case.image.clone();
            self.add(Severity::Warning, &file, message);
        }
    }
}

/// Why a file cannot be read, with the system's own reason.
fn unreadable(file: &Path, error: &liseg_mri::Error) -> String {
    if let Some(target) = listing::dangling(file) {
        return format!("it is a link to {target}, which does not exist");
    }
    match std::error::Error::source(error) {
        Some(source) if !error.to_string().contains(&source.to_string()) => {
            format!("{error}: {source}")
        }
        _ => error.to_string(),
    }
}

/// How often each value occurs.
pub(crate) fn value_counts(values: impl Iterator<Item = u8>) -> BTreeMap<u8, usize> {
    let mut counts = [0usize; 256];
    for value in values {
        counts[usize::from(value)] += 1;
    }
    (0..=u8::MAX)
        .zip(counts)
        .filter(|&(_, count)| count > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use liseg_volume::{LabelMap, Volume};

    fn messages(findings: &[Finding], severity: Severity) -> Vec<String> {
        findings
            .iter()
            .filter(|f| f.severity == severity)
            .map(|f| format!("{}: {}", f.case.as_deref().unwrap_or("-"), f.message))
            .collect()
    }

    #[test]
    fn a_sound_data_set_has_no_findings() {
        let (_folder, dataset) = testing::dataset();
        assert_eq!(dataset.check(), []);
        assert_eq!(dataset.check_headers(), []);
    }

    #[test]
    fn every_offender_is_listed() {
        let (folder, dataset) = testing::dataset();
        let path = |name: &str| folder.path().join(name);
        // Case 0: a value that is not declared. Case 1: a label that lies elsewhere. Case 2: NaN.
        // Case 3: no NIfTI file. Case 4: constant. Case 5: another shape, and an empty label.
        let (_, label) = testing::image_and_label(0);
        let wrong = label.map(|&v| if v == 1 { 7 } else { v });
        nifti::write_labels(path("labelsTr/case_0.nii.gz"), &wrong, None).unwrap();
        let (_, label) = testing::image_and_label(1);
        let moved = LabelMap::new(label.data().to_owned(), testing::affine(3)).unwrap();
        nifti::write_labels(path("labelsTr/case_1.nii.gz"), &moved, None).unwrap();
        let (image, _) = testing::image_and_label(2);
        let mut voxels = image.data().to_owned();
        voxels.mapv_inplace(|v| if v > 0.0 { f32::NAN } else { v });
        let broken = Volume::new(voxels, image.affine()).unwrap();
        nifti::write_image(path("imagesTr/case_2_0000.nii.gz"), &broken, None).unwrap();
        std::fs::write(path("imagesTr/case_3_0000.nii.gz"), "text").unwrap();
        let flat = testing::image_and_label(4).0.map(|_| 3.0);
        nifti::write_image(path("imagesUn/case_4_0000.nii.gz"), &flat, None).unwrap();
        let empty = testing::image_and_label(4).1.map(|_| 0);
        nifti::write_labels(path("labelsTs/case_5.nii.gz"), &empty, None).unwrap();

        let findings = dataset.check();
        let errors = messages(&findings, Severity::Error);
        assert_eq!(errors.len(), 5, "{errors:#?}");
        let values = label.data().iter().filter(|&&v| v == 1).count();
        assert!(
            errors[0].starts_with("case_0: label value 7 in"),
            "{}",
            errors[0]
        );
        assert!(values > 0 && errors[1].starts_with("case_1: the label lies up to 2.000 mm"));
        assert!(
            errors[2].starts_with("case_2: ") && errors[2].contains("NaN or infinite: too many")
        );
        assert!(errors[3].starts_with("case_3: "), "{}", errors[3]);
        assert!(errors[4].starts_with("case_5: the label has shape [14, 24, 28]"));
        let warnings = messages(&findings, Severity::Warning);
        assert!(warnings.contains(&"case_4: every voxel has the value 3".to_owned()));
        assert!(
            warnings
                .iter()
                .any(|w| w.starts_with("case_5: the label is empty"))
        );

        // Headers alone show the misplaced, the unreadable and the wrong shape.
        let errors = messages(&dataset.check_headers(), Severity::Error);
        assert_eq!(errors.len(), 3, "{errors:#?}");
    }

    #[test]
    fn empty_labels_are_warned_of_until_all_are() {
        let (folder, dataset) = testing::dataset();
        for index in 0..3 {
            let empty = testing::image_and_label(index).1.map(|_| 0);
            let path = folder.path().join(format!("labelsTr/case_{index}.nii.gz"));
            nifti::write_labels(path, &empty, None).unwrap();
            let findings = dataset.check();
            let warnings = messages(&findings, Severity::Warning);
            assert_eq!(warnings.len(), index + 1, "{warnings:?}");
            let errors = messages(&findings, Severity::Error);
            assert_eq!(errors.len(), usize::from(index == 2), "{errors:?}");
        }
        let errors = messages(&dataset.check(), Severity::Error);
        assert!(
            errors[0].starts_with("-: the labels of all 3"),
            "{}",
            errors[0]
        );
    }

    #[test]
    fn a_few_voxels_that_are_no_numbers_are_a_warning() {
        let (folder, dataset) = testing::dataset();
        let (image, _) = testing::image_and_label(1);
        let mut voxels = image.data().to_owned();
        voxels[[3, 3, 3]] = f32::NAN;
        let few = image.with_data(voxels).unwrap();
        let path = folder.path().join("imagesTr/case_1_0000.nii.gz");
        nifti::write_image(path, &few, None).unwrap();
        let findings = dataset.check();
        let expected = "case_1: 1 voxels are NaN or infinite; they count as background";
        assert_eq!(messages(&findings, Severity::Warning), [expected]);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn absurd_spacing_is_an_error_with_its_cause() {
        let (folder, dataset) = testing::dataset();
        let path = |index: usize| {
            folder
                .path()
                .join(format!("imagesTr/case_{index}_0000.nii.gz"))
        };
        // Case 0: metres said where millimetres are meant. Case 1: metres stored as they are.
        let plain = folder.path().join("plain.nii");
        nifti::write_image(&plain, &testing::image_and_label(0).0, None).unwrap();
        let mut bytes = std::fs::read(&plain).unwrap();
        bytes[123] = 1;
        std::fs::write(path(0), bytes).unwrap();
        let (image, _) = testing::image_and_label(1);
        let rows = image.affine().rows().map(|row| row.map(|v| v / 1000.0));
        let affine = liseg_volume::Affine::from_rows(rows).unwrap();
        let small = Volume::new(image.into_data(), affine).unwrap();
        nifti::write_image(path(1), &small, None).unwrap();
        for findings in [dataset.check(), dataset.check_headers()] {
            let errors = messages(&findings, Severity::Error);
            let about = |case: &str, part: &str| {
                let has = |e: &String| e.starts_with(case) && e.contains(part);
                assert!(errors.iter().any(has), "{case} {part}: {errors:#?}");
            };
            about("case_0: the spacing is 3000×2000×2000 mm", "says metres");
            about(
                "case_1: the spacing is 0.003×0.002×0.002 mm",
                "in another unit",
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_to_nothing_are_named() {
        let (folder, dataset) = testing::dataset();
        for name in ["imagesTr/case_0_0000.nii.gz", "labelsTr/case_1.nii.gz"] {
            let path = folder.path().join(name);
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(Path::new("/nowhere").join(name), &path).unwrap();
        }
        assert_eq!(Dataset::open(folder.path()).unwrap(), dataset);
        for findings in [dataset.check(), dataset.check_headers()] {
            let errors = messages(&findings, Severity::Error);
            let expected = [
                "case_0: it is a link to /nowhere/imagesTr/case_0_0000.nii.gz, which does not exist",
                "case_1: it is a link to /nowhere/labelsTr/case_1.nii.gz, which does not exist",
            ];
            assert_eq!(errors, expected);
        }
        // A link in the place of a folder, or of a list, would take many cases away in silence.
        let labels = folder.path().join("labelsTr");
        std::fs::rename(&labels, folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("/nowhere/labels", &labels).unwrap();
        let message = Dataset::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("labelsTr") && message.contains("/nowhere/labels"));
        std::fs::remove_file(&labels).unwrap();
        let cases = folder.path().join("cases.json");
        std::fs::remove_file(&cases).unwrap();
        std::os::unix::fs::symlink("/nowhere/cases.json", &cases).unwrap();
        let message = Dataset::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("/nowhere/cases.json"), "{message}");
    }
}
