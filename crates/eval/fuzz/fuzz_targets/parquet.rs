//! Any bytes as a parquet file: an error or a sound table.
//!
//! What the parquet crate panics over is caught by the reader and becomes an error, so the hook that ends the program on
//! a panic is taken away: what is looked for are hangs, memory without bound and tables that are not sound.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use phiz_eval::Embeddings;

fn path() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        std::panic::set_hook(Box::new(|_| {}));
        std::env::temp_dir().join(format!("phiz-fuzz-{}.parquet", std::process::id()))
    })
}

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(path(), bytes).expect("room in the folder for temporary files");
    if let Ok(table) = Embeddings::read_parquet(path()) {
        if table.len() == 0 || table.dim() == 0 || table.values().iter().any(|v| !v.is_finite()) {
            eprintln!("a table that is not sound");
            std::process::abort();
        }
    }
});
