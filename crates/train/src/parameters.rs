//! The variables of a model by name: seeded, sorted, shared with the layers that use them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use candle::{DType, Device, Error as TensorError, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::init;
use crate::streams::Streams;

/// All variables of a model, by PyTorch-style name. A clone is another handle to the same variables.
///
/// Layers create their variables through [`Parameters::var_builder`]. The first request for a name draws its
/// values from the stream of that name, so the values do not depend on the order in which layers are made;
/// later requests get the same variable. Names whose last part is `num_batches_tracked` or begins with
/// `running_` or `memory_` are buffers: saved and loaded with the rest, but not trained.
///
/// It plays the part of candle's `VarMap`, which is neither seeded nor ordered.
///
/// ```
/// use candle::{DType, Device};
/// use phiz_train::{Parameters, Streams};
///
/// # fn main() -> candle::Result<()> {
/// let parameters = Parameters::new(Streams::new(0), DType::F32, &Device::Cpu);
/// let layer = candle_nn::linear(3, 2, parameters.var_builder().pp("head"))?;
/// let names: Vec<String> = parameters.trainable().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["head.bias", "head.weight"]);
/// assert_eq!(layer.weight().dims(), [2, 3]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Parameters {
    inner: Arc<Inner>,
}

struct Inner {
    streams: Streams,
    dtype: DType,
    device: Device,
    variables: RwLock<BTreeMap<String, Var>>,
}

/// Whether `name` is a buffer and not a weight: its last part is `num_batches_tracked`, or begins with `running_` (statistics, as of
/// batch norm) or `memory_` (queues).
pub fn is_buffer(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last == "num_batches_tracked" || last.starts_with("running_") || last.starts_with("memory_")
}

impl Parameters {
    /// An empty store whose variables will be of `dtype` on `device`.
    pub fn new(streams: Streams, dtype: DType, device: &Device) -> Self {
        let variables = RwLock::new(BTreeMap::new());
        Self {
            inner: Arc::new(Inner {
                streams,
                dtype,
                device: device.clone(),
                variables,
            }),
        }
    }

    /// The builder to make layers from.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(
            Box::new(Store(self.clone())),
            self.inner.dtype,
            self.inner.device.clone(),
        )
    }

    /// The streams the values are drawn from.
    pub fn streams(&self) -> Streams {
        self.inner.streams
    }

    /// The element type of new variables.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// The device of the variables.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// The variable `name`.
    pub fn get(&self, name: &str) -> Option<Var> {
        self.read().get(name).cloned()
    }

    /// Every variable that an optimiser may change, sorted by name: floats that are not buffers.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        self.read()
            .iter()
            .filter(|(name, var)| !is_buffer(name) && var.dtype().is_float())
            .map(|(name, var)| (name.clone(), var.clone()))
            .collect()
    }

    /// Every variable, buffers too, sorted by name.
    pub fn variables(&self) -> BTreeMap<String, Var> {
        self.read().clone()
    }

    /// Every variable as a tensor that shares its memory: later updates show in it.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.read()
            .iter()
            .map(|(name, var)| (name.clone(), var.as_detached_tensor()))
            .collect()
    }

    /// Every variable as a tensor of its own: later updates do not show in it.
    ///
    /// # Errors
    /// When a copy fails.
    pub fn snapshot(&self) -> candle::Result<BTreeMap<String, Tensor>> {
        self.read()
            .iter()
            .map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().copy()?)))
            .collect()
    }

    /// How many numbers the optimiser may change.
    pub fn trainable_count(&self) -> usize {
        self.trainable()
            .iter()
            .map(|(_, var)| var.elem_count())
            .sum()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Var>> {
        // The map is never left half-changed, so a panic elsewhere does not spoil it.
        self.inner
            .variables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shapes: BTreeMap<String, Vec<usize>> = self
            .read()
            .iter()
            .map(|(name, var)| (name.clone(), var.dims().to_vec()))
            .collect();
        f.debug_struct("Parameters")
            .field("streams", &self.inner.streams)
            .field("variables", &shapes)
            .finish()
    }
}

/// What stands behind the builder.
struct Store(Parameters);

impl SimpleBackend for Store {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        hint: Init,
        dtype: DType,
        device: &Device,
    ) -> candle::Result<Tensor> {
        let inner = &self.0.inner;
        let mut variables = inner
            .variables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(var) = variables.get(name) {
            if var.shape() != &shape {
                candle::bail!(
                    "variable {name} exists with shape {:?}, now asked for as {shape:?}",
                    var.shape()
                );
            }
            if var.dtype() != dtype {
                candle::bail!(
                    "variable {name} exists as {:?}, now asked for as {dtype:?}",
                    var.dtype()
                );
            }
            return Ok(var.as_tensor().clone());
        }
        let mut rng = inner.streams.rng(&format!("init/{name}"), 0);
        let var = init::variable(&hint, &shape, dtype, device, &mut rng)?;
        let tensor = var.as_tensor().clone();
        variables.insert(name.to_string(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> candle::Result<Tensor> {
        let Some(var) = self.0.get(name) else {
            return Err(TensorError::CannotFindTensor {
                path: name.to_string(),
            }
            .bt());
        };
        if var.dtype() != dtype {
            candle::bail!(
                "variable {name} exists as {:?}, now asked for as {dtype:?}",
                var.dtype()
            );
        }
        Ok(var.as_tensor().clone())
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.read().contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::is_buffer;

    #[test]
    fn buffers_are_told_by_the_last_part_of_their_name() {
        for name in [
            "bn.running_mean",
            "head.running_std",
            "num_batches_tracked",
            "xbm.memory_count",
        ] {
            assert!(is_buffer(name), "{name}");
        }
        for name in [
            "memory_bank.weight",
            "running_shoes.bias",
            "weight",
            "head.memory",
        ] {
            assert!(!is_buffer(name), "{name}");
        }
    }
}
