//! `liseg split`.

use super::failure::chain;
use super::{Failure, Outcome, Result, Shared, outputs, print_as_json, say, terminal};
use liseg::data::{
    Case, Dataset, Fold, SplitProtocol, Subset, choose_unlabelled, folds, holdout, nnunet_folds,
    phases_of, reduce_labels, write_splits,
};
use liseg::volume::Seed;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// nnU-Net's seed for folds.
const NNUNET_SEED: u32 = 12345;

/// Part labelled cases into training and validation, by patient and vendor.
///
/// Patients stay together and vendors are spread evenly; the file is nnU-Net's `splits_final.json`
/// with a third list, `unlabelled`, that leaves out other phases of the patients who are validated
/// on. `train` reads it with `--set validation.splits=FILE`.
#[derive(Debug, clap::Args)]
pub(crate) struct Split {
    /// A dataset in nnU-Net's raw layout.
    dataset: PathBuf,
    /// Where to write the folds; DATASET/splits_final.json when absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Parts to cut the labelled patients into, each of them validated on once.
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with_all = ["validation", "paper"])]
    folds: usize,
    /// Make the very folds that nnU-Net makes: by case, without a look at patients or vendors.
    #[arg(long, conflicts_with_all = ["validation", "paper"])]
    nnunet: bool,
    /// Keep this many labelled patients back, once, in place of folds.
    #[arg(long, value_name = "N", conflicts_with = "paper")]
    validation: Option<usize>,
    /// Label budget: leave the labels of this many training patients; the rest becomes unlabelled.
    /// A larger budget of one seed holds every smaller one.
    #[arg(long, value_name = "N")]
    labelled: Option<usize>,
    /// Use this many unlabelled patients of each vendor, as in A=90,B1=90,B2=40.
    #[arg(long, value_name = "VENDOR=N", value_delimiter = ',', value_parser = parse_share)]
    unlabelled: Vec<(String, usize)>,
    /// Use unlabelled cases of these phases only, as in GED4; `contrast` is GED4, `non_contrast` T1WI, T2WI
    /// and DWI.
    #[arg(long, value_name = "PHASES", value_delimiter = ',')]
    unlabelled_phases: Vec<String>,
    /// The LiSeg paper's protocol on LiQA: 25 labelled patients train and 5 validate, with 220
    /// unlabelled GED4 scans, 90 of A, 90 of B1 and 40 of B2.
    #[arg(long, conflicts_with_all = ["unlabelled", "unlabelled_phases"])]
    paper: bool,
}

fn parse_share(text: &str) -> std::result::Result<(String, usize), String> {
    text.split_once('=')
        .and_then(|(vendor, count)| Some((vendor.trim().to_owned(), count.trim().parse().ok()?)))
        .ok_or_else(|| "expected VENDOR=NUMBER, as in A=90".to_owned())
}

impl Split {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let out = self
            .out
            .clone()
            .unwrap_or_else(|| self.dataset.join("splits_final.json"));
        outputs::check(&[("--out", Some(&out))], &[])?;
        let dataset = Dataset::open(&self.dataset)?;
        let seed = Seed(shared.seed.unwrap_or(0));
        let made = self.make(&dataset, seed, shared.seed)?;
        for oddity in dataset.oddities() {
            tracing::warn!("{oddity}");
        }
        for case in dataset.refused() {
            terminal::complain(&format!("{}: {}", case.id, chain(&case.error())));
        }
        write_splits(&out, &made)?;
        if shared.json {
            print_as_json(serde_json::to_value(&made))?;
        } else {
            for (number, fold) in made.iter().enumerate() {
                print(number, fold, dataset.cases());
            }
            say!("written to {}", out.display());
        }
        Ok(match dataset.refused() {
            [] => Outcome::Done,
            _ => Outcome::Partly,
        })
    }

    fn make(&self, dataset: &Dataset, seed: Seed, asked: Option<u64>) -> Result<Vec<Fold>> {
        let cases = dataset.cases();
        let phases = phases_of("--unlabelled-phases", &self.unlabelled_phases, cases);
        let phases = phases.map_err(|error| Failure::usage(error.to_string()))?;
        let labelled = || dataset.subset(Subset::Labelled);
        let made = match self.validation {
            _ if self.paper => {
                let protocol = SplitProtocol {
                    seed: seed.0,
                    ..SplitProtocol::paper()
                };
                return Ok(vec![self.with_fewer_labels(
                    protocol.draw(cases)?,
                    cases,
                    seed,
                )?]);
            }
            Some(count) => vec![holdout(labelled(), count, seed)?],
            None if self.nnunet => {
                let ids: Vec<String> = labelled().map(|case| case.id.clone()).collect();
                let seed = asked.map_or(Ok(NNUNET_SEED), u32::try_from);
                let seed = seed.map_err(|_| Failure::usage("nnU-Net's seed has 32 bits"))?;
                nnunet_folds(&ids, self.folds, seed)?
            }
            None => folds(labelled(), self.folds, seed)?,
        };
        let wanted: BTreeMap<String, usize> = self.unlabelled.iter().cloned().collect();
        let finished = made.into_iter().map(|fold| {
            let fold = fold.with_unlabelled(cases);
            let fold = match wanted.is_empty() {
                true => fold.of_phases(&phases, cases),
                false => choose_unlabelled(fold, cases, &wanted, &phases, seed)?,
            };
            self.with_fewer_labels(fold, cases, seed)
        });
        finished.collect()
    }

    fn with_fewer_labels(&self, fold: Fold, cases: &[Case], seed: Seed) -> Result<Fold> {
        Ok(match self.labelled {
            Some(count) => reduce_labels(fold, cases, count, seed)?,
            None => fold,
        })
    }
}

/// One line per list of a fold, with its vendors.
fn print(number: usize, fold: &Fold, cases: &[Case]) {
    let line = |name: &str, ids: &[String]| {
        let mut vendors: BTreeMap<&str, usize> = BTreeMap::new();
        for id in ids {
            let case = cases.iter().find(|case| &case.id == id);
            let vendor = case.and_then(|case| case.vendor.as_deref()).unwrap_or("?");
            *vendors.entry(vendor).or_default() += 1;
        }
        let shares: Vec<String> = vendors.iter().map(|(v, n)| format!("{v} {n}")).collect();
        say!(
            "fold {number}  {name:<10} {:>5}  ({})",
            ids.len(),
            shares.join(", ")
        );
    };
    line("train", &fold.training);
    line("validate", &fold.validation);
    line("unlabelled", fold.unlabelled.as_deref().unwrap_or_default());
}
