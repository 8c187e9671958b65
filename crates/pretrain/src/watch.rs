//! Watching a run for collapse, and naming what helps.

use std::collections::VecDeque;

/// When [`CollapseWatch`] speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchConfig {
    /// Below this [`spread`](crate::spread) embeddings count as collapsed. Default 0.3.
    pub spread: f64,
    /// Below this share of the entropy that the batch allows, choices count as collapsed. Default 0.3.
    pub choices: f64,
    /// Above this mean relative error the prototypes' shares count as unequal. Default 0.5.
    pub marginal: f64,
    /// A loss within this share of the loss of chance counts as not learning. Default 0.02.
    pub chance: f64,
    /// Steps over which all of it is averaged; nothing is said sooner. Default 50.
    pub window: usize,
    /// Steps, counted from the start, during which the loss may stand still: prototypes are frozen, the learning rate
    /// warms up. Default 500.
    pub patience: u64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            spread: 0.3,
            choices: 0.3,
            marginal: 0.5,
            chance: 0.02,
            window: 50,
            patience: 500,
        }
    }
}

/// Reads the metrics of a run, step by step, and says when it goes wrong: each kind of trouble once, and again after it
/// had gone.
#[derive(Debug, Clone)]
pub struct CollapseWatch {
    config: WatchConfig,
    /// Rows that choices are counted over, and prototypes.
    choices: Option<(usize, usize)>,
    histories: [VecDeque<f64>; 4],
    alarmed: [bool; 4],
}

/// The metrics that are read.
const NAMES: [&str; 4] = [
    "spread",
    "choice_entropy",
    "marginal_error_mean",
    "loss_over_chance",
];

impl CollapseWatch {
    /// A watch. `choices` is the number of rows whose nearest prototypes are counted in a step and the number of
    /// prototypes, for methods that have them.
    pub fn new(config: WatchConfig, choices: Option<(usize, usize)>) -> Self {
        Self {
            config,
            choices,
            histories: Default::default(),
            alarmed: [false; 4],
        }
    }

    /// Takes the metrics of a step (from 0); gives the alarms that begin with it, one line each.
    pub fn see(&mut self, step: u64, loss: f64, metrics: &[(String, f64)]) -> Vec<String> {
        let mut alarms = Vec::new();
        let window = self.config.window.max(1);
        for kind in 0..NAMES.len() {
            let (Some(name), Some(history)) = (NAMES.get(kind), self.histories.get_mut(kind))
            else {
                continue;
            };
            let Some((_, value)) = metrics.iter().find(|(own, _)| own == name) else {
                continue;
            };
            history.push_back(*value);
            if history.len() > window {
                history.pop_front();
            }
            if history.len() < window {
                continue;
            }
            let mean = history.iter().sum::<f64>() / history.len() as f64;
            let trouble = self.trouble(kind, mean, step, loss);
            if let Some(was) = self.alarmed.get_mut(kind) {
                if let Some(text) = &trouble
                    && !*was
                {
                    alarms.push(format!("step {step}: {text}"));
                }
                *was = trouble.is_some();
            }
        }
        alarms
    }

    /// What is wrong when the mean of metric `kind` is `mean`.
    fn trouble(&self, kind: usize, mean: f64, step: u64, loss: f64) -> Option<String> {
        let config = &self.config;
        match kind {
            0 => (mean < config.spread).then(|| {
                format!(
                    "embeddings collapse: their spread is {mean:.3}, healthy near 1; lower the learning rate or ease the \
                     augmentation, with prototypes lower epsilon to 0.03 or 0.01 or freeze them longer"
                )
            }),
            1 => {
                let (rows, prototypes) = self.choices?;
                let most = (rows.min(prototypes).max(2) as f64).ln() / (prototypes.max(2) as f64).ln();
                let share = mean / most;
                (share < config.choices).then(|| {
                    format!(
                        "few prototypes are in use: choices have {share:.2} of the entropy they could have; lower \
                         epsilon to 0.03 or 0.01, freeze the prototypes longer, or take fewer prototypes or a longer queue"
                    )
                })
            }
            2 => (mean > config.marginal).then(|| {
                format!(
                    "prototypes have unequal shares: the mean error of the marginals is {mean:.2}; raise epsilon or the \
                     Sinkhorn iterations, or take fewer prototypes or a longer queue"
                )
            }),
            _ => {
                // The metric is the loss minus that of chance.
                let chance = loss - mean;
                let near = mean > -config.chance * chance.abs();
                let remedy = match self.choices {
                    Some(_) => {
                        "lower epsilon to 0.03 or 0.01, freeze the prototypes longer, make codes hard, leave out the norm of the \
                         head or ease the augmentation; a batch far below the number of prototypes does this too"
                    }
                    None => "lower the learning rate or ease the augmentation; larger batches help",
                };
                (near && step >= config.patience).then(|| {
                    format!("the loss does not leave that of chance ({mean:+.3} from it): {remedy}")
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(values: [f64; 4]) -> Vec<(String, f64)> {
        let named = NAMES.iter().zip(values);
        named
            .map(|(name, value)| ((*name).to_string(), value))
            .collect()
    }

    fn run(values: [f64; 4], steps: u64) -> Vec<String> {
        let mut watch = CollapseWatch::new(WatchConfig::default(), Some((128, 300)));
        let loss = 300f64.ln() + values[3];
        (0..steps)
            .flat_map(|step| watch.see(step, loss, &metrics(values)))
            .collect()
    }

    #[test]
    fn a_healthy_run_is_silent_and_each_trouble_is_said_once_with_its_remedy() {
        assert!(run([0.95, 0.8, 0.1, -2.0], 2000).is_empty());
        for (kind, values, words) in [
            (0, [0.05, 0.8, 0.1, -2.0], "embeddings collapse"),
            (1, [0.95, 0.1, 0.1, -2.0], "few prototypes"),
            (2, [0.95, 0.8, 0.9, -2.0], "unequal shares"),
            (3, [0.95, 0.8, 0.1, -0.01], "does not leave that of chance"),
        ] {
            let said = run(values, 2000);
            assert_eq!(said.len(), 1, "{kind}: {said:?}");
            assert!(
                said[0].contains(words) && said[0].contains("lower") || said[0].contains("raise"),
                "{said:?}"
            );
        }
    }

    #[test]
    fn trouble_that_comes_back_is_said_again_and_a_flicker_is_not() {
        let mut watch = CollapseWatch::new(WatchConfig::default(), None);
        let mut said = 0;
        for step in 0..400u64 {
            // Collapsed in the first and third hundred.
            let spread = if (step / 100) % 2 == 0 { 0.0 } else { 1.0 };
            said += watch.see(step, 1.0, &[("spread".into(), spread)]).len();
        }
        assert_eq!(said, 2);
        let mut watch = CollapseWatch::new(WatchConfig::default(), None);
        for step in 0..400u64 {
            let spread = if step % 10 == 0 { 0.0 } else { 1.0 };
            assert!(
                watch
                    .see(step, 1.0, &[("spread".into(), spread)])
                    .is_empty()
            );
        }
    }
}
