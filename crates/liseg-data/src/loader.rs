//! Batches of patches, made ahead of time by worker threads.

use crate::balance::{Balance, CaseDraw};
use crate::batch::Batch;
use crate::check::no_foreground;
use crate::draw::{ImageOnly, Patch, PatchMaker, Pipelines};
use crate::sampler::PatchSampler;
use crate::workers::Workers;
use crate::{CaseStore, Error, Result, StoredCase, Subset};
use liseg_augment::Pipeline;
use liseg_volume::Seed;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a loader makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Labelled patches per batch.
    pub labelled: usize,
    /// Unlabelled patches per batch.
    pub unlabelled: usize,
    /// Strong views of every unlabelled patch.
    pub strong_views: usize,
    /// Size of a patch as the network sees it, `[z, y, x]` in voxels.
    pub patch_size: [usize; 3],
    /// Share of labelled patches that must show foreground; 0.33 as in nnU-Net.
    pub foreground_share: f64,
    /// Ids of the cases of the labelled stream; `None` for all labelled cases of the store.
    pub labelled_cases: Option<Vec<String>>,
    /// Ids of the cases of the unlabelled stream; `None` for all unlabelled cases of the store. A
    /// case with a label may be listed: its label is not used.
    pub unlabelled_cases: Option<Vec<String>>,
    /// What patches are spread over evenly, in both streams.
    pub balance: Balance,
    /// Threads that make patches; 0 makes them in the calling thread.
    pub workers: usize,
    /// Batches that are made ahead, at least 1.
    pub prefetch: usize,
    /// The first iteration: where a run is taken up again.
    pub first_iteration: u64,
    /// How many iterations to make.
    pub iterations: u64,
}

impl Default for LoaderConfig {
    /// A batch of two labelled patches of 128³ voxels, nnU-Net's 250 iterations, four workers.
    fn default() -> Self {
        Self {
            labelled: 2,
            unlabelled: 0,
            strong_views: 0,
            patch_size: [128; 3],
            foreground_share: 0.33,
            labelled_cases: None,
            unlabelled_cases: None,
            balance: Balance::Cases,
            workers: 4,
            prefetch: 3,
            first_iteration: 0,
            iterations: 250,
        }
    }
}

/// Where the time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoaderStats {
    /// Batches handed over.
    pub batches: u64,
    /// Time spent inside [`Loader::next`]: the network had nothing to do.
    pub waited: Duration,
    /// Time between batches, outside of the loader: what the network took.
    pub computed: Duration,
    /// Time that making patches took, summed over threads and patches.
    pub making: Duration,
    /// Time since the first batch was asked for.
    pub total: Duration,
}

impl LoaderStats {
    /// The share of the time in which the network had nothing to do, 0 to 1.
    pub fn waiting_share(&self) -> f64 {
        let (waited, computed) = (self.waited.as_secs_f64(), self.computed.as_secs_f64());
        if waited + computed > 0.0 {
            waited / (waited + computed)
        } else {
            0.0
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            batches: self.batches - earlier.batches,
            waited: self.waited.saturating_sub(earlier.waited),
            computed: self.computed.saturating_sub(earlier.computed),
            making: self.making.saturating_sub(earlier.making),
            total: self.total.saturating_sub(earlier.total),
        }
    }
}

/// Threads that make patches, at most.
pub const MOST_WORKERS: usize = 1024;

/// Refuses more threads than a machine has use for, and more batches ahead than `free` bytes have room for.
fn check_ahead(config: &LoaderConfig, free: Option<u64>) -> Result<()> {
    if config.workers > MOST_WORKERS {
        let reason = format!(
            "{} threads; expected at most {MOST_WORKERS}",
            config.workers
        );
        return Err(Error::setting("workers", reason));
    }
    let product = |numbers: &[usize]| {
        let numbers = numbers.iter().map(|&n| n as u64);
        numbers.fold(1, u64::saturating_mul)
    };
    // Images in f32, labels in bytes; strong views beside the weak one.
    let views = config.strong_views.saturating_add(1);
    let bytes = (product(&[config.labelled, 5]))
        .saturating_add(product(&[config.unlabelled, views, 4]))
        .saturating_mul(product(&config.patch_size));
    // The batch that is learnt from, and those that wait.
    let ahead = config.prefetch.max(1).saturating_add(1) as u64;
    let needed = bytes.saturating_mul(ahead);
    match free {
        Some(free) if needed > free => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let reason = format!(
                "{} batches ahead, of {:.2} GiB each, do not fit into the {:.1} GiB that are free; lower it, the batch or \
                 the patch",
                config.prefetch,
                gib(bytes),
                gib(free)
            );
            Err(Error::setting("prefetch", reason))
        }
        _ => Ok(()),
    }
}

/// An iterator over batches, in order of iterations.
///
/// A patch depends on (seed, iteration, slot, configuration, store) alone: batches are the same
/// whatever the number of workers, and whether a run began at iteration 0 or was taken up later.
/// Cases are drawn with replacement, evenly over what the configuration says. Dropping the loader stops and joins its threads.
#[derive(Debug)]
pub struct Loader {
    maker: Arc<PatchMaker>,
    next: u64,
    end: u64,
    workers: Option<Workers>,
    stats: LoaderStats,
    /// What was reported with the last epoch.
    reported: LoaderStats,
    started: Option<Instant>,
    /// When the last batch was handed over.
    handed_over: Option<Instant>,
}

impl Loader {
    /// Checks the configuration and starts the workers.
    ///
    /// # Errors
    /// [`Error::Setting`] for a batch without patches, a stream without cases, a case that the store
    /// does not have or that has no label for the labelled stream, a share outside 0 to 1, strong
    /// transforms that need more than the weak view, more than [`MOST_WORKERS`], or batches made ahead that would not
    /// fit into memory;
    /// [`Error::Shape`] for an empty patch; [`Error::Threads`] when threads cannot be started.
    pub fn new(
        store: Arc<CaseStore>,
        config: LoaderConfig,
        pipelines: impl Into<Pipelines>,
        seed: Seed,
    ) -> Result<Self> {
        let pipelines = pipelines.into();
        if config.labelled + config.unlabelled == 0 {
            return Err(Error::setting("labelled", "a batch would have no patches"));
        }
        if !(0.0..=1.0).contains(&config.foreground_share) {
            let reason = format!("{} is not between 0 and 1", config.foreground_share);
            return Err(Error::setting("foreground_share", reason));
        }
        let labelled = match config.labelled {
            0 => Vec::new(),
            _ => labelled_cases(&store, config.labelled_cases.as_deref())?,
        };
        let unlabelled = match config.unlabelled {
            0 => Vec::new(),
            _ => unlabelled_cases(&store, config.unlabelled_cases.as_deref())?,
        };
        check_ahead(&config, crate::available_memory())?;
        let patch = config.patch_size;
        if pipelines.strong.initial_shape(patch) != patch {
            let reason = "the strong transforms move voxels; only intensity may differ";
            return Err(Error::setting("strong", reason));
        }
        let sampler = |p: &Pipeline| PatchSampler::new(p.initial_shape(patch), patch);
        let samplers = [
            sampler(&pipelines.labelled)?,
            sampler(&pipelines.unlabelled)?,
        ];
        let first = config.first_iteration;
        let end = first.saturating_add(config.iterations);
        let (threads, ahead) = (config.workers, config.prefetch.max(1));
        let about = |case: &'_ StoredCase| {
            let facts = &case.record().provenance;
            (facts.vendor.clone(), facts.phase.clone())
        };
        let draw = |about: Vec<(Option<String>, Option<String>)>| {
            let about = about.iter().map(|(v, p)| (v.as_deref(), p.as_deref()));
            CaseDraw::new(config.balance, about)
        };
        let draw_labelled = draw(labelled.iter().map(|case| about(case)).collect());
        let draw_unlabelled = draw(unlabelled.iter().map(|case| about(case.case())).collect());
        let maker = Arc::new(PatchMaker {
            config,
            labelled,
            unlabelled,
            draw_labelled,
            draw_unlabelled,
            making: AtomicU64::new(0),
            samplers,
            pipelines,
            seed,
        });
        let workers = match threads {
            0 => None,
            _ => Some(Workers::start(&maker, threads, ahead, first..end)?),
        };
        Ok(Self {
            maker,
            next: first,
            end,
            workers,
            stats: LoaderStats::default(),
            reported: LoaderStats::default(),
            started: None,
            handed_over: None,
        })
    }

    /// Where the time went so far.
    pub fn stats(&self) -> LoaderStats {
        LoaderStats {
            making: Duration::from_nanos(self.maker.making.load(Ordering::Relaxed)),
            total: self.started.map(|at| at.elapsed()).unwrap_or_default(),
            ..self.stats
        }
    }

    /// Where the time went since this was last asked, or since the first batch: call it once an epoch.
    pub fn epoch_stats(&mut self) -> LoaderStats {
        let now = self.stats();
        now.since(&std::mem::replace(&mut self.reported, now))
    }

    fn batch(&mut self, iteration: u64) -> Result<Batch> {
        let mut batch = Batch {
            iteration,
            labelled: Vec::with_capacity(self.maker.config.labelled),
            unlabelled: Vec::with_capacity(self.maker.config.unlabelled),
        };
        let mut failed = None;
        for patch in 0..self.maker.patches() {
            let made = match &mut self.workers {
                None => self.maker.make(iteration, patch),
                Some(workers) => workers.take((iteration, patch)),
            };
            match made {
                Ok(Patch::Labelled(patch)) => batch.labelled.push(patch),
                Ok(Patch::Unlabelled(patch)) => batch.unlabelled.push(patch),
                // The other patches are taken off the queue before the first error is reported.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(batch), Err)
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    /// The batch of the next iteration; waits for it. A batch that fails is reported and the next
    /// one can be asked for.
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let asked = Instant::now();
        self.started.get_or_insert(asked);
        if let Some(before) = self.handed_over {
            self.stats.computed += asked - before;
        }
        let batch = self.batch(self.next);
        self.next += 1;
        self.stats.batches += 1;
        let now = Instant::now();
        self.stats.waited += now - asked;
        self.handed_over = Some(now);
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.end - self.next);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

fn labelled_cases(store: &CaseStore, ids: Option<&[String]>) -> Result<Vec<Arc<StoredCase>>> {
    let cases: Vec<_> = match ids {
        None => store.subset(Subset::Labelled).cloned().collect(),
        Some(ids) => find(store, "labelled_cases", ids)?,
    };
    if let Some(case) = cases.iter().find(|case| case.label().is_none()) {
        let reason = format!("case `{}` has no label", case.id());
        return Err(Error::setting("labelled_cases", reason));
    }
    if cases.is_empty() {
        let reason = "there is no labelled case";
        return Err(Error::setting("labelled_cases", reason));
    }
    if cases.iter().all(|case| case.foreground_labels().len() == 0) {
        return Err(Error::setting("labelled_cases", no_foreground(cases.len())));
    }
    Ok(cases)
}

fn unlabelled_cases(store: &CaseStore, ids: Option<&[String]>) -> Result<Vec<ImageOnly>> {
    let cases: Vec<_> = match ids {
        None => store.subset(Subset::Unlabelled).cloned().collect(),
        Some(ids) => find(store, "unlabelled_cases", ids)?,
    };
    match cases.is_empty() {
        true => {
            let reason = "there is no unlabelled case; set `unlabelled` to 0 to do without";
            Err(Error::setting("unlabelled_cases", reason))
        }
        false => Ok(cases.into_iter().map(ImageOnly::new).collect()),
    }
}

fn find(store: &CaseStore, field: &'static str, ids: &[String]) -> Result<Vec<Arc<StoredCase>>> {
    ids.iter()
        .map(|id| {
            store.get(id).cloned().ok_or_else(|| {
                let folder = store.folder().display();
                Error::setting(field, format!("case `{id}` is not in store {folder}"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, preprocess_dataset, testing};
    use liseg_augment::{AugmentConfig, Preset};

    fn store() -> Arc<CaseStore> {
        let (_folder, dataset) = testing::dataset();
        let out = tempfile::tempdir().unwrap();
        let plan = testing::tiny_plan();
        preprocess_dataset(&dataset, &plan, out.path(), &Default::default(), |_| {}).unwrap();
        // The mappings outlive the files' names.
        Arc::new(CaseStore::open(out.path()).unwrap())
    }

    fn config() -> LoaderConfig {
        LoaderConfig {
            labelled: 3,
            unlabelled: 2,
            patch_size: [8, 16, 16],
            iterations: 6,
            workers: 0,
            ..LoaderConfig::default()
        }
    }

    fn loader(store: &Arc<CaseStore>, config: LoaderConfig) -> Result<Loader> {
        let pipeline = AugmentConfig::default().build().unwrap();
        Loader::new(Arc::clone(store), config, Arc::new(pipeline), Seed(5))
    }

    fn batches(store: &Arc<CaseStore>, config: LoaderConfig) -> Vec<Batch> {
        let loader = loader(store, config).unwrap();
        loader.map(|batch| batch.unwrap()).collect()
    }

    #[test]
    fn queues_are_no_longer_than_memory_and_threads_no_more_than_machines_have() {
        let config = LoaderConfig {
            patch_size: [128; 3],
            unlabelled: 1,
            strong_views: 2,
            prefetch: 3,
            ..LoaderConfig::default()
        };
        // Two labelled patches and three views, four batches of them.
        let needed = 4 * (2 * 5 + 3 * 4) * 128u64.pow(3);
        check_ahead(&config, Some(needed)).unwrap();
        check_ahead(&config, None).unwrap();
        let refused = check_ahead(&config, Some(needed - 1)).unwrap_err();
        assert!(refused.to_string().contains("`prefetch`"), "{refused}");
        let store = store();
        for (workers, prefetch, field) in [(1, usize::MAX, "`prefetch`"), (1 << 40, 1, "`workers`")]
        {
            let config = LoaderConfig {
                workers,
                prefetch,
                ..super::tests::config()
            };
            let refused = loader(&store, config).unwrap_err().to_string();
            assert!(refused.contains(field), "{refused}");
        }
    }

    #[test]
    fn batches_do_not_depend_on_workers_or_on_where_a_run_began() {
        let store = store();
        let expected = batches(&store, config());
        assert_eq!(expected.len(), 6);
        for (workers, prefetch) in [(1, 1), (3, 4), (3, 0)] {
            let config = LoaderConfig {
                workers,
                prefetch,
                ..config()
            };
            assert!(
                batches(&store, config) == expected,
                "{workers} workers differ"
            );
        }
        for workers in [0, 3] {
            let later = LoaderConfig {
                workers,
                first_iteration: 4,
                iterations: 2,
                ..config()
            };
            assert!(
                batches(&store, later) == expected[4..],
                "a later start differs"
            );
        }
        let iterations: Vec<u64> = expected.iter().map(|b| b.iteration).collect();
        assert_eq!(iterations, [0, 1, 2, 3, 4, 5]);
        assert_ne!(expected[0], expected[1]);
    }

    #[test]
    fn patches_are_what_was_asked_for() {
        let store = store();
        let config = LoaderConfig {
            iterations: 40,
            ..config()
        };
        let mut loader = Loader::new(store, config, Arc::new(Pipeline::new()), Seed(5)).unwrap();
        let mut phases = std::collections::BTreeSet::new();
        for batch in &mut loader {
            let batch = batch.unwrap();
            assert_eq!((batch.labelled.len(), batch.unlabelled.len()), (3, 2));
            for patch in &batch.labelled {
                assert_eq!(patch.image.dim(), (1, 8, 16, 16));
                assert!(["case_0", "case_1", "case_2"].contains(&patch.origin.case.as_str()));
                for ((image, label), valid) in
                    patch.image.iter().zip(&patch.label).zip(&patch.valid)
                {
                    assert!(*label <= 1 && *valid <= 1);
                    assert!(*valid == 1 || (*image == 0.0 && *label == 0));
                }
            }
            // The last of three is forced, and nothing turns it away.
            assert!(batch.labelled[2].label.iter().any(|&v| v == 1));
            for patch in &batch.unlabelled {
                assert!(["case_3", "case_4"].contains(&patch.origin.case.as_str()));
                assert_eq!(patch.origin.vendor.as_deref(), Some("A"));
                phases.insert(patch.origin.phase.clone());
            }
        }
        assert_eq!(phases.len(), 2);
        let stats = loader.stats();
        assert_eq!(stats.batches, 40);
        assert!(stats.waited > Duration::ZERO && stats.waited + stats.computed <= stats.total);
        assert!(stats.making > Duration::ZERO && stats.making <= stats.waited);
        assert_eq!(loader.epoch_stats().batches, 40);
        assert_eq!(loader.epoch_stats().batches, 0);
    }

    #[test]
    fn a_case_with_a_label_may_serve_without_it() {
        let store = store();
        let ids = |names: &[&str]| Some(names.iter().map(|&n| n.to_owned()).collect());
        let config = LoaderConfig {
            labelled_cases: ids(&["case_1"]),
            unlabelled_cases: ids(&["case_0"]),
            ..config()
        };
        for batch in batches(&store, config) {
            assert!(batch.labelled.iter().all(|p| p.origin.case == "case_1"));
            assert!(batch.unlabelled.iter().all(|p| p.origin.case == "case_0"));
        }
    }

    #[test]
    fn an_epoch_reports_its_own_waiting_and_computing() {
        let store = store();
        let config = LoaderConfig {
            workers: 2,
            iterations: 8,
            ..config()
        };
        let mut loader = loader(&store, config).unwrap();
        let pause = Duration::from_millis(4);
        for epoch in 0..2 {
            for _ in 0..4 {
                loader.next().unwrap().unwrap();
                std::thread::sleep(pause);
            }
            let stats = loader.epoch_stats();
            assert_eq!(stats.batches, 4);
            // The pause behind the last batch belongs to the next epoch.
            assert!(stats.computed >= pause * (3 + epoch), "{stats:?}");
            assert!((0.0..1.0).contains(&stats.waiting_share()));
        }
    }

    #[test]
    fn balance_changes_which_cases_come_and_not_how_they_are_cut() {
        let store = store();
        let config = LoaderConfig {
            balance: Balance::Phases,
            iterations: 60,
            ..config()
        };
        // Labelled: two of GED4, one of T2; a uniform draw gives T2 a third.
        let made = batches(&store, config);
        let patches = made.iter().flat_map(|batch| &batch.labelled);
        let share = patches
            .filter(|p| p.origin.phase.as_deref() == Some("T2"))
            .count();
        assert!((70..110).contains(&share), "{share} of 180");
    }

    #[test]
    fn strong_views_change_intensities_and_nothing_else() {
        let store = store();
        let build = |preset| Arc::new(AugmentConfig::preset(preset).build().unwrap());
        let mut noisy = AugmentConfig::preset(Preset::Intensity);
        noisy.noise_probability = 1.0;
        noisy.noise_sigma = liseg_augment::Interval::new(0.01, 0.02);
        noisy.blur_probability = 0.0;
        let pipelines = Pipelines {
            labelled: build(Preset::Nnunet),
            unlabelled: build(Preset::Spatial),
            strong: Arc::new(noisy.build().unwrap()),
        };
        let made = |strong_views, workers| -> Vec<Batch> {
            let config = LoaderConfig {
                strong_views,
                workers,
                ..config()
            };
            let loader = Loader::new(Arc::clone(&store), config, pipelines.clone(), Seed(5));
            loader.unwrap().map(|batch| batch.unwrap()).collect()
        };
        let (none, two) = (made(0, 0), made(2, 0));
        assert!(two == made(2, 3), "views depend on the number of workers");
        for (without, with) in none.iter().zip(&two) {
            assert_eq!(without.labelled, with.labelled);
            for (weak, patch) in without.unlabelled.iter().zip(&with.unlabelled) {
                assert!(weak.image == patch.image && weak.valid == patch.valid);
                let [a, b] = &patch.strong[..] else {
                    panic!("two views")
                };
                assert!(a != b && *a != patch.image && a.dim() == patch.image.dim());
            }
        }
        // A voxel of a strong view comes from the same voxel of the weak one.
        let correlated = two.iter().flat_map(|b| &b.unlabelled).all(|patch| {
            let (weak, strong) = (&patch.image, &patch.strong[0]);
            let mean = |a: &ndarray::Array4<f32>| a.mean().unwrap();
            let (m, n) = (mean(weak), mean(strong));
            let sum = |f: &dyn Fn(f32, f32) -> f32| -> f32 {
                weak.iter()
                    .zip(strong)
                    .map(|(&a, &b)| f(a - m, b - n))
                    .sum()
            };
            let r = sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
            r > 0.8
        });
        assert!(correlated);
    }

    #[test]
    fn dropping_a_loader_early_stops_its_threads() {
        let store = store();
        for taken in [0, 1, 3] {
            let config = LoaderConfig {
                workers: 3,
                prefetch: 8,
                iterations: u64::MAX,
                first_iteration: 10,
                ..config()
            };
            let loader = loader(&store, config).unwrap();
            assert_eq!(loader.take(taken).filter(|b| b.is_ok()).count(), taken);
        }
    }

    #[test]
    fn refuses_what_cannot_be_loaded() {
        let store = store();
        let names = |name: &str| Some(vec![name.to_owned()]);
        let failing = [
            (
                LoaderConfig {
                    labelled: 0,
                    unlabelled: 0,
                    ..config()
                },
                "no patches",
            ),
            (
                LoaderConfig {
                    foreground_share: f64::NAN,
                    ..config()
                },
                "NaN",
            ),
            (
                LoaderConfig {
                    labelled_cases: names("case_9"),
                    ..config()
                },
                "`case_9` is not in",
            ),
            (
                LoaderConfig {
                    labelled_cases: names("case_3"),
                    ..config()
                },
                "has no label",
            ),
            (
                LoaderConfig {
                    unlabelled_cases: Some(vec![]),
                    ..config()
                },
                "no unlabelled case",
            ),
            (
                LoaderConfig {
                    patch_size: [0, 8, 8],
                    ..config()
                },
                "patch",
            ),
        ];
        for (config, part) in failing {
            let message = loader(&store, config).unwrap_err().to_string();
            assert!(message.contains(part), "expected `{part}` in: {message}");
        }
    }

    #[test]
    fn a_failing_patch_is_reported_and_the_next_batch_comes() {
        struct Faulty;
        impl liseg_augment::Transform for Faulty {
            fn name(&self) -> &'static str {
                "faulty"
            }
            fn sample(
                &self,
                _: &liseg_augment::PatchInfo,
                rng: &mut dyn rand::Rng,
            ) -> liseg_augment::Params {
                assert!(
                    !rng.next_u32().is_multiple_of(8),
                    "one patch in eight panics"
                );
                liseg_augment::Params::Mirror { axes: [true; 3] }
            }
        }
        let pipeline = Arc::new(Pipeline::new().with(1.0, Faulty));
        let config = LoaderConfig {
            workers: 2,
            iterations: 20,
            ..config()
        };
        let loader = Loader::new(store(), config, pipeline, Seed(1)).unwrap();
        let results: Vec<_> = loader.collect();
        assert_eq!(results.len(), 20);
        let good = results.iter().flatten().count();
        assert!((1..20).contains(&good), "{good}");
        for (iteration, result) in results.iter().enumerate() {
            match result {
                Ok(batch) => assert_eq!(batch.iteration, iteration as u64),
                Err(error) => assert!(matches!(error, Error::Threads { .. }), "{error}"),
            }
        }
    }
}
