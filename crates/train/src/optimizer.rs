//! Optimisers with PyTorch's semantics: parameter groups, saved state, one pass over memory on the CPU.

use std::collections::{BTreeMap, BTreeSet};

use candle::backprop::GradStore;
use candle::{DType, Device, Tensor, Var};

use crate::error::{Error, ErrorKind, Result};
use crate::fused::{self, AdamWStep, SgdStep};
use crate::optimizer_config::{GroupRules, LARC_EPS, OptimizerConfig};
use crate::parameters::Parameters;

/// An optimiser over the trainable variables of a [`Parameters`].
pub struct Optimizer {
    config: OptimizerConfig,
    allow_unused: bool,
    /// Calls of `step`, over all runs that were resumed.
    calls: u64,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    var: Var,
    lr_multiplier: f64,
    weight_decay: f64,
    /// Updates of this variable; AdamW's t.
    updates: u64,
    state: State,
}

/// Running averages of one variable, in the order of [`OptimizerConfig::slots`].
enum State {
    F32(Vec<Vec<f32>>),
    F64(Vec<Vec<f64>>),
    /// On other devices and in half precision.
    Tensors(Vec<Tensor>),
}

impl State {
    fn zeros(var: &Var, slots: usize, composed: bool) -> Result<Self> {
        let count = var.elem_count();
        Ok(match (var.device(), var.dtype()) {
            (Device::Cpu, DType::F32) if !composed => Self::F32(vec![vec![0.; count]; slots]),
            (Device::Cpu, DType::F64) if !composed => Self::F64(vec![vec![0.; count]; slots]),
            _ => Self::Tensors(
                (0..slots)
                    .map(|_| var.zeros_like())
                    .collect::<candle::Result<_>>()?,
            ),
        })
    }

    fn tensors(&self, var: &Var) -> Result<Vec<Tensor>> {
        let shape = var.shape();
        Ok(match self {
            Self::F32(all) => all
                .iter()
                .map(|v| Tensor::from_slice(v, shape.clone(), &Device::Cpu))
                .collect::<candle::Result<_>>()?,
            Self::F64(all) => all
                .iter()
                .map(|v| Tensor::from_slice(v, shape.clone(), &Device::Cpu))
                .collect::<candle::Result<_>>()?,
            Self::Tensors(all) => all.clone(),
        })
    }

    fn set(&mut self, slot: usize, tensor: &Tensor) -> Result<()> {
        match self {
            Self::F32(all) => put(all, slot, tensor.flatten_all()?.to_vec1()?),
            Self::F64(all) => put(all, slot, tensor.flatten_all()?.to_vec1()?),
            Self::Tensors(all) => match all.get(slot) {
                Some(old) => {
                    let device = old.device().clone();
                    put(all, slot, tensor.to_device(&device)?);
                }
                None => return Ok(()),
            },
        }
        Ok(())
    }
}

fn put<T>(all: &mut [T], slot: usize, value: T) {
    if let Some(place) = all.get_mut(slot) {
        *place = value;
    }
}

impl Optimizer {
    /// An optimiser for the variables that `parameters` holds now.
    ///
    /// # Errors
    /// When a constant is out of range, or a prefix rule fits no variable.
    pub fn new(
        parameters: &Parameters,
        config: OptimizerConfig,
        rules: &GroupRules,
    ) -> Result<Self> {
        Self::build(parameters, config, rules, false)
    }

    fn build(
        parameters: &Parameters,
        config: OptimizerConfig,
        rules: &GroupRules,
        composed: bool,
    ) -> Result<Self> {
        config.validate()?;
        let trainable = parameters.trainable();
        for rule in &rules.prefixes {
            if !trainable.iter().any(|(name, _)| rule.fits(name)) {
                return Err(
                    Error::config("no trainable variable has this prefix").of(rule.prefix.clone())
                );
            }
            for factor in [rule.lr_multiplier, rule.decay_multiplier] {
                if !(factor.is_finite() && factor >= 0.) {
                    let what = format!("multiplier {factor} is not a number from 0 up");
                    return Err(Error::config(what).of(rule.prefix.clone()));
                }
            }
        }
        let mut entries = Vec::with_capacity(trainable.len());
        for (name, var) in trainable {
            let rule = rules
                .prefixes
                .iter()
                .filter(|rule| rule.fits(&name))
                .max_by_key(|rule| rule.prefix.len());
            let decays = rules.decay_vectors || var.rank() > 1;
            let decay = if decays { config.weight_decay() } else { 0. };
            let state = State::zeros(&var, config.slots().len(), composed)?;
            entries.push(Entry {
                name,
                var,
                lr_multiplier: rule.map_or(1., |rule| rule.lr_multiplier),
                weight_decay: decay * rule.map_or(1., |rule| rule.decay_multiplier),
                updates: 0,
                state,
            });
        }
        Ok(Self {
            config,
            allow_unused: rules.allow_unused,
            calls: 0,
            entries,
        })
    }

    /// Learning-rate multiplier and weight decay of each variable, sorted by name.
    pub fn groups(&self) -> Vec<(&str, f64, f64)> {
        self.entries
            .iter()
            .map(|e| (e.name.as_str(), e.lr_multiplier, e.weight_decay))
            .collect()
    }

    /// One update with learning rate `lr`. A variable without gradient is left as it is, as in PyTorch.
    ///
    /// # Errors
    /// [`ErrorKind::NoGradient`] at the first step, naming the first variable that got none, unless
    /// [`GroupRules::allow_unused`]; then nothing has been changed.
    pub fn step(&mut self, gradients: &GradStore, lr: f64) -> Result<()> {
        self.step_scaled(gradients, lr, 1.)
    }

    /// [`Optimizer::step`] with every gradient multiplied by `scale` on the way, without a pass of its own:
    /// what clipping by norm needs (see [`crate::clip_coefficient`]).
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step_scaled(&mut self, gradients: &GradStore, lr: f64, scale: f64) -> Result<()> {
        let bare = |entry: &&Entry| gradients.get(entry.var.as_tensor()).is_none();
        if self.calls == 0
            && !self.allow_unused
            && let Some(entry) = self.entries.iter().find(bare)
        {
            return Err(Error::new(ErrorKind::NoGradient).of(entry.name.clone()));
        }
        self.calls += 1;
        for entry in &mut self.entries {
            if let Some(gradient) = gradients.get(entry.var.as_tensor()) {
                entry.updates += 1;
                entry
                    .update(&self.config, gradient, lr, scale)
                    .map_err(|error| error.of(entry.name.clone()))?;
            }
        }
        Ok(())
    }

    /// All that must survive an interruption: `<variable>.<slot>` per running average (PyTorch's names), and
    /// the counters as one I64 tensor `updates`: calls of `step`, then updates of each variable in sorted order.
    ///
    /// # Errors
    /// When a copy fails.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for entry in &self.entries {
            for (slot, tensor) in self
                .config
                .slots()
                .iter()
                .zip(entry.state.tensors(&entry.var)?)
            {
                state.insert(format!("{}.{slot}", entry.name), tensor);
            }
        }
        let counters: Vec<i64> = std::iter::once(self.calls)
            .chain(self.entries.iter().map(|e| e.updates))
            .map(|n| n as i64)
            .collect();
        let count = counters.len();
        state.insert(
            COUNTERS.to_string(),
            Tensor::from_vec(counters, count, &Device::Cpu)?,
        );
        Ok(state)
    }

    /// Takes over what [`Optimizer::state`] gave; all or nothing.
    ///
    /// # Errors
    /// Names the first tensor, in sorted order, that is missing, unexpected, or of another shape or type.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let own = self.state()?;
        let names: BTreeSet<&String> = own.keys().chain(state.keys()).collect();
        for name in names {
            let error = match (own.get(name), state.get(name)) {
                (Some(own), Some(new)) if own.shape() != new.shape() => ErrorKind::ShapeMismatch {
                    expected: own.shape().clone(),
                    found: new.shape().clone(),
                },
                (Some(own), Some(new)) if own.dtype() != new.dtype() => ErrorKind::DTypeMismatch {
                    expected: own.dtype(),
                    found: new.dtype(),
                },
                (Some(_), Some(_)) => continue,
                (Some(_), None) => ErrorKind::Missing,
                (None, _) => ErrorKind::Unexpected,
            };
            return Err(Error::new(error).of(format!("optimizer.{name}")));
        }
        let counters = match state.get(COUNTERS) {
            Some(counters) => counters.to_vec1::<i64>()?,
            None => return Err(Error::new(ErrorKind::Missing).of(COUNTERS)),
        };
        if counters.iter().any(|&count| count < 0) {
            return Err(
                Error::new(ErrorKind::BadFile("a counter is negative".into())).of(COUNTERS),
            );
        }
        let mut counters = counters.into_iter().map(|count| count as u64);
        self.calls = counters.next().unwrap_or(0);
        for (entry, updates) in self.entries.iter_mut().zip(counters) {
            entry.updates = updates;
            for (slot, slot_name) in self.config.slots().iter().enumerate() {
                if let Some(tensor) = state.get(&format!("{}.{slot_name}", entry.name)) {
                    entry.state.set(slot, tensor)?;
                }
            }
        }
        Ok(())
    }
}

/// No variable can have this name with a slot's suffix, so it does not collide.
const COUNTERS: &str = "updates";

impl Entry {
    fn update(
        &mut self,
        config: &OptimizerConfig,
        gradient: &Tensor,
        lr: f64,
        scale: f64,
    ) -> Result<()> {
        if gradient.shape() != self.var.shape() || gradient.dtype() != self.var.dtype() {
            return Err(Error::from(candle::Error::msg(format!(
                "gradient {:?} {:?} for a variable {:?} {:?}",
                gradient.shape(),
                gradient.dtype(),
                self.var.shape(),
                self.var.dtype()
            ))));
        }
        let lr = lr * self.lr_multiplier;
        match *config {
            OptimizerConfig::Sgd {
                momentum, nesterov, ..
            } => {
                self.sgd(
                    gradient,
                    SgdStep {
                        lr,
                        momentum,
                        nesterov,
                        weight_decay: self.weight_decay,
                        scale,
                    },
                )?;
            }
            OptimizerConfig::Larc {
                momentum, trust, ..
            } => {
                let weight = fused::sum_of_squares(&self.var.as_detached_tensor())?.sqrt();
                let size = fused::sum_of_squares(gradient)?.sqrt() * scale;
                let (rate, weight_decay) = if weight > 0. && size > 0. {
                    let decay = self.weight_decay;
                    let rate = trust * weight / (size + decay * weight + LARC_EPS);
                    (rate, rate * decay)
                } else {
                    (1., 0.)
                };
                self.sgd(
                    gradient,
                    SgdStep {
                        lr,
                        momentum,
                        nesterov: false,
                        weight_decay,
                        scale: rate * scale,
                    },
                )?;
            }
            OptimizerConfig::AdamW {
                beta1, beta2, eps, ..
            } => {
                let updates = self.updates as f64;
                let step = AdamWStep {
                    lr,
                    beta1,
                    beta2,
                    eps,
                    weight_decay: self.weight_decay,
                    correction1: 1. - beta1.powf(updates),
                    correction2: 1. - beta2.powf(updates),
                    scale,
                };
                match &mut self.state {
                    State::F32(state) => {
                        if let [mean, square] = state.as_mut_slice() {
                            fused::adamw(&self.var, gradient, mean, square, step)?;
                        }
                    }
                    State::F64(state) => {
                        if let [mean, square] = state.as_mut_slice() {
                            fused::adamw(&self.var, gradient, mean, square, step)?;
                        }
                    }
                    State::Tensors(state) => {
                        if let [mean, square] = state.as_mut_slice() {
                            fused::adamw_composed(&self.var, gradient, mean, square, step)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn sgd(&mut self, gradient: &Tensor, step: SgdStep) -> candle::Result<()> {
        match &mut self.state {
            State::F32(state) => fused::sgd(&self.var, gradient, state.first_mut(), step),
            State::F64(state) => fused::sgd(&self.var, gradient, state.first_mut(), step),
            State::Tensors(state) => {
                fused::sgd_composed(&self.var, gradient, state.first_mut(), step)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Streams;
    use candle_nn::Init;

    /// The form for other devices follows the one that the golden values check.
    #[test]
    fn composed_and_fused_agree() {
        let plain = OptimizerConfig::Sgd {
            momentum: 0.,
            nesterov: false,
            weight_decay: 0.1,
        };
        let heavy = OptimizerConfig::Sgd {
            momentum: 0.9,
            nesterov: false,
            weight_decay: 0.1,
        };
        let nesterov = OptimizerConfig::Sgd {
            momentum: 0.9,
            nesterov: true,
            weight_decay: 0.,
        };
        let larc = OptimizerConfig::larc();
        for config in [plain, heavy, nesterov, larc, OptimizerConfig::adamw()] {
            let run = |composed: bool| {
                let parameters = Parameters::new(Streams::new(4), DType::F64, &Device::Cpu);
                let normal = Init::Randn {
                    mean: 0.,
                    stdev: 1.,
                };
                // More than one parallel chunk.
                let w = parameters
                    .var_builder()
                    .get_with_hints((300, 301), "w", normal)
                    .unwrap();
                let rules = GroupRules::default();
                let mut optimizer =
                    Optimizer::build(&parameters, config, &rules, composed).unwrap();
                for step in 0..5 {
                    if step == 3 {
                        let state = optimizer.state().unwrap();
                        optimizer =
                            Optimizer::build(&parameters, config, &rules, composed).unwrap();
                        optimizer.load_state(&state).unwrap();
                    }
                    // A gradient that is not contiguous, as those of transposed weights.
                    let loss = w.t().unwrap().sin().unwrap().sum_all().unwrap();
                    optimizer
                        .step_scaled(&loss.backward().unwrap(), 0.1, 0.5)
                        .unwrap();
                }
                w.flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            for (a, b) in run(true).iter().zip(&run(false)) {
                assert!((a - b).abs() < 1e-13, "{config:?}: {a} {b}");
            }
        }
    }
}
