//! Named tensors in safetensors files, written atomically.

use crate::{Error, Result};
use safetensors::tensor::{Dtype, Metadata, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};
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

/// Writes tensors and text facts to `path`: first to a temporary file beside it, then renamed, so
/// that an interruption leaves the old file or the new one and nothing in between.
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
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    let facts: HashMap<String, String> = facts.clone().into_iter().collect();
    safetensors::serialize_to_file(stored, Some(facts), temporary.path())
        .map_err(|e| damaged(e.to_string()))?;
    temporary.as_file().sync_all().map_err(io)?;
    temporary.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// Longest header that is read, in bytes: the limit of the safetensors format itself.
const LONGEST_HEADER: u64 = 100_000_000;

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
    let damaged = |reason: String| Error::Checkpoint {
        path: path.to_owned(),
        reason,
    };
    let incomplete = |what: &str| {
        damaged(format!(
            "not a complete safetensors file ({what}); delete it, or take another checkpoint"
        ))
    };
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut start = [0; 8];
    file.read_exact(&mut start)
        .map_err(|_| incomplete("it has no header"))?;
    let header_length = u64::from_le_bytes(start);
    let data_length = length
        .checked_sub(8)
        .and_then(|n| n.checked_sub(header_length));
    let Some(data_length) = data_length.filter(|_| header_length <= LONGEST_HEADER) else {
        return Err(incomplete("its header is longer than the file"));
    };
    let mut header = Vec::new();
    let read = (&mut file)
        .take(header_length)
        .read_to_end(&mut header)
        .map_err(io)?;
    if read as u64 != header_length {
        return Err(incomplete("its header breaks off"));
    }
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|e| incomplete(&e.to_string()))?;
    let facts: BTreeMap<String, String> = header
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    let beginnings = beginnings(&facts);
    let wanted = |name: &str| {
        let mut any = beginnings.iter().flatten();
        beginnings.is_none() || any.any(|beginning| name.starts_with(beginning.as_str()))
    };
    // In the order of the file, in which they follow one another without gaps.
    let mut tensors = TensorMap::new();
    let mut at = 0;
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else {
            continue;
        };
        let kind = FORMATS
            .iter()
            .find(|(_, d)| *d == info.dtype)
            .map(|(k, _)| *k);
        let kind = kind.ok_or_else(|| {
            damaged(format!(
                "`{name}` is stored as {:?}, unknown here",
                info.dtype
            ))
        })?;
        let (begin, end) = info.data_offsets;
        let bytes = end.checked_sub(begin).map(|n| n as u64);
        let Some(bytes) = bytes.filter(|&n| begin as u64 == at && n <= data_length - at) else {
            return Err(incomplete(&format!("`{name}` lies beyond its end")));
        };
        let elements = info
            .shape
            .iter()
            .try_fold(1u64, |n, &s| n.checked_mul(s as u64));
        let expected = elements.and_then(|n| n.checked_mul(kind.elt_size_in_bytes() as u64));
        if expected != Some(bytes) {
            return Err(incomplete(&format!(
                "`{name}` has {bytes} bytes for {:?}",
                info.shape
            )));
        }
        at += bytes;
        if !wanted(&name) {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            file.seek_relative(bytes).map_err(io)?;
            continue;
        }
        let mut numbers = Vec::new();
        let read = (&mut file)
            .take(bytes)
            .read_to_end(&mut numbers)
            .map_err(io)?;
        if read as u64 != bytes {
            return Err(incomplete("it breaks off"));
        }
        let size: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
        tensors.insert(name, Tensor::f_from_data_size(&numbers, &size, kind)?);
    }
    if at != data_length {
        return Err(incomplete("bytes are left over"));
    }
    Ok((tensors, facts))
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
        let facts = BTreeMap::from([("iteration".to_owned(), "12".to_owned())]);
        write(&path, &map, &facts).unwrap();
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
