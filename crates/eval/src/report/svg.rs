//! A plot area with two axes, written as SVG.
//!
//! Our own, and small: colours are CSS variables of the page (`.s0` to `.s7`), so that one file is right in light and in
//! dark, every chart carries a title and a description for screen readers, and text stays text. Plotting crates write
//! fixed colours into the file.

use std::fmt::Write;

use super::text::{coordinate, escape};

/// Width of every chart in its own units; the page scales it.
pub(super) const WIDTH: f64 = 520.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 44.0;

/// Linear or logarithmic, from `low` to `high`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// A linear axis; an empty or broken range becomes one of width 1 around it.
    pub(super) fn linear(low: f64, high: f64) -> Self {
        let (low, high) = if low.is_finite() && high.is_finite() {
            (low, high)
        } else {
            (0.0, 1.0)
        };
        let (low, high) = if high - low > 1e-12 * low.abs().max(high.abs()).max(1e-290) {
            (low, high)
        } else {
            let half = 0.5 * low.abs().max(1.0);
            (low - half, high + half)
        };
        Self {
            low,
            high,
            log: false,
        }
    }

    /// A linear axis whose ends are ticks.
    pub(super) fn rounded(low: f64, high: f64) -> Self {
        let axis = Self::linear(low, high);
        let step = axis.step();
        Self {
            low: (axis.low / step + 1e-9).floor() * step,
            high: (axis.high / step - 1e-9).ceil() * step,
            log: false,
        }
    }

    /// A logarithmic axis; both ends are made positive.
    pub(super) fn log(low: f64, high: f64) -> Self {
        let high = if high > 0.0 && high.is_finite() {
            high
        } else {
            1.0
        };
        let low = if low > 0.0 && low < high {
            low
        } else {
            high / 10.0
        };
        Self {
            low,
            high,
            log: true,
        }
    }

    /// Position between 0 and 1 for values on the axis; others are clamped to its ends.
    fn share(self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        }
    }

    fn step(self) -> f64 {
        let raw = (self.high - self.low) / 5.0;
        let power = 10f64.powf(raw.log10().floor());
        let lead = raw / power;
        power
            * if lead < 1.5 {
                1.0
            } else if lead < 3.5 {
                2.0
            } else if lead < 7.5 {
                5.0
            } else {
                10.0
            }
    }

    /// Values with their labels.
    fn ticks(self) -> Vec<(f64, String)> {
        if self.log {
            let (first, last) = (
                (self.low.log10() - 1e-9).ceil(),
                (self.high.log10() + 1e-9).floor(),
            );
            return (first as i32..=last as i32)
                .map(|e| {
                    (
                        10f64.powi(e),
                        if e == 0 {
                            "1".to_string()
                        } else {
                            power_of_ten(e)
                        },
                    )
                })
                .collect();
        }
        let step = self.step();
        let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last.min(first + 20))
            .map(|i| {
                let value = i as f64 * step;
                let label = if value.abs() >= 1e4 && step >= 1000.0 {
                    format!("{}k", coordinate(value / 1000.0))
                } else {
                    format!("{value:.decimals$}").replace('-', "\u{2212}")
                };
                (value, label)
            })
            .collect()
    }
}

fn power_of_ten(exponent: i32) -> String {
    let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let up: String = exponent
        .abs()
        .to_string()
        .chars()
        .filter_map(|c| c.to_digit(10).and_then(|d| digits.get(d as usize)))
        .collect();
    format!("10{}{up}", if exponent < 0 { "⁻" } else { "" })
}

/// A chart under construction.
pub(super) struct Plot {
    x: Axis,
    y: Axis,
    left: f64,
    height: f64,
    body: String,
}

impl Plot {
    /// Axes with grid, tick labels and names; an empty name and no ticks for `bare` charts.
    pub(super) fn new(x: Axis, y: Axis, x_name: &str, y_name: &str, height: f64) -> Self {
        let mut plot = Self {
            x,
            y,
            left: LEFT,
            height,
            body: String::new(),
        };
        let (bottom, right) = (height - BOTTOM, WIDTH - RIGHT);
        for (value, label) in x.ticks() {
            let at = coordinate(plot.px(value));
            plot.push(&format!(
                "<path class=\"grid\" d=\"M{at} {TOP}V{bottom}\"/><text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            ));
        }
        for (value, label) in y.ticks() {
            let at = plot.py(value);
            let (line, text) = (coordinate(at), coordinate(at + 4.0));
            plot.push(&format!(
                "<path class=\"grid\" d=\"M{LEFT} {line}H{right}\"/><text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{label}</text>",
                LEFT - 8.0
            ));
        }
        plot.push(&format!(
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>"
        ));
        let middle = coordinate((LEFT + right) / 2.0);
        plot.push(&format!(
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            height - 4.0,
            escape(x_name)
        ));
        let middle = coordinate((TOP + bottom) / 2.0);
        plot.push(&format!(
            "<text transform=\"translate(11 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(y_name)
        ));
        plot
    }

    /// Horizontal position of a value.
    pub(super) fn px(&self, x: f64) -> f64 {
        self.left + self.x.share(x) * (WIDTH - self.left - RIGHT)
    }

    /// Vertical position of a value.
    pub(super) fn py(&self, y: f64) -> f64 {
        self.height - BOTTOM - self.y.share(y) * (self.height - BOTTOM - TOP)
    }

    /// A chart with room for names on the left and the horizontal axis alone.
    pub(super) fn beside(x: Axis, height: f64) -> Self {
        let mut plot = Self {
            x,
            y: Axis::linear(0.0, 1.0),
            left: 190.0,
            height,
            body: String::new(),
        };
        let bottom = height - BOTTOM;
        for (value, label) in x.ticks() {
            let at = coordinate(plot.px(value));
            plot.push(&format!(
                "<path class=\"grid\" d=\"M{at} {TOP}V{bottom}\"/><text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            ));
        }
        plot
    }

    /// Where the plot area begins.
    pub(super) fn left(&self) -> f64 {
        self.left
    }

    /// An upright line over the whole height.
    pub(super) fn upright(&mut self, class: &str, x: f64) {
        let at = coordinate(self.px(x));
        let bottom = self.height - BOTTOM;
        self.push(&format!(
            "<path class=\"{class}\" d=\"M{at} {TOP}V{bottom}\"/>"
        ));
    }

    /// The space between two lines.
    pub(super) fn band(&mut self, class: &str, low: &[(f64, f64)], high: &[(f64, f64)]) {
        if low.len() < 2 || high.len() < 2 {
            return;
        }
        let there = self.path(high.iter().copied());
        let back = self.path(low.iter().rev().copied()).replacen('M', "L", 1);
        self.push(&format!("<path class=\"{class}\" d=\"{there}{back}Z\"/>"));
    }

    /// Adds raw SVG.
    pub(super) fn push(&mut self, element: &str) {
        self.body.push_str(element);
    }

    /// A line through points.
    pub(super) fn line(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let d = self.path(points);
        if !d.is_empty() {
            self.push(&format!("<path class=\"{class}\" d=\"{d}\"/>"));
        }
    }

    /// A line with the space down to the axis filled.
    pub(super) fn area(&mut self, class: &str, points: &[(f64, f64)]) {
        let d = self.path(points.iter().copied());
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            let bottom = coordinate(self.height - BOTTOM);
            let (first, last) = (coordinate(self.px(first.0)), coordinate(self.px(last.0)));
            self.push(&format!(
                "<path class=\"{class}\" d=\"{d}L{last} {bottom}L{first} {bottom}Z\"/>"
            ));
        }
    }

    fn path(&self, points: impl IntoIterator<Item = (f64, f64)>) -> String {
        let mut d = String::new();
        let mut pen = 'M';
        for (x, y) in points {
            // A gap where a value is missing.
            if !x.is_finite() || !y.is_finite() {
                pen = 'M';
                continue;
            }
            let (x, y) = (coordinate(self.px(x)), coordinate(self.py(y)));
            let _ = write!(d, "{pen}{x} {y}");
            pen = 'L';
        }
        d
    }

    /// The finished element. `id` must be unique on the page.
    pub(super) fn finish(self, id: &str, title: &str, description: &str) -> String {
        frame(id, title, description, WIDTH, self.height, &self.body)
    }
}

/// An SVG image with title and description.
pub(super) fn frame(
    id: &str,
    title: &str,
    description: &str,
    width: f64,
    height: f64,
    body: &str,
) -> String {
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{body}</svg>",
        coordinate(width),
        coordinate(height),
        escape(title),
        escape(description)
    )
}

/// One of four shapes that stay apart where colours repeat, around (x, y).
pub(super) fn mark(series: usize, x: f64, y: f64, r: f64) -> String {
    let class = format!("mark s{}", series % 8);
    let (x0, x1, y0, y1) = (x - r, x + r, y - r, y + r);
    let c = coordinate;
    match series / 8 % 4 {
        0 => format!(
            "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{}\"/>",
            c(x),
            c(y),
            c(r)
        ),
        1 => format!(
            "<path class=\"{class}\" d=\"M{} {}H{}V{}H{}Z\"/>",
            c(x0),
            c(y0),
            c(x1),
            c(y1),
            c(x0)
        ),
        2 => format!(
            "<path class=\"{class}\" d=\"M{} {}L{} {}H{}Z\"/>",
            c(x),
            c(y0 - 0.2 * r),
            c(x1),
            c(y1),
            c(x0)
        ),
        _ => format!(
            "<path class=\"{class}\" d=\"M{} {}L{} {}L{} {}L{} {}Z\"/>",
            c(x),
            c(y0 - 0.2 * r),
            c(x1 + 0.2 * r),
            c(y),
            c(x),
            c(y1 + 0.2 * r),
            c(x0 - 0.2 * r),
            c(y)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let labels = |axis: Axis| axis.ticks().into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(
            labels(Axis::linear(0.0, 1.0)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels(Axis::log(1e-3, 1.0)), ["10⁻³", "10⁻²", "10⁻¹", "1"]);
        assert_eq!(
            labels(Axis::rounded(0.13, 2.9)),
            ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]
        );
        assert_eq!(labels(Axis::linear(0.0, 50_000.0)).last().unwrap(), "50k");
    }

    #[test]
    fn odd_ranges_draw_something() {
        for axis in [
            Axis::linear(f64::NAN, 1.0),
            Axis::linear(2.0, 2.0),
            Axis::linear(0.0, 0.0),
            Axis::rounded(-3.0, -3.0),
            Axis::log(0.0, 1.0),
            Axis::log(-1.0, f64::INFINITY),
        ] {
            assert!(axis.ticks().len() < 25);
            for value in [f64::NEG_INFINITY, -1.0, 0.0, 1e300, f64::NAN] {
                assert!((0.0..=1.0).contains(&axis.share(value)), "{axis:?} {value}");
            }
        }
    }
}
