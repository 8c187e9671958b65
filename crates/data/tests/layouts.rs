//! Published layouts in miniature, and what is refused in them.

#![allow(clippy::unwrap_used)] // functions outside of #[test]

use std::fs;
use std::path::Path;

use phiz_data::{Dataset, Image, Spec, encode_png};

fn write(root: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn grey(value: u8) -> Vec<u8> {
    let pixels = vec![value; 12];
    encode_png(&Image {
        width: 4,
        height: 3,
        channels: 1,
        pixels,
    })
    .unwrap()
}

fn opened(spec: &str, root: &Path, part: &str) -> Result<std::sync::Arc<dyn Dataset>, String> {
    let spec: Spec = format!("{spec}:{}{part}", root.display()).parse().unwrap();
    spec.open().map_err(|error| {
        let line = error.to_string().replace('\\', "/");
        line.replace(&root.display().to_string().replace('\\', "/"), "ROOT")
    })
}

const ATTRIBUTES: &str = "3\nMale Smiling\n000001.jpg -1  1\n000002.jpg  1  1\n000003.jpg -1 -1\n";
const PARTS: &str = "000001.jpg 0\n000002.jpg 2\n000003.jpg 0\n";

fn celeba(root: &Path) {
    write(root, "Anno/list_attr_celeba.txt", ATTRIBUTES);
    write(root, "Eval/list_eval_partition.txt", PARTS);
    write(
        root,
        "Anno/identity_CelebA.txt",
        "000001.jpg 2880\n000002.jpg 30\n000003.jpg 2880\n",
    );
    for i in 1..=3 {
        // The decoder goes by the bytes, not by the name.
        write(root, &format!("Img/img_align_celeba/00000{i}.jpg"), grey(i));
    }
}

#[test]
fn celeba_has_parts_attributes_and_people() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    celeba(root);
    let all = opened("celeba", root, "").unwrap();
    assert_eq!(all.len(), 3);
    let labels = all.labels();
    assert_eq!(labels.codes("factor.Smiling").unwrap(), [1, 1, 0]);
    assert_eq!(labels.names("factor.Male").unwrap(), ["no", "yes"]);
    assert_eq!(labels.names("identity").unwrap(), ["30", "2880"]);
    assert_eq!(labels.codes("identity").unwrap(), [1, 0, 1]);
    let train = opened("celeba", root, ",train").unwrap();
    assert_eq!(train.len(), 2);
    assert_eq!(train.sample_id(1), "000003.jpg");
    assert_eq!(train.image(1).unwrap().pixels, [3; 12]);
    assert_eq!(
        opened("celeba", root, ",validation").err().unwrap(),
        "ROOT/Eval/list_eval_partition.txt: no validation image in the list"
    );
    // Identities are handed out on request: without them the set still opens.
    fs::remove_file(root.join("Anno/identity_CelebA.txt")).unwrap();
    assert!(
        opened("celeba", root, "")
            .unwrap()
            .labels()
            .codes("identity")
            .is_err()
    );
}

#[test]
fn celeba_names_what_is_wrong() {
    let cases = [
        (
            "Anno/list_attr_celeba.txt",
            ATTRIBUTES.replace("1  1\n000003", "1  2\n000003"),
            "line 4: expected 1 or -1, found \"2\"",
        ),
        (
            "Anno/list_attr_celeba.txt",
            ATTRIBUTES.replace("-1 -1", "-1"),
            "line 5: expected 2 attributes, found 1",
        ),
        (
            "Anno/list_attr_celeba.txt",
            ATTRIBUTES.replacen('3', "4", 1),
            "line 1 says 4 images, found 3",
        ),
        (
            "Anno/list_attr_celeba.txt",
            "many\n".to_string(),
            "line 1: expected the number of images",
        ),
        (
            "Anno/list_attr_celeba.txt",
            "0\n".to_string(),
            "line 2: expected the names of the attributes",
        ),
        (
            "Anno/list_attr_celeba.txt",
            ATTRIBUTES.replace("000002", "../../2"),
            "line 4: expected a file name, found \"../../2.jpg\"",
        ),
        (
            "Eval/list_eval_partition.txt",
            PARTS.replace(" 2", " 3"),
            "line 2: expected a file and a whole number of at most 2, found \"000002.jpg 3\"",
        ),
        (
            "Eval/list_eval_partition.txt",
            PARTS.replace("000003", "000001"),
            "line 3: 000001.jpg stands here a second time",
        ),
        (
            "Eval/list_eval_partition.txt",
            "000001.jpg 0\n".to_string(),
            "000002.jpg is in the list of attributes, but not here",
        ),
    ];
    for (file, text, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        celeba(folder.path());
        write(folder.path(), file, text);
        assert_eq!(
            opened("celeba", folder.path(), "").err().unwrap(),
            format!("ROOT/{file}: {expected}")
        );
    }
    let folder = tempfile::tempdir().unwrap();
    celeba(folder.path());
    fs::remove_file(folder.path().join("Img/img_align_celeba/000002.jpg")).unwrap();
    assert_eq!(
        opened("celeba", folder.path(), "").err().unwrap(),
        "ROOT/Anno/list_attr_celeba.txt: line 4: image \"000002.jpg\" does not exist"
    );
    fs::remove_file(folder.path().join("Eval/list_eval_partition.txt")).unwrap();
    assert_eq!(
        opened("celeba", folder.path(), "").err().unwrap(),
        "ROOT: expected list_eval_partition.txt or Eval/list_eval_partition.txt"
    );
}

#[test]
fn yale_b_says_where_the_light_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in [
        "yaleB01/yaleB01_P00A+000E+00.pgm",
        "yaleB01/yaleB01_P00A+000E+90.pgm",
        "yaleB01/yaleB01_P00A-035E+40.pgm",
        "yaleB01/yaleB01_P00A+110E-20.pgm",
        "yaleB01/yaleB01_P00_Ambient.pgm",
        "yaleB02/yaleB02_P00A-050E+00.pgm",
        "yaleB02/yaleB02_P00A-050E-40.pgm.bad",
        "yaleB02/yaleB02_P00.info",
    ] {
        write(&root.join("CroppedYale"), name, "P5\n2 1\n255\n\x01\x02");
    }
    let set = opened("yale-b", root, "").unwrap();
    let labels = set.labels();
    let (codes, names) = (
        labels.codes("light").unwrap(),
        labels.names("light").unwrap(),
    );
    let lights: Vec<&str> = codes
        .iter()
        .map(|&code| names[code as usize].as_str())
        .collect();
    assert_eq!(
        lights,
        ["front", "upper", "lower-right", "upper-left", "left"]
    );
    assert_eq!(
        labels.values("factor.azimuth").unwrap(),
        [0.0, 0.0, 110.0, -35.0, -50.0]
    );
    assert_eq!(
        labels.values("factor.elevation").unwrap(),
        [0.0, 90.0, -20.0, 40.0, 0.0]
    );
    assert_eq!(labels.names("identity").unwrap(), ["yaleB01", "yaleB02"]);
    assert_eq!(set.image(4).unwrap().pixels, [1, 2]);

    for (name, bytes, expected) in [
        (
            "yaleB02/yaleB02_P00A-500E+00.pgm",
            "P5",
            "expected a name like yaleB02_P00A+035E-20.pgm",
        ),
        (
            "yaleB02/yaleB01_P00A-050E+00.pgm",
            "P5",
            "expected a name like yaleB02_P00A+035E-20.pgm",
        ),
        (
            "yaleB02/yaleB02_P00A-070E+00.pgm",
            "",
            "empty file, expected an image",
        ),
    ] {
        let path = root.join("CroppedYale").join(name);
        fs::write(&path, bytes).unwrap();
        assert_eq!(
            opened("yale-b", root, "").err().unwrap(),
            format!("ROOT/CroppedYale/{name}: {expected}")
        );
        fs::remove_file(path).unwrap();
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(
        opened("yale-b", empty.path(), "")
            .err()
            .unwrap()
            .starts_with("ROOT: no images")
    );
}

/// 68 points as a `.pts` file counts them: from (11, 21) on, a box of 33.5 x 20 pixels.
fn pts(count: usize) -> String {
    let points = (0..count).map(|i| [10.0 + i as f32 / 2.0, 20.0 + (i % 21) as f32]);
    phiz_data::layouts::pts::write_pts(&points.collect::<Vec<_>>())
}

/// A grey picture whose pixel at (x, y) is `x + y`.
fn ramp(width: usize, height: usize) -> Vec<u8> {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x + y) as u8));
    encode_png(&Image {
        width,
        height,
        channels: 1,
        pixels: pixels.collect(),
    })
    .unwrap()
}

const FOLDERS_300W: [&str; 6] = [
    "afw",
    "helen/trainset",
    "lfpw/trainset",
    "helen/testset",
    "lfpw/testset",
    "ibug",
];

fn w300(root: &Path) {
    for folder in FOLDERS_300W {
        write(root, &format!("{folder}/a 1.pts"), pts(68));
        write(root, &format!("{folder}/a 1.png"), ramp(60, 50));
    }
}

#[test]
fn faces_of_300w_are_cut_with_their_points() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    w300(root);
    for (part, expected) in [
        ("", 6),
        (",train", 3),
        (",common", 2),
        (",challenging", 1),
        (",full", 3),
    ] {
        assert_eq!(
            opened("300w", root, part).unwrap().len(),
            expected,
            "{part}"
        );
    }
    let set = opened("300w", root, ",challenging").unwrap();
    assert_eq!(set.sample_id(0), "ibug/a 1.png");
    assert_eq!(set.labels().names("subset").unwrap(), ["ibug"]);
    let landmarks = set.labels().vectors("landmarks").unwrap();
    assert_eq!(landmarks.shape(), [68, 2]);
    // The box spans x 10 to 43.5 and y 20 to 40: a square of 1.25 x 33.5 = 41.875 about (26.75, 30).
    let (row, image) = (landmarks.row(0).unwrap(), set.image(0).unwrap());
    assert_eq!((image.width, image.height), (42, 42));
    assert_eq!(row[..2], [10.0 - 6.0, 20.0 - 9.0]);
    // A whole-pixel point keeps its pixel: (10, 20) is 30 bright, (30, 39) 69.
    let at = |x: usize, y: usize| image.pixel(x, y).unwrap()[0];
    assert_eq!((at(4, 11), at(24, 30)), (30, 69));
    // Below the photograph's last row the edge repeats.
    assert_eq!(at(4, 41), at(4, 40));
    assert_eq!(
        opened("300w", root, ",test").err().unwrap(),
        "ROOT/300W/01_Indoor: no such folder of 300-W"
    );
}

#[test]
fn what_is_wrong_in_300w_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    w300(root);
    let error = |part: &str| opened("300w", root, part).err().unwrap();
    write(root, "ibug/b.pts", pts(67));
    assert_eq!(error(""), "ROOT/ibug/b.pts: expected 68 points, found 67");
    write(root, "ibug/b.pts", pts(68));
    assert_eq!(
        error(""),
        "ROOT/ibug/b.pts: no image of this name beside it"
    );
    write(root, "ibug/b.png", "");
    assert_eq!(error(""), "ROOT/ibug/b.png: empty file, expected an image");
    fs::remove_file(root.join("ibug/b.png")).unwrap();
    write(root, "ibug/b.png", ramp(4, 4));
    let one = "0 0\n".repeat(68);
    write(root, "ibug/b.pts", format!("n_points: 68\n{{\n{one}}}\n"));
    assert!(
        error("").starts_with("ibug/b.png: expected a box"),
        "{}",
        error("")
    );
    fs::remove_dir_all(root.join("ibug")).unwrap();
    fs::create_dir(root.join("ibug")).unwrap();
    assert_eq!(error(",challenging"), "ROOT/ibug: no .pts file");
}

#[test]
fn wflw_has_several_faces_in_a_photograph() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let list = "WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_train.txt";
    let points = (0..98)
        .map(|i| format!("{} {} ", i % 20, i / 20))
        .collect::<String>();
    let line = |rect: &str| format!("{points}{rect} 0 1 0 0 0 1 5--Car/x.png\n");
    write(root, "WFLW_images/5--Car/x.png", ramp(40, 40));
    write(root, list, line("0 0 20 16") + &line("10 10 30 30"));
    let set = opened("wflw", root, "").unwrap();
    assert_eq!(
        (set.len(), set.sample_id(1)),
        (2, "5--Car/x.png".to_string())
    );
    assert_eq!(set.labels().codes("factor.expression").unwrap(), [1, 1]);
    assert_eq!(set.labels().codes("factor.pose").unwrap(), [0, 0]);
    assert_eq!(
        set.labels().values("factor.box_height").unwrap(),
        [16.0, 20.0]
    );
    let row = set.labels().vectors("landmarks").unwrap().row(1).unwrap();
    // The square of 25 about (20, 20) begins at 7.5, which rounds to 8.
    assert_eq!(row[2..4], [1.0 - 8.0, 0.0 - 8.0]);
    assert_eq!(set.image(1).unwrap().width, 25);
    for (text, expected) in [
        (line("0 0 20"), "line 1: expected 207 fields, found 206"),
        (
            line("0 0 20 x"),
            "line 1: expected a finite number, found \"x\"",
        ),
        (
            line("0 0 20 16").replace(" 1 5--", " 2 5--"),
            "line 1: expected a flag of 0 or 1, found \"2\"",
        ),
        (
            line("0 0 20 16").replace("5--Car", ".."),
            "line 1: expected a path below WFLW_images, found \"../x.png\"",
        ),
        (
            line("0 0 20 16").replace("x.png", "y.png"),
            "line 1: image \"5--Car/y.png\" does not exist",
        ),
        (String::new(), "no record"),
    ] {
        write(root, list, text);
        assert_eq!(
            opened("wflw", root, "").err().unwrap(),
            format!("ROOT/{list}: {expected}")
        );
    }
}

/// A MATLAB file that SciPy wrote: `fixtures/data/aflw2000.py` says how.
const FACE_MAT: &[u8] = include_bytes!("../../../fixtures/data/aflw2000.mat");

#[test]
fn aflw2000_has_points_in_space_and_the_pose() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "image00002.mat", FACE_MAT);
    write(root, "image00002.jpg", ramp(100, 100));
    let set = opened("aflw2000", root, "").unwrap();
    let labels = set.labels();
    assert_eq!(labels.values("factor.yaw").unwrap(), [-45.0]);
    assert_eq!(
        labels.values("factor.pitch").unwrap(),
        [(0.25f32).to_degrees()]
    );
    let names = labels.names("yaw_bin").unwrap();
    assert_eq!(names[labels.codes("yaw_bin").unwrap()[0] as usize], "30-60");
    // Point i is (20 + i / 2, 30 + i / 4, -i): a box of 33.5 x 16.75, its square of 42 begins at (16, 17).
    let row = labels.vectors("points3d").unwrap().row(0).unwrap();
    assert_eq!(row[..6], [4.0, 13.0, 0.0, 4.5, 13.25, -1.0]);
    assert_eq!(
        labels.vectors("landmarks").unwrap().row(0).unwrap()[..2],
        [4.0, 13.0]
    );
    assert_eq!(set.image(0).unwrap().pixel(4, 13).unwrap()[0], 50);
    // 300-W-LP keeps them in folders.
    let lp = tempfile::tempdir().unwrap();
    write(lp.path(), "AFW_Flip/a.mat", FACE_MAT);
    write(lp.path(), "AFW_Flip/a.jpg", ramp(100, 100));
    write(lp.path(), "Code/readme.mat", "no set of faces");
    assert_eq!(
        opened("300w-lp", lp.path(), "").unwrap().sample_id(0),
        "AFW_Flip/a.jpg"
    );

    write(root, "image00003.mat", &FACE_MAT[..200]);
    let error = opened("aflw2000", root, "").err().unwrap();
    assert!(error.starts_with("ROOT/image00003.mat: "), "{error}");
    write(root, "image00003.mat", FACE_MAT);
    assert_eq!(
        opened("aflw2000", root, "").err().unwrap(),
        "ROOT/image00003.mat: no image of this name beside it"
    );
}

#[test]
fn affectnet_keeps_faces_with_an_expression() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let header = "subDirectory_filePath,face_x,expression,valence,arousal\n";
    for name in ["a", "b", "c"] {
        write(
            root,
            &format!("Manually_Annotated_Images/1/{name}.jpg"),
            grey(7),
        );
    }
    let list = |rows: &str| write(root, "training.csv", format!("{header}{rows}"));
    list("1/a.jpg,0,7,-0.5,0.25\n1/b.jpg,0,10,-2,-2\n1/c.jpg,0,0,-2,0\n");
    let set = opened("affectnet", root, "").unwrap();
    assert_eq!((set.len(), set.sample_id(1)), (2, "1/c.jpg".to_string()));
    let labels = set.labels();
    assert_eq!(labels.names("expression").unwrap()[7], "contempt");
    assert_eq!(labels.codes("expression").unwrap(), [7, 0]);
    let affect = labels.vectors("valence_arousal").unwrap();
    assert_eq!(affect.row(0).unwrap(), [-0.5, 0.25]);
    assert!(affect.row(1).unwrap()[0].is_nan());
    for (rows, expected) in [
        (
            "1/a.jpg,0,7,3,0\n",
            "line 2: expected valence in [-1, 1] or -2, found \"3\"",
        ),
        (
            "1/a.jpg,0,7,0,NaN\n",
            "line 2: expected arousal in [-1, 1] or -2, found \"NaN\"",
        ),
        (
            "1/a.jpg,0,11,0,0\n",
            "line 2: expected an expression from 0 to 10, found \"11\"",
        ),
        (
            "../a.jpg,0,1,0,0\n",
            "line 2: expected a path below the images, found \"../a.jpg\"",
        ),
        (
            "1/d.jpg,0,1,0,0\n",
            "line 2: image \"1/d.jpg\" does not exist",
        ),
        ("1/b.jpg,0,10,-2,-2\n", "no record with a face"),
    ] {
        list(rows);
        assert_eq!(
            opened("affectnet", root, "").err().unwrap(),
            format!("ROOT/training.csv: {expected}")
        );
    }
    write(
        root,
        "training.csv",
        "subDirectory_filePath,expression,valence\n",
    );
    assert_eq!(
        opened("affectnet", root, "").err().unwrap(),
        "ROOT/training.csv: line 1: expected a column arousal"
    );
    let missing = opened("affectnet", root, ",validation").err().unwrap();
    assert!(
        missing.starts_with("ROOT: expected validation.csv"),
        "{missing}"
    );
}

#[test]
fn action_units_are_read_frame_by_frame() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for unit in phiz_data::layouts::action_units::DISFA_UNITS {
        let list = format!("ActionUnit_Labels/SN001/SN001_au{unit}.txt");
        write(
            root,
            &list,
            if unit == 12 {
                "1,0\n2,5\n3,1\n"
            } else {
                "1,0\n2,0\n3,9\n"
            },
        );
    }
    write(root, "Images/SN001/0002.jpg", grey(2));
    write(root, "Images/SN001/3.png", grey(3));
    write(root, "Images/SN001/77.png", grey(3));
    let set = opened("disfa", root, "").unwrap();
    assert_eq!(
        (set.len(), set.sample_id(0)),
        (2, "SN001/0002.jpg".to_string())
    );
    let units = set.labels().vectors("action_units").unwrap();
    assert_eq!(units.names()[6], "AU12");
    assert_eq!(units.row(0).unwrap()[6], 5.0);
    assert!(units.row(1).unwrap()[0].is_nan());
    assert_eq!(set.labels().values("factor.frame").unwrap(), [2.0, 3.0]);
    let list = "ActionUnit_Labels/SN001/SN001_au4.txt";
    for (text, expected) in [
        (
            "1,7\n",
            "line 1: expected an intensity from 0 to 5, or 9 for not coded, found 7",
        ),
        ("1,0\n1,1\n", "line 2: frame 1 is coded a second time"),
        (
            "1;0\n",
            "line 1: expected frame,intensity as whole numbers, found \"1;0\"",
        ),
    ] {
        write(root, list, text);
        assert_eq!(
            opened("disfa", root, "").err().unwrap(),
            format!("ROOT/{list}: {expected}")
        );
    }
    write(root, list, "1,0\n");
    write(root, "Images/SN001/2.png", grey(2));
    assert_eq!(
        opened("disfa", root, "").err().unwrap(),
        "ROOT/Images/SN001: 0002.jpg and 2.png are both frame 2"
    );
    fs::remove_dir_all(root.join("Images/SN001")).unwrap();
    assert_eq!(
        opened("disfa", root, "").err().unwrap(),
        "ROOT/Images: no frame of subject SN001, which the lists name"
    );

    let bp4d = tempfile::tempdir().unwrap();
    let root = bp4d.path();
    for unit in phiz_data::layouts::action_units::BP4D_UNITS {
        for sequence in ["F001_T1", "F002_T1"] {
            write(
                root,
                &format!("AU-Intensity-Codes3.0/AU{unit:02}/{sequence}_AU{unit:02}.csv"),
                "2440,1\n",
            );
        }
    }
    write(root, "Images/F001/T1/2440.jpg", grey(1));
    write(root, "Images/F002/T1/2440.jpg", grey(2));
    assert_eq!(opened("bp4d", root, "").unwrap().len(), 2);
    let train = opened("bp4d", root, ",train").unwrap();
    assert_eq!(train.labels().names("sequence").unwrap(), ["F001_T1"]);
    assert_eq!(
        opened("bp4d", root, ",development").unwrap().sample_id(0),
        "F002/T1/2440.jpg"
    );
    fs::remove_file(root.join("AU-Intensity-Codes3.0/AU17/F002_T1_AU17.csv")).unwrap();
    let error = opened("bp4d", root, "").err().unwrap();
    assert!(
        error.starts_with("ROOT/AU-Intensity-Codes3.0/AU17/F002_T1_AU17.csv: cannot read"),
        "{error}"
    );
}

/// A MATLAB 7.3 file that h5py wrote: `fixtures/data/cofw.py` says how.
#[cfg(feature = "cofw")]
const COFW: &[u8] = include_bytes!("../../../fixtures/data/cofw.mat");

#[cfg(feature = "cofw")]
#[test]
fn cofw_is_read_out_of_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "COFW_train_color.mat", COFW);
    let set = opened("cofw", root, "").unwrap();
    assert_eq!((set.len(), set.name()), (3, "cofw"));
    assert_eq!(set.sample_id(2), "IsTr, cell 3");
    // Counted from zero the second box is 9 to 25 by 7 to 23, and the square of 20 about its middle begins at (7, 5).
    let image = set.image(1).unwrap();
    assert_eq!((image.width, image.height, image.channels), (20, 20, 3));
    let pixel = |image: usize, y: usize, x: usize, c: usize| {
        ((7 * image + 3 * y + 5 * x + 11 * c) % 256) as u8
    };
    for (y, x) in [(0, 0), (3, 8), (19, 19)] {
        let found = &image.pixels[(y * 20 + x) * 3..][..3];
        assert_eq!(
            found,
            [pixel(1, y + 5, x + 7, 0); 3],
            "grey, in three channels"
        );
    }
    let landmarks = set
        .labels()
        .vectors("landmarks")
        .unwrap()
        .row(1)
        .unwrap()
        .to_vec();
    assert_eq!(
        landmarks[..4],
        [10.0 - 7.0, 8.0 - 5.0, 10.5 - 7.0, 8.25 - 5.0]
    );
    let hidden = set
        .labels()
        .vectors("hidden")
        .unwrap()
        .row(1)
        .unwrap()
        .to_vec();
    assert_eq!(hidden[..4], [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(
        set.labels().values("factor.hidden").unwrap()[1],
        10.0 / 29.0
    );
    // Colours keep their places: the third box is 10 to 30 by 8 to 32, its square of 30 begins at (5, 5).
    let image = set.image(2).unwrap();
    let found = &image.pixels[(4 * 30 + 9) * 3..][..3];
    assert_eq!(found, [0, 1, 2].map(|c| pixel(2, 4 + 5, 9 + 5, c)));
}

#[cfg(feature = "cofw")]
#[test]
fn cofw_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = |part: &str| {
        let set = opened("cofw", root, part).map_err(|e| e.to_string())?;
        (0..set.len()).try_for_each(|index| set.image(index).map(drop).map_err(|e| e.to_string()))
    };
    let error = refused("").unwrap_err();
    assert!(error.contains("expected COFW_train_color.mat"), "{error}");
    write(root, "COFW_test_color.mat", COFW);
    let error = refused(",test").unwrap_err();
    assert!(
        error.contains("COFW_test_color.mat") && error.contains("IsT"),
        "{error}"
    );
    write(root, "COFW_train_color.mat", b"MATLAB 7.3 MAT-file");
    let error = refused("").unwrap_err();
    assert!(error.contains("COFW_train_color.mat"), "{error}");
    // Cut anywhere, or with any byte turned: an error or a set, never a panic.
    for cut in (512..COFW.len()).step_by(97) {
        write(root, "COFW_train_color.mat", &COFW[..cut]);
        let _ = refused("");
    }
    for at in (512..COFW.len()).step_by(53) {
        let mut bytes = COFW.to_vec();
        bytes[at] ^= 0xff;
        write(root, "COFW_train_color.mat", bytes);
        let _ = refused("");
    }
}
