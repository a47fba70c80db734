//! Measures a mask against a reference, in millimetres, and shows what an empty mask scores.
//!
//!     cargo run -p examples --example measure
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use anyhow::Result;
use liseg::metrics::{Measure, Settings, evaluate_case};
use liseg::volume::{Affine, LabelMap, Spacing, Volume};
use ndarray::Array3;

/// A ball of 30 mm radius, its centre `offset_mm` along x from the middle.
fn ball(offset_mm: f64) -> Result<LabelMap> {
    let spacing = Spacing::new(5.0, 1.5, 1.5)?;
    let voxels = Array3::from_shape_fn((24, 80, 80), |(z, y, x)| {
        let dz = (z as f64 - 11.5) * spacing.z();
        let dy = (y as f64 - 39.5) * spacing.y();
        let dx = (x as f64 - 39.5) * spacing.x() - offset_mm;
        u8::from(dz * dz + dy * dy + dx * dx <= 30.0 * 30.0)
    });
    Ok(Volume::new(voxels, Affine::from_spacing(spacing))?)
}

fn main() -> Result<()> {
    let reference = ball(0.0)?;
    let settings = Settings::default();
    for (name, prediction) in [
        ("equal", ball(0.0)?),
        ("3 mm to the side", ball(3.0)?),
        ("empty", reference.map(|_| 0)),
    ] {
        let case = evaluate_case(&prediction, &reference, 1, &settings)?;
        println!("{name}:");
        for measure in [Measure::Dice, Measure::Hd, Measure::Hd95, Measure::Nsd] {
            match case.get(measure) {
                Some(value) => println!("  {measure:<6} {value:.3}"),
                None => println!("  {measure:<6} undefined"),
            }
        }
        for (measure, reason) in &case.reasons {
            println!("  ({measure}: {reason})");
        }
    }
    Ok(())
}
