//! Names of temporary files, and what killed processes left under them.
//!
//! A name says who gave it: the boot of the machine, the namespace of process ids, the process and when it began. Where
//! all of these can be compared, a process is known to live or not; a file of another machine or container
//! that shares the folder is removed a day after its last change.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{DirEntry, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

const PREFIX: &str = ".liseg-";
const SUFFIX: &str = ".tmp";

/// How long files of processes that cannot be asked for stay.
const STRANGERS: Duration = Duration::from_secs(24 * 60 * 60);

/// Who gave a name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    /// Boot and namespace.
    machine: String,
    process: u32,
    /// In ticks since the boot: process ids are used again.
    began: u64,
}

/// This process. Where the system does not tell about processes, all are strangers.
static SELF: LazyLock<Owner> = LazyLock::new(|| Owner {
    machine: machine().unwrap_or_else(|| "elsewhere".into()),
    process: std::process::id(),
    began: began(std::process::id()).unwrap_or(0),
});

impl Owner {
    fn prefix(&self) -> String {
        let Self {
            machine,
            process,
            began,
        } = self;
        format!("{PREFIX}{machine}.{process}.{began}.")
    }

    /// Of a name that [`temporary`] gave.
    fn of(name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        let name = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let parts: Vec<&str> = name.split('.').collect();
        let [machine, process, began, _] = parts[..] else {
            return None;
        };
        Some(Self {
            machine: machine.to_owned(),
            process: process.parse().ok()?,
            began: began.parse().ok()?,
        })
    }

    /// `None` when it is a process of which this one knows nothing.
    fn lives(&self) -> Option<bool> {
        let known = self.machine == SELF.machine && SELF.began > 0;
        known.then(|| began(self.process) == Some(self.began))
    }
}

/// A builder of temporary files and folders.
pub(crate) fn temporary() -> tempfile::Builder<'static, 'static> {
    static PREFIX: LazyLock<String> = LazyLock::new(|| SELF.prefix());
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX.as_str()).suffix(SUFFIX);
    builder
}

/// Removes what processes that are no more left in a folder, the first time that it is named.
pub(crate) fn clear_once(folder: &Path) {
    static CLEARED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut cleared = CLEARED.lock().unwrap_or_else(PoisonError::into_inner);
    if cleared.insert(folder.to_owned()) {
        drop(cleared);
        clear(folder);
    }
}

/// What cannot be removed stays: it is in nobody's way.
fn clear(folder: &Path) {
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    for entry in entries.flatten().filter(is_left_over) {
        let path = entry.path();
        let _ = match entry.file_type() {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
            _ => std::fs::remove_file(path),
        };
    }
}

fn is_left_over(entry: &DirEntry) -> bool {
    let Some(owner) = Owner::of(&entry.file_name()) else {
        return false;
    };
    let Ok(found) = entry.metadata() else {
        return false;
    };
    // Processes of other users may be hidden, and would seem to be no more.
    if found.is_symlink() || !is_own(&found) {
        return false;
    }
    let is_old = || {
        let age = found.modified().ok().and_then(|at| at.elapsed().ok());
        age.is_some_and(|age| age > STRANGERS)
    };
    owner.lives().map_or_else(is_old, |lives| !lives)
}

#[cfg(unix)]
fn is_own(found: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|own| own.uid() == found.uid())
}

#[cfg(not(unix))]
fn is_own(_: &Metadata) -> bool {
    true
}

/// The boot of this machine and the namespace of its process ids, which a container has for itself.
fn machine() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let namespace: String = namespace
        .to_str()?
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    Some(format!("{}-{namespace}", boot.get(..8)?))
}

/// When a process began, in ticks since the boot; `None` when there is none of this id.
fn began(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name, which may have blanks and brackets; this is the 22nd.
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::SystemTime;

    fn named(owner: &Owner) -> String {
        format!("{}aBc123{SUFFIX}", owner.prefix())
    }

    #[test]
    fn names_say_who_gave_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = temporary().tempfile_in(folder.path()).unwrap();
        let owner = Owner::of(file.path().file_name().unwrap()).unwrap();
        assert_eq!(owner, *SELF);
        assert_eq!(owner.lives(), Some(true));
        for other in [
            ".liseg-aBc123.tmp",
            ".liseg-m.1.tmp",
            ".liseg-m.x.2.a.tmp",
            "liseg-m.1.2.a.tmp",
            ".tmpaBc123",
        ] {
            assert_eq!(Owner::of(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn what_the_dead_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let living = Owner {
            process: process.id(),
            began: began(process.id()).unwrap(),
            ..SELF.clone()
        };
        // An id that is used again.
        let dead = Owner {
            began: living.began - 1,
            ..living.clone()
        };
        let stranger = Owner {
            machine: "0a1b2c3d-4026531836".into(),
            ..dead.clone()
        };
        let old = Owner {
            process: 1 + stranger.process,
            ..stranger.clone()
        };
        let stay = [
            named(&SELF),
            named(&living),
            named(&stranger),
            "case.nii.gz".into(),
            ".liseg-notes.tmp".into(),
        ];
        for name in stay.iter().chain([&named(&dead), &named(&old)]) {
            File::create(folder.path().join(name)).unwrap();
        }
        let long_ago = SystemTime::now() - STRANGERS - Duration::from_secs(60);
        let file = File::options()
            .write(true)
            .open(folder.path().join(named(&old)))
            .unwrap();
        file.set_modified(long_ago).unwrap();
        let dead_folder = named(&dead).replace("aBc123", "folder");
        std::fs::create_dir(folder.path().join(&dead_folder)).unwrap();
        std::fs::write(folder.path().join(&dead_folder).join("half"), "").unwrap();

        clear(folder.path());
        let left = || -> BTreeSet<String> {
            let entries = folder.path().read_dir().unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        assert_eq!(left(), stay.iter().cloned().collect());
        process.kill().unwrap();
        process.wait().unwrap();
        crate::write(folder.path().join("file"), "").unwrap();
        assert!(!left().contains(&named(&living)));
    }
}
