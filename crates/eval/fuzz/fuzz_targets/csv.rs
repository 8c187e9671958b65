//! Any bytes as a CSV table: an error or a sound table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phiz_eval::Embeddings;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(table) = Embeddings::from_csv(bytes) {
        assert!(table.len() > 0 && table.dim() > 0);
        assert!((0..table.len()).all(|i| {
            table
                .row(i)
                .is_some_and(|r| r.iter().all(|v| v.is_finite()))
        }));
        let again = table.to_safetensors().expect("a sound table is written");
        assert_eq!(
            Embeddings::from_safetensors(&again).expect("and read"),
            table
        );
    }
});
