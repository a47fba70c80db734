//! Less memory in training: maps that are computed again instead of being kept.

use crate::{Result, shim};
use std::cell::Cell;
use tch::Tensor;

/// Runs a stage of a network on one or two inputs, keeping nothing of its inside for the backward pass, which
/// runs the stage a second time.
///
/// Values and gradients are those of `stage(inputs)`; on a CPU bit for bit, as the same operations run
/// in the same order. (Where a map feeds several stages, their gradients may add up in another order.) `trained` is one of the stage's weights that require a gradient, if one does:
/// through it the result requires one even where no input does. Where no gradients are recorded this
/// is `stage(inputs)`.
///
/// # Errors
/// Those of `stage`, and libtorch's. An error in the second run comes out of `backward`.
///
/// # Source
/// Chen et al. 2016, arXiv 1604.06174.
pub fn checkpointed(
    first: &Tensor,
    second: Option<&Tensor>,
    trained: Option<&Tensor>,
    stage: impl Fn(&[Tensor]) -> Result<Tensor> + Send + 'static,
) -> Result<Tensor> {
    let inputs = || [Some(first), second].into_iter().flatten();
    match trained.or_else(|| inputs().find(|input| input.requires_grad())) {
        Some(anchor) if shim::records_gradients() => {
            let marked = move |inputs: &[Tensor]| {
                let _mark = Mark::set();
                stage(inputs)
            };
            shim::checkpoint((first, second), anchor, Box::new(marked))
        }
        _ => stage(&inputs().map(Tensor::shallow_clone).collect::<Vec<_>>()),
    }
}

thread_local! {
    /// Whether this thread is within a checkpointed stage.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as within a stage until it is dropped.
struct Mark;

impl Mark {
    fn set() -> Self {
        WITHIN.set(true);
        Self
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        WITHIN.set(false);
    }
}

/// Whether nobody will ask for gradients of what this thread computes now: none are recorded, and it is not the first
/// run of a checkpointed stage, whose second run must give the same bits.
pub(crate) fn is_without_gradients() -> bool {
    !shim::records_gradients() && !WITHIN.get()
}

/// Whether operations of this thread record a graph for gradients: true until a
/// [`tch::no_grad_guard`] is held.
pub fn records_gradients() -> bool {
    shim::records_gradients()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Conv3d, InstanceNorm};
    use crate::{Error, Parameters};
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tch::{Device, Kind};

    struct Stage {
        parameters: Parameters,
        conv: Conv3d,
        norm: InstanceNorm,
    }

    fn stage() -> Stage {
        let mut parameters = Parameters::new(Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let conv = Conv3d::new(&mut parameters, "conv", (2, 8), 3, [1; 3], &mut rng).unwrap();
        let norm = InstanceNorm::new(&mut parameters, "norm", 8).unwrap();
        Stage {
            parameters,
            conv,
            norm,
        }
    }

    fn input(wants_gradient: bool) -> Tensor {
        let values: Vec<f32> = (0..2 * 4 * 5 * 6)
            .map(|i| ((i * 37) % 11) as f32 / 5.0)
            .collect();
        Tensor::from_slice(&values)
            .view([1, 2, 4, 5, 6])
            .set_requires_grad(wants_gradient)
    }

    /// The output, the input's gradient and the weights', of the same stage with and without.
    fn both(wants_gradient: bool) -> [Vec<Tensor>; 2] {
        [false, true].map(|checkpointing| {
            let Stage {
                parameters,
                conv,
                norm,
            } = stage();
            let x = input(wants_gradient);
            let anchor = parameters.get("conv.weight").unwrap().shallow_clone();
            let run = move |x: &[Tensor]| norm.rectified(conv.forward(&x[0])?, Some(&x[1]));
            let other = Tensor::full([1, 8, 4, 5, 6], 0.25, (Kind::Float, Device::Cpu));
            let other = other.set_requires_grad(true);
            let y = if checkpointing {
                checkpointed(&x, Some(&other), Some(&anchor), run).unwrap()
            } else {
                run(&[x.shallow_clone(), other.shallow_clone()]).unwrap()
            };
            (&y * &y).mean(Kind::Float).f_backward().unwrap();
            let mut found = vec![y.detach(), x.grad(), other.grad()];
            found.extend(parameters.iter().map(|(_, weight)| weight.grad()));
            found
        })
    }

    #[test]
    fn values_and_gradients_are_those_of_the_stage_itself() {
        for wants_gradient in [true, false] {
            let [kept, again] = both(wants_gradient);
            assert_eq!(kept.len(), again.len());
            for (i, (a, b)) in kept.iter().zip(&again).enumerate() {
                assert_eq!(a.defined(), b.defined(), "{i}");
                if a.defined() {
                    assert!(a.equal(b), "{i}");
                }
            }
        }
    }

    #[test]
    fn the_stage_runs_again_only_for_gradients_and_is_dropped_with_the_graph() {
        let runs = Arc::new(AtomicUsize::new(0));
        let weight = Tensor::from_slice(&[2.0f32]).set_requires_grad(true);
        let counted = |runs: &Arc<AtomicUsize>| {
            let (runs, weight) = (Arc::clone(runs), weight.shallow_clone());
            move |x: &[Tensor]| {
                runs.fetch_add(1, Ordering::Relaxed);
                Ok(x[0].f_mul(&weight)?)
            }
        };
        let x = Tensor::from_slice(&[3.0f32]);
        {
            let _guard = tch::no_grad_guard();
            let y = checkpointed(&x, None, Some(&weight), counted(&runs)).unwrap();
            assert!(!y.requires_grad());
        }
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        let y = checkpointed(&x, None, Some(&weight), counted(&runs)).unwrap();
        assert_eq!(
            (runs.load(Ordering::Relaxed), Arc::strong_count(&runs)),
            (2, 2)
        );
        y.backward();
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        assert_eq!(weight.grad().double_value(&[0]), 3.0);
        drop(y);
        assert_eq!(Arc::strong_count(&runs), 1);
    }

    #[test]
    fn a_stage_that_fails_or_panics_is_an_error() {
        let weight = Tensor::from_slice(&[2.0f32]).set_requires_grad(true);
        let fail = |_: &[Tensor]| Err(Error::Weights("broken".into()));
        assert!(checkpointed(&weight, None, None, fail).is_err());
        let panicked = checkpointed(&weight, None, None, |_: &[Tensor]| panic!("on purpose"));
        assert!(panicked.is_err());
    }
}
