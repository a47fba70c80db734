//! The links of a folder of HTML pages, each followed to the file and the place in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::failure::{Failure, Result};

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) pages: usize,
    pub(crate) links: usize,
}

/// Follows every link inside `folder`; what leads out of it to the network is not followed.
///
/// # Errors
/// Lists the links that lead nowhere, each with its page.
pub(crate) fn check(folder: &Path) -> Result<Checked> {
    let mut pages = BTreeMap::new();
    read_pages(folder, folder, &mut pages)?;
    let names: BTreeMap<&Path, BTreeSet<&str>> = pages
        .iter()
        .map(|(page, text)| {
            let names = attributes(text, "id").chain(attributes(text, "name"));
            (page.as_path(), names.collect())
        })
        .collect();
    let mut links = 0;
    let mut broken = BTreeSet::new();
    for (page, text) in &pages {
        // Served for any address that is not there, so its links begin at the site's root.
        if page == Path::new("404.html") {
            continue;
        }
        for link in attributes(text, "href").chain(attributes(text, "src")) {
            if leads_out(link) {
                continue;
            }
            links += 1;
            if let Err(reason) = follow(folder, page, link, &names) {
                broken.insert(format!("{}: {link} ({reason})", page.display()));
            }
        }
    }
    if broken.is_empty() {
        let pages = pages.len();
        return Ok(Checked { pages, links });
    }
    let list: Vec<String> = broken.into_iter().collect();
    Err(Failure::new(format!(
        "{} links of the handbook lead nowhere:\n{}",
        list.len(),
        list.join("\n")
    )))
}

/// Collects the HTML files below `at` by their path below `root`.
fn read_pages(root: &Path, at: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result {
    let failed = |error| Failure::io("cannot read", at, &error);
    for entry in fs::read_dir(at).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            read_pages(root, &path, pages)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "html")
        {
            let text = fs::read_to_string(&path)
                .map_err(|error| Failure::io("cannot read", &path, &error))?;
            let name = path.strip_prefix(root).unwrap_or(&path);
            pages.insert(name.to_owned(), text);
        }
    }
    Ok(())
}

/// The values of an attribute, in double quotes as generators of HTML write them.
fn attributes<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let opening = format!(" {name}=\"");
    let mut rest = html;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&opening)?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        Some(value)
    })
}

fn leads_out(link: &str) -> bool {
    let scheme = link.split(['/', '#', '?']).next().unwrap_or_default();
    link.starts_with("//") || scheme.contains(':')
}

/// # Errors
/// Says what is missing.
fn follow(
    folder: &Path,
    page: &Path,
    link: &str,
    names: &BTreeMap<&Path, BTreeSet<&str>>,
) -> Result<(), &'static str> {
    let link = link.replace("&amp;", "&");
    let (path, place) = link.split_once('#').unwrap_or((&link, ""));
    let path = decoded(path.split('?').next().unwrap_or_default());
    let target = if path.is_empty() {
        page.to_owned()
    } else {
        let beside = page.parent().unwrap_or(Path::new("")).join(&path);
        let target = without_dots(&beside).ok_or("outside of the handbook")?;
        if folder.join(&target).is_dir() {
            target.join("index.html")
        } else {
            target
        }
    };
    if !folder.join(&target).is_file() {
        return Err("no such file");
    }
    match names.get(target.as_path()) {
        Some(names) if !place.is_empty() && !names.contains(decoded(place).as_str()) => {
            Err("no such place in that page")
        }
        _ => Ok(()),
    }
}

/// Resolves `..`; `None` when it leads above the start.
fn without_dots(path: &Path) -> Option<PathBuf> {
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::CurDir => {}
            Component::ParentDir if resolved.pop() => {}
            _ => return None,
        }
    }
    Some(resolved)
}

/// Turns `%20` and its like into the characters they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(pages: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in pages {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        folder
    }

    #[test]
    fn links_to_pages_places_and_pictures_are_followed() {
        let folder = site(&[
            (
                "index.html",
                "<a href=\"how-to/a%20b.html#units-in-%C2%B5m\">a</a><a href=\"#top\">b</a>\
                 <h1 id=\"top\">x</h1><img alt=\"\" src=\"p.png\"><a href=\"how-to\">c</a>\
                 <a href=\"https://example.org/none\">d</a><a href=\"mailto:a@b\">e</a>",
            ),
            ("how-to/a b.html", "<h2 id=\"units-in-µm\">x</h2>"),
            (
                "how-to/index.html",
                "<a href=\"../index.html?x=1#top\">x</a>",
            ),
            ("404.html", "<a href=\"/anywhere.html\">x</a>"),
            ("p.png", ""),
        ]);
        let checked = check(folder.path()).unwrap();
        assert_eq!(checked, Checked { pages: 4, links: 5 });
    }

    #[test]
    fn what_leads_nowhere_is_listed_with_its_page() {
        for (link, reason) in [
            ("missing.html", "no such file"),
            ("index.html#nowhere", "no such place in that page"),
            ("#nowhere", "no such place in that page"),
            ("../../Dockerfile", "outside of the handbook"),
        ] {
            let folder = site(&[("index.html", &format!("<p><a href=\"{link}\">x</a>"))]);
            let message = check(folder.path()).unwrap_err().to_string();
            assert!(
                message.contains(&format!("index.html: {link} ({reason})")),
                "{message}"
            );
        }
    }
}
