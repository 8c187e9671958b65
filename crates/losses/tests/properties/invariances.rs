//! What the losses must not see: order, place in the batch, translation, rotation, duplication.

use proptest::prelude::*;

use crate::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// Order within positives, within negatives and of the tuplets does not matter; nor does where in the batch an item sits.
    #[test]
    fn order_does_not_matter(seed in any::<u64>()) {
        use rand::{SeedableRng, seq::SliceRandom};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let e = random(10, 3, seed);
        let tuplets = Tuplets(vec![
            Tuplet { query: 0, positives: vec![1, 2, 3], negatives: vec![4, 5, 6] },
            Tuplet { query: 7, positives: vec![8], negatives: vec![9, 1, 0] },
        ]);
        let mut order: Vec<u32> = (0..10).collect();
        order.shuffle(&mut rng);
        // Item i of the first batch is item place[i] of the second.
        let mut place = [0u32; 10];
        for (new, &old) in (0u32..).zip(&order) {
            place[old as usize] = new;
        }
        let moved_e = e.index_select(&Tensor::new(order.clone(), &Device::Cpu).unwrap(), 0).unwrap();
        let mut moved: Vec<Tuplet> = tuplets.iter().map(|t| {
            let mut m = Tuplet {
                query: place[t.query as usize],
                positives: t.positives.iter().map(|&i| place[i as usize]).collect(),
                negatives: t.negatives.iter().map(|&i| place[i as usize]).collect(),
            };
            m.positives.shuffle(&mut rng);
            m.negatives.shuffle(&mut rng);
            m
        }).collect();
        moved.shuffle(&mut rng);
        let moved = Tuplets(moved);
        for (name, loss) in tuplet_losses(3) {
            let (a, ga) = run(&e, |e| loss(e, &tuplets));
            let (b, gb) = run(&moved_e, |e| loss(e, &moved));
            prop_assert!((a - b).abs() < 1e-12, "{}", name);
            for (i, &p) in place.iter().enumerate() {
                close(&ga[i * 3..i * 3 + 3], &gb[p as usize * 3..p as usize * 3 + 3], 1e-12);
            }
        }
    }

    /// Distances do not see a common translation or rotation; the gradient turns along.
    #[test]
    fn translation_and_rotation_do_not_matter(seed in any::<u64>(), angle in 0.0f64..6.3, shift in -2.0f64..2.0) {
        let e = random(7, 2, seed);
        let (s, c) = angle.sin_cos();
        let rotation = rows(&[vec![c, s], vec![-s, c]]);
        let moved = (e.matmul(&rotation).unwrap() + shift).unwrap();
        let t = one(0, &[1, 2], &[3, 4, 5, 6]);
        for (name, loss) in tuplet_losses(2) {
            if matches!(name, "fixed" | "coupled" | "n-pair distance" | "adaptive") {
                let (a, ga) = run(&e, |e| loss(e, &t));
                let (b, gb) = run(&moved, |e| loss(e, &t));
                prop_assert!((a - b).abs() < 1e-11, "{}", name);
                let turned = Tensor::from_vec(ga, (7, 2), &Device::Cpu).unwrap().matmul(&rotation).unwrap();
                close(&turned.flatten_all().unwrap().to_vec1::<f64>().unwrap(), &gb, 1e-11);
            }
        }
    }

    /// An item that appears twice in the batch under two indices counts like two items.
    #[test]
    fn duplicates_share_the_gradient(seed in any::<u64>()) {
        let e = random(5, 3, seed);
        let twice = e.index_select(&Tensor::new(&[0u32, 1, 2, 3, 4, 1], &Device::Cpu).unwrap(), 0).unwrap();
        for (name, loss) in tuplet_losses(3) {
            let first = Tuplets(vec![
                Tuplet { query: 0, positives: vec![1], negatives: vec![2, 3] },
                Tuplet { query: 4, positives: vec![2], negatives: vec![1] },
            ]);
            let mut second = first.clone();
            second.0[1].negatives = vec![5];
            let (a, ga) = run(&e, |e| loss(e, &first));
            let (b, gb) = run(&twice, |e| loss(e, &second));
            prop_assert!((a - b).abs() < 1e-13, "{}", name);
            let merged: Vec<f64> = (0..3).map(|k| gb[3 + k] + gb[15 + k]).collect();
            close(&ga[3..6], &merged, 1e-13);
        }
    }
}
