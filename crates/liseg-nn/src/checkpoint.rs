//! Named tensors in safetensors files, written atomically.

use crate::{Error, Result};
use liseg_weights::{NumberFormat, Numbers, Refusal, Safetensors};
use safetensors::tensor::{Dtype, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Named tensors, in name order.
pub type TensorMap = BTreeMap<String, Tensor>;

/// The number formats that checkpoints use, with their names in safetensors.
const FORMATS: [(Kind, Dtype); 10] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Int16, Dtype::I16),
    (Kind::Int8, Dtype::I8),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
];

/// A tensor on its way into a file.
struct Stored<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0u8; self.data_len()];
        // A failure to copy leaves zeros; `write` has checked that the tensor can be copied.
        if let Ok(host) = self
            .tensor
            .f_to_device(Device::Cpu)
            .and_then(|t| t.f_contiguous())
        {
            let _ = host.f_copy_data_u8(&mut bytes, host.numel());
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.dtype.bitsize() / 8
    }
}

/// Writes tensors and text facts to `path`; an interruption leaves the old file or the new one and nothing in
/// between.
///
/// # Errors
/// [`Error::Io`] naming the file; [`Error::Checkpoint`] for a number format that has no name in
/// safetensors.
pub fn write(path: &Path, tensors: &TensorMap, facts: &BTreeMap<String, String>) -> Result<()> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let damaged = |reason: String| Error::Checkpoint {
        path: path.to_owned(),
        reason,
    };
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let kind = tensor.f_kind()?;
        let dtype = FORMATS.iter().find(|(k, _)| *k == kind).map(|(_, d)| *d);
        let dtype = dtype.ok_or_else(|| damaged(format!("cannot store `{name}` as {kind:?}")))?;
        let shape = tensor.size().into_iter().map(|n| n as usize).collect();
        stored.push((
            name.as_str(),
            Stored {
                tensor,
                dtype,
                shape,
            },
        ));
    }
    let facts: HashMap<String, String> = facts.clone().into_iter().collect();
    liseg_file::make_with(path, |there| {
        safetensors::serialize_to_file(stored, Some(facts), there)
            .map_err(std::io::Error::other)?;
        order_header(&File::options().read(true).write(true).open(there)?)
    })
    .map_err(io)
}

/// The head of a safetensors file.
#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    facts: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, safetensors::tensor::TensorInfo>,
}

/// Puts the facts and tensors of a header in the order of their names: the library writes facts in another
/// order each time, and the same run shall give the same file, to the byte.
fn order_header(mut file: &File) -> std::io::Result<()> {
    let mut length = [0; 8];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut length)?;
    let mut text = vec![0; u64::from_le_bytes(length) as usize];
    file.read_exact(&mut text)?;
    let header: Header = serde_json::from_slice(&text)?;
    let mut ordered = serde_json::to_vec(&header)?;
    // The same words in another order, behind which the library has put blanks.
    ordered.resize(text.len(), b' ');
    file.seek(SeekFrom::Start(8))?;
    file.write_all(&ordered)
}

/// Reads all tensors (onto the CPU) and the text facts of a file. Memory is that of the tensors and one
/// more, and no length is believed before the file was seen to have it.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::Checkpoint`] when it is damaged.
pub fn read(path: &Path) -> Result<(TensorMap, BTreeMap<String, String>)> {
    read_beginning(path, |_| None)
}

/// [`read`], of the tensors alone whose names begin with one of the strings that `beginnings` makes of the
/// facts, or of all when it makes none; the others take no memory. Damage anywhere in the file is still an
/// error.
///
/// # Errors
/// As [`read`].
pub fn read_beginning(
    path: &Path,
    beginnings: impl FnOnce(&BTreeMap<String, String>) -> Option<Vec<String>>,
) -> Result<(TensorMap, BTreeMap<String, String>)> {
    let damaged = |refusal: Refusal| Error::Checkpoint {
        path: path.to_owned(),
        reason: refusal.to_string(),
    };
    let file = liseg_file::open(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut file = Safetensors::open(file).map_err(damaged)?;
    let facts = file.facts();
    let beginnings = beginnings(&facts);
    let wanted = |name: &str| {
        let mut any = beginnings.iter().flatten();
        beginnings.is_none() || any.any(|beginning| name.starts_with(beginning.as_str()))
    };
    let mut tensors = TensorMap::new();
    while let Some((name, numbers)) = file.next_of(wanted).map_err(damaged)? {
        tensors.insert(name, tensor_of(numbers)?);
    }
    Ok((tensors, facts))
}

/// The numbers of a file as a tensor on the CPU, contiguous, in their number format.
pub(crate) fn tensor_of(numbers: Numbers) -> Result<Tensor> {
    let kind = match numbers.format {
        NumberFormat::F32 => Kind::Float,
        NumberFormat::F64 => Kind::Double,
        NumberFormat::F16 => Kind::Half,
        NumberFormat::BF16 => Kind::BFloat16,
        NumberFormat::I64 => Kind::Int64,
        NumberFormat::I32 => Kind::Int,
        NumberFormat::I16 => Kind::Int16,
        NumberFormat::I8 => Kind::Int8,
        NumberFormat::U8 => Kind::Uint8,
        NumberFormat::Bool => Kind::Bool,
    };
    if numbers.size.contains(&0) {
        return Ok(Tensor::f_zeros(&numbers.size, (kind, Device::Cpu))?);
    }
    let count = numbers.bytes.len() / kind.elt_size_in_bytes();
    let flat = Tensor::f_from_data_size(&numbers.bytes, &[count as i64], kind)?;
    if numbers.is_contiguous() {
        return Ok(flat.f_view(numbers.size.as_slice())?);
    }
    drop(numbers.bytes);
    Ok(flat
        .f_as_strided(&numbers.size, &numbers.stride, None)?
        .f_contiguous()?)
}

/// BLAKE3 over names, shapes, number formats and numbers of all tensors, in name order.
///
/// # Errors
/// When libtorch fails.
pub fn content_hash(tensors: &TensorMap) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for (name, tensor) in tensors {
        let kind = tensor.f_kind()?;
        let about = format!("{name}\0{kind:?}\0{:?}\0", tensor.size());
        hasher.update(about.as_bytes());
        let host = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0u8; host.numel() * kind.elt_size_in_bytes()];
        host.f_copy_data_u8(&mut bytes, host.numel())?;
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_and_facts_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut map = TensorMap::new();
        map.insert(
            "w".into(),
            Tensor::from_slice(&[1.5f32, -2.0, 3.25, 0.0]).view([2, 2]),
        );
        map.insert(
            "w.half".into(),
            Tensor::from_slice(&[0.5f32]).to_kind(Kind::BFloat16),
        );
        map.insert("step".into(), Tensor::from_slice(&[7i64]));
        // A transposed view is stored in its logical order.
        map.insert(
            "t".into(),
            Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]).tr(),
        );
        let facts = [
            ("iteration", "12"),
            ("best", "0.9 \"ä\""),
            ("a", ""),
            ("z", "\n"),
        ];
        let facts = BTreeMap::from(facts.map(|(name, fact)| (name.to_owned(), fact.to_owned())));
        write(&path, &map, &facts).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for _ in 0..5 {
            write(&path, &map, &facts).unwrap();
            assert!(
                std::fs::read(&path).unwrap() == bytes,
                "the same to the byte"
            );
        }
        let (back, found) = read(&path).unwrap();
        assert_eq!(found, facts);
        assert_eq!(
            back.keys().collect::<Vec<_>>(),
            map.keys().collect::<Vec<_>>()
        );
        for (name, tensor) in &map {
            assert!(tensor.equal(&back[name]), "{name}");
            assert_eq!(tensor.kind(), back[name].kind());
        }
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "a temporary file is left"
        );
        let beginnings = |facts: &BTreeMap<String, String>| {
            assert_eq!(facts["iteration"], "12");
            Some(vec!["st".to_owned(), "t".to_owned()])
        };
        let (some, _) = read_beginning(&path, beginnings).unwrap();
        assert_eq!(some.keys().collect::<Vec<_>>(), ["step", "t"]);
        assert!(some["t"].equal(&map["t"]));
    }

    #[test]
    fn a_cut_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.safetensors");
        let map = TensorMap::from([("w".to_owned(), Tensor::from_slice(&[1.0f32; 100]))]);
        write(&path, &map, &BTreeMap::new()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 4, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let message = read(&path).unwrap_err().to_string();
            assert!(message.contains("cut.safetensors"), "{message}");
        }
    }
}
