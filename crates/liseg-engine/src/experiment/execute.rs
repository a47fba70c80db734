//! Runs trained and judged, one after another.

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
/// A run is done when its `metrics.json` is there; one that was interrupted goes on from its last
/// checkpoint, and one that was judged in another way is judged anew.
///
/// # Errors
/// When a run fails, or was made with other settings than the experiment says now.
pub fn run_experiment(
    experiment: &Experiment,
    prepared: &Prepared,
    on_event: &mut dyn FnMut(ExperimentEvent<'_>),
    stop: &dyn Fn() -> bool,
) -> Result<Option<ResultTable>> {
    let total = prepared.plan.runs.len();
    let mut reports = Vec::new();
    for (index, run) in prepared.plan.runs.iter().enumerate() {
        let file = prepared.metrics_file(&run.id);
        let method = prepared.plan.methods.iter().find(|m| m.name == run.method);
        let has_row = method.is_some_and(|m| m.row);
        // A preparation is not judged; training says at once that it is done.
        let finished = has_row && is_judged(experiment, prepared, run);
        on_event(ExperimentEvent::Run {
            run,
            index,
            total,
            finished,
        });
        if finished {
            refuse_other_settings(prepared, run)?;
        } else {
            let config = ready(prepared, run)?;
            let options = TrainOptions {
                folder: prepared.training_folder(run),
                resume: true,
            };
            let mut tell = |event: TrainEvent<'_>| on_event(ExperimentEvent::Training(event));
            if train(&config, &options, &mut tell, stop)? != TrainOutcome::Finished {
                return Ok(None);
            }
            if !has_row {
                continue;
            }
            on_event(ExperimentEvent::Judging);
            let Some(report) = judge(experiment, prepared, run, &config, stop)? else {
                return Ok(None);
            };
            report.write_json(&file)?;
        }
        if stop() {
            return Ok(None);
        }
        reports.push((run, Report::read_json(&file)?));
    }
    Ok(Some(ResultTable::of(experiment, prepared, &reports)?))
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
