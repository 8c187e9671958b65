//! Any bytes as an idx file of images or labels.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = phiz_data::idx::parse_idx(bytes);
});
