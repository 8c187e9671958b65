//! Any bytes as the pickle inside a `torch.save` archive, beside one storage of 64 bytes: read as data, never executed.
#![no_main]

use std::io::{Cursor, Write};

use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;

fuzz_target!(|bytes: &[u8]| {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in [
        ("archive/data.pkl", bytes),
        ("archive/byteorder", b"little".as_slice()),
        ("archive/data/0", [7u8; 64].as_slice()),
        ("archive/version", b"3\n".as_slice()),
    ] {
        archive.start_file(name, stored).expect("begun");
        archive.write_all(content).expect("written");
    }
    let whole = archive.finish().expect("finished").into_inner();
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&whole).expect("written");
    let _ = phiz_backbones::load_pytorch(file.path());
});
