//! Any bytes as a safetensors file: an error or a sound table that reads back from what it writes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phiz_eval::Embeddings;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(table) = Embeddings::from_safetensors(bytes) {
        assert!(table.len() > 0 && table.dim() > 0);
        let again = table.to_safetensors().expect("a sound table is written");
        assert_eq!(
            Embeddings::from_safetensors(&again).expect("and read"),
            table
        );
    }
});
