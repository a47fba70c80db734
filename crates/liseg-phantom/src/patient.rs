//! One patient with all scans.

use crate::anatomy::Anatomy;
use crate::contrast::Constitution;
use crate::scan::{Pose, Subject, acquire};
use crate::{PhantomConfig, Phase, Result, Scan, Vendor};
use rand::RngExt;

/// One synthetic patient.
#[derive(Debug, Clone, PartialEq)]
pub struct Patient {
    /// Name, as `patient_003` for index 3.
    pub id: String,
    /// The scanner that took all scans.
    pub vendor: Vendor,
    /// Fibrosis stage, 1 to 4: later stages have a nodular liver that takes up less contrast
    /// agent, and often a large spleen.
    pub stage: u8,
    /// The phases that were taken, in the order of the configuration; GED4 is always there.
    pub scans: Vec<Scan>,
}

impl Patient {
    /// The scan of a phase, if it was taken.
    pub fn scan(&self, phase: Phase) -> Option<&Scan> {
        self.scans.iter().find(|scan| scan.phase == phase)
    }
}

/// Makes patient `index`: training patients come first, then test patients.
///
/// Anatomy, brightness, pose and noise depend on the seed and the index alone; the configuration
/// decides which scanner takes which phases, and how finely. The result is the same for any number
/// of threads.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for a configuration that fails
/// [`PhantomConfig::check`].
pub fn patient(config: &PhantomConfig, index: usize) -> Result<Patient> {
    config.check()?;
    let vendor = config.vendor(index);
    let id = format!("patient_{index:03}");
    let index = index as u64;
    let anatomy = Anatomy::sample(config.seed, index);
    let mut rng = config.seed.stream("phantom patient", 0, index);
    let constitution = Constitution::sample(anatomy.stage, &mut rng);
    let pose = Pose::sample(&mut rng);
    let subject = Subject {
        seed: config.seed,
        index,
        vendor,
        anatomy: &anatomy,
        constitution: &constitution,
        pose: &pose,
    };
    let taken = |phase: Phase| {
        let purpose = format!("phantom missing {phase}");
        let mut rng = config.seed.stream(&purpose, 0, index);
        phase == Phase::Ged4 || !rng.random_bool(config.missing_phase_probability)
    };
    let phases = config.phases.iter().filter(|phase| taken(**phase));
    let scans = phases.map(|&phase| acquire(&subject, phase, config));
    Ok(Patient {
        id,
        vendor,
        stage: anatomy.stage,
        scans: scans.collect::<Result<_>>()?,
    })
}
