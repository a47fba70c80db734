//! Preprocessed cases on disk, mapped into memory.
//!
//! A store is a folder with one `<id>.safetensors` per case, the `plan.json` it was made with, a
//! copy of `dataset.json`, and `store.json`, the list of finished cases, which is written last.
//! Opening maps the files; voxels are read from disk when a patch is cut, and the system's page
//! cache is shared by all threads.

use crate::foreground::Foreground;
use crate::mapped::{Mapped, Tensor};
use crate::plan::Plan;
use crate::preprocess::Restore;
use crate::{Error, Result, Subset, json};
use ndarray::{Array3, ArrayView3};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the file layout; part of every record.
const FORMAT: u32 = 1;
/// Key of the record within a file's metadata.
const RECORD: &str = "liseg";

/// What a preprocessed case was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of the file layout.
    pub format: u32,
    /// What the case may be used for.
    pub subset: Subset,
    /// Images of one patient share this name.
    pub patient: Option<String>,
    /// Phase or sequence.
    pub phase: Option<String>,
    /// Vendor or centre.
    pub vendor: Option<String>,
    /// [`Plan::preprocessing_hash`] of the plan.
    pub plan_hash: String,
    /// BLAKE3 of the image file.
    pub image_hash: String,
    /// BLAKE3 of the label file.
    pub label_hash: Option<String>,
}

/// What is stored about a case beside its voxels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The case.
    pub id: String,
    /// What it was made from.
    pub provenance: Provenance,
    /// The way back to the grid of the file.
    pub restore: Restore,
}

/// The list of finished cases.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: u32,
    cases: Vec<String>,
}

/// One preprocessed case, mapped into memory.
#[derive(Debug)]
pub struct StoredCase {
    record: Record,
    file: Mapped,
    image: Tensor<f32>,
    label: Option<Tensor<i8>>,
    foreground: BTreeMap<u8, Tensor<u32>>,
}

impl StoredCase {
    /// Maps a file and checks that everything in it fits together.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be mapped; [`Error::Store`], naming the file, when it is
    /// damaged, cut short, of another version, or lacks a part.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Mapped::open(path)?;
        let fault = |reason: String| Error::store(path, reason);
        let text = file
            .metadata(RECORD)
            .ok_or_else(|| fault("it has no record: it is no preprocessed case".into()))?;
        let record: Record = serde_json::from_str(text).map_err(|e| {
            fault(format!(
                "its record is of another version ({e}); preprocess again"
            ))
        })?;
        if record.provenance.format != FORMAT {
            return Err(fault(format!(
                "it has layout {}, and {FORMAT} is needed; preprocess again",
                record.provenance.format
            )));
        }
        let [z, y, x] = record.restore.plan_shape();
        let image = file.tensor("image", Dtype::F32, &[1, z, y, x])?;
        let labelled = record.provenance.label_hash.is_some();
        let label = match labelled {
            true => Some(file.tensor("label", Dtype::I8, &[z, y, x])?),
            false => None,
        };
        let mut foreground = BTreeMap::new();
        for name in file.names() {
            let Some(value) = name.strip_prefix("foreground.") else {
                continue;
            };
            let value: u8 = value
                .parse()
                .map_err(|_| fault(format!("tensor `{name}` is not expected")))?;
            let tensor = file.any_length(&name, Dtype::U32)?;
            let voxels = (z * y * x) as u64;
            let indices: &[u32] = file.slice(&tensor);
            if indices.is_empty() || indices.iter().any(|&i| u64::from(i) >= voxels) {
                return Err(fault(format!("tensor `{name}` points outside the image")));
            }
            foreground.insert(value, tensor);
        }
        Ok(Self {
            record,
            file,
            image,
            label,
            foreground,
        })
    }

    /// The case.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// What is stored about the case beside its voxels.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The way back to the grid of the file.
    pub fn restore(&self) -> &Restore {
        &self.record.restore
    }

    /// Voxels along (z, y, x).
    pub fn shape(&self) -> [usize; 3] {
        self.record.restore.plan_shape()
    }

    /// Normalised intensities `[z, y, x]`, straight from the file without a copy.
    pub fn image(&self) -> ArrayView3<'_, f32> {
        view(self.shape(), self.file.slice(&self.image))
    }

    /// Labels `[z, y, x]`, straight from the file; `None` for an unlabelled case.
    pub fn label(&self) -> Option<ArrayView3<'_, i8>> {
        let tensor = self.label.as_ref()?;
        Some(view(self.shape(), self.file.slice(tensor)))
    }

    /// The foreground labels that occur, ascending.
    pub fn foreground_labels(&self) -> impl ExactSizeIterator<Item = u8> + '_ {
        self.foreground.keys().copied()
    }

    /// Remembered voxels of a label: flat C-order indices, ascending, a random sample of at most
    /// 10 000 or 1 %, whatever is more. Empty for a label that does not occur.
    pub fn foreground(&self, label: u8) -> &[u32] {
        self.foreground
            .get(&label)
            .map_or(&[], |tensor| self.file.slice(tensor))
    }
}

#[expect(
    clippy::expect_used,
    reason = "the shape was checked when the file was opened"
)]
fn view<T>(shape: [usize; 3], voxels: &[T]) -> ArrayView3<'_, T> {
    ArrayView3::from_shape(shape, voxels).expect("the tensor has the shape of the record")
}

/// Writes a case whole or not at all.
pub(crate) fn write_case(
    path: &Path,
    record: &Record,
    image: &Array3<f32>,
    label: Option<(&Array3<u8>, &Foreground)>,
) -> Result<()> {
    let fault =
        |e: &dyn std::fmt::Display| Error::store(path, format!("it cannot be written: {e}"));
    let (z, y, x) = image.dim();
    let image = image.as_standard_layout();
    let label = label.map(|(label, foreground)| (label.as_standard_layout(), foreground));
    let mut tensors: Vec<(String, TensorView<'_>)> = Vec::new();
    let mut add = |name: &str, dtype, shape: Vec<usize>, bytes| -> Result<()> {
        let tensor = TensorView::new(dtype, shape, bytes).map_err(|e| fault(&e))?;
        tensors.push((name.to_owned(), tensor));
        Ok(())
    };
    let voxels: &[f32] = image.as_slice().unwrap_or_default();
    add(
        "image",
        Dtype::F32,
        vec![1, z, y, x],
        bytemuck::cast_slice(voxels),
    )?;
    if let Some((label, foreground)) = &label {
        // Labels are below 128, so the bytes mean the same as i8.
        let voxels = label.as_slice().unwrap_or_default();
        add("label", Dtype::I8, vec![z, y, x], voxels)?;
        for (value, indices) in foreground.iter() {
            let name = format!("foreground.{value}");
            add(
                &name,
                Dtype::U32,
                vec![indices.len()],
                bytemuck::cast_slice(indices),
            )?;
        }
    }
    let text = serde_json::to_string(record).map_err(|e| fault(&e))?;
    let metadata = HashMap::from([(RECORD.to_owned(), text)]);

    let folder = path.parent().unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("writing", path))?;
    safetensors::serialize_to_file(tensors, Some(metadata), file.path()).map_err(|e| fault(&e))?;
    file.as_file()
        .sync_all()
        .map_err(Error::io("writing", path))?;
    file.persist(path)
        .map_err(|e| Error::io("writing", path)(e.error))?;
    Ok(())
}

/// The provenance of a stored case, without a look at its voxels; `None` when it cannot be read.
pub(crate) fn stored_provenance(path: &Path) -> Option<Provenance> {
    StoredCase::open(path)
        .ok()
        .map(|case| case.record.provenance)
}

/// Where a case is stored.
pub(crate) fn case_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.safetensors"))
}

/// The version of the file layout that is written.
pub(crate) fn format() -> u32 {
    FORMAT
}

/// Writes the list of finished cases.
pub(crate) fn write_index(folder: &Path, mut cases: Vec<String>) -> Result<()> {
    cases.sort();
    let index = Index {
        format: FORMAT,
        cases,
    };
    json::write(&folder.join("store.json"), &index)
}

/// All preprocessed cases of a data set, mapped into memory.
#[derive(Debug)]
pub struct CaseStore {
    folder: PathBuf,
    plan: Plan,
    cases: Vec<Arc<StoredCase>>,
}

impl CaseStore {
    /// Maps every finished case of a store.
    ///
    /// The files must not be changed in place while the store is open; preprocessing replaces them
    /// whole, which is safe.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Json`] when the list of cases or the plan cannot be read;
    /// [`Error::Store`] for a store without cases, and, naming the file, for one that is damaged or
    /// made with another plan.
    pub fn open(folder: &Path) -> Result<Self> {
        let index_path = folder.join("store.json");
        if !index_path.exists() {
            let reason = "there is no store.json: preprocessing was not finished; run it again";
            return Err(Error::store(folder, reason));
        }
        let index: Index = json::read(&index_path)?;
        if index.format != FORMAT {
            let reason = format!("it has layout {}, and {FORMAT} is needed", index.format);
            return Err(Error::store(&index_path, reason));
        }
        let plan = Plan::read(&folder.join("plan.json"))?;
        let plan_hash = plan.preprocessing_hash();
        let mut cases = Vec::with_capacity(index.cases.len());
        for id in &index.cases {
            let path = case_path(folder, id);
            let case = StoredCase::open(&path)?;
            if case.id() != id {
                let reason = format!("it holds case `{}`", case.id());
                return Err(Error::store(&path, reason));
            }
            if case.record.provenance.plan_hash != plan_hash {
                let reason = "it was made with another plan than plan.json; preprocess again";
                return Err(Error::store(&path, reason));
            }
            cases.push(Arc::new(case));
        }
        if cases.is_empty() {
            return Err(Error::store(folder, "it has no cases"));
        }
        cases.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(Self {
            folder: folder.to_owned(),
            plan,
            cases,
        })
    }

    /// The folder of the store.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The plan the cases were preprocessed with.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// All cases, in order of their ids.
    pub fn cases(&self) -> &[Arc<StoredCase>] {
        &self.cases
    }

    /// The cases of one subset, in order of their ids.
    pub fn subset(&self, subset: Subset) -> impl Iterator<Item = &Arc<StoredCase>> {
        self.cases
            .iter()
            .filter(move |case| case.record.provenance.subset == subset)
    }

    /// The case of that id.
    pub fn get(&self, id: &str) -> Option<&Arc<StoredCase>> {
        let index = self.cases.binary_search_by(|case| case.id().cmp(id)).ok()?;
        self.cases.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{preprocess_dataset, testing};

    fn filled() -> tempfile::TempDir {
        let (_folder, dataset) = testing::dataset();
        let out = tempfile::tempdir().unwrap();
        let plan = testing::tiny_plan();
        preprocess_dataset(&dataset, &plan, out.path(), 1, true, |_| {}).unwrap();
        out
    }

    #[test]
    fn damage_is_reported_with_the_file() {
        let out = filled();
        let path = case_path(out.path(), "case_1");
        let whole = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let text = std::str::from_utf8(&whole[8..header]).unwrap().to_owned();
        let with_header = |text: String| {
            let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
            bytes.extend(text.bytes());
            bytes.extend(&whole[header..]);
            bytes
        };
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{from} is not in {text}");
            let mut text = text.replace(from, to);
            text.extend(std::iter::repeat_n(
                ' ',
                text.len().next_multiple_of(8) - text.len(),
            ));
            with_header(text)
        };
        let mut wild = whole.clone();
        let at = header + offset_of(&whole, "foreground.1");
        wild[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        for (bytes, part) in [
            (Vec::new(), "damaged or cut short"),
            (whole[..whole.len() / 2].to_vec(), "damaged or cut short"),
            (
                b"this is no safetensors file".to_vec(),
                "damaged or cut short",
            ),
            (with_header(format!(" {text}")), "not aligned"),
            (changed("liseg", "other"), "no preprocessed case"),
            (changed("\\\"format\\\":1", "\\\"format\\\":9"), "layout 9"),
            (
                changed("\\\"restore\\\"", "\\\"restart\\\""),
                "another version",
            ),
            (changed("\"I8\"", "\"U8\""), "type U8"),
            (changed("\"image\"", "\"imago\""), "`image` is missing"),
            (changed("\"shape\":[1,", "\"shape\":[1,1,"), "shape"),
            (wild, "points outside the image"),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            let error = CaseStore::open(out.path()).unwrap_err();
            let message = error.to_string();
            assert!(
                matches!(error, Error::Store { .. })
                    && message.contains("case_1.safetensors")
                    && message.contains(part),
                "expected `{part}` in: {message}"
            );
        }
        std::fs::write(&path, &whole).unwrap();
        CaseStore::open(out.path()).unwrap();
    }

    /// Where a tensor starts after the header.
    fn offset_of(bytes: &[u8], name: &str) -> usize {
        let (_, metadata) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
        metadata.info(name).unwrap().data_offsets.0
    }

    #[test]
    fn an_unfinished_or_mixed_store_is_refused() {
        let out = filled();
        let path = |name: &str| out.path().join(name);
        let message = || CaseStore::open(out.path()).unwrap_err().to_string();
        let mut plan = testing::tiny_plan();
        plan.spacing = liseg_volume::Spacing::ISOTROPIC_1MM;
        let text = std::fs::read(path("plan.json")).unwrap();
        plan.write(&path("plan.json")).unwrap();
        assert!(message().contains("another plan"), "{}", message());
        std::fs::write(path("plan.json"), text).unwrap();
        std::fs::copy(path("case_0.safetensors"), path("case_1.safetensors")).unwrap();
        assert!(message().contains("holds case `case_0`"), "{}", message());
        std::fs::remove_file(path("case_1.safetensors")).unwrap();
        assert!(message().contains("case_1.safetensors"), "{}", message());
        std::fs::remove_file(path("store.json")).unwrap();
        assert!(message().contains("not finished"), "{}", message());
    }
}
