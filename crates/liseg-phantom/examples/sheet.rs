//! Writes a picture sheet of phantom patients: one row for every phase, liver yellow, spleen blue.
//!
//! `cargo run --release -p liseg-phantom --example sheet -- FOLDER [small|medium|full] [PATIENTS]`

use liseg_phantom::{Organ, PhantomConfig, Phase, Resolution, Vendor, patient};
use liseg_picture::{Layout, Picture, Plane, overlay};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(
        arguments
            .next()
            .ok_or("which folder shall the sheets go to?")?,
    );
    let resolution = match arguments.next().as_deref() {
        Some("tiny") => Resolution::Tiny,
        None | Some("small") => Resolution::Small,
        Some("medium") => Resolution::Medium,
        Some("full") => Resolution::Full,
        Some(other) => return Err(format!("`{other}` is not small, medium or full").into()),
    };
    let patients = arguments.next().map_or(Ok(4), |count| count.parse())?;
    let config = PhantomConfig {
        missing_phase_probability: 0.0,
        vendors: Vendor::ALL.to_vec(),
        ..PhantomConfig::default()
            .with_patients(patients, 0, 0)
            .with_resolution(resolution)
            .with_phases(Phase::ALL)
    };
    std::fs::create_dir_all(&folder)?;
    for index in 0..patients {
        let patient = patient(&config, index)?;
        let mut rows = Vec::new();
        for scan in &patient.scans {
            let spleen = scan.organs.map(|v| u8::from(*v == Organ::Spleen.label()));
            let outlines = [(&scan.liver, [255, 200, 0]), (&spleen, [0, 190, 255])];
            let caption = format!(
                "{} {}, vendor {}, stage {}, {}",
                patient.id,
                scan.phase,
                patient.vendor,
                patient.stage,
                scan.image.spacing()
            );
            let planes = Layout::three_planes().with_caption(caption);
            let slices = Layout::slices(Plane::Axial, 3).with_caption("without outlines");
            rows.push(Picture::beside(
                &[
                    overlay(&scan.image, &outlines, &planes)?,
                    overlay(&scan.image, &[], &slices)?,
                ],
                8,
            ));
        }
        Picture::below(&rows, 8).write_png(folder.join(format!("{}.png", patient.id)))?;
    }
    Ok(())
}
