//! TensorBoard event files: scalars only, written by hand.
//!
//! The format is a sequence of TFRecords (length, masked CRC-32C of it, data, masked CRC-32C of that), each
//! holding one protobuf `Event`. Of the crates that write it, `tboard` 0.1 needs the `protoc` program at
//! build time, and `tensorboard-rs` 0.5 panics when the disk is full; scalars need two messages, so they are
//! encoded here. TensorBoard's own `EventAccumulator` (tensorboard 2.21) reads the files.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

const PREFIX: &str = "events.out.tfevents.";

/// An event file being written. Each call reaches the operating system before it returns.
pub(crate) struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Starts a new file in `folder`, which sorts after those that are there.
    ///
    /// Its first event after the version says that a session starts after `done` steps: TensorBoard then
    /// drops what older files say about later steps, so a resumed run continues its curves without overlap.
    pub(crate) fn create(folder: &Path, done: u64) -> Result<Self> {
        let (path, file) = create_after_existing(folder)?;
        let mut writer = Self { file, path };
        let mut version = Vec::new();
        put_bytes(&mut version, 3, b"brain.Event:2");
        writer.event(0, &version)?;
        let mut session = Vec::new();
        put_varint_field(&mut session, 1, 1); // SessionLog.status = START
        let mut start = Vec::new();
        put_bytes(&mut start, 7, &session);
        writer.event(done + 1, &start)?;
        Ok(writer)
    }

    /// Writes the scalars of one step as one event.
    pub(crate) fn scalars<'a>(
        &mut self,
        step: u64,
        scalars: impl Iterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, tag.as_bytes());
            put_key(&mut entry, 2, 5); // simple_value, 32 bits
            entry.extend((value as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &entry);
        }
        let mut what = Vec::new();
        put_bytes(&mut what, 5, &summary);
        self.event(step, &what)
    }

    fn event(&mut self, step: u64, what: &[u8]) -> Result<()> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0., |time| time.as_secs_f64());
        let mut event = Vec::new();
        put_key(&mut event, 1, 1); // wall_time, 64 bits
        event.extend(now.to_le_bytes());
        put_varint_field(&mut event, 2, step);
        event.extend_from_slice(what);
        self.file
            .write_all(&record(&event))
            .map_err(|error| Error::io("writing", &self.path, error))
    }
}

fn create_after_existing(folder: &Path) -> Result<(PathBuf, File)> {
    let mut seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    // A clock that went back must not sort a resumed run's file before the first one.
    for entry in fs::read_dir(folder)
        .map_err(|error| Error::io("listing", folder, error))?
        .flatten()
    {
        let name = entry.file_name();
        let stamp = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('.').next());
        if let Some(stamp) = stamp.and_then(|stamp| stamp.parse::<u64>().ok()) {
            seconds = seconds.max(stamp);
        }
    }
    let mut attempt = 0;
    loop {
        let path = folder.join(format!("{PREFIX}{seconds:010}.phiz.{attempt:03}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && attempt < 999 => {
                attempt += 1;
            }
            Err(error) => return Err(Error::io("creating", &path, error)),
        }
    }
}

fn put_key(out: &mut Vec<u8>, field: u64, wire: u64) {
    put_varint(out, field << 3 | wire);
}

fn put_varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    put_key(out, field, 0);
    put_varint(out, value);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend(masked_crc(data).to_le_bytes());
    out
}

/// TFRecord's mask makes the checksum of data that holds checksums behave.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: an event has a few hundred bytes.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

#[cfg(test)]
pub(crate) mod reader {
    //! Reads back what the writer wrote, by the format's definition and not by the writer's code.
    use super::crc32c;

    /// (step, is a session start, tag and value pairs)
    pub(crate) type Read = (u64, bool, Vec<(String, f32)>);

    pub(crate) fn events(mut bytes: &[u8]) -> Vec<Read> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            check(&bytes[..8], &bytes[8..12]);
            let data = &bytes[12..12 + length];
            check(data, &bytes[12 + length..16 + length]);
            bytes = &bytes[16 + length..];
            all.push(event(data));
        }
        all
    }

    fn check(data: &[u8], stored: &[u8]) {
        let unmasked = u32::from_le_bytes(stored.try_into().unwrap()).wrapping_sub(0xa282ead8);
        assert_eq!(unmasked.rotate_left(15), crc32c(data));
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    enum Field<'a> {
        Number(u64),
        Bytes(&'a [u8]),
    }

    fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let mut take = |n: usize| {
                let (head, tail) = bytes.split_at(n);
                bytes = tail;
                head
            };
            let field = match key & 7 {
                0 => Field::Number(varint(&mut bytes)),
                1 => Field::Bytes(take(8)),
                5 => Field::Bytes(take(4)),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    let (head, tail) = bytes.split_at(length);
                    bytes = tail;
                    Field::Bytes(head)
                }
                wire => panic!("wire type {wire}"),
            };
            all.push((key >> 3, field));
        }
        all
    }

    fn event(data: &[u8]) -> Read {
        let mut read = (0, false, Vec::new());
        for (number, field) in fields(data) {
            match (number, field) {
                (1, Field::Bytes(time)) => {
                    assert!(f64::from_le_bytes(time.try_into().unwrap()) > 1e9);
                }
                (2, Field::Number(step)) => read.0 = step,
                (3, Field::Bytes(version)) => assert_eq!(version, b"brain.Event:2"),
                (7, Field::Bytes(session)) => read.1 = session == [8, 1],
                (5, Field::Bytes(summary)) => {
                    for (_, value) in fields(summary) {
                        let Field::Bytes(value) = value else {
                            panic!("a value is a message")
                        };
                        let mut entry = (String::new(), f32::NAN);
                        for (number, field) in fields(value) {
                            match (number, field) {
                                (1, Field::Bytes(tag)) => {
                                    entry.0 = String::from_utf8(tag.to_vec()).unwrap();
                                }
                                (2, Field::Bytes(x)) => {
                                    entry.1 = f32::from_le_bytes(x.try_into().unwrap());
                                }
                                _ => panic!("field {number}"),
                            }
                        }
                        read.2.push(entry);
                    }
                }
                _ => panic!("field {number}"),
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_gives_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
    }

    #[test]
    fn what_is_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 299).unwrap();
        writer
            .scalars(300, [("train/loss", 0.5), ("lr", 1e-3)].into_iter())
            .unwrap();
        writer
            .scalars(301, [("train/loss", f64::NAN)].into_iter())
            .unwrap();
        let events = reader::events(&fs::read(&writer.path).unwrap());
        assert_eq!(events.len(), 4);
        assert_eq!(events[1], (300, true, vec![]));
        assert_eq!(
            events[2],
            (
                300,
                false,
                vec![("train/loss".into(), 0.5), ("lr".into(), 1e-3)]
            )
        );
        assert!(events[3].2[0].1.is_nan());
        let second = EventWriter::create(folder.path(), 0).unwrap();
        assert!(second.path > writer.path);
    }
}
