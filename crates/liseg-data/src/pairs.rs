//! Which image and which label are one case.
//!
//! nnU-Net names them `<id>_0000<ending>` and `<id><ending>`. People also write labels with the
//! channel, other endings and other cases of letters. What can mean only one thing is taken for it,
//! and said; where two files claim to be the same thing, the case is refused and both are named.

use crate::listing::{self, ImageFile, split_channel};
use crate::{ListedCase, RefusedCase, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The images of one case and its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The case.
    pub(crate) id: String,
    /// Channel suffix, such as `_0000` or nothing, and file, in order of the suffixes.
    pub(crate) channels: Vec<(String, PathBuf)>,
    /// The label, where there is one.
    pub(crate) label: Option<PathBuf>,
}

/// What a pair of folders holds.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    /// The cases, in order of their ids.
    pub(crate) pairs: Vec<Pair>,
    /// Cases of which it is not clear what they are.
    pub(crate) refused: Vec<RefusedCase>,
    /// What was odd: case, file, message.
    pub(crate) notes: Vec<(Option<String>, PathBuf, String)>,
}

/// Matches the files of a folder of images and a folder of labels; a missing folder has none.
///
/// `ending` is the one that `dataset.json` names.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) for a folder that cannot be read.
pub(crate) fn find(root: &Path, images: &str, labels: Option<&str>, ending: &str) -> Result<Pairs> {
    let mut found = Pairs::default();
    let mut cases = found.take_images(&root.join(images), ending)?;
    if let Some(labels) = labels {
        found.take_labels(&mut cases, &root.join(labels), images, ending)?;
    }
    let refused: BTreeSet<&str> = found.refused.iter().map(|r| r.id.as_str()).collect();
    cases.retain(|id, _| !refused.contains(id.as_str()));
    found.pairs = cases.into_values().collect();
    Ok(found)
}

/// The cases of a list with their files, and a note of what else lies in `images`.
///
/// Version 1 leaves the channel out of the names; the files may have it.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) for a folder that cannot be read.
pub(crate) fn of_list(root: &Path, list: &[ListedCase], images: &str) -> Result<Pairs> {
    let mut found = Pairs::default();
    let mut used = BTreeSet::new();
    let mut cases: BTreeMap<String, Vec<Pair>> = BTreeMap::new();
    for listed in list {
        let mut channels = Vec::new();
        for image in &listed.images {
            channels.extend(channels_of(&root.join(image), &listed.id)?);
        }
        used.extend(channels.iter().map(|(_, path)| file_name(path)));
        let pair = Pair {
            id: listed.id.clone(),
            channels,
            label: listed.label.as_ref().map(|label| root.join(label)),
        };
        cases.entry(listed.id.clone()).or_default().push(pair);
    }
    for (id, mut pairs) in cases {
        let files = |pair: &Pair| -> Vec<PathBuf> {
            let images = pair.channels.iter().map(|(_, path)| path.clone());
            images.chain(pair.label.clone()).collect()
        };
        let pair = pairs.swap_remove(0);
        let names: BTreeSet<&str> = pair.channels.iter().map(|(c, _)| c.as_str()).collect();
        if !pairs.is_empty() {
            let all = files(&pair).into_iter().chain(pairs.iter().flat_map(files));
            found.refuse(&id, all.collect(), "the case is listed several times");
        } else if names.len() < pair.channels.len() {
            let reason = "several files claim to be its image";
            found.refuse(&id, files(&pair), reason);
        } else {
            found.pairs.push(pair);
        }
    }
    found.note_unlisted(&root.join(images), &used)?;
    Ok(found)
}

/// The files that a list means by `image`: itself, or else one for each channel; itself again where
/// there is no such file, so that its absence is told.
fn channels_of(image: &Path, id: &str) -> Result<Vec<(String, PathBuf)>> {
    if image.symlink_metadata().is_ok() {
        return Ok(vec![(String::new(), image.to_owned())]);
    }
    let folder = image.parent().unwrap_or(Path::new("."));
    let files = listing::list(folder)?.files.into_iter();
    let channels: Vec<_> = files
        .filter_map(|file| {
            let (of, channel) = split_channel(&file.stem);
            (of == id).then(|| (channel.to_owned(), file.path))
        })
        .collect();
    Ok(match channels.is_empty() {
        true => vec![(String::new(), image.to_owned())],
        false => channels,
    })
}

fn file_name(path: &Path) -> std::ffi::OsString {
    path.file_name().unwrap_or_default().to_owned()
}

/// How a label's name leads to its case, from the name that is expected to the one that is least so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spelling {
    Expected,
    Channel,
    Letters,
}

impl Pairs {
    fn take_images(&mut self, folder: &Path, ending: &str) -> Result<BTreeMap<String, Pair>> {
        let files = self.take_listing(folder, ending)?;
        let mut by_id: BTreeMap<String, Vec<(String, PathBuf)>> = BTreeMap::new();
        for file in files {
            let (id, channel) = split_channel(&file.stem);
            let channels = by_id.entry(id.to_owned()).or_default();
            channels.push((channel.to_owned(), file.path));
        }
        let mut cases = BTreeMap::new();
        for (id, channels) in by_id {
            let names: BTreeSet<&str> = channels.iter().map(|(c, _)| c.as_str()).collect();
            // A file without a channel is the whole image: another one is the same image again.
            if names.len() < channels.len() || (names.len() > 1 && names.contains("")) {
                let files = channels.iter().map(|(_, path)| path.clone()).collect();
                self.refuse(&id, files, "several files claim to be its image");
            }
            let pair = Pair {
                id: id.clone(),
                channels,
                label: None,
            };
            cases.insert(id, pair);
        }
        Ok(cases)
    }

    fn take_labels(
        &mut self,
        cases: &mut BTreeMap<String, Pair>,
        folder: &Path,
        images: &str,
        ending: &str,
    ) -> Result<()> {
        let files = self.take_listing(folder, ending)?;
        let mut claims: BTreeMap<String, Vec<(Spelling, PathBuf)>> = BTreeMap::new();
        for file in files {
            match owner(&file.stem, cases) {
                Some((id, spelling)) => {
                    claims.entry(id).or_default().push((spelling, file.path));
                }
                None => {
                    let ImageFile { stem, path, .. } = file;
                    let message = format!("label without an image {stem}_0000{ending} in {images}");
                    self.notes.push((Some(stem), path, message));
                }
            }
        }
        let mut unusual: BTreeMap<Spelling, Vec<(String, PathBuf)>> = BTreeMap::new();
        for (id, mut files) in claims {
            if let [(spelling, path)] = &files[..] {
                if *spelling != Spelling::Expected {
                    let named = (id.clone(), path.clone());
                    unusual.entry(*spelling).or_default().push(named);
                }
                if let Some(case) = cases.get_mut(&id) {
                    case.label = Some(path.clone());
                }
            } else {
                let files = files.drain(..).map(|(_, path)| path).collect();
                self.refuse(&id, files, "several files claim to be its label");
            }
        }
        for (spelling, files) in unusual {
            self.note_spelling(spelling, &files);
        }
        Ok(())
    }

    /// One note for all labels that are spelled alike: a data set has hundreds.
    fn note_spelling(&mut self, spelling: Spelling, files: &[(String, PathBuf)]) {
        let [(id, path), others @ ..] = files else {
            return;
        };
        let what = match spelling {
            Spelling::Channel => "the name of a label has the channel _0000, which it needs not",
            _ => "the name of a label has other letters than its image",
        };
        let message = format!(
            "{what}; it is taken for case `{id}`{}",
            and_more(others.len())
        );
        self.notes.push((None, path.clone(), message));
    }

    /// Notes and refuses what the listing itself shows.
    fn take_listing(&mut self, folder: &Path, ending: &str) -> Result<Vec<ImageFile>> {
        let listing = listing::list(folder)?;
        for (id, path) in listing.nameless {
            let reason = "the file name is no text (UTF-8): rename the file";
            self.refuse(&id, vec![path], reason);
        }
        for (path, why) in listing.foreign {
            self.notes.push((None, path, why));
        }
        let mut other = listing.files.iter().filter(|file| file.ending != ending);
        if let Some(first) = other.next() {
            let message = format!(
                "the name ends in {} where dataset.json says {ending}; it is used{}",
                first.ending,
                and_more(other.count())
            );
            self.notes.push((None, first.path.clone(), message));
        }
        Ok(listing.files)
    }

    /// Says which images a list passes over.
    fn note_unlisted(&mut self, folder: &Path, used: &BTreeSet<std::ffi::OsString>) -> Result<()> {
        /// Names in one message, at most.
        const MOST: usize = 10;
        let files = listing::list(folder)?.files.into_iter();
        let names: Vec<String> = files
            .map(|file| file_name(&file.path))
            .filter(|name| !used.contains(name))
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let more = match names.len().saturating_sub(MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "`training` of dataset.json does not list {}{more}, which are left out",
            names[..names.len().min(MOST)].join(", ")
        );
        self.notes.push((None, folder.to_owned(), message));
        Ok(())
    }

    fn refuse(&mut self, id: &str, files: Vec<PathBuf>, reason: &str) {
        self.refused.push(RefusedCase {
            id: id.to_owned(),
            files,
            reason: reason.to_owned(),
        });
    }
}

fn and_more(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => ", as one other is".to_owned(),
        n => format!(", as {n} others are"),
    }
}

/// The case that a label belongs to, where its name can mean only one.
fn owner(stem: &str, cases: &BTreeMap<String, Pair>) -> Option<(String, Spelling)> {
    if cases.contains_key(stem) {
        return Some((stem.to_owned(), Spelling::Expected));
    }
    let plain = stem.strip_suffix("_0000").unwrap_or(stem);
    if cases.contains_key(plain) {
        return Some((plain.to_owned(), Spelling::Channel));
    }
    let folded = fold(plain);
    let mut alike = cases.keys().filter(|id| fold(id) == folded);
    match (alike.next(), alike.next()) {
        (Some(id), None) => Some((id.clone(), Spelling::Letters)),
        _ => None,
    }
}

/// A name without what people do not see or care about: capitals, and whether an accent is a
/// character of its own, as macOS writes it.
fn fold(name: &str) -> String {
    let lower = name.to_lowercase();
    let mut folded = String::with_capacity(lower.len());
    for c in lower.chars() {
        match accented(c) {
            Some((letter, accent)) => folded.extend([letter, accent]),
            None => folded.push(c),
        }
    }
    folded
}

/// A letter of Western European languages as letter and combining accent.
fn accented(c: char) -> Option<(char, char)> {
    const ACCENTS: [(char, &str, &str); 7] = [
        ('\u{300}', "àèìòù", "aeiou"),
        ('\u{301}', "áéíóúý", "aeiouy"),
        ('\u{302}', "âêîôû", "aeiou"),
        ('\u{303}', "ãñõ", "ano"),
        ('\u{308}', "äëïöüÿ", "aeiouy"),
        ('\u{30a}', "å", "a"),
        ('\u{327}', "ç", "c"),
    ];
    ACCENTS.into_iter().find_map(|(accent, whole, plain)| {
        let at = whole.chars().position(|w| w == c)?;
        Some((plain.chars().nth(at)?, accent))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn pairs(files: &[&str]) -> Pairs {
        let folder = folder(files);
        find(folder.path(), "images", Some("labels"), ".nii.gz").unwrap()
    }

    /// The label of every case, without its folder.
    fn labels(found: &Pairs) -> Vec<(&str, Option<&str>)> {
        let name = |path: &'_ PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let pairs = found.pairs.iter();
        let named = pairs.map(|p| (p.id.as_str(), p.label.as_ref().map(name)));
        named
            .map(|(id, label)| (id, label.map(|l| &*l.leak())))
            .collect()
    }

    #[test]
    fn the_names_of_nnunet_need_no_note() {
        let found = pairs(&["images/a_0000.nii.gz", "images/b.nii.gz", "labels/a.nii.gz"]);
        assert_eq!(labels(&found), [("a", Some("a.nii.gz")), ("b", None)]);
        assert!(found.notes.is_empty() && found.refused.is_empty());
    }

    #[test]
    fn labels_under_other_names_are_taken_and_noted() {
        for (label, note) in [
            ("a_0000.nii.gz", "the channel _0000"),
            ("a.nii", "ends in .nii where dataset.json says .nii.gz"),
            ("a.NII.GZ", "ends in .NII.GZ"),
            ("A.nii.gz", "other letters"),
        ] {
            let found = pairs(&["images/a_0000.nii.gz", &format!("labels/{label}")]);
            assert_eq!(labels(&found), [("a", Some(label))]);
            let [(_, file, message)] = &found.notes[..] else {
                panic!("{:?}", found.notes)
            };
            assert!(message.contains(note), "{message}");
            assert!(file.ends_with(label));
        }
    }

    #[test]
    fn an_accent_may_be_a_character_of_its_own() {
        let found = pairs(&["images/é1_0000.nii.gz", "labels/e\u{301}1.nii.gz"]);
        assert!(found.pairs[0].label.is_some());
        assert_eq!(found.notes.len(), 1);
    }

    #[test]
    fn one_note_stands_for_many_files() {
        let found = pairs(&[
            "images/a_0000.nii",
            "images/b_0000.nii",
            "images/c_0000.nii",
            "labels/a.nii.gz",
        ]);
        assert_eq!((found.pairs.len(), found.notes.len()), (3, 1));
        assert!(found.notes[0].2.ends_with("as 2 others are"));
    }

    #[test]
    fn a_case_that_two_files_claim_is_refused_by_both_names() {
        for files in [
            ["images/k_0000.nii", "images/k_0000.nii.gz", "labels/k.nii"],
            ["images/k.nii.gz", "images/k_0000.nii.gz", "labels/k.nii"],
            ["images/k_0000.nii.gz", "labels/k.nii", "labels/k.nii.gz"],
            ["images/k.nii.gz", "labels/k.nii.gz", "labels/k_0000.nii.gz"],
            ["images/k.nii.gz", "labels/k.nii.gz", "labels/K.nii.gz"],
        ] {
            let found = pairs(&[&files[..], &["images/other.nii.gz"]].concat());
            assert_eq!(labels(&found), [("other", None)], "{files:?}");
            let [refused] = &found.refused[..] else {
                panic!("{:?}", found.refused)
            };
            assert_eq!((refused.id.as_str(), refused.files.len()), ("k", 2));
        }
    }

    #[test]
    fn names_that_differ_in_letters_alone_stay_apart() {
        let found = pairs(&[
            "images/a_0000.nii.gz",
            "images/A_0000.nii.gz",
            "labels/a.nii.gz",
            "labels/A.nii.gz",
        ]);
        let both = [("A", Some("A.nii.gz")), ("a", Some("a.nii.gz"))];
        assert_eq!(labels(&found), both);
        assert!(found.notes.is_empty() && found.refused.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStrExt;
        let folder = folder(&["images/a_0000.nii.gz"]);
        let name = std::ffi::OsStr::from_bytes(b"m\xfcller_0000.nii.gz");
        // Some file systems take no such names; there is nothing to test there.
        if std::fs::write(folder.path().join("images").join(name), "").is_err() {
            return;
        }
        let found = find(folder.path(), "images", None, ".nii.gz").unwrap();
        assert_eq!((found.pairs.len(), found.refused.len()), (1, 1));
        assert_eq!(found.refused[0].id, "m\u{fffd}ller");
    }
}
