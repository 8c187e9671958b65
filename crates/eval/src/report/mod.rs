//! One HTML file that opens offline: figures, charts and images of an evaluation.
//!
//! No request leaves the page, and its own content policy forbids any; charts are SVG whose colours follow the reader's
//! light or dark setting; every chart has a title, a description and its figures as a table, every table a caption. One
//! short script lets tables sort by their heads and classes of a map be brought forward; without it nothing is missing.
//!
//! ```
//! use phiz_eval::{Embeddings, EvaluateOptions, Protocol, evaluate, report::Report};
//!
//! let embeddings = Embeddings::new(vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.2, 0.9], 2)?
//!     .with_labels("labels", vec![1, 1, 2, 2])?;
//! let result = evaluate(&Protocol::VerificationAllPairs, &embeddings, &EvaluateOptions::default())?;
//! let mut report = Report::new("Two people");
//! report
//!     .fact("Images", "4")
//!     .evaluation(&result)
//!     .embedding_map("Embedding map", &embeddings, "labels")?;
//! let html = report.to_html();
//! assert!(html.starts_with("<!doctype html>") && html.contains("AUC"));
//! # Ok::<(), phiz_eval::Error>(())
//! ```

mod charts;
mod parts;
mod svg;
mod text;
mod words;

use std::fmt::Write;
use std::path::Path;

pub use crate::bootstrap::BandPoint;
pub use charts::{RocSeries, Series};

use crate::calibration::Calibration;
use crate::classification::Confusion;
use crate::embeddings::Embeddings;
use crate::error::Result;
use crate::files::write_atomically;
use crate::neighbours::neighbour_map;
use crate::projection::principal_plane;
use crate::protocol::Evaluation;
use crate::score::ScoreHistogram;
use parts::{cards, metric_table, note_html, protocol_note, protocol_title};
use text::{data_uri, escape, number};

/// Most points of the embedding map: more only make the file heavy.
const MAP_POINTS: usize = 2_000;
/// Most points of the neighbour map, whose time grows with their square.
const NEIGHBOUR_POINTS: usize = 700;

/// A figure that stands at the top of a section.
#[derive(Debug, Clone, PartialEq)]
pub struct Headline {
    /// What it is.
    pub label: String,
    /// Its value.
    pub value: f64,
    /// Its interval, where known.
    pub interval: Option<[f64; 2]>,
}

/// An image with a caption.
#[derive(Debug, Clone, PartialEq)]
pub struct ExampleImage {
    /// A PNG (or JPEG) file.
    pub png: Vec<u8>,
    /// What it shows; also the text for those who cannot see it.
    pub caption: String,
}

/// Two images that were compared.
#[derive(Debug, Clone, PartialEq)]
pub struct ExamplePair {
    /// One image, a PNG (or JPEG) file.
    pub left: Vec<u8>,
    /// The other image.
    pub right: Vec<u8>,
    /// Their score.
    pub score: f64,
    /// Who or what they show.
    pub caption: String,
}

/// A report under construction; sections stand in the order in which they are added.
#[derive(Debug, Clone, Default)]
pub struct Report {
    title: String,
    subtitle: String,
    rendered: bool,
    facts: Vec<(String, String)>,
    sections: Vec<Section>,
}

#[derive(Debug, Clone)]
struct Section {
    title: String,
    wide: bool,
    body: String,
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    /// A sentence below the title.
    pub fn subtitle(&mut self, text: impl Into<String>) -> &mut Self {
        self.subtitle = text.into();
        self
    }

    /// Says at the top that the figures are on rendered faces, not on photographs.
    pub fn rendered_faces(&mut self, rendered: bool) -> &mut Self {
        self.rendered = rendered;
        self
    }

    /// A short fact for the head of the page: recipe, data, seed, time.
    pub fn fact(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.facts.push((name.into(), value.into()));
        self
    }

    /// Large figures with their intervals.
    pub fn headline(&mut self, title: &str, note: &str, figures: &[Headline]) -> &mut Self {
        let body = note_html(note) + &cards(figures);
        self.section(title, true, body)
    }

    /// Everything an evaluation holds: figures, table and charts.
    pub fn evaluation(&mut self, evaluation: &Evaluation) -> &mut Self {
        let name = evaluation.name();
        let mut metrics: Vec<(&str, f64)> = evaluation
            .metrics
            .iter()
            .map(|(n, v)| (n.as_str(), *v))
            .collect();
        metrics.sort_by(|a, b| {
            let (x, y) = (words::order(a.0), words::order(b.0));
            x.0.cmp(&y.0).then(x.1.total_cmp(&y.1)).then(a.0.cmp(b.0))
        });
        let figures: Vec<Headline> = metrics
            .iter()
            .filter(|m| words::order(m.0).0 < 21)
            .take(4)
            .map(|&(metric, value)| Headline {
                label: words::describe(metric).0,
                value,
                interval: evaluation.intervals.get(metric).copied(),
            })
            .collect();
        let note = protocol_note(evaluation);
        let body = note_html(&note) + &cards(&figures) + &metric_table(evaluation, &metrics);
        self.section(&protocol_title(name), true, body);

        let curves = &evaluation.curves;
        if !curves.roc.is_empty() {
            let series =
                [RocSeries::new("this run", curves.roc.clone()).with_band(curves.band.clone())];
            self.roc("ROC", &series);
            self.det("DET", &series);
        }
        if let Some(histogram) = &curves.histogram {
            let threshold = evaluation
                .protocol
                .get("eer_threshold")
                .and_then(serde_json::Value::as_f64);
            self.histogram("Scores", histogram, threshold);
        }
        if curves.cmc.len() > 1 {
            let svg = charts::cmc(&self.next_id(), &curves.cmc);
            self.section("Cumulative match", false, svg);
        }
        if curves.ced.len() > 1 {
            let threshold = evaluation.protocol.get("failure_threshold");
            let series = Series {
                name: "this run".into(),
                points: curves.ced.clone(),
            };
            self.ced(
                "Cumulative error",
                &[series],
                threshold.and_then(serde_json::Value::as_f64),
            );
        }
        if let Some(confusion) = &curves.confusion {
            self.confusion("Confusion matrix", confusion, &curves.class_names);
        }
        if let Some(calibration) = &curves.calibration {
            self.reliability("Reliability", calibration);
        }
        self
    }

    /// True accept rate over false accept rate, logarithmic in the latter; the dashed line is chance.
    pub fn roc(&mut self, title: &str, series: &[RocSeries]) -> &mut Self {
        let band = if series.iter().any(|s| s.band.len() > 1) {
            " Shaded: 95 % interval at each rate, people drawn anew."
        } else {
            ""
        };
        let body = note_html(&format!(
            "Share of genuine pairs accepted against share of impostor pairs accepted; dashed: chance.{band}"
        )) + &charts::roc(&self.next_id(), series);
        self.section(title, false, body)
    }

    /// Cumulative error curves of landmarks: share of images at or below each error. The dashed line is `threshold`.
    pub fn ced(&mut self, title: &str, series: &[Series], threshold: Option<f64>) -> &mut Self {
        let note = match threshold {
            Some(t) => format!(
                "Share of images at or below each error; dashed: the threshold {} of the failure rate.",
                number(t)
            ),
            None => "Share of images at or below each error.".to_string(),
        };
        let body = note_html(&note) + &charts::ced(&self.next_id(), series, threshold);
        self.section(title, false, body)
    }

    /// Share of right predictions by confidence.
    pub fn reliability(&mut self, title: &str, calibration: &Calibration) -> &mut Self {
        let word = if calibration.overconfidence > 0.0 {
            "over"
        } else {
            "under"
        };
        let note = format!(
            "Expected calibration error {}, {word}confident by {} in the mean. Darker bars hold more samples; dashed: \
             confidence that is honest.",
            number(calibration.ece),
            number(calibration.overconfidence.abs())
        );
        let body = note_html(&note) + &charts::reliability(&self.next_id(), calibration);
        self.section(title, false, body)
    }

    /// Values with their intervals one below the other: a figure by group, or differences between runs with `guide` 0.
    pub fn intervals(
        &mut self,
        title: &str,
        note: &str,
        items: &[Headline],
        guide: Option<f64>,
    ) -> &mut Self {
        let body = note_html(note) + &charts::intervals(&self.next_id(), title, items, guide);
        self.section(title, false, body)
    }

    /// False reject rate over false accept rate, both logarithmic; the dashed line is where they are equal.
    pub fn det(&mut self, title: &str, series: &[RocSeries]) -> &mut Self {
        let body = note_html("The two kinds of error against each other; dashed: equal rates.")
            + &charts::det(&self.next_id(), series);
        self.section(title, false, body)
    }

    /// Scores of genuine and impostor pairs, each as shares of its own number.
    pub fn histogram(
        &mut self,
        title: &str,
        histogram: &ScoreHistogram,
        threshold: Option<f64>,
    ) -> &mut Self {
        let note = match threshold {
            Some(_) => {
                "Each as shares of its own number of pairs; dashed: the threshold of equal error."
            }
            None => "Each as shares of its own number of pairs.",
        };
        let body = note_html(note) + &charts::histogram(&self.next_id(), histogram, threshold);
        self.section(title, false, body)
    }

    /// Which classes are taken for which.
    pub fn confusion(&mut self, title: &str, confusion: &Confusion, names: &[String]) -> &mut Self {
        let wide = (9..=16).contains(&confusion.classes());
        let body = charts::confusion(&self.next_id(), confusion, names);
        self.section(title, wide, body)
    }

    /// Embeddings (unit length, at most 2,000 of them) on their two leading principal components, by the label column
    /// `label`.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn embedding_map(
        &mut self,
        title: &str,
        embeddings: &Embeddings,
        label: &str,
    ) -> Result<&mut Self> {
        let labels = embeddings.labels(label)?;
        let plane = principal_plane(embeddings, true, MAP_POINTS);
        let note = format!(
            "Two principal components of the unit embeddings, {:.0} % and {:.0} % of the variance; coloured by {label}.",
            100.0 * plane.explained[0],
            100.0 * plane.explained[1]
        );
        let body = note_html(&note)
            + &charts::map(
                &self.next_id(),
                "on their two principal components",
                &plane.rows,
                &plane.points,
                labels,
                embeddings.names(label),
            );
        Ok(self.section(title, false, body))
    }

    /// Embeddings (unit length, at most 700 of them) on a map that keeps neighbours together (t-SNE), by the label column
    /// `label`.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn neighbour_map(
        &mut self,
        title: &str,
        embeddings: &Embeddings,
        label: &str,
    ) -> Result<&mut Self> {
        let labels = embeddings.labels(label)?;
        let map = neighbour_map(embeddings, true, NEIGHBOUR_POINTS, 30.0);
        let note = format!(
            "Near points were near (t-SNE, perplexity {:.0}: {:.0} % of each point's ten nearest are kept); far distances \
             and sizes of clusters mean little; coloured by {label}.",
            map.perplexity,
            100.0 * map.kept
        );
        let body = note_html(&note)
            + &charts::map(
                &self.next_id(),
                "on a map that keeps neighbours together",
                &map.rows,
                &map.points,
                labels,
                embeddings.names(label),
            );
        Ok(self.section(title, false, body))
    }

    /// Lines over steps or epochs, `x_name` and `y_name` on the axes. Lines of more than 60 points are drawn faint with
    /// a moving mean on top.
    pub fn training(
        &mut self,
        title: &str,
        x_name: &str,
        y_name: &str,
        log_y: bool,
        series: &[Series],
    ) -> &mut Self {
        let body = charts::lines(&self.next_id(), title, x_name, y_name, log_y, series);
        self.section(title, false, body)
    }

    /// A grid of images.
    pub fn images(&mut self, title: &str, note: &str, images: &[ExampleImage]) -> &mut Self {
        let mut body = note_html(note) + "<div class=\"gallery\">";
        for image in images {
            let caption = escape(&image.caption);
            let _ = write!(
                body,
                "<figure><img src=\"{}\" alt=\"{caption}\"><figcaption>{caption}</figcaption></figure>",
                data_uri(&image.png)
            );
        }
        body += "</div>";
        self.section(title, true, body)
    }

    /// Pairs of images with their scores, as for the hardest pairs of a verification.
    pub fn pairs(&mut self, title: &str, note: &str, pairs: &[ExamplePair]) -> &mut Self {
        let mut body = note_html(note) + "<div class=\"couples\">";
        for pair in pairs {
            let caption = escape(&pair.caption);
            let _ = write!(
                body,
                "<figure class=\"couple\"><img src=\"{}\" alt=\"{caption}, left\"><img src=\"{}\" alt=\"{caption}, right\">\
                 <figcaption><b>{}</b> {caption}</figcaption></figure>",
                data_uri(&pair.left),
                data_uri(&pair.right),
                number(pair.score)
            );
        }
        body += "</div>";
        self.section(title, true, body)
    }

    /// A table that sorts by its heads. Cells that read as numbers are set to the right.
    pub fn table(
        &mut self,
        title: &str,
        caption: &str,
        header: &[String],
        rows: &[Vec<String>],
    ) -> &mut Self {
        let numeric = |cell: &str| {
            cell.chars()
                .next()
                .is_some_and(|c| c.is_ascii_digit() || matches!(c, '-' | '\u{2212}'))
        };
        let right: Vec<bool> = (0..header.len())
            .map(|c| {
                !rows.is_empty()
                    && rows
                        .iter()
                        .all(|r| r.get(c).is_some_and(|cell| numeric(cell)))
            })
            .collect();
        let class = |c: usize| {
            if right.get(c) == Some(&true) {
                " class=\"n\""
            } else {
                ""
            }
        };
        let mut body = format!(
            "<div class=\"scroll\"><table class=\"sort\"><caption>{}</caption><thead><tr>",
            escape(caption)
        );
        for (c, cell) in header.iter().enumerate() {
            let _ = write!(body, "<th scope=\"col\"{}>{}</th>", class(c), escape(cell));
        }
        body += "</tr></thead><tbody>";
        for row in rows {
            body += "<tr>";
            for (c, cell) in row.iter().enumerate() {
                let tag = if c == 0 { "th scope=\"row\"" } else { "td" };
                let end = if c == 0 { "th" } else { "td" };
                let _ = write!(body, "<{tag}{}>{}</{end}>", class(c), escape(cell));
            }
            body += "</tr>";
        }
        body += "</tbody></table></div>";
        self.section(title, true, body)
    }

    /// The finished page.
    pub fn to_html(&self) -> String {
        let title = escape(&self.title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src \
             'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
             <link rel=\"icon\" href=\"data:,\"><style>\n{}</style></head><body>\
             <a class=\"skip\" href=\"#main\">Skip to the figures</a>\
             <header class=\"top\"><div class=\"frame\"><h1>{title}</h1>",
            include_str!("style.css")
        );
        if !self.subtitle.is_empty() {
            let _ = write!(out, "<p class=\"sub\">{}</p>", escape(&self.subtitle));
        }
        if self.rendered {
            out += "<p class=\"banner\" role=\"note\"><strong>Rendered faces.</strong> Every figure on this page is on \
                    computer-made images, not on photographs; none carries over to real faces.</p>";
        }
        if !self.facts.is_empty() {
            out += "<dl class=\"facts\">";
            for (name, value) in &self.facts {
                let _ = write!(
                    out,
                    "<div><dt>{}</dt><dd>{}</dd></div>",
                    escape(name),
                    escape(value)
                );
            }
            out += "</dl>";
        }
        if self.sections.len() > 3 {
            out += "<nav class=\"toc\" aria-label=\"Sections\"><ul>";
            for (i, section) in self.sections.iter().enumerate() {
                let _ = write!(
                    out,
                    "<li><a href=\"#s{i}\">{}</a></li>",
                    escape(&section.title)
                );
            }
            out += "</ul></nav>";
        }
        out += "</div></header><div class=\"frame\"><main id=\"main\">";
        for (i, section) in self.sections.iter().enumerate() {
            let class = if section.wide || self.alone(i) {
                " class=\"wide\""
            } else {
                ""
            };
            let _ = write!(
                out,
                "<section id=\"s{i}\"{class} aria-labelledby=\"s{i}-h\"><h2 id=\"s{i}-h\">{}</h2>{}</section>",
                escape(&section.title),
                section.body
            );
        }
        let _ = write!(
            out,
            "</main><footer>Made by phiz. This file holds all it shows and asks nothing from the network.</footer>\
             </div><script>\n{}</script></body></html>\n",
            include_str!("script.js")
        );
        out
    }

    /// Writes the page, to a temporary name first.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomically(path.as_ref(), self.to_html().as_bytes())
    }

    fn section(&mut self, title: &str, wide: bool, body: String) -> &mut Self {
        self.sections.push(Section {
            title: title.to_string(),
            wide,
            body,
        });
        self
    }

    /// Prefix of the element ids of the section that is added next.
    fn next_id(&self) -> String {
        format!("c{}", self.sections.len())
    }

    /// Whether section `index` is the odd one out of a run of narrow sections: it then takes the whole row.
    fn alone(&self, index: usize) -> bool {
        let narrow = |i: &usize| self.sections.get(*i).is_some_and(|s| !s.wide);
        let before = (0..index).rev().take_while(narrow).count();
        narrow(&index) && before.is_multiple_of(2) && !narrow(&(index + 1))
    }
}
