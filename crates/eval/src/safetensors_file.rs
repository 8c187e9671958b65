//! Embedding tables as safetensors files.
//!
//! Layout: `embeddings` (N, D) float; `labels` and any further integer tensor of shape (N) is a label column; a float
//! tensor of shape (N) is a continuous factor (`factor.pose`); `logits` (N, C) float. Sample ids and the names of label
//! codes are strings, which tensors cannot hold: they are one JSON object under the metadata key `phiz`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::tensor::{SafeTensors, TensorView};
use safetensors::{Dtype, serialize};
use serde::{Deserialize, Serialize};

use crate::elements::{Element, to_f32, to_u32};
use crate::embeddings::{Embeddings, check_unique};
use crate::error::{Error, Result};
use crate::files::{read_bounded, write_atomically};
use crate::mapped::{MappedFloats, Values, map_file};

/// The strings of a table.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Strings {
    ids: Vec<String>,
    names: BTreeMap<String, Vec<String>>,
}

impl Embeddings {
    /// Reads a safetensors file: `embeddings` (N, D) of f16, bf16, f32 or f64; integer tensors of shape (N) become
    /// label columns, float tensors of shape (N) factors, `logits` (N, C) classifier scores. Other tensors are skipped.
    ///
    /// Header and offsets are checked against the file's length before anything is allocated; files above 16 GiB are
    /// refused.
    ///
    /// # Errors
    /// One line that names the file and the tensor or row: not a safetensors file, no `embeddings`, sizes that
    /// disagree, a NaN, a negative label.
    pub fn read_safetensors(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_bounded(path)?;
        Self::from_safetensors(&bytes).map_err(|e| e.at(path))
    }

    pub(crate) fn map_safetensors(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        Self::parse_safetensors(&map, Some(&map)).map_err(|e| e.at(path))
    }

    /// [`Embeddings::read_safetensors`] on bytes in memory.
    ///
    /// # Errors
    /// As there, without the file's name.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        Self::parse_safetensors(bytes, None)
    }

    /// `map` is what `bytes` lie in, where the table is to be used in its place.
    fn parse_safetensors(bytes: &[u8], map: Option<&Arc<Mmap>>) -> Result<Self> {
        let bad =
            |e: safetensors::SafeTensorError| Error::format(format!("not a safetensors file: {e}"));
        let tensors = SafeTensors::deserialize(bytes).map_err(bad)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(bad)?;
        let mut views: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();

        let Some(view) = views.remove("embeddings") else {
            let found: Vec<&str> = views.keys().map(String::as_str).collect();
            return Err(Error::missing(format!(
                "no tensor `embeddings`; the file holds: {}",
                found.join(", ")
            )));
        };
        let &[_, dim] = view.shape() else {
            return Err(
                Error::shape(format!("expected shape (N, D), found {:?}", view.shape()))
                    .record("embeddings"),
            );
        };
        let kind = element(view.dtype(), "embeddings")?;
        let in_place = map
            .filter(|_| kind == Element::F32)
            .and_then(|map| MappedFloats::new(map, view.data()));
        let values = match in_place {
            Some(floats) => Values::Mapped(floats),
            None => {
                Values::Owned(to_f32(view.data(), kind, false).map_err(|e| e.record("embeddings"))?)
            }
        };
        let mut table = Self::from_values(values, dim)?;

        for (name, view) in views {
            match *view.shape() {
                [_] => {
                    let Ok(kind) = element(view.dtype(), &name) else {
                        continue;
                    };
                    table = if kind.is_float() {
                        table.with_factor(&name, to_f32(view.data(), kind, false)?)?
                    } else {
                        let labels = to_u32(view.data(), kind, false)
                            .map_err(|e| Error::value(e.to_string()).record(format!("`{name}`")))?;
                        table.with_labels(&name, labels)?
                    };
                }
                [_, classes] if name == "logits" => {
                    let values = to_f32(view.data(), element(view.dtype(), &name)?, false)
                        .map_err(|e| e.record("logits"))?;
                    table = table.with_logits(values, classes)?;
                }
                _ => {}
            }
        }

        if let Some(text) = metadata.metadata().as_ref().and_then(|m| m.get("phiz")) {
            let strings: Strings = serde_json::from_str(text).map_err(|e| {
                Error::format(format!("not the JSON it should be: {e}")).record("metadata `phiz`")
            })?;
            if !strings.ids.is_empty() {
                check_unique(&strings.ids)?;
                table = table.with_ids(strings.ids)?;
            }
            for (label, names) in strings.names {
                table = table.with_names(&label, names);
            }
        }
        Ok(table)
    }

    /// The bytes of a safetensors file; the same table always gives the same bytes.
    ///
    /// # Errors
    /// When a label or factor is called `embeddings` or `logits`, which the layout needs itself.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let floats = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|x| x.to_le_bytes()).collect() };
        let mut data: BTreeMap<&str, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
        for (name, column) in self.all_labels() {
            let bytes = column.iter().flat_map(|x| x.to_le_bytes()).collect();
            data.insert(name, (Dtype::U32, vec![self.len()], bytes));
        }
        for (name, column) in self.factors() {
            if data
                .insert(name, (Dtype::F32, vec![self.len()], floats(column)))
                .is_some()
            {
                return Err(Error::usage(format!(
                    "`{name}` is both a label and a factor"
                )));
            }
        }
        let mut reserved = vec![("embeddings", self.dim(), self.values())];
        if let Some(logits) = self.logits() {
            reserved.push(("logits", logits.classes, logits.values.as_slice()));
        }
        for (name, width, values) in reserved {
            let tensor = (Dtype::F32, vec![self.len(), width], floats(values));
            if data.insert(name, tensor).is_some() {
                return Err(Error::usage(format!(
                    "no label or factor may be called `{name}`"
                )));
            }
        }
        let views = data
            .iter()
            .map(|(name, (dtype, shape, bytes))| {
                TensorView::new(*dtype, shape.clone(), bytes)
                    .map(|view| (*name, view))
                    .map_err(|e| Error::format(e.to_string()))
            })
            .collect::<Result<Vec<_>>>()?;
        // One key only: the metadata is a hash map, and more keys would be written in a random order.
        let metadata = if self.ids().is_empty() && self.all_names().is_empty() {
            None
        } else {
            let strings = Strings {
                ids: self.ids().to_vec(),
                names: self.all_names().clone(),
            };
            let text = serde_json::to_string(&strings).map_err(|e| Error::format(e.to_string()))?;
            Some([("phiz".to_string(), text)].into())
        };
        serialize(views, metadata).map_err(|e| Error::format(e.to_string()))
    }

    /// Writes a safetensors file, to a temporary name first.
    ///
    /// # Errors
    /// As [`Embeddings::to_safetensors`], or when the file cannot be written.
    pub fn write_safetensors(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.to_safetensors().map_err(|e| e.at(path))?;
        write_atomically(path, &bytes)
    }
}

fn element(dtype: Dtype, name: &str) -> Result<Element> {
    Ok(match dtype {
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::BF16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        Dtype::BOOL => Element::Bool,
        Dtype::U8 => Element::U8,
        Dtype::U16 => Element::U16,
        Dtype::U32 => Element::U32,
        Dtype::U64 => Element::U64,
        Dtype::I8 => Element::I8,
        Dtype::I16 => Element::I16,
        Dtype::I32 => Element::I32,
        Dtype::I64 => Element::I64,
        other => {
            return Err(
                Error::format(format!("element type {other:?} is not supported"))
                    .record(format!("`{name}`")),
            );
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> Embeddings {
        Embeddings::new(vec![1.0, -2.0, 3.5, 0.25], 2)
            .unwrap()
            .with_labels("labels", vec![0, 9])
            .unwrap()
            .with_labels("expression", vec![4, 4])
            .unwrap()
            .with_factor("factor.pose", vec![0.5, -0.5])
            .unwrap()
            .with_logits(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 3)
            .unwrap()
            .with_ids(vec!["s1/1".into(), "s2/1".into()])
            .unwrap()
            .with_names("expression", vec!["neutral".into(), "happy".into()])
    }

    fn file(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
        let views: Vec<_> = tensors
            .iter()
            .map(|(n, d, s, b)| (*n, TensorView::new(*d, s.clone(), b).unwrap()))
            .collect();
        serialize(views, None).unwrap()
    }

    #[test]
    fn round_trip_and_same_bytes() {
        let bytes = table().to_safetensors().unwrap();
        assert_eq!(Embeddings::from_safetensors(&bytes).unwrap(), table());
        assert_eq!(table().to_safetensors().unwrap(), bytes);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.safetensors");
        table().write_safetensors(&path).unwrap();
        assert_eq!(Embeddings::read(&path).unwrap(), table());
    }

    #[test]
    fn other_element_types_are_read() {
        let doubles: Vec<u8> = [1.5f64, 2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
        let labels: Vec<u8> = [3i64, 4].iter().flat_map(|v| v.to_le_bytes()).collect();
        let bytes = file(&[
            ("embeddings", Dtype::F64, vec![2, 1], doubles),
            ("labels", Dtype::I64, vec![2], labels),
        ]);
        let table = Embeddings::from_safetensors(&bytes).unwrap();
        assert_eq!(table.values(), [1.5, 2.5]);
        assert_eq!(table.labels("labels").unwrap(), [3, 4]);
    }

    #[test]
    fn each_fault_is_one_clear_line() {
        let message = |b: &[u8]| Embeddings::from_safetensors(b).unwrap_err().to_string();
        assert!(message(b"").starts_with("not a safetensors file"));
        let bytes = table().to_safetensors().unwrap();
        assert!(message(&bytes[..bytes.len() - 1]).starts_with("not a safetensors file"));
        let one = |n, d, s, b| file(&[(n, d, s, b)]);
        assert_eq!(
            message(&one("features", Dtype::U8, vec![2], vec![0, 0])),
            "no tensor `embeddings`; the file holds: features"
        );
        assert_eq!(
            message(&one("embeddings", Dtype::F32, vec![1], vec![0; 4])),
            "embeddings: expected shape (N, D), found [1]"
        );
        assert_eq!(
            message(&one("embeddings", Dtype::I32, vec![1, 1], vec![0; 4])),
            "embeddings: expected floats, found I32"
        );
        assert!(message(&one("embeddings", Dtype::F32, vec![0, 4], vec![])).contains("at least 1"));
        let both = |labels: Vec<u8>, n| {
            file(&[
                ("embeddings", Dtype::F32, vec![2, 1], vec![0; 8]),
                ("labels", Dtype::I32, vec![n], labels),
            ])
        };
        assert_eq!(
            message(&both(vec![0; 12], 3)),
            "`labels` has 3 entries, but there are 2 embeddings"
        );
        assert_eq!(
            message(&both(vec![0, 0, 0, 0, 255, 255, 255, 255], 2)),
            "`labels`: row 1: label -1 is outside 0..=4294967295"
        );
        let mut nan = vec![0; 4];
        nan.extend(f32::NAN.to_le_bytes());
        assert_eq!(
            message(&one("embeddings", Dtype::F32, vec![2, 1], nan)),
            "embeddings, row 1: column 0 is NaN"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Any bytes: an answer, never a panic.
        #[test]
        fn hostile_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Embeddings::from_safetensors(&bytes);
        }

        /// A good file with a few bytes changed or cut off: an answer, never a panic.
        #[test]
        fn damaged_files(at in 0usize..600, to in any::<u8>(), cut in 0usize..64) {
            let mut bytes = table().to_safetensors().unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut);
            let _ = Embeddings::from_safetensors(&bytes);
        }

        /// Any JSON-like header of a declared length.
        #[test]
        fn hostile_headers(shape in proptest::collection::vec(any::<u64>(), 0..4), begin in any::<u64>(), end in any::<u64>()) {
            let header = format!(
                "{{\"embeddings\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}}}"
            );
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            let _ = Embeddings::from_safetensors(&bytes);
        }
    }
}
