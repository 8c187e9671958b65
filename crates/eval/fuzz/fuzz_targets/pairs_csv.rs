//! Any bytes as a pair list: every pair that comes out refers to a row that is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phiz_eval::{Embeddings, PairList};

fuzz_target!(|bytes: &[u8]| {
    let table = Embeddings::new(vec![1.0; 8], 2)
        .and_then(|t| t.with_ids(["a", "b", "c/d.png", "7"].map(String::from).to_vec()))
        .expect("a sound table");
    if let Ok(list) = PairList::from_csv(bytes, &table) {
        assert!(list.pairs().iter().all(|p| p.a < 4 && p.b < 4));
    }
});
