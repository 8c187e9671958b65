//! Rendered faces as a data set: a face is drawn when it is asked for.

use phiz_synth::{DISGUISES, EXPRESSIONS, LIGHTS, MAKEUP, SynthConfig, factors, render};
use rayon::prelude::*;

use crate::error::one_line;
use crate::labels::check_indices;
use crate::{Column, Dataset, Error, ErrorKind, Image, Labels, Result};

/// Most samples of one set: every sample carries some eighty factors, which are kept.
pub const MAX_SAMPLES: usize = 1 << 20;

/// Rendered faces. Labels: `identity` (classes `p<number of the person>`), `expression` (the seven of
/// [`EXPRESSIONS`]), `makeup` ([`MAKEUP`]), `disguise` ([`DISGUISES`]), `light` ([`LIGHTS`]) and every continuous
/// factor as `factor.<name>`. Shares of samples with make-up, disguise or a marked light are the keys `makeup`,
/// `disguise` and `lighting`, 0 where they are not given.
pub struct Synthetic {
    config: SynthConfig,
    labels: Labels,
}

fn refused(error: &phiz_synth::Error) -> Error {
    Error::config(format!("synth: {}", one_line(&error.to_string())))
}

impl Synthetic {
    /// The set that `config` describes.
    ///
    /// # Errors
    /// When a setting is out of its range, or there would be more than [`MAX_SAMPLES`].
    pub fn new(config: SynthConfig) -> Result<Self> {
        config.validate().map_err(|e| refused(&e))?;
        let n = config.len();
        if n > MAX_SAMPLES {
            return Err(Error::new(ErrorKind::TooLarge(format!(
                "synth: {n} images, the limit is {MAX_SAMPLES}: lower identities or per_expression"
            ))));
        }
        let drawn: Vec<_> = (0..n)
            .into_par_iter()
            .map(|i| factors(&config, i))
            .collect();
        let drawn = drawn
            .into_iter()
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|e| refused(&e))?;
        let mut labels = Labels::new(n);
        let people = (0..config.identities as u64)
            .map(|i| format!("p{}", u64::from(config.first_identity) + i));
        labels.insert(
            "identity",
            Column::Categorical {
                codes: drawn.iter().map(|f| f.identity).collect(),
                names: people.collect(),
            },
        )?;
        labels.insert(
            "expression",
            Column::Categorical {
                codes: drawn.iter().map(|f| f.expression).collect(),
                names: EXPRESSIONS.iter().map(ToString::to_string).collect(),
            },
        )?;
        let states: [(&str, &[&str], Vec<u32>); 3] = [
            (
                "makeup",
                &MAKEUP,
                drawn.iter().map(|f| f.states.makeup).collect(),
            ),
            (
                "disguise",
                &DISGUISES,
                drawn.iter().map(|f| f.states.disguise).collect(),
            ),
            (
                "light",
                &LIGHTS,
                drawn.iter().map(|f| f.states.light).collect(),
            ),
        ];
        for (name, classes, codes) in states {
            let names = classes.iter().map(ToString::to_string).collect();
            labels.insert(name, Column::Categorical { codes, names })?;
        }
        let mut columns: Vec<(&'static str, Vec<f32>)> = Vec::new();
        for sample in &drawn {
            let values = sample.values();
            if columns.is_empty() {
                columns = values
                    .iter()
                    .map(|(name, _)| (*name, Vec::with_capacity(n)))
                    .collect();
            }
            for ((_, column), (_, value)) in columns.iter_mut().zip(values) {
                column.push(value);
            }
        }
        for (name, values) in columns {
            labels.insert(format!("factor.{name}"), Column::Continuous(values))?;
        }
        Ok(Self { config, labels })
    }

    /// What is rendered.
    #[must_use]
    pub fn config(&self) -> &SynthConfig {
        &self.config
    }
}

impl Dataset for Synthetic {
    fn name(&self) -> &str {
        "synth"
    }
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        match self.config.place(index) {
            Ok(place) => {
                let expression = EXPRESSIONS
                    .get(place.expression as usize)
                    .copied()
                    .unwrap_or("");
                format!("p{}/{expression}/{}", place.person, place.take)
            }
            Err(_) => String::new(),
        }
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.len())?;
        Ok(render(&self.config, index).map_err(|e| refused(&e))?.image)
    }
    fn rendered(&self) -> bool {
        true
    }
}
