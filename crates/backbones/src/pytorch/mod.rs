//! Weights in and out under PyTorch's names.
//!
//! The networks of this crate ask their builder for the names that PyTorch's state dicts have, so
//! a checkpoint needs no table of translations, only a little tidying:
//!
//! * `num_batches_tracked` is dropped: nothing here averages by it;
//! * prefixes of wrappers (`module.`, `backbone.`, `model.`, `_orig_mod.`) are cut where every
//!   name carries them.
//!
//! The format is told by the first bytes, not by the file's extension: safetensors, or the zip
//! archive of `torch.save` (`.pt`, `.pth`, `.bin`) with its state dict at the top or under one of
//! the usual keys. The pickle inside is read as data: names of classes and functions stay names,
//! nothing is ever called.

mod archive;
mod pickle;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

/// Wrappers that put their name in front of every parameter.
const PREFIXES: [&str; 4] = ["module.", "backbone.", "model.", "_orig_mod."];

/// Reads a checkpoint to host memory, tidied as the [module text](self) says.
///
/// The result is what `phiz_train::Parameters::load` takes, and [`var_builder`] for inference.
///
/// # Errors
/// One line that names the file: it cannot be read, is empty, is of no known format (older than
/// PyTorch 1.6, say), is cut short, declares a tensor larger than the file, or holds no tensor.
pub fn load_pytorch(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    let path = path.as_ref();
    let tensors = match format_of(path)? {
        Format::Safetensors => candle::safetensors::load(path, &Device::Cpu)
            .map_err(|e| trouble(path, format_args!("not a sound safetensors file: {e}")))?
            .into_iter()
            .collect(),
        Format::Zip => archive::read(path)
            .map_err(|e| trouble(path, format_args!("not a sound torch.save archive: {e}")))?,
    };
    let tensors = strip_prefixes(tensors)
        .into_iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
        .collect::<BTreeMap<_, _>>();
    if tensors.is_empty() {
        return Err(trouble(
            path,
            "holds no tensors by name; expected a state dict",
        ));
    }
    Ok(tensors)
}

/// Writes tensors as safetensors, readable by `safetensors.torch.load_file` in PyTorch.
///
/// `load_state_dict` accepts the result as it is: it makes up `num_batches_tracked` itself.
/// The file is written in place; a trainer that must survive a crash while saving has its own way.
///
/// # Errors
/// When the file cannot be written.
pub fn save_pytorch(path: impl AsRef<Path>, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let path = path.as_ref();
    let contiguous = tensors
        .iter()
        .map(|(name, t)| Ok((name.clone(), t.contiguous()?)));
    candle::safetensors::save(&contiguous.collect::<Result<_>>()?, path)
        .map_err(|e| trouble(path, format_args!("cannot be written: {e}")))
}

/// A builder over loaded tensors, for a network that is only to be evaluated.
///
/// Parameters are converted to `dtype` and `device` when the network asks for them. Names the
/// network does not ask for are ignored; a missing name or another shape is the network's error.
pub fn var_builder(
    tensors: BTreeMap<String, Tensor>,
    dtype: DType,
    device: &Device,
) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors.into_iter().collect(), dtype, device)
}

/// The tensors whose name starts with `prefix`, without it: one part of a larger checkpoint.
pub fn select(tensors: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let inside = tensors
        .iter()
        .filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())));
    inside.collect()
}

enum Format {
    Safetensors,
    Zip,
}

fn trouble(path: &Path, what: impl std::fmt::Display) -> candle::Error {
    candle::Error::Msg(format!("weights file {}: {what}", path.display()))
}

fn format_of(path: &Path) -> Result<Format> {
    let read = || -> std::io::Result<(Vec<u8>, u64)> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut head = Vec::new();
        file.take(9).read_to_end(&mut head)?;
        Ok((head, length))
    };
    let (head, length) = read().map_err(|e| trouble(path, e))?;
    match head[..] {
        [] => Err(trouble(path, "is empty")),
        [b'P', b'K', 3, 4, ..] => Ok(Format::Zip),
        // Before the pickle: a header of 128 (or 384, ...) bytes begins with the same byte.
        [a, b, c, d, e, f, g, h, b'{']
            if u64::from_le_bytes([a, b, c, d, e, f, g, h]) <= length.saturating_sub(8) =>
        {
            Ok(Format::Safetensors)
        }
        [0x80, ..] => Err(trouble(
            path,
            "is a bare pickle (torch.save before 1.6); load it in PyTorch and save it again, or as safetensors",
        )),
        [a, b, c, d, e, f, g, h, b'{'] => {
            let header = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            Err(trouble(
                path,
                format_args!("is cut short: a header of {header} bytes in a file of {length}"),
            ))
        }
        _ => Err(trouble(
            path,
            "is neither safetensors nor a zip archive of torch.save",
        )),
    }
}

fn strip_prefixes(mut tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    while let Some(prefix) = PREFIXES
        .iter()
        .find(|p| !tensors.is_empty() && tensors.keys().all(|k| k.starts_with(**p)))
    {
        tensors = select(&tensors, prefix);
    }
    tensors
}
