//! Keeping what files say within the folder that a user named.

use std::path::{Component, Path, PathBuf};

/// A relative path without `.` and `..`, for writing below a folder; `None` where it would lead out of
/// that folder or is no relative path.
///
/// Paths in `dataset.json` may point beside the data set, as in `../other/a.nii.gz`: to read there is
/// what its author wants, to write to the same path below another folder is not.
///
/// ```
/// use liseg_data::confined;
/// use std::path::Path;
///
/// assert_eq!(confined(Path::new("./a/../b.nii")), Some("b.nii".into()));
/// assert_eq!(confined(Path::new("../b.nii")), None);
/// ```
pub fn confined(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            // `pop` is false where there is nothing left to leave.
            Component::ParentDir => inside.pop().then_some(())?,
            Component::Prefix(_) | Component::RootDir => return None,
        }
    }
    (!inside.as_os_str().is_empty()).then_some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in ["../a", "a/../../b", "/a", "a/../..", "", ".", "a/.."] {
            assert_eq!(confined(Path::new(path)), None, "{path}");
        }
        assert_eq!(confined(Path::new("a/./b/../c")), Some("a/c".into()));
        assert_eq!(confined(Path::new("..a/b..")), Some("..a/b..".into()));
    }
}
