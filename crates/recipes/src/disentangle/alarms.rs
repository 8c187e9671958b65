//! What a person should know of a game that came to its end but did not go well, each with what helps.

use serde_json::Value;

/// Share of the last turns in which an alarm has to stand before it is worth saying.
const OFTEN: f64 = 0.5;

const REMEDIES: [(&str, &str); 3] = [
    (
        "alarm_stale",
        "an estimate of information lay below 0 and was left out; more `game.adversary_turns` or a larger `train.adversary_lr` help",
    ),
    (
        "alarm_flipped",
        "an adversary was right less often than a guess, which tells as much as being right; a smaller `game.alpha` or `game.mode = \"uniform\"` helps",
    ),
    (
        "alarm_collapsed",
        "l held nothing; a larger `game.lambda` or a smaller `game.beta` helps",
    ),
];

/// The alarms that stood in most turns of the last quarter of `log`, the text of a run's `metrics.jsonl`.
pub(crate) fn warnings(log: &str) -> Vec<String> {
    let entries: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let last = entries.get(entries.len() * 3 / 4..).unwrap_or_default();
    REMEDIES
        .iter()
        .filter_map(|(name, remedy)| {
            let shares: Vec<f64> = last.iter().filter_map(|e| e[*name].as_f64()).collect();
            let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
            (mean > OFTEN).then(|| format!("in {:.0} % of the last turns {remedy}", 100. * mean))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_at_the_end_is_said_and_what_passed_is_not() {
        let line = |step: usize, stale: f64, collapsed: f64| {
            format!("{{\"step\":{step},\"alarm_stale\":{stale},\"alarm_collapsed\":{collapsed}}}\n")
        };
        let log: String = (0..8)
            .map(|i| {
                line(
                    i,
                    if i < 6 { 1. } else { 0.2 },
                    if i < 6 { 0. } else { 0.75 },
                )
            })
            .collect();
        let found = warnings(&log);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("in 75 % of the last turns l held nothing")
                && found[0].contains("game.lambda")
        );
        assert!(warnings("").is_empty());
        assert!(warnings("not JSON\n").is_empty());
    }
}
