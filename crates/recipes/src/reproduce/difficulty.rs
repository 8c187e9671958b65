//! `synth-difficulty`: how hard rendered faces are at the renderer's usual settings.
//!
//! A linear probe on pixels, a small network, and the same network with twice the data are asked for the expression of
//! people never seen, and for the identity of known people in pictures never seen. Pose, light, expression,
//! background and camera vary as they do by default. All rows are judged on the same images.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use candle::Device;
use phiz_data::{Dataset, Transform, load_images};
use phiz_eval::{ProbeConfig, Protocol, Rows, linear_probe};
use phiz_train::Observer;
use serde_json::json;

use super::{Figures, Progressed, Reproduction, Table, chosen, finished, judged};
use crate::config::Config;
use crate::folder::create_folder;
use crate::judge::judge;
use crate::named;
use crate::source::{class_targets, open};
use crate::{Error, Result};

/// Name of the table.
pub(super) const NAME: &str = "synth-difficulty";

const CAPTION: &str = "How hard rendered faces are at the renderer's usual settings: right answers of a linear probe on pixels \
     (grey, 32 x 32), of a small network, and of the same network with twice the data and as many epochs. `expression` of 40 people never seen, \
     seven classes, learned from 60 people (twice: 120) with 28 images each; `identity` of 60 people in 28 other images \
     of each, learned from 28 images each (twice: 56).";

/// How an answer is found.
#[derive(Clone, Copy)]
enum Way {
    Pixels,
    Network,
    NetworkTwice,
}

const ROWS: &[(&str, Way)] = &[
    ("pixels", Way::Pixels),
    ("network", Way::Network),
    ("network-twice", Way::NetworkTwice),
];

/// A question: the label, what is learned from, what from twice as much, and what is judged.
struct Question {
    target: &'static str,
    once: &'static str,
    twice: &'static str,
    judged: &'static str,
}

const QUESTIONS: [Question; 2] = [
    Question {
        target: "expression",
        once: "synth",
        twice: "synth:identities=120",
        judged: "synth:identities=40,first_identity=100000",
    },
    Question {
        target: "identity",
        once: "synth",
        twice: "synth:per_expression=8",
        judged: "synth:first_take=1000",
    },
];

/// What makes the network small: half the channels, twelve epochs.
const SMALL: &[&str] = &["data.split=none", "model.width=0.5", "train.epochs=12"];

/// Side of the pictures that the linear probe sees.
const PIXELS: usize = 32;

/// Makes the table.
pub(super) fn difficulty(
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Progressed> {
    let chosen = chosen(ROWS, wanted)?;
    create_folder(&wanted.out)?;
    let names = chosen.iter().map(|(name, _)| (*name).to_string());
    let metrics = QUESTIONS.map(|question| question.target);
    let mut table = Table::empty(NAME, CAPTION, &metrics, names);
    for seed in 0..wanted.seeds {
        for (row, (name, way)) in table.rows.iter_mut().zip(&chosen) {
            // Nothing of the probe on pixels is drawn.
            if matches!(way, Way::Pixels) && seed > 0 {
                continue;
            }
            for question in &QUESTIONS {
                let label = format!("{name} {} seed {seed}", question.target);
                let folder = wanted.out.join(label.replace(' ', "-"));
                let accuracy = match way {
                    Way::Pixels => Some(pixels(question)?),
                    Way::Network | Way::NetworkTwice => {
                        let source = match way {
                            Way::NetworkTwice => question.twice,
                            _ => question.once,
                        };
                        let config = config(wanted, question, source, seed)?;
                        network(&config, question, &folder, &label, wanted, stop, watch)?
                    }
                };
                let Some(accuracy) = accuracy else {
                    return Ok(Progressed::Interrupted);
                };
                row.add(Figures::from([(question.target.to_string(), accuracy)]));
            }
        }
        table.write(&wanted.out)?;
    }
    Ok(Progressed::Finished(table))
}

fn config(wanted: &Reproduction, question: &Question, source: &str, seed: u64) -> Result<Config> {
    let mut config = named("softmax")?;
    config.seed = seed;
    let own = [
        format!("data.source={source}"),
        format!("data.target={}", question.target),
    ];
    let words = SMALL.iter().copied().chain(own.iter().map(String::as_str));
    config.set_all(words.chain(wanted.set.iter().map(String::as_str)))
}

/// Share of right answers of a trained network; `None` when interrupted.
fn network(
    config: &Config,
    question: &Question,
    folder: &Path,
    label: &str,
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Option<f64>> {
    let Some(run) = finished(config, folder, label, wanted, stop, watch)? else {
        return Ok(None);
    };
    let found = judged(folder, json!({ "data": question.judged }), || {
        let protocols = [Protocol::Classification];
        let verdict = judge(&run, Some(question.judged), &protocols, &wanted.device)?;
        verdict.write(folder)?;
        Ok(verdict.metrics)
    })?;
    match found.get("accuracy") {
        Some(&accuracy) => Ok(Some(accuracy)),
        None => Err(Error::run(
            folder,
            "its judged.json has no `accuracy`; expected a judged classifier",
        )),
    }
}

/// Share of right answers of a linear probe on pixels. Expression is probed across people, so no person may stand on both
/// sides of the choice of penalty; identity cannot be.
fn pixels(question: &Question) -> Result<f64> {
    let (known, asked) = (open(question.once)?, open(question.judged)?);
    let classes = known.labels().names(question.target)?;
    let labels = |dataset: &dyn Dataset| -> Result<Vec<u32>> {
        let found = class_targets(dataset, question.target, classes)?;
        found.into_iter().collect::<Option<_>>().ok_or_else(|| {
            Error::config(format!("{}: other classes than learned", question.judged))
        })
    };
    let groups = match question.target {
        "identity" => None,
        _ => Some(known.labels().codes("identity")?),
    };
    let settings = ProbeConfig {
        penalties: vec![1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
        ..ProbeConfig::default()
    };
    let probe = linear_probe(
        &rows(known.as_ref())?,
        &labels(known.as_ref())?,
        groups,
        &settings,
    )?;
    let answers = probe.predict(&rows(asked.as_ref())?)?;
    let truth = labels(asked.as_ref())?;
    let right = answers.iter().zip(&truth).filter(|(a, b)| a == b).count();
    Ok(right as f64 / truth.len() as f64)
}

/// Grey pixels, small.
fn rows(dataset: &dyn Dataset) -> Result<Rows> {
    let transform = Transform::new(PIXELS, PIXELS, 1);
    let all: Vec<usize> = (0..dataset.len()).collect();
    let images = load_images(dataset, &all, &transform, &Device::Cpu)?;
    Ok(Rows::from_f32(
        &images.flatten_all()?.to_vec1::<f32>()?,
        PIXELS * PIXELS,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_judged_was_not_learned_from() {
        for question in &QUESTIONS {
            let set = |text: &str| match text.parse() {
                Ok(phiz_data::Spec::Synth(config)) => config,
                other => panic!("{text}: {other:?}"),
            };
            let (once, twice) = (set(question.once), set(question.twice));
            let judged = set(question.judged);
            assert_eq!(2 * once.len(), twice.len());
            let people = |c: &phiz_synth::SynthConfig| {
                c.first_identity..c.first_identity + c.identities as u32
            };
            let takes =
                |c: &phiz_synth::SynthConfig| c.first_take..c.first_take + c.per_expression as u32;
            let apart = |a: std::ops::Range<u32>, b: std::ops::Range<u32>| {
                a.end <= b.start || b.end <= a.start
            };
            assert!(apart(people(&twice), people(&judged)) || apart(takes(&twice), takes(&judged)));
        }
    }

    #[test]
    fn an_unknown_row_is_refused() {
        let wanted = Reproduction {
            name: NAME.into(),
            seeds: 1,
            set: Vec::new(),
            rows: vec!["pixel".into()],
            trunks: Vec::new(),
            out: std::env::temp_dir(),
            device: "cpu".into(),
        };
        let error = difficulty(&wanted, &AtomicBool::new(false), &mut |_| {
            unreachable!("nothing is trained")
        });
        let line = error.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(line.contains("pixels, network, network-twice"), "{line}");
    }
}
