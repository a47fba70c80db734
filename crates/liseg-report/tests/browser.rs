//! The page in a browser: on a phone, on a desktop, in the dark and on paper.
#![cfg(unix)]

use liseg_report::write_report;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the page around it what became of this one.
const WITNESS: &str = r#"<script>
addEventListener("load", () => {
  const all = [...document.images];
  const root = document.documentElement;
  parent.postMessage([
    "width=" + innerWidth,
    "shown=" + all.filter((image) => image.complete && image.naturalWidth > 0).length,
    "pictures=" + all.length,
    "charts=" + [...document.querySelectorAll("svg")].filter((svg) => svg.getBoundingClientRect().height > 40).length,
    "beyond=" + Math.max(0, root.scrollWidth - root.clientWidth),
    "paper=" + getComputedStyle(document.body).backgroundColor.match(/\d+/)[0],
    "ink=" + getComputedStyle(document.body).color.match(/\d+/)[0],
    "text=" + document.body.innerText.length,
  ].join(" "), "*");
});
</script></body>"#;

/// Shows the page in three widths and notes what it hears.
const AROUND: &str = r#"<!DOCTYPE html><body><script>
addEventListener("message", (event) => {
  const line = document.createElement("li");
  line.textContent = event.data;
  document.body.append(line);
});
for (const width of [390, 800, 1300]) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px";
  frame.style.height = "900px";
  frame.style.border = "0";
  frame.src = "page.html";
  document.body.append(frame);
}
</script></body>"#;

fn chromium() -> Option<PathBuf> {
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path).flat_map(|at| names.map(|name| at.join(name)));
    programs.find(|program| program.is_file())
}

/// Starts Chromium on a file, without a window, a network or anyone's profile.
fn browse(program: &Path, file: &Path, arguments: &[&str]) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What one frame told: a number by name.
fn told(line: &str, name: &str) -> u32 {
    let found = line
        .split(' ')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs Chromium on the PATH"]
fn the_page_is_readable_on_any_screen_and_on_paper() {
    let program = chromium().expect("Chromium is on the PATH");
    let folder = tempfile::tempdir().unwrap();
    let page = write_report(
        &crate::sample::study(folder.path()),
        &folder.path().join("report"),
    )
    .unwrap();
    let html = std::fs::read_to_string(&page).unwrap();
    let pictures = u32::try_from(html.matches("<img").count()).unwrap();
    assert!(pictures >= 4);
    // The page forbids scripts; its copy lets the witness in.
    let policy = "default-src 'none'";
    assert!(html.contains(policy) && html.contains("</body>"));
    let witnessed = html
        .replace(policy, "default-src 'none'; script-src 'unsafe-inline'")
        .replace("</body>", WITNESS);
    std::fs::write(folder.path().join("page.html"), witnessed).unwrap();
    let around = folder.path().join("around.html");
    std::fs::write(&around, AROUND).unwrap();

    for dark in [false, true] {
        let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
        let wait = "--virtual-time-budget=20000";
        let dom = browse(&program, &around, &["--dump-dom", wait, &scheme]);
        let lines: Vec<&str> = dom
            .split("<li>")
            .skip(1)
            .map(|rest| rest.split("</li>").next().unwrap())
            .collect();
        assert_eq!(lines.len(), 3, "{dom}");
        for line in lines {
            assert_eq!(told(line, "shown"), pictures, "{line}");
            assert_eq!(told(line, "pictures"), pictures, "{line}");
            assert!(told(line, "charts") >= 6, "{line}");
            assert_eq!(told(line, "beyond"), 0, "the page scrolls sideways: {line}");
            assert!(told(line, "text") > 2000, "{line}");
            let (paper, ink) = (told(line, "paper"), told(line, "ink"));
            assert!(
                if dark {
                    paper + 100 < ink
                } else {
                    ink + 100 < paper
                },
                "{line}"
            );
        }
    }

    let pdf = folder.path().join("page.pdf");
    let print = format!("--print-to-pdf={}", pdf.display());
    browse(&program, &page, &[&print]);
    let printed = std::fs::read(&pdf).unwrap();
    assert!(printed.starts_with(b"%PDF-"));
    let sheets = printed
        .windows(12)
        .filter(|w| w == b"/Type /Page\n")
        .count();
    assert!((2..30).contains(&sheets), "{sheets} sheets");
}
