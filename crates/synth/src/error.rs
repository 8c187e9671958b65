//! The one error type of the crate: what was asked for and why it cannot be drawn.

use std::fmt;

/// Why a face could not be drawn. `Display` is one line that names the field, its value and what was expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    kind: ErrorKind,
}

/// The kinds of [`Error`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A field of the configuration (or an argument) is outside its range.
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// The value found.
        value: f64,
        /// The range expected, in words.
        expected: &'static str,
    },
    /// A sample index at or beyond the number of samples.
    NoSuchSample {
        /// The index asked for.
        index: usize,
        /// Number of samples of the configuration.
        len: usize,
    },
    /// Settings that contradict each other.
    Conflict {
        /// What they are and what is expected.
        text: String,
    },
    /// A factor name that does not exist.
    NoSuchFactor {
        /// The name asked for.
        name: String,
    },
    /// Pixels that do not fit width x height x channels.
    Pixels {
        /// Image width in pixels.
        width: usize,
        /// Image height in pixels.
        height: usize,
        /// Channels a pixel.
        channels: usize,
        /// Bytes found.
        found: usize,
    },
    /// Images of one sheet differ in size or number of channels.
    MixedImages {
        /// Position of the first image that differs from image 0.
        position: usize,
    },
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self { kind }
    }

    pub(crate) fn range(field: &'static str, value: f64, expected: &'static str) -> Self {
        Self::new(ErrorKind::OutOfRange {
            field,
            value,
            expected,
        })
    }

    /// What went wrong, for matching.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::OutOfRange {
                field,
                value,
                expected,
            } => write!(f, "rendered faces: {field} is {value}, expected {expected}"),
            ErrorKind::NoSuchSample { index, len } => {
                write!(
                    f,
                    "rendered faces: sample {index} asked for, there are {len}"
                )
            }
            ErrorKind::Conflict { text } => write!(f, "rendered faces: {text}"),
            ErrorKind::NoSuchFactor { name } => {
                write!(f, "rendered faces: there is no factor called {name:?}")
            }
            ErrorKind::Pixels {
                width,
                height,
                channels,
                found,
            } => write!(
                f,
                "image of {width} x {height} x {channels}: {found} bytes of pixels do not fit (1 to 4 channels, no empty side)"
            ),
            ErrorKind::MixedImages { position } => write!(
                f,
                "contact sheet: image {position} differs from image 0 in size or channels"
            ),
        }
    }
}

impl std::error::Error for Error {}
