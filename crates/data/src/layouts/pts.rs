//! The `.pts` files of 300-W and its kin: one face's landmarks as text.
//!
//! ```text
//! version: 1
//! n_points:  68
//! {
//! 446.000 91.000
//! ...
//! }
//! ```
//!
//! The first pixel's centre is (1, 1) in these files (Sagonas et al., 300 Faces in-the-Wild, 2013, annotated in Matlab);
//! everywhere in this workspace it is (0, 0), and what is read and written here is converted.

use std::fmt::Write as _;

use crate::{Error, Result};

/// Most points a file may announce.
const MAX_POINTS: usize = 1024;

/// Points of a `.pts` file, (x, y) in pixels, the centre of the first pixel at (0, 0).
///
/// # Errors
/// Names the line: no `n_points`, another number of points than announced, a coordinate that is not a finite number,
/// a missing brace.
pub fn parse_pts(text: &str) -> Result<Vec<[f32; 2]>> {
    let mut announced = None;
    let mut lines = text.lines().zip(1u64..);
    loop {
        let Some((line, number)) = lines.next() else {
            return Err(Error::format("expected a line `{` before the points"));
        };
        let line = line.trim();
        if line == "{" {
            break;
        }
        if let Some(count) = line.strip_prefix("n_points:") {
            let count = count.trim().parse::<usize>().ok();
            announced = Some(count.filter(|n| *n <= MAX_POINTS).ok_or_else(|| {
                Error::format(format!(
                    "expected n_points of at most {MAX_POINTS}, found {line:?}"
                ))
                .record(format!("line {number}"))
            })?);
        }
    }
    let announced = announced.ok_or_else(|| Error::format("expected a line `n_points: N`"))?;
    let mut points = Vec::with_capacity(announced);
    for (line, number) in lines {
        let line = line.trim();
        if line == "}" {
            return if points.len() == announced {
                Ok(points)
            } else {
                Err(Error::format(format!(
                    "n_points says {announced}, found {} points",
                    points.len()
                )))
            };
        }
        let mut fields = line
            .split_whitespace()
            .map(|field| field.parse::<f32>().ok().filter(|v| v.is_finite()));
        match (
            fields.next().flatten(),
            fields.next().flatten(),
            fields.next(),
        ) {
            (Some(x), Some(y), None) if points.len() < announced => points.push([x - 1.0, y - 1.0]),
            (Some(_), Some(_), None) => {
                return Err(
                    Error::format(format!("more points than the {announced} announced"))
                        .record(format!("line {number}")),
                );
            }
            _ => {
                return Err(
                    Error::format(format!("expected two finite numbers, found {line:?}"))
                        .record(format!("line {number}")),
                );
            }
        }
    }
    Err(Error::format(
        "expected a closing `}`: the file is cut short",
    ))
}

/// The text of a `.pts` file of these points, which have the centre of the first pixel at (0, 0).
#[must_use]
pub fn write_pts(points: &[[f32; 2]]) -> String {
    let mut text = format!("version: 1\nn_points: {}\n{{\n", points.len());
    for [x, y] in points {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:.3} {:.3}", x + 1.0, y + 1.0);
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_come_back() {
        let points = [[0.0, 0.5], [10.25, -3.0], [639.0, 479.125]];
        assert_eq!(parse_pts(&write_pts(&points)).unwrap(), points);
        let published = "version: 1\r\nn_points:  2\r\n{\r\n446.000 91.000\r\n1 1\r\n}\r\n";
        assert_eq!(parse_pts(published).unwrap(), [[445.0, 90.0], [0.0, 0.0]]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| parse_pts(text).unwrap_err().to_string();
        assert_eq!(error(""), "expected a line `{` before the points");
        assert_eq!(error("version: 1\n{\n}\n"), "expected a line `n_points: N`");
        assert_eq!(
            error("n_points: 68x\n{\n"),
            "line 1: expected n_points of at most 1024, found \"n_points: 68x\""
        );
        assert_eq!(
            error("n_points: 2\n{\n1 2\n}"),
            "n_points says 2, found 1 points"
        );
        assert_eq!(
            error("n_points: 1\n{\n1 2\n3 4\n}"),
            "line 4: more points than the 1 announced"
        );
        assert_eq!(
            error("n_points: 1\n{\n1 NaN\n}"),
            "line 3: expected two finite numbers, found \"1 NaN\""
        );
        assert_eq!(
            error("n_points: 1\n{\n1 2 3\n}"),
            "line 3: expected two finite numbers, found \"1 2 3\""
        );
        assert_eq!(
            error("n_points: 1\n{\n1 2\n"),
            "expected a closing `}`: the file is cut short"
        );
    }
}
