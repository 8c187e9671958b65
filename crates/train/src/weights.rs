//! Weights in and out of safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use candle::safetensors::Load;
use candle::{DType, Device, Tensor, Var};
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::parameters::Parameters;

/// What [`Parameters::load_matching`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// Names that were loaded, sorted.
    pub loaded: Vec<String>,
    /// Names that were not, sorted, with the reason.
    pub skipped: Vec<Skipped>,
}

/// One tensor that [`Parameters::load_matching`] left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The tensor's name.
    pub name: String,
    /// Why, as in `the model has shape [2, 3], the file [4]`.
    pub reason: String,
}

impl Parameters {
    /// Gives every variable the value of the tensor of its name; all or nothing.
    ///
    /// Float types are converted to the variable's. A tensor `num_batches_tracked`, which PyTorch saves and
    /// candle's batch norm does not have, may be there without a place.
    ///
    /// # Errors
    /// Names the first tensor, in sorted order, that is missing, has no place, or has another shape.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let variables = self.variables();
        let names: BTreeSet<&String> = variables.keys().chain(tensors.keys()).collect();
        let mut pairs = Vec::with_capacity(variables.len());
        for name in names {
            match (variables.get(name), tensors.get(name)) {
                (Some(var), Some(tensor)) => {
                    check_fit(var, tensor).map_err(|error| error.of(name))?;
                    pairs.push((var, tensor));
                }
                (Some(_), None) => return Err(Error::new(ErrorKind::Missing).of(name)),
                (None, _) if name.rsplit('.').next() == Some("num_batches_tracked") => {}
                (None, _) => return Err(Error::new(ErrorKind::Unexpected).of(name)),
            }
        }
        for (var, tensor) in pairs {
            assign(var, tensor)?;
        }
        Ok(())
    }

    /// [`Parameters::load`] from a safetensors file.
    ///
    /// # Errors
    /// As [`Parameters::load`] and [`read_tensors`], naming the file.
    pub fn load_file(&self, path: &Path) -> Result<()> {
        self.load(&read_tensors(path)?)
            .map_err(|error| error.at(path))
    }

    /// Loads what fits and says what does not: for a pre-trained trunk under a new head.
    ///
    /// Only names that begin with one of `prefixes` are looked at; no prefixes means all names.
    ///
    /// # Errors
    /// [`ErrorKind::NothingMatches`] when not one tensor fits, which is a wrong file or wrong prefix.
    pub fn load_matching(
        &self,
        tensors: &BTreeMap<String, Tensor>,
        prefixes: &[&str],
    ) -> Result<Matching> {
        let wanted = |name: &str| {
            prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        let variables = self.variables();
        let mut loaded = Vec::new();
        let mut skipped = BTreeMap::new();
        for (name, var) in variables.iter().filter(|(name, _)| wanted(name)) {
            let fits = tensors
                .get(name)
                .ok_or_else(|| Error::new(ErrorKind::Missing))
                .and_then(|tensor| check_fit(var, tensor).map(|()| tensor));
            match fits {
                Ok(tensor) => {
                    assign(var, tensor)?;
                    loaded.push(name.clone());
                }
                Err(error) => {
                    skipped.insert(name.clone(), error.to_string());
                }
            }
        }
        for name in tensors
            .keys()
            .filter(|name| wanted(name) && !variables.contains_key(*name))
        {
            skipped.insert(name.clone(), Error::new(ErrorKind::Unexpected).to_string());
        }
        if loaded.is_empty() {
            let error = Error::new(ErrorKind::NothingMatches);
            return Err(if prefixes.is_empty() {
                error
            } else {
                error.of(prefixes.join(", "))
            });
        }
        let skipped = skipped
            .into_iter()
            .map(|(name, reason)| Skipped { name, reason })
            .collect();
        Ok(Matching { loaded, skipped })
    }

    /// Writes all variables, buffers too, to a safetensors file.
    ///
    /// The file appears whole or not at all, and its bytes are a function of the values alone.
    ///
    /// # Errors
    /// When the folder cannot be written or the disk is full; an old file of that name is then untouched.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_tensors(path, &self.tensors(), None).map(|_| ())
    }
}

/// Writes tensors to a safetensors file, wide types first and then by name: its bytes are a function of the tensors alone.
///
/// The file appears whole or not at all.
///
/// # Errors
/// When the folder cannot be written or the disk is full; an old file of that name is then untouched.
pub fn save_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    write_tensors(path, tensors, None).map(|_| ())
}

fn check_fit(var: &Var, tensor: &Tensor) -> Result<()> {
    if var.shape() != tensor.shape() {
        let (expected, found) = (var.shape().clone(), tensor.shape().clone());
        return Err(Error::new(ErrorKind::ShapeMismatch { expected, found }));
    }
    if var.dtype() != tensor.dtype() && !(var.dtype().is_float() && tensor.dtype().is_float()) {
        return Err(Error::new(ErrorKind::DTypeMismatch {
            expected: var.dtype(),
            found: tensor.dtype(),
        }));
    }
    Ok(())
}

pub(crate) fn assign(var: &Var, tensor: &Tensor) -> Result<()> {
    Ok(var.set(&tensor.to_device(var.device())?.to_dtype(var.dtype())?)?)
}

/// All tensors of a safetensors file, on the CPU, by name.
///
/// # Errors
/// When the file cannot be read, is not a whole safetensors file, or holds a type that candle has not.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    parse_tensors(&files::read(path)?)
        .map(|(tensors, _)| tensors)
        .map_err(|error| error.at(path))
}

/// The tensors and our own metadata of a safetensors file in memory.
pub(crate) fn parse_tensors(bytes: &[u8]) -> Result<(BTreeMap<String, Tensor>, Option<String>)> {
    let bad = |reason: &dyn std::fmt::Display| {
        Error::new(ErrorKind::BadFile(format!(
            "not a whole safetensors file: {reason}"
        )))
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| bad(&error))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| bad(&error))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let tensor = view
            .load(&Device::Cpu)
            .map_err(|error| Error::from(error).of(name))?;
        tensors.insert(name.to_string(), tensor);
    }
    let note = metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get(METADATA_KEY).cloned());
    Ok((tensors, note))
}

const METADATA_KEY: &str = "phiz";

/// Writes a safetensors file atomically, tensor by tensor; returns its length and digest.
///
/// The format's own writer keeps the whole file in memory and its metadata in a hash map, whose order
/// differs from run to run; this one does neither.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    note: Option<&str>,
) -> Result<files::Sum> {
    // Wide types first, so that every tensor is aligned to its element; then by name.
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype().size_in_bytes()), *name));
    let mut offset = 0;
    let mut infos = Vec::with_capacity(order.len());
    for (name, tensor) in &order {
        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
        let info = TensorInfo {
            dtype: tensor.dtype().into(),
            shape: tensor.dims().to_vec(),
            data_offsets: (offset, offset + bytes),
        };
        infos.push(((*name).clone(), info));
        offset += bytes;
    }
    let notes = note.map(|note| {
        [(METADATA_KEY.to_string(), note.to_string())]
            .into_iter()
            .collect()
    });
    let failed = |error: &dyn std::fmt::Display| {
        Error::bad_file(path, format!("cannot be described: {error}"))
    };
    let metadata = Metadata::new(notes, infos).map_err(|error| failed(&error))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| failed(&error))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    files::write_atomically(path, |out| {
        let io = |error| Error::io("writing", path, error);
        out.write_all(&(header.len() as u64).to_le_bytes())
            .map_err(io)?;
        out.write_all(&header).map_err(io)?;
        for (name, tensor) in &order {
            write_values(out, tensor, path).map_err(|error| error.of(*name))?;
        }
        Ok(())
    })
}

fn write_values(out: &mut dyn Write, tensor: &Tensor, path: &Path) -> Result<()> {
    macro_rules! values {
        ($type:ty) => {{
            for value in tensor.flatten_all()?.to_vec1::<$type>()? {
                out.write_all(&value.to_le_bytes())
                    .map_err(|error| Error::io("writing", path, error))?;
            }
        }};
    }
    match tensor.dtype() {
        DType::F32 => values!(f32),
        DType::F64 => values!(f64),
        DType::U32 => values!(u32),
        DType::I64 => values!(i64),
        DType::U8 => values!(u8),
        _ => {
            // Half precision and rarer types: candle knows their bytes.
            let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
            out.write_all(&safetensors::View::data(&tensor))
                .map_err(|error| Error::io("writing", path, error))?;
        }
    }
    Ok(())
}
