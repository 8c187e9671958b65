//! Which images are learned from, under which labels, and which are judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use phiz_data::{Dataset, stream_rng};
use rand::Rng;

use super::config::PretrainConfig;
use super::spoil::Spoilt;
use crate::source::open;
use crate::{Error, Result};

/// A data set with what is learned from and what is judged.
pub(super) struct Part {
    /// Every image, decoded once and kept in memory.
    pub dataset: Arc<dyn Dataset>,
    /// Indices learned from.
    pub train: Vec<usize>,
    /// The class of each of them: its identity, or what label noise has made of it.
    pub labels: Vec<u32>,
    /// Number of classes.
    pub classes: usize,
    /// Indices judged: no identity of these is among those learned from.
    pub held_out: Vec<usize>,
    /// What the split means, for people.
    pub description: String,
}

/// Opens what `config.data` names and divides it.
///
/// # Errors
/// When the data cannot be read, has no identities, or one side is left empty.
pub(super) fn part(config: &PretrainConfig) -> Result<Part> {
    let data = &config.data;
    let dataset = open(&data.source)?;
    let identity = dataset.labels().codes("identity").map_err(|error| {
        Error::config(format!(
            "{error}; people that are judged must not be among those learned from"
        ))
    })?;
    let mut by_identity: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, &code) in identity.iter().enumerate() {
        by_identity.entry(code).or_default().push(index);
    }
    let people = by_identity.len();
    let learned = (people as f64 * data.train_fraction).round() as usize;
    let everybody = data.train_fraction >= 1.0;
    if learned == 0 || (learned >= people && !everybody) {
        return Err(Error::config(format!(
            "`data.train_fraction` {} of {people} identities leaves none on one side",
            data.train_fraction
        )));
    }
    let mut train = Vec::new();
    let mut labels = Vec::new();
    let mut held_out = Vec::new();
    for (rank, images) in by_identity.into_values().enumerate() {
        if rank >= learned {
            held_out.extend(images);
            continue;
        }
        let kept = kept(images.len(), rank, learned, data.imbalance);
        for index in images.into_iter().take(kept) {
            train.push(index);
            labels.push(rank as u32);
        }
    }
    let noisy = spoil(&mut labels, learned, data.label_noise, config.seed);
    held_out.sort_unstable();
    let mut description = format!("learned from the first {learned} of {people} identities");
    if noisy > 0 {
        description += &format!(", {noisy} labels redrawn");
    }
    let dataset: Arc<dyn Dataset> = if data.off_centre > 0.0 || data.non_faces > 0.0 {
        description += &format!(
            ", {:.0}% cut off-centre, {:.0}% without a face",
            100.0 * data.off_centre,
            100.0 * data.non_faces
        );
        let (cut, other) = (data.off_centre, data.non_faces);
        Arc::new(Spoilt::new(dataset, &train, cut, other, config.seed))
    } else {
        dataset
    };
    Ok(Part {
        dataset,
        train,
        labels,
        classes: learned,
        held_out,
        description,
    })
}

/// Images kept of identity `rank` of `learned`: all of the first down to `1 / imbalance` of those of the last, at least one.
pub(crate) fn kept(images: usize, rank: usize, learned: usize, imbalance: f64) -> usize {
    let place = rank as f64 / learned.saturating_sub(1).max(1) as f64;
    let kept = images as f64 * imbalance.powf(-place);
    kept.round().max(1.0) as usize
}

/// Redraws a share of the labels evenly among all classes; gives how many were chosen (one in `classes` of them keeps its
/// value by chance).
fn spoil(labels: &mut [u32], classes: usize, share: f64, seed: u64) -> usize {
    let mut chosen = 0;
    for (at, label) in labels.iter_mut().enumerate() {
        let mut rng = stream_rng(seed, "label-noise", 0, at as u64);
        let [first, second] =
            [rng.next_u32(), rng.next_u32()].map(|n| f64::from(n) / 4_294_967_296.0);
        if first < share {
            *label = (second * classes as f64) as u32;
            chosen += 1;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::named;

    #[test]
    fn noise_and_imbalance_do_what_they_say_to_the_training_part_alone() {
        let clean = named("pretrain-identity").unwrap();
        let set = |words: &[&str]| {
            let base = ["data.source=synth:identities=10,per_expression=2,size=24"];
            part(&clean.set_all(base.iter().chain(words).copied()).unwrap()).unwrap()
        };
        let plain = set(&[]);
        assert_eq!(
            (plain.train.len(), plain.held_out.len(), plain.classes),
            (8 * 14, 2 * 14, 8)
        );
        let noisy = set(&["data.label_noise=0.5"]);
        assert_eq!(noisy.train, plain.train);
        let moved = noisy
            .labels
            .iter()
            .zip(&plain.labels)
            .filter(|(a, b)| a != b)
            .count();
        assert!((30..70).contains(&moved), "{moved} of 112");
        let uneven = set(&["data.imbalance=7"]);
        let count = |label| uneven.labels.iter().filter(|&&own| own == label).count();
        assert_eq!((count(0), count(7)), (14, 2));
        assert!(count(0) > count(3) && count(3) > count(7));
        assert_eq!(uneven.held_out, plain.held_out);
    }
}
