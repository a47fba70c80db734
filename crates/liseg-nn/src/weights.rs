//! Weights in the files people have: safetensors, and what `torch.save` wrote.

use crate::{Error, Result, TensorMap, checkpoint};
use liseg_weights::{Checkpoint, Entry};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use tch::Tensor;

/// Keys under which checkpoints keep the weights of their network: nnU-Net v2, nnU-Net v1 and most
/// others, and those of some trainers. The first one that occurs is taken, then what lies under it is
/// looked at again.
const CONTAINERS: [&str; 7] = [
    "network_weights.",
    "state_dict.",
    "model_state_dict.",
    "model_state.",
    "model.",
    "network.",
    "net.",
];

/// How deep containers are looked for, one in another.
const NESTED_CONTAINERS: usize = 3;

/// What wrappers put in front of every name: `DataParallel`, `torch.compile` and Lightning.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// Settings beside the weights that are kept as facts: where they lie, and the fact's name. nnU-Net v2
/// and v1 in this order.
const SETTINGS: [(&[&str], &str); 7] = [
    (&["trainer_name"], "trainer"),
    (&["current_epoch"], "epoch"),
    (&["epoch"], "epoch"),
    (&["init_args", "plans"], "plan"),
    (&["init_args", "configuration"], "plan_configuration"),
    (&["init_args", "dataset_json"], "dataset"),
    (&["inference_allowed_mirroring_axes"], "mirroring_axes"),
];

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
    /// Text facts that came with them: the header of safetensors, or what an nnU-Net checkpoint says
    /// about its training (`trainer`, `epoch`, `plan` as JSON).
    pub facts: BTreeMap<String, String>,
    /// Names of tensors beside the weights that were left unread, such as an optimiser's moments.
    pub skipped: Vec<String>,
}

impl Weights {
    /// Reads weights, whatever the file's ending: its first bytes tell the format.
    ///
    /// PyTorch checkpoints may be zip archives or the legacy stream, with the weights at the top or
    /// under `network_weights`, `state_dict` and the like; `module.` is taken off the names. Nothing
    /// in the file is executed: the pickle is parsed as data. A name that weights are not made of, such
    /// as `os.system`, is refused; harmless objects beside the weights are passed over. Memory is
    /// bounded by the size of the file.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Checkpoint`] when it is damaged, holds no
    /// tensors or objects of an unknown kind, or would unfold to many times its size.
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

    /// BLAKE3 over names, shapes, number formats and numbers: equal for equal weights, whatever file
    /// they came in.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn content_hash(&self) -> Result<String> {
        checkpoint::content_hash(&self.tensors)
    }

    /// Number of weights, all tensors together.
    pub fn count(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }
}

/// A zip archive or a pickle was written by PyTorch; all else must be safetensors.
fn sniff(path: &Path) -> Result<Format> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut start = Vec::new();
    let file = liseg_file::open(path).map_err(io)?;
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
    let file = liseg_file::open(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let refuse = |reason: String| {
        // Some reasons say themselves what to do.
        let way_out = match reason.contains("state_dict()") {
            true => "",
            false => "; get the file again, or save its state_dict() anew",
        };
        damaged(
            path,
            format!("no usable PyTorch checkpoint: {reason}{way_out}"),
        )
    };
    let mut file = Checkpoint::open(file).map_err(|e| refuse(e.0))?;
    let mut entries = file.tensors().map_err(|e| refuse(e.0))?;
    let mut skipped = Vec::new();
    let mut container = String::new();
    let mut keys: Vec<&str> = Vec::new();
    for _ in 0..NESTED_CONTAINERS {
        // A dict of its own, or what all names begin with.
        let holds = |key: &&str| {
            let inside = |e: &Entry| e.name[container.len()..].starts_with(key);
            let path = [keys.as_slice(), &[key.trim_end_matches('.')]].concat();
            entries.iter().all(inside) || entries.iter().any(inside) && file.is_dict(&path)
        };
        let Some(key) = CONTAINERS
            .into_iter()
            .find(holds)
            .filter(|_| !entries.is_empty())
        else {
            break;
        };
        container += key;
        keys.push(key.trim_end_matches('.'));
        let (mine, others): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|e| e.name.starts_with(&container));
        entries = mine;
        skipped.extend(others.into_iter().map(|e| e.name));
    }
    if entries.is_empty() {
        return Err(refuse("there are no tensors in it".to_owned()));
    }
    let mut tensors = TensorMap::new();
    for entry in &entries {
        let bare = bare_name(&entry.name[container.len()..]).to_owned();
        let value = file.read(entry);
        let value = value.map_err(|reason| refuse(format!("`{}`: {reason}", entry.name)))?;
        let value = checkpoint::tensor_of(value)?;
        if tensors.insert(bare, value).is_some() {
            return Err(refuse(format!(
                "`{}` occurs with and without `module.`; expected one of the two",
                entry.name
            )));
        }
    }
    let mut facts = BTreeMap::new();
    for (keys, fact) in SETTINGS {
        if let Some(value) = file.settings(keys) {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            facts.entry(fact.to_owned()).or_insert(text);
        }
    }
    Ok(Weights {
        format: Format::PyTorch,
        container: Some(container.trim_end_matches('.').to_owned()).filter(|c| !c.is_empty()),
        tensors,
        facts,
        skipped,
    })
}

/// A name without what wrappers put in front.
fn bare_name(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|w| name.strip_prefix(w)) {
        name = rest;
    }
    name
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
