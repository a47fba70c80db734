//! libtorch for this checkout: find it or install it, then link it as `.libtorch`.
//!
//! `.cargo/config.toml` hands the link to torch-sys as LIBTORCH, so plain cargo commands work once
//! the link is there. It is made last, in one step: what it points to is complete.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::install;
use crate::libtorch::Libtorch;
use crate::python::{self, Python};
use crate::workspace::Workspace;

/// Makes plain cargo commands find libtorch; quick, and silent but for a line, when they do.
///
/// # Errors
/// When libtorch can neither be found nor installed; nothing is linked then.
pub(crate) fn run(workspace: &Workspace) -> Result {
    if let Some(libtorch) = linked(workspace) {
        println!("{libtorch}");
        return Ok(());
    }
    let _lock = lock(workspace)?;
    // Another setup may have ended while this one waited.
    if let Some(libtorch) = linked(workspace) {
        println!("{libtorch}");
        return Ok(());
    }
    refuse_to_replace_a_folder(&workspace.link())?;
    require_compiler()?;
    let libtorch = find_or_install(workspace)?;
    link(workspace, &libtorch)?;
    println!("{libtorch}, linked as .libtorch");
    Ok(())
}

/// Prints the libtorch that cargo commands in this checkout use.
///
/// # Errors
/// When they would find none, or an incomplete one.
pub(crate) fn check(workspace: &Workspace) -> Result {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        println!("LIBTORCH_USE_PYTORCH is set: torch-sys takes the torch of the active Python,");
        println!("and what follows only without it");
    }
    if let Some(folder) = workspace.callers_libtorch() {
        println!("{}", Libtorch::inspect(folder)?);
        println!("through LIBTORCH, which goes before .libtorch");
        return Ok(());
    }
    let link = workspace.link();
    let libtorch = Libtorch::inspect(&link)
        .map_err(|failure| failure.with_help("`cargo xtask setup` finds or installs it"))?;
    println!("{libtorch}");
    if let Ok(target) = fs::read_link(&link) {
        println!("through .libtorch -> {}", target.display());
    }
    Ok(())
}

/// What `.libtorch` holds, if that is complete and not overruled by the caller's LIBTORCH.
fn linked(workspace: &Workspace) -> Option<Libtorch> {
    let link = workspace.link();
    let libtorch = Libtorch::inspect(&link).ok()?;
    let same_place = |folder: &Path| fs::canonicalize(folder).ok() == fs::canonicalize(&link).ok();
    workspace
        .callers_libtorch()
        .is_none_or(same_place)
        .then_some(libtorch)
}

/// LIBTORCH, then a Python with torch, then PyPI.
fn find_or_install(workspace: &Workspace) -> Result<Libtorch> {
    if let Some(folder) = workspace.callers_libtorch() {
        // Never passed over in silence: plain cargo commands of the caller would use it.
        return Libtorch::inspect(&absolute(folder)?).map_err(|failure| {
            failure.with_help("LIBTORCH names that folder: correct it, or unset it")
        });
    }
    let environment = workspace.environment();
    // One that was cut short may look whole and lack files.
    let unfinished =
        |folder: &Path| folder.starts_with(&environment) && !install::finished(&environment);
    let own = Python::probe(&python::interpreter(&environment));
    for python in python::usual().into_iter().chain(own) {
        let Some(torch) = python.torch.as_deref().filter(|torch| !unfinished(torch)) else {
            continue;
        };
        match Libtorch::inspect(torch).and_then(|found| install::load(&python).map(|()| found)) {
            Ok(libtorch) => return Ok(libtorch),
            Err(failure) => println!("passing over the torch of {python}: {}", failure.what()),
        }
    }
    install::install(&environment)
}

fn absolute(folder: &Path) -> Result<PathBuf> {
    std::path::absolute(folder).map_err(|error| Failure::io("cannot resolve", folder, &error))
}

/// torch-sys compiles a C++ file: better said now than after 2.5 GB of downloads.
fn require_compiler() -> Result {
    let path = env::var_os("PATH");
    let named = ["CXX", "HOST_CXX", "TARGET_CXX"]
        .iter()
        .any(|name| env::var_os(name).is_some());
    let found = named
        || cfg!(windows)
        || ["c++", "g++", "clang++"]
            .iter()
            .any(|name| python::on_path(name, path.as_deref()).is_some());
    if found {
        return Ok(());
    }
    Err(
        Failure::new("no C++ compiler on the PATH, and the bindings to libtorch need one")
            .with_help("install g++ or clang, or name the compiler in CXX"),
    )
}

fn refuse_to_replace_a_folder(link: &Path) -> Result {
    match fs::symlink_metadata(link) {
        Ok(found) if !found.is_symlink() => {
            let reason = Libtorch::inspect(link)
                .err()
                .map_or_else(String::new, |it| it.what().to_owned());
            Err(Failure::new(format!(
                "{} is no link, and not a libtorch to use: {reason}",
                link.display()
            ))
            .with_help("move it away and run `cargo xtask setup` again"))
        }
        _ => Ok(()),
    }
}

/// Points `.libtorch` at `libtorch`; does not touch a link that does already.
fn link(workspace: &Workspace, libtorch: &Libtorch) -> Result {
    let link = workspace.link();
    // Relative inside the checkout, so that the checkout can be moved.
    let target = libtorch
        .folder
        .strip_prefix(workspace.root())
        .unwrap_or(&libtorch.folder);
    if fs::read_link(&link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let replaces = fs::symlink_metadata(&link).is_ok();
    let before = Libtorch::inspect(&link).ok();
    let temporary = workspace
        .root()
        .join(format!(".libtorch-{}", std::process::id()));
    symlink(target, &temporary)
        .and_then(|()| fs::rename(&temporary, &link))
        .map_err(|error| Failure::io("cannot make the link", &link, &error))?;
    let same_kind = before.is_some_and(|before| before.cuda == libtorch.cuda);
    if replaces && !same_kind && workspace.locks("torch-sys") {
        forget_bindings(workspace)?;
    }
    Ok(())
}

/// The bindings remember whether libtorch had CUDA kernels, and cargo cannot see that the folder
/// behind the link is another.
fn forget_bindings(workspace: &Workspace) -> Result {
    for profile in [&[][..], &["--release"]] {
        let mut cargo = workspace.cargo();
        cargo
            .args(["clean", "--quiet", "--package", "torch-sys"])
            .args(profile);
        let status = cargo.status();
        if !status.is_ok_and(|status| status.success()) {
            return Err(
                Failure::new("`cargo clean --package torch-sys` failed").with_help(
                    "`cargo clean` once by hand: the bindings were built for another libtorch",
                ),
            );
        }
    }
    Ok(())
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_dir(target, link)
}

/// One setup at a time in this checkout; the lock goes with the file when it is dropped.
fn lock(workspace: &Workspace) -> Result<File> {
    let folder = workspace.root().join("target");
    let path = folder.join("xtask-setup.lock");
    let file = fs::create_dir_all(&folder)
        .and_then(|()| File::create(&path))
        .map_err(|error| Failure::io("cannot create", &path, &error))?;
    if file.try_lock().is_err() {
        println!("waiting for another `cargo xtask setup`");
        // A file system without locks: go on without.
        let _ = file.lock();
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libtorch::VERSION;
    use crate::libtorch::tests::pretend;
    use std::time::SystemTime;

    fn found(folder: &Path) -> Libtorch {
        Libtorch::inspect(folder).unwrap()
    }

    fn made(link: &Path) -> SystemTime {
        fs::symlink_metadata(link).unwrap().modified().unwrap()
    }

    #[test]
    fn a_second_link_touches_nothing() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        pretend(elsewhere.path(), [2, 11, 0], false);
        let workspace = Workspace::at(root.path());
        link(&workspace, &found(elsewhere.path())).unwrap();
        assert_eq!(fs::read_link(workspace.link()).unwrap(), elsewhere.path());
        let before = made(&workspace.link());
        link(&workspace, &found(elsewhere.path())).unwrap();
        assert_eq!(made(&workspace.link()), before);
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "no temporary link stays"
        );
        assert_eq!(linked(&workspace).unwrap().version, VERSION);
    }

    #[test]
    fn the_link_to_our_own_environment_is_relative() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(root.path());
        let torch = workspace
            .environment()
            .join("lib/python3.11/site-packages/torch");
        pretend(&torch, [2, 11, 0], true);
        link(&workspace, &found(&torch)).unwrap();
        let target = fs::read_link(workspace.link()).unwrap();
        assert_eq!(
            target,
            Path::new(".venv/lib/python3.11/site-packages/torch")
        );
        assert!(linked(&workspace).unwrap().cuda);
    }

    #[test]
    fn a_link_moves_to_another_libtorch_of_the_same_kind() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(root.path());
        for folder in [
            elsewhere.path().join("first"),
            elsewhere.path().join("second"),
        ] {
            pretend(&folder, [2, 11, 0], false);
            link(&workspace, &found(&folder)).unwrap();
            assert_eq!(fs::read_link(workspace.link()).unwrap(), folder);
        }
        elsewhere.close().unwrap();
        assert_eq!(linked(&workspace), None, "a dangling link is no libtorch");
    }

    #[test]
    fn a_folder_in_place_of_the_link_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(root.path());
        fs::create_dir(workspace.link()).unwrap();
        let message = refuse_to_replace_a_folder(&workspace.link())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("is no link") && message.contains("is missing"),
            "{message}"
        );
        pretend(&workspace.link(), [2, 11, 0], false);
        assert!(
            linked(&workspace).is_some(),
            "libtorch unpacked in place of the link is used"
        );
    }
}
