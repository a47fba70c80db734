//! Networks and batches for tests of strategies.

use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{OptimiserConfig, Parameters, Precision, SegmentationNet, TensorMap, checkpoint};
use liseg_ssl::{Batch, Labelled, Progress, StepContext, Strategy, StrategyConfig, Unlabelled};
use liseg_stunet::{StuNet, StuNetConfig};
use liseg_volume::Seed;
use std::path::Path;

/// A network of one 1×1×1 convolution: logits are affine in the voxel.
pub(crate) struct Pointwise(Parameters);

impl Pointwise {
    /// logit_c = weight_c · voxel + bias_c.
    pub(crate) fn boxed(weight: [f32; 2], bias: [f32; 2]) -> Box<dyn SegmentationNet> {
        let mut parameters = Parameters::new(Device::Cpu);
        for (name, values) in [("weight", weight), ("bias", bias)] {
            let values = Tensor::from_slice(&values).view([1, 2, 1, 1, 1]);
            let _ = parameters.add(name, values).unwrap();
        }
        Box::new(Self(parameters))
    }
}

impl SegmentationNet for Pointwise {
    fn forward_scales(&self, images: &Tensor) -> liseg_nn::Result<Vec<Tensor>> {
        Ok(vec![self.forward(images)?])
    }
    fn forward(&self, images: &Tensor) -> liseg_nn::Result<Tensor> {
        let of = |name| self.0.get(name).unwrap();
        Ok(images * of("weight") + of("bias"))
    }
    fn parameters(&self) -> &Parameters {
        &self.0
    }
    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.0
    }
    fn classes(&self) -> i64 {
        2
    }
    fn stride_product(&self) -> [usize; 3] {
        [1; 3]
    }
    fn head_prefixes(&self) -> Vec<String> {
        vec![]
    }
}

/// A network whose output is its only parameter: the logits of sample i, where i is the value of
/// the image. Any logits can be fed to a strategy this way, and its gradients read back.
pub(crate) struct Table(Parameters);

impl Table {
    pub(crate) fn boxed(logits: &Tensor) -> Box<dyn SegmentationNet> {
        let mut parameters = Parameters::new(Device::Cpu);
        let _ = parameters.add("logits", logits.copy()).unwrap();
        Box::new(Self(parameters))
    }
}

impl SegmentationNet for Table {
    fn forward_scales(&self, images: &Tensor) -> liseg_nn::Result<Vec<Tensor>> {
        Ok(vec![self.forward(images)?])
    }
    fn forward(&self, images: &Tensor) -> liseg_nn::Result<Tensor> {
        let which = images.select(4, 0).select(3, 0).select(2, 0).select(1, 0);
        let logits = self.0.get("logits").unwrap();
        Ok(logits.index_select(0, &which.to_kind(Kind::Int64)))
    }
    fn parameters(&self) -> &Parameters {
        &self.0
    }
    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.0
    }
    fn classes(&self) -> i64 {
        2
    }
    fn stride_product(&self) -> [usize; 3] {
        [1; 3]
    }
    fn head_prefixes(&self) -> Vec<String> {
        vec![]
    }
}

/// Images that name samples `from..to` on the grid of `logits`.
pub(crate) fn images(from: i64, to: i64, logits: &Tensor) -> Tensor {
    let size = logits.size();
    let names = Tensor::arange_start(from, to, (Kind::Float, Device::Cpu));
    names
        .view([to - from, 1, 1, 1, 1])
        .expand([to - from, 1, size[2], size[3], size[4]], false)
}

/// A small STU-Net with weights drawn for `name`.
pub(crate) fn stunet(name: &str) -> Box<dyn SegmentationNet> {
    let shape = StuNetConfig {
        widths: [4; 6],
        strides: [[2; 3], [1, 2, 2], [1; 3], [1; 3], [1; 3]],
        precision: Precision::F32,
        ..StuNetConfig::small(2)
    };
    Box::new(StuNet::new(&shape, Device::Cpu, &mut Seed(3).stream(name, 0, 0)).unwrap())
}

/// A strategy on small STU-Nets.
pub(crate) fn build(config: &StrategyConfig) -> Box<dyn Strategy> {
    config
        .build(OptimiserConfig::adam(), &mut |name| Ok(stunet(name)))
        .unwrap()
}

/// Every strategy with its default settings.
pub(crate) fn every_strategy() -> Vec<StrategyConfig> {
    StrategyConfig::NAMES
        .iter()
        .map(|name| toml::from_str(&format!("name = \"{name}\"")).unwrap())
        .collect()
}

/// `patches` patches with and as many without labels, whose bright half is foreground.
pub(crate) fn patches(patches: i64, strong_views: usize) -> Batch {
    let x = Tensor::arange(16, (Kind::Float, Device::Cpu)).view([1, 1, 1, 1, 16]) / 8.0 - 1.0;
    let one = x.expand([1, 1, 4, 8, 16], false).contiguous();
    let all: Vec<Tensor> = (0..patches)
        .map(|i| &one * (1.0 - 0.1 * i as f64))
        .collect();
    let image = Tensor::cat(&all, 0);
    let weak = &image * 0.9;
    let strong = (0..strong_views)
        .map(|view| &weak * (1.2 + 0.2 * view as f64) + 0.1)
        .collect();
    Batch {
        labelled: Some(Labelled {
            image: image.copy(),
            label: image.squeeze_dim(1).gt(0.0).to_kind(Kind::Int64),
            valid: None,
        }),
        unlabelled: Some(Unlabelled {
            image: weak,
            strong,
            valid: None,
        }),
    }
}

/// The batch that a strategy asks for.
pub(crate) fn batch_for(strategy: &dyn Strategy) -> Batch {
    let request = strategy.request();
    let count = request.labelled.max(request.unlabelled) as i64;
    let mut batch = patches(count, request.strong_views);
    if request.unlabelled == 0 {
        batch.unlabelled = None;
    }
    batch
}

/// Takes optimisation steps as the trainer would; returns the log of each.
pub(crate) fn train(
    strategy: &mut dyn Strategy,
    steps: std::ops::Range<u64>,
    (lr, micro_batch): (f64, usize),
) -> Vec<std::collections::BTreeMap<&'static str, f64>> {
    let batch = batch_for(strategy);
    steps
        .map(|iteration| {
            let progress = Progress {
                iteration,
                iterations: 10,
            };
            let mut context = StepContext::new(progress, micro_batch).with_seed(Seed(8));
            strategy.step(&batch, &mut context).unwrap();
            assert!(strategy.optimise(lr, 12.0).unwrap()[0].is_finite());
            strategy.after_step(&context).unwrap();
            context.log().unwrap()
        })
        .collect()
}

/// Everything a strategy owns.
pub(crate) fn state(strategy: &dyn Strategy) -> TensorMap {
    let mut map = TensorMap::new();
    strategy.save_into(&mut map).unwrap();
    map
}

pub(crate) fn equal(a: &TensorMap, b: &TensorMap) -> bool {
    a.len() == b.len() && a.iter().all(|(name, tensor)| b[name].equal(tensor))
}

/// What is done with a reference case: its description, and its tensors by name.
pub(crate) type Check<'a> = dyn FnMut(&serde_json::Value, &dyn Fn(&str) -> Option<Tensor>) + 'a;

/// Calls `check` with every reference case of a group; returns how many there were.
pub(crate) fn golden(group: &str, check: &mut Check<'_>) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/ssl");
    let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let groups = manifest["groups"].as_array().unwrap();
    let found = groups.iter().find(|g| g["name"] == group).unwrap();
    let tensors = match found["tensors"].as_str() {
        Some(file) => checkpoint::read(&folder.join(file)).unwrap().0,
        None => TensorMap::new(),
    };
    let cases = found["cases"].as_array().unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let of = |part: &str| tensors.get(&format!("{name}.{part}")).map(Tensor::copy);
        check(case, &of);
    }
    cases.len()
}
