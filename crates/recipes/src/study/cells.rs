//! The cells of each study: which curve, where on it, and what is learned from.

use super::settings::Settings;
use crate::pretrain::{self, FACES, PretrainConfig, kept};
use crate::{Error, Result};

/// One trunk of a study, for one seed.
pub(super) struct Cell {
    /// Name of its row, and of its folder with dashes for blanks.
    pub row: String,
    /// Curve it lies on.
    pub curve: String,
    /// Where on the curve.
    pub at: f64,
    /// What is run.
    pub config: PretrainConfig,
}

/// A study.
pub(super) struct Study {
    pub name: &'static str,
    pub caption: &'static str,
    /// Name of what is varied, for the axis; none where cells have names and no order.
    pub axis: Option<&'static str>,
    pub cells: fn(&Settings) -> Result<Vec<Cell>>,
}

/// Studies there are.
pub(super) const STUDIES: &[Study] = &[
    Study {
        name: "data-size",
        caption: "Pre-training on more and more images (other people, not more of the same), in the same number of steps; probes \
                  of the frozen trunk on people never seen (rendered faces).",
        axis: Some("images, log10"),
        cells: data_size,
    },
    Study {
        name: "data-quality",
        caption: "Pre-training on as many images, clean and not, in the same number of steps; probes of the frozen trunk on clean \
                  images of people never seen (rendered faces). `noise` redraws a third of the labels, which only supervised \
                  training sees; `non-faces` leaves the labels of a third of the images and takes the faces away; `all` is \
                  everything at once.",
        axis: None,
        cells: data_quality,
    },
    Study {
        name: "video-redundancy",
        caption: "Pre-training without labels on frames of rendered sequences, in the same number of steps: as many frames \
                  from many short or few long sequences, and all, every tenth and every hundredth frame of the same \
                  sequences; probes of the frozen trunk on single images of people never seen (rendered faces).",
        axis: Some("frames a sequence, log10"),
        cells: video_redundancy,
    },
];

/// The two ways to learn that are set beside each other.
const WAYS: [(&str, &str); 2] = [("supervised", "pretrain-identity"), ("swav", "swav")];

/// Views of a study: smaller than the recipes', because a study trains many trunks.
const SMALLER: [&str; 2] = ["views.large_size=48", "views.small_size=24"];

/// Images of a person in the rendered sets.
const EACH: usize = 28;

/// The configuration of a cell that learns from `images` images of `source`.
fn config(
    recipe: &str,
    source: &str,
    images: usize,
    more: &[&str],
    settings: &Settings,
) -> Result<PretrainConfig> {
    let own = SMALLER
        .iter()
        .chain(&["data.train_fraction=1", "probe.every=0"]);
    let words = own.chain(more).copied();
    let words = words.chain(settings.words.iter().map(String::as_str));
    let mut config = pretrain::named(recipe)?.set_all(words)?;
    // Rendered as large as a trunk sees them.
    let size = config.views.large_size.max(24);
    config = config.set_all([format!("data.source={source},size={size}").as_str()])?;
    let per_epoch = images / config.train.batch;
    if per_epoch == 0 {
        return Err(Error::config(format!(
            "{images} images are fewer than `train.batch` {}; expected more of them, or a smaller batch",
            config.train.batch
        )));
    }
    // As many steps for each cell, and of these as large a part to warm up.
    let share = config.train.warmup_epochs / config.train.epochs;
    config.train.epochs = settings.steps as f64 / per_epoch as f64;
    config.train.warmup_epochs = config.train.epochs * share;
    config.validate()?;
    Ok(config)
}

fn faces(people: usize) -> String {
    format!("synth:identities={people},{FACES}")
}

fn people_of(images: usize) -> usize {
    images.div_ceil(EACH).max(2)
}

fn data_size(settings: &Settings) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for (curve, recipe) in WAYS {
        for &size in &settings.sizes {
            let people = people_of(size);
            let images = people * EACH;
            cells.push(Cell {
                row: format!("{curve} {size}"),
                curve: curve.to_string(),
                at: (images as f64).log10(),
                config: config(recipe, &faces(people), images, &[], settings)?,
            });
        }
    }
    Ok(cells)
}

/// Images of the first person over those of the last, where some have many and most have few.
const IMBALANCE: f64 = 14.;

fn data_quality(settings: &Settings) -> Result<Vec<Cell>> {
    let imbalance = format!("data.imbalance={IMBALANCE}");
    let third = 1. / 3.;
    let [off_centre, non_faces, noise] = [
        "data.off_centre=1".to_string(),
        format!("data.non_faces={third:.4}"),
        format!("data.label_noise={third:.4}"),
    ];
    let spoils: [(&str, Vec<&str>); 6] = [
        ("clean", vec![]),
        ("imbalanced", vec![&imbalance]),
        ("off-centre", vec![&off_centre]),
        ("non-faces", vec![&non_faces]),
        ("noise", vec![&noise]),
        ("all", vec![&imbalance, &off_centre, &non_faces, &noise]),
    ];
    let mut cells = Vec::new();
    for (curve, recipe) in WAYS {
        for (at, (name, words)) in spoils.iter().enumerate() {
            let uneven = words.contains(&imbalance.as_str());
            // Uneven sets have more people, so that all have as many images.
            let (mut people, mut images) = (people_of(settings.images), 0);
            if uneven {
                while images < settings.images {
                    people += people.div_ceil(50);
                    let kept = |rank| kept(EACH, rank, people, IMBALANCE);
                    images = (0..people).map(kept).sum();
                }
            } else {
                images = people * EACH;
            }
            cells.push(Cell {
                row: format!("{curve} {name}"),
                curve: curve.to_string(),
                at: at as f64,
                config: config(recipe, &faces(people), images, words, settings)?,
            });
        }
    }
    Ok(cells)
}

/// Frames a second of the densest sequences; a tenth and a hundredth of it are every tenth and hundredth frame of them.
const RATE: usize = 100;

fn video_redundancy(settings: &Settings) -> Result<Vec<Cell>> {
    let cell = |row: String,
                curve: &str,
                sequences: usize,
                frames: usize,
                rate: usize|
     -> Result<Cell> {
        let source = format!(
            "synth-video:sequences={sequences},frames={frames},rate={rate},identities={sequences},{FACES}"
        );
        Ok(Cell {
            row,
            curve: curve.to_string(),
            at: (frames as f64).log10(),
            config: config("swav", &source, sequences * frames, &[], settings)?,
        })
    };
    let mut cells = Vec::new();
    // A sixth of a second, most of a second, four seconds.
    for frames in [4, 20, 100] {
        let sequences = settings.images.div_ceil(frames).max(2);
        let row = format!("{sequences} x {frames}");
        cells.push(cell(row, "as many frames", sequences, frames, 25)?);
    }
    // Four seconds of as many people as the last of the lines above has; the same time in fewer frames.
    let sequences = settings.images.div_ceil(100).max(2);
    for (share, part) in [("100%", 1), ("10%", 10), ("1%", 100)] {
        let frames = 4 * RATE / part;
        cells.push(cell(
            format!("{sequences} x {} s, {share}", 4),
            "as many sequences",
            sequences,
            frames,
            RATE / part,
        )?);
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_differ_in_what_is_studied_and_take_the_same_number_of_steps() {
        let settings = Settings::default();
        for study in STUDIES {
            let cells = (study.cells)(&settings).unwrap();
            let rows: std::collections::BTreeSet<&str> =
                cells.iter().map(|cell| cell.row.as_str()).collect();
            assert_eq!(rows.len(), cells.len(), "{}", study.name);
            for cell in &cells {
                let spec = cell.config.data.source.parse::<phiz_data::Spec>();
                assert!(spec.is_ok(), "{}", cell.config.data.source);
                assert!(cell.config.train.epochs > 0.);
            }
        }
        let sizes = data_size(&settings).unwrap();
        let steps = |cell: &Cell| {
            let people = people_of(10f64.powf(cell.at).round() as usize);
            cell.config.train.epochs * (people * EACH / 64) as f64
        };
        assert!(
            sizes
                .iter()
                .all(|cell| (steps(cell) - settings.steps as f64).abs() < 1e-6)
        );
        let quality = data_quality(&settings).unwrap();
        assert_eq!(quality.len(), 12);
        // The uneven set is as large as the others to within two per cent.
        let even = quality[0].config.train.epochs;
        let uneven = quality[1].config.train.epochs;
        assert!((even / uneven - 1.).abs() < 0.03, "{even} {uneven}");
        let few = Settings {
            images: 20,
            ..Settings::default()
        };
        let error = data_quality(&few).err().unwrap().to_string();
        assert!(error.contains("train.batch"), "{error}");
    }
}
