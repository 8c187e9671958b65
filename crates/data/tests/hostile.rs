//! Readers on hostile input: whatever the bytes, an answer or an error, never a panic or a huge allocation.

#![allow(clippy::unwrap_used)] // functions outside of #[test]

use phiz_data::idx::parse_idx;
use phiz_data::index::{parse_csv, parse_json_lines};
use phiz_data::layouts::mat::parse_mat;
use phiz_data::layouts::pts::parse_pts;
use phiz_data::orl::repair_pgm;
use phiz_data::{Image, decode_image, encode_png, jpeg_is_complete};
use proptest::prelude::*;

/// Bytes that begin as something the readers know.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let starts = prop::sample::select(vec![
        &b""[..],
        b"P5\n92 112\n255\n",
        b"P5\r\n92 112\r\n255\r\n",
        b"P6 3 ",
        b"P2\n4294967295 1\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"\xff\xd8\xff\xe0",
        b"\xff\xd8\xff\xda",
        b"\0\0\x08\x01",
        b"\0\0\x08\x03\0\0\0\x02",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        b"path,identity\n",
        b"n_points: 2\n{\n1 2\n",
        b"\x0e\0\0\0\x40\0\0\0\x06\0\0\0\x08\0\0\0\x06\0\0\0",
        b"{\"path\":\"a\",\"x\":",
    ]);
    (starts, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(start, rest)| [start, &rest].concat())
}

fn small_png() -> Vec<u8> {
    let pixels = (0..6 * 5 * 3).map(|i| (i * 11 % 256) as u8).collect();
    encode_png(&Image {
        width: 6,
        height: 5,
        channels: 3,
        pixels,
    })
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_panics(bytes in bytes()) {
        for image in decode_image(&bytes).into_iter() {
            prop_assert_eq!(image.pixels.len(), image.width * image.height * image.channels);
        }
        if let Ok(idx) = parse_idx(&bytes[..]) {
            prop_assert_eq!(idx.dims.iter().product::<usize>(), idx.data.len());
            prop_assert!(idx.data.len() <= bytes.len() * 1100, "gzip expands at most about a thousand times");
        }
        for index in [parse_csv(&bytes[..]), parse_json_lines(&bytes[..])].into_iter().flatten() {
            prop_assert_eq!(index.paths.len(), index.labels.len());
            prop_assert_eq!(index.paths.len(), index.lines.len());
        }
        if let Ok(repaired) = repair_pgm("s8/10.pgm", &bytes) {
            prop_assert_eq!(repaired.len(), 10_318);
        }
        let _ = jpeg_is_complete(&bytes);
        let mut header = vec![b' '; 124];
        header.extend([0, 1, b'I', b'M']);
        for mat in [parse_mat(&bytes), parse_mat(&[&header, &bytes[..]].concat())] {
            for array in mat.into_iter().flat_map(std::collections::BTreeMap::into_values) {
                prop_assert_eq!(array.dims.iter().product::<usize>(), array.values.len());
            }
        }
        if let Ok(points) = parse_pts(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(points.as_flattened().iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn errors_are_one_line(bytes in bytes()) {
        let errors = [
            decode_image(&bytes).err(),
            parse_idx(&bytes[..]).err(),
            parse_csv(&bytes[..]).err(),
            parse_json_lines(&bytes[..]).err(),
            repair_pgm("s1/1.pgm", &bytes).err(),
        ];
        for error in errors.into_iter().flatten() {
            let line = error.to_string();
            prop_assert!(!line.contains('\n') && !line.is_empty(), "{:?}", line);
        }
    }

    #[test]
    fn a_flipped_byte_of_a_png_is_no_panic(at in 0usize..200, value in any::<u8>()) {
        let mut png = small_png();
        let at = at % png.len();
        png[at] = value;
        let _ = decode_image(&png);
    }

    #[test]
    fn repair_undoes_the_damage(pixels in prop::collection::vec(any::<u8>(), 92 * 112), id in 1usize..40) {
        // A pixel 13 is what the damage does not leave distinguishable.
        let mut good = b"P5\n92 112\n255\n".to_vec();
        good.extend(pixels.iter().map(|&p| if p == 13 { 10 } else { p }));
        let bad: Vec<u8> = good.iter().flat_map(|&b| if b == 10 { vec![13, 10] } else { vec![b] }).collect();
        let id = format!("s{id}/3.pgm");
        prop_assert_eq!(&repair_pgm(&id, &bad).unwrap(), &good);
        prop_assert_eq!(&repair_pgm(&id, &good).unwrap(), &good);
    }

    #[test]
    fn csv_text_of_any_kind(text in "(path|identity|a|1|,|\"|\n|é| ){0,40}") {
        if let Ok(index) = parse_csv(text.as_bytes()) {
            prop_assert!(!index.paths.is_empty());
        }
    }
}

/// Records with ever new fields must not make a table of records x fields: 1,000 fields and 200,000 records
/// would be 200 million strings.
#[test]
fn rare_fields_do_not_multiply() {
    let mut text = String::new();
    for i in 0..1500 {
        text.push_str(&format!("{{\"path\":\"a\",\"k{i}\":1}}\n"));
    }
    let error = parse_json_lines(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "line 1025: more than 1024 different fields");
}
