//! ROC and DET: two error rates against each other.

use super::{HEIGHT, RocSeries, in_figures, legend};
use crate::bootstrap::BandPoint;
use crate::report::svg::{Axis, Plot};
use crate::report::text::number;

pub(in crate::report) fn roc(id: &str, series: &[RocSeries]) -> String {
    let low = floor_decade(series.iter().flat_map(|s| &s.points).map(|p| p.far));
    let mut plot = Plot::new(
        Axis::log(low, 1.0),
        Axis::linear(0.0, 1.0),
        "False accept rate (log)",
        "True accept rate",
        HEIGHT,
    );
    let chance = (0..=60).map(|i| low.powf(1.0 - f64::from(i) / 60.0));
    plot.line("guide", chance.map(|far| (far, far)));
    let mut words = Vec::new();
    for (i, s) in series.iter().enumerate() {
        let edge = |end: fn(&BandPoint) -> f64| {
            let inside = s.band.iter().filter(|b| b.far >= low);
            inside.map(|b| (b.far, end(b))).collect::<Vec<_>>()
        };
        plot.band(
            &format!("band s{}", i % 8),
            &edge(|b| b.low),
            &edge(|b| b.high),
        );
        plot.line(
            &format!("line s{}", i % 8),
            s.points.iter().map(|p| (p.far, p.tar)),
        );
        words.push(format!(
            "{}: true accept rate {} at false accept rate 0.01",
            s.name,
            number(s.at(0.01).unwrap_or(0.0))
        ));
    }
    let svg = plot.finish(id, "Receiver operating characteristic", &words.join("; "));
    svg + &legend(series.iter().map(|s| s.name.as_str())) + &rates_table(series, low, |tar| tar)
}

pub(in crate::report) fn det(id: &str, series: &[RocSeries]) -> String {
    let points = || series.iter().flat_map(|s| &s.points);
    let low_x = floor_decade(points().map(|p| p.far));
    let low_y = floor_decade(points().map(|p| 1.0 - p.tar)).max(1e-5);
    let mut plot = Plot::new(
        Axis::log(low_x, 1.0),
        Axis::log(low_y, 1.0),
        "False accept rate (log)",
        "False reject rate (log)",
        HEIGHT,
    );
    let low = low_x.max(low_y);
    plot.line("guide", [(low, low), (1.0, 1.0)]);
    for (i, s) in series.iter().enumerate() {
        let edge = |end: fn(&BandPoint) -> f64| {
            let inside = s.band.iter().filter(|b| b.far >= low_x);
            let points = inside.map(|b| (b.far, (1.0 - end(b)).max(low_y)));
            points.collect::<Vec<_>>()
        };
        plot.band(
            &format!("band s{}", i % 8),
            &edge(|b| b.high),
            &edge(|b| b.low),
        );
        plot.line(
            &format!("line s{}", i % 8),
            s.points.iter().map(|p| (p.far, (1.0 - p.tar).max(low_y))),
        );
    }
    let svg = plot.finish(
        id,
        "Detection error trade-off",
        "False reject rate against false accept rate; the dashed line marks where both are equal",
    );
    svg + &legend(series.iter().map(|s| s.name.as_str()))
        + &rates_table(series, low_x, |tar| 1.0 - tar)
}

/// The curve in figures, for those who cannot see it and for copying.
fn rates_table(series: &[RocSeries], low: f64, shown: fn(f64) -> f64) -> String {
    let decades = (low.log10() + 1e-9).floor() as i32;
    let rows: Vec<Vec<String>> = (decades..=0)
        .rev()
        .map(|e| {
            let far = 10f64.powi(e);
            let cell = |s: &RocSeries| {
                let value = s.at(far).map(|tar| number(shown(tar)));
                let band = s.band.iter().find(|b| (b.far / far).ln().abs() < 1e-6);
                match (value, band) {
                    (None, _) => "\u{2013}".to_string(),
                    (Some(value), None) => value,
                    (Some(value), Some(b)) => {
                        let (x, y) = (shown(b.low), shown(b.high));
                        format!(
                            "{value} ({} \u{2013} {})",
                            number(x.min(y)),
                            number(x.max(y))
                        )
                    }
                }
            };
            let first = if e == 0 {
                "1".to_string()
            } else {
                format!("1e{e}")
            };
            [first].into_iter().chain(series.iter().map(cell)).collect()
        })
        .collect();
    let head = ["False accept rate"].into_iter();
    let head: Vec<&str> = head.chain(series.iter().map(|s| s.name.as_str())).collect();
    in_figures(&head, &rows)
}

/// The power of ten at or below the smallest positive rate.
fn floor_decade(rates: impl Iterator<Item = f64>) -> f64 {
    let least = rates.filter(|r| *r > 0.0).fold(1.0, f64::min);
    10f64.powf((least.log10() + 1e-9).floor().clamp(-8.0, -1.0))
}
