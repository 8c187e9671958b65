//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use phiz_train::{Observer, Progress};

/// Seconds between plain lines when standard error is not a terminal.
const QUIET: Duration = Duration::from_secs(5);

/// Shows a training run to a person.
pub struct Shown {
    bar: Option<ProgressBar>,
    prefix: String,
    last_line: Option<Instant>,
}

impl Shown {
    /// Every line begins with `prefix` when it is not empty.
    pub fn new(prefix: &str) -> Self {
        Shown {
            bar: None,
            prefix: prefix.to_string(),
            last_line: None,
        }
    }

    fn line(&self, text: &str) {
        let text = match self.prefix.as_str() {
            "" => text.to_string(),
            prefix => format!("{prefix}: {text}"),
        };
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn bar(&mut self, total: u64) -> &ProgressBar {
        let prefix = self.prefix.clone();
        self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total).with_prefix(prefix);
            let style =
                ProgressStyle::with_template("{prefix} {wide_bar:.cyan/dim} {pos}/{len}  {msg}");
            // A template that does not parse would be a bug; the default style is a fair fallback.
            bar.set_style(
                style
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("━━─"),
            );
            bar
        })
    }
}

impl Observer for Shown {
    fn step(&mut self, progress: &Progress<'_>) {
        let left = clock(progress.eta);
        let text = format!(
            "loss {:.3}  {:.0} images/s  {left} left",
            progress.loss, progress.images_per_s
        );
        let last = progress.step == progress.total;
        if std::io::stderr().is_terminal() {
            let bar = self.bar(progress.total);
            bar.set_position(progress.step);
            bar.set_message(text);
            if last {
                bar.finish_and_clear();
                self.bar = None;
            }
            return;
        }
        if last || self.last_line.is_none_or(|time| time.elapsed() >= QUIET) {
            self.last_line = Some(Instant::now());
            self.line(&format!(
                "step {}/{}  {text}",
                progress.step, progress.total
            ));
        }
    }

    fn message(&mut self, text: &str) {
        self.line(text);
    }

    fn checkpoint(&mut self, _step: u64, _path: &Path) {}
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}
