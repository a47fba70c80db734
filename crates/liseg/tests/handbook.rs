//! Every command of the handbook does what its page says.
//!
//! The `sh` blocks of a page run one after another in an empty folder, as a reader would type them.
//! A block marked `sh,setup` is for the reader's machine only. `<!-- test: A -> B -->` in a page replaces
//! A by B before its blocks run, to shorten trainings; an A that the page does not have is an error.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The pages of the handbook.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![docs()];
    let mut pages = Vec::new();
    while let Some(at) = found.pop() {
        if at.is_dir() {
            found.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
        } else if at.extension().is_some_and(|e| e == "md") {
            pages.push(at);
        }
    }
    pages.sort();
    pages
}

/// The commands of a page, as one script.
fn script(page: &str) -> String {
    let mut commands = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => commands += &format!("{line}\n"),
            _ => {}
        }
    }
    for (what, by) in replacements(page) {
        assert!(commands.contains(what), "no command has `{what}`");
        commands = commands.replace(what, by);
    }
    commands
}

fn replacements(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.lines().filter_map(|line| {
        let inner = line.strip_prefix("<!-- test: ")?.strip_suffix(" -->")?;
        inner.split_once(" -> ")
    })
}

fn run(name: &str) {
    let page = std::fs::read_to_string(docs().join(name)).unwrap();
    let script = script(&page);
    assert!(!script.is_empty(), "{name} has no commands");
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_liseg")).parent().unwrap();
    let mut path = OsString::from(program);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name}\n{script}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_tutorial_leads_to_a_report() {
    run("tutorial.md");
}

#[test]
fn the_page_about_the_phantom() {
    run("explanation/phantom.md");
}

/// Pages that link to a file or another page name one that exists.
#[test]
fn links_between_pages_lead_somewhere() {
    let mut seen = 0;
    for at in pages() {
        let text = std::fs::read_to_string(&at).unwrap();
        for target in text.split("](").skip(1).filter_map(|t| t.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            seen += 1;
            let linked = at.parent().unwrap().join(file);
            assert!(linked.exists(), "{} links to {target}", at.display());
        }
    }
    assert!(seen > 10, "only {seen} links found");
}

/// A page that the contents do not name is not part of the book.
#[test]
fn the_contents_name_every_page() {
    let contents = std::fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    for page in pages() {
        let name = page
            .strip_prefix(docs())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let linked = contents.contains(&format!("({name})"));
        assert!(linked || name == "SUMMARY.md", "SUMMARY.md lacks {name}");
    }
}
