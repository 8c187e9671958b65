//! Embedding tables as NumPy `.npy` files: `X.npy` (N, D), `X.labels.npy` (N), further columns as `X.NAME.npy` (N).
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1 to 3. The header is a
//! Python dictionary literal; only the three known keys are accepted and nothing is evaluated, so pickled (object)
//! arrays are refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::elements::{Element, to_f32, to_u32};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::files::{read_bounded, write_atomically};
use crate::mapped::{MappedFloats, Values, map_file};

/// Longest header that is read; NumPy itself stops at 10,000 bytes.
const MAX_HEADER: usize = 10_000;

/// A checked header and the data behind it.
struct Npy<'a> {
    element: Element,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
    data: &'a [u8],
}

impl Embeddings {
    /// Reads `X.npy` (N, D) of f2, f4 or f8 in either byte and memory order, and its columns: the labels, integers (N),
    /// from `labels` or, when that is `None`, from `X.labels.npy` beside it where there is one, and from every further
    /// `X.NAME.npy` of shape (N) a label column (integers) or a factor (floats) called NAME.
    ///
    /// # Errors
    /// One line that names the file: missing, not an npy file, truncated, sizes that disagree, NaN with its row.
    pub fn read_npy(path: impl AsRef<Path>, labels: Option<&Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_bounded(path)?;
        let table = Self::from_npy(&bytes).map_err(|e| e.at(path))?;
        drop(bytes);
        table.with_columns_beside(path, labels)
    }

    pub(crate) fn map_npy(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        let table = Self::parse_npy(&map, Some(&map)).map_err(|e| e.at(path))?;
        table.with_columns_beside(path, None)
    }

    fn with_columns_beside(mut self, path: &Path, labels: Option<&Path>) -> Result<Self> {
        if let Some(labels) = labels {
            let codes = labels_from_npy(&read_bounded(labels)?).map_err(|e| e.at(labels))?;
            self = self
                .with_labels("labels", codes)
                .map_err(|e| e.at(labels))?;
        }
        for (name, file) in columns_beside(path) {
            if labels.is_some() && name == "labels" {
                continue;
            }
            let bytes = read_bounded(&file)?;
            let run = |table: Self| -> Result<Self> {
                let npy = parse(&bytes)?;
                match (npy.shape.as_slice(), npy.element.is_float()) {
                    ([_], true) if name != "labels" => {
                        table.with_factor(&name, to_f32(npy.data, npy.element, npy.big_endian)?)
                    }
                    ([_], false) => {
                        table.with_labels(&name, to_u32(npy.data, npy.element, npy.big_endian)?)
                    }
                    _ if name == "labels" => table.with_labels(&name, labels_from_npy(&bytes)?),
                    _ => Ok(table),
                }
            };
            self = run(self).map_err(|e| e.at(&file))?;
        }
        Ok(self)
    }

    /// The embeddings of an npy file in memory, without labels.
    ///
    /// # Errors
    /// When the bytes are not an npy file of floats of shape (N, D).
    pub fn from_npy(bytes: &[u8]) -> Result<Self> {
        Self::parse_npy(bytes, None)
    }

    /// `map` is what `bytes` lie in, where the table is to be used in its place.
    fn parse_npy(bytes: &[u8], map: Option<&Arc<Mmap>>) -> Result<Self> {
        let npy = parse(bytes)?;
        let &[rows, dim] = npy.shape.as_slice() else {
            return Err(Error::shape(format!(
                "expected shape (N, D), found {:?}",
                npy.shape
            )));
        };
        let plain = npy.element == Element::F32 && !npy.big_endian && !npy.fortran;
        if let Some(floats) = map
            .filter(|_| plain)
            .and_then(|map| MappedFloats::new(map, npy.data))
        {
            return Self::from_values(Values::Mapped(floats), dim);
        }
        let mut values = to_f32(npy.data, npy.element, npy.big_endian)?;
        // Not on empty data: its other dimension may be anything.
        if npy.fortran && !values.is_empty() {
            let columns = values;
            values = (0..rows)
                .flat_map(|r| columns.iter().skip(r).step_by(rows.max(1)).take(dim))
                .copied()
                .collect();
        }
        Self::new(values, dim)
    }

    /// Writes `X.npy` (f4) and, where there is a label column called `labels`, `X.labels.npy` (u4).
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_npy(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut bytes = header("<f4", &format!("({}, {})", self.len(), self.dim()));
        bytes.extend(self.values().iter().flat_map(|v| v.to_le_bytes()));
        write_atomically(path, &bytes)?;
        if let Some(labels) = self.all_labels().get("labels") {
            let mut bytes = header("<u4", &format!("({},)", labels.len()));
            bytes.extend(labels.iter().flat_map(|v| v.to_le_bytes()));
            write_atomically(&labels_beside(path), &bytes)?;
        }
        Ok(())
    }
}

/// The labels of an npy file in memory.
///
/// # Errors
/// When the bytes are not an npy file of integers of shape (N).
pub fn labels_from_npy(bytes: &[u8]) -> Result<Vec<u32>> {
    let npy = parse(bytes)?;
    let &[_] = npy.shape.as_slice() else {
        return Err(Error::shape(format!(
            "expected shape (N), found {:?}",
            npy.shape
        )));
    };
    to_u32(npy.data, npy.element, npy.big_endian)
}

/// The files `X.NAME.npy` beside `X.npy`, by NAME.
fn columns_beside(path: &Path) -> BTreeMap<String, PathBuf> {
    let (Some(stem), Some(folder)) = (path.file_stem().and_then(|s| s.to_str()), path.parent())
    else {
        return BTreeMap::new();
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = folder.read_dir() else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let name = file
                .to_str()?
                .strip_prefix(stem)?
                .strip_prefix('.')?
                .strip_suffix(".npy")?;
            // `X.a.b.npy` is the column b of `X.a.npy`.
            (!name.is_empty() && !name.contains('.')).then(|| (name.to_string(), entry.path()))
        })
        .collect()
}

/// `X.npy` to `X.labels.npy`.
fn labels_beside(path: &Path) -> PathBuf {
    path.with_extension("labels.npy")
}

/// A version 1 header, padded so that the data starts at a multiple of 64 bytes.
fn header(descr: &str, shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Result<Npy<'_>> {
    let truncated = || Error::format("not an npy file: it ends inside the header");
    let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else {
        return Err(Error::format(
            "not an npy file: it does not begin with \\x93NUMPY",
        ));
    };
    let (&[major, _minor], rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
    let (len, rest) = match major {
        1 => {
            let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
            (usize::from(u16::from_le_bytes(*len)), rest)
        }
        2 | 3 => {
            let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
        other => {
            return Err(Error::format(format!(
                "npy version {other} is unknown; 1 to 3 are read"
            )));
        }
    };
    if len > MAX_HEADER {
        return Err(Error::format(format!(
            "the header claims {len} bytes; at most {MAX_HEADER} are read"
        )));
    }
    let (text, data) = rest.split_at_checked(len).ok_or_else(truncated)?;
    let text =
        std::str::from_utf8(text).map_err(|_| Error::format("the npy header is not text"))?;
    let (descr, fortran, shape) = dictionary(text).ok_or_else(|| {
        Error::format(format!(
            "the npy header is not understood: {:.120}",
            text.trim()
        ))
    })?;
    let (element, big_endian) = element(&descr)?;
    let want = shape
        .iter()
        .try_fold(element.size(), |product, &n| product.checked_mul(n))
        .ok_or_else(|| Error::format(format!("shape {shape:?} overflows")))?;
    if want != data.len() {
        return Err(Error::format(format!(
            "shape {shape:?} of {descr} needs {want} bytes, the file holds {}",
            data.len()
        )));
    }
    Ok(Npy {
        element,
        big_endian,
        fortran,
        shape,
        data,
    })
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` in any key order.
fn dictionary(text: &str) -> Option<(String, bool, Vec<usize>)> {
    let mut rest = text.trim().strip_prefix('{')?;
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(end) = rest.strip_prefix('}') {
            return end.trim().is_empty().then_some((descr?, fortran?, shape?));
        }
        let (key, after) = quoted(rest)?;
        rest = after.trim_start().strip_prefix(':')?.trim_start();
        match key {
            "descr" => {
                let (value, after) = quoted(rest)?;
                descr = Some(value.to_string());
                rest = after;
            }
            "fortran_order" => {
                (fortran, rest) = match (rest.strip_prefix("True"), rest.strip_prefix("False")) {
                    (Some(after), _) => (Some(true), after),
                    (_, Some(after)) => (Some(false), after),
                    _ => return None,
                };
            }
            "shape" => {
                let (inside, after) = rest.strip_prefix('(')?.split_once(')')?;
                let sizes: Option<Vec<usize>> = inside
                    .split(',')
                    .map(str::trim)
                    .filter(|s| !s.is_empty())
                    .map(|s| s.parse().ok())
                    .collect();
                shape = Some(sizes?);
                rest = after;
            }
            _ => return None,
        }
    }
}

/// A string in single or double quotes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text.strip_prefix(quote)?.split_once(quote)
}

fn element(descr: &str) -> Result<(Element, bool)> {
    let (order, kind) = match descr.chars().next() {
        Some(order @ ('<' | '>' | '|' | '=')) => (order, descr.get(1..).unwrap_or("")),
        _ => ('<', descr),
    };
    let element = match kind {
        "f2" => Element::F16,
        "f4" => Element::F32,
        "f8" => Element::F64,
        "b1" => Element::Bool,
        "u1" => Element::U8,
        "u2" => Element::U16,
        "u4" => Element::U32,
        "u8" => Element::U64,
        "i1" => Element::I8,
        "i2" => Element::I16,
        "i4" => Element::I32,
        "i8" => Element::I64,
        "O" => {
            return Err(Error::format(
                "the array holds pickled Python objects, which are never read",
            ));
        }
        _ => {
            return Err(Error::format(format!(
                "element type `{descr}` is neither float nor integer"
            )));
        }
    };
    Ok((element, order == '>'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn npy(dictionary: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((dictionary.len() as u16).to_le_bytes());
        bytes.extend(dictionary.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn pair_round_trip() {
        let table = Embeddings::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3)
            .unwrap()
            .with_labels("labels", vec![4, 2])
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.npy");
        table.write_npy(&path).unwrap();
        assert!(dir.path().join("set.labels.npy").exists());
        assert_eq!(Embeddings::read(&path).unwrap(), table);
        std::fs::remove_file(dir.path().join("set.labels.npy")).unwrap();
        assert!(Embeddings::read(&path).unwrap().all_labels().is_empty());
        let labels = dir.path().join("none.npy");
        let error = Embeddings::read_npy(&path, Some(&labels))
            .unwrap_err()
            .to_string();
        assert!(error.contains("none.npy"), "{error}");
    }

    #[test]
    fn memory_and_byte_order() {
        let big: Vec<u8> = [1.0f64, 3.0, 2.0, 4.0]
            .iter()
            .flat_map(|v| v.to_be_bytes())
            .collect();
        let bytes = npy(
            "{'shape': (2, 2), 'descr': '>f8', 'fortran_order': True}",
            &big,
        );
        assert_eq!(
            Embeddings::from_npy(&bytes).unwrap().values(),
            [1.0, 2.0, 3.0, 4.0]
        );
    }

    #[test]
    fn each_fault_is_one_clear_line() {
        let message = |d: &str, n: usize| {
            Embeddings::from_npy(&npy(d, &vec![0; n]))
                .unwrap_err()
                .to_string()
        };
        let f4 = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
        assert_eq!(
            message(&format!("{f4}(2, 2), }}"), 12),
            "shape [2, 2] of <f4 needs 16 bytes, the file holds 12"
        );
        assert_eq!(
            message(&format!("{f4}(4,), }}"), 16),
            "expected shape (N, D), found [4]"
        );
        assert!(message(&format!("{f4}(9223372036854775807, 9), }}"), 0).contains("overflows"));
        assert!(
            message(
                "{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }",
                8
            )
            .contains("pickled")
        );
        assert!(message("__import__('os')", 0).contains("not understood"));
        assert!(
            Embeddings::from_npy(b"text")
                .unwrap_err()
                .to_string()
                .contains("not an npy file")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn hostile_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Embeddings::from_npy(&bytes);
            let mut magic = b"\x93NUMPY\x01\x00".to_vec();
            magic.extend(&bytes);
            let _ = Embeddings::from_npy(&magic);
            let _ = labels_from_npy(&magic);
        }

        #[test]
        fn hostile_headers(text in "[{}'(), :a-zA-Z0-9<>|]{0,80}", n in 0usize..64) {
            let _ = Embeddings::from_npy(&npy(&text, &vec![0; n]));
        }

        #[test]
        fn hostile_shapes(a in any::<u64>(), b in any::<u64>(), order in any::<bool>()) {
            let order = if order { "True" } else { "False" };
            let text = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': ({a}, {b})}}");
            let _ = Embeddings::from_npy(&npy(&text, &[0; 64]));
        }
    }
}
