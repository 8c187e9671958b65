//! Making a study: trunk by trunk, judged on the same people; a table and a page with the curves.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use phiz_eval::mean_sd_ci95;
use phiz_eval::report::{Headline, Report, Series};
use phiz_train::Observer;
use serde_json::json;

use super::cells::{Cell, STUDIES, Study};
use super::settings::Settings;
use crate::folder::{create_folder, write};
use crate::pretrain::{self, FACES, PretrainConfig, Probed, Yardstick, pretrained};
use crate::reproduce::{Figures, Progressed, Reproduction, Row, Table, judged, meant};
use crate::{Error, Result, open_device};

/// What frozen trunks are compared by.
pub(super) const METRICS: [&str; 4] = [
    "linear_identity",
    "knn_identity",
    "linear_expression",
    "knn_expression",
];

/// The people that every trunk of a study is judged on: none of them is learned from.
pub(super) fn judged_on(settings: &Settings, size: usize) -> Result<PretrainConfig> {
    let people = settings.people * 5 / 2;
    let source = format!(
        "data.source=synth:identities={people},{FACES},size={},first_identity=1000000",
        size.max(24)
    );
    // Of five people two are judged.
    pretrain::named("swav")?.set_all([source.as_str(), "data.train_fraction=0.6"])
}

pub(super) fn figures(probed: &Probed) -> Figures {
    let named = probed.named().into_iter();
    named
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

/// Makes the study of that name, training what is not there yet.
pub(super) fn study(
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Progressed> {
    let Some(study) = STUDIES.iter().find(|study| study.name == wanted.name) else {
        return Err(Error::config(format!("no study `{}`", wanted.name)));
    };
    if wanted.seeds == 0 {
        return Err(Error::config("0 seeds; expected at least 1"));
    }
    let settings = Settings::read(&wanted.set)?;
    let mut cells = (study.cells)(&settings)?;
    let names: Vec<String> = cells.iter().map(|cell| cell.row.clone()).collect();
    let rows = meant(&names, &wanted.rows)?;
    cells.retain(|cell| rows.contains(&cell.row));
    let Some(first) = cells.first() else {
        return Err(Error::config(format!("`{}` has no rows", study.name)));
    };
    create_folder(&wanted.out)?;
    let device = open_device(&wanted.device)?;
    let on = judged_on(&settings, first.config.views.large_size)?;
    let probes = json!({ "protocol": "frozen-probes", "data": on.data, "size": on.views.large_size, "rendered": true });
    // Opened when something is to be judged.
    let yardstick = OnceCell::new();
    let open = || -> Result<&Yardstick> {
        match yardstick.get() {
            Some(open) => Ok(open),
            None => {
                let open = Yardstick::new(&on, &device)?;
                Ok(yardstick.get_or_init(|| open))
            }
        }
    };
    let names = cells.iter().map(|cell| cell.row.clone());
    let mut table = Table::empty(study.name, study.caption, &METRICS, names);

    // What any trunk has to beat.
    let mut floor = Table::empty(
        "floor",
        "The same probes on what was not trained.",
        &METRICS,
        [],
    );
    for name in ["initialised", "pixels"] {
        let folder = wanted.out.join(name);
        // The trunk as it begins, its statistics settled on some batches.
        let begins = (
            &first.config.model,
            first.config.seed,
            first.config.train.batch,
        );
        let asked =
            json!({ "probes": probes, "begins": begins, "size": first.config.views.large_size });
        let found = judged(&folder, asked, || {
            let yardstick = open()?;
            Ok(figures(&match name {
                "pixels" => yardstick.pixels()?,
                _ => yardstick.initialised(&first.config)?,
            }))
        })?;
        let mut row = Row {
            name: name.to_string(),
            values: BTreeMap::new(),
        };
        row.add(found);
        floor.rows.push(row);
    }

    for seed in 0..wanted.seeds {
        for cell in &cells {
            let mut config = cell.config.clone();
            config.seed = seed;
            let folder = wanted
                .out
                .join(format!("{}-{seed}", cell.row.replace([' ', ','], "-")));
            let label = format!("{} seed {seed}", cell.row);
            let Some(run) = pretrained(&config, &folder, &label, wanted, stop, watch)? else {
                return Ok(Progressed::Interrupted);
            };
            let found = judged(&folder, probes.clone(), || Ok(figures(&open()?.run(&run)?)))?;
            if let Some(row) = table.rows.iter_mut().find(|row| row.name == cell.row) {
                row.add(found);
            }
            let whole = Table {
                parts: vec![table.clone(), floor.clone()],
                ..Table::empty(study.name, "", &METRICS, [])
            };
            whole.write(&wanted.out)?;
            let page = page(study, &settings, &on, &cells, &table, &floor);
            write(&wanted.out.join("report.html"), &page)?;
        }
    }
    Ok(Progressed::Finished(Table {
        parts: vec![table, floor],
        ..Table::empty(study.name, "", &METRICS, [])
    }))
}

/// Mean over the seeds there are.
fn mean(row: &Row, metric: &str) -> Option<f64> {
    Some(mean_sd_ci95(row.values.get(metric)?)?.mean)
}

/// The curves, and the table below them.
fn page(
    study: &Study,
    settings: &Settings,
    on: &PretrainConfig,
    cells: &[Cell],
    table: &Table,
    floor: &Table,
) -> String {
    let mut report = Report::new(study.name);
    report
        .rendered_faces(true)
        .subtitle(study.caption)
        .fact("Steps of every trunk", settings.steps.to_string())
        .fact("Judged on", on.data.source.clone())
        .fact(
            "People judged",
            format!("{}, the others label expressions", settings.people),
        );
    let row = |name: &str| table.rows.iter().find(|row| row.name == name);
    for metric in METRICS {
        let title = metric.replace('_', " ");
        let Some(axis) = study.axis else {
            let items: Vec<Headline> = table
                .rows
                .iter()
                .chain(&floor.rows)
                .filter_map(|row| {
                    let summary = mean_sd_ci95(row.values.get(metric)?)?;
                    Some(Headline {
                        label: row.name.clone(),
                        value: summary.mean,
                        interval: summary.ci95,
                    })
                })
                .collect();
            report.intervals(
                &title,
                "Share of right answers; intervals over seeds.",
                &items,
                None,
            );
            continue;
        };
        let mut curves: Vec<Series> = Vec::new();
        for cell in cells {
            let Some(value) = row(&cell.row).and_then(|row| mean(row, metric)) else {
                continue;
            };
            match curves.iter_mut().find(|curve| curve.name == cell.curve) {
                Some(curve) => curve.points.push((cell.at, value)),
                None => curves.push(Series {
                    name: cell.curve.clone(),
                    points: vec![(cell.at, value)],
                }),
            }
        }
        for curve in &mut curves {
            curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        // Level lines to compare with.
        let ends = cells.iter().map(|cell| cell.at);
        let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| {
            (low.min(at), high.max(at))
        });
        for row in &floor.rows {
            if let Some(value) = mean(row, metric) {
                curves.push(Series {
                    name: row.name.clone(),
                    points: vec![(low, value), (high, value)],
                });
            }
        }
        report.training(&title, axis, "share of right answers", false, &curves);
    }
    let header: Vec<String> = std::iter::once("row")
        .chain(METRICS)
        .map(String::from)
        .collect();
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .chain(&floor.rows)
        .map(|row| {
            let cells = METRICS.iter().map(|metric| {
                let values = row.values.get(*metric).map_or(&[][..], Vec::as_slice);
                match mean_sd_ci95(values) {
                    Some(summary) => match summary.sd {
                        Some(sd) => format!("{:.4} ± {sd:.4}", summary.mean),
                        None => format!("{:.4}", summary.mean),
                    },
                    None => "-".to_string(),
                }
            });
            std::iter::once(row.name.clone()).chain(cells).collect()
        })
        .collect();
    report.table(
        "All figures",
        "Share of right answers about people never learned from: mean and standard deviation over seeds.",
        &header,
        &rows,
    );
    report.to_html()
}
