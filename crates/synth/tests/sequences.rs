//! What is promised of sequences: smooth, each frame a function of its number, redundancy that can be turned up.

use phiz_synth::{
    Actions, Factors, Frame, Phase, Scene, SynthConfig, VideoConfig, render_frame, video_frame,
};

fn config() -> VideoConfig {
    VideoConfig {
        sequences: 40,
        frames: 120,
        faces: SynthConfig {
            identities: 10,
            ..SynthConfig::default()
        },
        ..VideoConfig::default()
    }
}

#[test]
fn frames_depend_on_their_number_alone() {
    let long = config();
    let short = VideoConfig {
        frames: 30,
        sequences: 5,
        ..long
    };
    for (s, i) in [(0, 0), (4, 29), (3, 7)] {
        assert_eq!(
            video_frame(&long, s, i).unwrap(),
            video_frame(&short, s, i).unwrap()
        );
    }
    let (a, b) = (
        render_frame(&long, 4, 20).unwrap(),
        render_frame(&short, 4, 20).unwrap(),
    );
    assert_eq!(a, b);
    // The same moment at twice the rate.
    let fast = VideoConfig { rate: 50.0, ..long };
    let (a, b) = (
        video_frame(&long, 2, 11).unwrap(),
        video_frame(&fast, 2, 22).unwrap(),
    );
    assert_eq!(
        (a.level, a.factors.scene.yaw),
        (b.level, b.factors.scene.yaw)
    );
}

#[test]
fn motion_is_smooth() {
    let config = VideoConfig {
        rate: 200.0,
        frames: 1000,
        ..config()
    };
    for sequence in 0..12 {
        let frames: Vec<_> = (0..1000)
            .map(|i| video_frame(&config, sequence, i).unwrap())
            .collect();
        for pair in frames.windows(2) {
            let (a, b) = (&pair[0].factors, &pair[1].factors);
            for ((x, y), unit) in a
                .actions
                .intensities()
                .iter()
                .zip(b.actions.intensities())
                .zip(1..)
            {
                // A blink takes 0.1 s: at 200 frames a second at most a tenth a frame.
                assert!((x - y).abs() < 0.12, "unit {unit}: {x} to {y}");
            }
            assert!((a.scene.yaw - b.scene.yaw).abs() < 0.8);
            assert!((a.scene.light_azimuth - b.scene.light_azimuth).abs() < 0.5);
            assert_eq!((a.shape, a.colours), (b.shape, b.colours));
        }
    }
}

#[test]
fn an_expression_comes_and_goes() {
    let config = VideoConfig {
        talking: 0.0,
        frames: 200,
        ..config()
    };
    for sequence in 0..20 {
        let frames: Vec<_> = (0..200)
            .map(|i| video_frame(&config, sequence, i).unwrap())
            .collect();
        assert_eq!(frames[0].phase, Phase::Neutral);
        let mut order = vec![];
        for f in &frames {
            if order.last() != Some(&f.phase) {
                order.push(f.phase);
            }
            match f.phase {
                Phase::Neutral => assert_eq!(f.level, 0.0),
                Phase::Apex => assert_eq!(f.level, 1.0),
                _ => assert!((0.0..=1.0).contains(&f.level)),
            }
        }
        assert_eq!(
            order[..4],
            [Phase::Neutral, Phase::Onset, Phase::Apex, Phase::Offset]
        );
        // Without the lids, which blink at any time.
        let shown = |phase| {
            let of: Vec<f32> = frames
                .iter()
                .filter(|f| f.phase == phase)
                .map(|f| f.factors.actions.intensities()[..18].iter().sum())
                .collect();
            of.iter().sum::<f32>() / of.len() as f32
        };
        assert!(shown(Phase::Apex) > shown(Phase::Neutral) + 0.1);
    }
}

#[test]
fn people_talk_in_the_stated_share_and_blink() {
    let config = VideoConfig {
        sequences: 400,
        frames: 150,
        talking: 0.3,
        ..config()
    };
    let talking = (0..400)
        .filter(|&s| video_frame(&config, s, 0).unwrap().talks)
        .count();
    assert!((90..150).contains(&talking), "{talking}");
    let spread = |sequence: usize| {
        let jaw: Vec<f32> = (0..150)
            .map(|i| {
                video_frame(&config, sequence, i)
                    .unwrap()
                    .factors
                    .actions
                    .au26
            })
            .collect();
        jaw.windows(2).map(|p| (p[0] - p[1]).abs()).sum::<f32>()
    };
    let (mut loud, mut quiet) = (Vec::new(), Vec::new());
    for s in 0..40 {
        if video_frame(&config, s, 0).unwrap().talks {
            loud.push(spread(s));
        } else {
            quiet.push(spread(s));
        }
    }
    let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
    assert!(
        mean(&loud) > 2.0 * mean(&quiet),
        "{} {}",
        mean(&loud),
        mean(&quiet)
    );
    let blinks = (0..20)
        .filter(|&s| {
            (0..150).any(|i| video_frame(&config, s, i).unwrap().factors.actions.au43 > 0.8)
        })
        .count();
    assert!(blinks > 14, "{blinks}");
}

#[test]
fn a_lead_sets_clocks_ahead_and_changes_nothing_else() {
    let config = VideoConfig {
        lead: 3.0,
        ..config()
    };
    let first: Vec<_> = (0..40)
        .map(|s| video_frame(&config, s, 0).unwrap())
        .collect();
    assert!(first.iter().all(|f| (0.0..3.0).contains(&f.time)));
    for phase in [Phase::Neutral, Phase::Onset, Phase::Apex, Phase::Offset] {
        assert!(first.iter().any(|f| f.phase == phase), "{phase:?}");
    }
    // All that lasts is the same: who, which expression, how lit, whether they talk.
    let lasting = |f: &Frame| Factors {
        actions: Actions::default(),
        scene: Scene::default(),
        ..f.factors
    };
    for (s, ahead) in first.iter().enumerate() {
        let plain = video_frame(&self::config(), s, 0).unwrap();
        assert_eq!(lasting(&plain), lasting(ahead), "sequence {s}");
        assert_eq!(plain.talks, ahead.talks, "sequence {s}");
    }
}

#[test]
fn redundancy_slows_time_down_to_a_still() {
    let change = |redundancy: f32| {
        let config = VideoConfig {
            redundancy,
            ..config()
        };
        (0..10)
            .map(|s| {
                let yaw = |i| video_frame(&config, s, i).unwrap().factors.scene.yaw;
                (yaw(0) - yaw(10)).abs()
            })
            .sum::<f32>()
    };
    assert!(change(0.0) > 2.0 * change(0.8));
    assert_eq!(change(1.0), 0.0);
    let still = VideoConfig {
        redundancy: 1.0,
        ..config()
    };
    let (a, b) = (
        video_frame(&still, 3, 0).unwrap(),
        video_frame(&still, 3, 99).unwrap(),
    );
    assert_eq!(a.factors.actions, b.factors.actions);
    assert_ne!(a.factors.noise_seed, b.factors.noise_seed);
}

#[test]
fn bad_settings_are_named() {
    let good = config();
    for (bad, field) in [
        (
            VideoConfig {
                rate: f32::NAN,
                ..good
            },
            "rate",
        ),
        (VideoConfig { frames: 0, ..good }, "frames"),
        (
            VideoConfig {
                sequences: 0,
                ..good
            },
            "sequences",
        ),
        (
            VideoConfig {
                redundancy: 1.1,
                ..good
            },
            "redundancy",
        ),
        (
            VideoConfig {
                talking: -0.1,
                ..good
            },
            "talking",
        ),
        (
            VideoConfig {
                lead: f32::INFINITY,
                ..good
            },
            "lead",
        ),
        (
            VideoConfig {
                motion: 9.0,
                ..good
            },
            "motion",
        ),
        (
            VideoConfig {
                faces: SynthConfig {
                    size: 1,
                    ..good.faces
                },
                ..good
            },
            "size",
        ),
    ] {
        let line = video_frame(&bad, 0, 0).unwrap_err().to_string();
        assert!(line.contains(field), "{line}");
    }
    assert!(video_frame(&good, 40, 0).is_err());
    assert!(video_frame(&good, 0, 120).is_err());
}
