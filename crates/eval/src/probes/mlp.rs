//! A small multi-layer perceptron on frozen features: what a linear probe cannot see.
//!
//! Hidden layers with ReLU, softmax cross-entropy, Adam with decoupled weight decay, He initialisation, inputs
//! standardised by the training rows. The epoch that is best on validation rows is kept. All arithmetic is in f32 and on
//! one thread, so that a seed gives the same bits anywhere; run several seeds side by side instead.

use nalgebra::DMatrix;
use rand_chacha::ChaCha8Rng;

use super::logistic::most_probable;
use crate::bootstrap::dense_codes;
use crate::error::{Error, Result};
use crate::rows::Rows;
use crate::streams::{normal, shuffle, stream};

/// Shape and training of the perceptron.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpConfig {
    /// Units of the hidden layers. Default 256, 256.
    pub hidden: Vec<usize>,
    /// Most passes over the training rows. Default 60.
    pub epochs: usize,
    /// Passes without improvement on validation rows after which it stops. Default 12.
    pub patience: usize,
    /// Rows of a step. Default 128.
    pub batch: usize,
    /// Adam's learning rate. Default 1e-3.
    pub learning_rate: f64,
    /// Decoupled weight decay. Default 1e-3.
    pub weight_decay: f64,
    /// Seed of initialisation and order. Default 0.
    pub seed: u64,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            hidden: vec![256, 256],
            epochs: 60,
            patience: 12,
            batch: 128,
            learning_rate: 1e-3,
            weight_decay: 1e-3,
            seed: 0,
        }
    }
}

/// A fitted perceptron.
#[derive(Debug, Clone)]
pub struct Mlp {
    classes: Vec<u32>,
    mean: Vec<f64>,
    sd: Vec<f64>,
    layers: Vec<Layer>,
    validation_loss: f64,
}

#[derive(Debug, Clone)]
struct Layer {
    /// Outputs x inputs.
    weight: DMatrix<f32>,
    bias: Vec<f32>,
}

/// Adam's two moments of a layer.
struct Moments {
    weight: [DMatrix<f32>; 2],
    bias: [Vec<f32>; 2],
}

impl Mlp {
    /// Fits to `train`, keeping the epoch with the least loss on `validation`.
    ///
    /// # Errors
    /// When sizes disagree, there are fewer than two classes in training, or the configuration is empty.
    pub fn fit(
        train: (&Rows, &[u32]),
        validation: (&Rows, &[u32]),
        config: &MlpConfig,
    ) -> Result<Self> {
        for (rows, labels) in [train, validation] {
            crate::rows::check_labels(rows, labels.len(), "labels")?;
            if rows.dim() != train.0.dim() {
                return Err(Error::shape(format!(
                    "training rows of {}, validation rows of {}",
                    train.0.dim(),
                    rows.dim()
                )));
            }
        }
        if config.batch == 0 || config.epochs == 0 || config.hidden.contains(&0) {
            return Err(Error::usage(
                "a perceptron needs at least one unit a layer, one row a step and one epoch",
            ));
        }
        let (codes, count) = dense_codes(train.1);
        if count < 2 {
            return Err(Error::degenerate(
                "one class only in training: a classifier needs two",
            ));
        }
        let mut classes = train.1.to_vec();
        classes.sort_unstable();
        classes.dedup();
        let (mean, sd) = train.0.moments();
        let x = columns(&train.0.standardised(&mean, &sd));
        let seen = columns(&validation.0.standardised(&mean, &sd));
        // A class that only validation has: no prediction can be right, which the loss leaves out.
        let targets: Vec<Option<u32>> = validation
            .1
            .iter()
            .map(|l| classes.binary_search(l).ok().map(|c| c as u32))
            .collect();

        let mut rng = stream(config.seed, "mlp-init", 0);
        let sizes: Vec<usize> = [train.0.dim()]
            .into_iter()
            .chain(config.hidden.iter().copied())
            .chain([count])
            .collect();
        let mut layers: Vec<Layer> = sizes
            .windows(2)
            .filter_map(|w| Some(Layer::new(*w.first()?, *w.last()?, &mut rng)))
            .collect();
        let mut moments: Vec<Moments> = layers.iter().map(Moments::new).collect();
        let mut order: Vec<usize> = (0..x.ncols()).collect();
        let mut best = (f64::INFINITY, layers.clone(), 0);
        let mut step = 0;
        for epoch in 0..config.epochs {
            shuffle(
                &mut order,
                &mut stream(config.seed, "mlp-order", epoch as u64),
            );
            for batch in order.chunks(config.batch) {
                step += 1;
                let input = x.select_columns(batch);
                let targets: Vec<Option<u32>> =
                    batch.iter().map(|&i| codes.get(i).copied()).collect();
                train_step(&mut layers, &mut moments, input, &targets, step, config);
            }
            let loss = loss(&layers, &seen, &targets);
            if loss < best.0 {
                best = (loss, layers.clone(), epoch);
            } else if epoch >= best.2 + config.patience {
                break;
            }
        }
        Ok(Self {
            classes,
            mean,
            sd,
            layers: best.1,
            validation_loss: best.0,
        })
    }

    /// The classes, ascending.
    pub fn classes(&self) -> &[u32] {
        &self.classes
    }

    /// Mean cross-entropy on the validation rows, nats, of the epoch that was kept.
    pub fn validation_loss(&self) -> f64 {
        self.validation_loss
    }

    /// The most probable class of each row.
    ///
    /// # Errors
    /// When the rows have another dimension than those fitted to.
    pub fn predict(&self, rows: &Rows) -> Result<Vec<u32>> {
        if rows.dim() != self.mean.len() {
            return Err(Error::shape(format!(
                "fitted to rows of {}, asked about rows of {}",
                self.mean.len(),
                rows.dim()
            )));
        }
        let x = columns(&rows.standardised(&self.mean, &self.sd));
        let scores = forward(&self.layers, x).pop();
        let scores: Vec<f64> = scores
            .iter()
            .flat_map(DMatrix::as_slice)
            .map(|&v| f64::from(v))
            .collect();
        Ok(most_probable(&scores, &self.classes))
    }
}

impl Layer {
    fn new(inputs: usize, outputs: usize, rng: &mut ChaCha8Rng) -> Self {
        let scale = (2.0 / inputs as f64).sqrt();
        Self {
            weight: DMatrix::from_fn(outputs, inputs, |_, _| (scale * normal(rng)) as f32),
            bias: vec![0.0; outputs],
        }
    }
}

impl Moments {
    fn new(layer: &Layer) -> Self {
        let zero = || DMatrix::zeros(layer.weight.nrows(), layer.weight.ncols());
        Self {
            weight: [zero(), zero()],
            bias: [vec![0.0; layer.bias.len()], vec![0.0; layer.bias.len()]],
        }
    }
}

fn columns(rows: &Rows) -> DMatrix<f32> {
    let values = rows.values().iter().map(|&v| v as f32);
    DMatrix::from_iterator(rows.dim(), rows.len(), values)
}

/// The inputs of every layer and, last, the scores.
fn forward(layers: &[Layer], input: DMatrix<f32>) -> Vec<DMatrix<f32>> {
    let mut all = vec![input];
    for (i, layer) in layers.iter().enumerate() {
        let Some(last) = all.last() else { break };
        let mut out = &layer.weight * last;
        let hidden = i + 1 < layers.len();
        for mut column in out.column_iter_mut() {
            for (v, b) in column.iter_mut().zip(&layer.bias) {
                *v += b;
                if hidden {
                    *v = v.max(0.0);
                }
            }
        }
        all.push(out);
    }
    all
}

/// Softmax in place; the summed loss of the rows that have a target.
fn softmax_loss(scores: &mut DMatrix<f32>, targets: &[Option<u32>]) -> f64 {
    let mut loss = 0.0;
    for (mut column, target) in scores.column_iter_mut().zip(targets) {
        let top = column.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = column.iter().map(|v| (v - top).exp()).sum();
        for v in column.iter_mut() {
            *v = (*v - top).exp() / sum;
        }
        if let Some(p) = target.and_then(|t| column.iter().nth(t as usize)) {
            loss -= f64::from(p.max(f32::MIN_POSITIVE)).ln();
        }
    }
    loss
}

fn loss(layers: &[Layer], input: &DMatrix<f32>, targets: &[Option<u32>]) -> f64 {
    let known = targets.iter().flatten().count().max(1);
    match forward(layers, input.clone()).pop() {
        Some(mut scores) => softmax_loss(&mut scores, targets) / known as f64,
        None => f64::INFINITY,
    }
}

fn train_step(
    layers: &mut [Layer],
    moments: &mut [Moments],
    input: DMatrix<f32>,
    targets: &[Option<u32>],
    step: i32,
    config: &MlpConfig,
) {
    let mut all = forward(layers, input);
    let Some(mut delta) = all.pop() else { return };
    softmax_loss(&mut delta, targets);
    let scale = 1.0 / targets.len() as f32;
    for (mut column, target) in delta.column_iter_mut().zip(targets) {
        for (k, v) in column.iter_mut().enumerate() {
            *v = (*v - f32::from(u8::from(*target == Some(k as u32)))) * scale;
        }
    }
    let (rate, decay) = (config.learning_rate as f32, config.weight_decay as f32);
    for ((layer, moment), input) in layers.iter_mut().zip(moments).zip(&all).rev() {
        let gradient = &delta * input.transpose();
        let bias: Vec<f32> = delta.row_iter().map(|row| row.iter().sum()).collect();
        let mut back = layer.weight.transpose() * &delta;
        // The input of a hidden layer went through ReLU; for the first layer the result is not used.
        for (b, v) in back.iter_mut().zip(input.iter()) {
            if *v <= 0.0 {
                *b = 0.0;
            }
        }
        let [m, v] = &mut moment.weight;
        adam(
            layer.weight.as_mut_slice(),
            gradient.as_slice(),
            m.as_mut_slice(),
            v.as_mut_slice(),
            step,
            rate,
            decay,
        );
        let [m, v] = &mut moment.bias;
        adam(&mut layer.bias, &bias, m, v, step, rate, 0.0);
        delta = back;
    }
}

fn adam(
    values: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: i32,
    rate: f32,
    decay: f32,
) {
    let (b1, b2) = (0.9f32, 0.999f32);
    let (c1, c2) = (1.0 - b1.powi(step), 1.0 - b2.powi(step));
    for (((v, g), m), s) in values.iter_mut().zip(gradient).zip(first).zip(second) {
        *m = b1 * *m + (1.0 - b1) * g;
        *s = b2 * *s + (1.0 - b2) * g * g;
        *v -= rate * (*m / c1 / ((*s / c2).sqrt() + 1e-8) + decay * *v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Class = whether x and y have one sign: no line parts them.
    fn checker(n: usize) -> (Rows, Vec<u32>) {
        let mut rng = stream(3, "checker", n as u64);
        let points: Vec<[f64; 2]> = (0..n)
            .map(|_| [normal(&mut rng), normal(&mut rng)])
            .collect();
        let labels = points.iter().map(|p| 4 + u32::from(p[0] * p[1] > 0.0));
        (
            Rows::new(points.iter().flatten().copied().collect(), 2).unwrap(),
            labels.collect(),
        )
    }

    #[test]
    fn sees_what_no_line_sees_and_repeats_itself() {
        let (train, test) = (checker(600), checker(300));
        let config = MlpConfig {
            hidden: vec![32],
            learning_rate: 5e-3,
            ..Default::default()
        };
        let fit = || Mlp::fit((&train.0, &train.1), (&test.0, &test.1), &config).unwrap();
        let (one, two) = (fit(), fit());
        assert_eq!(one.validation_loss(), two.validation_loss());
        let predicted = one.predict(&test.0).unwrap();
        let right = predicted
            .iter()
            .zip(&test.1)
            .filter(|(p, l)| p == l)
            .count();
        assert!(right > 270, "{right} of 300");
        assert_eq!(one.classes(), [4, 5]);
    }

    #[test]
    fn backward_equals_differences() {
        let (rows, labels) = checker(16);
        let x = columns(&rows);
        let targets: Vec<Option<u32>> = labels.iter().map(|l| Some(l - 4)).collect();
        let mut rng = stream(1, "test", 0);
        let layers = [Layer::new(2, 5, &mut rng), Layer::new(5, 2, &mut rng)];
        // One step of Adam at step 1 moves by rate x sign(gradient): compare signs with differences of the loss.
        let mut moved = layers.to_vec();
        let mut moments: Vec<Moments> = layers.iter().map(Moments::new).collect();
        let config = MlpConfig {
            learning_rate: 1e-3,
            weight_decay: 0.0,
            ..Default::default()
        };
        train_step(&mut moved, &mut moments, x.clone(), &targets, 1, &config);
        let mut checked = 0;
        for (l, layer) in layers.iter().enumerate() {
            for i in 0..layer.weight.len() {
                let at = |shift: f32| {
                    let mut changed = layers.to_vec();
                    changed[l].weight.as_mut_slice()[i] += shift;
                    loss(&changed, &x, &targets)
                };
                let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
                // The first moment is a tenth of the gradient.
                let analytic = 10.0 * f64::from(moments[l].weight[0].as_slice()[i]);
                assert!((numeric - analytic).abs() < 2e-2, "{numeric} {analytic}");
                checked += usize::from(numeric.abs() > 0.05);
            }
        }
        assert!(checked > 4);
    }

    #[test]
    fn bad_input_is_an_error() {
        let (rows, labels) = checker(20);
        let config = MlpConfig::default();
        let fit =
            |labels: &[u32], config: &MlpConfig| Mlp::fit((&rows, labels), (&rows, labels), config);
        assert!(fit(&labels[1..], &config).is_err());
        assert!(fit(&[1; 20], &config).is_err());
        let none = MlpConfig {
            hidden: vec![0],
            ..config
        };
        assert!(fit(&labels, &none).is_err());
    }
}
