//! Optimisers whose state can be saved and restored exactly.

use crate::shim::{self, AdamStep};
use crate::{Error, Parameters, Result, TensorMap};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Which optimiser, with its constants. The learning rate is given to every step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum OptimiserConfig {
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Momentum; nnU-Net uses 0.99.
        #[serde(default = "nnunet_momentum")]
        momentum: f64,
        /// Nesterov's form of momentum; nnU-Net uses it.
        #[serde(default = "yes")]
        nesterov: bool,
        /// L2 penalty added to the gradient; nnU-Net uses 3e-5.
        #[serde(default = "nnunet_weight_decay")]
        weight_decay: f64,
    },
    /// Adam (Kingma & Ba 2015), with the L2 penalty added to the gradient.
    Adam {
        /// Decay rates of the first and second moment.
        #[serde(default = "adam_betas")]
        betas: [f64; 2],
        /// Added to the denominator.
        #[serde(default = "adam_epsilon")]
        epsilon: f64,
        /// L2 penalty added to the gradient.
        #[serde(default = "nnunet_weight_decay")]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    AdamW {
        /// Decay rates of the first and second moment.
        #[serde(default = "adam_betas")]
        betas: [f64; 2],
        /// Added to the denominator.
        #[serde(default = "adam_epsilon")]
        epsilon: f64,
        /// Share of the weights, times the learning rate, taken off at every step.
        #[serde(default = "adamw_weight_decay")]
        weight_decay: f64,
    },
}

fn nnunet_momentum() -> f64 {
    0.99
}
fn yes() -> bool {
    true
}
fn nnunet_weight_decay() -> f64 {
    3e-5
}
fn adam_betas() -> [f64; 2] {
    [0.9, 0.999]
}
fn adam_epsilon() -> f64 {
    1e-8
}
fn adamw_weight_decay() -> f64 {
    1e-2
}

impl OptimiserConfig {
    /// SGD as nnU-Net uses it: Nesterov momentum 0.99, weight decay 3e-5.
    pub fn sgd() -> Self {
        Self::Sgd {
            momentum: 0.99,
            nesterov: true,
            weight_decay: 3e-5,
        }
    }

    /// Adam with the usual constants and nnU-Net's weight decay 3e-5.
    pub fn adam() -> Self {
        Self::Adam {
            betas: adam_betas(),
            epsilon: 1e-8,
            weight_decay: 3e-5,
        }
    }

    /// AdamW with PyTorch's constants.
    pub fn adamw() -> Self {
        Self::AdamW {
            betas: adam_betas(),
            epsilon: 1e-8,
            weight_decay: 1e-2,
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |field, reason: String| Err(Error::Setting { field, reason });
        let share = |v: f64| (0.0..1.0).contains(&v);
        let (weight_decay, decays) = match *self {
            Self::Sgd {
                momentum,
                weight_decay,
                ..
            } => (weight_decay, [momentum, 0.0]),
            Self::Adam {
                betas,
                epsilon,
                weight_decay,
            }
            | Self::AdamW {
                betas,
                epsilon,
                weight_decay,
            } => {
                if !(epsilon > 0.0 && epsilon.is_finite()) {
                    return refuse("optimiser.epsilon", format!("{epsilon} must be positive"));
                }
                (weight_decay, betas)
            }
        };
        if !decays.into_iter().all(share) {
            return refuse(
                "optimiser.betas or optimiser.momentum",
                format!("{decays:?} must each lie in 0..1"),
            );
        }
        if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
            return refuse(
                "optimiser.weight_decay",
                format!("{weight_decay} must be 0 or more"),
            );
        }
        Ok(())
    }
}

/// An optimiser bound to the parameters of one network.
///
/// State is kept in f32 on the parameters' device, and saved under `{prefix}{name}.{moment}`.
#[derive(Debug)]
pub struct Optimiser {
    config: OptimiserConfig,
    steps: i64,
    /// For every parameter its moments: one for SGD, two for Adam.
    moments: Vec<Vec<Tensor>>,
    names: Vec<String>,
}

impl Optimiser {
    /// A fresh optimiser for these parameters.
    ///
    /// # Errors
    /// [`Error::Setting`] for constants out of range; when libtorch fails.
    pub fn new(config: OptimiserConfig, parameters: &Parameters) -> Result<Self> {
        config.check()?;
        let count = if matches!(config, OptimiserConfig::Sgd { .. }) {
            1
        } else {
            2
        };
        let mut moments = Vec::with_capacity(parameters.len());
        for (_, tensor) in parameters.iter() {
            let like = tensor.f_detach()?;
            moments.push(
                (0..count)
                    .map(|_| Ok(like.f_zeros_like()?))
                    .collect::<Result<_>>()?,
            );
        }
        let names = parameters.iter().map(|(name, _)| name.to_owned()).collect();
        Ok(Self {
            config,
            steps: 0,
            moments,
            names,
        })
    }

    /// How many steps it has taken.
    pub fn steps(&self) -> u64 {
        self.steps as u64
    }

    /// Moves every parameter that has a gradient by one step at learning rate `lr` times the
    /// parameter's own factor ([`Parameters::set_rates`]).
    ///
    /// SGD: d = g + decay·w; v = momentum·v + d, beginning with v = d; w −= lr·(d + momentum·v) with
    /// Nesterov, else w −= lr·v. Adam: m = β₁m + (1−β₁)g; s = β₂s + (1−β₂)g²;
    /// w −= lr·m̂ / (√ŝ + ε) with m̂ = m/(1−β₁ᵗ), ŝ = s/(1−β₂ᵗ); its penalty is added to g. AdamW first
    /// takes lr·decay·w off w. These are libtorch's fused kernels. A parameter without a gradient, which no loss of the step
    /// depends on, stays as it is; t counts the steps of all together.
    ///
    /// # Errors
    /// [`Error::Weights`] when these are not the parameters it was made for; when libtorch fails.
    pub fn step(&mut self, parameters: &Parameters, lr: f64) -> Result<()> {
        if parameters.len() != self.moments.len() {
            return Err(Error::Weights(format!(
                "the optimiser was made for {} parameters and was given {}",
                self.moments.len(),
                parameters.len()
            )));
        }
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        // One kernel for all parameters of one learning rate, in place of a handful for each.
        let mut groups: Vec<(f64, Group)> = Vec::new();
        for (entry, moments) in parameters.entries().zip(&self.moments) {
            let gradient = entry.tensor.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            let at = groups
                .iter()
                .position(|(rate, _)| rate.to_bits() == entry.rate.to_bits());
            let at = at.unwrap_or_else(|| {
                groups.push((entry.rate, Group::default()));
                groups.len() - 1
            });
            groups[at].1.add(&entry.tensor, gradient, moments)?;
        }
        for (rate, group) in &groups {
            self.step_group(group, lr * rate)?;
        }
        Ok(())
    }

    fn step_group(&self, group: &Group, lr: f64) -> Result<()> {
        let Group {
            weights,
            gradients,
            first,
            second,
        } = group;
        let (betas, epsilon, weight_decay, decoupled) = match self.config {
            OptimiserConfig::Sgd {
                momentum,
                nesterov,
                weight_decay,
            } => {
                // Without momentum libtorch takes no velocities.
                let (velocities, nesterov) = match momentum {
                    0.0 => (&[][..], false),
                    _ => (first.as_slice(), nesterov),
                };
                let lists = [weights.as_slice(), gradients.as_slice(), velocities];
                return shim::fused_sgd(lists, lr, momentum, weight_decay, nesterov);
            }
            OptimiserConfig::Adam {
                betas,
                epsilon,
                weight_decay,
            } => (betas, epsilon, weight_decay, false),
            OptimiserConfig::AdamW {
                betas,
                epsilon,
                weight_decay,
            } => (betas, epsilon, weight_decay, true),
        };
        let Some(device) = weights.first().map(Tensor::device) else {
            return Ok(());
        };
        // Made there: a copy would wait until the device has done all it was given.
        let steps = Tensor::f_scalar_tensor(self.steps as f64, (Kind::Float, device))?;
        let how = AdamStep {
            lr,
            betas,
            epsilon,
            weight_decay,
            decoupled,
        };
        shim::fused_adam(
            [weights, gradients, first, second].map(Vec::as_slice),
            &steps,
            how,
        )
    }

    /// Copies the state into `map`, on the CPU, under names that begin with `prefix`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn save_into(&self, prefix: &str, map: &mut TensorMap) -> Result<()> {
        map.insert(
            format!("{prefix}steps"),
            Tensor::f_from_slice(&[self.steps])?,
        );
        for (name, moments) in self.names.iter().zip(&self.moments) {
            for (i, moment) in moments.iter().enumerate() {
                let copy = moment.f_to_device(Device::Cpu)?.f_detach_copy()?;
                map.insert(format!("{prefix}{name}.moment{}", i + 1), copy);
            }
        }
        Ok(())
    }

    /// Restores the state that [`Optimiser::save_into`] saved under `prefix`.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or has another shape; nothing is changed then.
    pub fn load(&mut self, prefix: &str, map: &TensorMap) -> Result<()> {
        let find = |key: String, size: Vec<i64>| match map.get(&key) {
            Some(tensor) if tensor.size() == size => Ok(tensor),
            Some(tensor) => Err(Error::Weights(format!(
                "optimiser state `{key}` is {:?}; expected {size:?}",
                tensor.size()
            ))),
            None => Err(Error::Weights(format!(
                "optimiser state `{key}` is missing"
            ))),
        };
        let steps = find(format!("{prefix}steps"), vec![1])?.f_int64_value(&[0])?;
        let mut pairs = Vec::new();
        for (name, moments) in self.names.iter().zip(&self.moments) {
            for (i, moment) in moments.iter().enumerate() {
                let key = format!("{prefix}{name}.moment{}", i + 1);
                pairs.push((moment.shallow_clone(), find(key, moment.size())?));
            }
        }
        let _guard = tch::no_grad_guard();
        for (mut moment, source) in pairs {
            moment.f_copy_(
                &source
                    .f_to_device(moment.device())?
                    .f_to_kind(Kind::Float)?,
            )?;
        }
        self.steps = steps;
        Ok(())
    }
}

/// The parameters that move at one learning rate, with what belongs to them.
#[derive(Debug, Default)]
struct Group {
    weights: Vec<Tensor>,
    gradients: Vec<Tensor>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
}

impl Group {
    fn add(&mut self, weight: &Tensor, gradient: Tensor, moments: &[Tensor]) -> Result<()> {
        let like = |t: &Tensor| {
            (t.size(), t.kind(), t.device()) == (weight.size(), weight.kind(), weight.device())
        };
        // The kernels do not look at sizes.
        if !moments.iter().all(like) || !like(&gradient) {
            return Err(Error::Weights(format!(
                "the optimiser was made for other parameters than these: one is {:?} of {:?} on {:?} and its moments are {:?}",
                weight.size(),
                weight.kind(),
                weight.device(),
                moments.iter().map(Tensor::size).collect::<Vec<_>>()
            )));
        }
        self.weights.push(weight.shallow_clone());
        // The kernels walk through memory: weights and moments are contiguous, so gradients must be.
        self.gradients.push(gradient.f_contiguous()?);
        self.first
            .extend(moments.first().map(Tensor::shallow_clone));
        self.second
            .extend(moments.get(1).map(Tensor::shallow_clone));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quadratic(config: OptimiserConfig, lr: f64, steps: usize) -> (Parameters, Optimiser) {
        let mut p = Parameters::new(Device::Cpu);
        let _ = p.add("w", Tensor::from_slice(&[1.0f32, -2.0])).unwrap();
        let mut o = Optimiser::new(config, &p).unwrap();
        descend(&p, &mut o, lr, steps);
        (p, o)
    }

    /// Minimises Σ w⁴/4, whose gradient is w³.
    fn descend(p: &Parameters, o: &mut Optimiser, lr: f64, steps: usize) {
        for _ in 0..steps {
            p.zero_grad().unwrap();
            (p.get("w").unwrap().pow_tensor_scalar(4).sum(Kind::Float) / 4.0).backward();
            o.step(p, lr).unwrap();
        }
    }

    fn values(p: &Parameters) -> Vec<f32> {
        Vec::try_from(p.get("w").unwrap()).unwrap()
    }

    /// The same updates in plain f64.
    fn adam_by_hand(decoupled: bool, weight_decay: f64, lr: f64, steps: i32) -> Vec<f64> {
        [1.0f64, -2.0]
            .map(|mut w| {
                let (mut m, mut s) = (0.0, 0.0);
                for t in 1..=steps {
                    let mut g = w * w * w;
                    if decoupled {
                        w *= 1.0 - lr * weight_decay;
                    } else {
                        g += weight_decay * w;
                    }
                    m = 0.9 * m + 0.1 * g;
                    s = 0.999 * s + 0.001 * g * g;
                    let (mh, sh) = (m / (1.0 - 0.9f64.powi(t)), s / (1.0 - 0.999f64.powi(t)));
                    w -= lr * mh / (sh.sqrt() + 1e-8);
                }
                w
            })
            .to_vec()
    }

    #[test]
    fn parameters_of_another_network_are_refused() {
        let (p, _) = quadratic(OptimiserConfig::adam(), 0.1, 1);
        let mut other = Parameters::new(Device::Cpu);
        let _ = other.add("w", Tensor::from_slice(&[1.0f32; 3])).unwrap();
        for config in [OptimiserConfig::adam(), OptimiserConfig::sgd()] {
            let mut of_other = Optimiser::new(config, &other).unwrap();
            (p.get("w").unwrap() * 2.0).sum(Kind::Float).backward();
            let before = values(&p);
            let message = of_other.step(&p, 0.1).unwrap_err().to_string();
            assert!(message.contains("other parameters"), "{message}");
            assert_eq!(values(&p), before);
        }
    }

    #[test]
    fn adam_and_adamw_follow_their_formulas() {
        for (config, decoupled) in [
            (
                OptimiserConfig::Adam {
                    betas: [0.9, 0.999],
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                },
                false,
            ),
            (
                OptimiserConfig::AdamW {
                    betas: [0.9, 0.999],
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                },
                true,
            ),
        ] {
            let (p, _) = quadratic(config, 0.02, 25);
            for (found, expected) in values(&p)
                .iter()
                .zip(adam_by_hand(decoupled, 0.1, 0.02, 25))
            {
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-5,
                    "{found} vs {expected}"
                );
            }
        }
    }

    #[test]
    fn saved_and_restored_state_continues_bit_for_bit() {
        for config in [
            OptimiserConfig::sgd(),
            OptimiserConfig::adam(),
            OptimiserConfig::adamw(),
        ] {
            let (straight, _) = quadratic(config, 0.01, 12);
            let (p, o) = quadratic(config, 0.01, 5);
            let mut map = TensorMap::new();
            p.save_into("net.", &mut map).unwrap();
            o.save_into("adam.", &mut map).unwrap();
            let (mut p2, mut o2) = quadratic(config, 0.3, 2);
            p2.load("net.", &map).unwrap();
            o2.load("adam.", &map).unwrap();
            assert_eq!(o2.steps(), 5);
            descend(&p2, &mut o2, 0.01, 7);
            assert_eq!(values(&p2), values(&straight), "{config:?}");
            map.remove("adam.w.moment1");
            assert!(
                o2.load("adam.", &map)
                    .unwrap_err()
                    .to_string()
                    .contains("adam.w.moment1")
            );
        }
    }

    #[test]
    fn sgd_follows_its_formula_with_and_without_momentum() {
        for (momentum, nesterov) in [(0.9, true), (0.9, false), (0.0, true), (0.0, false)] {
            let config = OptimiserConfig::Sgd {
                momentum,
                nesterov,
                weight_decay: 0.1,
            };
            let (p, _) = quadratic(config, 0.02, 9);
            for (found, start) in values(&p).iter().zip([1.0f64, -2.0]) {
                let (mut w, mut v) = (start, 0.0);
                for _ in 0..9 {
                    let d = w * w * w + 0.1 * w;
                    v = momentum * v + d;
                    let ahead = nesterov && momentum > 0.0;
                    w -= 0.02 * if ahead { d + momentum * v } else { v };
                }
                assert!(
                    (f64::from(*found) - w).abs() < 1e-5,
                    "{config:?}: {found} vs {w}"
                );
            }
        }
    }

    #[test]
    fn parameters_move_at_their_own_rates() {
        let mut p = Parameters::new(Device::Cpu);
        for name in ["encoder.w", "encoder.1.w", "head.w"] {
            let _ = p.add(name, Tensor::from_slice(&[1.0f32])).unwrap();
        }
        let rates = [("encoder.".to_owned(), 0.5), ("encoder.1.".to_owned(), 0.0)];
        p.set_rates(&rates).unwrap();
        let config = OptimiserConfig::Sgd {
            momentum: 0.9,
            nesterov: true,
            weight_decay: 0.0,
        };
        let mut o = Optimiser::new(config, &p).unwrap();
        let sum = p
            .iter()
            .map(|(_, w)| w.sum(Kind::Float))
            .collect::<Vec<_>>();
        Tensor::stack(&sum, 0).sum(Kind::Float).backward();
        o.step(&p, 0.1).unwrap();
        // d = 1, v = 1, so every weight moves by its rate times 0.1 · 1.9.
        let at = |name| p.get(name).unwrap().double_value(&[0]);
        assert!((at("head.w") - 0.81).abs() < 1e-6);
        assert!((at("encoder.w") - 0.905).abs() < 1e-6);
        assert_eq!(at("encoder.1.w"), 1.0);
    }

    #[test]
    fn refuses_constants_out_of_range() {
        let p = Parameters::new(Device::Cpu);
        for config in [
            OptimiserConfig::Sgd {
                momentum: 1.0,
                nesterov: true,
                weight_decay: 0.0,
            },
            OptimiserConfig::Adam {
                betas: [0.9, 0.999],
                epsilon: 0.0,
                weight_decay: 0.0,
            },
            OptimiserConfig::AdamW {
                betas: [0.9, 0.999],
                epsilon: 1e-8,
                weight_decay: -1.0,
            },
        ] {
            assert!(Optimiser::new(config, &p).is_err(), "{config:?}");
        }
    }
}
