//! Writes the report of a made-up study: `cargo run -p liseg-report --example sample_report FOLDER`.

#![allow(clippy::unwrap_used, reason = "the sample is made up of what works")]

#[path = "../tests/sample/mod.rs"]
mod sample;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args()
        .nth(1)
        .ok_or("give the folder to write into")?;
    let folder = std::path::Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    liseg_report::write_report(&sample::study(folder), &folder.join("report"))?;
    Ok(())
}
