//! Judging a disentangling run: what d can do, and what each part still says.
//!
//! * where the classes are those that were learned: accuracy of the classifier on each part;
//! * where identities are new: verification by d, on all pairs and on pairs of different states of the removed factor;
//! * always: fresh probes on codes the encoders never saw. `angle_from_d` is what the run is to bring down to chance,
//!   `label_from_l` what l should not say, `label_from_d` and `angle_from_l` what they should. Where training showed some
//!   states alone and people are held out, `light_from_d_shown` asks about those, `light_from_d` about all. Where parts are
//!   judged, half of the first of them (validation, of digits) is asked for the removed classes of its other half as well
//!   (`angle_from_d_validation`): settings can be chosen by that, without a look at the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle::Device;
use phiz_data::Column;
use phiz_eval::{
    BootstrapConfig, Condition, Embeddings, LeakageConfig, MlpConfig, PairKind, ProbeConfig,
    Relation, Score, Verification, VerificationConfig, leakage, leakage_of_number, tar_name,
    verify_all_pairs,
};
use serde_json::{Map, Value, json};

use super::codes::{PartCodes, encode, rows};
use super::config::Mode;
use super::factors::{FactorColumn, FactorColumnValues};
use super::material::{Again, Judged, Part, sampled};
use super::model::Splitter;
use super::run::DisentangleRun;
use crate::folder::{create_folder, write, write_json};
use crate::{Error, Result, open_device};

/// What was found about a run.
pub struct DisentangleVerdict {
    /// What was judged, and how.
    pub protocol: Map<String, Value>,
    /// Every figure by its name.
    pub metrics: BTreeMap<String, f64>,
    /// 95 % intervals, by subject, of some of them.
    pub intervals: BTreeMap<String, [f64; 2]>,
    pub(crate) html: String,
    title: String,
    rendered: bool,
}

/// Rates at which the true accept rate is read.
const FARS: [f64; 2] = [1e-1, 1e-2];

/// Judges a run by its configuration's `eval` section.
///
/// # Errors
/// When the weights do not fit, the data cannot be read, or a probe has nothing to learn from.
pub fn judge(run: &DisentangleRun, device: &str) -> Result<DisentangleVerdict> {
    let device = open_device(device)?;
    let splitter = run.splitter(&device)?;
    let judged = Judged::open(&run.config, &run.classes)?;
    let mut found = Found::default();
    let mut codes: BTreeMap<String, PartCodes> = BTreeMap::new();
    for part in &judged.parts {
        let of_part = encode(&run.config, &splitter, part, &device)?;
        if part.known_classes {
            found.accuracy(run, part, &of_part)?;
        } else {
            found.verification(run, part, &of_part)?;
        }
        codes.insert(part.name.clone(), of_part);
    }
    if let Some((fit, probed)) = &judged.probes {
        for part in [fit, probed] {
            if !codes.contains_key(&part.name) {
                let of_part = encode(&run.config, &splitter, part, &device)?;
                codes.insert(part.name.clone(), of_part);
            }
        }
        if let (Some(a), Some(b)) = (codes.get(&fit.name), codes.get(&probed.name)) {
            found.probes(run, (fit, a), (probed, b))?;
        }
    }
    for again in &judged.again {
        if let (Some(a), Some(b)) = (
            codes.get(&again.fit.0.name),
            codes.get(&again.probed.0.name),
        ) {
            found.again(run, again, (a, b))?;
        }
    }
    let rendered = judged.parts.iter().any(|part| part.dataset.rendered());
    let mut protocol = Map::new();
    protocol.insert(
        "data".to_string(),
        json!({
            "source": run.config.data.source,
            "target": run.config.data.target,
            "removed": run.factors.iter().map(|f| f.name.clone()).collect::<Vec<_>>(),
            "mode": run.config.game.mode,
            "recipe": run.config.recipe,
            "seed": run.config.seed,
            "rendered": rendered,
            "parts": judged.parts.iter().map(|part| json!({"name": part.name, "images": part.indices.len()})).collect::<Vec<_>>(),
        }),
    );
    let html = super::page::page(run, &splitter, &judged, &found.metrics, &device)?;
    Ok(DisentangleVerdict {
        protocol,
        metrics: found.metrics,
        intervals: found.intervals,
        html,
        title: format!("{} on {}", run.config.recipe, run.config.data.source),
        rendered,
    })
}

/// Codes of every image of a data set: d as embeddings, l as numbers `l0`, `l1`, ..., with every categorical label.
///
/// # Errors
/// When the weights do not fit or the data cannot be read.
pub fn embed(run: &DisentangleRun, data: &str, device: &str) -> Result<Embeddings> {
    let device = open_device(device)?;
    let splitter = run.splitter(&device)?;
    let dataset = super::material::open(data)?;
    let part = Part {
        name: data.to_string(),
        indices: (0..dataset.len()).collect(),
        dataset,
        known_classes: false,
    };
    let codes = encode(&run.config, &splitter, &part, &device)?;
    let dims = run.config.model.l_dim;
    let mut embeddings = table(run, &part, &codes)?;
    for (name, column) in part.dataset.labels().columns() {
        embeddings = match column {
            Column::Categorical { codes, names } => embeddings
                .with_labels(name, codes.clone())?
                .with_names(name, names.clone()),
            Column::Continuous(numbers) => embeddings.with_factor(name, numbers.clone())?,
        };
    }
    for dim in 0..dims {
        let column = codes.l.iter().skip(dim).step_by(dims).copied().collect();
        embeddings = embeddings.with_factor(&format!("l{dim}"), column)?;
    }
    Ok(embeddings)
}

/// d of a part with the target as `labels`.
fn table(run: &DisentangleRun, part: &Part, codes: &PartCodes) -> Result<Embeddings> {
    let labels = part.dataset.labels().codes(&run.config.data.target)?;
    let labels = part.indices.iter().map(|&i| labels[i]).collect();
    Ok(Embeddings::new(codes.d.clone(), run.config.model.d_dim)?.with_labels("labels", labels)?)
}

#[derive(Default)]
struct Found {
    metrics: BTreeMap<String, f64>,
    intervals: BTreeMap<String, [f64; 2]>,
}

impl Found {
    fn accuracy(&mut self, run: &DisentangleRun, part: &Part, codes: &PartCodes) -> Result<()> {
        let targets = crate::source::class_targets(
            part.dataset.as_ref(),
            &run.config.data.target,
            &run.classes,
        )?;
        // Right answers and images of each class.
        let mut classes = BTreeMap::<Option<u32>, (usize, usize)>::new();
        for (&i, &predicted) in part.indices.iter().zip(&codes.predicted) {
            let (right, all) = classes.entry(targets[i]).or_default();
            *right += usize::from(targets[i] == Some(predicted));
            *all += 1;
        }
        let right: usize = classes.values().map(|(right, _)| right).sum();
        let share = right as f64 / part.indices.len().max(1) as f64;
        let of_each = classes.values().map(|&(r, all)| r as f64 / all as f64);
        let balanced = of_each.sum::<f64>() / classes.len().max(1) as f64;
        self.metrics
            .insert(format!("accuracy_{}", part.name), share);
        self.metrics
            .insert(format!("balanced_accuracy_{}", part.name), balanced);
        Ok(())
    }

    fn verification(&mut self, run: &DisentangleRun, part: &Part, codes: &PartCodes) -> Result<()> {
        let embeddings = table(run, part, codes)?;
        // The held-out part needs no name.
        let of = match part.name.as_str() {
            "test" => String::new(),
            name => format!(" {name}"),
        };
        for (name, found) in verified(&embeddings, part, &run.factors)? {
            for (metric, value) in figures(&found) {
                self.metrics.insert(format!("{metric}{name}{of}"), value);
            }
            for (metric, interval) in &found.intervals {
                if metric == "auc" || metric == "eer" {
                    let name = format!("{metric}{name}{of}");
                    self.intervals.insert(name, *interval);
                }
            }
        }
        Ok(())
    }

    fn probes(
        &mut self,
        run: &DisentangleRun,
        fit: (&Part, &PartCodes),
        judged: (&Part, &PartCodes),
    ) -> Result<()> {
        let (config, target) = (&run.config, &run.config.data.target);
        let mut about: Vec<(String, &FactorColumn)> = Vec::new();
        for factor in &run.factors {
            if !matches!(factor.values, FactorColumnValues::YesNo { .. }) {
                about.push((factor.name.clone(), factor));
            }
        }
        let limit = config.eval.probe_rows;
        let chosen = (
            sampled(fit.0.indices.len(), limit),
            sampled(judged.0.indices.len(), limit),
        );
        let d_dim = config.model.d_dim;
        let d = (
            rows(&fit.1.d, d_dim, &chosen.0)?,
            rows(&judged.1.d, d_dim, &chosen.1)?,
        );
        let l_dim = config.model.l_dim;
        let l = (
            rows(&fit.1.l, l_dim, &chosen.0)?,
            rows(&judged.1.l, l_dim, &chosen.1)?,
        );
        // l is read by nobody where nothing is rebuilt, and holds what it happens to hold.
        let with_l = config.game.mode.decodes();
        let thorough = probe_config(config.eval.probe_seeds, true);
        let quick = probe_config(config.eval.probe_seeds, false);
        let names = about
            .iter()
            .map(|(name, _)| name.clone())
            .chain(config.data.keep.iter().cloned());
        for name in names {
            if let Some((a, b)) = pair(&name, fit.0, judged.0, &chosen)? {
                self.probe(&format!("{name}_from_d"), (&d.0, &a), (&d.1, &b), &thorough)?;
                if with_l {
                    self.probe(&format!("{name}_from_l"), (&l.0, &a), (&l.1, &b), &quick)?;
                }
            } else {
                let (a, b) = numbers(&name, fit.0, judged.0, &chosen)?;
                for (part, train, test, wanted) in
                    [("d", &d.0, &d.1, true), ("l", &l.0, &l.1, with_l)]
                {
                    if wanted {
                        let (explained, ..) =
                            leakage_of_number((train, &a), (test, &b), None, &quick)?;
                        self.metrics
                            .insert(format!("{name}_from_{part}_r2"), explained);
                    }
                }
            }
        }
        // Of new identities the rows are divided and not the people: the same people have to be known.
        let same = (judged.0, judged.1);
        let everyone = sampled(judged.0.indices.len(), limit);
        let (fit, halves) = if config.data.train_fraction > 0.0 {
            let (a, b): (Vec<usize>, Vec<usize>) = everyone.iter().partition(|row| *row % 2 == 0);
            (same, (a, b))
        } else {
            (fit, chosen)
        };
        let (Some(a), Some(b)) = (
            categories(target, fit.0, &halves.0)?,
            categories(target, judged.0, &halves.1)?,
        ) else {
            return Ok(());
        };
        let parts = [
            ("d", &fit.1.d, &judged.1.d, d_dim, &quick, true),
            ("l", &fit.1.l, &judged.1.l, l_dim, &thorough, with_l),
        ];
        for (part, train, test, dim, config, wanted) in parts {
            if wanted {
                let (x, z) = (rows(train, dim, &halves.0)?, rows(test, dim, &halves.1)?);
                let name = format!("{target}_from_{part}");
                self.probe(&name, (&x, &a), (&z, &b), config)?;
            }
        }
        Ok(())
    }

    /// What d says of the removed classes on other images.
    fn again(
        &mut self,
        run: &DisentangleRun,
        again: &Again,
        codes: (&PartCodes, &PartCodes),
    ) -> Result<()> {
        let (limit, dim) = (run.config.eval.probe_rows, run.config.model.d_dim);
        let some = |(_, rows): &(Part, Vec<usize>)| -> Vec<usize> {
            let places = sampled(rows.len(), limit).into_iter();
            places.filter_map(|at| rows.get(at).copied()).collect()
        };
        let chosen = (some(&again.fit), some(&again.probed));
        if chosen.0.is_empty() || chosen.1.is_empty() {
            return Ok(());
        }
        let thorough = probe_config(run.config.eval.probe_seeds, true);
        for factor in &run.factors {
            // Nobody knows of photographs what is known of rendered faces.
            let known = again.fit.0.dataset.labels().get(&factor.name).is_some();
            if matches!(factor.values, FactorColumnValues::YesNo { .. }) || !known {
                continue;
            }
            if let Some((a, b)) = pair(&factor.name, &again.fit.0, &again.probed.0, &chosen)? {
                let (x, z) = (
                    rows(&codes.0.d, dim, &chosen.0)?,
                    rows(&codes.1.d, dim, &chosen.1)?,
                );
                let name = format!("{}_from_d_{}", factor.name, again.called);
                self.probe(&name, (&x, &a), (&z, &b), &thorough)?;
            }
        }
        Ok(())
    }

    fn probe(
        &mut self,
        name: &str,
        train: (&phiz_eval::Rows, &[u32]),
        test: (&phiz_eval::Rows, &[u32]),
        config: &LeakageConfig,
    ) -> Result<()> {
        // A reader can only be asked for values that it has met.
        let met: BTreeSet<u32> = train.1.iter().copied().collect();
        let asked: Vec<usize> = (0..test.1.len())
            .filter(|&row| met.contains(&test.1[row]))
            .collect();
        if met.len() < 2 || asked.is_empty() {
            return Ok(());
        }
        let labels: Vec<u32> = asked.iter().map(|&row| test.1[row]).collect();
        let found = leakage(train, (&test.0.select(&asked)?, &labels), None, config)?;
        let best = match &found.mlp {
            Some(mlp) if mlp.leakage > found.linear.leakage => mlp,
            _ => &found.linear,
        };
        // The better of the two readers is what the code says.
        self.metrics.insert(name.to_string(), best.accuracy);
        self.metrics.insert(format!("{name}_leakage"), best.leakage);
        self.metrics
            .insert(format!("{name}_linear"), found.linear.accuracy);
        self.metrics.insert(format!("{name}_chance"), found.chance);
        Ok(())
    }
}

/// Verification on all pairs (no suffix) and on pairs of different states of each removed class (` across light`).
pub(crate) fn verified(
    embeddings: &Embeddings,
    part: &Part,
    factors: &[FactorColumn],
) -> Result<Vec<(String, Verification)>> {
    let labels = embeddings.labels("labels")?.to_vec();
    let config = VerificationConfig {
        score: Score::Cosine,
        fars: FARS.to_vec(),
        bootstrap: Some(BootstrapConfig::default()),
        ..VerificationConfig::default()
    };
    let mut all = vec![(
        String::new(),
        verify_all_pairs(embeddings, &labels, &config)?,
    )];
    for factor in factors {
        let Some(Column::Categorical { codes, .. }) = part.dataset.labels().get(&factor.name)
        else {
            continue;
        };
        let codes: Vec<u32> = part.indices.iter().map(|&i| codes[i]).collect();
        if codes.iter().all(|code| Some(code) == codes.first()) {
            continue;
        }
        let config = VerificationConfig {
            conditions: vec![Condition {
                column: factor.name.clone(),
                codes,
                relation: Relation::Different,
                pairs: PairKind::All,
            }],
            ..config.clone()
        };
        let found = verify_all_pairs(embeddings, &labels, &config)?;
        all.push((format!(" across {}", factor.name), found));
    }
    Ok(all)
}

pub(crate) fn figures(found: &Verification) -> Vec<(String, f64)> {
    let mut all = vec![
        ("auc".to_string(), found.auc),
        ("eer".to_string(), found.eer.rate),
    ];
    for (far, tar) in &found.tars {
        if let Some(tar) = tar {
            all.push((tar_name(*far), tar.tar));
        }
    }
    all
}

fn probe_config(seeds: u64, thorough: bool) -> LeakageConfig {
    LeakageConfig {
        seeds: (0..seeds).collect(),
        mlp: thorough.then(MlpConfig::default),
        probe: ProbeConfig {
            penalties: vec![1e-3, 1e-1, 10.0],
            decays: vec![1e-4, 1e-2],
            ..ProbeConfig::default()
        },
        bootstrap: None,
    }
}

/// Codes of a class label for the chosen rows of a part; none where it is a number.
fn categories(name: &str, part: &Part, chosen: &[usize]) -> Result<Option<Vec<u32>>> {
    Ok(match part.dataset.labels().get(name) {
        Some(Column::Categorical { codes, .. }) => {
            Some(chosen.iter().map(|&row| codes[part.indices[row]]).collect())
        }
        Some(Column::Continuous(_)) => None,
        None => {
            return Err(Error::config(format!(
                "{} has no label `{name}` to probe for",
                part.name
            )));
        }
    })
}

type Chosen = (Vec<usize>, Vec<usize>);

fn pair(
    name: &str,
    fit: &Part,
    judged: &Part,
    chosen: &Chosen,
) -> Result<Option<(Vec<u32>, Vec<u32>)>> {
    let a = categories(name, fit, &chosen.0)?;
    Ok(a.zip(categories(name, judged, &chosen.1)?))
}

fn numbers(name: &str, fit: &Part, judged: &Part, chosen: &Chosen) -> Result<(Vec<f64>, Vec<f64>)> {
    let of = |part: &Part, chosen: &[usize]| -> Result<Vec<f64>> {
        let values = part.dataset.labels().values(name)?;
        Ok(chosen
            .iter()
            .map(|&row| f64::from(values[part.indices[row]]))
            .collect())
    };
    Ok((of(fit, &chosen.0)?, of(judged, &chosen.1)?))
}

impl DisentangleVerdict {
    /// `{"protocol": {...}, "metrics": {...}}`, with `intervals` where there are any.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("protocol".into(), Value::Object(self.protocol.clone()));
        object.insert("metrics".into(), json!(self.metrics));
        if !self.intervals.is_empty() {
            object.insert("intervals".into(), json!(self.intervals));
        }
        Value::Object(object)
    }

    /// The figures as aligned text, one a line.
    pub fn table(&self) -> String {
        let about = if self.rendered {
            " (rendered faces)"
        } else {
            ""
        };
        let mut text = format!("{}{about}\n", self.title);
        for (name, value) in &self.metrics {
            text += &match self.intervals.get(name) {
                Some([low, high]) => format!("  {name:<28} {value:.4}  [{low:.4}, {high:.4}]\n"),
                None => format!("  {name:<28} {value:.4}\n"),
            };
        }
        text
    }

    /// Writes `eval.json` and `report.html` into `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        create_folder(folder)?;
        write_json(&folder.join("eval.json"), &self.to_json())?;
        write(&folder.join("report.html"), &self.html)
    }
}

/// Whether a mode has anything to draw: without a decoder there are no images to make.
pub(crate) fn draws(mode: Mode) -> bool {
    mode.decodes()
}

/// The device and networks of pictures.
pub(crate) struct Studio<'a> {
    pub run: &'a DisentangleRun,
    pub splitter: &'a Splitter,
    pub device: &'a Device,
}
