//! `reproduce release-models`: the two small reference models, with a card each.
//!
//! `OUT/runs/NAME` holds the training, `OUT/NAME` what is given away: the trunk at half precision, its configuration, its
//! figures and its card. A folder of that kind is a run like any other: `embed`, `eval` and `model.init` take it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use candle::DType;
use phiz_train::{Observer, read_tensors, save_tensors};

use super::curves::{METRICS, figures};
use crate::folder::{create_folder, weights_of, write, write_json};
use crate::pretrain::{self, PretrainConfig, PretrainRun, TO_START_FROM, pretrained};
use crate::reproduce::{Figures, Progressed, Reproduction, Table};
use crate::source::open;
use crate::{Error, Result};

/// Most bytes of a reference model.
const LIMIT: u64 = 2_000_000;

/// The models, with the recipe of each and how it learned, for the card.
const MODELS: [(&str, &str, &str); 2] = [
    (
        "swav",
        "swav",
        "without labels, by SwAV (Caron et al., NeurIPS 2020)",
    ),
    (
        "supervised",
        "pretrain-identity",
        "with labels, by telling people apart",
    ),
];

/// Trains, judges and writes both models; `wanted.seeds` does not matter, the seed is 0.
pub(super) fn release(
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Progressed> {
    create_folder(&wanted.out)?;
    let chosen: Vec<_> = MODELS
        .iter()
        .filter(|(name, ..)| wanted.rows.is_empty() || wanted.rows.iter().any(|row| row == name))
        .collect();
    if chosen.is_empty() {
        return Err(Error::config(
            "no model of that name; there are: swav, supervised",
        ));
    }
    let names = chosen.iter().map(|(name, ..)| (*name).to_string());
    let caption = "The reference models: probes of the frozen trunk on people never seen (rendered faces), beside the trunk as \
                   initialised and the pixels.";
    let mut metrics = METRICS.to_vec();
    metrics.extend(["initialised_linear_identity", "pixels_linear_identity"]);
    metrics.extend(["initialised_linear_expression", "pixels_linear_expression"]);
    let mut table = Table::empty("release-models", caption, &metrics, names);
    for (name, recipe, how) in chosen {
        let words = wanted.set.iter().map(String::as_str);
        let config = pretrain::named(recipe)?.set_all(TO_START_FROM.into_iter().chain(words))?;
        if !open(&config.data.source)?.rendered() {
            return Err(Error::config(format!(
                "`{}`: the cards of the reference models say \"rendered faces only\"; expected `synth:...`",
                config.data.source
            )));
        }
        let folder = wanted.out.join("runs").join(name);
        let label = format!("{name} model");
        let Some(run) = pretrained(&config, &folder, &label, wanted, stop, watch)? else {
            return Ok(Progressed::Interrupted);
        };
        let out = wanted.out.join(name);
        let found = write_model(&run, &folder, &out, (name, how), wanted)?;
        if let Some(row) = table.rows.iter_mut().find(|row| row.name == *name) {
            row.add(found);
        }
        table.write(&wanted.out)?;
    }
    Ok(Progressed::Finished(table))
}

/// Writes what is given away, and judges it as it is then: rounded.
fn write_model(
    run: &PretrainRun,
    folder: &Path,
    out: &Path,
    (name, how): (&str, &str),
    wanted: &Reproduction,
) -> Result<Figures> {
    create_folder(out)?;
    let mut tensors = read_tensors(&weights_of(folder))?;
    tensors.retain(|name, _| name.starts_with("backbone."));
    for (name, tensor) in &mut tensors {
        // Counters of steps are whole numbers, and nothing at test time.
        if tensor.dtype().is_float() {
            *tensor = tensor.to_dtype(DType::F16)?;
            let finite = tensor.to_dtype(DType::F32)?.abs()?.flatten_all()?;
            if finite.max(0)?.to_scalar::<f32>()?.is_infinite() {
                return Err(Error::run(
                    folder,
                    format!("{name} has values beyond half precision"),
                ));
            }
        }
    }
    let file = out.join("model.safetensors");
    save_tensors(&file, &tensors)?;
    let bytes = std::fs::metadata(&file)
        .map_err(|error| Error::io(&file, error))?
        .len();
    if bytes >= LIMIT {
        return Err(Error::run(
            &file,
            format!(
                "{bytes} bytes; a reference model has less than {LIMIT}: lower `model.width`, or give it away by other means"
            ),
        ));
    }
    write(&out.join("config.toml"), &run.config.to_toml()?)?;
    let released = PretrainRun::open(out)?;
    let verdict = pretrain::judge(&released, None, &wanted.device)?;
    let metrics: Figures = verdict.metrics().into_iter().collect();
    write_json(&out.join("eval.json"), &verdict.to_json())?;
    let parameters = tensors.values().map(candle::Tensor::elem_count).sum();
    let probed: BTreeMap<&str, Figures> = verdict
        .probed
        .iter()
        .map(|(who, probed)| (*who, figures(probed)))
        .collect();
    let text = card(name, how, &run.config, &probed, bytes, parameters, wanted);
    write(&out.join("README.md"), &text)?;
    Ok(metrics)
}

/// The model card.
fn card(
    name: &str,
    how: &str,
    config: &PretrainConfig,
    probed: &BTreeMap<&str, Figures>,
    bytes: u64,
    parameters: usize,
    wanted: &Reproduction,
) -> String {
    let mut command = format!("cargo xtask reproduce release-models --row {name}");
    for word in &wanted.set {
        let _ = write!(command, " --set '{word}'");
    }
    let mut text = format!(
        "# phiz reference model: {name}\n\nA trunk for faces of {} pixels, trained {how} on **rendered faces only**.\n\n\
         | | |\n|---|---|\n",
        config.views.large_size
    );
    let facts = [
        (
            "network",
            format!("{:?}, width {}", config.model.trunk, config.model.width),
        ),
        (
            "size",
            format!("{parameters} numbers at half precision, {bytes} bytes"),
        ),
        (
            "input",
            format!(
                "RGB, {0} x {0}, scaled as (p / 255 - 0.5) / 0.5",
                config.views.large_size
            ),
        ),
        ("data", format!("`{}`", config.data.source)),
        (
            "learned from",
            format!(
                "the first {:.0} % of the people; the others are judged below",
                100. * config.data.train_fraction
            ),
        ),
        (
            "training",
            format!(
                "{} epochs of batches of {}, seed {}; every value in `config.toml`",
                config.train.epochs, config.train.batch, config.seed
            ),
        ),
        ("command", format!("`{command}`")),
        ("names", "torchvision's, below `backbone.`".to_string()),
        (
            "licence",
            "MIT or Apache-2.0, as the repository".to_string(),
        ),
    ];
    for (key, value) in facts {
        let _ = writeln!(text, "| {key} | {value} |");
    }
    text += "\n## Figures\n\nShare of right answers about people never learned from, **rendered faces**; of the file as it is here. \
             Identity: every second image of a person is labelled. Expression, of seven: labelled images show other people.\n\n";
    let header: Vec<String> = METRICS.iter().map(|m| m.replace('_', " ")).collect();
    let _ = writeln!(text, "| | {} |\n|---|---|---|---|---|", header.join(" | "));
    for (who, words) in [
        ("trunk", "this model"),
        ("initialised", "the same network as initialised"),
        ("pixels", "grey pixels, 24 x 24"),
    ] {
        let Some(found) = probed.get(who) else {
            continue;
        };
        let cells: Vec<String> = METRICS
            .iter()
            .map(|metric| {
                found
                    .get(*metric)
                    .map_or("-".to_string(), |value| format!("{value:.3}"))
            })
            .collect();
        let _ = writeln!(text, "| {words} | {} |", cells.join(" | "));
    }
    text += "\n## Limits\n\nIt has seen no photograph. Rendered people differ in few ways that the renderer knows, and nothing is known \
             of how the model treats groups of real people: take it to start a training from, to try commands with and to compare \
             methods, not to recognise anybody.\n\n## Use\n\n```sh\n";
    let here = wanted.out.join(name).display().to_string();
    let _ = writeln!(
        text,
        "cargo xtask eval {here} --out runs/eval-{name}\ncargo xtask embed {here} --data orl --out orl.safetensors\ncargo xtask train affect --set \
         model.init={here}\n```"
    );
    text
}
