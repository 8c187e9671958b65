//! What is promised of flawed collections: the stated shares, true labels beside wrong ones, one neutral head a person.

use phiz_synth::{
    ALL_EXPRESSIONS, ErrorKind, Factors, Flaws, SynthConfig, factors, head_mesh_of, render,
};

fn with(flaws: Flaws) -> SynthConfig {
    SynthConfig {
        identities: 120,
        flaws,
        ..SynthConfig::default()
    }
}

fn all(config: &SynthConfig) -> Vec<Factors> {
    (0..config.len())
        .map(|i| factors(config, i).expect("a sample of the set"))
        .collect()
}

/// Spearman's rank correlation, ties broken by order.
fn spearman(a: &[f32], b: &[f32]) -> f64 {
    let ranks = |v: &[f32]| {
        let mut order: Vec<usize> = (0..v.len()).collect();
        order.sort_by(|&i, &j| v[i].total_cmp(&v[j]));
        let mut out = vec![0.0; v.len()];
        for (rank, i) in order.into_iter().enumerate() {
            out[i] = rank as f64;
        }
        out
    };
    let (a, b) = (ranks(a), ranks(b));
    let n = a.len() as f64;
    let d: f64 = a.iter().zip(&b).map(|(x, y)| (x - y) * (x - y)).sum();
    1.0 - 6.0 * d / (n * (n * n - 1.0))
}

#[test]
fn wrong_labels_come_in_the_stated_share_with_the_truth_beside_them() {
    let config = with(Flaws {
        identity_noise: 0.2,
        expression_noise: 0.1,
        ..Flaws::default()
    });
    let clean = all(&with(Flaws::default()));
    let noisy = all(&config);
    let share = |wrong: usize| wrong as f64 / noisy.len() as f64;
    let people = noisy
        .iter()
        .filter(|f| f.identity != f.true_identity)
        .count();
    let shown = noisy
        .iter()
        .filter(|f| f.expression != f.true_expression)
        .count();
    assert!((share(people) - 0.2).abs() < 0.02 && (share(shown) - 0.1).abs() < 0.02);
    for (a, b) in clean.iter().zip(&noisy) {
        assert!(b.identity < 120 && b.expression < 7);
        assert_eq!(
            (a.identity, a.expression),
            (b.true_identity, b.true_expression)
        );
        assert_eq!((a.shape, a.actions, a.scene), (b.shape, b.actions, b.scene));
    }
}

#[test]
fn duplicates_repeat_earlier_takes() {
    let config = with(Flaws {
        duplicates: 0.5,
        ..Flaws::default()
    });
    let drawn = all(&config);
    let later: Vec<_> = drawn
        .iter()
        .enumerate()
        .filter(|(_, f)| f.take > 0)
        .collect();
    let copies: Vec<_> = later.iter().filter(|(_, f)| f.copy_of != f.take).collect();
    assert!((copies.len() as f64 / later.len() as f64 - 0.5).abs() < 0.03);
    for (i, copy) in copies {
        let first = drawn[i - (copy.take - copy.copy_of) as usize];
        assert_eq!(
            (first.shape, first.actions, first.scene),
            (copy.shape, copy.actions, copy.scene)
        );
        assert_ne!(first.noise_seed, copy.noise_seed);
        assert_eq!(first.copy_of, first.take);
    }
}

#[test]
fn imbalance_thins_out_later_expressions() {
    let config = SynthConfig {
        per_expression: 8,
        contempt: true,
        ..with(Flaws {
            imbalance: 0.5,
            ..Flaws::default()
        })
    };
    let mut counts = [0; ALL_EXPRESSIONS.len()];
    let mut places = std::collections::BTreeSet::new();
    for index in 0..config.len() {
        let place = config.place(index).unwrap();
        counts[place.expression as usize] += 1;
        assert!(places.insert((place.person, place.expression, place.take)));
    }
    assert_eq!(counts.map(|c| c / 120), [8, 4, 2, 1, 1, 1, 1, 1]);
    // What is left looks as it did.
    let whole = SynthConfig {
        flaws: Flaws::default(),
        ..config
    };
    assert_eq!(
        render(&config, 19 + 9).unwrap().image,
        render(&whole, 64 + 8 + 1).unwrap().image
    );
}

#[test]
fn correlations_have_the_stated_strength_and_leave_distributions_alone() {
    let clean = all(&with(Flaws::default()));
    for (cause, effect, strength) in [
        ("melanin", "background_light", 0.8),
        ("yaw", "light_azimuth", -0.6),
        ("age", "warmth", 0.4),
        ("sex", "hair_length", -0.9),
    ] {
        let config = with(Flaws {
            correlation: strength,
            cause: Some(cause.parse().unwrap()),
            effect: Some(effect.parse().unwrap()),
            ..Flaws::default()
        });
        let drawn = all(&config);
        let column = |set: &[Factors], name: &str| -> Vec<f32> {
            set.iter()
                .map(|f| f.values().into_iter().find(|v| v.0 == name).unwrap().1)
                .collect()
        };
        let r = spearman(&column(&drawn, cause), &column(&drawn, effect));
        assert!(
            (r - f64::from(strength)).abs() < 0.12,
            "{cause} {effect}: {r}"
        );
        let mean = |v: &[f32]| v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64;
        let (a, b) = (column(&clean, effect), column(&drawn, effect));
        let sd = a
            .iter()
            .map(|&x| (f64::from(x) - mean(&a)).powi(2))
            .sum::<f64>()
            / a.len() as f64;
        let slack = if effect == "hair_length" { 0.25 } else { 0.12 };
        assert!((mean(&a) - mean(&b)).abs() < slack * sd.sqrt(), "{effect}");
        assert_eq!(column(&clean, cause), column(&drawn, cause));
        // One person, one head.
        for person in [0, 50] {
            let neutral = |i: usize| {
                head_mesh_of(&Factors {
                    actions: Default::default(),
                    ..drawn[person * 28 + i]
                })
                .unwrap()
                .canonical
            };
            assert_eq!(neutral(0), neutral(27), "{effect}");
        }
    }
}

#[test]
fn classes_can_lead() {
    let config = with(Flaws {
        correlation: 1.0,
        cause: Some("expression".parse().unwrap()),
        effect: Some("background_hue".parse().unwrap()),
        ..Flaws::default()
    });
    let drawn = all(&config);
    let mean = |expression: u32| {
        let hues: Vec<f32> = drawn
            .iter()
            .filter(|f| f.expression == expression)
            .map(|f| f.scene.background_hue)
            .collect();
        hues.iter().sum::<f32>() / hues.len() as f32
    };
    assert!(mean(0) < 0.15 && mean(6) > 0.85);
    let worn = with(Flaws {
        correlation: 1.0,
        cause: Some("expression".parse().unwrap()),
        effect: Some("glasses".parse().unwrap()),
        ..Flaws::default()
    });
    for f in all(&worn) {
        assert_eq!(f.states.disguise, u32::from(f.scene.glasses >= 0.5));
    }
}

#[test]
fn a_mixture_shows_a_second_expression() {
    let plain = with(Flaws::default());
    let mixed = SynthConfig {
        mixture: 1.0,
        ..plain
    };
    let sum = |f: &Factors| f.actions.intensities().iter().sum::<f32>();
    let (a, b) = (all(&plain), all(&mixed));
    let more = a
        .iter()
        .zip(&b)
        .filter(|(a, b)| sum(b) > sum(a) + 0.05)
        .count();
    assert!(more * 10 > a.len() * 7, "{more}");
    assert!(
        a.iter()
            .zip(&b)
            .all(|(a, b)| (a.expression, a.scene, a.shape) == (b.expression, b.scene, b.shape))
    );
}

#[test]
fn contempt_comes_last_and_is_one_sided() {
    let config = SynthConfig {
        contempt: true,
        ..with(Flaws::default())
    };
    assert_eq!(config.len(), 120 * 8 * 4);
    let f = factors(&config, 7 * 4 + 2).unwrap();
    assert_eq!(ALL_EXPRESSIONS[f.expression as usize], "contempt");
    assert!(f.lateral.abs() >= 0.75 && f.actions.au14 > 0.1);
}

#[test]
fn contradictions_are_refused_by_name() {
    let name = |text: &str| Some(text.parse().unwrap());
    let base = Flaws::default();
    for (flaws, words) in [
        (
            Flaws {
                imbalance: 0.99,
                ..base
            },
            "imbalance",
        ),
        (
            Flaws {
                duplicates: f32::NAN,
                ..base
            },
            "duplicates",
        ),
        (
            Flaws {
                correlation: -1.5,
                ..base
            },
            "correlation",
        ),
        (
            Flaws {
                correlation: 0.5,
                ..base
            },
            "name two factors",
        ),
        (
            Flaws {
                cause: name("yaw"),
                ..base
            },
            "cause without an effect",
        ),
        (
            Flaws {
                effect: name("yaw"),
                ..base
            },
            "effect without a cause",
        ),
        (
            Flaws {
                cause: name("yaw"),
                effect: name("yaw"),
                ..base
            },
            "both yaw",
        ),
        (
            Flaws {
                cause: name("yaw"),
                effect: name("age"),
                ..base
            },
            "belongs to the person",
        ),
        (
            Flaws {
                cause: name("yaw"),
                effect: name("mask"),
                ..base
            },
            "tied to a class",
        ),
        (
            Flaws {
                cause: name("yaw"),
                effect: name("expression"),
                ..base
            },
            "tied to a class",
        ),
    ] {
        let line = with(flaws).validate().unwrap_err().to_string();
        assert!(line.contains(words) && !line.contains('\n'), "{line}");
    }
    let lit = SynthConfig {
        lighting: 0.5,
        ..with(Flaws {
            correlation: 0.5,
            cause: name("melanin"),
            effect: name("light_strength"),
            ..base
        })
    };
    assert!(matches!(
        lit.validate().unwrap_err().kind(),
        ErrorKind::Conflict { .. }
    ));
    let unknown = "no_such".parse::<phiz_synth::FactorName>().unwrap_err();
    assert!(matches!(unknown.kind(), ErrorKind::NoSuchFactor { .. }));
}
