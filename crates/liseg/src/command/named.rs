//! Files and folders given on the command line with a name of one's own: `NAME=PATH`.

use super::{Failure, Result};
use std::path::{Path, PathBuf};

/// A path and what tables call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// Splits `NAME=PATH`; a path alone is named by its file name without ending or, where several
/// would be called the same, by its folder as well.
pub(crate) fn named(arguments: &[String]) -> Result<Vec<Named>> {
    let given = |argument: &String| match argument.split_once('=') {
        Some((name, path)) if !name.is_empty() && !Path::new(argument).exists() => {
            (Some(name.to_owned()), PathBuf::from(path))
        }
        _ => (None, PathBuf::from(argument)),
    };
    let given: Vec<(Option<String>, PathBuf)> = arguments.iter().map(given).collect();
    let name = |levels: usize, (own, path): &(Option<String>, PathBuf)| {
        own.clone().unwrap_or_else(|| short_name(path, levels))
    };
    let names = (1..=4).map(|levels| given.iter().map(|g| name(levels, g)).collect::<Vec<_>>());
    let names = { names }.find(|names| {
        names
            .iter()
            .all(|n| names.iter().filter(|m| *m == n).count() == 1)
    });
    let Some(names) = names else {
        return Err(Failure::usage(
            "two of the paths would have one name; write NAME=PATH",
        ));
    };
    let pairs = names.into_iter().zip(given);
    Ok(pairs
        .map(|(name, (_, path))| Named { name, path })
        .collect())
}

/// The last parts of a path, without the ending of the last.
fn short_name(path: &Path, levels: usize) -> String {
    let whole = path.with_extension("");
    let parts: Vec<_> = whole.iter().map(|part| part.to_string_lossy()).collect();
    parts[parts.len().saturating_sub(levels)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let found = named(&arguments).unwrap();
        found.into_iter().map(|n| n.name).collect()
    }

    #[test]
    fn names_are_short_and_differ() {
        assert_eq!(names(&["runs/a.json", "runs/b.json"]), ["a", "b"]);
        assert_eq!(
            names(&["a/metrics.json", "b/metrics.json"]),
            ["a/metrics", "b/metrics"]
        );
        assert_eq!(names(&["mine=a/m.json", "b/m.json"]), ["mine", "m"]);
        assert!(named(&["m.json".to_owned(), "m.json".to_owned()]).is_err());
    }
}
