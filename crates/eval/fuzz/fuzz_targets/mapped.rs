//! Any bytes as a file that is mapped: it holds what reading it into memory gives, or both refuse.
//!
//! The first byte chooses between npy and safetensors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phiz_eval::Embeddings;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let extension = if first % 2 == 0 { "npy" } else { "safetensors" };
    let path = std::env::temp_dir().join(format!("phiz-fuzz-{}.{extension}", std::process::id()));
    std::fs::write(&path, bytes).expect("room in the folder for temporary files");
    let read = if extension == "npy" {
        Embeddings::from_npy(bytes)
    } else {
        Embeddings::from_safetensors(bytes)
    };
    match (Embeddings::map(&path), read) {
        (Ok(mapped), Ok(read)) => assert_eq!(mapped.values(), read.values()),
        (Err(_), Err(_)) => {}
        (mapped, read) => panic!(
            "mapped: {:?}, read: {:?}",
            mapped.map(|_| ()),
            read.map(|_| ())
        ),
    }
});
