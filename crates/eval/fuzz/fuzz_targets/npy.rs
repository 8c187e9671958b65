//! Any bytes as an npy file of embeddings and of labels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phiz_eval::{Embeddings, labels_from_npy};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(table) = Embeddings::from_npy(bytes) {
        assert!((0..table.len()).all(|i| table.row(i).is_some_and(|r| r.len() == table.dim())));
    }
    let _ = labels_from_npy(bytes);
});
