//! The zip archive of `torch.save`: a pickle that describes tensors, and one file a storage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use candle::{Device, Result, Tensor, bail};
use zip::ZipArchive;

use super::pickle::{self, Stored};

/// Keys under which training scripts keep the state dict, in the order they are tried.
const KEYS: [&str; 5] = ["state_dict", "model_state_dict", "model", "backbone", "net"];

/// All tensors may take this many times the file: views of one storage count once each.
const SHARING: u64 = 4;

/// Reads the state dict.
///
/// # Errors
/// When the archive, the pickle or a storage is malformed, or the tensors are larger than a file of this
/// size can hold (storages are not compressed).
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let length = std::fs::metadata(path)?.len();
    let mut archive = ZipArchive::new(BufReader::new(File::open(path)?))?;
    let names = archive
        .file_names()
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let Some(folder) = names
        .iter()
        .find_map(|name| name.strip_suffix("data.pkl").map(str::to_owned))
    else {
        bail!("there is no data.pkl inside")
    };
    drop(names);
    let program = entry(&mut archive, &format!("{folder}data.pkl"), length)?;
    let described = pickle::read(&program)?.state_dict(&KEYS);
    if archive
        .index_for_name(&format!("{folder}byteorder"))
        .is_some()
        && entry(&mut archive, &format!("{folder}byteorder"), length)? != b"little"
    {
        bail!("its numbers are big-endian; load it in PyTorch and save it as safetensors")
    }
    let mut budget = length.saturating_mul(SHARING);
    let mut tensors = BTreeMap::new();
    for (name, stored) in described {
        let count = stored
            .shape
            .iter()
            .try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        let size = count.and_then(|n| n.checked_mul(stored.dtype.size_in_bytes() as u64));
        match size.and_then(|size| budget.checked_sub(size)) {
            Some(left) => budget = left,
            None => bail!(
                "tensor {name} of shape {:?} is larger than the file allows",
                stored.shape
            ),
        }
        let bytes = entry(
            &mut archive,
            &format!("{folder}data/{}", stored.key),
            length,
        )?;
        let Some(bytes) = gather(&bytes, &stored) else {
            bail!(
                "tensor {name} of shape {:?} reaches past the end of its storage",
                stored.shape
            )
        };
        tensors.insert(
            name.to_string(),
            Tensor::from_raw_buffer(&bytes, stored.dtype, &stored.shape, &Device::Cpu)?,
        );
    }
    Ok(tensors)
}

/// One file of the archive, `limit` bytes at most.
fn entry(archive: &mut ZipArchive<BufReader<File>>, name: &str, limit: u64) -> Result<Vec<u8>> {
    let file = archive
        .by_name(name)
        .map_err(|e| candle::Error::Msg(format!("{name}: {e}")))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| candle::Error::Msg(format!("{name}: {e}")))?;
    if bytes.len() as u64 > limit {
        bail!("{name}: larger than the archive it is in")
    }
    Ok(bytes)
}

/// The elements of a strided view in row-major order; nothing where one lies outside.
fn gather(storage: &[u8], stored: &Stored) -> Option<Vec<u8>> {
    let width = stored.dtype.size_in_bytes();
    let count = stored.shape.iter().product::<usize>();
    let mut expected = 1;
    let contiguous = stored
        .shape
        .iter()
        .zip(&stored.stride)
        .rev()
        .all(|(&d, &s)| {
            let fits = d == 1 || s == expected;
            expected *= d;
            fits
        });
    if contiguous || count == 0 {
        let start = stored.offset.checked_mul(width)?;
        return storage
            .get(start..start.checked_add(count * width)?)
            .map(<[u8]>::to_vec);
    }
    let mut out = Vec::with_capacity(count * width);
    let mut index = vec![0usize; stored.shape.len()];
    for _ in 0..count {
        let mut at = stored.offset;
        for (&i, &s) in index.iter().zip(&stored.stride) {
            at = at.checked_add(i.checked_mul(s)?)?;
        }
        let start = at.checked_mul(width)?;
        out.extend_from_slice(storage.get(start..start.checked_add(width)?)?);
        for (i, &d) in index.iter_mut().zip(&stored.shape).rev() {
            *i += 1;
            if *i < d {
                break;
            }
            *i = 0;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::DType;

    fn view(offset: usize, shape: &[usize], stride: &[usize]) -> Stored {
        Stored {
            key: "0".into(),
            dtype: DType::U8,
            offset,
            shape: shape.to_vec(),
            stride: stride.to_vec(),
        }
    }

    #[test]
    fn views_are_gathered_in_row_major_order() {
        let storage = [0, 1, 2, 3, 4, 5, 6, 7];
        let get = |v: &Stored| gather(&storage, v);
        assert_eq!(
            get(&view(1, &[2, 3], &[3, 1])),
            Some(vec![1, 2, 3, 4, 5, 6])
        );
        assert_eq!(
            get(&view(0, &[3, 2], &[1, 3])),
            Some(vec![0, 3, 1, 4, 2, 5])
        );
        assert_eq!(get(&view(2, &[2, 2], &[0, 1])), Some(vec![2, 3, 2, 3]));
        assert_eq!(get(&view(7, &[], &[])), Some(vec![7]));
        assert_eq!(get(&view(0, &[0, 4], &[4, 1])), Some(vec![]));
    }

    #[test]
    fn views_outside_the_storage_are_refused() {
        for v in [
            view(3, &[2, 3], &[3, 1]),
            view(0, &[2, 2], &[1, 8]),
            view(usize::MAX, &[2], &[1]),
            view(0, &[2, 2], &[usize::MAX, 1]),
        ] {
            assert_eq!(gather(&[0; 8], &v), None, "{v:?}");
        }
    }
}
