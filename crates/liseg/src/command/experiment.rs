//! `liseg experiment`.

use super::{Failure, Outcome, Result, Shared, interrupt, print_json, progress};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use indicatif::ProgressBar;
use liseg::engine::TrainEvent;
use liseg::engine::experiment::{
    Experiment, ExperimentEvent, Level, Prepared, ResultTable, prepare, run_experiment,
};
use std::path::{Path, PathBuf};

/// Run a grid of trainings and judge them in one table.
///
/// The file names datasets (or phantoms to stand in for them), settings, methods, seeds and label
/// budgets; `examples/experiments` has those of the paper's tables. Runs that are done are skipped and
/// one that was interrupted goes on, so the same call continues an experiment. Writes table.md,
/// table.csv and table.json into the experiment's folder.
#[derive(Debug, clap::Args)]
pub(crate) struct ExperimentVerb {
    /// The experiment, a TOML file.
    file: PathBuf,
    /// Folder for datasets, runs and the table; `runs/<the experiment's name>` when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only list the runs, with what each depends on.
    #[arg(long)]
    list: bool,
}

impl ExperimentVerb {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let mut experiment =
            Experiment::read(&self.file).map_err(|e| Failure::usage(super::failure::chain(&e)))?;
        if let Some(seed) = shared.seed {
            experiment.seeds = vec![seed];
        }
        if let Some(device) = shared.device {
            let text = device.to_string();
            experiment.run.insert("device".into(), text.into());
        }
        let folder = self.out.clone();
        let folder = folder.unwrap_or_else(|| Path::new("runs").join(&experiment.name));
        if self.list {
            return list(&experiment, shared);
        }
        std::fs::create_dir_all(&folder)
            .map_err(|e| Failure::work(format!("{}: {e}", folder.display())))?;
        interrupt::listen();
        let bar = progress::bar(shared, 0, &experiment.name);
        let mut tell = |event: ExperimentEvent<'_>| tell(&event, &bar, shared);
        let prepared = prepare(&experiment, &folder, &mut tell)?;
        let table = run_experiment(&experiment, &prepared, &mut tell, &interrupt::asked);
        bar.finish_and_clear();
        let Some(table) = table? else {
            println!(
                "stopped; go on with: liseg experiment {} --out {}",
                self.file.display(),
                folder.display()
            );
            return Ok(Outcome::Partly);
        };
        table.write(&folder)?;
        if shared.json {
            print_json(&serde_json::to_value(&table).unwrap_or_default());
        } else {
            print(&table, &prepared, &folder);
        }
        Ok(Outcome::Done)
    }
}

fn list(experiment: &Experiment, shared: &Shared) -> Result<Outcome> {
    let phantoms = experiment.datasets.iter().map(|(name, source)| {
        let given = source.path.as_ref().is_some_and(|path| path.is_dir());
        (name.clone(), !given)
    });
    let plan = experiment.plan(&phantoms.collect(), &|name| {
        PathBuf::from("data").join(name)
    })?;
    if shared.json {
        let runs = plan.runs.iter().map(|run| {
            serde_json::json!({"id": run.id, "method": run.method, "after": run.after,
                "labels": run.budget, "seed": run.seed, "steps": run.config.iterations()})
        });
        print_json(&runs.collect());
        return Ok(Outcome::Done);
    }
    for run in &plan.runs {
        let after = run
            .after
            .as_ref()
            .map_or(String::new(), |id| format!(", after {id}"));
        println!("{}: {} steps{after}", run.id, run.config.iterations());
    }
    println!("{} runs", plan.runs.len());
    Ok(Outcome::Done)
}

fn tell(event: &ExperimentEvent<'_>, bar: &ProgressBar, shared: &Shared) {
    match event {
        ExperimentEvent::Preparing { dataset, what } => {
            progress::note(shared, Some(bar), &format!("{dataset}: {what}"));
        }
        ExperimentEvent::Run {
            run,
            index,
            total,
            finished,
        } => {
            let state = if *finished { "done before" } else { "training" };
            let line = format!("[{}/{total}] {}: {state}", index + 1, run.id);
            progress::note(shared, Some(bar), &line);
            bar.set_length(run.config.iterations());
            bar.set_position(0);
            bar.set_message(run.id.clone());
        }
        ExperimentEvent::Training(TrainEvent::Step { done, .. }) => bar.set_position(*done),
        ExperimentEvent::Training(TrainEvent::Epoch(record)) => {
            if shared.verbose > 0 {
                let terms = record.terms.iter();
                let terms: Vec<String> = terms.map(|(k, v)| format!("{k} {v:.3}")).collect();
                let line = format!("epoch {:>3}  {}", record.epoch, terms.join("  "));
                progress::note(shared, Some(bar), &line);
            }
            for warning in &record.warnings {
                progress::note(shared, Some(bar), &format!("warning: {warning}"));
            }
        }
        ExperimentEvent::Training(TrainEvent::Started { .. }) => {}
        ExperimentEvent::Judging => progress::note(shared, Some(bar), "predicting and judging"),
    }
}

fn print(result: &ResultTable, prepared: &Prepared, folder: &Path) {
    println!("{}", result.name);
    if prepared.phantoms.get("target") == Some(&true) {
        println!("a phantom stood in for the data: not comparable with published figures");
    }
    let paper = result.rows.iter().any(|row| row.paper.is_some());
    let mut heads = vec![
        "labels",
        "phase",
        "where",
        "method",
        "n",
        "DSC",
        "HD mm",
        "HD95 mm",
        "vs control",
        "p Holm",
    ];
    if paper {
        heads.push("paper");
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(heads);
    let level = |level: &Option<Level>, digits: usize| {
        level.map_or("–".to_owned(), |l| {
            format!(
                "{:.digits$} [{:.digits$}, {:.digits$}]",
                l.mean, l.low, l.high
            )
        })
    };
    for row in &result.rows {
        let versus = row.versus.as_ref();
        let mut cells = vec![
            row.labels.map_or("all".to_owned(), |n| n.to_string()),
            row.phase.clone(),
            row.distribution.clone(),
            row.method.clone(),
            row.n.to_string(),
            level(&row.dice, 3),
            level(&row.hd, 1),
            level(&row.hd95, 1),
            versus.map_or(String::new(), |v| {
                let d = v.difference;
                format!("{:+.3} [{:+.3}, {:+.3}]", d.mean, d.low, d.high)
            }),
            versus.map_or(String::new(), |v| format!("{:.3}", v.p_holm)),
        ];
        if paper {
            let figures = row.paper.map(|[dice, hd]| format!("{dice:.4} / {hd:.2}"));
            cells.push(figures.unwrap_or_default());
        }
        table.add_row(cells);
    }
    println!("{table}");
    println!("written to {}", folder.join("table.md").display());
}
