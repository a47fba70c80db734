//! The masks of a folder.

use crate::predict::stem;
use crate::{Error, Result};
use liseg_mri::nifti::header_path;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The masks of a folder by case, which their names say without ending.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    /// One file for the case.
    pub(crate) usable: BTreeMap<String, PathBuf>,
    /// Cases whose file cannot be told or opened, and why.
    pub(crate) unusable: BTreeMap<String, String>,
}

impl Masks {
    /// Looks at every name that ends like a NIfTI file, in a folder and those below that are not hidden; a case there is
    /// called by its path, as in `vendor_a/case_1`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let mut masks = Self::default();
        if folder.is_file() {
            return Err(Error::Run {
                path: folder.to_owned(),
                reason: "is a file; expected a folder of masks".to_owned(),
            });
        }
        for path in paths_below(folder)? {
            let Some(name) = stem_of_any(&path) else {
                continue;
            };
            let parent = path
                .parent()
                .and_then(|parent| parent.strip_prefix(folder).ok());
            let case = parent.unwrap_or(Path::new("")).join(name);
            let case = case.to_string_lossy().into_owned();
            let header = header_path(&path);
            if header != path && header.exists() {
                // A pair counts once, by its header.
                continue;
            }
            match refusal(&path) {
                None => files.entry(case).or_default().push(path),
                Some(reason) => {
                    masks.unusable.insert(case, reason);
                }
            }
        }
        for (case, mut paths) in files {
            paths.sort();
            if let [path] = &paths[..] {
                masks.usable.insert(case, path.clone());
            } else {
                let names: Vec<_> = paths
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                let reason = format!("{} are both its mask; keep one", names.join(" and "));
                masks.unusable.insert(case, reason);
            }
        }
        Ok(masks)
    }

    /// All cases, in order.
    pub(crate) fn cases(&self) -> impl Iterator<Item = &str> {
        let mut cases: Vec<&str> = self
            .usable
            .keys()
            .chain(self.unusable.keys())
            .map(String::as_str)
            .collect();
        cases.sort_unstable();
        cases.into_iter()
    }

    /// Whether a case is here under its very name.
    pub(crate) fn has(&self, case: &str) -> bool {
        self.usable.contains_key(case) || self.unusable.contains_key(case)
    }

    /// The name under which a case is here: its own, or the only one that differs in the case of letters alone.
    pub(crate) fn name_of(&self, case: &str) -> Option<&str> {
        let own = self.usable.get_key_value(case).map(|(name, _)| name);
        let own = own.or_else(|| self.unusable.get_key_value(case).map(|(name, _)| name));
        if let Some(same) = own {
            return Some(same);
        }
        let lower = case.to_lowercase();
        let mut alike = self.cases().filter(|name| name.to_lowercase() == lower);
        alike.next().filter(|_| alike.next().is_none())
    }

    /// The file of a case.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) fn get(&self, case: &str) -> std::result::Result<&Path, String> {
        match (self.usable.get(case), self.unusable.get(case)) {
            (Some(path), _) => Ok(path),
            (None, Some(reason)) => Err(reason.clone()),
            (None, None) => Err("no mask of that name".into()),
        }
    }
}

/// Everything in a folder and below that is no folder.
fn paths_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_shown = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    let walk = walkdir::WalkDir::new(folder)
        .follow_links(true)
        .sort_by_file_name();
    let mut paths = Vec::new();
    for entry in walk.into_iter().filter_entry(is_shown) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) => paths.push(entry.into_path()),
            // A link that leads nowhere is one of the masks that cannot be opened.
            Err(error) => match error.path().filter(|path| path.is_symlink()) {
                Some(path) => paths.push(path.to_owned()),
                None => return Err(Error::io(folder)(error.into())),
            },
        }
    }
    Ok(paths)
}

/// As [`stem`], also of names that are no text.
fn stem_of_any(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    stem(Path::new(name.as_ref()))
}

/// Why a path is no file to read.
fn refusal(path: &Path) -> Option<String> {
    if path.to_str().is_none() {
        return Some(format!("{}: its name is not UTF-8", path.display()));
    }
    match std::fs::metadata(path) {
        Ok(what) if what.is_file() => None,
        Ok(_) => Some(format!("{} is no file", path.display())),
        Err(error) => Some(format!("{}: cannot be opened: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn one_file_is_a_mask_and_two_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "a.nii.gz", "b.nii", "b.nii.gz", "C.NII.GZ", "d.txt", ".e.nii",
        ] {
            fs::write(at(name), "").unwrap();
        }
        fs::create_dir(at("f.nii")).unwrap();
        fs::write(at("f.nii/g.nii"), "").unwrap();
        let masks = Masks::of(folder.path()).unwrap();
        assert_eq!(
            masks.cases().collect::<Vec<_>>(),
            ["C", "a", "b", "f.nii/g"]
        );
        assert_eq!(masks.get("a").unwrap(), at("a.nii.gz"));
        let both = masks.get("b").unwrap_err();
        assert!(
            both.contains("b.nii and ") && both.contains("b.nii.gz"),
            "{both}"
        );
        assert_eq!(masks.name_of("c"), Some("C"));
        assert_eq!(masks.name_of("d"), None);
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_opened_is_there_with_its_reason() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("a.nii.gz")).unwrap();
        let name = std::ffi::OsStr::from_bytes(b"b\xff.nii.gz");
        fs::write(folder.path().join(name), "").unwrap();
        let masks = Masks::of(folder.path()).unwrap();
        assert!(masks.usable.is_empty());
        assert!(masks.get("a").unwrap_err().contains("cannot be opened"));
        assert!(masks.get("b\u{fffd}").unwrap_err().contains("UTF-8"));
    }
}
