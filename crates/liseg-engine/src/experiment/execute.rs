//! Runs trained and judged.

use super::config::Experiment;
use super::event::ExperimentEvent;
use super::grid::PlannedRun;
use super::judge::{is_judged, judge};
use super::prepare::Prepared;
use super::table::ResultTable;
use crate::trainer::lay_out;
use crate::{Error, Result, RunConfig, RunFolder, TrainEvent, TrainOptions, TrainOutcome, train};
use liseg_data::CaseStore;
use liseg_metrics::Report;
use liseg_ssl::StrategyConfig;

/// Does every run that is not done yet and makes the table; `None` when it was told to stop.
///
/// # Errors
/// When a run fails, or was made with other settings than the experiment says now.
pub fn run_experiment(
    experiment: &Experiment,
    prepared: &Prepared,
    on_event: &mut dyn FnMut(ExperimentEvent<'_>),
    stop: &dyn Fn() -> bool,
) -> Result<Option<ResultTable>> {
    for run in &prepared.plan.runs {
        if !complete_run(experiment, prepared, run, on_event, stop)? {
            return Ok(None);
        }
    }
    Ok(Some(result_table(experiment, prepared)?))
}

/// Trains and judges one run of the plan; `false` when it was told to stop.
///
/// A run is done when its `metrics.json` is there; one that was interrupted goes on from its last
/// checkpoint, and one that was judged in another way is judged anew. Runs in several processes at a time are
/// sound as long as each begins after those of [`PlannedRun::depends_on`].
///
/// # Errors
/// When the run fails, or was made with other settings than the experiment says now.
pub fn complete_run(
    experiment: &Experiment,
    prepared: &Prepared,
    run: &PlannedRun,
    on_event: &mut dyn FnMut(ExperimentEvent<'_>),
    stop: &dyn Fn() -> bool,
) -> Result<bool> {
    let runs = &prepared.plan.runs;
    // A preparation is not judged; training says at once that it is done.
    let has_row = prepared.has_row(run);
    let finished = has_row && is_judged(experiment, prepared, run);
    on_event(ExperimentEvent::Run {
        run,
        index: runs.iter().position(|r| r.id == run.id).unwrap_or(0),
        total: runs.len(),
        finished,
    });
    if finished {
        refuse_other_settings(prepared, run)?;
        return Ok(!stop());
    }
    let config = ready(prepared, run)?;
    let options = TrainOptions {
        folder: prepared.training_folder(run),
        resume: true,
    };
    let mut tell = |event: TrainEvent<'_>| on_event(ExperimentEvent::Training(event));
    if train(&config, &options, &mut tell, stop)? != TrainOutcome::Finished {
        return Ok(false);
    }
    if !has_row {
        return Ok(true);
    }
    on_event(ExperimentEvent::Judging);
    let Some(report) = judge(experiment, prepared, run, &config, stop)? else {
        return Ok(false);
    };
    report.write_json(&prepared.metrics_file(&run.id))?;
    Ok(!stop())
}

/// The table of an experiment whose runs are all done.
///
/// # Errors
/// When a run has not been judged.
pub fn result_table(experiment: &Experiment, prepared: &Prepared) -> Result<ResultTable> {
    let judged = prepared
        .plan
        .runs
        .iter()
        .filter(|run| prepared.has_row(run));
    let reports = judged.map(|run| Ok((run, Report::read_json(&prepared.metrics_file(&run.id))?)));
    ResultTable::of(experiment, prepared, &reports.collect::<Result<Vec<_>>>()?)
}

/// The run's config, with the weights that it starts from.
fn ready(prepared: &Prepared, run: &PlannedRun) -> Result<RunConfig> {
    let mut config = run.config.clone();
    if let Some(after) = &run.after {
        let weights = RunFolder::open(&prepared.training_folder_of(after))?.weights()?;
        config.network.weights = Some(weights);
    }
    Ok(config)
}

fn refuse_other_settings(prepared: &Prepared, run: &PlannedRun) -> Result<()> {
    let folder = RunFolder::open(&prepared.training_folder(run))?;
    let recorded = RunConfig::read(&folder.config_file(), &[])?;
    let wanted = ready(prepared, run)?;
    let difference = match recorded.data.file_name() == wanted.data.file_name() {
        true => recorded.difference(&wanted),
        false => Some("it learnt from another dataset".into()),
    };
    match difference {
        None => {
            let (plan, roles, _) = lay_out(&wanted, &CaseStore::open(&wanted.data)?)?;
            let supervised = matches!(wanted.strategy, StrategyConfig::Supervised(_));
            folder.refuse_other_data(&plan, &roles, !supervised)
        }
        Some(what) => Err(Error::Run {
            path: folder.path().to_owned(),
            reason: format!(
                "this run was made with other settings: {what}; remove its folder to do it anew, or choose \
                 another --out"
            ),
        }),
    }
}
