//! The training loop.

use crate::network::{check_memory, describe, fresh_network, load_pretrained};
use crate::network::{network_shape, set_training};
use crate::predict::{Model, choose_on_cases, describe_model, save_predictors};
use crate::run::{CaseRoles, EpochRecord, RunFolder};
use crate::state::ProgressState;
use crate::tensorboard::EventWriter;
use crate::validation::{by_name, validate};
use crate::watch::watch;
use crate::{Error, OnTrouble, Result, RunConfig, batches};
use liseg_augment::{AugmentConfig, Preset};
use liseg_data::{
    Case, CaseStore, Fold, Loader, LoaderConfig, Pipelines, Plan, StoredCase, Subset, folds,
    read_splits, reduce_labels,
};
use liseg_nn::tch::{Device, Kind};
use liseg_nn::{GradientScaler, Precision, ScaledStep, SegmentationNet, TensorMap, Transfer};
use liseg_nn::{checkpoint, schedule};
use liseg_ssl::{NetworkFactory, Progress, StepContext, Strategy};
use liseg_stunet::Architecture;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
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

/// Makes a strategy from a factory of networks.
pub type BuildStrategy<'a> =
    dyn FnMut(&mut NetworkFactory<'_>) -> liseg_ssl::Result<Box<dyn Strategy>> + 'a;

/// A run in progress.
struct Trainer<'a> {
    config: &'a RunConfig,
    folder: RunFolder,
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
        let plan = plan_for(config, store.plan())?;
        let roles = assign_cases(config, &store)?;
        let pipelines = pipelines(config)?;
        let shape = network_shape(config, &plan)?;
        let strategy = build_strategy(config, &shape, device, build)?;
        check_roles(strategy.as_ref(), &roles)?;
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

        let folder = if options.resume && options.folder.join("config.toml").exists() {
            let folder = RunFolder::open(&options.folder)?;
            refuse_other_run(config, strategy.name(), &folder)?;
            folder
        } else {
            RunFolder::create(&options.folder, config)?
        };
        let plan_json = serde_json::to_value(&plan).unwrap_or_default();
        folder.write_manifest(
            strategy.name(),
            describe(config.precision, device),
            plan_json,
            &roles,
        )?;
        let mut trainer = Self {
            config,
            folder,
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
            return Ok(TrainOutcome::Finished);
        }
        self.events = Some(EventWriter::create(
            self.folder.path(),
            self.progress.iteration,
        )?);
        let loader = self.loader(total)?;
        let mut clock = Instant::now();
        let mut waiting = Instant::now();
        for batch in loader {
            let batch = batch?;
            self.progress.waited += waiting.elapsed().as_secs_f64();
            let terms = self.step(&batch)?;
            self.progress.iteration += 1;
            on_event(TrainEvent::Step {
                done: self.progress.iteration,
                terms: &terms,
            });
            self.progress.seconds += clock.elapsed().as_secs_f64();
            clock = Instant::now();
            if self.progress.iteration.is_multiple_of(per_epoch) {
                let record = self.end_epoch()?;
                on_event(TrainEvent::Epoch(&record));
                clock = Instant::now();
            } else if stop() {
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
            waiting = Instant::now();
        }
        self.choose_postprocessing()?;
        Ok(TrainOutcome::Finished)
    }

    /// Tries on the cases kept back which cleaning of masks helps.
    fn choose_postprocessing(&self) -> Result<()> {
        if !self.config.validation.postprocessing || self.roles.validation.is_empty() {
            return Ok(());
        }
        let cases = self.roles.validation.iter();
        let cases: Vec<_> = cases.filter_map(|id| self.store.get(id).cloned()).collect();
        let model = Model::of_run(&self.folder, self.device, self.config.precision)?;
        let decision = choose_on_cases(&model, &cases)?;
        decision
            .postprocessing
            .write(&self.folder.postprocessing_file())?;
        self.folder.write_postprocessing_trials(&decision)
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
        let tensors = batches::to_device(batch, self.device)?;
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
        let terms = context.log()?;
        for (name, value) in &terms {
            *self.progress.sums.entry((*name).to_owned()).or_insert(0.0) += value;
        }
        self.progress.gradient_norm += norms.iter().map(|n| n.0 * n.0).sum::<f64>().sqrt();
        Ok(terms)
    }

    /// Validates when it is time, records the epoch, saves.
    fn end_epoch(&mut self) -> Result<EpochRecord> {
        let per_epoch = self.config.training.iterations_per_epoch;
        let epoch = self.progress.iteration / per_epoch - 1;
        let last = epoch + 1 == self.config.training.epochs;
        let due = (epoch + 1).is_multiple_of(self.config.validation.every) || last;
        let (score, validation) = match due {
            true => self.validate()?.unzip(),
            false => (None, None),
        };
        let vitals = self.strategy.vitals()?;
        let mean = |sum: f64| sum / per_epoch as f64;
        let p = &mut self.progress;
        let mut terms: BTreeMap<String, f64> = p
            .sums
            .iter()
            .map(|(name, sum)| (name.clone(), mean(*sum)))
            .collect();
        terms.extend(vitals.iter().map(|&(name, value)| (name.to_owned(), value)));
        let sentinels = self.strategy.sentinels();
        let warnings = watch(&sentinels, &terms, score, &mut p.troubles);
        let record = EpochRecord {
            epoch,
            iteration: p.iteration,
            learning_rate: learning_rate(self.config, p.iteration - 1),
            terms,
            gradient_norm: mean(p.gradient_norm),
            seconds: p.seconds,
            data_wait: if p.seconds > 0.0 {
                (p.waited / p.seconds).min(1.0)
            } else {
                0.0
            },
            peak_memory: liseg_nn::runtime::peak_memory_bytes(),
            validation,
            warnings,
        };
        // The record goes first: resuming drops a record without its checkpoint.
        self.folder.append_metrics(&record)?;
        if let Some(events) = &mut self.events {
            record.write_events(per_epoch, events)?;
        }
        self.progress.begin_epoch();
        self.save()?;
        match record.warnings.first() {
            Some(message) if self.config.training.on_trouble == OnTrouble::Stop => {
                Err(Error::Trouble {
                    epoch,
                    message: message.clone(),
                })
            }
            _ => Ok(record),
        }
    }

    /// Scores the cases kept back and keeps the best weights.
    fn validate(&mut self) -> Result<Option<(f64, BTreeMap<String, f64>)>> {
        let cases: Vec<Arc<StoredCase>> = self
            .roles
            .validation
            .iter()
            .filter_map(|id| self.store.get(id).cloned())
            .collect();
        let scores = validate(self.strategy.as_ref(), &cases, self.patch)?;
        let Some((_, score)) = scores.first() else {
            return Ok(None);
        };
        if self.progress.best.is_none_or(|best| *score > best) {
            self.progress.best = Some(*score);
            let facts = self.model_facts()?;
            save_predictors(
                &self.folder.best_checkpoint(),
                &self.strategy.predictors(),
                &facts,
            )?;
        }
        Ok(Some((*score, by_name(&scores))))
    }

    fn save(&self) -> Result<()> {
        let mut tensors = TensorMap::new();
        self.strategy.save_into(&mut tensors)?;
        let mut facts = self.model_facts()?;
        self.progress.write_into(&mut facts);
        Ok(checkpoint::write(
            &self.folder.last_checkpoint(),
            &tensors,
            &facts,
        )?)
    }

    fn model_facts(&self) -> Result<BTreeMap<String, String>> {
        let names = self
            .strategy
            .predictors()
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let plan = plan_for(self.config, self.store.plan())?;
        let phases: BTreeSet<String> = self
            .store
            .subset(Subset::Labelled)
            .chain(self.store.subset(Subset::Unlabelled))
            .filter_map(|case| case.record().provenance.phase.clone())
            .collect();
        let phases = phases.into_iter().collect();
        Ok(describe_model(
            &self.shape,
            &plan,
            self.patch,
            names,
            phases,
        ))
    }
}

/// The plan of the data, with the run's own patch where it has one.
fn plan_for(config: &RunConfig, plan: &Plan) -> Result<Plan> {
    let mut plan = plan.clone();
    if let Some(patch) = config.training.patch_size {
        plan.patch_size = patch;
    }
    plan.validate()?;
    Ok(plan)
}

/// Which cases are learnt from, with and without their labels, and which are kept back.
fn assign_cases(config: &RunConfig, store: &CaseStore) -> Result<CaseRoles> {
    let wanted = |case: &StoredCase| {
        let phases = &config.unlabelled_phases;
        let phase = case.record().provenance.phase.as_ref();
        phases.is_empty() || phase.is_some_and(|phase| phases.contains(phase))
    };
    let ids = |cases: Vec<&Arc<StoredCase>>| cases.iter().map(|c| c.id().to_owned()).collect();
    let mut roles = CaseRoles {
        labelled: ids(store.subset(Subset::Labelled).collect()),
        unlabelled: ids(store
            .subset(Subset::Unlabelled)
            .filter(|c| wanted(c))
            .collect()),
        validation: Vec::new(),
    };
    if roles.labelled.is_empty() {
        return Err(Error::Run {
            path: config.data.clone(),
            reason: "no labelled case to learn from; labels belong into labelsTr before \
                     preprocessing"
                .into(),
        });
    }
    if let Some(path) = &config.validation.splits {
        let fold = declared_fold(config, store, path)?;
        roles.labelled = fold.training;
        roles.validation = fold.validation;
        if let Some(ids) = fold.unlabelled {
            roles.unlabelled = ids
                .into_iter()
                .filter(|id| store.get(id).is_some_and(|case| wanted(case)))
                .collect();
        }
    } else if config.validation.folds > 0 {
        let cases: Vec<Case> = store.subset(Subset::Labelled).map(|c| as_case(c)).collect();
        let mut folds = folds(&cases, config.validation.folds, config.seed)?;
        let fold = folds.swap_remove(config.validation.fold);
        roles.labelled = fold.training;
        roles.validation = fold.validation;
    }
    if let Some(budget) = config.label_budget {
        roles.labelled.sort();
        let cases: Vec<Case> = store.subset(Subset::Labelled).map(|c| as_case(c)).collect();
        let fold = Fold {
            training: roles.labelled,
            validation: roles.validation,
            unlabelled: Some(roles.unlabelled),
        };
        let fold = reduce_labels(fold, &cases, budget, config.seed)?;
        roles = CaseRoles {
            labelled: fold.training,
            unlabelled: fold
                .unlabelled
                .into_iter()
                .flatten()
                .filter(|id| store.get(id).is_some_and(|case| wanted(case)))
                .collect(),
            validation: fold.validation,
        };
    }
    Ok(roles)
}

/// The fold of a file of splits; the file is looked for beside the cases as well.
fn declared_fold(config: &RunConfig, store: &CaseStore, path: &Path) -> Result<Fold> {
    let beside = config.data.join(path);
    let path = if path.is_file() { path } else { &beside };
    let mut folds = read_splits(path)?;
    let refuse = |reason: String| {
        Err(Error::Run {
            path: path.to_owned(),
            reason,
        })
    };
    let (fold, count) = (config.validation.fold, folds.len());
    if fold >= count {
        return refuse(format!(
            "it has {count} folds, and validation.fold is {fold}; the first is 0"
        ));
    }
    let fold = folds.swap_remove(fold);
    let unlabelled = fold.unlabelled.iter().flatten();
    let listed = fold
        .training
        .iter()
        .chain(&fold.validation)
        .chain(unlabelled);
    for id in listed {
        if store.get(id).is_none() {
            let data = config.data.display();
            return refuse(format!("it lists case `{id}`, which {data} does not hold"));
        }
    }
    Ok(fold)
}

/// A stored case as the splitter knows it.
fn as_case(stored: &StoredCase) -> Case {
    let facts = stored.record().provenance.clone();
    Case {
        patient: facts.patient,
        phase: facts.phase,
        vendor: facts.vendor,
        ..Case::new(stored.id(), PathBuf::new(), facts.subset)
    }
}

fn check_roles(strategy: &dyn Strategy, roles: &CaseRoles) -> Result<()> {
    if strategy.request().unlabelled > 0 && roles.unlabelled.is_empty() {
        return Err(Error::Setting {
            field: "strategy.name",
            reason: format!(
                "`{}` learns from unlabelled cases and the data have none of the wanted phases; put \
                 images without labels into imagesUn before preprocessing, widen \
                 unlabelled_phases, or train with name = \"supervised\"",
                strategy.name()
            ),
        });
    }
    Ok(())
}

fn build_strategy(
    config: &RunConfig,
    shape: &Architecture,
    device: Device,
    build: &mut BuildStrategy<'_>,
) -> Result<Box<dyn Strategy>> {
    let start = &config.network;
    let several = config.strategy.learners() > 1 && start.second_weights.is_none();
    let fresh_heads = start.fresh_heads.unwrap_or(several);
    let mut failure = None;
    let mut make = |name: &str| -> liseg_nn::Result<Box<dyn SegmentationNet>> {
        let mut network = fresh_network(shape, config.seed, name, device)?;
        let how = Transfer {
            fresh_heads,
            partial: start.partial,
        };
        let second = start
            .second_weights
            .as_ref()
            .filter(|_| name == "network_b");
        if let Some(path) = second.or(start.weights.as_ref())
            && let Err(error) = load_pretrained(network.as_mut(), path, how)
        {
            let message = error.to_string();
            failure = Some(error);
            return Err(liseg_nn::Error::Weights(message));
        }
        if let Err(error) = set_training(config, network.as_mut()) {
            let message = error.to_string();
            failure = Some(error);
            return Err(liseg_nn::Error::Weights(message));
        }
        Ok(network)
    };
    let built = build(&mut make);
    match (built, failure) {
        (_, Some(error)) => Err(error),
        (built, None) => Ok(built?),
    }
}

/// Refuses to go on with a run under a config that would make it another one. Only the
/// loader's threads, the device and where the data lie may change.
fn refuse_other_run(config: &RunConfig, strategy: &str, folder: &RunFolder) -> Result<()> {
    let recorded = RunConfig::read(&folder.config_file(), &[])?;
    let comparable = |c: &RunConfig| {
        let mut c = c.clone();
        c.loader = Default::default();
        c.device = Default::default();
        c.data = PathBuf::new();
        c.to_toml()
    };
    let same_strategy = folder.strategy().is_none_or(|name| name == strategy);
    if same_strategy && comparable(&recorded)? == comparable(config)? {
        return Ok(());
    }
    Err(Error::Run {
        path: folder.config_file(),
        reason: "the run was started with other settings; resume it with the same config, or \
                 choose another --out"
            .into(),
    })
}

/// The learning rate of a step: the schedule's, with a linear warm-up.
fn learning_rate(config: &RunConfig, iteration: u64) -> f64 {
    let t = &config.training;
    t.learning_rate
        * t.schedule.factor(iteration, config.iterations())
        * schedule::linear_warm_up(iteration, t.warm_up)
}

/// The transforms of labelled patches, of weak views and of strong ones.
///
/// A weak view is moved in space as a labelled patch is, and its intensities stay; a strong view is a
/// weak one with other intensities.
fn pipelines(config: &RunConfig) -> Result<Pipelines> {
    let strong = AugmentConfig {
        preset: Preset::Intensity,
        ..config
            .strong_augment
            .as_ref()
            .unwrap_or(&config.augment)
            .clone()
    };
    Ok(Pipelines {
        labelled: Arc::new(config.augment.build()?),
        unlabelled: Arc::new(config.augment.views()?.weak),
        strong: Arc::new(strong.views()?.strong),
    })
}

/// Samples that go through a network at once.
///
/// On a CPU with bf16 single samples are fastest: instance norm has a kernel for them that keeps
/// the layout convolutions want. In f32 libtorch keeps small single samples from oneDNN, so there,
/// and on GPUs, the batch stays whole.
fn micro_batch(config: &RunConfig, device: Device, strategy: &dyn Strategy) -> usize {
    let request = strategy.request();
    let whole = request.labelled.max(request.unlabelled);
    let narrow = config.precision.kind(device) == Kind::BFloat16;
    match config.training.micro_batch {
        0 if device == Device::Cpu && narrow => 1,
        0 => whole,
        n => n,
    }
}
