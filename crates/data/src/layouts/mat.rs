//! Numeric arrays of MATLAB files, level 5 (what MATLAB 5 to 7.2 writes, and `-v6`, `-v7` after it).
//!
//! Follows MathWorks' "MAT-File Format": a header of 128 bytes, then elements of a tag (type, size) and data padded to
//! eight bytes; arrays may be zlib streams. Read are real arrays of numbers at the top level; text, cells, structures,
//! sparse and complex arrays are passed over. Files of version 7.3 are HDF5 and are refused by name.

use std::collections::BTreeMap;
use std::io::Read;

use crate::{Error, ErrorKind, Result};

/// Most bytes that one compressed array may unfold to.
const MAX_ARRAY: u64 = 1 << 28;

/// A real array, columns first as MATLAB keeps it: element (i, j) of a matrix stands at `i + rows * j`.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its extents, at least two.
    pub dims: Vec<usize>,
    /// Its values.
    pub values: Vec<f64>,
}

impl Array {
    /// Rows of a matrix, each with its values in order.
    ///
    /// # Errors
    /// When it is not a matrix of `rows` rows.
    pub fn rows(&self, rows: usize) -> Result<Vec<Vec<f64>>> {
        match self.dims[..] {
            [found, columns] if found == rows => Ok((0..rows)
                .map(|i| (0..columns).map(|j| self.values[i + rows * j]).collect())
                .collect()),
            _ => Err(Error::format(format!(
                "expected a matrix of {rows} rows, found one of {:?}",
                self.dims
            ))),
        }
    }
}

/// The arrays of a file, by name.
///
/// # Errors
/// When it is not a level 5 file, is cut short, or an element's sizes contradict each other.
pub fn parse_mat(bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
    if bytes.starts_with(b"MATLAB 7.3") || bytes.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Err(Error::format(
            "a MATLAB 7.3 file, which is HDF5: save it with -v7, expected level 5",
        ));
    }
    let endian = match bytes.get(124..128) {
        Some([_, _, b'I', b'M']) => Endian::Little,
        Some([_, _, b'M', b'I']) => Endian::Big,
        _ => {
            return Err(Error::format(
                "not a MATLAB level 5 file: expected IM or MI at byte 126",
            ));
        }
    };
    let mut arrays = BTreeMap::new();
    let mut rest = bytes.get(128..).unwrap_or_default();
    while !rest.is_empty() {
        let (element, after) = element(rest, endian)?;
        rest = after;
        let found = match element.kind {
            MATRIX => array(element.data, endian)?,
            COMPRESSED => {
                let mut unfolded = Vec::new();
                let mut stream = flate2::read::ZlibDecoder::new(element.data).take(MAX_ARRAY + 1);
                stream
                    .read_to_end(&mut unfolded)
                    .map_err(|e| Error::format(format!("a compressed array is damaged: {e}")))?;
                if unfolded.len() as u64 > MAX_ARRAY {
                    return Err(Error::new(ErrorKind::TooLarge(format!(
                        "a compressed array of more than {MAX_ARRAY} bytes"
                    ))));
                }
                let (inner, _) = self::element(&unfolded, endian)?;
                if inner.kind == MATRIX {
                    array(inner.data, endian)?
                } else {
                    None
                }
            }
            _ => None,
        };
        if let Some((name, array)) = found {
            arrays.insert(name, array);
        }
    }
    Ok(arrays)
}

const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

#[derive(Clone, Copy)]
enum Endian {
    Little,
    Big,
}

impl Endian {
    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

fn cut_short() -> Error {
    Error::format("the file is cut short: an element is larger than what is left")
}

/// The first element of `bytes`, and what follows it.
fn element(bytes: &[u8], endian: Endian) -> Result<(Element<'_>, &[u8])> {
    let word = |at: usize| {
        let four = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
        four.map(|four| endian.u32(four)).ok_or_else(cut_short)
    };
    let first = word(0)?;
    // A small element keeps size and type in the first word and up to four bytes of data in the second.
    if first >> 16 != 0 {
        let size = (first >> 16) as usize;
        let data = bytes.get(4..8).ok_or_else(cut_short)?;
        let data = data.get(..size).ok_or_else(|| {
            Error::format(format!(
                "a small element of {size} bytes, expected at most 4"
            ))
        })?;
        let element = Element {
            kind: first & 0xffff,
            data,
        };
        return Ok((element, bytes.get(8..).unwrap_or_default()));
    }
    let size = word(4)? as usize;
    let body = bytes.get(8..).unwrap_or_default();
    let data = body.get(..size).ok_or_else(cut_short)?;
    // Compressed elements are not padded; the padding of the last one may be missing.
    let padded = if first == COMPRESSED {
        size
    } else {
        size.div_ceil(8) * 8
    };
    let after = body.get(padded..).unwrap_or_default();
    Ok((Element { kind: first, data }, after))
}

/// Name and values of an array, or nothing where it is not a real array of numbers.
fn array(bytes: &[u8], endian: Endian) -> Result<Option<(String, Array)>> {
    let (flags, rest) = element(bytes, endian)?;
    let flags: [u8; 4] = flags
        .data
        .get(..4)
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| Error::format("an array without flags"))?;
    let flags = endian.u32(flags);
    let (class, complex) = (flags & 0xff, flags & 0x800 != 0);
    // Classes 6 to 15 are the numeric ones, double to 64-bit integers.
    if !(6..=15).contains(&class) || complex {
        return Ok(None);
    }
    let (dims, rest) = element(rest, endian)?;
    let dims: Vec<usize> = numbers(&dims, endian)?
        .iter()
        .map(|&n| n as usize)
        .collect();
    let (name, rest) = element(rest, endian)?;
    let name = String::from_utf8_lossy(name.data).into_owned();
    let (data, _) = element(rest, endian)?;
    let values = numbers(&data, endian).map_err(|e| e.record(format!("array {name:?}")))?;
    let product = dims.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    if dims.len() < 2 || product != Some(values.len()) {
        return Err(Error::format(format!(
            "extents {dims:?} and {} values contradict each other",
            values.len()
        ))
        .record(format!("array {name:?}")));
    }
    Ok(Some((name, Array { dims, values })))
}

/// The numbers of an element, whatever type they are stored in.
fn numbers(element: &Element<'_>, endian: Endian) -> Result<Vec<f64>> {
    fn all<const N: usize>(data: &[u8], one: impl Fn([u8; N]) -> f64) -> Result<Vec<f64>> {
        let chunks = data.chunks_exact(N);
        if !chunks.remainder().is_empty() {
            return Err(Error::format(format!(
                "{} bytes, expected a multiple of {N}",
                data.len()
            )));
        }
        Ok(chunks
            .map(|chunk| one(std::array::from_fn(|i| chunk[i])))
            .collect())
    }
    macro_rules! of {
        ($number:ty) => {
            match endian {
                Endian::Little => all(element.data, |b| <$number>::from_le_bytes(b).into()),
                Endian::Big => all(element.data, |b| <$number>::from_be_bytes(b).into()),
            }
        };
    }
    match element.kind {
        INT8 => of!(i8),
        UINT8 => of!(u8),
        INT16 => of!(i16),
        UINT16 => of!(u16),
        INT32 => of!(i32),
        UINT32 => of!(u32),
        SINGLE => of!(f32),
        DOUBLE => of!(f64),
        other => Err(Error::format(format!(
            "numbers of type {other} are not read"
        ))),
    }
}

/// A file of `arrays`: name, number of rows, and the values columns first. As SciPy writes it, not compressed.
pub(crate) fn write_mat(arrays: &[(&str, usize, &[f64])]) -> Vec<u8> {
    let arrays: Vec<_> = arrays
        .iter()
        .map(|(name, rows, values)| {
            let columns = values.len() / rows.max(&1);
            matrix(name, *rows as u32, columns as u32, values)
        })
        .collect();
    file(&arrays)
}

fn file(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"MATLAB 5.0 MAT-file".to_vec();
    bytes.resize(124, b' ');
    bytes.extend([0, 1, b'I', b'M']);
    bytes.extend(elements.concat());
    bytes
}

/// A matrix of doubles, in an element of its own.
fn matrix(name: &str, rows: u32, columns: u32, values: &[f64]) -> Vec<u8> {
    let element = |kind: u32, data: &[u8]| {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let flags = [6u32.to_le_bytes(), [0; 4]].concat();
    let dims = [rows.to_le_bytes(), columns.to_le_bytes()].concat();
    let numbers: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let body = [
        element(UINT32, &flags),
        element(INT32, &dims),
        element(INT8, name.as_bytes()),
        element(DOUBLE, &numbers),
    ]
    .concat();
    element(MATRIX, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(element: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(element).unwrap();
        let data = out.finish().unwrap();
        [
            &COMPRESSED.to_le_bytes()[..],
            &(data.len() as u32).to_le_bytes(),
            &data,
        ]
        .concat()
    }

    #[test]
    fn arrays_plain_and_compressed() {
        let a = matrix("pt3d_68", 3, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let b = matrix("x", 1, 1, &[-0.5]);
        let arrays = parse_mat(&file(&[compressed(&a), b])).unwrap();
        assert_eq!(arrays["x"].values, [-0.5]);
        assert_eq!(
            arrays["pt3d_68"].rows(3).unwrap(),
            [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]
        );
        assert!(arrays["x"].rows(3).is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |bytes: &[u8]| parse_mat(bytes).unwrap_err().to_string();
        assert!(error(b"MATLAB 7.3 MAT-file").contains("HDF5"));
        assert!(error(b"").contains("not a MATLAB level 5 file"));
        let good = file(&[matrix("x", 1, 2, &[1.0, 2.0])]);
        for end in 129..good.len() {
            // Padding at the very end carries nothing.
            assert!(
                parse_mat(&good[..end]).is_err(),
                "{end} of {} bytes",
                good.len()
            );
        }
        assert_eq!(
            error(&file(&[matrix("x", 2, 2, &[1.0, 2.0])])),
            "array \"x\": extents [2, 2] and 2 values contradict each other"
        );
        assert!(error(&file(&[matrix("x", u32::MAX, u32::MAX, &[1.0])])).contains("contradict"));
        let mut damaged = compressed(&matrix("x", 1, 1, &[1.0]));
        damaged[12] ^= 0xff;
        assert!(error(&file(&[damaged])).contains("damaged"));
    }
}
