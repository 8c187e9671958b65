//! What is promised of the labels: they agree with each other, with the camera and with the picture.

use phiz_synth::{
    ALL_EXPRESSIONS, Actions, Factors, MIRROR, SynthConfig, affect, annotate, annotate_factors,
    factors, head_mesh, head_mesh_of, landmark_vertices, render, render_complete, render_factors,
    segment_factors, textbook, triangles,
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
    assert!(labels.landmarks_visible.iter().all(|&v| v));
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
        ("contempt", -0.4, 0.1),
    ] {
        let at = ALL_EXPRESSIONS.iter().position(|e| *e == name).unwrap();
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

#[test]
fn every_landmark_is_one_vertex_of_the_mesh() {
    let owned = landmark_vertices();
    let distinct: std::collections::BTreeSet<_> = owned.iter().collect();
    assert_eq!(distinct.len(), 68);
    let config = SynthConfig {
        pose: 2.0,
        ..SynthConfig::default()
    };
    for index in (0..config.len()).step_by(201) {
        let face = factors(&config, index).unwrap();
        let labels = annotate_factors(&face, 64).unwrap();
        let mesh = head_mesh_of(&face).unwrap();
        // The ends of the contour and brows may lie under hair, which lifts the mesh.
        for k in (27..68).chain(4..13) {
            for (a, b) in mesh.canonical[owned[k]]
                .iter()
                .zip(labels.landmarks_canonical[k])
            {
                assert!((a - b).abs() < 1e-5, "sample {index}, landmark {k}");
            }
        }
    }
}

#[test]
fn a_mirrored_face_has_mirrored_landmarks() {
    let mut face = Factors::default();
    for (name, value) in [
        ("yaw", 25.0),
        ("lateral", 0.8),
        ("skew", 2.0),
        ("mouth_slant", -1.5),
    ] {
        face.set(name, value).unwrap();
    }
    face.actions = textbook(7, 1.0);
    let one = annotate_factors(&face, 128).unwrap();
    for (name, value) in [
        ("yaw", -25.0),
        ("lateral", -0.8),
        ("skew", -2.0),
        ("mouth_slant", 1.5),
    ] {
        face.set(name, value).unwrap();
    }
    let other = annotate_factors(&face, 128).unwrap();
    for (k, &twin) in MIRROR.iter().enumerate() {
        let (a, b) = (one.landmarks[k], other.landmarks[twin]);
        assert!((a[0] + b[0] - 127.0).abs() < 1e-3, "{k}: {a:?} {b:?}");
        assert!((a[1] - b[1]).abs() < 1e-3, "{k}");
        assert_eq!(
            one.landmarks_visible[k], other.landmarks_visible[twin],
            "{k}"
        );
    }
    // Contempt on the right of the image: that corner stands higher and further out.
    face.scene.yaw = 0.0;
    face.shape = phiz_synth::Shape::default();
    face.lateral = 1.0;
    let sneer = annotate_factors(&face, 128).unwrap().landmarks;
    let rest = annotate_factors(&Factors::default(), 128)
        .unwrap()
        .landmarks;
    assert!(sneer[54][1] < rest[54][1] - 1.0);
    assert!((sneer[48][1] - rest[48][1]).abs() < 0.3);
}

/// Which landmarks a unit may move by more than half a pixel at 256 pixels, and which it must.
#[test]
fn actions_move_their_own_part_of_the_face() {
    let rest = annotate_factors(&Factors::default(), 256)
        .unwrap()
        .landmarks;
    let brows: Vec<usize> = (17..27).collect();
    let eyes: Vec<usize> = (36..48).collect();
    let lips: Vec<usize> = (48..68).collect();
    let low: Vec<usize> = (3..14).chain(31..36).chain(48..68).collect();
    for (unit, must, may) in [
        (1, vec![20, 21, 22, 23], brows.clone()),
        (
            2,
            vec![17, 18, 25, 26],
            [brows.clone(), eyes.clone()].concat(),
        ),
        (
            4,
            vec![20, 21, 22, 23],
            [brows.clone(), eyes.clone()].concat(),
        ),
        (5, vec![37, 38, 43, 44], eyes.clone()),
        (7, vec![37, 41, 44, 46], eyes.clone()),
        (43, vec![37, 38, 43, 44], eyes),
        (12, vec![48, 54], low.clone()),
        (14, vec![48, 54], lips.clone()),
        (
            15,
            vec![48, 54],
            [lips.clone(), vec![37, 38, 43, 44]].concat(),
        ),
        (20, vec![48, 54], lips.clone()),
        (23, vec![48, 54], lips.clone()),
        (24, vec![51, 57], lips.clone()),
        (17, vec![8, 57], low.clone()),
        (26, vec![8], [low, (0..17).collect()].concat()),
    ] {
        let mut face = Factors::default();
        face.set(&format!("au{unit}"), 1.0).unwrap();
        let moved = annotate_factors(&face, 256).unwrap().landmarks;
        for k in 0..68 {
            let (dx, dy) = (moved[k][0] - rest[k][0], moved[k][1] - rest[k][1]);
            let distance = (dx * dx + dy * dy).sqrt();
            assert!(
                distance < 1.2 || may.contains(&k),
                "AU{unit} moves {k} by {distance}"
            );
            assert!(
                distance > 1.2 || !must.contains(&k),
                "AU{unit} leaves {k}: {distance}"
            );
        }
    }
}

#[test]
fn scene_and_colours_leave_the_geometry_alone() {
    let config = SynthConfig::default();
    let face = factors(&config, 333).unwrap();
    let mesh = head_mesh_of(&face).unwrap().canonical;
    let labels = annotate_factors(&face, 64).unwrap();
    let shape: Vec<_> = names_of_shape_and_actions();
    for (name, value) in face.values() {
        if shape.contains(&name) || name == "lateral" {
            continue;
        }
        let mut other = face;
        other.set(name, value + 0.5).unwrap();
        assert_eq!(head_mesh_of(&other).unwrap().canonical, mesh, "{name}");
        let changed = annotate_factors(&other, 64).unwrap();
        assert_eq!(
            changed.landmarks_canonical, labels.landmarks_canonical,
            "{name}"
        );
        assert_eq!(changed.action_units, labels.action_units, "{name}");
        assert_eq!(
            (changed.valence, changed.arousal),
            (labels.valence, labels.arousal)
        );
        let moves = ["yaw", "pitch", "roll", "zoom", "shift_x", "shift_y"].contains(&name);
        assert_eq!(changed.landmarks != labels.landmarks, moves, "{name}");
    }
}

fn names_of_shape_and_actions() -> Vec<&'static str> {
    let names: Vec<_> = Factors::default().values().iter().map(|v| v.0).collect();
    let at = |name: &str| names.iter().position(|n| *n == name).unwrap_or(0);
    let mut out = names[at("face_width")..at("melanin")].to_vec();
    out.extend(&names[at("au1")..=at("au43")]);
    out
}

#[test]
fn at_least_forty_modes_of_shape_move_the_mesh() {
    let rest = head_mesh_of(&Factors::default()).unwrap().canonical;
    let names = names_of_shape_and_actions();
    let moving = names
        .iter()
        .filter(|name| !name.starts_with("au") && !name.starts_with("hair"))
        .filter(|name| {
            let mut face = Factors::default();
            face.set(name, 1.0).unwrap();
            head_mesh_of(&face).unwrap().canonical != rest
        })
        .count();
    assert!(moving >= 40, "{moving}");
}

#[test]
fn sides_differ_in_people_and_not_in_the_mean() {
    let config = SynthConfig::default();
    let uneven = |face: &Factors| {
        let p = annotate_factors(face, 64).unwrap().landmarks_canonical;
        (0..68)
            .map(|k| (p[k][0] + p[MIRROR[k]][0]).abs() + (p[k][1] - p[MIRROR[k]][1]).abs())
            .fold(0.0, f32::max)
    };
    assert!(uneven(&Factors::default()) < 1e-5);
    assert!(uneven(&factors(&config, 50).unwrap()) > 0.01);
}

#[test]
fn a_closed_eye_shows_no_white() {
    let mut face = Factors::default();
    let open = render_factors(&face, 224).unwrap();
    face.actions.au43 = 1.0;
    let shut = render_factors(&face, 224).unwrap();
    // The iris is darker than the lid that covers it.
    for [x, y] in &open.landmarks[..2] {
        let at = |image: &phiz_synth::Image| {
            u32::from(image.pixel((x + 2.5) as usize, *y as usize).unwrap()[0])
        };
        assert!(at(&shut.image) > at(&open.image) + 60);
    }
}

#[test]
fn the_gaze_turns_with_eyes_and_head() {
    let of = |gaze_x: f32, gaze_y: f32, yaw: f32| {
        let mut face = Factors::default();
        (face.scene.gaze_x, face.scene.gaze_y, face.scene.yaw) = (gaze_x, gaze_y, yaw);
        annotate_factors(&face, 64).unwrap()
    };
    for [x, y, z] in of(0.0, 0.0, 0.0).gaze {
        assert!(x.abs() < 1e-3 && y.abs() < 1e-3 && z < -0.99);
    }
    for [x, y, z] in of(0.5, 0.4, 0.0).gaze {
        assert!(x > 0.2 && y < -0.1 && z < 0.0);
        assert!((x * x + y * y + z * z - 1.0).abs() < 1e-5);
    }
    // Turned head, straight eyes: the gaze has the head's angle.
    for [x, _, z] in of(0.0, 0.0, 30.0).gaze {
        assert!((x + 0.577 * z).abs() < 0.01);
    }
    // The eyeballs lie behind the pupils.
    let labels = of(0.0, 0.0, 0.0);
    for (ball, pupil) in labels.eyeballs.iter().zip(labels.five) {
        let [u, v] = labels.camera.project(labels.pose.to_camera(*ball));
        assert!((u - pupil[0]).abs() < 0.6 && (v - pupil[1]).abs() < 0.6);
    }
}

#[test]
fn all_labels_at_once_are_those_one_by_one() {
    let config = SynthConfig {
        identities: 6,
        per_expression: 1,
        glasses: 0.3,
        disguise: 0.6,
        occlusion: 0.3,
        size: 48,
        ..SynthConfig::default()
    };
    for index in 0..config.len() {
        let face = factors(&config, index).unwrap();
        let whole = render_complete(&face, 48).unwrap();
        assert!(whole.rendered == render_factors(&face, 48).unwrap());
        assert!(whole.mesh == head_mesh_of(&face).unwrap());
        assert!(whole.parts == segment_factors(&face, 48).unwrap());
    }
}
