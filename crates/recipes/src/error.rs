//! Why a run could not be made, continued, judged or read: one clear line each.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An opaque error: what kind it is, and the file or folder it is about.
#[derive(Debug)]
pub struct Error {
    // Boxed, so that a `Result` stays small.
    kind: Box<ErrorKind>,
    path: Option<PathBuf>,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is not one this program can run: unknown key, wrong type, value out of range.
    Config(String),
    /// A data set could not be opened, read or split.
    Data(phiz_data::Error),
    /// The engine could not train, load or save.
    Train(phiz_train::Error),
    /// A protocol could not be computed.
    Eval(phiz_eval::Error),
    /// A tensor operation failed.
    Tensor(candle::Error),
    /// Reading or writing a file of the run failed.
    Io(std::io::Error),
    /// The device was not compiled in, or is not there.
    Device(String),
    /// The run's folder is not what is expected.
    Run(String),
    /// A program to compare with lacks packages: its name, and what to install.
    Missing(String, Vec<String>),
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The file or folder it is about, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        ErrorKind::Config(message.into()).into()
    }

    pub(crate) fn device(message: impl Into<String>) -> Self {
        ErrorKind::Device(message.into()).into()
    }

    pub(crate) fn missing(program: &str, packages: &[String]) -> Self {
        ErrorKind::Missing(program.to_string(), packages.to_vec()).into()
    }

    pub(crate) fn run(path: &Path, message: impl Into<String>) -> Self {
        Error {
            kind: Box::new(ErrorKind::Run(message.into())),
            path: Some(path.to_path_buf()),
        }
    }

    pub(crate) fn io(path: &Path, error: std::io::Error) -> Self {
        Error {
            kind: Box::new(ErrorKind::Io(error)),
            path: Some(path.to_path_buf()),
        }
    }

    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_path_buf());
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Error {
            kind: Box::new(kind),
            path: None,
        }
    }
}

impl From<phiz_data::Error> for Error {
    fn from(error: phiz_data::Error) -> Self {
        ErrorKind::Data(error).into()
    }
}

impl From<phiz_train::Error> for Error {
    fn from(error: phiz_train::Error) -> Self {
        ErrorKind::Train(error).into()
    }
}

impl From<phiz_eval::Error> for Error {
    fn from(error: phiz_eval::Error) -> Self {
        ErrorKind::Eval(error).into()
    }
}

impl From<candle::Error> for Error {
    fn from(error: candle::Error) -> Self {
        ErrorKind::Tensor(error).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        match self.kind.as_ref() {
            ErrorKind::Config(message) | ErrorKind::Device(message) | ErrorKind::Run(message) => {
                f.write_str(message)
            }
            ErrorKind::Missing(program, packages) => write!(
                f,
                "{program} lacks {}; python3 -m venv peers && peers/bin/pip install {}, then add --python peers/bin/python",
                packages.join(", "),
                packages.join(" ")
            ),
            ErrorKind::Data(error) => error.fmt(f),
            ErrorKind::Train(error) => error.fmt(f),
            ErrorKind::Eval(error) => error.fmt(f),
            ErrorKind::Tensor(error) => {
                // candle appends a backtrace on further lines when RUST_BACKTRACE is set.
                let text = error.to_string();
                f.write_str(text.lines().next().unwrap_or_default())
            }
            ErrorKind::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // `Display` says all that the wrapped error says, so the chain goes on after it.
        match self.kind.as_ref() {
            ErrorKind::Data(error) => error.source(),
            ErrorKind::Train(error) => error.source(),
            ErrorKind::Eval(error) => error.source(),
            ErrorKind::Tensor(error) => error.source(),
            ErrorKind::Io(error) => error.source(),
            ErrorKind::Config(_)
            | ErrorKind::Device(_)
            | ErrorKind::Run(_)
            | ErrorKind::Missing(..) => None,
        }
    }
}
