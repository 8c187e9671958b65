//! Any text as a protocol file, and as the name of a protocol.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phiz_eval::{Protocol, ProtocolFile};

fuzz_target!(|text: &str| {
    if let Ok(file) = ProtocolFile::from_toml(text) {
        assert!(
            file.fars
                .iter()
                .flatten()
                .all(|far| *far > 0.0 && *far <= 1.0)
        );
    }
    let _ = text.parse::<Protocol>();
});
