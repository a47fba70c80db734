//! Weights in the files people have: safetensors, and what `torch.save` wrote.

use crate::{Error, Result, TensorMap, checkpoint};
use pytorch_reader::{DType, PytorchReader};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use tch::{Kind, Tensor};

/// Keys under which checkpoints keep the weights of their network: nnU-Net v2, nnU-Net v1 and most
/// others, and those of some trainers. The first one that occurs is taken.
const CONTAINERS: [&str; 5] = [
    "network_weights.",
    "state_dict.",
    "model_state_dict.",
    "model.",
    "net.",
];

/// What wrappers put in front of every name: `DataParallel` and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// By how much tensors may exceed their file: views share storages, but an honest state dict
/// repeats little. More than that is an expanded view made to exhaust memory.
const LARGEST_EXPANSION: u64 = 4;

/// How a file of weights is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// `torch.save`, zip or legacy.
    PyTorch,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::PyTorch => "PyTorch checkpoint",
        })
    }
}

/// Named weights from a file.
#[derive(Debug)]
pub struct Weights {
    /// How the file is written.
    pub format: Format,
    /// The key under which the weights lay, such as `network_weights`, if there was one.
    pub container: Option<String>,
    /// The weights on the CPU, in the number format of the file, names without wrappers.
    pub tensors: TensorMap,
    /// Text facts that came with them (safetensors only).
    pub facts: BTreeMap<String, String>,
    /// Names of tensors beside the weights that were left unread, such as an optimiser's moments.
    pub skipped: Vec<String>,
}

impl Weights {
    /// Reads weights, whatever the file's ending: its first bytes tell the format.
    ///
    /// PyTorch checkpoints may be zip archives or the legacy stream, with the weights at the top or
    /// under `network_weights`, `state_dict` and the like; `module.` is taken off the names. Nothing
    /// in the file is executed: the pickle is parsed as data, and objects that are no tensors are
    /// passed over. Memory is bounded by the size of the file.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Checkpoint`] when it is damaged, holds no
    /// tensors, or would unfold to many times its size.
    pub fn read(path: &Path) -> Result<Self> {
        match sniff(path)? {
            Format::Safetensors => {
                let (tensors, facts) = checkpoint::read(path)?;
                Ok(Self {
                    format: Format::Safetensors,
                    container: None,
                    tensors,
                    facts,
                    skipped: Vec::new(),
                })
            }
            Format::PyTorch => read_pytorch(path),
        }
    }

    /// Number of weights, all tensors together.
    pub fn count(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }
}

/// A zip archive, a tar archive or a pickle was written by PyTorch; all else must be safetensors.
fn sniff(path: &Path) -> Result<Format> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(9).read_to_end(&mut start).map_err(io)?;
    // safetensors: eight bytes of length, then a JSON object.
    if start.get(8) == Some(&b'{') {
        return Ok(Format::Safetensors);
    }
    if start.starts_with(b"PK\x03\x04") || start.starts_with(&[0x80]) {
        return Ok(Format::PyTorch);
    }
    Err(damaged(
        path,
        "neither safetensors nor a PyTorch checkpoint; expected weights saved by LiSeg, \
         torch.save or safetensors",
    ))
}

fn damaged(path: &Path, reason: impl fmt::Display) -> Error {
    Error::Checkpoint {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn read_pytorch(path: &Path) -> Result<Weights> {
    let reader = PytorchReader::new(path)
        .map_err(|e| damaged(path, format!("not a complete PyTorch checkpoint ({e})")))?;
    let stored: BTreeMap<String, pytorch_reader::Tensor> =
        reader.into_tensors().into_iter().collect();
    let container = CONTAINERS
        .into_iter()
        .find(|key| stored.keys().any(|name| name.starts_with(key)));
    let (mine, others): (Vec<_>, Vec<_>) = stored
        .into_iter()
        .partition(|(name, _)| name.starts_with(container.unwrap_or_default()));
    if mine.is_empty() {
        return Err(damaged(path, "there are no tensors in it"));
    }
    check_expansion(path, mine.iter().map(|(_, tensor)| tensor))?;

    let mut tensors = TensorMap::new();
    for (name, tensor) in mine {
        let bare = bare_name(&name[container.map_or(0, str::len)..]).to_owned();
        let value = convert(&tensor).map_err(|e| damaged(path, format!("`{name}`: {e}")))?;
        if tensors.insert(bare, value).is_some() {
            let reason =
                format!("`{name}` occurs with and without `module.`; expected one of the two");
            return Err(damaged(path, reason));
        }
    }
    Ok(Weights {
        format: Format::PyTorch,
        container: container.map(|key| key.trim_end_matches('.').to_owned()),
        tensors,
        facts: BTreeMap::new(),
        skipped: others.into_iter().map(|(name, _)| name).collect(),
    })
}

/// Refuses tensors that claim far more bytes than the file has.
fn check_expansion<'a>(
    path: &Path,
    tensors: impl Iterator<Item = &'a pytorch_reader::Tensor>,
) -> Result<()> {
    let file = std::fs::metadata(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let claimed: u64 = tensors.map(|tensor| tensor.byte_len() as u64).sum();
    if claimed <= LARGEST_EXPANSION.saturating_mul(file.len()) {
        return Ok(());
    }
    let reason = format!(
        "its tensors claim {claimed} bytes and the file has {}; it is damaged or hostile",
        file.len()
    );
    Err(damaged(path, reason))
}

/// A name without what wrappers put in front.
fn bare_name(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|w| name.strip_prefix(w)) {
        name = rest;
    }
    name
}

fn convert(tensor: &pytorch_reader::Tensor) -> std::result::Result<Tensor, String> {
    let kind = match tensor.dtype() {
        DType::F64 => Kind::Double,
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::I64 => Kind::Int64,
        DType::I32 => Kind::Int,
        DType::I16 => Kind::Int16,
        DType::I8 => Kind::Int8,
        DType::U8 => Kind::Uint8,
        DType::Bool => Kind::Bool,
        other => return Err(format!("numbers of type {other:?} are not supported")),
    };
    let size: Vec<i64> = tensor.shape().iter().map(|&n| n as i64).collect();
    let bytes = tensor.read().map_err(|e| e.to_string())?;
    Tensor::f_from_data_size(&bytes, &size, kind).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_wrappers_only_in_front() {
        assert_eq!(bare_name("module._orig_mod.a.module.b"), "a.module.b");
        assert_eq!(bare_name("conv.weight"), "conv.weight");
    }

    #[test]
    fn safetensors_are_known_by_their_bytes_whatever_the_ending() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.model");
        let map = TensorMap::from([("w".to_owned(), Tensor::from_slice(&[1.0f32, 2.0]))]);
        let facts = BTreeMap::from([("architecture".to_owned(), "STU-Net-S".to_owned())]);
        checkpoint::write(&path, &map, &facts).unwrap();
        let weights = Weights::read(&path).unwrap();
        assert_eq!(weights.format, Format::Safetensors);
        assert_eq!((weights.count(), weights.facts), (2, facts));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for (i, bytes) in [
            &b""[..],
            b"hello, world",
            b"PK\x03\x04 but no zip",
            b"\x80\x02.",
        ]
        .iter()
        .enumerate()
        {
            let path = folder.path().join(format!("file{i}.pth"));
            std::fs::write(&path, bytes).unwrap();
            let message = Weights::read(&path).unwrap_err().to_string();
            assert!(message.contains(&format!("file{i}.pth")), "{message}");
        }
        let missing = Weights::read(&folder.path().join("none.pth")).unwrap_err();
        assert!(matches!(missing, Error::Io { .. }), "{missing}");
    }
}
