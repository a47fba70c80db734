//! `liseg experiment`.

use super::experiment_jobs::Jobs;
use super::{
    Failure, Outcome, Result, Shared, interrupt, print_as_json, print_json, progress, say,
};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use indicatif::ProgressBar;
use liseg::engine::TrainEvent;
use liseg::engine::experiment::{
    Experiment, ExperimentEvent, Overview, Prepared, ResultTable, complete_run, prepare, reopen,
    result_table, run_experiment,
};
use liseg::report::{EvaluationSpec, ReportSpec, RunSpec, TableSpec, write_report};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

/// Run a grid of trainings and judge them in one table; the paper's tables are presets.
///
/// The file names datasets (or phantoms to stand in for them), settings, methods, seeds and label
/// budgets; `examples/experiments` has those of the paper's tables. Runs that are done are skipped and
/// one that was interrupted goes on, so the same call continues an experiment. Writes table.md,
/// table.csv and table.json into the experiment's folder, and report.html: the table with curves,
/// distributions and pictures.
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
    /// Runs to work on at a time, each in a process of its own with its share of the threads. On a CPU this
    /// makes small networks faster than more threads do.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Train and judge the runs that standard input names, one a line, until it ends; say of each when it is done.
    #[arg(long, hide = true, conflicts_with = "jobs")]
    job: bool,
}

impl ExperimentVerb {
    pub(crate) fn run(&self, shared: &Shared) -> Result<Outcome> {
        let experiment = self.read(shared)?;
        if self.list {
            return list(&experiment, shared);
        }
        let folder = self.out.clone();
        let folder = folder.unwrap_or_else(|| Path::new("runs").join(&experiment.name));
        std::fs::create_dir_all(&folder)
            .map_err(|e| Failure::work(format!("{}: {e}", folder.display())))?;
        interrupt::listen();
        let bar = progress::bar(shared, 0, &experiment.name);
        let mut tell = |event: ExperimentEvent<'_>| tell(&event, &bar, shared);
        if self.job {
            let orders = interrupt::lines_until_closed();
            let prepared = reopen(&experiment, &folder, &mut tell)?;
            return work_off(orders, &experiment, &prepared, &mut tell);
        }
        let prepared = prepare(&experiment, &folder, &mut tell)?;
        let count = usize::from(self.jobs).min(prepared.plan.runs.len());
        let table = if count < 2 {
            run_experiment(&experiment, &prepared, &mut tell, &interrupt::asked)?
        } else {
            let jobs = Jobs {
                file: &self.file,
                prepared: &prepared,
                count,
                shared,
                bar: &bar,
            };
            let done = jobs.run()?;
            done.then(|| result_table(&experiment, &prepared))
                .transpose()?
        };
        bar.finish_and_clear();
        match table {
            Some(table) => conclude(&experiment, &prepared, &table, shared),
            None => Ok(self.stopped(&folder)),
        }
    }

    /// The experiment, with what the command line has in place of the file's.
    fn read(&self, shared: &Shared) -> Result<Experiment> {
        let mut experiment =
            Experiment::read(&self.file).map_err(|e| Failure::usage(super::failure::chain(&e)))?;
        if let Some(seed) = shared.seed {
            experiment.seeds = vec![seed];
        }
        if let Some(device) = shared.device {
            let text = device.to_string();
            experiment.run.insert("device".into(), text.into());
        }
        Ok(experiment)
    }

    /// Says how to go on.
    fn stopped(&self, folder: &Path) -> Outcome {
        say!(
            "stopped; go on with: liseg experiment {} --out {}",
            self.file.display(),
            folder.display()
        );
        Outcome::Partly
    }
}

/// Writes the table and its page, and prints the table.
fn conclude(
    experiment: &Experiment,
    prepared: &Prepared,
    table: &ResultTable,
    shared: &Shared,
) -> Result<Outcome> {
    table.write(&prepared.folder)?;
    let page = write_page(experiment, prepared, table)?;
    if shared.json {
        print_as_json(serde_json::to_value(table))?;
    } else {
        print(table, &page);
    }
    Ok(Outcome::Done)
}

/// Does the runs that are ordered, and says of each when it is done.
fn work_off(
    orders: Receiver<String>,
    experiment: &Experiment,
    prepared: &Prepared,
    tell: &mut dyn FnMut(ExperimentEvent<'_>),
) -> Result<Outcome> {
    for id in orders {
        let run = prepared.plan.runs.iter().find(|run| run.id == id);
        let run = run.ok_or_else(|| Failure::usage(format!("no run is called `{id}`")))?;
        if !complete_run(experiment, prepared, run, tell, &interrupt::asked)? {
            return Ok(Outcome::Partly);
        }
        say!("{id}");
    }
    Ok(Outcome::Done)
}

fn list(experiment: &Experiment, shared: &Shared) -> Result<Outcome> {
    let sources = experiment.datasets.iter();
    let phantoms = sources.map(|(name, source)| (name.clone(), source.is_phantom()));
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
        say!("{}: {} steps{after}", run.id, run.config.iterations());
    }
    say!("{} runs", plan.runs.len());
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
                tracing::warn!("{warning}");
            }
        }
        ExperimentEvent::Training(TrainEvent::Started { .. }) => {}
        ExperimentEvent::Judging => progress::note(shared, Some(bar), "predicting and judging"),
    }
}

/// More rows than this are summed up first.
const GLANCE: usize = 24;

/// What an overview shows.
fn heading(result: &ResultTable, labels: Option<usize>) -> String {
    let labels = labels.map_or(String::new(), |n| format!("Labelled patients: {n}. "));
    format!("{labels}{}", result.overview_note())
}

fn headings(result: &ResultTable) -> Vec<String> {
    result.headings().into_iter().map(str::to_owned).collect()
}

fn print(result: &ResultTable, page: &Path) {
    say!("{}", result.name);
    let show = |headings: Vec<String>, rows: Vec<Vec<String>>| {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(headings).add_rows(rows);
        say!("{table}");
    };
    if result.rows.len() > GLANCE {
        for Overview {
            labels,
            headings,
            rows,
        } in result.overviews()
        {
            say!("{}", heading(result, labels));
            show(headings, rows);
        }
        say!("All rows, with distances, are in table.md.");
    } else {
        let rows = result.rows.iter().map(|row| result.texts(row));
        show(headings(result), rows.collect());
    }
    say!("{}", result.note());
    say!("open {} in a browser", page.display());
}

/// Writes the page of an experiment: its table, and curves, distributions and pictures of the first run of
/// every method.
fn write_page(
    experiment: &Experiment,
    prepared: &Prepared,
    result: &ResultTable,
) -> Result<PathBuf> {
    let mut spec = ReportSpec {
        title: result.name.clone(),
        summary: facts(experiment, result),
        tables: tables(result),
        worst_cases: 1,
        ..ReportSpec::default()
    };
    let data = prepared.datasets.get("target");
    let images = ["imagesTs", "imagesTr"].map(|folder| data.map(|data| data.join(folder)));
    let images: Vec<PathBuf> = images.into_iter().flatten().collect();
    let mut shown = BTreeSet::new();
    for run in &prepared.plan.runs {
        let judged = prepared.metrics_file(&run.id);
        if !judged.is_file() || !shown.insert((&run.method, run.budget)) {
            continue;
        }
        let several = experiment.label_budgets.len() > 1;
        let labels = run.budget.filter(|_| several);
        let labels = labels.map_or(String::new(), |n| format!(", labels: {n}"));
        let name = format!("{}{labels}", run.method);
        if run.trained_as == run.id {
            spec.runs.push(RunSpec {
                name: name.clone(),
                metrics_file: prepared.training_folder(run).join("metrics.jsonl"),
            });
        }
        spec.evaluations.push(EvaluationSpec {
            name,
            metrics_file: judged,
            images: images.clone(),
        });
    }
    Ok(write_report(&spec, &prepared.folder)?)
}

/// The results at a glance, and in full.
fn tables(result: &ResultTable) -> Vec<TableSpec> {
    let glances = result.overviews().into_iter().map(|overview| TableSpec {
        caption: heading(result, overview.labels),
        columns: overview.headings,
        names: 1,
        rows: overview.rows,
        ..TableSpec::default()
    });
    let full = TableSpec {
        caption: "All rows, with distances".into(),
        columns: headings(result),
        names: result.name_columns(),
        rows: result.rows.iter().map(|row| result.texts(row)).collect(),
        note: result.note(),
        folded: result.rows.len() > GLANCE,
    };
    glances.chain([full]).collect()
}

/// What was trained on what, for the top of the page.
fn facts(experiment: &Experiment, result: &ResultTable) -> Vec<(String, String)> {
    let list = |numbers: Vec<String>| numbers.join(", ");
    let seeds: Vec<String> = experiment.seeds.iter().map(u64::to_string).collect();
    let curves = match seeds.len() {
        1 => String::new(),
        _ => format!("of seed {}, the first", seeds[0]),
    };
    let data = match result.phantom {
        true => "a phantom".into(),
        false => experiment
            .datasets
            .get("target")
            .and_then(|d| d.path.as_ref())
            .map_or(String::new(), |p| p.display().to_string()),
    };
    let budgets = experiment
        .label_budgets
        .iter()
        .map(usize::to_string)
        .collect();
    [
        ("What", experiment.description.trim().to_owned()),
        ("Judged on", data),
        ("Labelled patients", list(budgets)),
        ("Seeds", list(seeds)),
        ("Curves, dots and pictures", curves),
        ("LiSeg", env!("CARGO_PKG_VERSION").into()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
