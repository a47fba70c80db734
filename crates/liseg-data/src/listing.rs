//! The image files of a folder.

use crate::{Error, Result};
use liseg_mri::OtherFormat;
use std::path::{Path, PathBuf};

/// Endings of files that can be read, the longer one first.
const ENDINGS: [&str; 2] = [".nii.gz", ".nii"];

/// One NIfTI file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ImageFile {
    /// The name without its ending.
    pub(crate) stem: String,
    /// The ending as it is written, such as `.NII.GZ`.
    pub(crate) ending: String,
    /// The file.
    pub(crate) path: PathBuf,
}

/// What lies in a folder, in order of names; hidden files are left out.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// NIfTI files, in either ending and any case of letters.
    pub(crate) files: Vec<ImageFile>,
    /// NIfTI files whose names are no text, with the case that each seems to belong to.
    pub(crate) nameless: Vec<(String, PathBuf)>,
    /// Images in formats that are not read, with the way to convert them.
    pub(crate) foreign: Vec<(PathBuf, String)>,
}

/// Lists a folder; one that is missing holds nothing.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be read, a link that leads nowhere included.
pub(crate) fn list(folder: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    if !exists(folder)? {
        return Ok(listing);
    }
    for entry in std::fs::read_dir(folder).map_err(Error::io("reading", folder))? {
        let path = entry.map_err(Error::io("reading", folder))?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        let (is_text, name) = (name.to_str().is_some(), name.to_string_lossy().into_owned());
        if name.starts_with('.') {
            continue;
        }
        match split_ending(&name) {
            Some((stem, ending)) if is_text => listing.files.push(ImageFile {
                stem: stem.to_owned(),
                ending: ending.to_owned(),
                path,
            }),
            Some((stem, _)) => {
                let (id, _) = split_channel(stem);
                listing.nameless.push((id.to_owned(), path));
            }
            None => listing.foreign.extend(unread(&path).map(|why| (path, why))),
        }
    }
    listing.files.sort();
    listing.nameless.sort();
    listing.foreign.sort();
    Ok(listing)
}

/// Whether there is something under a name. A link that leads nowhere is an error: what it should
/// lead to was meant to be used.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn exists(path: &Path) -> Result<bool> {
    match path.metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match dangling(path) {
            None => Ok(false),
            Some(target) => {
                let reason = format!("it is a link to {target}, which does not exist");
                let error = std::io::Error::new(std::io::ErrorKind::NotFound, reason);
                Err(Error::io("reading", path)(error))
            }
        },
        Err(error) => Err(Error::io("reading", path)(error)),
    }
}

/// Where a link that leads nowhere should lead; `None` for everything else.
pub(crate) fn dangling(path: &Path) -> Option<String> {
    let target = path.read_link().ok()?;
    (!path.exists()).then(|| target.display().to_string())
}

/// Splits a file name into its stem and the ending of a NIfTI file, in any case of letters.
pub(crate) fn split_ending(name: &str) -> Option<(&str, &str)> {
    // ASCII lower case has as many bytes.
    let lower = name.to_ascii_lowercase();
    let ending = ENDINGS.into_iter().find(|end| lower.ends_with(end))?;
    let at = name.len() - ending.len();
    (at > 0).then(|| name.split_at(at))
}

/// Why an image is not read in a dataset; `None` for files that are no images.
fn unread(path: &Path) -> Option<String> {
    if let Some(format) = OtherFormat::of_file(path) {
        return Some(format!(
            "{format} is not read here and the file is left out: {}",
            format.conversion()
        ));
    }
    let lower = path.file_name()?.to_str()?.to_ascii_lowercase();
    let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
    let pair = plain.ends_with(".hdr") || plain.ends_with(".img");
    pair.then(|| {
        "datasets hold no pairs of .hdr and .img, and the file is left out: write it as one .nii.gz, as \
         nibabel does"
            .to_owned()
    })
}

/// What to add to an error about a folder that holds images in another format; else nothing.
pub(crate) fn other_format(folder: &Path) -> String {
    OtherFormat::of_folder(folder).map_or_else(String::new, |format| {
        format!("; it holds {format}: {}", format.conversion())
    })
}

/// Splits `case_0000` into `case` and `_0000`; a name without a channel has an empty one.
pub(crate) fn split_channel(stem: &str) -> (&str, &str) {
    let at = stem.len().saturating_sub(5);
    match stem.get(at..) {
        Some(channel)
            if at > 0
                && channel.starts_with('_')
                && channel[1..].bytes().all(|b| b.is_ascii_digit()) =>
        {
            (&stem[..at], channel)
        }
        _ => (stem, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_split_from_names() {
        assert_eq!(split_channel("case_0001_0000"), ("case_0001", "_0000"));
        assert_eq!(split_channel("liver"), ("liver", ""));
        assert_eq!(split_channel("_0000"), ("_0000", ""));
        assert_eq!(split_channel("Größe"), ("Größe", ""));
    }

    #[test]
    fn endings_are_told_in_any_case_of_letters() {
        assert_eq!(split_ending("a.NII.GZ"), Some(("a", ".NII.GZ")));
        assert_eq!(split_ending("a.b.Nii"), Some(("a.b", ".Nii")));
        assert_eq!((split_ending(".nii"), split_ending("a.gz")), (None, None));
    }

    #[test]
    fn a_folder_holds_images_and_what_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.nii", "a.NII.GZ", ".c.nii", "d.mha", "e.img.gz", "f.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let listing = list(folder.path()).unwrap();
        let stems: Vec<&str> = listing.files.iter().map(|f| f.stem.as_str()).collect();
        assert_eq!(stems, ["a", "b"]);
        assert_eq!(listing.foreign.len(), 2);
        let nothing = list(&folder.path().join("nowhere")).unwrap();
        assert!(nothing.files.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_a_link_to_nothing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("imagesTr");
        std::os::unix::fs::symlink("/nowhere/images", &link).unwrap();
        let message = list(&link).unwrap_err().to_string();
        assert!(message.contains("link to /nowhere/images"), "{message}");
    }
}
