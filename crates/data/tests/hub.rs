//! A data set of the hub, out of a cache laid out as the hub client does.
#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used)] // functions outside of #[test]

mod common;

use std::fs;
use std::path::Path;

use common::{check_rows, rows, write_hub};
use phiz_data::Dataset;
use phiz_data::hub::open_cached;

/// A cache as the hub client leaves it: blobs, snapshots that link to them, refs.
fn cache(root: &Path) {
    let repo = root.join("datasets--someone--faces");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    write_hub(&repo.join("blobs/aaaa"), &rows());
    write_hub(&repo.join("blobs/bbbb"), &rows()[..1]);
    for (name, blob) in [
        ("default/train/0000.parquet", "aaaa"),
        ("default/test/0000.parquet", "bbbb"),
    ] {
        let path = repo.join("snapshots").join(commit).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(Path::new("../../../../blobs").join(blob), &path).unwrap();
        #[cfg(not(unix))]
        fs::copy(repo.join("blobs").join(blob), &path)
            .map(|_| ())
            .unwrap();
    }
    fs::create_dir_all(repo.join("refs/refs/convert")).unwrap();
    fs::write(repo.join("refs/refs/convert/parquet"), commit).unwrap();
}

#[test]
fn a_set_in_the_hub_clients_cache_opens_without_the_network() {
    let root = tempfile::tempdir().unwrap();
    cache(root.path());
    let train = open_cached(root.path(), "someone/faces", Some("train")).unwrap();
    assert_eq!(train.name(), "hub:someone/faces,train");
    check_rows(&train);
    assert_eq!(
        open_cached(root.path(), "someone/faces", Some("test"))
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        open_cached(root.path(), "someone/faces", None)
            .unwrap()
            .len(),
        4
    );
    let error = open_cached(root.path(), "someone/faces", Some("tes"))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.ends_with("no parquet file of split \"tes\""),
        "{error}"
    );
    let error = open_cached(root.path(), "someone/else", None)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.ends_with("the hub's cache holds no parquet files of someone/else"),
        "{error}"
    );
    let bad = root
        .path()
        .join("datasets--someone--faces/refs/refs/convert/parquet");
    fs::write(bad, "../../elsewhere").unwrap();
    assert!(open_cached(root.path(), "someone/faces", None).is_err());
}
