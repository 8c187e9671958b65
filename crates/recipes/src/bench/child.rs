//! A program under measurement, as a child process that speaks the [protocol](super::protocol).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::protocol::{Reply, Request};

/// Lines of a child's standard error that are kept, to say why it died.
const KEPT: usize = 12;

/// A program that speaks the protocol: how rows name it and how it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Name in rows, for example `pytorch`.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<OsString>,
}

/// Why a child gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It could not be started.
    Start(String),
    /// Packages are not installed.
    Missing(Vec<String>),
    /// It said that it cannot, and is still there.
    Refused(String),
    /// It wrote something that is no answer.
    Garbage(String),
    /// It ended; with its last words.
    Died(String),
    /// It did not answer in time.
    Silent(Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(why) => write!(f, "cannot be started: {why}"),
            Self::Missing(packages) => write!(f, "has no {}", packages.join(", ")),
            Self::Refused(why) => f.write_str(why),
            Self::Garbage(line) => write!(f, "answered {line:?}, expected one JSON object"),
            Self::Died(words) => write!(f, "ended without an answer: {words}"),
            Self::Silent(time) => write!(f, "gave no answer in {} s", time.as_secs()),
        }
    }
}

/// A running child. Dropped, it is killed.
pub(crate) struct Running {
    process: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    words: Arc<Mutex<VecDeque<String>>>,
    patience: Duration,
}

impl Running {
    /// Starts the program with every library's number of threads set to `threads`.
    pub(crate) fn start(party: &Party, threads: usize, patience: Duration) -> Result<Self, Fault> {
        let Some((program, arguments)) = party.command.split_first() else {
            return Err(Fault::Start("its command is empty".into()));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in [
            "RAYON_NUM_THREADS",
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
        ] {
            command.env(name, threads.to_string());
        }
        let start = |error: &dyn fmt::Display| {
            Fault::Start(format!("{}: {error}", program.to_string_lossy()))
        };
        let mut process = command.spawn().map_err(|error| start(&error))?;
        let pipes = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        );
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(start(&"no pipes"));
        };
        let (send, lines) = channel();
        std::thread::spawn(move || {
            // Lossy: bytes that are no text are no answer either, and the line says so.
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if send
                    .send(String::from_utf8_lossy(&line).trim_end().to_string())
                    .is_err()
                {
                    break;
                }
            }
        });
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&words);
        std::thread::spawn(move || {
            for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line).trim().to_string();
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if !text.is_empty() {
                    kept.push_back(text);
                }
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
        });
        Ok(Self {
            process,
            input,
            lines,
            words,
            patience,
        })
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Fault> {
        let text =
            serde_json::to_string(request).map_err(|error| Fault::Refused(error.to_string()))?;
        if writeln!(self.input, "{text}")
            .and_then(|()| self.input.flush())
            .is_err()
        {
            return Err(self.died());
        }
        let line = match self.lines.recv_timeout(self.patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => return Err(self.died()),
            Err(RecvTimeoutError::Timeout) => return Err(Fault::Silent(self.patience)),
        };
        let garbage = || {
            let short: String = line.chars().take(80).collect();
            Fault::Garbage(short)
        };
        let reply: Reply = serde_json::from_str(&line).map_err(|_| garbage())?;
        match (reply.ok, reply.error, reply.missing) {
            (Some(ok), None, None) => serde_json::from_value(ok).map_err(|_| garbage()),
            (None, Some(error), None) => Err(Fault::Refused(
                error.split_whitespace().collect::<Vec<_>>().join(" "),
            )),
            (None, None, Some(packages)) => Err(Fault::Missing(packages)),
            _ => Err(garbage()),
        }
    }

    fn died(&mut self) -> Fault {
        // Its pipes are closed, so it is ending; its last words are about to come.
        let mut status = "its pipes are closed".to_string();
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(25));
            if let Ok(Some(ended)) = self.process.try_wait() {
                status = ended.to_string();
                break;
            }
        }
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        Fault::Died(match words.back() {
            Some(last) => format!("{last} ({status})"),
            None => status,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
