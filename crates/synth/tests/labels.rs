//! What is promised of the labels: they agree with each other, with the camera and with the picture.

use phiz_synth::{
    Actions, EXPRESSIONS, Factors, SynthConfig, affect, annotate, annotate_factors, factors,
    head_mesh, head_mesh_of, render, textbook, triangles,
};

#[test]
fn landmarks_are_the_projection_of_their_points() {
    let config = SynthConfig {
        pose: 2.0,
        size: 224,
        ..SynthConfig::default()
    };
    for index in (0..config.len()).step_by(97) {
        let labels = annotate(&config, index).unwrap();
        for k in 0..68 {
            let camera = labels.pose.to_camera(labels.landmarks_canonical[k]);
            let [x, y] = labels.camera.project(camera);
            let [u, v] = labels.landmarks[k];
            assert!((x - u).abs() < 0.01 && (y - v).abs() < 0.01, "{index} {k}");
            for (a, b) in camera.iter().zip(labels.landmarks_camera[k]) {
                assert!((a - b).abs() < 1e-5);
            }
        }
        let r = labels.pose.rotation;
        for i in 0..3 {
            for j in 0..3 {
                let dot: f32 = (0..3).map(|k| r[i][k] * r[j][k]).sum();
                let expected = f32::from(u8::from(i == j));
                assert!((dot - expected).abs() < 1e-5, "rotation {i} {j}: {dot}");
            }
        }
    }
}

#[test]
fn annotating_and_drawing_give_the_same_labels() {
    let config = SynthConfig::default();
    for index in [0, 77, 1003] {
        let drawn = render(&config, index).unwrap();
        assert_eq!(drawn.annotations, annotate(&config, index).unwrap());
        assert_eq!(drawn.landmarks, drawn.annotations.five);
    }
}

#[test]
fn the_order_is_that_of_300w() {
    let labels = annotate_factors(&Factors::default(), 256).unwrap();
    let p = labels.landmarks;
    // Contour and brows run to the right, the bridge down, the base of the nose to the right.
    for range in [0..16, 17..21, 22..26, 31..35] {
        for k in range {
            assert!(p[k][0] < p[k + 1][0], "{k}");
        }
    }
    for k in 27..30 {
        assert!(p[k][1] < p[k + 1][1], "{k}");
    }
    // Corners of the eyes from the left of the image; lids above and below.
    assert!(p[36][0] < p[39][0] && p[39][0] < p[42][0] && p[42][0] < p[45][0]);
    for (upper, lower) in [(37, 41), (38, 40), (43, 47), (44, 46)] {
        assert!(p[upper][1] < p[lower][1]);
        assert!((p[upper][0] - p[lower][0]).abs() < 3.0, "{upper}");
    }
    // Lips: corners, then the upper edges over the lower ones.
    assert!(p[48][0] < p[60][0] && p[64][0] < p[54][0]);
    for column in [[50, 61, 67, 58], [51, 62, 66, 57], [52, 63, 65, 56]] {
        for pair in column.windows(2) {
            assert!(p[pair[0]][1] <= p[pair[1]][1] + 1e-3, "{pair:?}");
        }
    }
    // A symmetric face has symmetric points.
    for (a, b) in [
        (0, 16),
        (5, 11),
        (17, 26),
        (36, 45),
        (41, 46),
        (31, 35),
        (48, 54),
        (67, 65),
    ] {
        assert!((p[a][0] + p[b][0] - 255.0).abs() < 0.01, "{a} {b}");
        assert!((p[a][1] - p[b][1]).abs() < 0.01, "{a} {b}");
    }
    assert!(labels.landmarks_visible[17..].iter().all(|&v| v));
    assert!(labels.five_visible.iter().all(|&v| v));
}

#[test]
fn a_turned_head_hides_its_far_side() {
    let mut face = Factors::default();
    face.scene.yaw = 60.0;
    let labels = annotate_factors(&face, 256).unwrap();
    let seen = |range: std::ops::Range<usize>| {
        labels.landmarks_visible[range]
            .iter()
            .filter(|&&v| v)
            .count()
    };
    // Turned to the right of the image, the side that was on the right is behind.
    assert_eq!(seen(12..17), 0);
    assert_eq!(seen(0..5), 5);
    assert_eq!(seen(17..20), 3);
    assert_eq!(seen(36..40), 4);
    assert!(seen(42..48) < 4);
}

#[test]
fn meshes_have_one_topology_and_face_outwards() {
    let faces = triangles();
    let config = SynthConfig::default();
    let first = head_mesh(&config, 0).unwrap();
    let other = head_mesh(&config, 1000).unwrap();
    assert_eq!(first.canonical.len(), other.canonical.len());
    let count = first.canonical.len() as u32;
    assert!(faces.iter().flatten().all(|&v| v < count));
    let mut inwards = 0;
    for t in &faces {
        let [a, b, c] = t.map(|v| first.canonical[v as usize]);
        let sub = |p: [f32; 3], q: [f32; 3]| [p[0] - q[0], p[1] - q[1], p[2] - q[2]];
        let (u, v) = (sub(b, a), sub(c, a));
        let n = [
            u[1] * v[2] - u[2] * v[1],
            u[2] * v[0] - u[0] * v[2],
            u[0] * v[1] - u[1] * v[0],
        ];
        inwards += usize::from(n[0] * a[0] + n[1] * (a[1] - 0.1) + n[2] * (a[2] + 0.3) < -1e-4);
    }
    assert!(inwards * 50 < faces.len(), "{inwards} of {}", faces.len());
}

#[test]
fn one_person_has_one_neutral_head() {
    let config = SynthConfig::default();
    let neutral = |index: usize| {
        let drawn = factors(&config, index).unwrap();
        head_mesh_of(&Factors {
            actions: Actions::default(),
            ..drawn
        })
        .unwrap()
        .canonical
    };
    // 28 samples a person.
    assert_eq!(neutral(3), neutral(27));
    assert_ne!(neutral(3), neutral(28));
}

#[test]
fn textbook_expressions_lie_in_their_quadrants() {
    for (name, valence, arousal) in [
        ("neutral", 0.0, 0.0),
        ("anger", -0.7, 0.5),
        ("disgust", -0.9, 0.3),
        ("fear", -0.7, 0.7),
        ("happiness", 0.8, 0.5),
        ("sadness", -0.9, -0.5),
        ("surprise", 0.0, 0.8),
    ] {
        let at = EXPRESSIONS.iter().position(|e| *e == name).unwrap();
        let (v, a) = affect(&textbook(at, 1.0));
        assert!((v - valence).abs() < 0.15, "{name}: valence {v}");
        assert!((a - arousal).abs() < 0.15, "{name}: arousal {a}");
    }
}

#[test]
fn intensities_are_on_the_scale_of_facs() {
    let mut face = Factors::default();
    face.set("au12", 0.5).unwrap();
    face.set("au4", 1.4).unwrap();
    let units = annotate_factors(&face, 64).unwrap().action_units;
    let at = |unit: u8| Actions::UNITS.iter().position(|&u| u == unit).unwrap();
    assert_eq!((units[at(12)], units[at(4)], units[at(1)]), (2.5, 5.0, 0.0));
}
