//! `reproduce few-shot`: five tasks, from trunks that began differently, on 100, 10, 2 and 1 % of the images.
//!
//! Rows are called `TASK SHARE TRUNK`. `random` starts from nothing; `supervised` from a network that learned to tell
//! people apart, `swav` from one that learned without labels, both on other people than any task sees and trained here
//! once, unless the caller names a run or file for them; the caller may name further trunks. Seed k draws its own
//! subset and its own head, the same for every trunk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use phiz_train::Observer;
use serde_json::json;

use super::config::{TASK_RECIPES, TaskConfig, task_recipe};
use super::judge::{first_metric, judge_on_shelf};
use super::run::{TaskRun, resume_on_shelf, train_on_shelf};
use super::source::Shelf;
use crate::folder::create_folder;
use crate::pretrain::{self, TO_START_FROM, pretrained};
use crate::reproduce::{
    self, Figures, Progressed, Reproduction, Start, Table, judged, meant, settled,
};
use crate::{Error, Result};

/// A table of this kind.
pub(crate) struct FewShot {
    pub name: &'static str,
    caption: &'static str,
    shares: &'static [f64],
    /// Words for every task.
    words: &'static [&'static str],
    /// Words for every trunk that is made here.
    before: &'static [&'static str],
    /// Words for SwAV's trunk.
    swav: &'static [&'static str],
}

/// Trunks that are made here unless the caller names them, with the recipe of each.
const MADE: [(&str, &str); 2] = [("supervised", "pretrain-identity"), ("swav", "swav")];

/// The tables there are.
pub(crate) const FEW_SHOT: &[FewShot] = &[
    FewShot {
        name: "few-shot",
        caption: "Five tasks on shares of the training images, fine-tuned from different trunks; judged on people never trained \
                  on, after the last step (rendered faces).",
        shares: &[1., 0.1, 0.02, 0.01],
        // On plain ground, tasks and trunks alike: see the recipe of SwAV.
        words: &["data.source=synth:identities=90,per_expression=3,background=0"],
        before: &TO_START_FROM,
        swav: &[],
    },
    FewShot {
        name: "few-shot-small",
        caption: "Five tasks on shares of the training images, heads alone on frozen trunks: a walk through every part, its figures \
                  mean nothing (rendered faces).",
        shares: &[1., 0.1],
        words: &[
            "data.source=synth:identities=6,per_expression=1,size=40",
            "image.size=40",
            "model.width=0.05",
            "model.mode=frozen",
            "task.components=4",
            "task.stages=1",
            "task.channels=8",
            "task.embedding=16",
            "task.min_steps=8",
            "task.checks=2",
            "train.epochs=2",
        ],
        before: &[
            "data.source=synth:identities=6,per_expression=1,size=40,first_identity=5000",
            "views.large_size=40",
            "model.width=0.05",
            "method.hidden=16",
            "method.dim=8",
            "train.batch=8",
            "train.epochs=1",
            "train.warmup_epochs=0",
            "probe.every=0",
        ],
        swav: &[
            "views.small_size=24",
            "views.small=1",
            "method.prototypes=8",
            "method.queue=0",
            "method.freeze_steps=1",
        ],
    },
];

type Watch<'a> = &'a mut dyn FnMut(&str) -> Box<dyn Observer>;

/// Makes the table, training what is not there yet.
pub(crate) fn few_shot(
    plan: &FewShot,
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: Watch<'_>,
) -> Result<Progressed> {
    if wanted.seeds == 0 {
        return Err(Error::config("0 seeds; expected at least 1"));
    }
    let mut trunks: Vec<(String, String)> = vec![("random".into(), String::new())];
    let given = reproduce::trunks(&wanted.trunks)?.into_iter();
    trunks.extend(given.map(|(name, path)| (name, path.display().to_string())));
    create_folder(&wanted.out)?;
    let known = trunks.iter().map(|(name, _)| name.as_str());
    let named: BTreeSet<&str> = known.chain(MADE.map(|(name, _)| name)).collect();
    let names: Vec<String> = TASK_RECIPES
        .iter()
        .flat_map(|(task, _)| plan.shares.iter().map(move |share| (*task, *share)))
        .flat_map(|(task, share)| named.iter().map(move |name| row_name(task, share, name)))
        .collect();
    let rows = meant(&names, &wanted.rows)?;
    let asked = |row: &str| rows.contains(row);
    let mut made = Vec::new();
    for (name, recipe) in MADE {
        let named = trunks.iter().any(|(known, _)| known == name);
        let row = |task: &str, share| row_name(task, share, name);
        let mut rows = TASK_RECIPES
            .iter()
            .flat_map(|(t, _)| plan.shares.iter().map(|s| row(t, *s)));
        if named || !rows.any(|row| asked(&row)) {
            continue;
        }
        let folder = wanted.out.join(format!("trunk-{name}"));
        let more = if name == "swav" { plan.swav } else { &[] };
        let words = plan.before.iter().chain(more).copied();
        let config = pretrain::named(recipe)?.set_all(words)?;
        let label = format!("{name} trunk");
        if pretrained(&config, &folder, &label, wanted, stop, watch)?.is_none() {
            return Ok(Progressed::Interrupted);
        }
        made.push((name.to_string(), folder.display().to_string()));
    }
    trunks.splice(1..1, made);
    let mut shelf = Shelf::default();
    let mut parts: Vec<Table> = Vec::new();
    for (task, _) in TASK_RECIPES {
        for &share in plan.shares {
            let rows = trunks
                .iter()
                .map(|(trunk, _)| row_name(task, share, trunk))
                .filter(|name| asked(name));
            let part = Table::empty(
                &format!("{task} {}", percent(share)),
                &format!("{task}, {} of the training images", percent(share)),
                &metrics_of(task)?,
                rows,
            );
            if !part.rows.is_empty() {
                parts.push(part);
            }
        }
    }
    let mut table = Table {
        parts,
        ..Table::empty(plan.name, plan.caption, &[], [])
    };
    for seed in 0..wanted.seeds {
        let mut part = 0;
        for (task, _) in TASK_RECIPES {
            for &share in plan.shares {
                let mut touched = false;
                for (trunk, init) in &trunks {
                    let name = row_name(task, share, trunk);
                    if !asked(&name) {
                        continue;
                    }
                    touched = true;
                    let config = task_config(plan, wanted, task, share, seed, init)?;
                    let folder = wanted
                        .out
                        .join(format!("{}-{seed}", name.replace(' ', "-")));
                    let label = format!("{name} seed {seed}");
                    let Some(found) =
                        figures(&config, &folder, &label, wanted, stop, watch, &mut shelf)?
                    else {
                        return Ok(Progressed::Interrupted);
                    };
                    let rows = table.parts.get_mut(part).map(|part| &mut part.rows);
                    if let Some(row) = rows.into_iter().flatten().find(|row| row.name == name) {
                        row.add(found);
                    }
                }
                part += usize::from(touched);
            }
        }
        table.write(&wanted.out)?;
    }
    Ok(Progressed::Finished(table))
}

fn percent(share: f64) -> String {
    format!("{}%", share * 100.)
}

fn row_name(task: &str, share: f64, trunk: &str) -> String {
    format!("{task} {} {trunk}", percent(share))
}

/// The metrics of a task's table, the one that rows are compared by first.
fn metrics_of(task: &str) -> Result<Vec<&'static str>> {
    let (first, _) = first_metric(&task_recipe(task)?);
    let more: &[&str] = match task {
        "landmarks" => &["failure_rate", "auc"],
        "affect" => &["rmse", "accuracy"],
        "action-units" => &["mse", "mae"],
        "face3d" => &["reconstruction"],
        _ => &["eer"],
    };
    Ok([&[first], more].concat())
}

fn task_config(
    plan: &FewShot,
    wanted: &Reproduction,
    task: &str,
    share: f64,
    seed: u64,
    init: &str,
) -> Result<TaskConfig> {
    let mut config = task_recipe(task)?;
    config.seed = seed;
    config.data.subset_seed = seed;
    config.data.fraction = share;
    config.model.init = init.to_string();
    let words = plan.words.iter().copied();
    let mut config = config.set_all(words.chain(wanted.set.iter().map(String::as_str)))?;
    // A basis cannot have more directions than there are shapes: few images have few.
    config.task.components = config.task.components.min(fewest(&config)?);
    Ok(config)
}

/// One less than the images that are sure to be in the share.
fn fewest(config: &TaskConfig) -> Result<usize> {
    let spec = config.data.source.parse::<phiz_data::Spec>()?;
    let phiz_data::Spec::Synth(synth) = spec else {
        return Ok(config.task.components);
    };
    let people = (synth.identities as f64 * config.data.train_fraction).round() as usize;
    let images = people * (synth.len() / synth.identities.max(1));
    let share = (config.data.fraction * images as f64).round() as usize;
    Ok(share.saturating_sub(1).max(1))
}

/// Figures of one run, trained, resumed or found; `None` when interrupted.
pub(crate) fn figures(
    config: &TaskConfig,
    folder: &Path,
    label: &str,
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: Watch<'_>,
    shelf: &mut Shelf,
) -> Result<Option<Figures>> {
    let same = |known: &Path| {
        let before = TaskConfig::from_file(known, config)?;
        Ok(before.fingerprint() == config.fingerprint())
    };
    let run = settled(folder, same, TaskRun::open, |start| {
        let (mut observer, device) = (watch(label), &wanted.device);
        match start {
            Start::Begin => train_on_shelf(config, folder, device, stop, observer.as_mut(), shelf),
            Start::GoOn => resume_on_shelf(folder, device, stop, observer.as_mut(), shelf),
        }
    })?;
    let Some(run) = run else { return Ok(None) };
    let found = judged(folder, json!({ "data": "held out" }), || {
        let verdict = judge_on_shelf(&run, None, &wanted.device, shelf)?;
        verdict.write(folder)?;
        Ok(verdict.metrics)
    })?;
    Ok(Some(found))
}
