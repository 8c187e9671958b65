//! Thousands of rendered faces through every published layout and its reader.

#![allow(clippy::unwrap_used)] // functions outside of #[test]

use std::path::Path;
use std::sync::Arc;

use phiz_data::{Dataset, Image, RenderLayout, Spec, encode_png, write_rendered};
use phiz_synth::{
    ALL_EXPRESSIONS, Actions, Annotations, SynthConfig, VideoConfig, annotate, render,
};

const COUNT: usize = 2002;

/// 26 people, 2,002 images.
fn config() -> SynthConfig {
    SynthConfig {
        identities: 26,
        per_expression: 11,
        size: 24,
        first_identity: 7,
        ..SynthConfig::default()
    }
}

fn opened(spec: &str, root: &Path) -> Arc<dyn Dataset> {
    let spec: Spec = format!("{spec}:{}", root.display()).parse().unwrap();
    spec.open().unwrap()
}

fn written(layout: &str) -> (tempfile::TempDir, Arc<dyn Dataset>) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("faces");
    let layout: RenderLayout = layout.parse().unwrap();
    assert_eq!(
        write_rendered(config(), COUNT, &root, layout).unwrap(),
        COUNT
    );
    let name = match layout {
        RenderLayout::Folder => "folder",
        RenderLayout::Points => "300w",
        RenderLayout::Aflw2000 => "aflw2000",
        RenderLayout::AffectNet => "affectnet",
        RenderLayout::Disfa => "disfa",
        RenderLayout::Bp4d => "bp4d",
        RenderLayout::WebDataset => unreachable!(),
    };
    let set = opened(name, &root);
    assert_eq!(set.len(), COUNT);
    (folder, set)
}

/// The sample that image `id` was drawn from: the number in its name less `first`.
fn index(id: &str, first: usize) -> usize {
    let name = Path::new(id).file_stem().unwrap().to_str().unwrap();
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<usize>().unwrap() - first
}

/// Cuts move all points by the same whole number of pixels.
fn same_but_for_the_cut(found: &[f32], known: &[[f32; 2]], step: usize, within: f32) {
    let [dx, dy] = [known[0][0] - found[0], known[0][1] - found[1]];
    assert!((dx - dx.round()).abs() < within && (dy - dy.round()).abs() < within);
    for (point, [x, y]) in found.chunks(step).zip(known) {
        assert!((point[0] + dx - x).abs() < within && (point[1] + dy - y).abs() < within);
    }
}

fn known(index: usize) -> Annotations {
    annotate(&config(), index).unwrap()
}

#[test]
fn vggface2_folders() {
    let (_folder, set) = written("folder");
    assert_eq!(set.labels().names("identity").unwrap().len(), 26);
    for i in (0..COUNT).step_by(97) {
        let at = index(&set.sample_id(i), 0);
        assert_eq!(
            set.image(i).unwrap(),
            render(&config(), at).unwrap().image,
            "{i}"
        );
    }
}

#[test]
fn points_of_300w() {
    let (_folder, set) = written("300w");
    let found = set.labels().vectors("landmarks").unwrap();
    for i in 0..COUNT {
        let known = known(index(&set.sample_id(i), 0));
        same_but_for_the_cut(&found.row(i).unwrap(), &known.landmarks, 2, 2e-3);
    }
}

#[test]
fn points_in_space_and_pose_of_aflw2000() {
    let (_folder, set) = written("aflw2000");
    let ours: Spec = "synth:identities=26,per_expression=11,size=24,first_identity=7"
        .parse()
        .unwrap();
    let ours = ours.open().unwrap();
    let found = set.labels().vectors("points3d").unwrap();
    let expected = ours.labels().vectors("points3d").unwrap();
    let yaws = set.labels().values("factor.yaw").unwrap();
    for (i, yaw) in yaws.iter().enumerate() {
        let at = index(&set.sample_id(i), 0);
        let (known, row) = (known(at), found.row(i).unwrap());
        same_but_for_the_cut(&row, &known.landmarks, 3, 1e-4);
        let expected = expected.row(at).unwrap();
        for (a, b) in row.chunks(3).zip(expected.chunks(3)) {
            assert!((a[2] - b[2]).abs() < 1e-5);
        }
        assert!((yaw - known.pose.yaw).abs() < 1e-4);
    }
}

#[test]
fn expressions_and_affect_of_affectnet() {
    let (_folder, set) = written("affectnet");
    let names = set.labels().names("expression").unwrap().to_vec();
    let codes = set.labels().codes("expression").unwrap();
    let affect = set.labels().vectors("valence_arousal").unwrap();
    for i in 0..COUNT {
        let known = known(index(&set.sample_id(i), 0));
        assert_eq!(
            names[codes[i] as usize],
            ALL_EXPRESSIONS[known.expression as usize]
        );
        assert_eq!(affect.row(i).unwrap()[..], [known.valence, known.arousal]);
    }
}

#[test]
fn action_units_of_disfa_and_bp4d() {
    for (layout, units) in [
        ("disfa", &phiz_data::layouts::action_units::DISFA_UNITS[..]),
        ("bp4d", &phiz_data::layouts::action_units::BP4D_UNITS[..]),
    ] {
        let (_folder, set) = written(layout);
        assert_eq!(set.labels().names("identity").unwrap().len(), 26);
        let found = set.labels().vectors("action_units").unwrap();
        for i in 0..COUNT {
            let known = known(index(&set.sample_id(i), 1));
            for (unit, value) in units.iter().zip(found.row(i).unwrap().iter()) {
                let at = Actions::UNITS
                    .iter()
                    .position(|&u| u32::from(u) == *unit)
                    .unwrap();
                assert_eq!(*value, known.action_units[at].round(), "AU{unit}");
            }
        }
    }
}

#[test]
fn sequences_are_tasks_of_bp4d() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("faces");
    let video = VideoConfig {
        faces: config(),
        sequences: 40,
        frames: 50,
        ..VideoConfig::default()
    };
    assert_eq!(
        write_rendered(video, 9999, &root, RenderLayout::Bp4d).unwrap(),
        2000
    );
    let set = opened("bp4d", &root);
    assert_eq!(set.len(), 2000);
    assert_eq!(set.labels().names("sequence").unwrap().len(), 40);
    let train = opened("bp4d", &root).len();
    let parts = ["train", "development"].map(|part| {
        let spec: Spec = format!("bp4d:{},{part}", root.display()).parse().unwrap();
        spec.open().unwrap().len()
    });
    assert_eq!(parts[0] + parts[1], train);
}

/// 98 points of WFLW: rendered faces have 68, and middles of neighbours stand for the rest.
#[test]
fn lists_of_wflw() {
    use std::fmt::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let points = |index: usize| {
        let mut points = known(index).landmarks.to_vec();
        for i in 0..30 {
            points.push([0, 1].map(|axis| f32::midpoint(points[i][axis], points[i + 1][axis])));
        }
        points
    };
    let mut list = String::new();
    std::fs::create_dir_all(root.join("WFLW_images/a--b")).unwrap();
    for i in 0..COUNT {
        for [x, y] in points(i) {
            write!(list, "{x} {y} ").unwrap();
        }
        let [left, top, right, bottom] = known(i).bounding_box;
        let blur = i % 2;
        writeln!(
            list,
            "{left} {top} {right} {bottom} 0 1 0 0 0 {blur} a--b/{i}.png"
        )
        .unwrap();
        let png = encode_png(&render(&config(), i).unwrap().image).unwrap();
        std::fs::write(root.join(format!("WFLW_images/a--b/{i}.png")), png).unwrap();
    }
    std::fs::create_dir(root.join("WFLW_annotations")).unwrap();
    let name = "WFLW_annotations/list_98pt_rect_attr_train_test";
    std::fs::create_dir(root.join(name)).unwrap();
    std::fs::write(root.join(name).join("list_98pt_rect_attr_train.txt"), &list).unwrap();
    let set = opened("wflw", root);
    assert_eq!(set.len(), COUNT);
    let found = set.labels().vectors("landmarks").unwrap();
    let blurred = set.labels().codes("factor.blur").unwrap();
    for (i, blurred) in blurred.iter().enumerate() {
        same_but_for_the_cut(&found.row(i).unwrap(), &points(i), 2, 1e-4);
        assert_eq!(*blurred as usize, i % 2);
        set.image(i).unwrap();
    }
}

/// 29 points of COFW: as many of the 68, each hidden where the head hides it.
#[cfg(feature = "cofw")]
#[test]
fn cells_of_cofw() {
    use hdf5_pure::mat::{MatBuilder, Options};
    let folder = tempfile::tempdir().unwrap();
    let mut file = MatBuilder::new(Options::default());
    let images: Vec<Image> = (0..COUNT)
        .map(|i| render(&config(), i).unwrap().image)
        .collect();
    let cell = file.cell("IsT", &[COUNT, 1], |cells| {
        for image in &images {
            // Columns of a plane stand together.
            let mut turned = Vec::new();
            for c in 0..3 {
                for x in 0..image.width {
                    for y in 0..image.height {
                        turned.push(image.pixels[(y * image.width + x) * image.channels + c]);
                    }
                }
            }
            cells.push_with(|file| {
                file.write_u8("image", &[image.height, image.width, 3], &turned)
                    .map(drop)
            })?;
        }
        Ok(())
    });
    cell.unwrap();
    let all: Vec<Annotations> = (0..COUNT).map(known).collect();
    let mut marks = Vec::new();
    for column in 0..87 {
        for known in &all {
            let point = column % 29 + 20;
            marks.push(match column / 29 {
                axis @ 0..=1 => f64::from(known.landmarks[point][axis]) + 1.0,
                _ => f64::from(u8::from(!known.landmarks_visible[point])),
            });
        }
    }
    file.write_f64("phisT", &[COUNT, 87], &marks).unwrap();
    let mut boxes = Vec::new();
    for column in 0..4 {
        for known in &all {
            let [left, top, right, bottom] = known.bounding_box;
            boxes.push(f64::from(
                [left + 1.0, top + 1.0, right - left, bottom - top][column],
            ));
        }
    }
    file.write_f64("bboxesT", &[COUNT, 4], &boxes).unwrap();
    file.write(folder.path().join("COFW_test_color.mat"))
        .unwrap();

    let spec: Spec = format!("cofw:{},test", folder.path().display())
        .parse()
        .unwrap();
    let set = spec.open().unwrap();
    assert_eq!(set.len(), COUNT);
    let found = set.labels().vectors("landmarks").unwrap();
    let hidden = set.labels().vectors("hidden").unwrap();
    for (i, known) in all.iter().enumerate() {
        same_but_for_the_cut(&found.row(i).unwrap(), &known.landmarks[20..49], 2, 1e-4);
        let row = hidden.row(i).unwrap();
        for (mark, seen) in row.iter().zip(&known.landmarks_visible[20..49]) {
            assert_eq!(*mark == 0.0, *seen);
        }
        set.image(i).unwrap();
    }
}
