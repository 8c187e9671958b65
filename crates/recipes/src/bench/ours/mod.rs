//! Our side of every case, behind the same protocol as the peers.

mod digits;
mod judging;
mod kernels;
mod losses;
mod memory;
mod networks;
mod peak;
mod pretrain;
mod tasks;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Duration;

use candle::{Device, Shape, Tensor};
use serde::Serialize;
use serde_json::Value;

use super::cases::Work;
use super::noise;
use super::protocol::{Memory, Opened, Prepared, Reply, Request, Timed};
use crate::{Error, Result};

/// Work made ready.
struct Ready {
    facts: BTreeMap<String, Value>,
    values: BTreeMap<String, f64>,
    /// One repetition; gives its time, without what it has to set up and to free.
    run: Box<dyn FnMut() -> Result<Duration>>,
}

impl Ready {
    fn new(run: impl FnMut() -> Result<Duration> + 'static) -> Self {
        Self {
            facts: BTreeMap::new(),
            values: BTreeMap::new(),
            run: Box::new(run),
        }
    }

    fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_string(), value.into());
        self
    }

    fn value(mut self, name: &str, value: f64) -> Self {
        self.values.insert(name.to_string(), value);
        self
    }
}

/// Answers requests from `input` on `output` until `input` ends: our side of a bench, to be run in a
/// process of its own with the threads asked for in `RAYON_NUM_THREADS`.
///
/// # Errors
/// When a line cannot be read or written. A request that cannot be done is answered so.
pub fn serve(input: impl BufRead, mut output: impl Write) -> Result<()> {
    let pipe = |error| Error::from(crate::ErrorKind::Io(error));
    let mut ready: Option<Ready> = None;
    for line in input.lines() {
        let line = line.map_err(pipe)?;
        let reply = match answer(&line, &mut ready) {
            Ok(value) => Reply {
                ok: Some(value),
                ..Reply::default()
            },
            Err(error) => Reply {
                error: Some(error.to_string()),
                ..Reply::default()
            },
        };
        let text = serde_json::to_string(&reply)
            .map_err(|error| Error::config(format!("bench: {error}")))?;
        writeln!(output, "{text}").map_err(pipe)?;
        output.flush().map_err(pipe)?;
    }
    Ok(())
}

fn answer(line: &str, ready: &mut Option<Ready>) -> Result<Value> {
    let request: Request = serde_json::from_str(line)
        .map_err(|error| Error::config(format!("not a request: {error}")))?;
    match request {
        Request::Open { .. } => value(Opened {
            version: format!("phiz {}", env!("CARGO_PKG_VERSION")),
        }),
        Request::Peak => value(peak::measure()),
        Request::Prepare { work } => {
            // What is there is freed first, so that it does not count.
            *ready = None;
            let base_mb = memory::resident_mb();
            let made = prepare(&work)?;
            let prepared = Prepared {
                base_mb,
                facts: made.facts.clone(),
                values: made.values.clone(),
            };
            *ready = Some(made);
            value(prepared)
        }
        Request::Run { times } => {
            let Some(ready) = ready else {
                return Err(Error::config("nothing is prepared"));
            };
            let seconds = (0..times)
                .map(|_| Ok((ready.run)()?.as_secs_f64()))
                .collect::<Result<_>>()?;
            value(Timed { seconds })
        }
        Request::Memory => value(Memory {
            peak_mb: memory::peak_mb(),
        }),
        Request::Drop => {
            *ready = None;
            value(BTreeMap::<String, f64>::new())
        }
    }
}

fn value(answer: impl Serialize) -> Result<Value> {
    serde_json::to_value(answer).map_err(|error| Error::config(format!("bench: {error}")))
}

fn prepare(work: &Work) -> Result<Ready> {
    match work {
        Work::Train { network, batch } => networks::train(*network, *batch),
        Work::Swav { batch } => pretrain::swav(*batch),
        Work::Task { task, batch } => tasks::step(*task, *batch),
        Work::Infer { network, batch } => networks::infer(*network, *batch),
        Work::Convolution { convolution, pass } => kernels::convolution(convolution, *pass),
        Work::Layer { layer, shape, pass } => kernels::layer(*layer, shape, *pass),
        Work::Loss { loss, sizes } => losses::loss(*loss, *sizes),
        Work::Roc { pairs } => judging::roc(*pairs),
        Work::Retrieval {
            rows,
            dim,
            per_class,
        } => judging::retrieval(*rows, *dim, *per_class),
        Work::Neighbours {
            queries,
            gallery,
            dim,
            k,
        } => judging::neighbours(*queries, *gallery, *dim, *k),
    }
}

/// A tensor of nearly normal numbers that the peers make alike.
fn normal(stream: u64, shape: impl Into<Shape>) -> candle::Result<Tensor> {
    let shape = shape.into();
    Tensor::from_vec(
        noise::normal(stream, shape.elem_count()),
        shape,
        &Device::Cpu,
    )
}

/// `rows` embeddings row by row, `per_class` for each class around a centre of its own, and their classes. The peers make
/// them alike.
fn clusters(rows: usize, dim: usize, per_class: usize) -> (Vec<f32>, Vec<u32>) {
    let (dim, per_class) = (dim.max(1), per_class.max(1));
    let centres = noise::normal(2, rows.div_ceil(per_class) * dim);
    let mut values = noise::normal(1, rows * dim);
    for (row, value) in values.chunks_mut(dim).enumerate() {
        let centre = centres.iter().skip(row / per_class * dim);
        for (x, c) in value.iter_mut().zip(centre) {
            *x += 0.5 * c;
        }
    }
    let labels = (0..rows).map(|row| (row / per_class) as u32).collect();
    (values, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(requests: &[&str]) -> Vec<Reply> {
        let mut output = Vec::new();
        serve(requests.join("\n").as_bytes(), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_conversation() {
        let replies = talk(&[
            r#"{"do": "open", "threads": 2, "group": "kernels"}"#,
            r#"{"do": "run", "times": 1}"#,
            r#"{"do": "prepare", "work": {"kind": "layer", "layer": "max_pool2", "shape": [2, 3, 8, 8], "pass": "backward"}}"#,
            r#"{"do": "run", "times": 3}"#,
            r#"{"do": "memory"}"#,
            r#"{"do": "drop"}"#,
            r#"{"do": "run", "times": 1}"#,
            "no JSON",
        ]);
        let errors: Vec<bool> = replies.iter().map(|reply| reply.error.is_some()).collect();
        assert_eq!(
            errors,
            [false, true, false, false, false, false, true, true]
        );
        let prepared: Prepared = serde_json::from_value(replies[2].ok.clone().unwrap()).unwrap();
        assert_eq!(prepared.facts["output"], serde_json::json!([2, 3, 4, 4]));
        let timed: Timed = serde_json::from_value(replies[3].ok.clone().unwrap()).unwrap();
        assert_eq!(timed.seconds.len(), 3);
        assert!(timed.seconds.iter().all(|seconds| *seconds > 0.));
    }

    #[test]
    fn bad_sizes_are_answers_not_panics() {
        let convolution = r#"{"batch": 1, "channels": 3, "image": 2, "outputs": 4, "kernel": 5, "stride": 1, "padding": 0, "groups": 1, "transposed": false}"#;
        let request = format!(
            r#"{{"do": "prepare", "work": {{"kind": "convolution", "convolution": {convolution}, "pass": "forward"}}}}"#
        );
        let replies = talk(&[
            &request,
            r#"{"do": "prepare", "work": {"kind": "layer", "layer": "relu", "shape": [0], "pass": "weight"}}"#,
        ]);
        assert!(replies.iter().all(|reply| reply.error.is_some()));
    }
}
