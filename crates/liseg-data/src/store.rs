//! Preprocessed cases on disk, mapped into memory.
//!
//! A store is a folder with one `<id>.safetensors` per case, the `plan.json` it was made with, a
//! copy of `dataset.json`, and `store.json`, the list of finished cases, which is written last.
//! Opening maps the files; voxels are read from disk when a patch is cut, and the system's page
//! cache is shared by all threads. Every file holds a checksum of its arrays, which
//! [`CaseStore::damaged`] and a resumed preprocessing compare.

use crate::foreground::Foreground;
use crate::mapped::{Mapped, Tensor};
use crate::plan::Plan;
use crate::preprocess::Restore;
use crate::sampler::{cut, cut_rows};
use crate::{Error, Result, Subset, json};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use ndarray::{Array3, ArrayView3, CowArray, Ix3};
use rand::{Rng, RngExt};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the file layout; part of every record.
const FORMAT: u32 = 2;
/// Key of the record within a file's metadata.
const RECORD: &str = "liseg";

/// How intensities are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredPrecision {
    /// Four bytes a voxel, used in place.
    #[default]
    F32,
    /// Two bytes a voxel: half the disk and page cache, rounded to 11 bits (a relative 5e-4, far
    /// below the noise of an MR image). Patches become f32 when they are cut.
    F16,
}

impl std::str::FromStr for StoredPrecision {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            _ => Err("expected f32 or f16".to_owned()),
        }
    }
}

/// What a preprocessed case was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of the file layout.
    pub format: u32,
    /// How intensities are stored.
    pub precision: StoredPrecision,
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
    /// BLAKE3 over name and bytes of every array, in order of their names; empty until written.
    pub checksum: String,
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
    image: Image,
    label: Option<Tensor<i8>>,
    foreground: BTreeMap<u8, Tensor<u32>>,
}

/// Where the intensities are.
#[derive(Debug)]
enum Image {
    F32(Tensor<f32>),
    F16(Tensor<u16>),
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
        let image = match record.provenance.precision {
            StoredPrecision::F32 => Image::F32(file.tensor("image", Dtype::F32, &[1, z, y, x])?),
            StoredPrecision::F16 => Image::F16(file.tensor("image", Dtype::F16, &[1, z, y, x])?),
        };
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

    /// Normalised intensities `[z, y, x]`: straight from the file without a copy when they are stored
    /// as f32, converted when they are stored as f16.
    pub fn image(&self) -> CowArray<'_, f32, Ix3> {
        match &self.image {
            Image::F32(tensor) => view(self.shape(), self.file.slice(tensor)).into(),
            Image::F16(_) => self.cut_image([0; 3], self.shape()).into(),
        }
    }

    /// Copies a box out of the intensities; 0 where the box leaves the image. Only the pages that the
    /// box meets are read.
    pub fn cut_image(&self, corner: [i64; 3], size: [usize; 3]) -> Array3<f32> {
        match &self.image {
            Image::F32(tensor) => {
                let voxels = view(self.shape(), self.file.slice(tensor));
                cut(voxels, corner, size, 0.0)
            }
            Image::F16(tensor) => {
                let halves: &[f16] = self.file.slice(tensor).reinterpret_cast();
                cut_rows(self.shape(), corner, size, |source, row| {
                    halves[source].convert_to_f32_slice(row);
                })
            }
        }
    }

    /// Whether the arrays are those that were written. Reads the whole file.
    ///
    /// # Errors
    /// [`Error::Store`], naming the file, when they are not.
    pub fn verify(&self) -> Result<()> {
        let mut hasher = blake3::Hasher::new();
        let mut names = self.file.names();
        names.sort();
        for name in names {
            hash_array(&mut hasher, &name, self.file.bytes(&name));
        }
        if hasher.finalize().to_hex().as_str() == self.record.checksum {
            return Ok(());
        }
        Err(Error::store(
            self.file.path(),
            "its voxels are not those that were written: the file was damaged; preprocess again",
        ))
    }

    /// A remembered voxel (z, y, x) of a label that is drawn uniformly among those that occur; `None`
    /// for a case without foreground. Takes microseconds, whatever the size of the case.
    pub fn random_foreground<R: Rng + ?Sized>(&self, rng: &mut R) -> Option<[usize; 3]> {
        if self.foreground.is_empty() {
            return None;
        }
        let chosen = rng.random_range(0..self.foreground.len());
        let voxels = self.file.slice(self.foreground.values().nth(chosen)?);
        let flat = *voxels.get(rng.random_range(0..voxels.len().max(1)))? as usize;
        let [_, height, width] = self.shape();
        let plane = height * width;
        Some([flat / plane, flat % plane / width, flat % width])
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

/// Adds an array to a checksum.
fn hash_array(hasher: &mut blake3::Hasher, name: &str, bytes: &[u8]) {
    hasher.update(name.as_bytes());
    hasher.update(&[0]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Writes a case whole or not at all; fills in the checksum.
pub(crate) fn write_case(
    path: &Path,
    record: &Record,
    image: Array3<f32>,
    label: Option<(&Array3<u8>, &Foreground)>,
) -> Result<()> {
    let fault =
        |e: &dyn std::fmt::Display| Error::store(path, format!("it cannot be written: {e}"));
    let (z, y, x) = image.dim();
    let image = image.as_standard_layout();
    let voxels: &[f32] = image.as_slice().unwrap_or_default();
    let halves: Vec<u16>;
    let (dtype, bytes): (Dtype, &[u8]) = match record.provenance.precision {
        StoredPrecision::F32 => (Dtype::F32, bytemuck::cast_slice(voxels)),
        StoredPrecision::F16 => {
            halves = rounded(voxels);
            (Dtype::F16, bytemuck::cast_slice(&halves))
        }
    };
    let label = label.map(|(label, foreground)| (label.as_standard_layout(), foreground));
    let mut arrays: BTreeMap<String, (Dtype, Vec<usize>, &[u8])> = BTreeMap::new();
    arrays.insert("image".into(), (dtype, vec![1, z, y, x], bytes));
    if let Some((label, foreground)) = &label {
        // Labels are below 128, so the bytes mean the same as i8.
        let voxels = label.as_slice().unwrap_or_default();
        arrays.insert("label".into(), (Dtype::I8, vec![z, y, x], voxels));
        for (value, indices) in foreground.iter() {
            let bytes = bytemuck::cast_slice(indices);
            let entry = (Dtype::U32, vec![indices.len()], bytes);
            arrays.insert(format!("foreground.{value}"), entry);
        }
    }
    let mut hasher = blake3::Hasher::new();
    let mut tensors = Vec::with_capacity(arrays.len());
    for (name, (dtype, shape, bytes)) in arrays {
        hash_array(&mut hasher, &name, bytes);
        let tensor = TensorView::new(dtype, shape, bytes).map_err(|e| fault(&e))?;
        tensors.push((name, tensor));
    }
    let record = Record {
        checksum: hasher.finalize().to_hex().to_string(),
        ..record.clone()
    };
    let text = serde_json::to_string(&record).map_err(|e| fault(&e))?;
    let metadata = HashMap::from([(RECORD.to_owned(), text)]);

    liseg_file::make_with(path, |there| {
        safetensors::serialize_to_file(tensors, Some(metadata), there)
            .map_err(std::io::Error::other)
    })
    .map_err(Error::io("writing", path))
}

/// Rounded to half precision; what is too large becomes the largest half.
fn rounded(voxels: &[f32]) -> Vec<u16> {
    let largest = f16::MAX.to_f32();
    let half = |&v: &f32| f16::from_f32(v.clamp(-largest, largest)).to_bits();
    voxels.par_iter().map(half).collect()
}

/// The provenance of a stored case whose voxels are as they were written; `None` when it cannot be
/// read or is damaged.
pub(crate) fn stored_provenance(path: &Path) -> Option<Provenance> {
    let case = StoredCase::open(path).ok()?;
    case.verify().ok()?;
    Some(case.record.provenance)
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
            let reason = if !folder.is_dir() {
                "there is no such folder"
            } else if folder.join("imagesTr").is_dir() {
                "it is a raw dataset; run `liseg preprocess` and give the folder that it makes"
            } else {
                "there is no store.json: preprocessing was not finished; run it again"
            };
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

    /// Reads every file whole and returns those whose voxels are not what was written.
    pub fn damaged(&self) -> Vec<Error> {
        let verified = self.cases.par_iter().map(|case| case.verify().err());
        verified.collect::<Vec<_>>().into_iter().flatten().collect()
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
    use crate::{PreprocessOptions, preprocess_dataset, testing};

    fn filled() -> tempfile::TempDir {
        let (_folder, dataset) = testing::dataset();
        let out = tempfile::tempdir().unwrap();
        let plan = testing::tiny_plan();
        preprocess_dataset(&dataset, &plan, out.path(), &Default::default(), |_| {}).unwrap();
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
            (changed("\\\"format\\\":2", "\\\"format\\\":9"), "layout 9"),
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
        std::fs::create_dir(path("imagesTr")).unwrap();
        assert!(message().contains("raw dataset"), "{}", message());
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let out = filled();
        let path = case_path(out.path(), "case_1");
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 5;
        bytes[last] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        let store = CaseStore::open(out.path()).unwrap();
        let damaged = store.damaged();
        assert_eq!(damaged.len(), 1, "{damaged:?}");
        assert!(
            damaged[0].to_string().contains("case_1.safetensors"),
            "{}",
            damaged[0]
        );
        assert_eq!(stored_provenance(&path), None);
    }

    #[test]
    fn halves_hold_the_image_to_eleven_bits() {
        let (_folder, dataset) = testing::dataset();
        let plan = testing::tiny_plan();
        let stores = [StoredPrecision::F32, StoredPrecision::F16].map(|precision| {
            let out = tempfile::tempdir().unwrap();
            let options = PreprocessOptions {
                precision,
                ..PreprocessOptions::default()
            };
            preprocess_dataset(&dataset, &plan, out.path(), &options, |_| {}).unwrap();
            let size = std::fs::metadata(case_path(out.path(), "case_3"))
                .unwrap()
                .len();
            (CaseStore::open(out.path()).unwrap(), size)
        });
        let [(whole, whole_size), (half, half_size)] = &stores;
        assert!(
            *half_size < whole_size * 6 / 10,
            "{half_size} of {whole_size} bytes"
        );
        assert_eq!(half.damaged().len(), 0);
        let mut rng = liseg_volume::Seed(1).stream("test", 0, 0);
        for (a, b) in whole.cases().iter().zip(half.cases()) {
            assert_eq!(a.label(), b.label());
            let close = |x: &f32, y: &f32| (x - y).abs() <= 5e-4 * x.abs() + 1e-7;
            assert!(a.image().iter().zip(&b.image()).all(|(x, y)| close(x, y)));
            // Boxes that leave the image on either side.
            for (corner, size) in [([-2, 3, -1], [30, 8, 40]), ([4, -5, 9], [3, 9, 3])] {
                let (x, y) = (a.cut_image(corner, size), b.cut_image(corner, size));
                assert!(x.iter().zip(&y).all(|(x, y)| close(x, y)));
                assert_eq!(x.mapv(|v| v == 0.0), y.mapv(|v| v == 0.0));
            }
            match (a.label(), a.random_foreground(&mut rng)) {
                (Some(label), Some(voxel)) => assert_eq!(label[voxel], 1),
                (label, voxel) => assert!(label.is_none() && voxel.is_none()),
            }
        }
    }
}
