//! Which classes are taken for which.

use std::fmt::Write;

use crate::classification::Confusion;
use crate::report::svg::{WIDTH, frame};
use crate::report::text::{coordinate, count, escape, number};

/// Rows are true classes. A table with shades up to 16 classes, squares up to 100, the most frequent confusions beyond.
pub(in crate::report) fn confusion(id: &str, confusion: &Confusion, names: &[String]) -> String {
    let n = confusion.classes();
    let name = |c: usize| names.get(c).cloned().unwrap_or_else(|| c.to_string());
    if n <= 16 {
        return confusion_table(confusion, &name);
    }
    let mut out = String::new();
    if n <= 100 {
        let (gap, size) = (26.0, (WIDTH - 30.0) / n as f64);
        let mut body = format!(
            "<text x=\"{0}\" y=\"14\" text-anchor=\"middle\">called</text>\
             <text transform=\"translate(14 {0}) rotate(-90)\" text-anchor=\"middle\">true class</text>",
            coordinate(gap + size * n as f64 / 2.0)
        );
        for truth in 0..n {
            let total = confusion.row(truth).iter().sum::<u64>().max(1) as f64;
            for (called, &times) in confusion.row(truth).iter().enumerate().filter(|c| *c.1 > 0) {
                let _ = write!(
                    body,
                    "<rect class=\"cell\" x=\"{}\" y=\"{}\" width=\"{s}\" height=\"{s}\" fill-opacity=\"{:.2}\"><title>{} called {}: {times}</title></rect>",
                    coordinate(gap + size * called as f64),
                    coordinate(gap + size * truth as f64),
                    0.08 + 0.92 * times as f64 / total,
                    escape(&name(truth)),
                    escape(&name(called)),
                    s = coordinate(size * 0.94),
                );
            }
        }
        let description = format!("{n} classes; accuracy {}", number(confusion.accuracy()));
        out = frame(id, "Confusion matrix", &description, WIDTH, WIDTH, &body);
    }
    let mut wrong: Vec<(u64, usize, usize)> = (0..n)
        .flat_map(|t| {
            confusion
                .row(t)
                .iter()
                .enumerate()
                .map(move |(p, &c)| (c, t, p))
        })
        .filter(|&(c, t, p)| c > 0 && t != p)
        .collect();
    wrong.sort_unstable_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let rows: String = wrong
        .iter()
        .take(10)
        .map(|&(c, t, p)| {
            format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td></tr>",
                escape(&name(t)),
                escape(&name(p)),
                count(c)
            )
        })
        .collect();
    out + &format!(
        "<table class=\"sort\"><caption>Most frequent confusions</caption><thead><tr><th scope=\"col\">True class</th>\
         <th scope=\"col\">Called</th><th scope=\"col\" class=\"n\">Times</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

fn confusion_table(confusion: &Confusion, name: &dyn Fn(usize) -> String) -> String {
    let n = confusion.classes();
    let mut out = String::from(
        "<div class=\"scroll\"><table class=\"heat\"><caption>Rows: true class. Columns: what it was called. \
         Percent of the row; counts on pointing.</caption><thead><tr><td></td>",
    );
    for c in 0..n {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(&name(c)));
    }
    out.push_str("</tr></thead><tbody>");
    for truth in 0..n {
        let total = confusion.row(truth).iter().sum::<u64>();
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(&name(truth)));
        for (called, &times) in confusion.row(truth).iter().enumerate() {
            let share = times as f64 / total.max(1) as f64;
            let mut class = String::new();
            for (on, word) in [
                (truth != called, "miss"),
                (share > 0.55, "deep"),
                (times == 0, "zero"),
            ] {
                if on {
                    class.push_str(if class.is_empty() { "" } else { " " });
                    class.push_str(word);
                }
            }
            let _ = write!(
                out,
                "<td class=\"{class}\" style=\"--v:{share:.3}\" title=\"{} called {}: {times} of {total}\">{}</td>",
                escape(&name(truth)),
                escape(&name(called)),
                if times == 0 {
                    "\u{b7}".to_string()
                } else {
                    format!("{:.0}", 100.0 * share)
                }
            );
        }
        out.push_str("</tr>");
    }
    out + "</tbody></table></div>"
}
