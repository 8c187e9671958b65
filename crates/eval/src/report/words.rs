//! What each metric is called for people, and what it says in one sentence.

/// Title and meaning of a metric name; an unknown one is its own title.
pub(super) fn describe(name: &str) -> (String, String) {
    let fixed = |title: &str, meaning: &str| (title.to_string(), meaning.to_string());
    match name {
        "auc" => fixed(
            "AUC",
            "chance that a pair of one label scores above a pair of two",
        ),
        "eer" => fixed(
            "Equal error rate",
            "where false accepts and false rejects are equally frequent; lower is better",
        ),
        "best_accuracy" => fixed(
            "Best accuracy",
            "share of right decisions at the best threshold; compare with the majority share",
        ),
        "fold_accuracy" => fixed("Accuracy over folds", "threshold chosen on the other folds"),
        "fold_accuracy_sd" => fixed(
            "Spread over folds",
            "standard deviation of the accuracies of the folds",
        ),
        "rank1" => fixed(
            "Rank-1",
            "share of images whose nearest other image has the same label",
        ),
        "precision@1" => fixed("Precision at 1", "the same figure as rank-1"),
        "r_precision" => fixed(
            "R-precision",
            "hits among the R nearest, R being the number of other images of the label",
        ),
        "map@r" => fixed("MAP@R", "mean average precision over the R nearest"),
        "mrr" => fixed("Mean reciprocal rank", "mean of 1 / rank of the first hit"),
        "accuracy" => fixed("Accuracy", "share of right predictions"),
        "mean_class_accuracy" => fixed(
            "Mean class accuracy",
            "mean over classes of the share of right predictions",
        ),
        "macro_f1" => fixed(
            "Macro F1",
            "mean over classes of the harmonic mean of precision and recall",
        ),
        "ece" => fixed(
            "Calibration error",
            "expected gap between confidence and share of right predictions; lower is better",
        ),
        "average_precision" => fixed(
            "Average precision",
            "mean precision over the genuine pairs in the order of their scores",
        ),
        "log_loss" => fixed(
            "Log-loss",
            "mean negative log-probability of the true class, nats; lower is better",
        ),
        _ => {
            if let Some(far) = name.strip_prefix("tar@far=") {
                (
                    format!("TAR at FAR {far}"),
                    format!(
                        "share of genuine pairs accepted while at most {far} of the impostor pairs are"
                    ),
                )
            } else if let Some(k) = name.strip_prefix("recall@") {
                (
                    format!("Recall at {k}"),
                    format!("share of images with a hit among the {k} nearest"),
                )
            } else {
                (name.to_string(), String::new())
            }
        }
    }
}

/// Metrics in the order people ask for them; others follow by name.
pub(super) fn order(name: &str) -> (usize, f64) {
    const FIRST: [&str; 8] = [
        "auc",
        "rank1",
        "accuracy",
        "mean_class_accuracy",
        "macro_f1",
        "eer",
        "map@r",
        "r_precision",
    ];
    let place = FIRST.iter().position(|f| *f == name);
    // Rates from easy to hard: FAR descending, k ascending.
    let number = |prefix: &str| {
        name.strip_prefix(prefix)
            .and_then(|v| v.parse::<f64>().ok())
    };
    match (place, number("tar@far="), number("recall@")) {
        (Some(i), _, _) => (i, 0.0),
        (_, Some(far), _) => (20, -far),
        (_, _, Some(k)) => (21, k),
        _ => (30, 0.0),
    }
}
