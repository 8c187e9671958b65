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
