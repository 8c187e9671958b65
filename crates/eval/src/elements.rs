//! Raw little- or big-endian bytes to numbers: shared by the safetensors and the npy reader.

use crate::error::{Error, Result};

/// The element types that embedding and label files come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    BF16,
    F32,
    F64,
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
}

impl Element {
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::F16 | Self::BF16 | Self::U16 | Self::I16 => 2,
            Self::F32 | Self::U32 | Self::I32 => 4,
            Self::F64 | Self::U64 | Self::I64 => 8,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }
}

/// One element as little-endian bytes padded to eight.
fn padded(chunk: &[u8], big_endian: bool) -> [u8; 8] {
    let mut out = [0; 8];
    for (place, &byte) in out.iter_mut().zip(chunk) {
        *place = byte;
    }
    if big_endian && let Some(used) = out.get_mut(..chunk.len()) {
        used.reverse();
    }
    out
}

/// Floats to f32. An f64 outside f32 becomes an infinity, which the finite check then reports.
pub(crate) fn to_f32(bytes: &[u8], element: Element, big_endian: bool) -> Result<Vec<f32>> {
    let chunks = bytes
        .chunks_exact(element.size())
        .map(|c| padded(c, big_endian));
    Ok(match element {
        Element::F32 => chunks
            .map(|c| f32::from_bits(u64::from_le_bytes(c) as u32))
            .collect(),
        Element::F64 => chunks.map(|c| f64::from_le_bytes(c) as f32).collect(),
        Element::F16 => chunks
            .map(|c| half_to_f32(u64::from_le_bytes(c) as u16))
            .collect(),
        Element::BF16 => chunks
            .map(|c| f32::from_bits((u64::from_le_bytes(c) as u32) << 16))
            .collect(),
        other => return Err(Error::format(format!("expected floats, found {other:?}"))),
    })
}

/// Integers to u32 labels; a negative or too large one is an error that names its row.
pub(crate) fn to_u32(bytes: &[u8], element: Element, big_endian: bool) -> Result<Vec<u32>> {
    if element.is_float() {
        return Err(Error::format(format!(
            "labels must be integers, found {element:?}"
        )));
    }
    let convert = |c: [u8; 8]| -> i128 {
        let raw = u64::from_le_bytes(c);
        match element {
            Element::I8 => i128::from(raw as u8 as i8),
            Element::I16 => i128::from(raw as u16 as i16),
            Element::I32 => i128::from(raw as u32 as i32),
            Element::I64 => i128::from(raw as i64),
            _ => i128::from(raw),
        }
    };
    bytes
        .chunks_exact(element.size())
        .enumerate()
        .map(|(row, chunk)| {
            let value = convert(padded(chunk, big_endian));
            u32::try_from(value).map_err(|_| {
                Error::value(format!("label {value} is outside 0..=4294967295"))
                    .record(format!("row {row}"))
            })
        })
        .collect()
}

/// IEEE 754 binary16 to f32; exact, since every half is an f32.
fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0f32 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_exact() {
        // Values of IEEE 754-2019 table 3.5 and numpy.float16.
        for (bits, value) in [
            (0x3c00u16, 1.0f32),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(half_to_f32(bits), value);
            let bytes = bits.to_be_bytes();
            assert_eq!(to_f32(&bytes, Element::F16, true).unwrap(), [value]);
        }
        assert!(half_to_f32(0x7c00).is_infinite());
        assert!(half_to_f32(0x7e00).is_nan());
        let bf16 = (1.5f32.to_bits() >> 16) as u16;
        assert_eq!(
            to_f32(&bf16.to_le_bytes(), Element::BF16, false).unwrap(),
            [1.5]
        );
    }

    #[test]
    fn labels_outside_u32_name_the_row() {
        let bytes: Vec<u8> = [3i64, -1].iter().flat_map(|v| v.to_le_bytes()).collect();
        let error = to_u32(&bytes, Element::I64, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "row 1: label -1 is outside 0..=4294967295"
        );
        assert_eq!(to_u32(&[0xff], Element::U8, false).unwrap(), [255]);
        assert!(to_u32(&[0xff], Element::I8, false).is_err());
        assert!(to_u32(&[0; 4], Element::F32, false).is_err());
    }
}
