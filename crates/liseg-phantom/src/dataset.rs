//! Phantom data sets on disk.

use crate::{Error, Patient, PhantomConfig, Phase, Result, Scan, Vendor, patient};
use liseg_file::NewFolder;
use liseg_volume::{LabelMap, Volume};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetSummary {
    /// The folder that holds the data set.
    pub folder: PathBuf,
    /// Training and test patients.
    pub patients: usize,
    /// Training images with a label.
    pub labelled: usize,
    /// Training images without a label.
    pub unlabelled: usize,
    /// Test images, all with labels.
    pub test: usize,
}

/// One entry of `cases.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Case {
    id: String,
    patient: String,
    phase: Phase,
    vendor: Vendor,
    split: Split,
    /// Whether the data set holds the case's label.
    labelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Split {
    Train,
    Test,
}

/// nnU-Net's `dataset.json`, version 2.
#[derive(Debug, Serialize)]
struct Description {
    name: &'static str,
    channel_names: BTreeMap<&'static str, &'static str>,
    labels: BTreeMap<&'static str, u8>,
    #[serde(rename = "numTraining")]
    num_training: usize,
    file_ending: &'static str,
}

/// Writes a data set in nnU-Net's raw layout (version 2) with LiSeg's additions.
///
/// - `imagesTr/<id>_0000.nii.gz`, `labelsTr/<id>.nii.gz`: GED4 of the labelled training patients
/// - `imagesUn`: GED4 of the other training patients, and all other phases of all of them
/// - `imagesTs`, `labelsTs`: all phases of the test patients
/// - `dataset.json`: labels background 0 and liver 1, one channel
/// - `cases.json`: for every image `id` (as `patient_003_GED4`), `patient`, `phase`, `vendor`,
///   `split` (`train` or `test`) and `labelled`
///
/// The folder appears under its name when it is complete: an interrupted call leaves nothing.
///
/// # Errors
/// [`Error::Occupied`] when the folder exists and is not empty; [`Error::Config`],
/// [`Error::Io`] and [`Error::Image`].
pub fn write_nnunet(config: &PhantomConfig, folder: impl AsRef<Path>) -> Result<DatasetSummary> {
    config.check()?;
    into_place(folder.as_ref(), |root| {
        for name in ["imagesTr", "labelsTr", "imagesUn", "imagesTs", "labelsTs"] {
            create(&root.join(name))?;
        }
        let mut cases = Vec::new();
        for index in 0..config.patients + config.test_patients {
            let patient = patient(config, index)?;
            let written = patient.scans.par_iter().map(|scan| {
                let test = config.is_test(index);
                let labelled = test || config.is_labelled(index, scan.phase);
                let id = format!("{}_{}", patient.id, scan.phase);
                let (images, labels) = match (test, labelled) {
                    (true, _) => ("imagesTs", "labelsTs"),
                    (false, true) => ("imagesTr", "labelsTr"),
                    (false, false) => ("imagesUn", ""),
                };
                write_image(
                    &root.join(images).join(format!("{id}_0000.nii.gz")),
                    &scan.image,
                )?;
                if labelled {
                    let path = root.join(labels).join(format!("{id}.nii.gz"));
                    write_labels(&path, &scan.liver)?;
                }
                Ok(Case {
                    id,
                    patient: patient.id.clone(),
                    phase: scan.phase,
                    vendor: patient.vendor,
                    split: if test { Split::Test } else { Split::Train },
                    labelled,
                })
            });
            cases.extend(written.collect::<Result<Vec<_>>>()?);
        }
        let count = |split, labelled| {
            let wanted = cases
                .iter()
                .filter(|c| c.split == split && c.labelled == labelled);
            wanted.count()
        };
        let summary = DatasetSummary {
            folder: folder.as_ref().to_owned(),
            patients: config.patients + config.test_patients,
            labelled: count(Split::Train, true),
            unlabelled: count(Split::Train, false),
            test: count(Split::Test, true),
        };
        let description = Description {
            name: "LiSeg phantom",
            channel_names: [("0", "MRI")].into(),
            labels: [("background", 0), ("liver", 1)].into(),
            num_training: summary.labelled,
            file_ending: ".nii.gz",
        };
        write_json(&root.join("dataset.json"), &description)?;
        write_json(&root.join("cases.json"), &cases)?;
        Ok(summary)
    })
}

/// Writes a data set in the layout of the LiQA challenge (CARE-Liver).
///
/// - `LiQA_training_data/Vendor_<vendor>/<number>-<vendor>-S<stage>/{GED1…GED4,T1,T2,DWI_800}.nii.gz`,
///   with `mask_GED4.nii.gz` for the labelled patients
/// - `LiQA_test/info.csv` (`Case,Vendor,Missing Modality`) and
///   `LiQA_test/Vendor_<vendor>/<number>-<vendor>/…` for the test patients
/// - `LiQA_test_masks/<number>-<vendor>/mask_<phase>.nii.gz`: their masks, which the challenge
///   keeps to itself
///
/// The folder appears under its name when it is complete: an interrupted call leaves nothing.
///
/// # Errors
/// As [`write_nnunet`].
pub fn write_liqa(config: &PhantomConfig, folder: impl AsRef<Path>) -> Result<DatasetSummary> {
    config.check()?;
    into_place(folder.as_ref(), |root| {
        let mut summary = DatasetSummary {
            folder: folder.as_ref().to_owned(),
            patients: config.patients + config.test_patients,
            labelled: 0,
            unlabelled: 0,
            test: 0,
        };
        let (training, testing) = (root.join("LiQA_training_data"), root.join("LiQA_test"));
        create(&training)?;
        create(&testing)?;
        let mut info = vec![["Case", "Vendor", "Missing Modality"].map(str::to_owned)];
        for index in 0..summary.patients {
            let patient = patient(config, index)?;
            let vendor = patient.vendor;
            let case = format!("{:04}-{vendor}", index + 1);
            let test = config.is_test(index);
            let (cases, case) = if test {
                (&testing, case)
            } else {
                (&training, format!("{case}-S{}", patient.stage))
            };
            let place = cases.join(format!("Vendor_{vendor}")).join(&case);
            create(&place)?;
            let given = patient.scans.iter();
            let labelled = given
                .filter(|scan| config.is_labelled(index, scan.phase))
                .count();
            let masks = if test {
                let masks = root.join("LiQA_test_masks").join(&case);
                create(&masks)?;
                summary.test += patient.scans.len();
                info.push([case, vendor.to_string(), missing(config, &patient)]);
                masks
            } else {
                summary.labelled += labelled;
                summary.unlabelled += patient.scans.len() - labelled;
                place.clone()
            };
            patient.scans.par_iter().try_for_each(|scan: &Scan| {
                let name = scan.phase.liqa_name();
                write_image(&place.join(format!("{name}.nii.gz")), &scan.image)?;
                if test || config.is_labelled(index, scan.phase) {
                    write_labels(&masks.join(format!("mask_{name}.nii.gz")), &scan.liver)?;
                }
                Ok::<(), Error>(())
            })?;
        }
        write_csv(&testing.join("info.csv"), &info)?;
        Ok(summary)
    })
}

/// The configured phases that a patient lacks, as in `T1;DWI_800`.
fn missing(config: &PhantomConfig, patient: &Patient) -> String {
    let absent = config.phases.iter().filter(|p| patient.scan(**p).is_none());
    absent
        .map(|phase| phase.liqa_name())
        .collect::<Vec<_>>()
        .join(";")
}

/// Runs `write` on a hidden folder beside `folder` and moves the result into place at the end.
fn into_place<T>(folder: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    let exists = folder.symlink_metadata().is_ok();
    if exists {
        let empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        if !empty {
            return Err(Error::Occupied {
                folder: folder.to_owned(),
            });
        }
    }
    let new = NewFolder::begin(folder).map_err(io(folder))?;
    let result = write(&new.path())?;
    new.finish().map_err(io(folder))?;
    Ok(result)
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| Error::Io {
        path: folder.to_owned(),
        source,
    })
}

fn write_image(path: &Path, image: &Volume<f32>) -> Result<()> {
    liseg_mri::nifti::write_image(path, image, None).map_err(|source| Error::Image {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn write_labels(path: &Path, labels: &LabelMap) -> Result<()> {
    liseg_mri::nifti::write_labels(path, labels, None).map_err(|source| Error::Image {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut text = serde_json::to_string_pretty(value).map_err(|e| io(e.into()))?;
    text.push('\n');
    fs::write(path, text).map_err(io)
}

fn write_csv(path: &Path, rows: &[[String; 3]]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut writer = csv::Writer::from_path(path).map_err(std::io::Error::from)?;
        for row in rows {
            let row = row.each_ref().map(|text| liseg_file::text::cell(text));
            writer.write_record(row).map_err(std::io::Error::from)?;
        }
        writer.flush()
    };
    write().map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_mri::nifti;

    fn config() -> PhantomConfig {
        PhantomConfig {
            missing_phase_probability: 0.0,
            ..PhantomConfig::default()
                .with_patients(2, 1, 1)
                .with_phases([Phase::Ged4, Phase::T2])
        }
    }

    /// All files below a folder, with `/` between the parts of their names, sorted.
    fn files(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                found.extend(files(&path).iter().map(|below| format!("{name}/{below}")));
            } else {
                found.push(name);
            }
        }
        found.sort();
        found
    }

    #[test]
    fn nnunet_layout_holds_exactly_the_announced_files() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("deep/er/phantom");
        let config = config();
        let summary = write_nnunet(&config, &folder).unwrap();
        assert_eq!(
            (summary.labelled, summary.unlabelled, summary.test),
            (1, 3, 2)
        );
        assert_eq!(
            files(&folder),
            [
                "cases.json",
                "dataset.json",
                "imagesTr/patient_000_GED4_0000.nii.gz",
                "imagesTs/patient_002_GED4_0000.nii.gz",
                "imagesTs/patient_002_T2WI_0000.nii.gz",
                "imagesUn/patient_000_T2WI_0000.nii.gz",
                "imagesUn/patient_001_GED4_0000.nii.gz",
                "imagesUn/patient_001_T2WI_0000.nii.gz",
                "labelsTr/patient_000_GED4.nii.gz",
                "labelsTs/patient_002_GED4.nii.gz",
                "labelsTs/patient_002_T2WI.nii.gz",
            ]
        );
        // Nothing is left beside the data set.
        assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 1);

        let image = nifti::read_image(folder.join("imagesTs/patient_002_T2WI_0000.nii.gz"))
            .unwrap()
            .volume;
        let label = nifti::read_labels(folder.join("labelsTs/patient_002_T2WI.nii.gz"))
            .unwrap()
            .volume;
        assert!(image.geometry().is_within(&label.geometry(), 1e-3));
        let scan = patient(&config, 2).unwrap();
        let scan = scan.scan(Phase::T2).unwrap();
        assert_eq!(scan.image.data(), image.data());
        assert_eq!(scan.liver.data(), label.data());
        assert!(scan.image.geometry().is_within(&image.geometry(), 1e-3));

        let text = fs::read_to_string(folder.join("cases.json")).unwrap();
        let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
        assert_eq!(cases.len(), 6);
        assert_eq!(
            cases[0],
            Case {
                id: "patient_000_GED4".into(),
                patient: "patient_000".into(),
                phase: Phase::Ged4,
                vendor: Vendor::A,
                split: Split::Train,
                labelled: true,
            }
        );
        assert!(text.contains("\"split\": \"train\""));
        let text = fs::read_to_string(folder.join("dataset.json")).unwrap();
        let description: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(description["channel_names"]["0"], "MRI");
        assert_eq!(description["labels"]["liver"], 1);
        assert_eq!(description["numTraining"], 1);
        assert_eq!(description["file_ending"], ".nii.gz");

        // A second call must not touch the first one's files.
        let error = write_nnunet(&config, &folder).unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert_eq!(files(&folder).len(), 11);
    }

    #[test]
    fn liqa_layout_holds_exactly_the_announced_files() {
        let parent = tempfile::tempdir().unwrap();
        let config = PhantomConfig {
            missing_phase_probability: 1.0,
            ..config()
        };
        // An empty folder may be filled.
        let summary = write_liqa(&config, parent.path().join(".").join("liqa")).unwrap();
        assert_eq!(
            (summary.labelled, summary.unlabelled, summary.test),
            (1, 1, 1)
        );
        let folder = parent.path().join("liqa");
        let stage = |index| patient(&config, index).unwrap().stage;
        let mut expected = vec![
            "LiQA_test/Vendor_A/0003-A/GED4.nii.gz".to_owned(),
            "LiQA_test/info.csv".to_owned(),
            "LiQA_test_masks/0003-A/mask_GED4.nii.gz".to_owned(),
            format!(
                "LiQA_training_data/Vendor_A/0001-A-S{}/GED4.nii.gz",
                stage(0)
            ),
            format!(
                "LiQA_training_data/Vendor_A/0001-A-S{}/mask_GED4.nii.gz",
                stage(0)
            ),
            format!(
                "LiQA_training_data/Vendor_B1/0002-B1-S{}/GED4.nii.gz",
                stage(1)
            ),
        ];
        expected.sort();
        assert_eq!(files(&folder), expected);
        let info = fs::read_to_string(folder.join("LiQA_test/info.csv")).unwrap();
        assert_eq!(info, "Case,Vendor,Missing Modality\n0003-A,A,T2\n");
    }

    #[test]
    fn a_failure_leaves_nothing_and_an_empty_folder_may_be_filled() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("out");
        fs::create_dir(&folder).unwrap();
        let failed = into_place(&folder, |root| -> Result<()> {
            fs::write(root.join("half"), "x").unwrap();
            write_json(&root.join("no/such/folder.json"), &1)
        });
        assert!(failed.unwrap_err().to_string().contains("folder.json"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        into_place(&folder, |root| write_json(&root.join("a.json"), &1)).unwrap();
        assert_eq!(files(parent.path()), ["out/a.json"]);
        // A file in the way is not removed either.
        let file = parent.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = into_place(&file, |_| Ok(())).unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert!(write_nnunet(&config().with_patients(0, 0, 0), &folder).is_err());
    }
}
