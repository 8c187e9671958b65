//! The one error type of this crate: what went wrong, in which file, at which record.

use std::fmt;
use std::path::{Path, PathBuf};

use candle::{DType, Shape};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why training, saving or loading stopped, and where.
///
/// `Display` is one line: what happened, then the record (a tensor's or a setting's name) and the file.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    record: Option<String>,
}

/// The kinds of [`Error`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a file operation.
    Io {
        /// What was being done, as in "creating" or "writing".
        doing: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A tensor operation failed.
    Tensor(candle::Error),
    /// The closure that computes a step failed.
    Step {
        /// The step, counted from 0.
        step: u64,
        /// The closure's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A setting makes no sense.
    Config(String),
    /// A tensor that the model needs is not in the file.
    Missing,
    /// A tensor of the file has no place in the model.
    Unexpected,
    /// A tensor has another shape in the model.
    ShapeMismatch {
        /// The model's shape.
        expected: Shape,
        /// The file's shape.
        found: Shape,
    },
    /// A tensor has another element type in the model.
    DTypeMismatch {
        /// The model's type.
        expected: DType,
        /// The file's type.
        found: DType,
    },
    /// No tensor of the file has the name and shape of one of the model.
    NothingMatches,
    /// A trainable variable got no gradient at the first step.
    NoGradient,
    /// The loss or the gradient is NaN or infinite; the weights are those before the step.
    NonFinite {
        /// "loss" or "gradient norm".
        what: &'static str,
        /// The value.
        value: f64,
        /// The step, counted from 0.
        step: u64,
        /// Ids of the samples of the batch.
        samples: Vec<String>,
    },
    /// The file is not a whole, well-formed file of its format.
    BadFile(String),
    /// The checkpoint was written by a version with another layout.
    Version {
        /// The version this crate writes.
        expected: u64,
        /// The file's version.
        found: u64,
    },
    /// The checkpoint belongs to a run with another configuration or seed.
    OtherRun {
        /// Which of them: "configuration hash" or "seed".
        what: &'static str,
        /// This run's value.
        expected: String,
        /// The checkpoint's value.
        found: String,
    },
    /// The run folder already holds a checkpoint, and the run was not asked to resume.
    RunExists {
        /// Steps done in that checkpoint.
        step: u64,
    },
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            kind,
            path: None,
            record: None,
        }))
    }

    pub(crate) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io { doing, source }).at(path)
    }

    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config(what.into()))
    }

    pub(crate) fn bad_file(path: &Path, reason: impl fmt::Display) -> Self {
        Self::new(ErrorKind::BadFile(reason.to_string())).at(path)
    }

    /// Names the file, unless one is named already.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        if self.0.path.is_none() {
            self.0.path = Some(path.to_path_buf());
        }
        self
    }

    /// Names the record, unless one is named already.
    pub(crate) fn of(mut self, record: impl Into<String>) -> Self {
        if self.0.record.is_none() {
            self.0.record = Some(record.into());
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The file or folder at fault, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The tensor, setting or line at fault, if there is one.
    pub fn record(&self) -> Option<&str> {
        self.0.record.as_deref()
    }
}

/// candle appends a backtrace and contexts on lines of their own; keep what a reader needs on one line.
fn one_line(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("0:"))
        .filter(|l| !l.is_empty())
        .collect();
    lines.join(": ")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        match &inner.kind {
            ErrorKind::Io { doing, source } => write!(f, "{doing} failed: {}", one_line(source))?,
            ErrorKind::Tensor(error) => write!(f, "{}", one_line(error))?,
            ErrorKind::Step { step, source } => write!(f, "step {step}: {}", one_line(source))?,
            ErrorKind::Config(what) => write!(f, "{what}")?,
            ErrorKind::Missing => write!(f, "the model has this tensor, the file does not")?,
            ErrorKind::Unexpected => write!(f, "the file has this tensor, the model does not")?,
            ErrorKind::ShapeMismatch { expected, found } => {
                write!(f, "the model has shape {expected:?}, the file {found:?}")?;
            }
            ErrorKind::DTypeMismatch { expected, found } => {
                write!(
                    f,
                    "the model has type {}, the file {}",
                    expected.as_str(),
                    found.as_str()
                )?;
            }
            ErrorKind::NothingMatches => write!(
                f,
                "no tensor of the file has the name and shape of one of the model"
            )?,
            ErrorKind::NoGradient => write!(
                f,
                "the variable got no gradient at the first step: the loss does not depend on it \
                 (allow_unused = true accepts this)"
            )?,
            ErrorKind::NonFinite {
                what,
                value,
                step,
                samples,
            } => {
                write!(
                    f,
                    "the {what} is {value} at step {step}; samples of the batch: {}",
                    samples.join(", ")
                )?;
            }
            ErrorKind::BadFile(reason) => write!(f, "{reason}")?,
            ErrorKind::Version { expected, found } => {
                write!(
                    f,
                    "the checkpoint has format version {found}, this program reads version {expected}"
                )?;
            }
            ErrorKind::OtherRun {
                what,
                expected,
                found,
            } => {
                write!(
                    f,
                    "the checkpoint's {what} is {found}, this run's is {expected}: a run goes on only with the settings it began with, \
                     and with a program that has no new ones; else begin in another folder"
                )?;
            }
            ErrorKind::RunExists { step } => {
                write!(
                    f,
                    "the folder holds a run with {step} steps done: resume it or choose another folder"
                )?;
            }
        }
        if let Some(record) = &inner.record {
            write!(f, " [{record}]")?;
        }
        if let Some(path) = &inner.path {
            write!(f, " ({})", path.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            ErrorKind::Io { source, .. } => Some(source),
            ErrorKind::Tensor(error) => Some(error),
            ErrorKind::Step { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}

impl From<candle::Error> for Error {
    fn from(error: candle::Error) -> Self {
        Self::new(ErrorKind::Tensor(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_with_record_and_file() {
        let error = Error::new(ErrorKind::ShapeMismatch {
            expected: Shape::from((2, 3)),
            found: Shape::from(4),
        })
        .of("head.weight")
        .at(Path::new("a/model.safetensors"));
        assert_eq!(
            error.to_string(),
            "the model has shape [2, 3], the file [4] [head.weight] (a/model.safetensors)"
        );
        let wrapped = Error::from(candle::Error::msg("inner").context("outer").bt());
        assert!(!wrapped.to_string().contains('\n'), "{wrapped}");
        assert!(wrapped.to_string().contains("inner"), "{wrapped}");
    }
}
