//! Explicitness (Ridgeway and Mozer, NeurIPS 2018): can each factor be read off the code by a linear map?

use super::Coded;
use crate::error::{Error, Result};
use crate::probes::{Logistic, LogisticConfig};
use crate::roc::Roc;

/// Mean over factors of the mean one-against-rest AUC on `test` of logistic regression (C = 1) on codes standardised by
/// `train`. 0.5 is chance.
///
/// # Errors
/// When a factor is constant on the training rows, or one of its values occurs on none or on all of the test rows.
pub fn explicitness(train: Coded<'_>, test: Coded<'_>) -> Result<f64> {
    let (mean, sd) = train.codes.moments();
    let x = train.codes.standardised(&mean, &sd);
    let seen = test.codes.standardised(&mean, &sd);
    let factors = train.factors.count();
    let mut sum = 0.0;
    for j in 0..factors {
        let fit = Logistic::fit(&x, train.factors.column(j), &LogisticConfig::default())?;
        let probabilities = fit.probabilities(&seen)?;
        let classes = fit.classes();
        let truth = test.factors.column(j);
        for (k, &class) in classes.iter().enumerate() {
            let column = probabilities.iter().skip(k).step_by(classes.len());
            let (mut yes, mut no) = (Vec::new(), Vec::new());
            for (&p, &t) in column.zip(truth) {
                if t == class {
                    yes.push(p);
                } else {
                    no.push(p);
                }
            }
            if yes.is_empty() || no.is_empty() {
                return Err(Error::degenerate(format!(
                    "value {class} of factor {j} occurs on none or on all of the test rows"
                )));
            }
            sum += Roc::from_scores(&yes, &no)?.auc() / (classes.len() * factors) as f64;
        }
    }
    Ok(sum)
}
