//! What is promised of rendered faces: the same bytes everywhere, changes where they belong, true labels.

use phiz_synth::{
    Actions, DISGUISES, EXPRESSIONS, ErrorKind, Factors, Flaws, Image, LIGHTS, MAKEUP, OCCLUSIONS,
    SynthConfig, factors, grid, render, render_factors, textbook,
};

/// Sharp, noiseless faces from the front in one light.
fn plain() -> SynthConfig {
    SynthConfig {
        pose: 0.0,
        light: 0.0,
        noise: 0.0,
        blur: 0.0,
        jitter: 0.0,
        glasses: 0.0,
        background: 0.0,
        ..SynthConfig::default()
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Mean absolute difference over a band of rows given in parts of the side.
fn difference(a: &Image, b: &Image, rows: std::ops::Range<f32>) -> f64 {
    let side = a.height as f32;
    let (from, to) = ((rows.start * side) as usize, (rows.end * side) as usize);
    let row = a.width * a.channels;
    let (a, b) = (
        &a.pixels[from * row..to * row],
        &b.pixels[from * row..to * row],
    );
    a.iter()
        .zip(b)
        .map(|(&p, &q)| f64::from(p.abs_diff(q)))
        .sum::<f64>()
        / a.len() as f64
}

#[test]
fn checksums_are_pinned() {
    let config = SynthConfig::default();
    let small = SynthConfig {
        size: 24,
        glasses: 1.0,
        ..config
    };
    let large = SynthConfig {
        size: 112,
        seed: 7,
        first_identity: 500,
        ..config
    };
    let found: Vec<u64> = [(config, 0), (config, 999), (small, 30), (large, 1234)]
        .iter()
        .map(|(config, index)| fnv(&render(config, *index).unwrap().image.pixels))
        .collect();
    assert_eq!(found, GOLDEN, "found {found:#018x?}");
}

/// Change these only when the faces are meant to change.
const GOLDEN: [u64; 4] = [
    0x6b58_e98c_ad23_8320,
    0x73b1_546c_3f70_108f,
    0xdacf_35ef_595a_f502,
    0x61e8_9f1e_35ca_d69b,
];

#[test]
fn bytes_do_not_depend_on_threads_or_history() {
    let config = SynthConfig {
        glasses: 0.5,
        ..SynthConfig::default()
    };
    let forward: Vec<_> = (0..40).map(|i| render(&config, i * 31).unwrap()).collect();
    let backward: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|t| {
                scope.spawn(move || {
                    (0..40)
                        .rev()
                        .filter(|i| i % 4 == t)
                        .map(|i| (i, render(&config, i * 31).unwrap()))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    assert_eq!(backward.len(), 40);
    for (i, face) in backward {
        assert!(face == forward[i], "sample {i}");
    }
}

#[test]
fn later_takes_are_other_images_of_the_same_people() {
    let whole = SynthConfig {
        per_expression: 5,
        ..SynthConfig::default()
    };
    let later = SynthConfig {
        per_expression: 2,
        first_take: 3,
        ..whole
    };
    for (person, expression, take) in [(0, 0, 0), (3, 2, 1), (9, 6, 1)] {
        let at = |c: &SynthConfig, take| (person * 7 + expression) * c.per_expression + take;
        let a = factors(&whole, at(&whole, 3 + take)).unwrap();
        assert_eq!(a, factors(&later, at(&later, take)).unwrap());
        assert_eq!(a.take as usize, 3 + take);
    }
    // A copy is of a take of the same set.
    let copied = SynthConfig {
        per_expression: 6,
        first_take: 40,
        flaws: Flaws {
            duplicates: 0.9,
            ..Flaws::default()
        },
        ..whole
    };
    let sources: Vec<u32> = (0..200)
        .map(|i| factors(&copied, i).unwrap().copy_of)
        .collect();
    assert!(sources.iter().all(|take| (40..46).contains(take)));
    assert!(sources.iter().filter(|&&take| take == 40).count() > 60);
}

#[test]
fn a_larger_set_contains_the_smaller() {
    let small = SynthConfig {
        identities: 3,
        per_expression: 2,
        ..SynthConfig::default()
    };
    let large = SynthConfig {
        identities: 9,
        per_expression: 5,
        ..small
    };
    let offset = SynthConfig {
        first_identity: 2,
        identities: 1,
        ..small
    };
    let at = |c: &SynthConfig, identity: usize, expression: usize, take: usize| {
        render(c, (identity * 7 + expression) * c.per_expression + take).unwrap()
    };
    assert!(at(&small, 2, 4, 1) == at(&large, 2, 4, 1));
    let (a, b) = (at(&small, 2, 4, 1), at(&offset, 0, 4, 1));
    assert!(a.image == b.image);
    assert_eq!((a.factors.identity, b.factors.identity), (2, 0));
}

#[test]
fn places_run_identity_expression_take() {
    let config = SynthConfig {
        identities: 3,
        per_expression: 2,
        first_identity: 10,
        ..SynthConfig::default()
    };
    assert_eq!(config.len(), 42);
    let place = config.place(14 + 2 * 4 + 1).unwrap();
    assert_eq!(
        (place.identity, place.person, place.expression, place.take),
        (1, 11, 4, 1)
    );
    let error = config.place(42).unwrap_err();
    assert_eq!(
        error.kind(),
        &ErrorKind::NoSuchSample { index: 42, len: 42 }
    );
}

#[test]
fn happiness_changes_the_mouth_more_than_the_forehead() {
    for person in 0..8 {
        let who = factors(&plain(), person * 28).unwrap();
        let draw = |expression| {
            let face = Factors {
                actions: textbook(expression, 1.0),
                ..who
            };
            render_factors(&face, 64).unwrap().image
        };
        let (neutral, happy, surprised) = (draw(0), draw(4), draw(6));
        let mouth = difference(&neutral, &happy, 0.62..0.85);
        let forehead = difference(&neutral, &happy, 0.15..0.35);
        assert!(
            mouth > 3.0 * forehead + 1.0,
            "person {person}: {mouth} against {forehead}"
        );
        let brows = difference(&neutral, &surprised, 0.25..0.45);
        assert!(
            brows > 2.0 * difference(&neutral, &happy, 0.25..0.40),
            "person {person}: {brows}"
        );
    }
}

#[test]
fn expressions_and_people_all_differ() {
    let config = plain();
    let neutral = |person: usize| factors(&config, person * 28).unwrap();
    let mut images = Vec::new();
    for person in 0..6 {
        for expression in 0..EXPRESSIONS.len() {
            let face = Factors {
                actions: textbook(expression, 1.0),
                ..neutral(person)
            };
            images.push(render_factors(&face, 64).unwrap().image);
        }
    }
    for (i, a) in images.iter().enumerate() {
        for (j, b) in images.iter().enumerate().skip(i + 1) {
            assert!(
                difference(a, b, 0.0..1.0) > 0.4,
                "faces {i} and {j} look the same"
            );
        }
    }
}

#[test]
fn strength_zero_means_no_difference() {
    let config = SynthConfig {
        identity_strength: 0.0,
        expression_strength: 0.0,
        ..plain()
    };
    let first = render(&config, 0).unwrap();
    let other = render(&config, 1000).unwrap();
    assert_eq!(first.factors.shape, other.factors.shape);
    assert_eq!(first.factors.colours, other.factors.colours);
    assert_eq!(other.factors.actions, Actions::default());
    assert!(first.image == other.image);
}

#[test]
fn factors_have_the_stated_statistics() {
    let config = SynthConfig {
        identities: 2000,
        per_expression: 1,
        ..SynthConfig::default()
    };
    let people: Vec<_> = (0..2000)
        .map(|i| factors(&config, i * 7 + i % 7).unwrap())
        .collect();
    let names: Vec<_> = people[0].values().iter().map(|v| v.0).collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "names are unique");
    let column = |name: &str| -> Vec<f64> {
        let at = names.iter().position(|n| *n == name).unwrap();
        people.iter().map(|f| f64::from(f.values()[at].1)).collect()
    };
    let moments = |name: &str| {
        let c = column(name);
        let mean = c.iter().sum::<f64>() / c.len() as f64;
        let sd = (c.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / c.len() as f64).sqrt();
        (mean, sd)
    };
    for (name, mean, sd) in [
        ("face_width", 0.0, 0.98),
        ("brow_height", 0.0, 0.98),
        ("age", 0.0, 0.98),
        ("gain12", 1.0, 0.3),
        ("yaw", 0.0, 10.8),
        ("pitch", 0.0, 6.9),
        ("zoom", 1.0, 0.04),
        ("glasses", 0.1, 0.3),
        ("melanin", 0.5, 0.289),
        ("peak", 0.675, 0.188),
    ] {
        let (m, s) = moments(name);
        assert!(
            (m - mean).abs() < 0.12 * sd,
            "{name}: mean {m}, expected {mean}"
        );
        assert!((s - sd).abs() < 0.08 * sd, "{name}: sd {s}, expected {sd}");
    }
    for face in &people {
        for (unit, intensity) in Actions::UNITS.iter().zip(face.actions.intensities()) {
            assert!((0.0..=1.5).contains(&intensity), "AU{unit}: {intensity}");
        }
    }
    // Shape factors are independent of each other.
    let (a, b) = (column("mouth_width"), column("face_width"));
    let r = a.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>() / a.len() as f64;
    assert!(r.abs() < 0.1, "correlation {r}");
}

#[test]
fn pupils_lie_on_dark_irises_under_any_pose() {
    let config = SynthConfig {
        pose: 1.0,
        jitter: 1.0,
        expression_strength: 0.0,
        identity_strength: 0.5,
        ..plain()
    };
    let mut dark = 0;
    let mut all = 0;
    for index in 0..120 {
        let face = render(
            &SynthConfig {
                size: 112,
                ..config
            },
            index * 13,
        )
        .unwrap();
        let image = &face.image;
        let grey = |x: f32, y: f32| -> f32 {
            image
                .pixel((x + 0.5) as usize, (y + 0.5) as usize)
                .map_or(255.0, |p| {
                    p.iter().map(|&v| f32::from(v)).sum::<f32>() / 3.0
                })
        };
        for [x, y] in &face.landmarks[..2] {
            // Darker than the skin of the cheek below, by far.
            all += 1;
            dark += usize::from(grey(*x, *y) < 0.62 * grey(*x, *y + 20.0));
        }
    }
    assert!(dark * 100 >= all * 97, "{dark} of {all} pupils are dark");
}

#[test]
fn mouth_corners_bound_the_lips() {
    // With the mouth wide open, its dark inside lies between the corners and on no other part of their line.
    let mut face = Factors {
        actions: textbook(6, 1.0),
        ..Factors::default()
    };
    face.scene.yaw = 15.0;
    face.scene.roll = 8.0;
    let drawn = render_factors(&face, 224).unwrap();
    let [.., left, right] = drawn.landmarks;
    let grey = |t: f32| {
        let (x, y) = (
            left[0] + t * (right[0] - left[0]),
            left[1] + t * (right[1] - left[1]),
        );
        let pixel = drawn
            .image
            .pixel((x + 0.5) as usize, (y + 4.5) as usize)
            .unwrap();
        pixel.iter().map(|&v| u32::from(v)).sum::<u32>() / 3
    };
    let (inside, beyond) = (grey(0.75), grey(1.45));
    assert!(left[0] < right[0]);
    assert!(beyond > inside + 25, "inside {inside}, beyond {beyond}");
}

#[test]
fn landmarks_lie_in_the_image_and_in_order() {
    for size in [24, 64, 112] {
        let config = SynthConfig {
            size,
            ..SynthConfig::default()
        };
        for index in (0..config.len()).step_by(29) {
            let [le, re, nose, lm, rm] = render(&config, index).unwrap().landmarks;
            for [x, y] in [le, re, nose, lm, rm] {
                assert!(x > 0.0 && y > 0.0 && x < size as f32 && y < size as f32);
            }
            assert!(le[0] < re[0] && lm[0] < rm[0], "sample {index}");
            assert!(
                nose[1] > le[1].min(re[1]) && nose[1] < lm[1].max(rm[1]),
                "sample {index}"
            );
        }
    }
}

#[test]
fn a_mirrored_head_has_mirrored_landmarks() {
    let mut face = Factors::default();
    face.scene.yaw = 20.0;
    face.scene.gaze_x = 0.5;
    face.shape.eye_tilt = 2.0;
    let turned = render_factors(&face, 64).unwrap().landmarks;
    face.scene.yaw = -20.0;
    face.scene.gaze_x = -0.5;
    let other = render_factors(&face, 64).unwrap().landmarks;
    for (a, b) in [(0, 1), (1, 0), (2, 2), (3, 4), (4, 3)] {
        assert!((turned[a][0] + other[b][0] - 63.0).abs() < 1e-3, "{a}");
        assert!((turned[a][1] - other[b][1]).abs() < 1e-3, "{a}");
    }
    // Positive yaw turns to the right of the image: the nose moves right of the middle of the eyes.
    assert!(turned[2][0] > 0.5 * (turned[0][0] + turned[1][0]));
}

#[test]
fn glasses_light_and_noise_change_the_image() {
    let base = render_factors(&Factors::default(), 64).unwrap().image;
    for (name, value) in [
        ("glasses", 1.0),
        ("light_azimuth", 60.0),
        ("noise", 5.0),
        ("blur", 0.9),
        ("melanin", 0.9),
        ("yaw", 20.0),
        ("background_light", 0.1),
        ("beard", 2.5),
        ("hair_length", 1.0),
    ] {
        let mut face = Factors::default();
        face.set(name, value).unwrap();
        let image = render_factors(&face, 64).unwrap().image;
        assert!(
            difference(&base, &image, 0.0..1.0) > 0.5,
            "{name} changes nothing"
        );
    }
}

#[test]
fn every_factor_of_person_and_expression_reaches_the_pixels() {
    let mut sad = Factors::default();
    // Lips apart, and a visible beard, so that the jaw's and the lower lip's units show.
    sad.set("au25", 0.8).unwrap();
    let base = render_factors(&sad, 64).unwrap().image;
    for (name, value) in sad.values() {
        // One-sidedness moves what pulls at the corners of the mouth, and nothing does here.
        let skip = ["peak", "lateral"].contains(&name) || name.starts_with("gain");
        let hidden = [
            "glasses_shape",
            "glasses_tone",
            "background_hue",
            "hair_grey",
            "clothes_hue",
            "lipstick_tone",
            "eye_shadow_hue",
            "ambient_hue",
            "disguise_hue",
            "disguise_tone",
            "texture_kind",
            "texture_scale",
            "texture_turn",
            "occluder_x",
            "occluder_y",
            "occluder_turn",
            "occluder_size",
            "occluder_hue",
        ];
        if skip || hidden.contains(&name) {
            continue;
        }
        let mut face = sad;
        let change = if name.starts_with("light_") || ["yaw", "pitch", "roll"].contains(&name) {
            value + 20.0
        } else if name == "light_strength" || name == "ambient" || name == "zoom" {
            value * 1.3
        } else if name == "beard" || name == "hair_length" {
            2.0
        } else if name == "resolution" {
            0.5
        } else if name == "jpeg" {
            20.0
        } else {
            value + 0.5
        };
        face.set(name, change).unwrap();
        assert!(render_factors(&face, 64).unwrap().image != base, "{name}");
    }
}

#[test]
fn shares_switch_looks_on_and_move_nothing_else() {
    let plain = SynthConfig {
        identities: 40,
        per_expression: 3,
        ..SynthConfig::default()
    };
    let all = SynthConfig {
        makeup: 0.6,
        disguise: 0.6,
        lighting: 0.6,
        occlusion: 0.6,
        ..plain
    };
    let (mut makeup, mut disguise, mut light) = ([0; 3], [0; 7], [0; 8]);
    let mut occlusion = [0; 3];
    for index in 0..all.len() {
        let (a, b) = (
            factors(&plain, index).unwrap(),
            factors(&all, index).unwrap(),
        );
        assert_eq!(
            (a.shape, a.colours, a.actions),
            (b.shape, b.colours, b.actions)
        );
        assert_eq!((a.scene.yaw, a.noise_seed), (b.scene.yaw, b.noise_seed));
        assert_eq!((a.states.makeup, a.states.light), (0, 0));
        assert_eq!(a.states.disguise == 1, a.scene.glasses == 1.0);
        if b.states.light == 0 {
            assert_eq!((a.surround, a.scene.ambient), (b.surround, b.scene.ambient));
        }
        assert_eq!(b.states.makeup == 0, b.makeup == a.makeup);
        makeup[b.states.makeup as usize] += 1;
        disguise[b.states.disguise as usize] += 1;
        light[b.states.light as usize] += 1;
        occlusion[b.states.occlusion as usize] += 1;
        assert_eq!((a.skin, a.texture), (b.skin, b.texture));
    }
    let n = all.len() as f64;
    for (counts, classes) in [
        (&makeup[..], &MAKEUP[..]),
        (&disguise, &DISGUISES),
        (&light, &LIGHTS),
        (&occlusion, &OCCLUSIONS),
    ] {
        assert_eq!(counts.len(), classes.len());
        let others = (counts.len() - 1) as f64;
        // Among the disguises, glasses come from their own share as well.
        for (k, &count) in counts
            .iter()
            .enumerate()
            .filter(|(k, _)| counts.len() != 7 || *k > 1)
        {
            let (found, want) = (
                f64::from(count) / n,
                if k == 0 { 0.4 } else { 0.6 / others },
            );
            assert!(
                (found - want).abs() < 0.06,
                "{}: {found}, expected {want}",
                classes[k]
            );
        }
    }
}

#[test]
fn a_nose_casts_a_shadow_away_from_the_lamp() {
    let mut face = Factors::default();
    face.scene.light_elevation = 20.0;
    face.scene.ambient = 0.2;
    face.scene.light_strength = 1.0;
    let beside = |azimuth: f32, side: f32| {
        let mut face = face;
        face.scene.light_azimuth = azimuth;
        let drawn = render_factors(&face, 224).unwrap();
        let [_, _, nose, ..] = drawn.landmarks;
        let at = |dy: f32| {
            let (x, y) = (nose[0] + side * 14.0, nose[1] + dy);
            f32::from(drawn.image.pixel(x as usize, y as usize).unwrap()[0])
        };
        (at(0.0) + at(4.0) + at(8.0)) / 3.0
    };
    // The lamp on the left darkens the cheek on the right of the nose, and the other way round.
    assert!(beside(-60.0, 1.0) + 20.0 < beside(60.0, 1.0));
    assert!(beside(60.0, -1.0) + 20.0 < beside(-60.0, -1.0));
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let good = SynthConfig::default();
    for (config, field) in [
        (SynthConfig { size: 23, ..good }, "size"),
        (
            SynthConfig {
                size: 100_000,
                ..good
            },
            "size",
        ),
        (
            SynthConfig {
                identities: 0,
                ..good
            },
            "identities",
        ),
        (
            SynthConfig {
                identities: usize::MAX,
                ..good
            },
            "identities",
        ),
        (
            SynthConfig {
                first_take: u32::MAX,
                ..good
            },
            "first_take",
        ),
        (
            SynthConfig {
                per_expression: 0,
                ..good
            },
            "per_expression",
        ),
        (
            SynthConfig {
                pose: f32::NAN,
                ..good
            },
            "pose",
        ),
        (
            SynthConfig {
                noise: -1.0,
                ..good
            },
            "noise",
        ),
        (
            SynthConfig {
                glasses: 1.5,
                ..good
            },
            "glasses",
        ),
        (
            SynthConfig {
                first_identity: u32::MAX,
                ..good
            },
            "identities",
        ),
    ] {
        let error = config.validate().unwrap_err();
        let text = error.to_string();
        assert!(text.contains(field) && !text.contains('\n'), "{text}");
        assert!(render(&config, 0).is_err());
        assert!(config.is_empty());
    }
    let mut face = Factors::default();
    assert!(matches!(
        face.set("no_such", 1.0).unwrap_err().kind(),
        ErrorKind::NoSuchFactor { .. }
    ));
    assert!(face.set("yaw", f32::INFINITY).is_err());
    face.scene.yaw = f32::NAN;
    assert!(render_factors(&face, 64).is_err());
    // Absurd but finite factors must not panic.
    for name in Factors::default().values().iter().map(|v| v.0) {
        for value in [-1e30, -50.0, 50.0, 1e30] {
            let mut face = Factors::default();
            face.set(name, value).unwrap();
            let _ = render_factors(&face, 24).unwrap();
        }
    }
}

#[test]
fn sheets_place_their_images() {
    let tile = |v: u8| Image::new(3, 2, 1, vec![v; 6]).unwrap();
    let sheet = grid(&[tile(1), tile(2), tile(3)], 2).unwrap();
    assert_eq!((sheet.width, sheet.height), (12, 10));
    assert_eq!(sheet.pixel(2, 2), Some(&[1][..]));
    assert_eq!(sheet.pixel(7, 3), Some(&[2][..]));
    assert_eq!(sheet.pixel(4, 7), Some(&[3][..]));
    assert_eq!(sheet.pixel(8, 7), Some(&[255][..]));
    assert_eq!(sheet.pixel(12, 0), None);
    assert!(grid(&[], 2).is_err());
    assert!(grid(&[tile(1)], 0).is_err());
    let other = Image::new(2, 2, 1, vec![0; 4]).unwrap();
    let error = grid(&[tile(1), other], 2).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::MixedImages { position: 1 });
    assert!(Image::new(2, 2, 3, vec![0; 11]).is_err());
    assert!(Image::new(0, 2, 3, vec![]).is_err());
    assert!(Image::new(usize::MAX, 2, 3, vec![]).is_err());
}
