//! The meta files of IJB-B and IJB-C as insightface lays them out, and the official 1:N lists.
//!
//! * `*_face_tid_mid.txt`: `image template medium` for each image, in the order of the embeddings;
//! * `*_name_5pts_score.txt`: `image x1 y1 .. x5 y5 score`, of which the last column is read;
//! * `*_template_pair_label.txt`: `template template same`, same being 1 or 0;
//! * `*_1N_gallery_*.csv`, `*_1N_probe_*.csv`: comma separated with a header, `TEMPLATE_ID,SUBJECT_ID,...`.

use std::path::Path;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::files::read_bounded;

/// Template and medium of each image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateIndex {
    templates: Vec<u32>,
    media: Vec<u32>,
}

impl TemplateIndex {
    /// From columns.
    ///
    /// # Errors
    /// When they are empty or of different lengths.
    pub fn new(templates: Vec<u32>, media: Vec<u32>) -> Result<Self> {
        if templates.is_empty() || templates.len() != media.len() {
            return Err(Error::shape(format!(
                "{} template ids and {} media ids; expected as many, and one at least",
                templates.len(),
                media.len()
            )));
        }
        Ok(Self { templates, media })
    }

    /// Reads `image template medium` lines.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_text(&read_bounded(path)?).map_err(|e| e.at(path))
    }

    /// [`TemplateIndex::read`] on bytes in memory.
    ///
    /// # Errors
    /// Names the line.
    pub fn from_text(bytes: &[u8]) -> Result<Self> {
        let rows = parse_lines(bytes, |fields| {
            let _image = fields.next();
            Some((number(fields.next()?)?, number(fields.next()?)?))
        })
        .map_err(|line| bad_line(line, "image template medium"))?;
        let (templates, media) = rows.into_iter().unzip();
        Self::new(templates, media)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Always false.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// Template of each image.
    pub fn templates(&self) -> &[u32] {
        &self.templates
    }

    /// Medium of each image.
    pub fn media(&self) -> &[u32] {
        &self.media
    }
}

/// Pairs of templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplatePairs {
    a: Vec<u32>,
    b: Vec<u32>,
    same: Vec<bool>,
}

impl TemplatePairs {
    /// From columns.
    ///
    /// # Errors
    /// When they are empty or of different lengths.
    pub fn new(a: Vec<u32>, b: Vec<u32>, same: Vec<bool>) -> Result<Self> {
        if a.is_empty() || a.len() != b.len() || a.len() != same.len() {
            return Err(Error::shape(format!(
                "columns of {}, {} and {} template pairs; expected as many, and one at least",
                a.len(),
                b.len(),
                same.len()
            )));
        }
        Ok(Self { a, b, same })
    }

    /// Reads `template template same` lines; 15.7 million of them take about a second.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_text(&read_bounded(path)?).map_err(|e| e.at(path))
    }

    /// [`TemplatePairs::read`] on bytes in memory.
    ///
    /// # Errors
    /// Names the line.
    pub fn from_text(bytes: &[u8]) -> Result<Self> {
        let rows = parse_lines(bytes, |fields| {
            let (a, b) = (number(fields.next()?)?, number(fields.next()?)?);
            let same = match fields.next()? {
                b"1" => true,
                b"0" => false,
                _ => return None,
            };
            Some((a, b, same))
        })
        .map_err(|line| bad_line(line, "template template same, same being 1 or 0"))?;
        Self::new(
            rows.iter().map(|r| r.0).collect(),
            rows.iter().map(|r| r.1).collect(),
            rows.iter().map(|r| r.2).collect(),
        )
    }

    /// First templates.
    pub fn a(&self) -> &[u32] {
        &self.a
    }

    /// Second templates.
    pub fn b(&self) -> &[u32] {
        &self.b
    }

    /// Whether both are of one person.
    pub fn same(&self) -> &[bool] {
        &self.same
    }
}

/// Reads the detector's scores: the last column of `image x1 y1 .. x5 y5 score` lines.
///
/// # Errors
/// Names the file and the line.
pub fn read_detector_scores(path: impl AsRef<Path>) -> Result<Vec<f32>> {
    let path = path.as_ref();
    detector_scores_from_text(&read_bounded(path)?).map_err(|e| e.at(path))
}

/// [`read_detector_scores`] on bytes in memory.
///
/// # Errors
/// Names the line.
pub fn detector_scores_from_text(bytes: &[u8]) -> Result<Vec<f32>> {
    parse_lines(bytes, |fields| {
        let last = fields.last()?;
        std::str::from_utf8(last).ok()?.parse::<f32>().ok()
    })
    .map_err(|line| bad_line(line, "image x1 y1 .. x5 y5 score"))
}

/// Reads the template and the subject of each line of a gallery or a probe list; templates listed several times (once an
/// image) count once.
///
/// # Errors
/// Names the file and the line: no such columns, not a number, one template of two subjects.
pub fn read_subjects(path: impl AsRef<Path>) -> Result<Vec<(u32, u32)>> {
    let path = path.as_ref();
    subjects_from_csv(&read_bounded(path)?).map_err(|e| e.at(path))
}

/// [`read_subjects`] on bytes in memory.
///
/// # Errors
/// Names the line.
pub fn subjects_from_csv(bytes: &[u8]) -> Result<Vec<(u32, u32)>> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let header = reader
        .headers()
        .map_err(|_| Error::format("not UTF-8 text").record("line 1"))?;
    let find = |name: &str| {
        header
            .iter()
            .position(|f| f.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                Error::format(format!("no column `{name}` in the header")).record("line 1")
            })
    };
    let columns = [find("TEMPLATE_ID")?, find("SUBJECT_ID")?];
    let mut out: Vec<(u32, u32)> = Vec::new();
    for (i, record) in reader.records().enumerate() {
        let at = |message: String| Error::format(message).record(format!("line {}", i + 2));
        let record = record.map_err(|_| at("not UTF-8 text".into()))?;
        let [template, subject] = columns.map(|c| record.get(c).and_then(|f| f.parse().ok()));
        match (template, subject) {
            (Some(template), Some(subject)) => out.push((template, subject)),
            _ => return Err(at("TEMPLATE_ID and SUBJECT_ID must be whole numbers".into())),
        }
    }
    out.sort_unstable();
    out.dedup();
    if out.is_empty() {
        return Err(Error::degenerate("no template is listed"));
    }
    for pair in out.windows(2) {
        if let [(a, x), (b, y)] = pair
            && a == b
        {
            return Err(Error::value(format!(
                "template {a} is of subject {x} and of subject {y}"
            )));
        }
    }
    Ok(out)
}

fn bad_line(line: usize, expected: &str) -> Error {
    Error::format(format!("expected `{expected}`")).record(format!("line {line}"))
}

fn number(field: &[u8]) -> Option<u32> {
    // Some copies of the files write whole numbers as 12.0.
    let field = field.strip_suffix(b".0").unwrap_or(field);
    if field.is_empty() {
        return None;
    }
    field.iter().try_fold(0u32, |n, &byte| {
        let digit = byte.checked_sub(b'0').filter(|d| *d < 10)?;
        n.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

type Fields<'a> = dyn Iterator<Item = &'a [u8]> + 'a;

/// Parses non-empty lines on all cores; the error is the number of the first bad line, from 1.
fn parse_lines<T: Send>(
    bytes: &[u8],
    parse: impl Fn(&mut Fields<'_>) -> Option<T> + Sync,
) -> std::result::Result<Vec<T>, usize> {
    const PART: usize = 4 << 20;
    let mut parts = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest
            .get(PART..)
            .and_then(|tail| tail.iter().position(|&b| b == b'\n'))
            .map_or(rest.len(), |at| PART + at + 1);
        let (part, tail) = rest.split_at(end);
        parts.push(part);
        rest = tail;
    }
    let parsed: Vec<(Vec<T>, usize, Option<usize>)> = parts
        .par_iter()
        .map(|part| {
            let mut out = Vec::new();
            let mut lines = 0;
            for line in part.split(|&b| b == b'\n') {
                lines += 1;
                let line = line.trim_ascii();
                if line.is_empty() {
                    continue;
                }
                let mut fields = line
                    .split(u8::is_ascii_whitespace)
                    .filter(|f| !f.is_empty());
                match parse(&mut fields) {
                    Some(value) => out.push(value),
                    None => return (out, lines, Some(lines)),
                }
            }
            // What follows the last line break of a part is the first line of the next.
            (out, lines - 1, None)
        })
        .collect();
    let mut all = Vec::with_capacity(parsed.iter().map(|p| p.0.len()).sum());
    let mut before = 0;
    for (values, lines, bad) in parsed {
        if let Some(bad) = bad {
            return Err(before + bad);
        }
        all.extend(values);
        before += lines;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn official_layouts() {
        let index =
            TemplateIndex::from_text(b"1.jpg 1 69544\n2.jpg 1 69544\r\n3.jpg 12 7\n").unwrap();
        assert_eq!(
            (index.templates(), index.media()),
            (&[1, 1, 12][..], &[69544, 69544, 7][..])
        );
        let pairs = TemplatePairs::from_text(b"1 11065 1\n1 2 0").unwrap();
        assert_eq!(
            (pairs.a(), pairs.b(), pairs.same()),
            (&[1, 1][..], &[11065, 2][..], &[true, false][..])
        );
        let list = b"TEMPLATE_ID,SUBJECT_ID,FILENAME\n7,3,img/1.jpg\n7,3,\"a, b.jpg\"\n2,9,x\n";
        assert_eq!(subjects_from_csv(list).unwrap(), [(2, 9), (7, 3)]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "1.jpg 46.0 62.0 87.7 60.3 68.8 77.6 52.1 99.8 86.4 98.6 0.999\n",
        )
        .unwrap();
        assert_eq!(read_detector_scores(file.path()).unwrap(), [0.999]);
    }

    #[test]
    fn each_fault_names_its_line() {
        let message = |text: &str| {
            TemplatePairs::from_text(text.as_bytes())
                .unwrap_err()
                .to_string()
        };
        let expected = "expected `template template same, same being 1 or 0`";
        assert_eq!(message("1 2 1\n\n3 4\n"), format!("line 3: {expected}"));
        assert_eq!(message("1 2 2\n"), format!("line 1: {expected}"));
        assert_eq!(message("1 -2 1\n"), format!("line 1: {expected}"));
        assert!(message("").contains("one at least"));
        let error = TemplateIndex::from_text(b"a 1 1\nb 99999999999 1\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: expected `image template medium`"
        );
        let error = subjects_from_csv(b"TEMPLATE_ID,SUBJECT_ID\n1,2\n1,3\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "template 1 is of subject 2 and of subject 3"
        );
        let error = subjects_from_csv(b"TEMPLATE,SUBJECT_ID\n1,2\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 1: no column `TEMPLATE_ID` in the header"
        );
        let error = subjects_from_csv(b"TEMPLATE_ID,SUBJECT_ID\n1,x\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }

    proptest! {
        #[test]
        fn hostile_text(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = TemplateIndex::from_text(&bytes);
            let _ = TemplatePairs::from_text(&bytes);
            let _ = subjects_from_csv(&bytes);
        }
    }

    #[test]
    fn parts_follow_each_other() {
        // Several parts of 4 MiB; the bad line is counted through all of them.
        let mut text = "12345678 1 1\n".repeat(800_000);
        assert_eq!(
            TemplatePairs::from_text(text.as_bytes()).unwrap().a().len(),
            800_000
        );
        text.push_str("oops\n");
        let error = TemplatePairs::from_text(text.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("line 800001: "), "{error}");
    }
}
