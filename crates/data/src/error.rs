//! The one error of this crate: what went wrong, in which file, at which record.

use std::fmt;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a data set could not be opened, read or written, and where.
///
/// `Display` is a single line: file, record, then what was expected.
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
    /// The operating system refused; `action` says what was tried.
    Io {
        /// What was tried, as in "cannot read".
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file, folder, column or class that should be there is not.
    Missing(String),
    /// There is nothing in it.
    Empty(String),
    /// The bytes are not what their format asks for.
    Format(String),
    /// A declared size is beyond what this crate is willing to allocate.
    TooLarge(String),
    /// A data specification (`synth:...`, `orl`, `folder:...`) that cannot be understood.
    Spec(String),
    /// A setting out of its range.
    Config(String),
    /// A package could not be fetched.
    Fetch(String),
    /// A file is not the one that was pinned.
    Checksum {
        /// SHA-256 that was pinned, in hexadecimal.
        expected: String,
        /// SHA-256 that was found.
        found: String,
    },
    /// The build lacks a cargo feature.
    Feature(String),
    /// The place to write to is already taken.
    Exists(String),
    /// A loading thread died.
    Worker(String),
    /// candle refused an operation on tensors.
    Tensor(Box<candle::Error>),
}

impl Error {
    /// An error with neither file nor record.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        Self {
            kind,
            path: None,
            record: None,
        }
    }

    /// An error of the operating system on a file.
    #[must_use]
    pub fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io { action, source }).at(path)
    }

    /// Shorthand for [`ErrorKind::Format`].
    #[must_use]
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format(message.into()))
    }

    /// Shorthand for [`ErrorKind::Config`].
    #[must_use]
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config(message.into()))
    }

    /// Shorthand for [`ErrorKind::Missing`].
    #[must_use]
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Missing(message.into()))
    }

    /// Names the file, unless one is named already.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        if self.path.is_none() {
            self.path = Some(path.to_path_buf());
        }
        self
    }

    /// Names the record (line, sample, entry), unless one is named already.
    #[must_use]
    pub fn record(mut self, record: impl Into<String>) -> Self {
        if self.record.is_none() {
            self.record = Some(record.into());
        }
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The file it went wrong in.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The record it went wrong at.
    #[must_use]
    pub fn record_name(&self) -> Option<&str> {
        self.record.as_deref()
    }
}

/// Folds a foreign message into one line, so that the promise of `Display` holds for causes too.
pub(crate) fn one_line(message: &str) -> String {
    let mut parts = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let first = parts.next().unwrap_or("unknown").to_string();
    parts
        .take(2)
        .fold(first, |line, next| format!("{line}; {next}"))
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, source } => write!(f, "{action}: {}", one_line(&source.to_string())),
            Self::Missing(message)
            | Self::Empty(message)
            | Self::Format(message)
            | Self::TooLarge(message)
            | Self::Spec(message)
            | Self::Config(message)
            | Self::Fetch(message)
            | Self::Feature(message)
            | Self::Exists(message)
            | Self::Worker(message) => f.write_str(message),
            Self::Checksum { expected, found } => {
                write!(
                    f,
                    "not the pinned file: expected sha256 {expected}, found {found}"
                )
            }
            Self::Tensor(error) => {
                // candle appends a backtrace when one is asked for; the first line says it all.
                f.write_str(error.to_string().lines().next().unwrap_or("tensor error"))
            }
        }
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
        write!(f, "{}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Io { source, .. } => Some(source),
            ErrorKind::Tensor(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl From<candle::Error> for Error {
    fn from(error: candle::Error) -> Self {
        Self::new(ErrorKind::Tensor(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_file_and_record() {
        let error = Error::format("expected 4 columns, found 3")
            .at(Path::new("faces/index.csv"))
            .record("line 7")
            .record("ignored: the innermost record is the exact one");
        assert_eq!(
            error.to_string(),
            "faces/index.csv: line 7: expected 4 columns, found 3"
        );
        let io = Error::io(
            "cannot read",
            Path::new("a"),
            std::io::Error::other("two\nlines"),
        );
        assert_eq!(io.to_string(), "a: cannot read: two; lines");
    }
}
