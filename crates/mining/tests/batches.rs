//! The samplers that draw batches before the forward pass keep their promises on any labels.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use phiz_mining::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(80) })]

    /// Balance over rounds, coverage within the promised number of steps, no item twice before all of its class came.
    #[test]
    fn class_balanced_promises(
        labels in prop::collection::vec(prop_oneof![0u32..6, Just(1 << 25)], 1..50), batch in 1usize..12, seed in any::<u64>(),
    ) {
        let sampler = ClassBalancedSampler::new(&labels, batch).unwrap();
        let names: BTreeSet<u32> = labels.iter().copied().collect();
        prop_assert_eq!(sampler.classes(), names.len());
        let steps = sampler.steps_to_cover() as u64;
        let drawn: Vec<usize> = (0..steps).flat_map(|step| sampler.batch(seed, step)).collect();
        prop_assert_eq!(drawn.len(), steps as usize * batch);
        prop_assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), labels.len(), "every item came");
        let mut turns = BTreeMap::<u32, Vec<usize>>::new();
        for (at, &i) in drawn.iter().enumerate() {
            turns.entry(labels[i]).or_default().push(i);
            if (at + 1) % names.len() == 0 {
                let counts: BTreeSet<usize> = turns.values().map(Vec::len).collect();
                prop_assert_eq!((counts.len(), turns.len()), (1, names.len()), "whole rounds are balanced");
            }
        }
        for (label, turns) in turns {
            let size = labels.iter().filter(|l| **l == label).count();
            for cycle in turns.chunks(size) {
                prop_assert_eq!(cycle.iter().collect::<BTreeSet<_>>().len(), cycle.len());
            }
        }
        prop_assert_eq!(sampler.batch(seed, 3), ClassBalancedSampler::new(&labels, batch).unwrap().batch(seed, 3));
        // Any step can be asked for.
        sampler.batch(seed, u64::MAX);
    }

    /// Shares, whole classes, and every combination of super-classes as often as promised.
    #[test]
    fn hierarchical_promises(
        items in prop::collection::vec((0u32..9, 0u32..5), 8..60), m in 1usize..4, k in 1usize..4, seed in any::<u64>(),
    ) {
        let classes: Vec<u32> = items.iter().map(|i| i.0).collect();
        let above: Vec<u32> = items.iter().map(|i| i.1).collect();
        let config = HierarchicalConfig { batch: 2 * m * k, per_class: Some(m), super_classes: k, batches_per_combination: 3 };
        let names: BTreeSet<u32> = above.iter().copied().collect();
        let Ok(sampler) = HierarchicalSampler::new(&classes, &above, config) else {
            prop_assert!(names.len() < k);
            return Ok(());
        };
        let mut met = BTreeMap::<Vec<u32>, usize>::new();
        for step in 0..sampler.steps_per_pass() {
            let batch = sampler.batch(seed, step);
            prop_assert!(batch.len() <= config.batch);
            prop_assert!(batch.len() == config.batch || sampler.short_super_classes() > 0);
            let mut cells = BTreeMap::<(u32, u32), Vec<usize>>::new();
            for &i in &batch {
                cells.entry((above[i], classes[i])).or_default().push(i);
            }
            for ((a, c), found) in &cells {
                prop_assert_eq!(found.len(), m, "whole classes");
                let there = items.iter().filter(|i| **i == (*c, *a)).count();
                prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), m.min(there));
            }
            let of: BTreeSet<u32> = cells.keys().map(|c| c.0).collect();
            prop_assert_eq!(of.len(), k);
            *met.entry(of.into_iter().collect()).or_default() += 1;
            prop_assert_eq!(&batch, &sampler.batch(seed, step));
        }
        prop_assert!(met.values().all(|&count| count == 3), "{:?}", met);
        prop_assert_eq!(met.len() as u64 * 3, sampler.steps_per_pass());
    }

    #[test]
    fn fixed_triplets_are_triplets(labels in prop::collection::vec(0u32..5, 0..20), count in 0usize..40, seed in any::<u64>()) {
        let classes: BTreeSet<u32> = labels.iter().copied().collect();
        let paired = classes.iter().any(|c| labels.iter().filter(|l| *l == c).count() > 1);
        let drawn = FixedTriplets::new(&labels, count, seed);
        prop_assert_eq!(drawn.is_ok(), paired && classes.len() > 1);
        let Ok(drawn) = drawn else { return Ok(()); };
        prop_assert_eq!(drawn.triplets().len(), count);
        for &[a, p, n] in drawn.triplets() {
            prop_assert!(a != p && labels[a] == labels[p] && labels[a] != labels[n]);
        }
        let mut epoch: Vec<[usize; 3]> = drawn.epoch(seed, 1).chunks(3).map(|t| [t[0], t[1], t[2]]).collect();
        let mut all = drawn.triplets().to_vec();
        epoch.sort_unstable();
        all.sort_unstable();
        prop_assert_eq!(epoch, all);
        prop_assert_eq!(drawn, FixedTriplets::new(&labels, count, seed).unwrap());
    }
}

#[test]
fn all_items_of_a_class() {
    let classes = [0, 0, 0, 1, 1, 2, 3, 3, 3, 3];
    let above = [7, 7, 7, 7, 7, 8, 8, 8, 8, 8];
    let config = HierarchicalConfig {
        batch: 10,
        per_class: None,
        ..Default::default()
    };
    let sampler = HierarchicalSampler::new(&classes, &above, config).unwrap();
    assert_eq!(
        (sampler.steps_per_pass(), sampler.short_super_classes()),
        (4, 0)
    );
    let mut batch = sampler.batch(1, 0);
    batch.sort_unstable();
    assert_eq!(batch, (0..10).collect::<Vec<_>>());
    // A class that does not fit the rest of a share is passed over.
    let small = HierarchicalConfig {
        batch: 8,
        per_class: None,
        ..Default::default()
    };
    let sampler = HierarchicalSampler::new(&classes, &above, small).unwrap();
    for step in 0..20 {
        let batch = sampler.batch(3, step);
        for class in 0..4 {
            let drawn = batch.iter().filter(|&&i| classes[i] == class).count();
            let all = classes.iter().filter(|&&c| c == class).count();
            assert!(drawn == 0 || drawn == all);
        }
    }
}

#[test]
fn passes_too_long_to_list_are_numbered() {
    // 30 out of 60 super-classes: 1.2e17 combinations.
    let above: Vec<u32> = (0..60).collect();
    let config = HierarchicalConfig {
        batch: 30,
        per_class: Some(1),
        super_classes: 30,
        batches_per_combination: 4,
    };
    let sampler = HierarchicalSampler::new(&above, &above, config).unwrap();
    assert_eq!(sampler.steps_per_pass(), 118_264_581_564_861_424 * 4);
    let batches: BTreeSet<Vec<usize>> = (0..50).map(|s| sampler.batch(9, s * 1_000_003)).collect();
    assert_eq!(batches.len(), 50);
    assert!(
        batches
            .iter()
            .all(|b| b.iter().collect::<BTreeSet<_>>().len() == 30)
    );
    let many: Vec<u32> = (0..200).collect();
    let config = HierarchicalConfig {
        batch: 100,
        per_class: Some(1),
        super_classes: 100,
        ..config
    };
    assert!(
        HierarchicalSampler::new(&many, &many, config)
            .unwrap_err()
            .to_string()
            .contains("too many steps")
    );
}

#[test]
fn numbers_that_do_not_divide_are_refused() {
    let labels = [0, 0, 1, 1];
    let text = |config| {
        HierarchicalSampler::new(&labels, &labels, config)
            .unwrap_err()
            .to_string()
    };
    let base = HierarchicalConfig {
        batch: 4,
        per_class: Some(2),
        ..Default::default()
    };
    assert!(text(HierarchicalConfig { batch: 5, ..base }).contains("shared by 2"));
    assert!(
        text(HierarchicalConfig {
            per_class: Some(3),
            ..base
        })
        .contains("classes of 3")
    );
    assert!(
        text(HierarchicalConfig {
            per_class: Some(0),
            ..base
        })
        .contains("classes of 0")
    );
    assert!(
        text(HierarchicalConfig {
            super_classes: 0,
            ..base
        })
        .contains("at least one")
    );
    assert!(
        text(HierarchicalConfig {
            batch: 6,
            super_classes: 3,
            ..base
        })
        .contains("from 2 of them")
    );
    assert!(
        HierarchicalSampler::new(&labels, &[0], base)
            .unwrap_err()
            .to_string()
            .contains("4 class labels but 1")
    );
    assert!(
        ClassBalancedSampler::new(&[], 4).is_err() && ClassBalancedSampler::new(&[1], 0).is_err()
    );
    assert_eq!(
        PkConfig::m_per_class(4, 32).unwrap(),
        PkConfig {
            classes: 8,
            per_class: 4,
            short: ShortClass::Repeat
        }
    );
    for (m, batch) in [(0, 4), (3, 4), (4, 0)] {
        assert!(PkConfig::m_per_class(m, batch).is_err());
    }
}

#[test]
fn weighted_draws_follow_the_weights() {
    let weights = [0.0, 3.0, 1.0, 0.0, 4.0, 0.0];
    let drawn = weighted_draws(&weights, 40_000, Draw::new(3, 4)).unwrap();
    for (i, w) in weights.iter().enumerate() {
        let count = drawn.iter().filter(|&&d| d == i).count() as f64;
        let (mean, share) = (40_000.0 * w / 8.0, w / 8.0);
        assert!(
            (count - mean).abs() <= 5.0 * (mean * (1.0 - share)).sqrt(),
            "{i}: {count} {mean}"
        );
    }
    assert_eq!(
        drawn,
        weighted_draws(&weights, 40_000, Draw::new(3, 4)).unwrap()
    );
    for bad in [
        vec![],
        vec![0.0],
        vec![-1.0, 2.0],
        vec![f64::NAN],
        vec![f64::INFINITY],
    ] {
        assert!(weighted_draws(&bad, 1, Draw::default()).is_err());
    }
}

#[test]
fn weights_name_an_index_outside() {
    let mined = Mined::from(Triplets::from_iter([(0, 1, 5)]));
    assert!(
        mined
            .weights(5, false)
            .unwrap_err()
            .to_string()
            .contains("item 5")
    );
    assert_eq!(mined.weights(2, true).unwrap(), [1.0, 0.0]);
    assert_eq!(
        Mined::from(Pairs::default()).weights(3, false).unwrap(),
        [1.0; 3]
    );
}
