//! `liseg phantom`.

use super::{Outcome, Result, Shared, print_json, progress, say};
use liseg::phantom::{PhantomConfig, Resolution, write_liqa, write_nnunet};
use liseg::volume::Seed;
use serde_json::json;
use std::path::PathBuf;

/// Make a synthetic multi-phase abdominal MRI dataset with exact masks.
///
/// Every patient has a liver, spleen, kidneys, vessels, stomach, spine, fat and lungs of its own
/// shape, seen in several phases by scanners of several vendors, some phases missing. One seed gives
/// one dataset, to the bit.
#[derive(Debug, clap::Args)]
pub(crate) struct Phantom {
    /// Folder for the dataset; it must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Training patients.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 12,
        allow_negative_numbers = true
    )]
    patients: u16,
    /// Training patients whose GED4 scan has a mask.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4,
        allow_negative_numbers = true
    )]
    labelled: u16,
    /// Held-out patients, all phases with masks; every fourth from a vendor that training lacks.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4,
        allow_negative_numbers = true
    )]
    test: u16,
    /// How fine the images are.
    #[arg(long, value_enum, default_value_t = Detail::Small)]
    resolution: Detail,
    /// How the folders are laid out: nnU-Net's raw layout, or that of the LiQA challenge.
    #[arg(long, value_enum, default_value_t = Layout::Nnunet)]
    layout: Layout,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Detail {
    /// 15 × 52 × 52 voxels of 14 × 6.6 × 6.6 mm.
    Tiny,
    /// 30 × 104 × 104 voxels of 7 × 3.3 × 3.3 mm.
    Small,
    /// 48 × 176 × 160 voxels of 4.5 × 2 × 2 mm.
    Medium,
    /// 70 × 360 × 330 voxels of 3 × 1 × 1 mm.
    Full,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Layout {
    Nnunet,
    Liqa,
}

impl Phantom {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let config = PhantomConfig::default()
            .with_seed(Seed(shared.seed.unwrap_or(0)))
            .with_patients(self.patients.into(), self.labelled.into(), self.test.into())
            .with_resolution(match self.resolution {
                Detail::Tiny => Resolution::Tiny,
                Detail::Small => Resolution::Small,
                Detail::Medium => Resolution::Medium,
                Detail::Full => Resolution::Full,
            });
        let spinner = progress::spinner(shared, "drawing patients");
        let written = match self.layout {
            Layout::Nnunet => write_nnunet(&config, &self.out),
            Layout::Liqa => write_liqa(&config, &self.out),
        };
        spinner.finish_and_clear();
        let written = written?;
        if shared.json {
            print_json(&json!({
                "folder": written.folder,
                "patients": written.patients,
                "labelled": written.labelled,
                "unlabelled": written.unlabelled,
                "test": written.test,
            }));
        } else {
            say!(
                "{} patients: {} labelled, {} unlabelled, {} test scans in {}",
                written.patients,
                written.labelled,
                written.unlabelled,
                written.test,
                written.folder.display()
            );
        }
        Ok(Outcome::Done)
    }
}
