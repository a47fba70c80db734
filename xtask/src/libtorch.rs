//! What a folder must hold to be the libtorch that this workspace is built against.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// The one version that tch 0.24 binds; the two change together.
pub(crate) const VERSION: &str = "2.11.0";

/// A complete libtorch: `include/` and `lib/` of the version that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Libtorch {
    pub(crate) folder: PathBuf,
    pub(crate) version: String,
    /// Whether it brings the CUDA kernels; a GPU is another matter.
    pub(crate) cuda: bool,
}

impl Libtorch {
    /// Looks at the headers and libraries in `folder`; runs nothing.
    ///
    /// # Errors
    /// Names the missing file, or the version found where it is not [`VERSION`].
    pub(crate) fn inspect(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            let what = if folder.exists() {
                "is not a folder"
            } else {
                "does not exist"
            };
            return Err(Failure::new(format!("{} {what}", folder.display())));
        }
        let libraries = folder.join("lib");
        let library = |name: &str| {
            let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
            libraries.join(format!("{prefix}{name}{suffix}"))
        };
        // The first since 2.9, the second before.
        let headers = ["headeronly/version.h", "csrc/api/include/torch/version.h"]
            .map(|name| folder.join("include/torch").join(name));
        let needed = [
            folder.join("include/torch/csrc/api/include/torch/torch.h"),
            library("torch"),
            library("torch_cpu"),
            library("c10"),
        ];
        for file in needed {
            if !file.is_file() {
                return Err(missing(&file));
            }
        }
        let version = headers
            .iter()
            .find_map(|header| header_version(&fs::read_to_string(header).ok()?))
            .ok_or_else(|| missing(&headers[0]))?;
        if version != VERSION {
            return Err(Failure::new(format!(
                "{} is libtorch {version}, this workspace needs {VERSION}",
                folder.display()
            )));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            version,
            cuda: library("torch_cuda").is_file(),
        })
    }
}

impl fmt::Display for Libtorch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernels = if self.cuda { "with CUDA" } else { "CPU only" };
        write!(
            f,
            "libtorch {} ({kernels}) at {}",
            self.version,
            self.folder.display()
        )
    }
}

fn missing(file: &Path) -> Failure {
    Failure::new(format!(
        "no complete libtorch {VERSION}: {} is missing",
        file.display()
    ))
}

/// The version in libtorch's own header, which every form of delivery has.
fn header_version(header: &str) -> Option<String> {
    let part = |name: &str| {
        header.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some(name))
                .then(|| words.next()?.parse::<u32>().ok())
                .flatten()
        })
    };
    let (major, minor, patch) = (
        part("TORCH_VERSION_MAJOR")?,
        part("TORCH_VERSION_MINOR")?,
        part("TORCH_VERSION_PATCH")?,
    );
    Some(format!("{major}.{minor}.{patch}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder that passes for libtorch, of empty files.
    pub(crate) fn pretend(folder: &Path, version: [u32; 3], cuda: bool) {
        let write = |file: PathBuf, text: &str| {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let [major, minor, patch] = version;
        write(
            folder.join("include/torch/headeronly/version.h"),
            &format!(
                "#pragma once\n#define TORCH_VERSION_MAJOR {major}\n\
                 #define TORCH_VERSION_MINOR {minor}\n#define TORCH_VERSION_PATCH {patch}\n"
            ),
        );
        write(
            folder.join("include/torch/csrc/api/include/torch/torch.h"),
            "",
        );
        let libraries: &[&str] = if cuda {
            &["torch", "torch_cpu", "c10", "torch_cuda"]
        } else {
            &["torch", "torch_cpu", "c10"]
        };
        for name in libraries {
            let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
            write(folder.join(format!("lib/{prefix}{name}{suffix}")), "");
        }
    }

    #[test]
    fn a_complete_folder_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        pretend(folder.path(), [2, 11, 0], true);
        let libtorch = Libtorch::inspect(folder.path()).unwrap();
        assert_eq!(libtorch.version, VERSION);
        assert!(libtorch.cuda);
        assert!(
            libtorch
                .to_string()
                .starts_with("libtorch 2.11.0 (with CUDA) at ")
        );
    }

    #[test]
    fn another_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        pretend(folder.path(), [2, 13, 0], false);
        let message = Libtorch::inspect(folder.path()).unwrap_err().to_string();
        assert!(
            message.contains("is libtorch 2.13.0, this workspace needs 2.11.0"),
            "{message}"
        );
    }

    #[test]
    fn an_old_version_is_named_by_its_old_header() {
        let folder = tempfile::tempdir().unwrap();
        pretend(folder.path(), [2, 5, 1], false);
        let include = folder.path().join("include/torch");
        let old = include.join("csrc/api/include/torch/version.h");
        fs::rename(include.join("headeronly/version.h"), old).unwrap();
        let message = Libtorch::inspect(folder.path()).unwrap_err().to_string();
        assert!(message.contains("is libtorch 2.5.1"), "{message}");
    }

    #[test]
    fn a_missing_library_is_named() {
        let folder = tempfile::tempdir().unwrap();
        pretend(folder.path(), [2, 11, 0], false);
        let library = fs::read_dir(folder.path().join("lib"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains("torch_cpu"))
            .unwrap();
        fs::remove_file(&library).unwrap();
        let message = Libtorch::inspect(folder.path()).unwrap_err().to_string();
        assert!(message.contains(&*library.to_string_lossy()), "{message}");
    }

    #[test]
    fn a_header_without_a_version_has_none() {
        assert_eq!(header_version("#define TORCH_VERSION_MAJOR 2\n"), None);
        assert_eq!(header_version("#define TORCH_VERSION_MAJOR two\n"), None);
    }
}
