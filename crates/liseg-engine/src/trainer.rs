//! The training loop.

mod epoch;
mod roles;
mod setup;

use crate::lock::Lock;
use crate::network::{check_memory, describe, network_shape};
use crate::predict::{Model, choose_on_cases};
use crate::run::{CaseRoles, EpochRecord, RunFolder};
use crate::state::ProgressState;
use crate::tensorboard::EventWriter;
use crate::{Error, Result, RunConfig, batches};
use liseg_data::{Case, CaseStore, Loader, LoaderConfig, Pipelines, Plan};
use liseg_nn::tch::Device;
use liseg_nn::{GradientScaler, Precision, ScaledStep, checkpoint};
use liseg_ssl::{NetworkFactory, Progress, StepContext, Strategy};
use liseg_stunet::Architecture;
use roles::{as_case, assign_cases};
pub(crate) use setup::check_roles;
use setup::{build_strategy, learning_rate, micro_batch, pipelines, plan_for, refuse_other_run};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Where a run lives, and whether to go on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainOptions {
    /// The run's folder.
    pub folder: PathBuf,
    /// Go on from the last checkpoint. Without one, begin.
    pub resume: bool,
}

/// What the loop tells its caller.
#[derive(Debug)]
pub enum TrainEvent<'a> {
    /// Everything is set up.
    Started {
        /// Steps of the whole run.
        iterations: u64,
        /// Steps already taken by an earlier session.
        done: u64,
        /// Where it computes, such as `cpu`.
        device: &'a str,
        /// Number format of activations.
        precision: &'a str,
        /// Trainable numbers of all networks.
        parameters: usize,
        /// The cases by role.
        cases: &'a CaseRoles,
    },
    /// A step is done.
    Step {
        /// Steps taken so far.
        done: u64,
        /// What the strategy logged in it, by name.
        terms: &'a BTreeMap<&'static str, f64>,
    },
    /// An epoch is done, recorded and saved.
    Epoch(&'a EpochRecord),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainOutcome {
    /// All epochs are done.
    Finished,
    /// It was told to stop, and saved where it was.
    Stopped {
        /// Steps taken so far.
        iteration: u64,
    },
}

/// Trains as `config` says, into the folder of `options`.
///
/// `stop` is asked after every step; when it says true the run saves a checkpoint and ends. A run
/// that is resumed goes on exactly: on a CPU, with the same number of threads, its weights are bit
/// for bit those of a run that was never interrupted.
///
/// # Errors
/// Before any work: a config that does not fit data or machine, a folder that holds another run.
/// During it: [`Error::NotFinite`], a full disk, libtorch out of memory; the last checkpoint stays
/// intact.
pub fn train(
    config: &RunConfig,
    options: &TrainOptions,
    on_event: &mut dyn FnMut(TrainEvent<'_>),
    stop: &dyn Fn() -> bool,
) -> Result<TrainOutcome> {
    train_own(
        config,
        options,
        &mut |networks| config.strategy.build(config.optimiser, networks),
        on_event,
        stop,
    )
}

/// Trains as [`train`] does, with a strategy of the caller's own making in place of `config.strategy`.
///
/// `build` is given a factory of networks of the config's architecture, each with a name, and the
/// strategy that it makes is trained, saved and resumed like any other. Settings of its own are the
/// caller's to keep: a run is resumed only with a strategy of the same name.
///
/// # Errors
/// As [`train`], and those of `build`.
pub fn train_own(
    config: &RunConfig,
    options: &TrainOptions,
    build: &mut BuildStrategy<'_>,
    on_event: &mut dyn FnMut(TrainEvent<'_>),
    stop: &dyn Fn() -> bool,
) -> Result<TrainOutcome> {
    config.check()?;
    let mut trainer = Trainer::new(config, options, build)?;
    trainer.announce(on_event);
    trainer.run(on_event, stop)
}

/// What can be told of a run before any work: its plan, its cases, the shape of its network.
pub(crate) fn lay_out(
    config: &RunConfig,
    store: &CaseStore,
) -> Result<(Plan, CaseRoles, Architecture)> {
    let plan = plan_for(config, store.plan())?;
    let cases: Vec<Case> = store.cases().iter().map(|case| as_case(case)).collect();
    let roles = assign_cases(config, &cases)?;
    let shape = network_shape(config, &plan)?;
    Ok((plan, roles, shape))
}

/// Makes a strategy from a factory of networks.
pub type BuildStrategy<'a> =
    dyn FnMut(&mut NetworkFactory<'_>) -> liseg_ssl::Result<Box<dyn Strategy>> + 'a;

/// A run in progress.
struct Trainer<'a> {
    config: &'a RunConfig,
    folder: RunFolder,
    _lock: Lock,
    store: Arc<CaseStore>,
    roles: CaseRoles,
    pipelines: Pipelines,
    patch: [usize; 3],
    device: Device,
    shape: Architecture,
    strategy: Box<dyn Strategy>,
    progress: ProgressState,
    events: Option<EventWriter>,
}

impl<'a> Trainer<'a> {
    fn new(
        config: &'a RunConfig,
        options: &TrainOptions,
        build: &mut BuildStrategy<'_>,
    ) -> Result<Self> {
        let device = config.device.resolve()?;
        config.precision.check(device)?;
        let store = Arc::new(CaseStore::open(&config.data)?);
        let (plan, roles, shape) = lay_out(config, &store)?;
        let pipelines = pipelines(config)?;
        // One network and one patch at least, before any of it is there.
        let parameters = shape.summary(plan.patch_size)?.parameters as usize;
        check_memory(&shape, plan.patch_size, (1, 1), device, parameters)?;
        let strategy = build_strategy(config, &shape, device, build)?;
        let unlabelled = strategy.request().unlabelled > 0;
        check_roles(strategy.name(), unlabelled, &roles)?;
        let parameters = strategy.learners()[0].network().parameters().count();
        let micro = micro_batch(config, device, strategy.as_ref());
        let networks = strategy.learners().len();
        check_memory(
            &shape,
            plan.patch_size,
            (networks, micro),
            device,
            parameters,
        )?;

        let lock = Lock::take(&options.folder)?;
        let folder = if options.resume && options.folder.join("config.toml").exists() {
            let folder = RunFolder::open(&options.folder)?;
            refuse_other_run(config, strategy.name(), &folder)?;
            folder.refuse_other_data(&plan, &roles, unlabelled)?;
            folder
        } else {
            RunFolder::create(&options.folder, config)?
        };
        folder.write_manifest(
            strategy.name(),
            describe(config.precision, device),
            &plan,
            &roles,
        )?;
        let mut trainer = Self {
            config,
            folder,
            _lock: lock,
            store,
            roles,
            pipelines,
            patch: plan.patch_size,
            device,
            shape,
            strategy,
            progress: ProgressState {
                scaler: (config.precision == Precision::Fp16).then(GradientScaler::default),
                ..ProgressState::default()
            },
            events: None,
        };
        trainer.restore()?;
        // Its peak is told with every epoch: that of this run, not of another one before it in this process.
        liseg_nn::runtime::reset_cuda_memory(device)?;
        Ok(trainer)
    }

    /// Takes up the last checkpoint, when there is one.
    fn restore(&mut self) -> Result<()> {
        let path = self.folder.last_checkpoint();
        if path.is_file() {
            let (tensors, facts) = checkpoint::read(&path)?;
            self.progress = ProgressState::read_from(&facts, &path)?;
            self.strategy.load(&tensors)?;
        }
        // A record without its checkpoint comes from a session that was killed in between.
        let epoch = self.progress.iteration / self.config.training.iterations_per_epoch;
        self.folder.forget_metrics_from(epoch)
    }

    fn announce(&self, on_event: &mut dyn FnMut(TrainEvent<'_>)) {
        let (device, precision) = describe(self.config.precision, self.device);
        let networks = self.strategy.learners().iter();
        on_event(TrainEvent::Started {
            iterations: self.config.iterations(),
            done: self.progress.iteration,
            device: &device,
            precision: &precision,
            parameters: networks.map(|l| l.network().parameters().count()).sum(),
            cases: &self.roles,
        });
    }

    fn run(
        &mut self,
        on_event: &mut dyn FnMut(TrainEvent<'_>),
        stop: &dyn Fn() -> bool,
    ) -> Result<TrainOutcome> {
        let per_epoch = self.config.training.iterations_per_epoch;
        let total = self.config.iterations();
        if self.progress.iteration >= total {
            // What a call that was killed after its last checkpoint still owed.
            self.choose_postprocessing()?;
            return Ok(TrainOutcome::Finished);
        }
        self.events = Some(EventWriter::create(
            self.folder.path(),
            self.progress.iteration,
        )?);
        let mut loader = self.loader(total)?;
        let mut clock = Instant::now();
        while let Some(batch) = loader.next() {
            let batch = batch?;
            let terms = self.step(&batch)?;
            self.progress.iteration += 1;
            on_event(TrainEvent::Step {
                done: self.progress.iteration,
                terms: &terms,
            });
            self.progress.seconds += clock.elapsed().as_secs_f64();
            clock = Instant::now();
            if self.progress.iteration.is_multiple_of(per_epoch) {
                self.progress.add_loading(&loader.epoch_stats());
                let record = self.end_epoch()?;
                on_event(TrainEvent::Epoch(&record));
                clock = Instant::now();
            } else if stop() {
                self.progress.add_loading(&loader.epoch_stats());
                self.save()?;
                return Ok(TrainOutcome::Stopped {
                    iteration: self.progress.iteration,
                });
            }
            if stop() && self.progress.iteration < total {
                return Ok(TrainOutcome::Stopped {
                    iteration: self.progress.iteration,
                });
            }
        }
        self.choose_postprocessing()?;
        Ok(TrainOutcome::Finished)
    }

    /// Tries on the cases kept back which cleaning of masks helps, unless that was done before.
    fn choose_postprocessing(&self) -> Result<()> {
        let wanted = self.config.validation.postprocessing && !self.roles.validation.is_empty();
        if !wanted || self.folder.postprocessing_file().is_file() {
            return Ok(());
        }
        let cases = self.roles.validation.iter();
        let cases: Vec<_> = cases.filter_map(|id| self.store.get(id).cloned()).collect();
        let model = Model::of_run(&self.folder, self.device, self.config.precision)?;
        let decision = choose_on_cases(&model, &cases)?;
        self.folder.write_postprocessing_trials(&decision)?;
        // Last, as the mark that both are there.
        decision
            .postprocessing
            .write(&self.folder.postprocessing_file())
    }

    fn loader(&self, total: u64) -> Result<Loader> {
        let request = self.strategy.request();
        let settings = LoaderConfig {
            labelled: request.labelled,
            unlabelled: request.unlabelled,
            strong_views: request.strong_views,
            patch_size: self.patch,
            foreground_share: self.config.training.foreground_share,
            balance: self.config.training.balance,
            labelled_cases: Some(self.roles.labelled.clone()),
            unlabelled_cases: Some(self.roles.unlabelled.clone()),
            workers: self.config.loader.workers,
            prefetch: self.config.loader.prefetch.max(1),
            first_iteration: self.progress.iteration,
            iterations: total - self.progress.iteration,
        };
        let store = Arc::clone(&self.store);
        let mut pipelines = self.pipelines.clone();
        if request.weak_labelled {
            pipelines.labelled = Arc::clone(&pipelines.unlabelled);
        }
        if request.strong_views == 0 {
            pipelines.unlabelled = Arc::clone(&pipelines.labelled);
        }
        Ok(Loader::new(store, settings, pipelines, self.config.seed)?)
    }

    /// One optimisation step; returns what the strategy logged.
    fn step(&mut self, batch: &liseg_data::Batch) -> Result<BTreeMap<&'static str, f64>> {
        let mut clock = Instant::now();
        let mut lap = || {
            std::mem::replace(&mut clock, Instant::now())
                .elapsed()
                .as_secs_f64()
        };
        let tensors = batches::to_device(batch, self.device)?;
        self.progress.parts.copying += lap();
        let progress = Progress {
            iteration: self.progress.iteration,
            iterations: self.config.iterations(),
        };
        let micro = micro_batch(self.config, self.device, self.strategy.as_ref());
        let scale = self
            .progress
            .scaler
            .as_ref()
            .map_or(1.0, GradientScaler::scale);
        let mut context = StepContext::new(progress, micro)
            .with_seed(self.config.seed)
            .with_loss_scale(scale);
        self.strategy.step(&tensors, &mut context)?;
        self.progress.parts.networks += lap();
        if let Some(scaler) = &self.progress.scaler {
            for learner in self.strategy.learners() {
                scaler.unscale(learner.network().parameters())?;
            }
        }
        let lr = learning_rate(self.config, self.progress.iteration);
        let mut norms = self
            .strategy
            .optimise(lr, self.config.training.gradient_clip)?;
        let broken = norms.iter().position(|norm| !norm.is_finite());
        let outcome = match &mut self.progress.scaler {
            Some(scaler) => scaler.update(broken.is_none()),
            None if broken.is_some() => ScaledStep::Broken,
            None => ScaledStep::Taken,
        };
        if let (ScaledStep::Broken, Some(i)) = (outcome, broken) {
            return Err(Error::NotFinite {
                iteration: self.progress.iteration,
                network: self.strategy.learners()[i].name().to_owned(),
                cases: batches::cases(batch),
            });
        }
        norms.retain(|norm| norm.is_finite());
        if outcome == ScaledStep::Taken {
            self.strategy.after_step(&context)?;
        }
        self.progress.parts.optimising += lap();
        let terms = context.log()?;
        self.progress.add_terms(&terms);
        self.progress.gradient_norm += norms.iter().map(|n| n.0 * n.0).sum::<f64>().sqrt();
        Ok(terms)
    }
}
