//! What a bench found: rows of times, memory and ratios, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::cases::Group;
use super::protocol::Prepared;
use super::statistics::{Spread, exponent, geometric_mean};

/// Times and memory of one side of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Seconds of a repetition.
    pub time: Spread,
    /// The most memory the process ever held, in 1e6 bytes.
    pub peak_mb: Option<f64>,
    /// Memory of the process with its libraries loaded, before the case, in 1e6 bytes.
    pub base_mb: Option<f64>,
}

impl Measured {
    /// Memory of the work alone: the peak less what the process held before.
    pub fn net_mb(&self) -> Option<f64> {
        Some(self.peak_mb? - self.base_mb?)
    }
}

/// One side of a row, or why there is nothing to say.
pub type Side = Result<Measured, String>;

/// One case, all sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name of the case.
    pub name: String,
    /// What all sides agreed on: parameter counts, output shapes.
    pub facts: BTreeMap<String, Value>,
    /// Floating point operations of a repetition, where they mean something.
    pub flops: Option<f64>,
    /// Size along which times of the same series grow.
    pub size: Option<usize>,
    /// Rows of the same series differ by size alone.
    pub series: Option<String>,
    /// Our side.
    pub ours: Side,
    /// The peers by name, in the order they were measured.
    pub peers: Vec<(String, Side)>,
}

impl Row {
    /// The peer's median over ours: above 1 we are faster.
    pub fn ratio(&self, peer: &str) -> Option<f64> {
        let ours = self.ours.as_ref().ok()?.time.median;
        let (_, side) = self.peers.iter().find(|(name, _)| name == peer)?;
        Some(side.as_ref().ok()?.time.median / ours)
    }

    /// 1e9 floating point operations a second on our side.
    pub fn gflops(&self) -> Option<f64> {
        Some(self.flops? / self.ours.as_ref().ok()?.time.median / 1e9)
    }

    /// One line for a person who waits.
    pub(crate) fn line(&self, peak: Option<f64>) -> String {
        let mut text = self.name.clone();
        let mut add = |name: &str, side: &Side| {
            let _ = match side {
                Ok(measured) => write!(text, "  {name} {}", clock(measured.time.median)),
                Err(why) => write!(text, "  {name}: {why}"),
            };
        };
        add("ours", &self.ours);
        for (name, side) in &self.peers {
            add(name, side);
        }
        for (name, _) in &self.peers {
            if let Some(ratio) = self.ratio(name) {
                let _ = write!(text, "  x{ratio:.2}");
            }
        }
        if let (Some(gflops), Some(peak)) = (self.gflops(), peak) {
            let _ = write!(text, "  {gflops:.0} GFLOP/s, {:.0} %", 100. * gflops / peak);
        }
        text
    }

    fn failures(&self) -> usize {
        let failed = self.peers.iter().filter(|(_, side)| side.is_err()).count();
        failed + usize::from(self.ours.is_err())
    }
}

/// All rows of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The group.
    pub group: Group,
    /// Threads of every side.
    pub threads: usize,
    /// Programs that took part and their versions.
    pub versions: BTreeMap<String, String>,
    /// The most the machine gives on these threads, GFLOP/s in f32, where it was measured.
    pub peak_gflops: Option<f64>,
    /// Rows in the order they were measured.
    pub rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(group: Group, threads: usize) -> Self {
        Self {
            group,
            threads,
            versions: BTreeMap::new(),
            peak_gflops: None,
            rows: Vec::new(),
        }
    }

    /// The peers of any row, in order of appearance.
    fn peers(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.rows.iter().flat_map(|row| &row.peers) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// Geometric mean of the ratios of each peer.
    pub fn geomean(&self) -> BTreeMap<String, f64> {
        let mean = |peer: &str| {
            let ratios: Vec<f64> = self.rows.iter().filter_map(|row| row.ratio(peer)).collect();
            Some((peer.to_string(), geometric_mean(&ratios)?))
        };
        self.peers().into_iter().filter_map(mean).collect()
    }

    /// The fitted exponent of our time over the size, for every series with at least two sizes.
    pub fn exponents(&self) -> BTreeMap<String, f64> {
        let mut points: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for row in &self.rows {
            if let (Some(series), Some(size), Ok(ours)) = (&row.series, row.size, &row.ours) {
                let point = (size as f64, ours.time.median);
                points.entry(series).or_default().push(point);
            }
        }
        let fit = |(series, points): (&str, Vec<_>)| Some((series.to_string(), exponent(&points)?));
        points.into_iter().filter_map(fit).collect()
    }

    /// How many sides of rows could not be measured.
    pub fn failures(&self) -> usize {
        self.rows.iter().map(Row::failures).sum()
    }

    /// One object: `rows`, `geomean`, and what was measured with. Times in seconds, memory in 1e6
    /// bytes, ratio = peer's median / ours.
    pub fn to_json(&self) -> Value {
        let side = |side: &Side| match side {
            Ok(measured) => json!({
                "median_s": measured.time.median,
                "min_s": measured.time.min,
                "iqr_s": [measured.time.lower, measured.time.upper],
                "repetitions": measured.time.count,
                "peak_mb": measured.peak_mb,
                "base_mb": measured.base_mb,
            }),
            Err(why) => json!({ "error": why }),
        };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let mut ours = side(&row.ours);
                if let Some(gflops) = row.gflops() {
                    ours["gflops"] = gflops.into();
                    if let Some(peak) = self.peak_gflops {
                        ours["peak_share"] = (gflops / peak).into();
                    }
                }
                let peers: serde_json::Map<String, Value> = row
                    .peers
                    .iter()
                    .map(|(name, peer)| {
                        let mut value = side(peer);
                        if let Some(ratio) = row.ratio(name) {
                            value["ratio"] = ratio.into();
                        }
                        (name.clone(), value)
                    })
                    .collect();
                json!({ "name": row.name, "facts": row.facts, "ours": ours, "peers": peers })
            })
            .collect();
        json!({
            "group": self.group.name(),
            "threads": self.threads,
            "versions": self.versions,
            "peak_gflops": self.peak_gflops,
            "rows": rows,
            "geomean": self.geomean(),
            "exponents": self.exponents(),
        })
    }

    /// A table for a person: medians, the quartiles in brackets, memory as peak and, in brackets, less
    /// what the process held before the case.
    pub fn table(&self) -> String {
        let peers = self.peers();
        let memory = self.group.fresh();
        let flops = self.peak_gflops.is_some();
        let mut head = vec![self.group.name().to_string(), "ours".into()];
        if memory {
            head.push("MB".into());
        }
        if flops {
            head.push("GFLOP/s".into());
            head.push("of peak".into());
        }
        for peer in &peers {
            head.push((*peer).to_string());
            if memory {
                head.push("MB".into());
            }
            head.push("ratio".into());
        }
        let mut lines = vec![head];
        for row in &self.rows {
            let mut line = vec![row.name.clone(), time(&row.ours)];
            if memory {
                line.push(megabytes(&row.ours));
            }
            if flops {
                let gflops = row.gflops();
                line.push(gflops.map_or_else(String::new, |g| format!("{g:.1}")));
                let share = gflops.zip(self.peak_gflops).map(|(g, p)| 100. * g / p);
                line.push(share.map_or_else(String::new, |s| format!("{s:.0} %")));
            }
            for peer in &peers {
                let side = row.peers.iter().find(|(name, _)| name == peer);
                line.push(side.map_or_else(String::new, |(_, side)| time(side)));
                if memory {
                    line.push(side.map_or_else(String::new, |(_, side)| megabytes(side)));
                }
                let ratio = row.ratio(peer);
                line.push(ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")));
            }
            lines.push(line);
        }
        let mut text = aligned(&lines);
        for (series, exponent) in self.exponents() {
            let _ = writeln!(text, "{series}: time grows as size^{exponent:.2}");
        }
        for (peer, mean) in self.geomean() {
            let _ = writeln!(text, "geometric mean against {peer}: {mean:.2}");
        }
        if let Some(peak) = self.peak_gflops {
            let _ = writeln!(text, "peak {peak:.0} GFLOP/s");
        }
        let versions: Vec<_> = self
            .versions
            .iter()
            .map(|(name, version)| format!("{name}: {version}"))
            .collect();
        let _ = writeln!(text, "{} threads; {}", self.threads, versions.join("; "));
        for row in &self.rows {
            let ours = std::iter::once(("ours", &row.ours));
            let peers = row.peers.iter().map(|(name, side)| (name.as_str(), side));
            for (name, side) in ours.chain(peers) {
                if let Err(why) = side {
                    let _ = writeln!(text, "{}: {name}: {why}", row.name);
                }
            }
        }
        text
    }
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // The name stands to the left, figures to the right.
            let _ = if column == 0 {
                write!(row, "{cell:<width$}")
            } else {
                write!(row, "  {cell:>width$}")
            };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn time(side: &Side) -> String {
    match side {
        Ok(measured) => {
            let (unit, scale) = unit(measured.time.median);
            format!(
                "{} {unit} [{}, {}]",
                digits(measured.time.median * scale),
                digits(measured.time.lower * scale),
                digits(measured.time.upper * scale)
            )
        }
        Err(_) => "failed".into(),
    }
}

fn megabytes(side: &Side) -> String {
    let Ok(measured) = side else {
        return String::new();
    };
    match (measured.peak_mb, measured.net_mb()) {
        (Some(peak), Some(net)) => format!("{peak:.0} ({net:.0})"),
        (Some(peak), None) => format!("{peak:.0}"),
        (None, _) => String::new(),
    }
}

fn unit(seconds: f64) -> (&'static str, f64) {
    if seconds >= 1. {
        ("s", 1.)
    } else if seconds >= 1e-3 {
        ("ms", 1e3)
    } else {
        ("us", 1e6)
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    if value >= 100. {
        format!("{value:.0}")
    } else if value >= 10. {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn clock(seconds: f64) -> String {
    let (unit, scale) = unit(seconds);
    format!("{} {unit}", digits(seconds * scale))
}

/// Two sides that did not do the same work.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    name: String,
    ours: String,
    theirs: String,
}

impl Difference {
    /// The first of the facts and values both sides state in which they differ.
    pub(crate) fn between(ours: &Prepared, theirs: &Prepared, tolerance: f64) -> Option<Self> {
        let difference = |name: &str, ours: String, theirs: String| Self {
            name: name.to_string(),
            ours,
            theirs,
        };
        for (name, fact) in &ours.facts {
            if let Some(other) = theirs.facts.get(name)
                && other != fact
            {
                return Some(difference(name, fact.to_string(), other.to_string()));
            }
        }
        for (name, value) in &ours.values {
            if let Some(other) = theirs.values.get(name) {
                let scale = value.abs().max(other.abs());
                // Written so that a NaN differs.
                let equal = (value - other).abs() <= tolerance * scale;
                if !equal {
                    return Some(difference(name, value.to_string(), other.to_string()));
                }
            }
        }
        None
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "did other work: {} is {}, ours {}",
            self.name, self.theirs, self.ours
        )
    }
}
