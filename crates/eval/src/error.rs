//! The one error of this crate: a kind, and where it happened.

use std::fmt;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be read or judged, and where: its `Display` is one line.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    path: Option<PathBuf>,
    record: Option<String>,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read or written.
    Io(std::io::Error),
    /// The bytes are not the format they should be.
    Format(String),
    /// Two things that must have the same size have not.
    Shape(String),
    /// A value that no metric is defined on: NaN, infinity, a negative label.
    Value(String),
    /// Something that the protocol needs is not there: a label tensor, a sample id.
    Missing(String),
    /// The input is well formed, but the metric is undefined on it: one class only, no genuine pair.
    Degenerate(String),
    /// Too large for the memory bound that is documented with the function.
    TooLarge(String),
    /// An unknown protocol, score or option.
    Usage(String),
}

impl Error {
    /// An error without a place.
    pub fn new(kind: ErrorKind) -> Self {
        Self {
            kind,
            path: None,
            record: None,
        }
    }

    /// Names the file.
    #[must_use]
    pub fn at(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_path_buf());
        self
    }

    /// Names the file, where none is named yet.
    pub(crate) fn at_if_nowhere(self, path: impl AsRef<Path>) -> Self {
        if self.path.is_some() {
            self
        } else {
            self.at(path)
        }
    }

    /// Names the record inside the file: `row 3`, `line 12`, a tensor.
    #[must_use]
    pub fn record(mut self, record: impl Into<String>) -> Self {
        self.record = Some(record.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The file, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(crate) fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format(message.into()))
    }

    pub(crate) fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape(message.into()))
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Value(message.into()))
    }

    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Missing(message.into()))
    }

    pub(crate) fn degenerate(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Degenerate(message.into()))
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge(message.into()))
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage(message.into()))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(ErrorKind::Io(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        if let Some(record) = &self.record {
            write!(f, "{record}: ")?;
        }
        match &self.kind {
            ErrorKind::Io(error) => write!(f, "{error}"),
            ErrorKind::Format(message)
            | ErrorKind::Shape(message)
            | ErrorKind::Value(message)
            | ErrorKind::Missing(message)
            | ErrorKind::Degenerate(message)
            | ErrorKind::TooLarge(message)
            | ErrorKind::Usage(message) => write!(f, "{message}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}
