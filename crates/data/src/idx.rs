//! The idx format of MNIST: bytes in an array of any number of dimensions, plain or gzip.
//!
//! `00 00 08 n`, then n sizes as big-endian u32, then the bytes. See
//! <http://yann.lecun.com/exdb/mnist/>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::one_line;
use crate::{Error, ErrorKind, Result};

/// Largest array that is read, in bytes.
pub const MAX_IDX_BYTES: usize = 1 << 30;

/// An array of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// Sizes, outermost first; none of them 0.
    pub dims: Vec<usize>,
    /// As many bytes as the product of `dims`.
    pub data: Vec<u8>,
}

/// Reads an idx file, gzip or plain by its first bytes.
///
/// # Errors
/// Names the file; see [`parse_idx`].
pub fn read_idx(path: &Path) -> Result<Idx> {
    let file = File::open(path).map_err(|e| Error::io("cannot read", path, e))?;
    parse_idx(file).map_err(|error| error.at(path))
}

/// Reads an array of bytes in the idx format, gzip or plain. Memory grows with what is really there, not
/// with what the header claims.
///
/// # Errors
/// When the magic is wrong, a size is 0 or the whole beyond [`MAX_IDX_BYTES`], or there are fewer or more
/// bytes than declared.
pub fn parse_idx(reader: impl Read) -> Result<Idx> {
    let mut buffered = BufReader::new(reader);
    let start = std::io::BufRead::fill_buf(&mut buffered).map_err(|e| unreadable(&e))?;
    if start.is_empty() {
        return Err(Error::new(ErrorKind::Empty(
            "empty file, expected idx data".into(),
        )));
    }
    if start.starts_with(&[0x1F, 0x8B]) {
        parse_plain(MultiGzDecoder::new(buffered))
    } else {
        parse_plain(buffered)
    }
}

fn unreadable(error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::format("truncated: ends before its declared size");
    }
    Error::format(format!("damaged: {}", one_line(&error.to_string())))
}

fn parse_plain(mut reader: impl Read) -> Result<Idx> {
    let mut magic = [0u8; 4];
    reader.read_exact(&mut magic).map_err(|e| unreadable(&e))?;
    let [0, 0, 0x08, ndim @ 1..=8] = magic else {
        return Err(Error::format(format!(
            "expected idx data of bytes (00 00 08 and 1 to 8 dimensions), found {:02x} {:02x} {:02x} {:02x}",
            magic[0], magic[1], magic[2], magic[3]
        )));
    };
    let mut dims = Vec::new();
    let mut total = 1usize;
    for _ in 0..ndim {
        let mut size = [0u8; 4];
        reader.read_exact(&mut size).map_err(|e| unreadable(&e))?;
        let size = u32::from_be_bytes(size) as usize;
        dims.push(size);
        total = total
            .checked_mul(size)
            .filter(|&total| total <= MAX_IDX_BYTES)
            .ok_or_else(|| {
                Error::new(ErrorKind::TooLarge(format!(
                    "sizes {dims:?} and more, the limit is {MAX_IDX_BYTES} bytes"
                )))
            })?;
    }
    if total == 0 {
        return Err(Error::new(ErrorKind::Empty(format!(
            "sizes {dims:?}: no data"
        ))));
    }
    let mut data = Vec::new();
    reader
        .take(total as u64 + 1)
        .read_to_end(&mut data)
        .map_err(|e| unreadable(&e))?;
    if data.len() != total {
        let found = if data.len() < total {
            data.len().to_string()
        } else {
            "more".into()
        };
        return Err(Error::format(format!(
            "expected {total} bytes for sizes {dims:?}, found {found}"
        )));
    }
    Ok(Idx { dims, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend([1, 2, 3, 4, 5, 6]);
        bytes
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzip_are_the_same() {
        let expected = Idx {
            dims: vec![2, 3],
            data: vec![1, 2, 3, 4, 5, 6],
        };
        assert_eq!(parse_idx(&sample()[..]).unwrap(), expected);
        assert_eq!(parse_idx(&gz(&sample())[..]).unwrap(), expected);
    }

    #[test]
    fn every_cut_and_any_surplus_is_an_error() {
        for bytes in [sample(), gz(&sample())] {
            for cut in 0..bytes.len() {
                assert!(parse_idx(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
        let mut long = sample();
        long.push(0);
        assert_eq!(
            parse_idx(&long[..]).unwrap_err().to_string(),
            "expected 6 bytes for sizes [2, 3], found more"
        );
    }

    #[test]
    fn what_the_header_claims_is_not_allocated() {
        let claims = |sizes: &[u32]| {
            let mut bytes = vec![0, 0, 8, sizes.len() as u8];
            bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
            bytes.extend([7; 10]);
            parse_idx(&bytes[..]).unwrap_err()
        };
        assert!(matches!(
            claims(&[u32::MAX, u32::MAX, u32::MAX]).kind(),
            ErrorKind::TooLarge(_)
        ));
        assert!(matches!(
            claims(&[u32::MAX; 8]).kind(),
            ErrorKind::TooLarge(_)
        ));
        assert!(matches!(claims(&[1 << 30]).kind(), ErrorKind::Format(_)));
        assert!(matches!(claims(&[3, 0]).kind(), ErrorKind::Empty(_)));
        // A stream without end is read no further than declared.
        let sample = sample();
        let endless = sample.chain(std::io::repeat(1));
        assert!(parse_idx(endless).is_err());
    }
}
