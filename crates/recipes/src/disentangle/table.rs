//! Making tables of disentangling runs: what is not there yet is trained and judged, the rest is read.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use phiz_data::to_chw_f32;
use phiz_eval::Embeddings;
use phiz_eval::mean_sd_ci95;
use phiz_eval::report::{Report, Series};
use phiz_train::Observer;
use serde_json::json;

use super::config::DisentangleConfig;
use super::judge::{figures, judge, verified};
use super::material::{Judged, Material};
use super::plans::{GROUPS, Group, Make, PLANS, Plan};
use super::run::{DisentangleRun, resume, train};
use crate::baselines::centred_pixels;
use crate::folder::{create_folder, write};
use crate::reproduce::{
    Figures, Progressed, Reproduction, Row, Start, Table, chosen, judged, settled,
};
use crate::{Error, Result};

/// Makes a table, training what is not there yet.
pub(crate) fn reproduce(
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Progressed> {
    if let Some(group) = GROUPS.iter().find(|group| group.name == wanted.name) {
        return together(group, wanted, stop, watch);
    }
    let Some(plan) = PLANS.iter().find(|plan| plan.name == wanted.name) else {
        return Err(Error::config(format!("unknown table `{}`", wanted.name)));
    };
    let chosen = chosen(plan.rows, wanted)?;
    create_folder(&wanted.out)?;
    let names = chosen.iter().map(|(name, _)| (*name).to_string());
    let mut table = Table::empty(plan.name, plan.caption, plan.metrics, names);
    for seed in 0..wanted.seeds {
        for (at, (name, make)) in chosen.iter().enumerate() {
            let folder = wanted.out.join(format!("{name}-{seed}"));
            let label = format!("{name} seed {seed}");
            let found = match make {
                Make::Run(words) => {
                    let config = configured(plan, words, seed, wanted)?;
                    match trained(&config, &folder, &label, wanted, stop, watch)? {
                        Some(found) => found,
                        None => return Ok(Progressed::Interrupted),
                    }
                }
                // Nothing in it is random.
                Make::Pixels(_) if seed > 0 => continue,
                Make::Pixels(words) => pixels(&configured(plan, words, seed, wanted)?)?,
            };
            if let Some(row) = table.rows.get_mut(at) {
                row.add(found);
            }
            table.write(&wanted.out)?;
        }
    }
    if let Some((y, x)) = plan.curve {
        write(&wanted.out.join("report.html"), &curve(&table, x, y))?;
    }
    Ok(Progressed::Finished(table))
}

/// Makes one table after the other; a row is called by its table as well.
fn together(
    group: &Group,
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Progressed> {
    create_folder(&wanted.out)?;
    let mut whole = Table::empty(group.name, group.caption, &[], []);
    for name in group.members {
        let member = Reproduction {
            name: (*name).to_string(),
            out: wanted.out.join(name),
            ..wanted.clone()
        };
        let Progressed::Finished(mut part) = reproduce(&member, stop, watch)? else {
            return Ok(Progressed::Interrupted);
        };
        for row in &mut part.rows {
            row.name = format!("{name} {}", row.name);
        }
        whole.parts.push(part);
        whole.write(&wanted.out)?;
    }
    Ok(Progressed::Finished(whole))
}

fn configured(
    plan: &Plan,
    words: &[&str],
    seed: u64,
    wanted: &Reproduction,
) -> Result<DisentangleConfig> {
    let mut config = DisentangleConfig::named(plan.recipe)?;
    config.seed = seed;
    let own = plan.common.iter().chain(words).copied();
    config.set_all(own.chain(wanted.set.iter().map(String::as_str)))
}

/// Figures of the run in `folder`, trained, resumed or found complete; `None` when interrupted.
fn trained(
    config: &DisentangleConfig,
    folder: &Path,
    label: &str,
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Option<Figures>> {
    let same = |known: &Path| {
        let before = DisentangleConfig::from_file(known, config)?;
        Ok(before.fingerprint() == config.fingerprint())
    };
    let run = settled(folder, same, DisentangleRun::open, |start| {
        let mut observer = watch(label);
        match start {
            Start::Begin => train(config, folder, &wanted.device, stop, observer.as_mut()),
            Start::GoOn => resume(folder, &wanted.device, stop, observer.as_mut()),
        }
    })?;
    let Some(mut run) = run else { return Ok(None) };
    if run.config.eval != config.eval {
        // A kept run that was made to be judged otherwise; `eval` is to ask of it what the table asks.
        run.config.eval = config.eval.clone();
        write(&folder.join("config.toml"), &run.config.to_toml()?)?;
    }
    let asked = json!({ "eval": config.eval });
    let found = judged(folder, asked, || {
        let verdict = judge(&run, &wanted.device)?;
        verdict.write(folder)?;
        Ok(verdict.metrics)
    })?;
    Ok(Some(found))
}

/// Verification by the pixels of the test images, each image's own mean removed.
fn pixels(config: &DisentangleConfig) -> Result<Figures> {
    let material = Material::open(config)?;
    let judged = Judged::open(config, &material.classes)?;
    let mut found = Figures::new();
    for part in &judged.parts {
        let rows = part
            .indices
            .iter()
            .map(|&i| {
                let image = part.dataset.image(i)?;
                let transform = phiz_data::Transform::new(image.height, image.width, 1);
                Ok(to_chw_f32(
                    &image,
                    &transform,
                    None::<&mut rand_chacha::ChaCha8Rng>,
                )?)
            })
            .collect::<Result<Vec<Vec<f32>>>>()?;
        let rows = centred_pixels(&rows);
        let dim = rows.first().map_or(0, Vec::len);
        let codes = part.dataset.labels().codes(&config.data.target)?;
        let labels = part.indices.iter().map(|&i| codes[i]).collect();
        let embeddings = Embeddings::new(rows.into_iter().flatten().collect(), dim)?
            .with_labels("labels", labels)?;
        for (name, verification) in verified(&embeddings, part, &material.factors)? {
            for (metric, value) in figures(&verification) {
                let of = match part.name.as_str() {
                    "test" => String::new(),
                    name => format!(" {name}"),
                };
                found.insert(format!("{metric}{name}{of}"), value);
            }
        }
    }
    Ok(found)
}

/// The page of a table whose rows are points of a curve.
fn curve(table: &Table, x: &str, y: &str) -> String {
    let mean = |row: &Row, metric: &str| -> Option<f64> {
        row.values
            .get(metric)
            .and_then(|values| mean_sd_ci95(values))
            .map(|summary| summary.mean)
    };
    let mut points: Vec<(f64, f64)> = table
        .rows
        .iter()
        .filter_map(|row| Some((mean(row, x)?, mean(row, y)?)))
        .collect();
    points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut report = Report::new(table.name.clone());
    report.subtitle(table.caption.clone());
    report.training(
        &format!("{y} over {x}"),
        x,
        y,
        false,
        &[Series {
            name: y.to_string(),
            points,
        }],
    );
    let header: Vec<String> = ["row", x, y].map(str::to_string).to_vec();
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| {
            let cell = |metric| mean(row, metric).map_or("-".to_string(), |v| format!("{v:.4}"));
            vec![row.name.clone(), cell(x), cell(y)]
        })
        .collect();
    report.table("Points of the curve", "Means over seeds.", &header, &rows);
    report.to_html()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_every_table_is_a_valid_configuration() {
        let wanted = Reproduction {
            name: String::new(),
            seeds: 1,
            set: Vec::new(),
            rows: Vec::new(),
            trunks: Vec::new(),
            out: "out".into(),
            device: "cpu".to_string(),
        };
        for name in GROUPS.iter().flat_map(|group| group.members) {
            assert!(PLANS.iter().any(|plan| plan.name == *name), "{name}");
        }
        for plan in PLANS {
            for (name, make) in plan.rows {
                let (Make::Run(words) | Make::Pixels(words)) = make;
                let config = configured(plan, words, 0, &wanted)
                    .unwrap_or_else(|error| panic!("{} {name}: {error}", plan.name));
                config.validate().unwrap();
                assert!(config.to_toml().unwrap().contains("[game]"));
            }
        }
    }
}
