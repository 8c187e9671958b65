//! What is promised of ground truth and of the label image.

use phiz_synth::{
    Factors, GroundFactor, GroundTruth, PARTS, SynthConfig, annotate_factors, factors,
    render_factors, segment, segment_factors, textbook,
};

#[test]
fn every_factor_alone_changes_the_picture_and_nothing_else() {
    let config = SynthConfig {
        size: 32,
        ..SynthConfig::default()
    };
    let truth = GroundTruth::usual(config).unwrap();
    assert_eq!(truth.sizes(), [10, 7, 5, 5, 4]);
    assert_eq!(truth.combinations(), 7000);
    let base = vec![1, 1, 1, 1, 1];
    let picture = truth.observe(&base).unwrap();
    assert_eq!(picture, truth.observe(&base).unwrap());
    let face = truth.face(&base).unwrap();
    for k in 0..5 {
        let mut row = base.clone();
        row[k] = 3;
        assert_ne!(
            truth.observe(&row).unwrap().image,
            picture.image,
            "factor {k}"
        );
        let other = truth.face(&row).unwrap();
        assert_eq!(face.shape != other.shape, k == 0);
        assert_eq!(face.actions != other.actions, k == 1);
        assert_eq!(face.scene != other.scene, k >= 2);
    }
}

#[test]
fn draws_are_uniform_and_one_factor_can_be_held() {
    let truth = GroundTruth::usual(SynthConfig::default()).unwrap();
    let rows = truth.sample(3, 5000);
    assert_eq!(rows[..10], truth.sample(3, 10)[..]);
    for (column, size) in truth.columns(&rows).iter().zip(truth.sizes()) {
        for value in 0..size as u32 {
            let count = column.iter().filter(|&&v| v == value).count();
            let expected = 5000 / size;
            assert!(
                count.abs_diff(expected) < expected / 4,
                "{count} of {expected}"
            );
        }
    }
    for factor in 0..5 {
        let rows = truth.sample_fixed(8, 64, factor).unwrap();
        let columns = truth.columns(&rows);
        for (k, column) in columns.iter().enumerate() {
            assert_eq!(column.iter().all(|v| *v == column[0]), k == factor);
        }
    }
    assert!(truth.sample_fixed(0, 1, 5).is_err());
    let all: std::collections::BTreeSet<_> =
        (0..7000).map(|i| truth.combination(i).unwrap()).collect();
    assert_eq!(all.len(), 7000);
    assert!(truth.combination(7000).is_err());
}

#[test]
fn contradictory_factors_are_refused() {
    let config = SynthConfig::default();
    let of = |name: &str| GroundFactor::spread(&config, name, 4).unwrap();
    let line =
        |factors: Vec<GroundFactor>| GroundTruth::new(config, factors).unwrap_err().to_string();
    assert!(line(vec![]).contains("at least one"));
    assert!(line(vec![of("yaw"), of("yaw")]).contains("twice"));
    assert!(line(vec![of("identity"), of("melanin")]).contains("identity"));
    let smile = GroundFactor {
        name: "au12".parse().unwrap(),
        values: vec![0.0, 1.0],
    };
    assert!(line(vec![of("expression"), smile]).contains("expression"));
    let still = SynthConfig {
        pose: 0.0,
        ..config
    };
    assert!(
        GroundFactor::spread(&still, "yaw", 4)
            .unwrap_err()
            .to_string()
            .contains("yaw")
    );
    assert!(GroundFactor::spread(&config, "yaw", 1).is_err());
    assert!(GroundFactor::spread(&config, "nothing", 4).is_err());
    let truth = GroundTruth::new(config, vec![of("yaw")]).unwrap();
    assert!(truth.face(&[4]).is_err() && truth.face(&[0, 0]).is_err());
}

fn number(part: &str) -> u8 {
    PARTS
        .iter()
        .position(|p| *p == part)
        .map_or(255, |k| k as u8)
}

#[test]
fn parts_lie_where_the_landmarks_are() {
    let config = SynthConfig {
        size: 224,
        glasses: 0.0,
        ..SynthConfig::default()
    };
    let open = Factors {
        actions: textbook(6, 1.0),
        ..Factors::default()
    };
    for face in [
        Factors::default(),
        open,
        factors(&config, 500).unwrap(),
        factors(&config, 901).unwrap(),
    ] {
        let labels = annotate_factors(&face, 224).unwrap();
        let parts = segment_factors(&face, 224).unwrap();
        let at = |[x, y]: [f32; 2]| {
            parts
                .pixel((x + 0.5) as usize, (y + 0.5) as usize)
                .map_or(255, |p| p[0])
        };
        let p = labels.landmarks;
        let between = |a: usize, b: usize| [0.5 * (p[a][0] + p[b][0]), 0.5 * (p[a][1] + p[b][1])];
        assert_eq!(at(p[30]), number("nose"));
        assert_eq!(at(p[19]), number("brow_left"));
        assert_eq!(at(p[24]), number("brow_right"));
        let opening = p[41][1] - p[37][1];
        if opening > 4.0 {
            assert_eq!(at(between(36, 39)), number("eye_left"));
            assert_eq!(at(between(42, 45)), number("eye_right"));
        }
        assert_eq!(at(between(51, 62)), number("upper_lip"));
        assert_eq!(at(between(57, 66)), number("lower_lip"));
        if p[66][1] - p[62][1] > 4.0 {
            assert_eq!(at(between(62, 66)), number("mouth"));
        }
        assert_eq!(at([2.0, 2.0]), number("background"));
        // Cheek.
        assert_eq!(at(between(2, 31)), number("skin"));
    }
}

#[test]
fn what_is_worn_is_its_own_part() {
    let mut face = Factors::default();
    let count = |face: &Factors, part: &str| {
        let image = segment_factors(face, 96).unwrap();
        image.pixels.iter().filter(|&&p| p == number(part)).count()
    };
    for (name, part) in [
        ("glasses", "glasses"),
        ("mask", "mask"),
        ("scarf", "scarf"),
        ("hat", "hat"),
        ("hand", "occluder"),
        ("object", "occluder"),
    ] {
        assert_eq!(count(&face, part), 0);
        let mut worn = face;
        worn.set(name, 1.0).unwrap();
        assert!(count(&worn, part) > 60, "{part}");
    }
    // Turned, the far ear is hidden.
    face.scene.yaw = 45.0;
    assert_eq!(count(&face, "ear_right"), 0);
    assert!(count(&face, "ear_left") > 10);
    let config = SynthConfig::default();
    assert_eq!(
        segment(&config, 9).unwrap(),
        segment_factors(&factors(&config, 9).unwrap(), 64).unwrap()
    );
    // The label image has the picture's size, one channel.
    let drawn = render_factors(&face, 96).unwrap().image;
    let parts = segment_factors(&face, 96).unwrap();
    assert_eq!(
        (parts.width, parts.height, parts.channels),
        (drawn.width, drawn.height, 1)
    );
}
