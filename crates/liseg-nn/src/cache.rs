//! A folder of pretrained weights, each under the hash of its content.

use crate::{Error, Format, Result, Weights, checkpoint};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// In front of a hash that stands for weights of the cache.
const PREFIX: &str = "blake3:";

/// Shortest beginning of a hash that is looked up.
const SHORTEST: usize = 6;

/// Weights kept by content: a name that means the same numbers on every machine, whatever the file was
/// called and however it was written. Nothing is fetched from a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightCache {
    folder: PathBuf,
}

/// Weights in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// BLAKE3 of names, shapes, number formats and numbers, in hexadecimal.
    pub hash: String,
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
}

impl WeightCache {
    /// The cache in a folder, which need not exist yet.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The user's cache: `$LISEG_CACHE`, else `$XDG_CACHE_HOME/liseg`, else `~/.cache/liseg`, and in it
    /// `weights`.
    ///
    /// # Errors
    /// [`Error::Setting`] when none of them is set.
    pub fn usual() -> Result<Self> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let folder = variable("LISEG_CACHE")
            .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("liseg")))
            .or_else(|| Some(variable("HOME")?.join(".cache/liseg")));
        folder
            .map(|f| Self::at(f.join("weights")))
            .ok_or_else(|| Error::Setting {
                field: "LISEG_CACHE",
                reason: "not set, and neither is HOME; name a folder for kept weights".into(),
            })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Copies weights into the cache as safetensors, with where they came from, unless they are there
    /// already.
    ///
    /// # Errors
    /// Those of [`Weights::read`]; [`Error::Io`] when the cache cannot be written.
    pub fn keep(&self, path: &Path) -> Result<Kept> {
        let weights = Weights::read(path)?;
        let hash = weights.content_hash()?;
        let to = self.file(&hash);
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        if !to.exists() {
            std::fs::create_dir_all(&self.folder).map_err(io(&self.folder))?;
            let mut facts = weights.facts.clone();
            weights.add_origin(path, &mut facts);
            checkpoint::write(&to, &weights.tensors, &facts)?;
        }
        let bytes = std::fs::metadata(&to).map_err(io(&to))?.len();
        Ok(Kept {
            hash,
            path: to,
            bytes,
        })
    }

    /// What is kept, in the order of the hashes. An absent folder holds nothing.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be listed.
    pub fn list(&self) -> Result<Vec<Kept>> {
        let io = |source| Error::Io {
            path: self.folder.clone(),
            source,
        };
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let path = entry.path();
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
            let whole = |s: &String| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit());
            if let (Some(hash), Some("safetensors")) = (
                stem.filter(whole),
                path.extension().and_then(|e| e.to_str()),
            ) {
                let bytes = entry.metadata().map_err(io)?.len();
                kept.push(Kept { hash, path, bytes });
            }
        }
        kept.sort_by(|a, b| a.hash.cmp(&b.hash));
        Ok(kept)
    }

    /// Reads the weights whose hash begins with `beginning`, and checks that they are still those.
    ///
    /// # Errors
    /// [`Error::Weights`] when none or several begin so, or the file was changed.
    pub fn read(&self, beginning: &str) -> Result<Weights> {
        if beginning.len() < SHORTEST {
            let reason =
                format!("`{PREFIX}{beginning}` is too short; give {SHORTEST} digits or more");
            return Err(Error::Weights(reason));
        }
        let mut found = self.list()?;
        found.retain(|kept| kept.hash.starts_with(beginning));
        let [kept] = found.as_slice() else {
            return Err(Error::Weights(format!(
                "{} kept weights begin with `{PREFIX}{beginning}` in {}; `liseg weights list` names them, \
                 `liseg weights keep FILE` adds some",
                found.len(),
                self.folder.display()
            )));
        };
        let weights = Weights::read(&kept.path)?;
        if weights.content_hash()? == kept.hash {
            return Ok(weights);
        }
        Err(Error::Checkpoint {
            path: kept.path.clone(),
            reason:
                "its content is no longer what its name says; delete it and keep the weights again"
                    .into(),
        })
    }

    fn file(&self, hash: &str) -> PathBuf {
        self.folder.join(format!("{hash}.safetensors"))
    }
}

impl Weights {
    /// Reads a file as [`Weights::read`], or weights of the user's cache by `blake3:` and the beginning
    /// of their hash.
    ///
    /// # Errors
    /// Those of [`Weights::read`] and [`WeightCache::read`].
    pub fn open(name: &Path) -> Result<Self> {
        match name.to_str().and_then(|name| name.strip_prefix(PREFIX)) {
            Some(beginning) => WeightCache::usual()?.read(beginning),
            None => Self::read(name),
        }
    }

    /// Adds to the facts where these weights came from.
    pub fn add_origin(&self, path: &Path, facts: &mut BTreeMap<String, String>) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut add = |key: &str, value: String| {
            facts.entry(key.to_owned()).or_insert(value);
        };
        add("source", name.into_owned());
        add("source_format", self.format.to_string());
        if self.format == Format::PyTorch {
            add(
                "source_container",
                self.container.clone().unwrap_or_default(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorMap;
    use tch::Tensor;

    #[test]
    fn weights_are_kept_once_and_found_by_the_beginning_of_their_hash() {
        let folder = tempfile::tempdir().unwrap();
        let cache = WeightCache::at(folder.path().join("cache/weights"));
        assert!(cache.list().unwrap().is_empty());
        let map = TensorMap::from([("w".to_owned(), Tensor::from_slice(&[1.0f32, 2.0]))]);
        let write = |name: &str, map: &TensorMap| {
            let path = folder.path().join(name);
            checkpoint::write(&path, map, &BTreeMap::new()).unwrap();
            path
        };
        let kept = cache.keep(&write("a.safetensors", &map)).unwrap();
        // The same numbers under another name are the same weights.
        assert_eq!(cache.keep(&write("b.safetensors", &map)).unwrap(), kept);
        let other = TensorMap::from([("w".to_owned(), Tensor::from_slice(&[1.0f32, 3.0]))]);
        assert_ne!(
            cache.keep(&write("c.safetensors", &other)).unwrap().hash,
            kept.hash
        );
        assert_eq!(cache.list().unwrap().len(), 2);
        let read = cache.read(&kept.hash[..8]).unwrap();
        assert!(read.tensors["w"].equal(&map["w"]));
        assert_eq!(read.facts["source"], "a.safetensors");
        assert!(
            cache
                .read("ab")
                .unwrap_err()
                .to_string()
                .contains("too short")
        );
        let message = cache.read("0123456789").unwrap_err().to_string();
        assert!(message.contains("liseg weights keep"), "{message}");

        std::fs::copy(folder.path().join("c.safetensors"), &kept.path).unwrap();
        let message = cache.read(&kept.hash).unwrap_err().to_string();
        assert!(message.contains("no longer"), "{message}");
    }
}
