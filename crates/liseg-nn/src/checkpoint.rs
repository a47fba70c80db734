//! Named tensors in safetensors files, written atomically.

mod digests;

use crate::{Error, Result};
use digests::Digests;
use liseg_weights::{NumberFormat, Numbers, Safetensors};
use safetensors::tensor::{Dtype, TensorInfo};
use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
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

/// How the facts begin in whose names LiSeg keeps what it knows of its own checkpoints: of those without digests
/// it warns.
const OWN_FACTS: &str = "liseg_";

/// The head of a safetensors file.
#[derive(serde::Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    facts: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

/// Writes tensors, text facts and digests of both to `path`; an interruption leaves the old file or the new one and
/// nothing in between. The same tensors and facts give the same file, to the byte.
///
/// # Errors
/// [`Error::Io`] naming the file; [`Error::Checkpoint`] for a number format that has no name in safetensors, and
/// for a tensor that cannot be copied from its device.
pub fn write(path: &Path, tensors: &TensorMap, facts: &BTreeMap<String, String>) -> Result<()> {
    let (order, infos) = layout(path, tensors)?;
    let mut header = Header {
        facts: facts.clone(),
        tensors: infos,
    };
    let mut digests = Digests::unknown(tensors.keys());
    let mut failed = None;
    let made = liseg_file::write_with(path, |file| {
        // Digests are known when the tensors are written; until then their place is kept.
        digests.clone().add_to(&mut header.facts)?;
        let mut text = serde_json::to_vec(&header)?;
        let length = text.len().next_multiple_of(8);
        text.resize(length, b' ');
        file.write_all(&(length as u64).to_le_bytes())?;
        file.write_all(&text)?;
        for &Placed { name, tensor, kind } in &order {
            let bytes = match bytes_of(tensor) {
                Ok(bytes) => bytes,
                Err(error) => {
                    failed = Some((name, error));
                    return Err(std::io::Error::other("a tensor cannot be copied"));
                }
            };
            digests.set(name, digests::of_tensor(kind, &tensor.size(), &bytes));
            file.write_all(&bytes)?;
        }
        digests.add_to(&mut header.facts)?;
        let mut text = serde_json::to_vec(&header)?;
        text.resize(length, b' ');
        file.seek(SeekFrom::Start(8))?;
        file.write_all(&text)
    });
    if let Some((name, error)) = failed {
        let reason = format!("`{name}` cannot be copied: {error}");
        return Err(damaged(path, reason));
    }
    made.map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })
}

/// A tensor on its way into a file.
struct Placed<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    kind: Kind,
}

/// Where tensors lie in the file: as the library writes them, wide numbers first, so that each lies at a multiple of
/// its width, then by name.
fn layout<'a>(
    path: &Path,
    tensors: &'a TensorMap,
) -> Result<(Vec<Placed<'a>>, BTreeMap<&'a str, TensorInfo>)> {
    let mut order = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let kind = tensor.f_kind()?;
        let dtype = FORMATS.iter().find(|(k, _)| *k == kind).map(|(_, d)| *d);
        let refused = || damaged(path, format!("cannot store `{name}` as {kind:?}"));
        order.push((dtype.ok_or_else(refused)?, name.as_str(), tensor, kind));
    }
    order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let mut at = 0;
    let mut infos = BTreeMap::new();
    for &(dtype, name, tensor, kind) in &order {
        let end = at + tensor.numel() * kind.elt_size_in_bytes();
        let shape = tensor.size().into_iter().map(|n| n as usize).collect();
        let data_offsets = (at, end);
        let info = TensorInfo {
            dtype,
            shape,
            data_offsets,
        };
        infos.insert(name, info);
        at = end;
    }
    let order = order
        .into_iter()
        .map(|(_, name, tensor, kind)| Placed { name, tensor, kind });
    Ok((order.collect(), infos))
}

/// The numbers of a tensor on any device, in the order of a contiguous one.
///
/// # Errors
/// When libtorch fails.
pub fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let host = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0u8; host.numel() * host.f_kind()?.elt_size_in_bytes()];
    host.f_copy_data_u8(&mut bytes, host.numel())?;
    Ok(bytes)
}

fn damaged(path: &Path, reason: impl ToString) -> Error {
    Error::Checkpoint {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Reads all tensors (onto the CPU) and the text facts of a file. Memory is that of the tensors and one
/// more, and no length is believed before the file was seen to have it. Tensors and facts are compared with the
/// digests that [`write()`] has put into the file; of a checkpoint of LiSeg's without digests a warning is given.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::Checkpoint`] when it is damaged.
pub fn read(path: &Path) -> Result<(TensorMap, BTreeMap<String, String>)> {
    read_beginning(path, |_| None)
}

/// [`read`], of the tensors alone whose names begin with one of the strings that `beginnings` makes of the
/// facts, or of all when it makes none; the others take no memory and are not compared with their digests.
///
/// # Errors
/// As [`read`].
pub fn read_beginning(
    path: &Path,
    beginnings: impl FnOnce(&BTreeMap<String, String>) -> Option<Vec<String>>,
) -> Result<(TensorMap, BTreeMap<String, String>)> {
    let refuse = |refusal: &dyn std::fmt::Display| damaged(path, refusal);
    let file = liseg_file::open(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut file = Safetensors::open(file).map_err(|e| refuse(&e))?;
    let mut facts = file.facts();
    let digests = Digests::take_from(&mut facts).map_err(|e| refuse(&e))?;
    if digests.is_none() && facts.keys().any(|fact| fact.starts_with(OWN_FACTS)) {
        let path = path.display();
        tracing::warn!(
            "{path}: written by an older LiSeg without digests, so that damage to it may not show"
        );
    }
    let beginnings = beginnings(&facts);
    let wanted = |name: &str| {
        let mut any = beginnings.iter().flatten();
        beginnings.is_none() || any.any(|beginning| name.starts_with(beginning.as_str()))
    };
    let mut tensors = TensorMap::new();
    while let Some((name, numbers)) = file.next_of(wanted).map_err(|e| refuse(&e))? {
        if let Some(digests) = &digests {
            let digest = digests::of_tensor(kind(numbers.format), &numbers.size, &numbers.bytes);
            digests.check(&name, &digest).map_err(|e| refuse(&e))?;
        }
        tensors.insert(name, tensor_of(numbers)?);
    }
    if let Some(digests) = &digests {
        let complete = digests.check_complete(&tensors, wanted);
        complete.map_err(|e| refuse(&e))?;
    }
    Ok((tensors, facts))
}

fn kind(format: NumberFormat) -> Kind {
    match format {
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
    }
}

/// The numbers of a file as a tensor on the CPU, contiguous, in their number format.
pub(crate) fn tensor_of(numbers: Numbers) -> Result<Tensor> {
    let kind = kind(numbers.format);
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
        hasher.update(&bytes_of(tensor)?);
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

    /// A file of two tensors and a fact, and where its numbers begin.
    fn written(folder: &Path) -> (std::path::PathBuf, usize) {
        let path = folder.join("a.safetensors");
        let tensor = |value: f32| Tensor::from_slice(&[value; 4]);
        let map = TensorMap::from([
            ("body.w".to_owned(), tensor(1.0)),
            ("head.w".to_owned(), tensor(2.0)),
        ]);
        let facts = BTreeMap::from([("liseg_model".to_owned(), "twelve".to_owned())]);
        write(&path, &map, &facts).unwrap();
        let start: [u8; 8] = std::fs::read(&path).unwrap()[..8].try_into().unwrap();
        (path, 8 + u64::from_le_bytes(start) as usize)
    }

    #[test]
    fn a_changed_byte_anywhere_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (path, numbers) = written(folder.path());
        let sound = std::fs::read(&path).unwrap();
        read(&path).unwrap();
        let header = std::str::from_utf8(&sound[8..numbers]).unwrap();
        let start = 8 + header.find("liseg_blake3").unwrap();
        let name = start..start + "liseg_blake3".len();
        for at in 8..sound.len() {
            // Under another name the digests are one more fact, and the file is as those of before.
            if name.contains(&at) {
                continue;
            }
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(read(&path).is_err(), "byte {at} of {}", sound.len());
        }
    }

    #[test]
    fn damage_is_named_where_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, numbers) = written(folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[numbers + 16] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("a.safetensors"), "{message}");
        assert!(message.contains("`head.w` changed since"), "{message}");
        let some = |name: &str| read_beginning(&path, |_| Some(vec![name.to_owned()]));
        assert_eq!(some("body").unwrap().0.len(), 1);
        assert!(some("head").is_err());
    }

    #[test]
    fn files_without_digests_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.safetensors");
        let facts = [("liseg_model".to_owned(), "twelve".to_owned())];
        let numbers = [1u8, 2, 3, 4];
        let view = safetensors::tensor::TensorView::new(Dtype::U8, vec![4], &numbers).unwrap();
        safetensors::serialize_to_file([("w", view)], Some(facts.clone().into()), &path).unwrap();
        let (tensors, found) = read(&path).unwrap();
        assert_eq!(found, BTreeMap::from(facts));
        assert!(tensors["w"].equal(&Tensor::from_slice(&numbers)));
    }

    #[test]
    fn what_cannot_be_copied_is_no_file_of_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse.safetensors");
        // It has a shape, and no numbers in a row.
        let sparse = Tensor::eye(2, (Kind::Float, Device::Cpu)).to_sparse_sparse_dim(2);
        let map = TensorMap::from([("w".to_owned(), sparse)]);
        let message = write(&path, &map, &BTreeMap::new()).unwrap_err();
        let message = message.to_string();
        assert!(message.contains("`w` cannot be copied"), "{message}");
        assert!(!path.exists());
    }
}
