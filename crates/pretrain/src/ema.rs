//! A slow copy of a network: the exponential moving average of its weights.

use std::collections::BTreeMap;

use candle::{Result, Var, bail};
use candle_nn::VarBuilder;

/// Under what name the slow copy of the variable `name` stands: `target.` in front, and `memory_` before the last part of
/// weights, so that an optimiser takes them for buffers. Running statistics keep their last part; the copy has its own.
///
/// ```
/// use phiz_pretrain::target_name;
/// assert_eq!(target_name("backbone.conv1.weight"), "target.backbone.conv1.memory_weight");
/// assert_eq!(target_name("backbone.bn1.running_var"), "target.backbone.bn1.running_var");
/// ```
pub fn target_name(name: &str) -> String {
    let (path, last) = match name.rsplit_once('.') {
        Some((path, last)) => (format!("target.{path}"), last),
        None => ("target".to_string(), name),
    };
    if is_statistic(last) {
        format!("{path}.{last}")
    } else {
        format!("{path}.memory_{last}")
    }
}

fn is_statistic(last: &str) -> bool {
    last.starts_with("running_") || last.starts_with("memory_") || last == "num_batches_tracked"
}

/// The builder to make the slow copy from, by the code that makes the network; `vb` has to be the root.
pub fn target_builder(vb: VarBuilder<'static>) -> VarBuilder<'static> {
    vb.rename_f(target_name)
}

/// The pairs of a network's weights and their slow copies.
#[derive(Debug, Clone)]
pub struct Ema {
    /// Weight and copy.
    pairs: Vec<(Var, Var)>,
}

impl Ema {
    /// Finds the pairs among all variables by [`target_name`].
    ///
    /// # Errors
    /// When there is no pair, or the two of one have different shapes.
    pub fn new(variables: &BTreeMap<String, Var>) -> Result<Self> {
        let mut pairs = Vec::new();
        for (name, online) in variables {
            let last = name.rsplit('.').next().unwrap_or(name);
            if name.starts_with("target.") || is_statistic(last) {
                continue;
            }
            if let Some(target) = variables.get(&target_name(name)) {
                if target.shape() != online.shape() {
                    bail!(
                        "{name}: shape {:?}, its slow copy {:?}",
                        online.shape(),
                        target.shape()
                    );
                }
                pairs.push((online.clone(), target.clone()));
            }
        }
        if pairs.is_empty() {
            bail!("no variable has a slow copy");
        }
        Ok(Self { pairs })
    }

    /// Makes the copies equal to the weights.
    ///
    /// # Errors
    /// When a copy fails.
    pub fn start(&self) -> Result<()> {
        for (online, target) in &self.pairs {
            target.set(&online.as_detached_tensor().copy()?)?;
        }
        Ok(())
    }

    /// `target <- momentum * target + (1 - momentum) * weight`.
    ///
    /// # Errors
    /// When the momentum lies outside [0, 1].
    pub fn update(&self, momentum: f64) -> Result<()> {
        if !(0. ..=1.).contains(&momentum) {
            bail!("momentum {momentum} of a moving average is not in [0, 1]");
        }
        for (online, target) in &self.pairs {
            let moved = ((target.as_detached_tensor() * momentum)?
                + (online.as_detached_tensor() * (1. - momentum))?)?;
            target.set(&moved)?;
        }
        Ok(())
    }
}
