//! The page about a disentangling run: figures, what each part holds in pictures, how the game went.

use std::collections::BTreeMap;
use std::path::Path;

use candle::Device;
use phiz_eval::report::{ExampleImage, Headline, Report, Series};
use serde_json::Value;

use super::judge::{Studio, draws};
use super::material::Judged;
use super::model::Splitter;
use super::pictures::Sitters;
use super::run::DisentangleRun;
use crate::{Error, Result};

pub(crate) fn page(
    run: &DisentangleRun,
    splitter: &Splitter,
    judged: &Judged,
    metrics: &BTreeMap<String, f64>,
    device: &Device,
) -> Result<String> {
    let config = &run.config;
    let mut report = Report::new(format!("{} on {}", config.recipe, config.data.source));
    report.rendered_faces(judged.parts.iter().any(|part| part.dataset.rendered()));
    let removed: Vec<&str> = run.factors.iter().map(|f| f.name.as_str()).collect();
    report
        .fact("Learned", config.data.target.clone())
        .fact("Removed", removed.join(", "))
        .fact(
            "Mode",
            serde_json::to_value(config.game.mode)
                .ok()
                .and_then(|v| v.as_str().map(str::to_string))
                .unwrap_or_default(),
        )
        .fact("Seed", config.seed.to_string());
    let heads: Vec<Headline> = metrics
        .iter()
        .filter(|(name, _)| {
            !["_linear", "_chance", "_leakage"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .map(|(name, &value)| Headline {
            label: name.clone(),
            value,
            interval: None,
        })
        .collect();
    report.headline(
        "Figures",
        "X_from_d is the accuracy of a fresh reader of d about X (X_from_d_r2 the share of a number's variance): the removed factors should \
             stand at chance, at 0, or in a game given the class at what the class alone says.",
        &heads,
    );
    let leaks: Vec<Vec<String>> = metrics
        .iter()
        .filter_map(|(name, &chance)| {
            let name = name.strip_suffix("_chance")?;
            let read = |key: String| {
                let value = metrics.get(&key)?;
                Some(format!("{:.1}", 100. * value))
            };
            Some(vec![
                name.replace('_', " "),
                read(name.to_string())?,
                read(format!("{name}_linear"))?,
                read(format!("{name}_leakage"))?,
                format!("{:.1}", 100. * chance),
            ])
        })
        .collect();
    if !leaks.is_empty() {
        let header = [
            "what",
            "best reader",
            "linear",
            "balanced, above chance",
            "chance",
        ];
        report.table(
            "What the parts still say",
            "Accuracy in per cent of readers trained afresh on codes that the encoders never saw.",
            &header.map(str::to_string),
            &leaks,
        );
    }
    if draws(config.game.mode) {
        pictures(&mut report, run, splitter, judged, device)?;
    }
    training(&mut report, &run.folder)?;
    Ok(report.to_html())
}

fn pictures(
    report: &mut Report,
    run: &DisentangleRun,
    splitter: &Splitter,
    judged: &Judged,
    device: &Device,
) -> Result<()> {
    let studio = Studio {
        run,
        splitter,
        device,
    };
    // Held-out images in states that training knew: the second part of digits, the probes' part of faces.
    let part = match &judged.probes {
        Some((_, probed)) => probed,
        None => match judged.parts.first() {
            Some(part) => part,
            None => return Ok(()),
        },
    };
    let Some(sitters) = Sitters::new(&studio, part)? else {
        return Ok(());
    };
    let mut show = |title: &str, note: &str, png: Vec<u8>| {
        let image = ExampleImage {
            png,
            caption: title.to_string(),
        };
        report.images(title, note, &[image]);
    };
    show(
        "Swapped",
        "Left: images that give d. Top: images that give s and l. Every other picture is decoded from the d of its row and the s and l of its column.",
        sitters.swap_grid(&studio)?,
    );
    show(
        "From one image to another",
        "Row by row: d alone moves, s alone, l alone, all together. The first and last pictures are the images themselves.",
        sitters.interpolation(&studio)?,
    );
    show(
        "Rebuilt",
        "Images (upper row) and what the decoder makes of their parts.",
        sitters.reconstructions(&studio)?,
    );
    Ok(())
}

/// Curves from the run's `metrics.jsonl`: every player by itself.
fn training(report: &mut Report, run: &Path) -> Result<()> {
    let path = run.join("metrics.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(());
    };
    let mut curves: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let entry: Value = serde_json::from_str(line).map_err(|error| {
            Error::run(
                &path,
                format!("line {}: expected a JSON object: {error}", at + 1),
            )
        })?;
        let Some(step) = entry["step"].as_f64() else {
            continue;
        };
        for (name, value) in entry.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64() {
                curves.entry(name.clone()).or_default().push((step, value));
            }
        }
    }
    let chosen = |wanted: &dyn Fn(&str) -> bool| -> Vec<Series> {
        curves
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, points)| Series {
                name: name.clone(),
                points: points.clone(),
            })
            .collect()
    };
    let main = ["classification", "task", "reconstruction"];
    let alarms = |name: &str| name.starts_with("alarm_");
    let fixed = ["step", "epoch", "lr", "images_per_s", "loss"];
    let adversary = |name: &str| {
        (name.contains("_from_") || name.starts_with("mine ")) && !name.ends_with("accuracy")
    };
    report.training(
        "Losses of the main players",
        "step",
        "loss",
        false,
        &chosen(&|name| main.contains(&name)),
    );
    report.training(
        "Losses of the adversaries",
        "step",
        "loss, nats",
        false,
        &chosen(&|name| adversary(name)),
    );
    report.training(
        "Accuracy on training batches",
        "step",
        "accuracy",
        false,
        &chosen(&|name| name.ends_with("accuracy")),
    );
    report.training(
        "Estimated information",
        "step",
        "nats",
        false,
        &chosen(&|name| name.starts_with("I(")),
    );
    report.training(
        "Norm of each player's gradient",
        "step",
        "norm",
        false,
        &chosen(&|name| name.starts_with("grad_norm.") && !fixed.contains(&name)),
    );
    report.training(
        "Alarms: share of turns",
        "step",
        "share",
        false,
        &chosen(&alarms),
    );
    Ok(())
}
