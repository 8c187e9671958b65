//! CelebA: aligned photographs, forty attributes, identities and the authors' three parts.
//!
//! Follows the layout of Liu, Luo, Wang and Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015: text lists
//! whose records are a file name and numbers, `list_attr_celeba.txt` with a count and a line of attribute names before
//! them. The lists may lie in PATH itself or in `Anno` and `Eval`, the images in `img_align_celeba` or below `Img`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{find, read_list};
use crate::folder::Folder;
use crate::{Column, Error, ErrorKind, Labels, Result};

/// The authors' parts, by their number in `list_eval_partition.txt`.
pub const PARTS: [&str; 3] = ["train", "validation", "test"];

/// Opens CelebA, or one of its [`PARTS`].
///
/// Labels: `part`; every attribute under its own name with a prefix, as in `factor.Smiling`, classes `no` and `yes`;
/// `identity` (classes are the numbers of the list) when `identity_CelebA.txt`, which its authors hand out on request, is there.
///
/// # Errors
/// Names the list and the line: a list that is missing, an attribute that is neither 1 nor -1, a record of another length, a
/// count that is not the number of records, a name that a second list does not know, an image that is not there.
pub fn open(root: &Path, part: Option<&str>) -> Result<Folder> {
    let attributes = find(root, &["list_attr_celeba.txt", "Anno/list_attr_celeba.txt"])?;
    let parts = find(
        root,
        &["list_eval_partition.txt", "Eval/list_eval_partition.txt"],
    )?;
    let images = find(root, &["img_align_celeba", "Img/img_align_celeba"])?;
    let identities = find(root, &["identity_CelebA.txt", "Anno/identity_CelebA.txt"]).ok();

    let texts = (read_list(&attributes)?, read_list(&parts)?);
    let table = parse_attributes(&texts.0).map_err(|e| e.at(&attributes))?;
    let part_of = parse_pairs(&texts.1, Some(2)).map_err(|e| e.at(&parts))?;
    let known = identities.as_deref().map(read_list).transpose()?;
    let identity_of = match (&known, &identities) {
        (Some(text), Some(path)) => Some(parse_pairs(text, None).map_err(|e| e.at(path))?),
        _ => None,
    };
    let wanted = match part {
        Some(name) => Some(PARTS.iter().position(|p| *p == name).ok_or_else(|| {
            Error::config(format!(
                "unknown part {name:?}: expected one of {}",
                PARTS.join(", ")
            ))
        })? as u32),
        None => None,
    };

    let look_up = |list: &BTreeMap<&str, u32>, at: &Path, record: &Record<'_>| {
        list.get(record.file).copied().ok_or_else(|| {
            Error::missing(format!(
                "{} is in the list of attributes, but not here",
                record.file
            ))
            .at(at)
        })
    };
    let mut kept = Vec::new();
    let mut codes = Vec::new();
    for record in &table.records {
        let code = look_up(&part_of, &parts, record)?;
        if wanted.is_none_or(|wanted| wanted == code) {
            kept.push(record);
            codes.push(code);
        }
    }
    if kept.is_empty() {
        let what = part.unwrap_or("record");
        return Err(
            Error::new(ErrorKind::Empty(format!("no {what} image in the list"))).at(&parts),
        );
    }

    let mut labels = Labels::new(kept.len());
    labels.insert("part", categorical(codes, &PARTS))?;
    for (at, name) in table.names.iter().enumerate() {
        let values = kept
            .iter()
            .map(|record| u32::from(record.values[at]))
            .collect();
        labels.insert(
            format!("factor.{name}"),
            categorical(values, &["no", "yes"]),
        )?;
    }
    if let (Some(list), Some(path)) = (&identity_of, &identities) {
        let numbers = kept
            .iter()
            .map(|record| Ok(look_up(list, path, record)?.to_string()))
            .collect::<Result<Vec<String>>>()?;
        labels.insert("identity", Column::from_names(&numbers))?;
    }
    let ids = kept.iter().map(|record| record.file.to_string()).collect();
    let lines = kept.iter().map(|record| record.line).collect();
    Folder::listed("celeba", &attributes, &images, ids, lines, labels)
}

fn categorical(codes: Vec<u32>, names: &[&str]) -> Column {
    Column::Categorical {
        codes,
        names: names.iter().map(ToString::to_string).collect(),
    }
}

struct Record<'a> {
    file: &'a str,
    line: u64,
    values: Vec<bool>,
}

struct Attributes<'a> {
    names: Vec<&'a str>,
    records: Vec<Record<'a>>,
}

/// A count, a line of names, then one file a line with a 1 or -1 for each name.
fn parse_attributes(text: &str) -> Result<Attributes<'_>> {
    let mut lines = text.lines().zip(1u64..);
    let count: usize = lines
        .next()
        .and_then(|(line, _)| line.trim().parse().ok())
        .ok_or_else(|| Error::format("expected the number of images").record("line 1"))?;
    let names: Vec<&str> = lines
        .next()
        .map(|(line, _)| line.split_whitespace().collect())
        .unwrap_or_default();
    if names.is_empty() {
        return Err(Error::format("expected the names of the attributes").record("line 2"));
    }
    let mut records = Vec::new();
    for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty()) {
        let wrong = |message: String| Error::format(message).record(format!("line {number}"));
        let mut fields = line.split_whitespace();
        let file = plain_name(fields.next().unwrap_or_default(), number)?;
        let values = fields
            .map(|field| match field {
                "1" => Ok(true),
                "-1" => Ok(false),
                _ => Err(wrong(format!("expected 1 or -1, found {field:?}"))),
            })
            .collect::<Result<Vec<bool>>>()?;
        if values.len() != names.len() {
            return Err(wrong(format!(
                "expected {} attributes, found {}",
                names.len(),
                values.len()
            )));
        }
        records.push(Record {
            file,
            line: number,
            values,
        });
    }
    if records.len() != count {
        return Err(Error::format(format!(
            "line 1 says {count} images, found {}",
            records.len()
        )));
    }
    Ok(Attributes { names, records })
}

/// One file and one number a line, the number at most `max`.
fn parse_pairs(text: &str, max: Option<u32>) -> Result<BTreeMap<&str, u32>> {
    let mut found = BTreeMap::new();
    for (line, number) in text
        .lines()
        .zip(1u64..)
        .filter(|(line, _)| !line.trim().is_empty())
    {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let value = match fields[..] {
            [_, value] => value.parse::<u32>().ok(),
            _ => None,
        };
        let Some(value) = value.filter(|value| max.is_none_or(|max| *value <= max)) else {
            let range = max.map_or_else(String::new, |max| format!(" of at most {max}"));
            return Err(Error::format(format!(
                "expected a file and a whole number{range}, found {line:?}"
            ))
            .record(format!("line {number}")));
        };
        if found
            .insert(plain_name(fields[0], number)?, value)
            .is_some()
        {
            return Err(
                Error::format(format!("{} stands here a second time", fields[0]))
                    .record(format!("line {number}")),
            );
        }
    }
    Ok(found)
}

/// A file name, not a way out of the folder.
fn plain_name(name: &str, line: u64) -> Result<&str> {
    if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(
            Error::format(format!("expected a file name, found {name:?}"))
                .record(format!("line {line}")),
        );
    }
    Ok(name)
}
