//! What a user can choose about a phantom.

use crate::{Error, Phase, Result, Vendor};
use liseg_volume::Seed;
use serde::{Deserialize, Serialize};

/// How fine the images are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// About 14×6.6×6.6 mm and 15×52×52 voxels, an eighth of those of `Small`: to see that something runs.
    Tiny,
    /// About 7×3.3×3.3 mm and 30×104×104 voxels: for tests and for training on a processor.
    Small,
    /// About 4.5×2×2 mm and 48×176×160 voxels.
    Medium,
    /// About 3×1×1 mm and 70×360×330 voxels, near the LiQA challenge.
    Full,
}

/// A phantom data set. Everything in it follows from this.
///
/// Patient `index` has the same anatomy in every data set of one seed, whatever else is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PhantomConfig {
    /// The seed of all random streams. Default: 0.
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    pub seed: Seed,
    /// Training patients, labelled and unlabelled, 1 to 9999 together with the test patients.
    /// Default: 12, enough to train on in minutes.
    pub patients: usize,
    /// Training patients whose labels are given, the first ones. Default: 4. (The LiQA
    /// challenge labels 30 of 360.)
    pub labelled: usize,
    /// Phases whose labels are given for these patients. Default: GED4 alone, as in LiQA.
    pub labelled_phases: Vec<Phase>,
    /// Held-out patients, with labels for all phases; they follow the training patients.
    /// Default: 4, one from each vendor.
    pub test_patients: usize,
    /// How fine the images are. Default: small.
    pub resolution: Resolution,
    /// Phases to make; GED4 must be among them. Default: GED4, T1WI, T2WI and DWI, those that the
    /// LiQA challenge scores.
    pub phases: Vec<Phase>,
    /// Probability that a patient lacks a phase other than GED4, 0 to 1. Default: 0.1. (In LiQA's
    /// training data 0 to 16 %, depending on phase and vendor.)
    pub missing_phase_probability: f64,
    /// Vendors of the training patients, in turn. Default: A, B1, B2, as in LiQA.
    pub vendors: Vec<Vendor>,
    /// Vendors of the test patients, in turn. Default: A, B1, B2 and the unseen C, as in LiQA.
    pub test_vendors: Vec<Vendor>,
}

impl Default for PhantomConfig {
    fn default() -> Self {
        Self {
            seed: Seed(0),
            patients: 12,
            labelled: 4,
            labelled_phases: vec![Phase::Ged4],
            test_patients: 4,
            resolution: Resolution::Small,
            phases: vec![Phase::Ged4, Phase::T1, Phase::T2, Phase::Dwi],
            missing_phase_probability: 0.1,
            vendors: vec![Vendor::A, Vendor::B1, Vendor::B2],
            test_vendors: Vendor::ALL.to_vec(),
        }
    }
}

impl PhantomConfig {
    /// Sets the seed.
    pub fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the numbers of training patients, of labelled ones among them, and of test patients.
    pub fn with_patients(mut self, patients: usize, labelled: usize, test: usize) -> Self {
        (self.patients, self.labelled, self.test_patients) = (patients, labelled, test);
        self
    }

    /// Sets how fine the images are.
    pub fn with_resolution(mut self, resolution: Resolution) -> Self {
        self.resolution = resolution;
        self
    }

    /// Sets the phases to make.
    pub fn with_phases(mut self, phases: impl Into<Vec<Phase>>) -> Self {
        self.phases = phases.into();
        self
    }

    /// Sets the phases whose labels are given for labelled patients.
    pub fn with_labelled_phases(mut self, phases: impl Into<Vec<Phase>>) -> Self {
        self.labelled_phases = phases.into();
        self
    }

    /// Whether a training scan of a phase has its label.
    pub(crate) fn is_labelled(&self, index: usize, phase: Phase) -> bool {
        index < self.labelled && self.labelled_phases.contains(&phase)
    }

    /// Whether a patient is a test patient.
    pub fn is_test(&self, index: usize) -> bool {
        index >= self.patients
    }

    /// The vendor of a patient.
    pub(crate) fn vendor(&self, index: usize) -> Vendor {
        let (vendors, place) = if self.is_test(index) {
            (&self.test_vendors, index - self.patients)
        } else {
            (&self.vendors, index)
        };
        // Never empty after `check`.
        let place = place % vendors.len().max(1);
        vendors.get(place).copied().unwrap_or(Vendor::A)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`], naming the first field with an impossible value.
    pub fn check(&self) -> Result<()> {
        let refuse = |field, found: String, expected: &str| {
            Err(Error::Config {
                field,
                found,
                expected: expected.to_owned(),
            })
        };
        let total = self.patients.saturating_add(self.test_patients);
        if self.patients == 0 || total > 9999 {
            let expected = "1 to 9999 together with `test_patients`";
            return refuse("patients", self.patients.to_string(), expected);
        }
        if self.labelled > self.patients {
            let expected = format!("at most the {} training patients", self.patients);
            return refuse("labelled", self.labelled.to_string(), &expected);
        }
        let unique = |phase: &Phase| self.phases.iter().filter(|p| *p == phase).count() == 1;
        if !self.phases.contains(&Phase::Ged4) || !self.phases.iter().all(unique) {
            let found: Vec<_> = self.phases.iter().map(Phase::to_string).collect();
            let expected = "different phases with GED4 among them";
            return refuse("phases", format!("[{}]", found.join(", ")), expected);
        }
        if let Some(absent) = self
            .labelled_phases
            .iter()
            .find(|p| !self.phases.contains(p))
        {
            let expected = "some of the phases that are made";
            return refuse("labelled_phases", absent.to_string(), expected);
        }
        if !(0.0..=1.0).contains(&self.missing_phase_probability) {
            let found = self.missing_phase_probability.to_string();
            return refuse("missing_phase_probability", found, "0 to 1");
        }
        for (field, vendors) in [
            ("vendors", &self.vendors),
            ("test_vendors", &self.test_vendors),
        ] {
            if vendors.is_empty() {
                return refuse(field, "empty".into(), "at least one vendor");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_json() {
        let config = PhantomConfig::default();
        config.check().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<PhantomConfig>(&json).unwrap(),
            config
        );
        assert_eq!(serde_json::from_str::<PhantomConfig>("{}").unwrap(), config);
        assert!(serde_json::from_str::<PhantomConfig>("{\"patient\": 3}").is_err());
    }

    #[test]
    fn every_rule_names_its_field() {
        let default = PhantomConfig::default;
        let vendors = PhantomConfig {
            vendors: Vec::new(),
            ..default()
        };
        let test_vendors = PhantomConfig {
            test_vendors: Vec::new(),
            ..default()
        };
        let missing = PhantomConfig {
            missing_phase_probability: f64::NAN,
            ..default()
        };
        for (config, field) in [
            (default().with_patients(0, 0, 3), "patients"),
            (default().with_patients(9000, 0, 1000), "patients"),
            (default().with_patients(2, 3, 1), "labelled"),
            (default().with_phases([Phase::T1]), "phases"),
            (default().with_phases([Phase::Ged4, Phase::Ged4]), "phases"),
            (
                default().with_labelled_phases([Phase::Ged1]),
                "labelled_phases",
            ),
            (missing, "missing_phase_probability"),
            (vendors, "vendors"),
            (test_vendors, "test_vendors"),
        ] {
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(&format!("`{field}`")), "{message}");
        }
    }

    #[test]
    fn vendors_take_turns() {
        let config = PhantomConfig::default().with_patients(4, 1, 4);
        let vendors: Vec<_> = (0..8).map(|i| config.vendor(i).to_string()).collect();
        assert_eq!(vendors, ["A", "B1", "B2", "A", "A", "B1", "B2", "C"]);
    }
}
