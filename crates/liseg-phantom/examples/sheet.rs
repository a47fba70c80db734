//! Pictures of some phantom patients: one row for every phase.
use liseg_phantom::{Organ, PhantomConfig, Phase, Resolution, patient};
use liseg_picture::{Layout, Picture, Plane, overlay};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let folder = std::path::PathBuf::from(&arguments[1]);
    let resolution = match arguments[2].as_str() {
        "small" => Resolution::Small,
        "medium" => Resolution::Medium,
        _ => Resolution::Full,
    };
    for index in arguments[3].split(',') {
        let index: usize = index.parse()?;
        let config = PhantomConfig {
            resolution,
            missing_phase_probability: 0.0,
            phases: Phase::ALL.to_vec(),
            vendors: liseg_phantom::Vendor::ALL.to_vec(),
            ..PhantomConfig::default().with_patients(900, 4, 4)
        };
        let start = Instant::now();
        let patient = patient(&config, index)?;
        println!(
            "{} {} S{} {:?}",
            patient.id,
            patient.vendor,
            patient.stage,
            start.elapsed()
        );
        let mut rows = Vec::new();
        for scan in &patient.scans {
            let ml = scan.liver.data().iter().filter(|v| **v == 1).count() as f64
                * scan.liver.spacing().voxel_volume_mm3()
                / 1000.0;
            println!(
                "  {} {:?} {} {ml:.0} ml",
                scan.phase,
                scan.image.shape(),
                scan.image.spacing()
            );
            let spleen = scan.organs.map(|&v| u8::from(v == Organ::Spleen.label()));
            let caption = format!(
                "{} {} vendor {} S{} {}",
                patient.id,
                scan.phase,
                patient.vendor,
                patient.stage,
                scan.image.spacing()
            );
            let three = overlay(
                &scan.image,
                &[(&scan.liver, [255, 200, 0]), (&spleen, [0, 200, 255])],
                &Layout::three_planes().with_caption(caption),
            )?;
            let plain = overlay(&scan.image, &[], &Layout::three_planes())?;
            let slices = overlay(&scan.image, &[], &Layout::slices(Plane::Axial, 3))?;
            rows.push(Picture::beside(
                &[
                    three,
                    plain.captioned("no outline", 2),
                    slices.captioned("slices", 2),
                ],
                6,
            ));
        }
        Picture::below(&rows, 6).write_png(folder.join(format!("{}.png", patient.id)))?;
        let ged4 = patient.scan(Phase::Ged4).ok_or("no GED4")?;
        let mask: Vec<u8> = ged4.liver.data().iter().copied().collect();
        let values: Vec<f32> = ged4.image.data().iter().copied().collect();
        let total = mask.iter().filter(|v| **v == 1).count() as f64;
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_unstable_by(|a, b| values[*b].total_cmp(&values[*a]));
        let (mut hit, mut best) = (0.0, 0.0f64);
        for (n, i) in order.iter().enumerate() {
            hit += f64::from(mask[*i]);
            best = best.max(2.0 * hit / (n as f64 + 1.0 + total));
        }
        println!("best threshold Dice {best:.3}");
        let nine = overlay(
            &ged4.image,
            &[(&ged4.liver.map(|v| *v), [0, 0, 0])][..0],
            &Layout::slices(Plane::Axial, 4).with_pixels_per_mm(1.6),
        )?;
        let cor = overlay(
            &ged4.image,
            &[(&ged4.liver, [255, 200, 0])],
            &Layout::slices(Plane::Coronal, 4).with_pixels_per_mm(1.6),
        )?;
        Picture::below(&[nine, cor], 4)
            .write_png(folder.join(format!("{}_ged4.png", patient.id)))?;
    }
    Ok(())
}
