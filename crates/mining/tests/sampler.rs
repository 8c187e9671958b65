//! The identity-aware sampler, in-batch tuplets and P x K batches keep their promises on any labels.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use phiz_mining::*;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Every property a batch must have, whatever the labels.
fn check(batch: &TupletBatch, expression: &[u32], identity: &[u32], config: &TupletConfig) {
    let unique: BTreeSet<_> = batch.indices.iter().collect();
    assert_eq!(unique.len(), batch.indices.len(), "each image once");
    batch.tuplets.check(batch.indices.len()).unwrap();
    for t in &batch.tuplets {
        let e = |i: &u32| expression[batch.indices[*i as usize]];
        let a = |i: &u32| identity[batch.indices[*i as usize]];
        assert!(!t.positives.is_empty() && t.positives.len() <= config.candidates);
        assert!(!t.negatives.is_empty() && t.negatives.len() <= config.negatives);
        for list in [&t.positives, &t.negatives] {
            assert_eq!(
                list.iter().collect::<BTreeSet<_>>().len(),
                list.len(),
                "no item twice"
            );
        }
        for p in &t.positives {
            assert!(
                e(p) == e(&t.query) && a(p) != a(&t.query),
                "positive: same expression, other identity"
            );
        }
        for n in &t.negatives {
            assert_ne!(e(n), e(&t.query), "negative: other expression");
            if config.negative_source == NegativeSource::SameIdentity {
                assert_eq!(a(n), a(&t.query), "negative: same identity");
            }
        }
        if config.negative_source == NegativeSource::SameIdentity {
            // Spread: the counts over the query's other expressions differ by more than one only where one runs out.
            spread_evenly(
                &t.negatives,
                e,
                |i| identity[i] == a(&t.query) && expression[i] != e(&t.query),
                expression,
            );
        }
        spread_evenly(
            &t.positives,
            a,
            |i| expression[i] == e(&t.query) && identity[i] != a(&t.query),
            identity,
        );
    }
}

fn spread_evenly(
    chosen: &[u32],
    group: impl Fn(&u32) -> u32,
    valid: impl Fn(usize) -> bool,
    labels: &[u32],
) {
    let mut available = BTreeMap::<u32, usize>::new();
    for (i, &g) in labels.iter().enumerate() {
        if valid(i) {
            *available.entry(g).or_default() += 1;
        }
    }
    let mut used = BTreeMap::<u32, usize>::new();
    for c in chosen {
        *used.entry(group(c)).or_default() += 1;
    }
    let most = used.values().copied().max().unwrap_or(0);
    for (g, n) in available {
        let u = used.get(&g).copied().unwrap_or(0);
        assert!(
            u + 1 >= most || u == n,
            "group {g}: {u} of {n} used while another has {most}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn batches_obey_the_rules(
        items in prop::collection::vec((0u32..5, 0u32..6), 2..60),
        (n, m, k, t) in (1usize..5, 1usize..5, 1usize..8, 1usize..6),
        random in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (expression, identity): (Vec<u32>, Vec<u32>) = items.into_iter().unzip();
        let negative_source = if random { NegativeSource::Random } else { NegativeSource::SameIdentity };
        let config = TupletConfig { positives: n, negatives: m, candidates: k, tuplets_per_batch: t, negative_source, ..Default::default() };
        if let Ok(sampler) = TupletSampler::new(&expression, &identity, config) {
            for step in 0..3 {
                let batch = sampler.batch(seed, step);
                check(&batch, &expression, &identity, &config);
                prop_assert_eq!(batch.tuplets.len() + batch.without_negatives + batch.without_positives, t);
                prop_assert_eq!(&batch, &sampler.batch(seed, step));
            }
            check(&sampler.sample(&mut rng(seed)), &expression, &identity, &config);
        }
        let batch = in_batch_tuplets(&expression, &identity, &config, &mut rng(seed)).unwrap();
        check(&batch, &expression, &identity, &config);
        prop_assert!(batch.tuplets.len() == t
            || batch.tuplets.len() + batch.without_negatives + batch.without_positives == expression.len());
    }

    #[test]
    fn renaming_labels_changes_nothing(seed in any::<u64>()) {
        // An order-preserving renaming, since cells are walked in the order of their labels.
        let (e, a) = grid(5, 4, 2);
        let (e2, a2): (Vec<_>, Vec<_>) = e.iter().zip(&a).map(|(e, a)| (e * 7 + 3, a * 11 + 1)).unzip();
        let one = TupletSampler::new(&e, &a, TupletConfig::default()).unwrap().batch(seed, 5);
        prop_assert_eq!(one, TupletSampler::new(&e2, &a2, TupletConfig::default()).unwrap().batch(seed, 5));
    }
}

/// `each` images of every identity with every expression.
fn grid(identities: u32, expressions: u32, each: usize) -> (Vec<u32>, Vec<u32>) {
    let cells = (0..identities).flat_map(|a| (0..expressions).map(move |e| (e, a)));
    cells.flat_map(|c| std::iter::repeat_n(c, each)).unzip()
}

#[test]
fn every_cell_and_every_image_becomes_a_query() {
    let (e, a) = grid(6, 5, 3);
    let config = TupletConfig {
        tuplets_per_batch: 4,
        ..Default::default()
    };
    let sampler = TupletSampler::new(&e, &a, config).unwrap();
    assert_eq!((sampler.cells(), sampler.steps_per_pass()), (30, 8));
    let queries = |passes: std::ops::Range<u64>| -> Vec<usize> {
        (passes.start * 8..passes.end * 8)
            .flat_map(|step| {
                let b = sampler.batch(1, step);
                b.tuplets
                    .iter()
                    .map(|t| b.indices[t.query as usize])
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    for pass in 0..3 {
        let cells: BTreeSet<_> = queries(pass..pass + 1)
            .iter()
            .map(|&i| (e[i], a[i]))
            .collect();
        assert_eq!(cells.len(), 30, "pass {pass}");
    }
    assert_eq!(
        queries(0..3).into_iter().collect::<BTreeSet<_>>().len(),
        e.len()
    );
    assert_ne!(sampler.batch(1, 0), sampler.batch(2, 0));
    assert_ne!(sampler.batch(1, 0), sampler.batch(1, 8));
}

#[test]
fn lone_cells_are_counted_and_keep_their_image() {
    // Identity 2 shows one expression; expression 9 is shown by identity 0 only.
    let expression = [0, 1, 9, 0, 1, 0];
    let identity = [0, 0, 0, 1, 1, 2];
    let config = TupletConfig {
        tuplets_per_batch: 6,
        ..Default::default()
    };
    let batch = TupletSampler::new(&expression, &identity, config)
        .unwrap()
        .batch(3, 0);
    assert_eq!(
        (
            batch.without_negatives,
            batch.without_positives,
            batch.tuplets.len()
        ),
        (1, 1, 4)
    );
    assert!(batch.indices.contains(&5) && batch.indices.contains(&2));
}

#[test]
fn impossible_labels_are_refused_by_name() {
    let refuse = |e: &[u32], a: &[u32], config: TupletConfig| {
        TupletSampler::new(e, a, config).unwrap_err().to_string()
    };
    let c = TupletConfig::default();
    assert!(refuse(&[0, 1], &[0], c).contains("2 expression labels but 1 identity"));
    assert!(refuse(&[0, 1, 2], &[4, 4, 4], c).contains("two identities"));
    assert!(refuse(&[3, 3, 3], &[0, 1, 2], c).contains("two expressions"));
    assert!(refuse(&[], &[], c).contains("two identities"));
    assert!(refuse(&[0, 1, 2, 3], &[0, 0, 1, 1], c).contains("shown by two identities"));
    assert!(refuse(&[0, 0, 1], &[0, 1, 2], c).contains("identity with two expressions"));
    assert!(refuse(&[0, 1], &[0, 1], TupletConfig { candidates: 0, ..c }).contains("candidates"));
    let random = TupletConfig {
        negative_source: NegativeSource::Random,
        ..c
    };
    assert!(TupletSampler::new(&[0, 0, 1], &[0, 1, 2], random).is_ok());
}

#[test]
fn pk_batches_cover_classes_and_items() {
    // 7 classes of 1..=7 items.
    let labels: Vec<u32> = (0..7u32)
        .flat_map(|c| std::iter::repeat_n(c, c as usize + 1))
        .collect();
    let config = PkConfig {
        classes: 3,
        per_class: 3,
        short: ShortClass::Repeat,
    };
    let sampler = PkSampler::new(&labels, config).unwrap();
    assert_eq!((sampler.short_classes(), sampler.steps_per_pass()), (2, 3));
    let mut seen = BTreeSet::new();
    for pass in 0..3u64 {
        let mut classes = BTreeSet::new();
        for step in pass * 3..pass * 3 + 3 {
            let batch = sampler.batch(9, step);
            assert_eq!(batch, sampler.batch(9, step));
            assert_eq!(batch.len(), 9);
            let mut in_batch = BTreeSet::new();
            for items in batch.chunks(3) {
                let class = labels[items[0]];
                assert!(items.iter().all(|&i| labels[i] == class));
                assert!(in_batch.insert(class), "a class comes once a batch");
                let different = items.iter().collect::<BTreeSet<_>>().len();
                assert_eq!(different, (class as usize + 1).min(3));
                seen.extend(items.to_vec());
            }
            classes.extend(in_batch);
        }
        assert_eq!(classes.len(), 7);
    }
    assert_eq!(
        seen.len(),
        labels.len(),
        "ceil(7 / 3) = 3 passes use every item"
    );

    let skip = PkSampler::new(
        &labels,
        PkConfig {
            short: ShortClass::Skip,
            ..config
        },
    )
    .unwrap();
    assert!(
        (0..20)
            .flat_map(|s| skip.batch(0, s))
            .all(|i| labels[i] >= 2)
    );
    let few = PkSampler::new(
        &labels,
        PkConfig {
            classes: 8,
            ..config
        },
    )
    .unwrap_err()
    .to_string();
    assert!(few.contains("8 classes") && few.contains("7 classes"));
}

#[test]
fn n_pairs_take_one_pair_a_class() {
    let labels = [4, 4, 4, 1, 1, 8, 2, 2];
    let tuplets = n_pair_tuplets(&labels, &mut rng(0));
    tuplets.check(labels.len()).unwrap();
    assert_eq!(tuplets.len(), 3, "class 8 has no pair");
    for t in &tuplets {
        let label = |i: u32| labels[i as usize];
        assert_eq!(t.positives.len(), 1);
        assert_eq!(label(t.positives[0]), label(t.query));
        let others: BTreeSet<_> = t.negatives.iter().map(|&n| label(n)).collect();
        assert_eq!(others.len(), 2);
        assert!(!others.contains(&label(t.query)));
    }
    assert!(n_pair_tuplets(&[1, 1, 1], &mut rng(0)).is_empty());
    assert!(n_pair_tuplets(&[], &mut rng(0)).is_empty());
    let all: BTreeSet<_> = (0..60)
        .map(|s| n_pair_tuplets(&labels, &mut rng(s)).0[2].query)
        .collect();
    assert_eq!(all.len(), 3, "each of a class's items is a query sometimes");
}

#[test]
fn a_resumed_run_sees_the_same_batches() {
    let (e, a) = grid(7, 4, 2);
    let make = || TupletSampler::new(&e, &a, TupletConfig::default()).unwrap();
    let labels = PkSampler::new(
        &a,
        PkConfig {
            classes: 3,
            ..Default::default()
        },
    );
    let pk = labels.unwrap();
    let unbroken: Vec<_> = {
        let sampler = make();
        (0..12)
            .map(|step| (sampler.batch(5, step), pk.batch(5, step)))
            .collect()
    };
    // A new process builds the sampler anew and starts in the middle, in the middle of a pass.
    let sampler = make();
    for step in (6..12).rev() {
        assert_eq!(
            unbroken[step],
            (sampler.batch(5, step as u64), pk.batch(5, step as u64))
        );
    }
}
