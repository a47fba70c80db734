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
    let groups = grouped(arguments)?.into_iter();
    let single = groups.map(|(name, mut paths)| match (paths.pop(), paths.is_empty()) {
        (Some(path), true) => Ok(Named { name, path }),
        _ => Err(one_name()),
    });
    single.collect()
}

/// The same where a name given several times stands for all of its paths.
pub(crate) fn grouped(arguments: &[String]) -> Result<Vec<(String, Vec<PathBuf>)>> {
    let mut groups: Vec<(Option<String>, Vec<PathBuf>)> = Vec::new();
    for argument in arguments {
        let (name, path) = match argument.split_once('=') {
            Some((name, path)) if !name.is_empty() && !Path::new(argument).exists() => {
                (Some(name.to_owned()), PathBuf::from(path))
            }
            _ => (None, PathBuf::from(argument)),
        };
        let known = groups
            .iter_mut()
            .find(|(known, _)| name.is_some() && *known == name);
        match known {
            Some((_, paths)) => paths.push(path),
            None => groups.push((name, vec![path])),
        }
    }
    let name = |levels: usize, (own, paths): &(Option<String>, Vec<PathBuf>)| {
        own.clone().unwrap_or_else(|| short_name(&paths[0], levels))
    };
    let names = (1..=4).map(|levels| groups.iter().map(|g| name(levels, g)).collect::<Vec<_>>());
    let names = { names }.find(|names| {
        names
            .iter()
            .all(|n| names.iter().filter(|m| *m == n).count() == 1)
    });
    let names = names.ok_or_else(one_name)?;
    let paths = groups.into_iter().map(|(_, paths)| paths);
    Ok(names.into_iter().zip(paths).collect())
}

fn one_name() -> Failure {
    Failure::usage("two of the paths would have one name; write NAME=PATH")
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
        assert!(named(&["x=a.json".to_owned(), "x=b.json".to_owned()]).is_err());
    }

    #[test]
    fn a_name_given_several_times_stands_for_all_of_its_paths() {
        let arguments = ["x=a.json", "c.json", "x=b.json"].map(str::to_owned);
        let found = grouped(&arguments).unwrap();
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(found[0], ("x".to_owned(), paths(&["a.json", "b.json"])));
        assert_eq!(found[1], ("c".to_owned(), paths(&["c.json"])));
    }
}
