//! The figures of a table, as Markdown and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use phiz_eval::{Summary, mean_sd_ci95};
use serde_json::{Map, Value, json};

/// The figures of a table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Name of the table.
    pub name: String,
    /// What was done, for the caption.
    pub caption: String,
    /// Metrics shown, in this order; the first is the one rows are compared by.
    pub metrics: Vec<&'static str>,
    /// Rows in the order of the table.
    pub rows: Vec<Row>,
    /// Tables that this one consists of, each with metrics of its own; empty for most.
    pub parts: Vec<Table>,
}

/// One row of a table.
#[derive(Debug, Clone)]
pub struct Row {
    /// Name of the recipe or baseline.
    pub name: String,
    /// Values by metric and seed.
    pub values: BTreeMap<String, Vec<f64>>,
}

impl Table {
    /// `{"rows": [{"name", "metrics": {"auc": {"mean", "sd", "ci95", "seeds"}}}]}`.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .chain(self.parts.iter().flat_map(|part| &part.rows))
            .map(|row| {
                let metrics: Map<String, Value> = row
                    .values
                    .iter()
                    .map(|(name, values)| {
                        let summary = mean_sd_ci95(values);
                        let object = json!({
                            "mean": summary.as_ref().map(|s| s.mean),
                            "sd": summary.as_ref().and_then(|s| s.sd),
                            "ci95": summary.as_ref().and_then(|s| s.ci95),
                            "seeds": values,
                        });
                        (name.clone(), object)
                    })
                    .collect();
                json!({ "name": row.name, "metrics": metrics })
            })
            .collect();
        json!({ "name": self.name, "caption": self.caption, "rows": rows })
    }

    /// The table as Markdown: mean, standard deviation and 95 % interval over seeds, and the paired
    /// difference to the first row in the first metric.
    pub fn to_markdown(&self) -> String {
        if !self.parts.is_empty() {
            let parts: Vec<String> = self.parts.iter().map(Self::to_markdown).collect();
            return format!("{}\n\n{}", self.caption, parts.join("\n"));
        }
        let mut text = format!("{}\n\n| row |", self.caption);
        for metric in &self.metrics {
            let _ = write!(text, " {metric} |");
        }
        let compared = self.metrics.first().copied().unwrap_or_default();
        let _ = write!(text, " {compared}: first row minus this |\n|---|");
        text.push_str(&"---|".repeat(self.metrics.len() + 1));
        text.push('\n');
        let first = self.rows.first().and_then(|row| row.values.get(compared));
        for (at, row) in self.rows.iter().enumerate() {
            let _ = write!(text, "| {} |", row.name);
            for metric in &self.metrics {
                let values = row.values.get(*metric).map_or(&[][..], Vec::as_slice);
                let _ = write!(text, " {} |", cell(mean_sd_ci95(values).as_ref()));
            }
            let differences: Vec<f64> = match (first, row.values.get(compared)) {
                (Some(a), Some(b)) if at > 0 && a.len() == b.len() => {
                    a.iter().zip(b).map(|(a, b)| a - b).collect()
                }
                _ => Vec::new(),
            };
            let _ = writeln!(text, " {} |", cell(mean_sd_ci95(&differences).as_ref()));
        }
        text
    }
}

fn cell(summary: Option<&Summary>) -> String {
    let Some(summary) = summary else {
        return "-".to_string();
    };
    match (summary.sd, summary.ci95) {
        (Some(sd), Some([low, high])) => {
            format!("{:.4} ± {sd:.4} [{low:.4}, {high:.4}]", summary.mean)
        }
        _ => format!("{:.4}", summary.mean),
    }
}
