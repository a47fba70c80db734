//! A phantom in the layout of LiQA is imported, checked, and holds what the phantom says.

use liseg_data::{Dataset, ImportOptions, Layout, Severity, Subset, import};
use liseg_mri::nifti::{read_image, read_labels};
use liseg_phantom::{PhantomConfig, Phase, Resolution, patient, write_liqa};
use std::collections::BTreeSet;

#[test]
fn a_liqa_phantom_becomes_a_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let config = PhantomConfig {
        missing_phase_probability: 0.5,
        ..PhantomConfig::default()
            .with_patients(3, 2, 1)
            .with_phases([Phase::Ged4, Phase::T1, Phase::T2, Phase::Dwi])
            .with_resolution(Resolution::Tiny)
    };
    let (source, out) = (folder.path().join("liqa"), folder.path().join("dataset"));
    let written = write_liqa(&config, &source).unwrap();
    assert_eq!(Layout::detect(&source), Some(Layout::Liqa));
    let survey = Layout::Liqa.survey(&source).unwrap();
    let report = import(survey, &out, &ImportOptions::default(), |_, _| {}).unwrap();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    let counts = (report.labelled, report.unlabelled, report.test);
    assert_eq!(counts, (written.labelled, written.unlabelled, written.test));

    let dataset = Dataset::open(&out).unwrap();
    let findings = dataset.check();
    let errors: Vec<_> = findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    for index in 0..4 {
        let patient = patient(&config, index).unwrap();
        let number = format!("{:04}-{}", index + 1, patient.vendor);
        let cases: Vec<_> = dataset
            .cases()
            .iter()
            .filter(|case| {
                case.patient
                    .as_deref()
                    .is_some_and(|p| p.starts_with(&number))
            })
            .collect();
        let phases: BTreeSet<_> = cases.iter().filter_map(|case| case.phase.clone()).collect();
        let expected = patient.scans.iter().map(|scan| scan.phase.to_string());
        assert_eq!(phases, expected.collect(), "patient {index}");
        for case in cases {
            let phase: Phase = case.phase.as_ref().unwrap().parse().unwrap();
            let scan = patient.scan(phase).unwrap();
            assert_eq!(
                case.vendor.as_deref(),
                Some(patient.vendor.to_string().as_str())
            );
            let image = read_image(&case.image).unwrap().volume;
            assert_eq!(image.data(), scan.image.data());
            let labelled = index == 3 || (index < 2 && phase == Phase::Ged4);
            assert_eq!(case.label.is_some(), labelled, "{}", case.id);
            if let Some(label) = &case.label {
                assert_eq!(read_labels(label).unwrap().volume.data(), scan.liver.data());
            }
            assert_eq!(case.subset == Subset::Test, index == 3);
        }
    }
}
