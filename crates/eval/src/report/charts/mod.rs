//! The charts: each takes plain numbers and gives one SVG element, or HTML for the confusion matrix.

mod classes;
mod errors;
mod lines;
mod map;
mod rates;
mod scores;

use std::fmt::Write;

use super::svg::mark;
use super::text::escape;
use crate::bootstrap::BandPoint;
use crate::roc::CurvePoint;

pub(super) use classes::confusion;
pub(super) use errors::{ced, intervals, reliability};
pub(super) use lines::lines;
pub(super) use map::map;
pub(super) use rates::{det, roc};
pub(super) use scores::{cmc, histogram};

/// Height of the standard chart.
const HEIGHT: f64 = 340.0;

/// A named line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// (x, y), x ascending; a NaN leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// A named ROC.
#[derive(Debug, Clone, PartialEq)]
pub struct RocSeries {
    /// What it is.
    pub name: String,
    /// The points of [`Roc::curve`](crate::Roc::curve).
    pub points: Vec<CurvePoint>,
    /// Pointwise interval of the true accept rate; empty for none.
    pub band: Vec<BandPoint>,
}

impl RocSeries {
    /// A curve without a band.
    pub fn new(name: impl Into<String>, points: Vec<CurvePoint>) -> Self {
        Self {
            name: name.into(),
            points,
            band: Vec::new(),
        }
    }

    /// Adds a band.
    #[must_use]
    pub fn with_band(mut self, band: Vec<BandPoint>) -> Self {
        self.band = band;
        self
    }

    /// The largest true accept rate at a false accept rate of at most `far`.
    fn at(&self, far: f64) -> Option<f64> {
        let inside = self.points.iter().filter(|p| p.far <= far);
        inside.map(|p| p.tar).reduce(f64::max)
    }
}

/// A key to the series; nothing for a single one.
pub(super) fn legend<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = names
        .into_iter()
        .enumerate()
        .map(|(i, name)| {
            format!(
                "<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\">{}</svg>{}</li>",
                mark(i, 7.0, 7.0, 5.0),
                escape(name)
            )
        })
        .collect();
    if items.len() < 2 {
        String::new()
    } else {
        format!("<ul class=\"legend\">{}</ul>", items.concat())
    }
}

/// A folded table below a chart.
fn in_figures(head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() || head.len() < 2 {
        return String::new();
    }
    let mut out = String::from(
        "<details><summary>In figures</summary><div class=\"scroll\"><table class=\"sort\">\
         <caption>The chart above in figures</caption><thead><tr>",
    );
    for (c, name) in head.iter().enumerate() {
        let class = if c == 0 { "" } else { " class=\"n\"" };
        let _ = write!(out, "<th scope=\"col\"{class}>{}</th>", escape(name));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (c, cell) in row.iter().enumerate() {
            let _ = if c == 0 {
                write!(out, "<th scope=\"row\">{}</th>", escape(cell))
            } else {
                write!(out, "<td class=\"n\">{}</td>", escape(cell))
            };
        }
        out.push_str("</tr>");
    }
    out + "</tbody></table></div></details>"
}
