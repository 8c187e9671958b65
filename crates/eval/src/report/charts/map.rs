//! Embeddings on a plane.

use std::fmt::Write;

use crate::report::svg::{WIDTH, frame, mark};
use crate::report::text::escape;

/// Most classes that get a legend.
const MAX_LEGEND: usize = 12;

/// The projected points, one colour and shape per class.
pub(in crate::report) fn map(
    id: &str,
    kind: &str,
    rows: &[usize],
    points: &[[f64; 2]],
    labels: &[u32],
    names: &[String],
) -> String {
    const HEIGHT: f64 = 390.0;
    let mut classes: Vec<u32> = rows
        .iter()
        .filter_map(|&r| labels.get(r))
        .copied()
        .collect();
    classes.sort_unstable();
    classes.dedup();
    let name = |code: u32| {
        names
            .get(code as usize)
            .cloned()
            .unwrap_or_else(|| format!("class {code}"))
    };
    // One scale for both axes: distances in the picture are comparable.
    let range = |axis: usize| {
        let values = || points.iter().filter_map(move |p| p.get(axis)).copied();
        (
            values().fold(f64::INFINITY, f64::min),
            values().fold(f64::NEG_INFINITY, f64::max),
        )
    };
    let (x, y) = (range(0), range(1));
    let scale =
        ((WIDTH - 20.0) / (x.1 - x.0).max(1e-12)).min((HEIGHT - 20.0) / (y.1 - y.0).max(1e-12));
    let (mid_x, mid_y) = ((x.0 + x.1) / 2.0, (y.0 + y.1) / 2.0);
    let height = (scale * (y.1 - y.0) + 20.0).clamp(160.0, HEIGHT);
    let radius = if points.len() > 800 { 2.6 } else { 3.6 };
    let mut body = String::new();
    for (series, &class) in classes.iter().enumerate() {
        let _ = write!(
            body,
            "<g data-class=\"{class}\"><title>{}</title>",
            escape(&name(class))
        );
        for (&row, point) in rows.iter().zip(points) {
            if labels.get(row) == Some(&class) {
                let px = WIDTH / 2.0 + (point[0] - mid_x) * scale;
                let py = height / 2.0 - (point[1] - mid_y) * scale;
                body.push_str(&mark(series, px, py, radius));
            }
        }
        body.push_str("</g>");
    }
    let svg = frame(
        id,
        "Embedding map",
        &format!(
            "{} embeddings of {} classes, {kind}",
            points.len(),
            classes.len()
        ),
        WIDTH,
        height,
        &body,
    );
    let key = if classes.len() <= MAX_LEGEND {
        let items: Vec<String> = classes
            .iter()
            .enumerate()
            .map(|(i, &class)| {
                format!(
                    "<li data-class=\"{class}\"><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\">{}</svg>{}</li>",
                    mark(i, 7.0, 7.0, 5.0),
                    escape(&name(class))
                )
            })
            .collect();
        format!("<ul class=\"legend pick\">{}</ul>", items.concat())
    } else {
        format!(
            "<p class=\"note\">{} classes; colours and shapes repeat after 32. Point at a mark for its class.</p>",
            classes.len()
        )
    };
    svg + &key
}
