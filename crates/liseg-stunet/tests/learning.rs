//! Learning in narrow number formats, on a problem that a small network solves in seconds.

use liseg_nn::loss::{DeepSupervision, DiceCrossEntropy, Target};
use liseg_nn::tch::{Device, Kind, Tensor};
use liseg_nn::{Optimiser, OptimiserConfig, Precision, SegmentationNet, clip_gradients};
use liseg_stunet::{StuNet, StuNetConfig};
use liseg_volume::Seed;

const SIDE: i64 = 16;
const STEPS: usize = 30;

/// A bright ball in waves, and which voxels are the ball.
fn problem() -> (Tensor, Target) {
    let (mut image, mut label) = (Vec::new(), Vec::new());
    for i in 0..SIDE * SIDE * SIDE {
        let (z, y, x) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
        let squared: i64 = [z, y, x].iter().map(|c| (c - 7) * (c - 7)).sum();
        let wave = (0.7 * z as f32).sin() + (1.1 * (y + 2 * x) as f32).cos();
        image.push(0.6 * wave + f32::from(u8::from(squared < 20)));
        label.push(i64::from(squared < 20));
    }
    let image = Tensor::from_slice(&image).view([1, 1, SIDE, SIDE, SIDE]);
    let label = Tensor::from_slice(&label).view([1, SIDE, SIDE, SIDE]);
    (image, Target { label, valid: None })
}

fn losses(precision: Precision) -> Vec<f64> {
    let config = StuNetConfig {
        widths: [8, 8, 8, 8, 8, 8],
        strides: [[2; 3], [2; 3], [1; 3], [1; 3], [1; 3]],
        precision,
        ..StuNetConfig::small(2)
    };
    let mut rng = Seed(1).stream("weights", 0, 0);
    let net = StuNet::new(&config, Device::Cpu, &mut rng).unwrap();
    let (image, target) = problem();
    let loss = DeepSupervision::new(DiceCrossEntropy::default());
    let mut optimiser = Optimiser::new(OptimiserConfig::adamw(), net.parameters()).unwrap();
    let mut curve = Vec::new();
    for _ in 0..STEPS {
        let scales = net.forward_scales(&image).unwrap();
        let total = loss.terms(&scales, &target).unwrap().total;
        total.backward();
        assert!(clip_gradients(net.parameters(), 12.0).unwrap().is_finite());
        optimiser.step(net.parameters(), 5e-3).unwrap();
        net.parameters().zero_grad().unwrap();
        curve.push(total.to_kind(Kind::Double).double_value(&[]));
    }
    curve
}

/// The two curves part by rounding and nothing else: at no step by more than a tenth of what was
/// learnt in all, and at the end by a twentieth.
#[test]
fn bf16_learns_as_f32_does() {
    let (narrow, wide) = (losses(Precision::Bf16), losses(Precision::F32));
    let learnt = wide[0] - wide[STEPS - 1];
    assert!(learnt > 0.7, "f32 learnt {learnt}");
    for (step, (a, b)) in narrow.iter().zip(&wide).enumerate() {
        assert!((a - b).abs() < 0.1 * learnt, "step {step}: {a} against {b}");
    }
    let end = |curve: &[f64]| curve[STEPS - 5..].iter().sum::<f64>() / 5.0;
    let off = (end(&narrow) - end(&wide)).abs();
    assert!(off < 0.05 * learnt, "{off} of {learnt}");
}
