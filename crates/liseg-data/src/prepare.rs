//! Fills a store: preprocesses every training case of a data set, and resumes where it stopped.

use crate::check::{no_foreground, value_counts};
use crate::memory::{self, Budget};
use crate::preprocess::{preprocess_label, preprocess_volume};
use crate::store::{self, Provenance, Record, StoredCase, StoredPrecision};
use crate::{
    Case, Dataset, Error, Plan, Result, Subset, check_extent, check_voxels, foreground, json,
    listing,
};
use liseg_mri::nifti;
use liseg_volume::{LabelMap, Seed};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How a store is filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreprocessOptions {
    /// Cases in work at a time, at most.
    pub jobs: usize,
    /// Leave cases as they are that were made from the same files in the same way.
    pub resume: bool,
    /// How intensities are stored.
    pub precision: StoredPrecision,
    /// Bytes that the cases in work may need together; fewer than `jobs` are in work when that is not
    /// enough for them, and one that is too large by itself runs alone. `None` for no limit.
    pub memory: Option<u64>,
}

impl Default for PreprocessOptions {
    /// Two cases at a time in f32, resumed, without a limit.
    fn default() -> Self {
        Self {
            jobs: 2,
            resume: true,
            precision: StoredPrecision::F32,
            memory: None,
        }
    }
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was preprocessed and written.
    Written,
    /// It was there already, made from the same files by the same plan.
    Unchanged,
    /// It failed; the report has the error.
    Failed,
}

/// Tells that a case is finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The case.
    pub case: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Cases finished so far, this one included.
    pub done: usize,
    /// Cases in all.
    pub total: usize,
}

/// What preprocessing did.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that were preprocessed and written.
    pub written: Vec<String>,
    /// Cases that were there already.
    pub unchanged: Vec<String>,
    /// Cases that failed, and why.
    pub failed: Vec<(String, Error)>,
    /// Cases that were written although something about them is odd, and what.
    pub warnings: Vec<(String, String)>,
}

/// Preprocesses all labelled and unlabelled cases of a data set into a store, several at a time.
///
/// When it resumes, a case that was made from files with the same content, by a plan with the same
/// preprocessing and with the same attributes is left as it is, unless its checksum tells that it was
/// damaged. Other cases go on when one fails; failures are listed in the report and are not part of
/// the store. Test cases are left out. A `splits_final.json` of the data set is copied.
///
/// `progress` is called from several threads.
///
/// # Errors
/// Only what concerns the whole: [`Error::Setting`] and [`Error::Patch`] for an invalid plan, or one
/// whose labels are not those of the data set; [`Error::Dataset`] when no label has foreground;
/// [`Error::Io`] when the folder cannot be written.
pub fn preprocess_dataset(
    dataset: &Dataset,
    plan: &Plan,
    out: &Path,
    options: &PreprocessOptions,
    progress: impl Fn(Event) + Sync,
) -> Result<Report> {
    plan.validate()?;
    if plan.labels != *dataset.labels() {
        let reason = format!(
            "the plan has {:?} and the data set {:?}; plan it again",
            plan.labels,
            dataset.labels()
        );
        return Err(Error::setting("labels", reason));
    }
    std::fs::create_dir_all(out).map_err(Error::io("creating", out))?;
    plan.write(&out.join("plan.json"))?;
    let description = dataset.folder().join("dataset.json");
    let text = liseg_file::read(&description).map_err(Error::io("reading", &description))?;
    json::write_bytes(&out.join("dataset.json"), &text)?;
    let splits = dataset.folder().join("splits_final.json");
    if listing::exists(&splits)? {
        let text = liseg_file::read(&splits).map_err(Error::io("reading", &splits))?;
        json::write_bytes(&out.join("splits_final.json"), &text)?;
    }

    let cases: Vec<&Case> = dataset
        .cases()
        .iter()
        .filter(|case| case.subset != Subset::Test)
        .collect();
    let work = Work {
        dataset,
        plan,
        plan_hash: plan.preprocessing_hash(),
        out,
        options,
        budget: Budget::new(options.memory.unwrap_or(u64::MAX)),
        warnings: Mutex::default(),
    };
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let full = AtomicBool::new(false);
    // Plain threads: a rayon thread that waits inside one case could begin another, and memory
    // would no longer be bounded by the number of jobs.
    let run = || {
        let mut results = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if full.load(Ordering::Relaxed) {
                break;
            }
            let result = work.case(case);
            if result
                .as_ref()
                .is_err_and(|error| liseg_file::is_full(error))
            {
                full.store(true, Ordering::Relaxed);
            }
            progress(Event {
                case: case.id.clone(),
                outcome: *result.as_ref().unwrap_or(&Outcome::Failed),
                done: done.fetch_add(1, Ordering::Relaxed) + 1,
                total: cases.len(),
            });
            results.push((case.id.clone(), result));
        }
        results
    };
    let mut results = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..options.jobs.clamp(1, cases.len().max(1)))
            .map(|_| scope.spawn(run))
            .collect();
        let mut results = run();
        for thread in threads {
            match thread.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_by(|a, b| a.0.cmp(&b.0));

    let refused = dataset.refused().iter();
    let mut report = Report {
        failed: refused
            .map(|case| (case.id.clone(), case.error()))
            .collect(),
        ..Report::default()
    };
    for (id, result) in results {
        match result {
            Err(error) if liseg_file::is_full(&error) => return Err(error),
            Ok(Outcome::Unchanged) => report.unchanged.push(id),
            Ok(_) => report.written.push(id),
            Err(error) => report.failed.push((id, error)),
        }
    }
    let warnings = work.warnings.into_inner();
    report.warnings = warnings.unwrap_or_else(PoisonError::into_inner);
    report.warnings.sort();
    report.failed.sort_by(|a, b| a.0.cmp(&b.0));
    let finished = report.written.iter().chain(&report.unchanged);
    let finished: Vec<String> = finished.cloned().collect();
    refuse_empty(dataset, out, &finished)?;
    store::write_index(out, finished)?;
    Ok(report)
}

/// Refuses labels of which none has foreground: a network would train for hours and learn nothing.
fn refuse_empty(dataset: &Dataset, out: &Path, finished: &[String]) -> Result<()> {
    let labelled = dataset.subset(Subset::Labelled);
    let labelled: Vec<&Case> = labelled.filter(|c| finished.contains(&c.id)).collect();
    for case in &labelled {
        let stored = StoredCase::open(&store::case_path(out, &case.id))?;
        if stored.foreground_labels().len() > 0 {
            return Ok(());
        }
    }
    match labelled.is_empty() {
        true => Ok(()),
        false => Err(dataset.error(no_foreground(labelled.len()))),
    }
}

/// What all cases share.
struct Work<'a> {
    dataset: &'a Dataset,
    plan: &'a Plan,
    plan_hash: String,
    out: &'a Path,
    options: &'a PreprocessOptions,
    budget: Budget,
    warnings: Mutex<Vec<(String, String)>>,
}

impl Work<'_> {
    fn case(&self, case: &Case) -> Result<Outcome> {
        // A header may claim terabytes, of which hashing would read all.
        let header = nifti::read_header(&case.image)?;
        check_extent(&case.image, &header)?;
        check_voxels(&case.image, &header, 4)?;
        let provenance = Provenance {
            format: store::format(),
            precision: self.options.precision,
            subset: case.subset,
            patient: case.patient.clone(),
            phase: case.phase.clone(),
            vendor: case.vendor.clone(),
            plan_hash: self.plan_hash.clone(),
            image_hash: hash(&case.image)?,
            label_hash: case.label.as_deref().map(hash).transpose()?,
        };
        let path = store::case_path(self.out, &case.id);
        if self.options.resume && store::stored_provenance(&path).as_ref() == Some(&provenance) {
            return Ok(Outcome::Unchanged);
        }
        let _share = self
            .budget
            .take(memory::needed(&case.image, &header, self.plan)?);
        let label = match &case.label {
            None => None,
            Some(path) => Some(self.read_label(path)?),
        };
        let volume = nifti::read_image(&case.image)?.volume;
        if let (Some(label), Some(path)) = (&label, &case.label) {
            let (grid, other) = (volume.geometry(), label.geometry());
            if !grid.same_grid(&other) {
                return Err(Error::Grid {
                    path: path.clone(),
                    expected: grid.shape,
                    found: other.shape,
                    distance_mm: grid.corner_distance_mm(&other),
                });
            }
        }
        let phase = case.phase.as_deref();
        let prepared = preprocess_volume(volume, phase, label.as_ref(), self.plan)?;
        if prepared.replaced > 0 {
            let message = format!(
                "{} voxels were NaN or infinite and count as background",
                prepared.replaced
            );
            self.warn(&case.id, message);
        }
        if u32::try_from(prepared.image.len()).is_err() {
            let reason = format!(
                "case `{}` would have {} voxels; at most {} can be indexed",
                case.id,
                prepared.image.len(),
                u32::MAX
            );
            return Err(Error::setting("spacing", reason));
        }
        let label = match label {
            None => None,
            Some(label) => {
                let label = preprocess_label(&label, &prepared.restore)?;
                let mut rng = Seed(1234).stream(&format!("foreground of {}", case.id), 0, 0);
                let voxels = foreground::sample(label.view(), &mut rng);
                Some((label, voxels))
            }
        };
        let record = Record {
            id: case.id.clone(),
            provenance,
            restore: prepared.restore,
            checksum: String::new(),
        };
        let label = label.as_ref().map(|(label, voxels)| (label, voxels));
        store::write_case(&path, &record, prepared.image, label)?;
        Ok(Outcome::Written)
    }

    fn warn(&self, case: &str, message: String) {
        let warnings = self.warnings.lock();
        let mut warnings = warnings.unwrap_or_else(PoisonError::into_inner);
        warnings.push((case.to_owned(), message));
    }

    /// A label whose values are all declared.
    fn read_label(&self, path: &Path) -> Result<LabelMap> {
        check_voxels(path, &nifti::read_header(path)?, 1)?;
        let label = nifti::read_labels(path)?.volume;
        self.check_values(path, &label)?;
        Ok(label)
    }

    fn check_values(&self, path: &Path, label: &LabelMap) -> Result<()> {
        let declared: Vec<u8> = self.dataset.labels().values().copied().collect();
        let counts = value_counts(label.data().iter().copied());
        match counts.into_iter().find(|(v, _)| !declared.contains(v)) {
            None => Ok(()),
            Some((value, count)) => Err(Error::LabelValue {
                path: path.to_owned(),
                value,
                count,
                declared,
            }),
        }
    }
}

/// The BLAKE3 hash of a file, as hexadecimal text.
fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = liseg_file::open(path).map_err(Error::io("opening", path))?;
    hasher
        .update_reader(file)
        .map_err(Error::io("reading", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaseStore, preprocess_image, testing};

    fn prepare(dataset: &Dataset, plan: &Plan, out: &Path, resume: bool) -> Report {
        let options = PreprocessOptions {
            resume,
            ..PreprocessOptions::default()
        };
        preprocess_dataset(dataset, plan, out, &options, |_| {}).unwrap()
    }

    #[test]
    fn stores_what_training_needs() {
        let (_folder, dataset) = testing::dataset();
        let out = tempfile::tempdir().unwrap();
        let plan = testing::tiny_plan();
        let events = Mutex::new(Vec::new());
        let options = PreprocessOptions {
            memory: Some(1),
            ..PreprocessOptions::default()
        };
        let report = preprocess_dataset(&dataset, &plan, out.path(), &options, |event| {
            events.lock().unwrap().push(event);
        })
        .unwrap();
        let all = ["case_0", "case_1", "case_2", "case_3", "case_4"];
        assert_eq!(report.written, all);
        assert!(report.failed.is_empty() && report.unchanged.is_empty());
        let mut done: Vec<usize> = events.lock().unwrap().iter().map(|e| e.done).collect();
        done.sort_unstable();
        assert_eq!(done, [1, 2, 3, 4, 5]);

        let store = CaseStore::open(out.path()).unwrap();
        assert_eq!(store.plan(), &plan);
        assert!(out.path().join("dataset.json").exists());
        assert_eq!(store.subset(Subset::Labelled).count(), 3);
        assert_eq!(store.subset(Subset::Unlabelled).count(), 2);
        for index in 0..5 {
            let case = store.get(&format!("case_{index}")).unwrap();
            let (image, label) = testing::image_and_label(index);
            let made = preprocess_image(&image, &plan).unwrap();
            assert_eq!(case.image(), made.image);
            // The affine went through the file's f32; the image and its shapes did not.
            assert_eq!(case.restore().cropped_shape(), made.restore.cropped_shape());
            let provenance = &case.record().provenance;
            assert_eq!(provenance.patient, Some(format!("patient_{}", index / 2)));
            if index < 3 {
                let expected = preprocess_label(&label, &made.restore).unwrap();
                assert_eq!(case.label().unwrap(), expected.mapv(|v| v as i8));
                let flat: Vec<u8> = expected.iter().copied().collect();
                let voxels = flat.iter().filter(|&&v| v == 1).count();
                assert_eq!(case.foreground(1).len(), voxels);
                assert!(case.foreground(1).iter().all(|&i| flat[i as usize] == 1));
                assert!(case.foreground(2).is_empty());
            } else {
                assert!(case.label().is_none() && case.foreground_labels().len() == 0);
            }
        }
    }

    #[test]
    fn resumes_and_notices_changes() {
        let (folder, dataset) = testing::dataset();
        let out = tempfile::tempdir().unwrap();
        let mut plan = testing::tiny_plan();
        prepare(&dataset, &plan, out.path(), true);
        // Another patch does not matter, a file that is only touched does not matter.
        plan.patch_size = [16, 16, 16];
        let image = folder.path().join("imagesTr/case_0_0000.nii.gz");
        std::fs::write(&image, std::fs::read(&image).unwrap()).unwrap();
        let report = prepare(&dataset, &plan, out.path(), true);
        assert_eq!((report.unchanged.len(), report.written.len()), (5, 0));
        // Another image, a damaged result and another vendor do.
        let other = folder.path().join("imagesTr/case_3_0000.nii.gz");
        nifti::write_image(&other, &testing::image_and_label(5).0, None).unwrap();
        std::fs::write(out.path().join("case_1.safetensors"), "damaged").unwrap();
        let cases = folder.path().join("cases.json");
        let text = r#"[{"id": "case_2", "vendor": "B"}]"#;
        std::fs::write(&cases, text).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        let report = prepare(&dataset, &plan, out.path(), true);
        assert_eq!(report.written.len(), 5, "every case lost its patient");
        std::fs::write(out.path().join("case_1.safetensors"), "damaged").unwrap();
        let report = prepare(&dataset, &plan, out.path(), true);
        assert_eq!(report.written, ["case_1"]);
        // Another spacing, or no wish to resume, does everything again.
        assert_eq!(prepare(&dataset, &plan, out.path(), false).written.len(), 5);
        plan.spacing = liseg_volume::Spacing::new(3.0, 2.0, 2.0).unwrap();
        assert_eq!(prepare(&dataset, &plan, out.path(), true).written.len(), 5);
    }

    #[test]
    fn goes_on_past_a_failing_case() {
        let (folder, dataset) = testing::dataset();
        let out = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("imagesTr/case_1_0000.nii.gz"), "text").unwrap();
        let (_, label) = testing::image_and_label(2);
        let wrong = label.map(|&v| v * 9);
        let path = folder.path().join("labelsTr/case_2.nii.gz");
        nifti::write_labels(&path, &wrong, None).unwrap();
        let report = prepare(&dataset, &testing::tiny_plan(), out.path(), true);
        let failed: Vec<&str> = report.failed.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(failed, ["case_1", "case_2"]);
        assert!(
            report.failed[0]
                .1
                .to_string()
                .contains("case_1_0000.nii.gz")
        );
        assert!(matches!(
            report.failed[1].1,
            Error::LabelValue { value: 9, .. }
        ));
        assert_eq!(CaseStore::open(out.path()).unwrap().cases().len(), 3);
    }

    #[test]
    fn labels_without_foreground_are_refused_when_all_are_empty() {
        let (folder, dataset) = testing::dataset();
        let out = tempfile::tempdir().unwrap();
        let (plan, options) = (testing::tiny_plan(), PreprocessOptions::default());
        let mut results = Vec::new();
        for index in 0..3 {
            let empty = testing::image_and_label(index).1.map(|_| 0);
            let path = folder.path().join(format!("labelsTr/case_{index}.nii.gz"));
            nifti::write_labels(path, &empty, None).unwrap();
            let result = preprocess_dataset(&dataset, &plan, out.path(), &options, |_| {});
            results.push(result.map(|report| report.failed.len()));
        }
        assert!(matches!(results[..2], [Ok(0), Ok(0)]), "{results:?}");
        let message = results[2].as_ref().unwrap_err().to_string();
        assert!(message.contains("labels of all 3"), "{message}");
    }

    #[test]
    fn a_few_voxels_that_are_no_numbers_are_a_warning() {
        let (folder, dataset) = testing::dataset();
        let (image, _) = testing::image_and_label(1);
        let mut voxels = image.data().to_owned();
        voxels[[3, 3, 3]] = f32::INFINITY;
        let path = folder.path().join("imagesTr/case_1_0000.nii.gz");
        nifti::write_image(path, &image.with_data(voxels).unwrap(), None).unwrap();
        let out = tempfile::tempdir().unwrap();
        let report = prepare(&dataset, &testing::tiny_plan(), out.path(), true);
        assert_eq!((report.written.len(), report.failed.len()), (5, 0));
        let [(case, message)] = &report.warnings[..] else {
            panic!("{:?}", report.warnings)
        };
        assert!(case == "case_1" && message.starts_with("1 voxels were NaN"));
        assert!(crate::Fingerprint::of(&dataset).is_ok());
    }

    #[test]
    fn a_plan_for_other_labels_is_refused() {
        let (_folder, dataset) = testing::dataset();
        let out = tempfile::tempdir().unwrap();
        let mut plan = testing::tiny_plan();
        plan.labels.insert("tumour".into(), 2);
        let result = preprocess_dataset(
            &dataset,
            &plan,
            out.path(),
            &PreprocessOptions::default(),
            |_| {},
        );
        assert!(matches!(
            result,
            Err(Error::Setting {
                field: "labels",
                ..
            })
        ));
    }
}
