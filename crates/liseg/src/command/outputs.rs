//! Files that an option names to be written, and that none of them is something else already.

use super::{Failure, Result};
use liseg_file::resolved;
use std::path::{Path, PathBuf};

/// Endings of files that no verb but those who make them replaces: images, masks and weights.
const KEPT_ENDINGS: [&str; 8] = [
    ".nii",
    ".nii.gz",
    ".hdr",
    ".img",
    ".img.gz",
    ".safetensors",
    ".pth",
    ".model",
];

/// Descriptions of datasets that users write.
const KEPT_NAMES: [&str; 2] = ["dataset.json", "cases.json"];

/// Refuses outputs, each with its option, that are one file, an input, or a file of another kind that is there already.
/// Links are followed.
///
/// # Errors
/// [`Failure::usage`] that names the option and the file.
pub(super) fn check(outputs: &[(&str, Option<&Path>)], inputs: &[PathBuf]) -> Result<()> {
    let inputs: Vec<PathBuf> = inputs.iter().map(|input| resolved(input)).collect();
    let mut seen: Vec<(&str, PathBuf)> = Vec::new();
    for (option, path) in outputs {
        let Some(path) = path else { continue };
        let place = resolved(path);
        let refuse = |what: &str| {
            let path = path.display();
            Err(Failure::usage(format!("{option} {path}: {what}")))
        };
        if let Some((other, _)) = seen.iter().find(|(_, other)| *other == place) {
            return refuse(&format!("{other} names the same file; name another one"));
        }
        if inputs.contains(&place) {
            return refuse(
                "it is an input of this call and would be overwritten; name another file",
            );
        }
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_lowercase();
        let kept = KEPT_ENDINGS.iter().any(|ending| name.ends_with(ending))
            || KEPT_NAMES.contains(&name.as_str());
        if kept && place.is_file() {
            return refuse("it is there already and is something else; name another file");
        }
        seen.push((option, place));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.json", "dataset.json", "label.nii.gz", "old.csv"] {
            std::fs::write(at(name), "").unwrap();
        }
        let told = |outputs: &[(&str, &str)]| {
            let paths: Vec<PathBuf> = outputs.iter().map(|(_, name)| at(name)).collect();
            let outputs = outputs.iter().zip(&paths);
            let outputs: Vec<_> = outputs
                .map(|((o, _), path)| (*o, Some(path.as_path())))
                .collect();
            let refused = check(&outputs, &[at("a.json")]);
            refused.map_or_else(|failure| failure.to_string(), |()| String::new())
        };
        assert_eq!(told(&[("--out", "new.json"), ("--csv", "old.csv")]), "");
        assert!(told(&[("--out", "x"), ("--csv", "./x")]).contains("--out names the same file"));
        assert!(told(&[("--out", "a.json")]).contains("an input of this call"));
        for kept in ["dataset.json", "label.nii.gz"] {
            assert!(
                told(&[("--out", kept)]).contains("something else"),
                "{kept}"
            );
        }
        assert_eq!(told(&[("--out", "other.nii.gz")]), "");
        #[cfg(unix)]
        for to in ["a.json", "label.nii.gz"] {
            let link = at("link");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(to, &link).unwrap();
            assert_ne!(told(&[("--out", "link")]), "");
        }
    }
}
