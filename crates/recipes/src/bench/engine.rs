//! Measuring: all sides of a case in turn, A B A B, in processes of their own.
//!
//! A case is prepared on every side, warmed up, then repeated in short blocks that alternate between
//! the sides, so that a disturbance of the machine falls on all of them. Every repetition is timed
//! inside the process that does it. What was seen is kept as median, minimum and quartiles.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cases::{Case, Group};
use super::child::{Fault, Party, Running};
use super::protocol::{Memory, Opened, Peak, Prepared, Request, Timed};
use super::report::{Difference, Measured, Report, Row, Side};
use super::statistics::spread;
use crate::{Error, Result};

/// A block of repetitions lasts about this long, so that a switch between sides costs little.
const BLOCK_S: f64 = 0.05;
/// What takes longer does not notice how it began.
const LONG_S: f64 = 0.25;
/// All sides of a case together take about this long, where `repeats` does not say.
const CASE_S: f64 = 8.;
/// Time for threads of the other side to fall asleep.
const PAUSE: Duration = Duration::from_millis(20);

/// How to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only cases whose name holds this.
    pub filter: Option<String>,
    /// Blocks of repetitions a side; by default as many as fit a few seconds, at least 3, at most 15.
    pub repeats: Option<usize>,
    /// Threads of every side.
    pub threads: usize,
    /// Longest wait for one answer.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: None,
            repeats: None,
            threads: 2,
            patience: Duration::from_secs(900),
        }
    }
}

/// Measures the cases of `group` that the filter lets through: our side and the peers that take part.
/// `say` hears one line a step.
///
/// # Errors
/// When a peer lacks a package or a side cannot be started at all, or no case fits the filter. What
/// goes wrong in one case is noted in its row, and the next case is measured.
pub fn measure(
    group: Group,
    ours: &Party,
    peers: &[Party],
    options: &Options,
    say: &mut dyn FnMut(&str),
) -> Result<Report> {
    let cases = chosen(group.cases(), group, options)?;
    measure_cases(group, &cases, ours, peers, options, say)
}

fn chosen(all: Vec<Case>, group: Group, options: &Options) -> Result<Vec<Case>> {
    let wanted = options.filter.as_deref().unwrap_or_default();
    let cases: Vec<Case> = all
        .into_iter()
        .filter(|case| case.name.contains(wanted))
        .collect();
    if cases.is_empty() {
        return Err(Error::config(format!(
            "bench {group}: no case has {wanted:?} in its name"
        )));
    }
    Ok(cases)
}

pub(crate) fn measure_cases(
    group: Group,
    cases: &[Case],
    ours: &Party,
    peers: &[Party],
    options: &Options,
    say: &mut dyn FnMut(&str),
) -> Result<Report> {
    if options.threads == 0 || options.repeats == Some(0) {
        return Err(Error::config("bench: threads and repeats are at least 1"));
    }
    let parties: Vec<&Party> = std::iter::once(ours)
        .chain(peers.iter().filter(|peer| {
            cases
                .iter()
                .any(|case| case.peers.contains(&peer.name.as_str()))
        }))
        .collect();
    let mut bench = Bench {
        group,
        options,
        running: BTreeMap::new(),
    };
    let mut report = Report::new(group, options.threads);
    // Before anything is measured: is everything there?
    for (place, party) in parties.iter().enumerate() {
        say(&format!("{}: starting", party.name));
        let opened = bench.open(place, party).map_err(|fault| match fault {
            Fault::Missing(packages) => Error::missing(&party.name, &packages),
            other => Error::config(format!("bench {group}: {} {other}", party.name)),
        })?;
        report.versions.insert(party.name.clone(), opened.version);
        if place == 0 && group == Group::Kernels {
            let peak: Peak = bench
                .ask(0, &Request::Peak)
                .map_err(|fault| Error::config(format!("bench {group}: {} {fault}", party.name)))?;
            report.peak_gflops = Some(peak.gflops);
            say(&format!("peak {:.0} GFLOP/s", peak.gflops));
        }
    }
    for (number, case) in cases.iter().enumerate() {
        if group.fresh() {
            bench.running.clear();
        }
        let row = bench.row(case, &parties);
        say(&format!(
            "{}/{} {}",
            number + 1,
            cases.len(),
            row.line(report.peak_gflops)
        ));
        report.rows.push(row);
    }
    Ok(report)
}

struct Bench<'a> {
    group: Group,
    options: &'a Options,
    /// By place in the list of parties.
    running: BTreeMap<usize, Running>,
}

impl Bench<'_> {
    fn open(&mut self, place: usize, party: &Party) -> Result<Opened, Fault> {
        let mut child = Running::start(party, self.options.threads, self.options.patience)?;
        let opened = child.ask(&Request::Open {
            threads: self.options.threads,
            group: self.group.name().to_string(),
        })?;
        self.running.insert(place, child);
        Ok(opened)
    }

    fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        place: usize,
        request: &Request,
    ) -> Result<T, Fault> {
        let Some(child) = self.running.get_mut(&place) else {
            return Err(Fault::Start("it is not running".into()));
        };
        let answer = child.ask(request);
        if !matches!(answer, Ok(_) | Err(Fault::Refused(_))) {
            // It is of no more use; the next case gets a new one.
            self.running.remove(&place);
        }
        answer
    }

    /// All sides of one case.
    fn row(&mut self, case: &Case, parties: &[&Party]) -> Row {
        let mut sides: Vec<(usize, &Party, Runner)> = Vec::new();
        for (place, party) in parties.iter().enumerate() {
            if place > 0 && !case.peers.contains(&party.name.as_str()) {
                continue;
            }
            let runner = match self.prepare(place, party, case) {
                Ok((prepared, seconds)) => Runner {
                    prepared,
                    estimate: seconds,
                    times: Vec::new(),
                    fault: None,
                },
                Err(fault) => Runner::failed(fault),
            };
            sides.push((place, party, runner));
        }
        self.repeat(&mut sides);
        let mut measured: Vec<(String, Side)> = Vec::new();
        let mut reference: Option<Prepared> = None;
        for (place, party, runner) in sides {
            let memory = match (&runner.fault, self.group.fresh()) {
                (None, true) => self.ask::<Memory>(place, &Request::Memory).ok(),
                _ => None,
            };
            // Not dropped where it has ended; then there is nothing to forget.
            let _ = self.ask::<serde_json::Value>(place, &Request::Drop);
            let side = match (runner.fault, spread(&runner.times)) {
                (Some(fault), _) => Err(fault.to_string()),
                (None, None) => Err("gave no times".to_string()),
                (None, Some(time)) => Ok(Measured {
                    time,
                    peak_mb: memory.and_then(|memory| memory.peak_mb),
                    base_mb: runner.prepared.base_mb,
                }),
            };
            let side = match (&reference, side) {
                (Some(ours), Ok(side)) => {
                    match Difference::between(ours, &runner.prepared, case.tolerance) {
                        None => Ok(side),
                        Some(difference) => Err(difference.to_string()),
                    }
                }
                (_, side) => side,
            };
            if place == 0 && side.is_ok() {
                reference = Some(runner.prepared.clone());
            }
            measured.push((party.name.clone(), side));
        }
        let mut measured = measured.into_iter();
        let ours = measured
            .next()
            .map_or_else(|| Err("was not measured".to_string()), |(_, side)| side);
        Row {
            name: case.name.clone(),
            facts: reference.map(|ours| ours.facts).unwrap_or_default(),
            flops: case.work.flops(),
            size: case.work.size(),
            series: case.work.series(),
            ours,
            peers: measured.collect(),
        }
    }

    /// A running child with the case in it, and how long a warm repetition takes.
    fn prepare(
        &mut self,
        place: usize,
        party: &Party,
        case: &Case,
    ) -> Result<(Prepared, f64), Fault> {
        if !self.running.contains_key(&place) {
            self.open(place, party)?;
        }
        let prepared = self.ask(
            place,
            &Request::Prepare {
                work: case.work.clone(),
            },
        )?;
        let mut seconds = self.run(place, 1)?;
        // The first repetition pays for memory and threads. One that takes long hides that.
        if seconds.iter().sum::<f64>() < 2. {
            seconds = self.run(place, 1)?;
            let quick = seconds.iter().sum::<f64>();
            if quick < BLOCK_S / 4. {
                seconds = self.run(place, 5)?;
            }
        }
        let estimate = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        Ok((prepared, estimate))
    }

    fn run(&mut self, place: usize, times: usize) -> Result<Vec<f64>, Fault> {
        let timed: Timed = self.ask(place, &Request::Run { times })?;
        let fits = timed.seconds.len() == times && timed.seconds.iter().all(|s| *s >= 0.);
        if !fits {
            return Err(Fault::Refused(format!(
                "gave {} times for {times} repetitions, or some below 0",
                timed.seconds.len()
            )));
        }
        Ok(timed.seconds)
    }

    /// Blocks of repetitions, side after side, until there are enough. The first repetition of a block is not counted unless
    /// it takes long: it meets cold caches, sleeping cores, and threads of the other side that still spin.
    fn repeat(&mut self, sides: &mut [(usize, &Party, Runner)]) {
        let block = |estimate: f64| {
            let times = (BLOCK_S / estimate.max(1e-7)).floor();
            (times as usize).clamp(1, 200)
        };
        let round: f64 = sides
            .iter()
            .filter(|(_, _, runner)| runner.fault.is_none())
            .map(|(_, _, runner)| runner.estimate * block(runner.estimate) as f64)
            .sum();
        let fitting = (CASE_S / round.max(1e-3)) as usize;
        let blocks = self.options.repeats.unwrap_or(fitting.clamp(3, 15));
        for _ in 0..blocks {
            for (place, _, runner) in sides.iter_mut() {
                if runner.fault.is_some() {
                    continue;
                }
                std::thread::sleep(PAUSE);
                let times = block(runner.estimate);
                let first = usize::from(runner.estimate < LONG_S);
                match self.run(*place, times + first) {
                    Ok(seconds) => runner.times.extend(&seconds[first..]),
                    Err(fault) => runner.fault = Some(fault),
                }
            }
        }
    }
}

/// One side of one case while it is measured.
struct Runner {
    prepared: Prepared,
    estimate: f64,
    times: Vec<f64>,
    fault: Option<Fault>,
}

impl Runner {
    fn failed(fault: Fault) -> Self {
        Self {
            prepared: Prepared::default(),
            estimate: 0.,
            times: Vec::new(),
            fault: Some(fault),
        }
    }
}
