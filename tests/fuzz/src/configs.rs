//! JSON and TOML: what is accepted is written to text that is accepted and says the same.

use crate::{with_folder, write};
use liseg_augment::AugmentConfig;
use liseg_data::{Dataset, Plan};
use liseg_metrics::{ComparisonSettings, Report, Settings};
use liseg_mri::normalize::{NormalizationTable, Nyul};
use liseg_phantom::PhantomConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::path::Path;

/// The kinds of JSON, by the first byte of an input.
pub(crate) const JSON_KINDS: u8 = 9;
/// The kinds of TOML, by the first byte of an input.
pub(crate) const TOML_KINDS: u8 = 4;

/// JSON; the first byte says what it should be.
pub fn json(data: &[u8]) -> bool {
    let Some((kind, text)) = data.split_first() else {
        return false;
    };
    match kind % JSON_KINDS {
        0 => json_text::<Settings>(text, |_| {}),
        1 => json_text::<ComparisonSettings>(text, |_| {}),
        2 => json_text::<NormalizationTable>(text, |_| {}),
        3 => json_text::<AugmentConfig>(text, build),
        4 => json_text::<PhantomConfig>(text, |_| {}),
        5 => file(text, Report::read_json, |report, file| {
            report.write_json(file).is_ok()
        }),
        6 => file(
            text,
            |file| Nyul::read(file),
            |standard, file| standard.write(file).is_ok(),
        ),
        7 => file(text, Plan::read, |plan, file| plan.write(file).is_ok()),
        _ => dataset(text),
    }
}

/// A file that is read and written by functions of its own.
fn file<T: PartialEq + Debug, E: Debug>(
    text: &[u8],
    read: impl Fn(&Path) -> Result<T, E>,
    write_to: impl Fn(&T, &Path) -> bool,
) -> bool {
    with_folder(|folder| {
        let file = folder.join("input.json");
        write(&file, text);
        let Ok(value) = read(&file) else {
            return false;
        };
        assert!(write_to(&value, &file), "what was read can be written");
        let again = read(&file).expect("what was written can be read");
        assert_eq!(again, value);
        true
    })
}

/// `dataset.json`, and after a zero byte `cases.json`, of a data set with one image.
fn dataset(text: &[u8]) -> bool {
    with_folder(|folder| {
        let folder = folder.join("dataset");
        let images = folder.join("imagesTr");
        std::fs::create_dir_all(&images).expect("a temporary folder can be made");
        write(&images.join("a_0000.nii.gz"), b"");
        let mut parts = text.splitn(2, |&byte| byte == 0);
        write(
            &folder.join("dataset.json"),
            parts.next().unwrap_or_default(),
        );
        let cases = folder.join("cases.json");
        match parts.next() {
            Some(text) => write(&cases, text),
            None => drop(std::fs::remove_file(cases)),
        }
        let dataset = Dataset::open(&folder);
        if let Ok(dataset) = &dataset {
            assert!(!dataset.cases().is_empty());
        }
        dataset.is_ok()
    })
}

/// TOML; the first byte says what it should be.
pub fn toml(data: &[u8]) -> bool {
    let Some((kind, text)) = data.split_first() else {
        return false;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    match kind % TOML_KINDS {
        0 => toml_text::<Settings>(text, |_| {}),
        1 => toml_text::<ComparisonSettings>(text, |_| {}),
        2 => toml_text::<AugmentConfig>(text, build),
        _ => toml_text::<PhantomConfig>(text, |_| {}),
    }
}

/// What is built from numbers in any range is refused or works.
fn build(config: &AugmentConfig) {
    let _ = config.build();
}

fn json_text<T: Serialize + DeserializeOwned>(text: &[u8], then: impl Fn(&T)) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(text) else {
        return false;
    };
    then(&value);
    let first = serde_json::to_string(&value).expect("what was read can be written");
    let again: T = serde_json::from_str(&first).expect("what was written can be read");
    assert_eq!(serde_json::to_string(&again).ok(), Some(first));
    true
}

fn toml_text<T: Serialize + DeserializeOwned>(text: &str, then: impl Fn(&T)) -> bool {
    let Ok(value) = toml::from_str::<T>(text) else {
        return false;
    };
    then(&value);
    let first = toml::to_string(&value).expect("what was read can be written");
    let again: T = toml::from_str(&first).expect("what was written can be read");
    assert_eq!(toml::to_string(&again).ok(), Some(first));
    true
}
