//! Any bytes as an image file (PGM, PNG, JPEG), and as a PGM in need of repair.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = phiz_data::decode_image(bytes) {
        phiz_data::encode_png(&image).expect("what was decoded is encoded");
    }
    if let Ok(repaired) = phiz_data::orl::repair_pgm("fuzz", bytes) {
        let _ = phiz_data::decode_image(&repaired);
    }
});
