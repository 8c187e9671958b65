//! Every source end to end, and every way a folder of images can be wrong.

#![allow(clippy::unwrap_used)] // functions outside of #[test]

use std::fs;
use std::path::Path;

use phiz_data::{
    Dataset, Error, ErrorKind, Folder, Image, InMemory, Spec, check, encode_png, info, write_folder,
};

fn png(value: u8) -> Vec<u8> {
    encode_png(&Image {
        width: 4,
        height: 3,
        channels: 1,
        pixels: vec![value; 12],
    })
    .unwrap()
}

fn write(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn open_error(path: &Path) -> Error {
    Folder::open(path).err().unwrap()
}

fn line(error: &Error, root: &Path) -> String {
    // Windows writes its paths with backslashes.
    error
        .to_string()
        .replace('\\', "/")
        .replace(&root.display().to_string().replace('\\', "/"), "ROOT")
}

#[test]
fn the_orl_faces_are_repaired_to_the_known_set() {
    let set = match "orl".parse::<Spec>().unwrap().open() {
        Ok(set) => set,
        Err(error) if matches!(error.kind(), ErrorKind::Fetch(_)) => {
            println!("skipped: the ORL faces could not be fetched: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let info = info(set.as_ref()).unwrap();
    assert_eq!((info.images, info.identities), (400, Some(40)));
    assert_eq!(
        (info.width, info.height, info.channels),
        (Some(92), Some(112), Some(1))
    );
    assert_eq!(format!("{:.2}", info.mean_grey), "112.63");
    assert!(!info.rendered);
    let labels = set.labels();
    assert_eq!(labels.names("identity").unwrap()[39], "s40");
    for (i, code) in labels.codes("identity").unwrap().iter().enumerate() {
        assert_eq!(*code as usize, i / 10);
        assert_eq!(
            set.sample_id(i),
            format!("s{}/{}.pgm", i / 10 + 1, i % 10 + 1)
        );
    }
    assert!(set.image(400).is_err());
    assert_eq!(set.sample_id(400), "");
}

#[test]
fn rendered_faces_say_so_and_export_to_a_folder() {
    let spec: Spec = "synth:identities=3,per_expression=2,size=24,first_identity=5"
        .parse()
        .unwrap();
    let set = spec.open().unwrap();
    assert!(set.rendered());
    assert_eq!(set.len(), 3 * 7 * 2);
    assert_eq!(set.labels().names("identity").unwrap(), ["p5", "p6", "p7"]);
    assert_eq!(set.labels().classes("expression"), 7);
    assert_eq!(set.labels().values("factor.yaw").unwrap().len(), 42);
    let figures = info(set.as_ref()).unwrap();
    assert!(figures.rendered && figures.mean_grey > 20.0 && figures.mean_grey < 235.0);
    let ids: std::collections::BTreeSet<String> = (0..42).map(|i| set.sample_id(i)).collect();
    assert_eq!(ids.len(), 42);
    // Overlapping people are the same people.
    let other = "synth:identities=1,per_expression=2,size=24,first_identity=6"
        .parse::<Spec>()
        .unwrap()
        .open()
        .unwrap();
    assert_eq!(other.image(3).unwrap(), set.image(14 + 3).unwrap());

    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("faces");
    write_folder(set.as_ref(), &out).unwrap();
    let back = Spec::Folder(out).open().unwrap();
    assert_eq!(back.labels().classes("identity"), 3);
    let mut renamed: Vec<&str> = back
        .labels()
        .names("expression")
        .unwrap()
        .iter()
        .map(String::as_str)
        .collect();
    let mut original: Vec<&str> = set
        .labels()
        .names("expression")
        .unwrap()
        .iter()
        .map(String::as_str)
        .collect();
    renamed.sort_unstable();
    original.sort_unstable();
    assert_eq!(renamed, original);
    for i in 0..42 {
        assert_eq!(back.image(i).unwrap(), set.image(i).unwrap());
    }
    // Floats are written so that they read back to the bit.
    assert_eq!(
        back.labels().values("factor.yaw").unwrap(),
        set.labels().values("factor.yaw").unwrap()
    );
    assert!(
        "synth:identities=4000000"
            .parse::<Spec>()
            .unwrap()
            .open()
            .is_err()
    );
}

#[test]
fn idx_files_open_plain_and_compressed() {
    use std::io::Write;
    let root = tempfile::tempdir().unwrap();
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3];
    images.extend(0..12u8);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&images).unwrap();
    write(
        root.path(),
        "t10k-images-idx3-ubyte.gz",
        &encoder.finish().unwrap(),
    );
    write(
        root.path(),
        "t10k-labels-idx1-ubyte",
        &[0, 0, 8, 1, 0, 0, 0, 2, 7, 1],
    );
    let spec = format!("mnist:{},test", root.path().display())
        .parse::<Spec>()
        .unwrap();
    let set = spec.open().unwrap();
    assert_eq!(set.name(), "mnist:test");
    assert_eq!(set.labels().codes("label").unwrap(), [7, 1]);
    let image = set.image(1).unwrap();
    assert_eq!((image.width, image.height), (3, 2));
    assert_eq!(image.pixels, [6, 7, 8, 9, 10, 11]);
    assert_eq!(set.sample_id(1), "test/1");
    let fashion = format!("fashion-mnist:{},test", root.path().display())
        .parse::<Spec>()
        .unwrap()
        .open()
        .unwrap();
    assert_eq!(fashion.labels().names("label").unwrap()[7], "Sneaker");

    write(
        root.path(),
        "t10k-labels-idx1-ubyte",
        &[0, 0, 8, 1, 0, 0, 0, 3, 7, 1, 1],
    );
    let error = spec.open().err().unwrap();
    assert_eq!(
        line(&error, root.path()),
        "ROOT/t10k-labels-idx1-ubyte: expected 2 labels, one an image, found sizes [3]"
    );
    let error = format!("mnist:{}", root.path().display())
        .parse::<Spec>()
        .unwrap()
        .open()
        .err()
        .unwrap();
    assert!(matches!(error.kind(), ErrorKind::Missing(_)));
}

#[test]
fn folders_give_identity_and_expression() {
    let root = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("s10/a.png", 3),
        ("s2/b.PNG", 2),
        ("s2/a10.png", 1),
        ("s2/a9.png", 0),
    ] {
        write(root.path(), name, &png(value));
    }
    write(root.path(), "s2/Thumbs.db", b"x");
    write(root.path(), "README.txt", b"x");
    write(root.path(), ".hidden/x.png", b"x");
    let set = Folder::open(root.path()).unwrap();
    assert_eq!(
        (0..4).map(|i| set.sample_id(i)).collect::<Vec<_>>(),
        ["s2/a9.png", "s2/a10.png", "s2/b.PNG", "s10/a.png"]
    );
    assert_eq!(set.labels().codes("identity").unwrap(), [0, 0, 0, 1]);
    for i in 0..4 {
        assert_eq!(set.image(i).unwrap().pixels, [i as u8; 12]);
    }
    assert!(set.labels().codes("expression").is_err());

    let deep = tempfile::tempdir().unwrap();
    for name in ["anna/joy/1.png", "anna/fear/1.png", "bert/joy/1.png"] {
        write(deep.path(), name, &png(1));
    }
    let set = Folder::open(deep.path()).unwrap();
    assert_eq!(set.labels().names("expression").unwrap(), ["fear", "joy"]);
    assert_eq!(set.labels().codes("expression").unwrap(), [0, 1, 1]);
    assert_eq!(set.labels().codes("identity").unwrap(), [0, 0, 1]);

    let flat = tempfile::tempdir().unwrap();
    write(flat.path(), "1.png", &png(1));
    assert!(
        Folder::open(flat.path())
            .unwrap()
            .labels()
            .columns()
            .is_empty()
    );
    InMemory::new(&Folder::open(flat.path()).unwrap()).unwrap();
}

#[test]
fn an_index_is_found_in_a_folder_or_named() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "pics/a.png", &png(1));
    write(root.path(), "pics/b.png", &png(2));
    write(
        root.path(),
        "index.csv",
        b"path,identity,age\npics/b.png,x,7\npics/a.png,y,8\n",
    );
    let set = Folder::open(root.path()).unwrap();
    assert_eq!(set.image(0).unwrap().pixels[0], 2);
    assert_eq!(set.labels().values("factor.age").unwrap(), [7.0, 8.0]);
    write(
        root.path(),
        "other.jsonl",
        b"{\"path\": \"pics/a.png\", \"expression\": \"joy\"}\n",
    );
    let other = Folder::open(&root.path().join("other.jsonl")).unwrap();
    assert_eq!(other.len(), 1);
    assert_eq!(other.labels().names("expression").unwrap(), ["joy"]);
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    let told = |name: &str| line(&open_error(&root.join(name)), root);

    fs::create_dir_all(root.join("empty/s1")).unwrap();
    assert_eq!(
        told("empty"),
        "ROOT/empty: no images, expected identity/*.{png,jpg,jpeg,pgm,ppm,pnm,pbm} or an index.csv"
    );
    assert!(told("nowhere").starts_with("ROOT/nowhere: cannot open: "));

    write(root, "zero/s1/a.png", b"");
    assert_eq!(
        told("zero"),
        "ROOT/zero/s1/a.png: empty file, expected an image"
    );

    write(root, "mixed/s1/a.png", &png(0));
    write(root, "mixed/s1/joy/b.png", &png(0));
    assert!(
        told("mixed").contains("images at different depths"),
        "{}",
        told("mixed")
    );
    write(root, "deep/a/b/c/d.png", &png(0));
    assert!(told("deep").contains("nested too deep"));

    write(root, "index/a.png", &png(0));
    write(
        root,
        "index/index.csv",
        b"path,identity\na.png,1\ngone.png,1\n",
    );
    assert_eq!(
        told("index"),
        "ROOT/index/index.csv: line 3: image \"gone.png\" does not exist"
    );
    write(root, "index/index.csv", b"path,identity\na.png\n");
    assert_eq!(
        told("index"),
        "ROOT/index/index.csv: line 2: expected 2 fields as in the header, found 1"
    );
    write(root, "index/gone.png", b"");
    write(
        root,
        "index/index.csv",
        b"path,identity\na.png,1\ngone.png,1\n",
    );
    assert_eq!(
        told("index"),
        "ROOT/index/index.csv: line 3: image \"gone.png\" is an empty file"
    );
    write(root, "text", b"x");
    assert!(told("text").contains("expected a folder of images"));

    // These are found when the image is decoded.
    write(root, "bad/s1/a.png", &png(0));
    write(root, "bad/s1/b.png", b"hello, I am text");
    let set = Folder::open(&root.join("bad")).unwrap();
    set.image(0).unwrap();
    assert_eq!(
        line(&set.image(1).unwrap_err(), root),
        "ROOT/bad/s1/b.png: not a PNG, JPEG or PNM image (starts with bytes 68 65 6c 6c)"
    );
    assert_eq!(
        check(&set).unwrap_err().to_string(),
        set.image(1).unwrap_err().to_string()
    );
    let mut jpeg = Vec::new();
    let pixels: Vec<u8> = (0..64 * 64).map(|i| (i * 13 % 256) as u8).collect();
    image::ImageEncoder::write_image(
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg),
        &pixels,
        64,
        64,
        image::ExtendedColorType::L8,
    )
    .unwrap();
    write(root, "cut/a.jpg", &jpeg[..jpeg.len() / 2]);
    write(root, "cut/index.csv", b"path\na.jpg\n");
    let error = Folder::open(&root.join("cut"))
        .unwrap()
        .image(0)
        .unwrap_err();
    assert_eq!(
        line(&error, root),
        "ROOT/cut/a.jpg: index.csv line 2: truncated JPEG: no end-of-image marker"
    );
}

/// The resize agrees with PyTorch's antialiased bilinear one (fixtures/data/resize.py).
#[test]
fn resizing_agrees_with_pytorch() {
    use phiz_data::{Transform, to_chw_f32};
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/data/resize.json"
    );
    let golden: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let size = |key: &str| {
            (
                case[key][0].as_u64().unwrap() as usize,
                case[key][1].as_u64().unwrap() as usize,
            )
        };
        let ((height, width), (out_h, out_w)) = (size("from"), size("to"));
        let pixels = (0..height * width)
            .map(|i| ((i * i * 7 + i * 31) % 256) as u8)
            .collect();
        let image = Image {
            width,
            height,
            channels: 1,
            pixels,
        };
        let no_rng = None::<&mut rand_chacha::ChaCha8Rng>;
        let ours = to_chw_f32(&image, &Transform::new(out_h, out_w, 1), no_rng).unwrap();
        let theirs = case["values"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            let difference = f64::from(*ours) - (theirs.as_f64().unwrap() * 2.0 - 1.0);
            assert!(
                difference.abs() < 1e-6,
                "{height}x{width} to {out_h}x{out_w}: {difference}"
            );
        }
    }
}
