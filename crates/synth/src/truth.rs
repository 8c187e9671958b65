//! Faces as a data set with known factors of variation, in the form that measures of disentanglement ask for: a few
//! factors with a few values each, rows of value numbers, and the picture of a row.
//!
//! Follows the ground-truth data of google-research/disentanglement_lib: factors are drawn independently and uniformly,
//! one factor can be held, and everything that is not among the factors stays the same in all pictures.

use crate::config::Place;
use crate::config::SynthConfig;
use crate::draw::uncorrelated;
use crate::error::{Error, ErrorKind};
use crate::expression::{CONTEMPT, textbook};
use crate::factors::Factors;
use crate::flaws::FactorName;
use crate::person::person;
use crate::render::{Rendered, render_factors};
use crate::stream::Stream;

/// A factor of variation and the values that it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct GroundFactor {
    /// Its name: any of [`Factors::values`], `identity` or `expression`.
    pub name: FactorName,
    /// Its values; for `identity` numbers of people, for `expression` indices into [`crate::ALL_EXPRESSIONS`].
    pub values: Vec<f32>,
}

impl GroundFactor {
    /// `count` values of the factor called `name`, 2 to 64, spread over how `config` draws it: the middles of `count`
    /// equally likely parts of 192 independent draws. People and expressions are numbered from 0.
    ///
    /// # Errors
    /// When there is no such factor, the count is out of range, or the configuration never varies the factor.
    pub fn spread(config: &SynthConfig, name: &str, count: usize) -> Result<Self, Error> {
        config.validate()?;
        let name: FactorName = name.parse()?;
        if !(2..=64).contains(&count) {
            return Err(Error::range("values of a factor", count as f64, "2 to 64"));
        }
        let values: Vec<f32> = match name.name() {
            "identity" => (0..count).map(|k| k as f32).collect(),
            "expression" => {
                let known = config.expressions();
                if count > known {
                    return Err(Error::range(
                        "values of expression",
                        count as f64,
                        "2 to 7, or 8 with contempt",
                    ));
                }
                (0..count).map(|k| k as f32).collect()
            }
            _ => {
                const DRAWS: usize = 192;
                let mut drawn: Vec<f32> = (0..DRAWS as u32)
                    .map(|k| {
                        let place = Place {
                            identity: 0,
                            person: k,
                            expression: k % config.expressions() as u32,
                            take: 0,
                        };
                        name.value(&uncorrelated(config, place))
                    })
                    .collect();
                drawn.sort_by(f32::total_cmp);
                (0..count)
                    .map(|k| drawn[(2 * k + 1) * DRAWS / (2 * count)])
                    .collect()
            }
        };
        if values.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::new(ErrorKind::Conflict {
                text: format!(
                    "{name} does not take {count} values under this configuration: give its values yourself, or vary it more"
                ),
            }));
        }
        Ok(Self { name, values })
    }
}

/// A data set of all combinations of some factors.
#[derive(Debug, Clone, PartialEq)]
pub struct GroundTruth {
    config: SynthConfig,
    factors: Vec<GroundFactor>,
}

/// Values of all factors of one picture, as positions in [`GroundFactor::values`].
pub type GroundRow = Vec<u32>;

impl GroundTruth {
    /// The set of these factors. Of `config` count seed, size and strengths; what is not among the factors is that of
    /// [`Factors::default`].
    ///
    /// # Errors
    /// When the configuration does not validate, there is no factor, one is named twice or has no or bad values, or a
    /// factor of the person stands beside `identity`, which fixes all of them (or of the actions beside `expression`).
    pub fn new(config: SynthConfig, factors: Vec<GroundFactor>) -> Result<Self, Error> {
        config.validate()?;
        let conflict = |text: String| Err(Error::new(ErrorKind::Conflict { text }));
        if factors.is_empty() {
            return conflict("ground truth of no factor: name at least one".to_owned());
        }
        let has = |name: &str| factors.iter().any(|f| f.name.name() == name);
        for (k, factor) in factors.iter().enumerate() {
            let name = factor.name.name();
            if factors[..k].iter().any(|other| other.name == factor.name) {
                return conflict(format!("factor {name} is named twice"));
            }
            if factor.values.is_empty() {
                return conflict(format!("factor {name} has no values"));
            }
            let whole = match name {
                "identity" => Some(4_294_967_040.0),
                "expression" => Some(7.0),
                _ => None,
            };
            for &value in &factor.values {
                let fits = match whole {
                    Some(most) => value >= 0.0 && value <= most && value.floor() == value,
                    None => value.is_finite(),
                };
                if !fits {
                    return Err(Error::range(
                        name,
                        f64::from(value),
                        match whole {
                            Some(_) => "a whole number from 0 (an expression: 0 to 7)",
                            None => "a finite number",
                        },
                    ));
                }
            }
            if name != "identity" && has("identity") && factor.name.of_person() {
                return conflict(format!("factor {name} beside identity, which fixes it"));
            }
            if name.starts_with("au") && has("expression") {
                return conflict(format!("factor {name} beside expression, which fixes it"));
            }
        }
        Ok(Self { config, factors })
    }

    /// Five factors that suit most studies: 10 people, 7 expressions, 5 angles of yaw, 5 of the light, 4 brightnesses
    /// of the background.
    ///
    /// # Errors
    /// When the configuration does not validate or varies one of them too little.
    pub fn usual(config: SynthConfig) -> Result<Self, Error> {
        let factors = [
            ("identity", 10),
            ("expression", 7),
            ("yaw", 5),
            ("light_azimuth", 5),
            ("background_light", 4),
        ]
        .into_iter()
        .map(|(name, count)| GroundFactor::spread(&config, name, count))
        .collect::<Result<_, _>>()?;
        Self::new(config, factors)
    }

    /// The factors.
    #[must_use]
    pub fn factors(&self) -> &[GroundFactor] {
        &self.factors
    }

    /// How many values each factor has.
    #[must_use]
    pub fn sizes(&self) -> Vec<usize> {
        self.factors.iter().map(|f| f.values.len()).collect()
    }

    /// `count` rows with every factor drawn independently and uniformly. Row k is a function of (seed, k).
    #[must_use]
    pub fn sample(&self, seed: u64, count: usize) -> Vec<GroundRow> {
        (0..count as u64)
            .map(|k| {
                let mut stream = Stream::new(seed, "ground truth", k);
                self.factors
                    .iter()
                    .map(|f| below(&mut stream, f.values.len()))
                    .collect()
            })
            .collect()
    }

    /// [`GroundTruth::sample`] with one factor held at a value that all rows share, drawn from the seed: the batches of
    /// the BetaVAE and FactorVAE scores.
    ///
    /// # Errors
    /// When there is no such factor.
    pub fn sample_fixed(
        &self,
        seed: u64,
        count: usize,
        factor: usize,
    ) -> Result<Vec<GroundRow>, Error> {
        let len = self.factors.len();
        let Some(held) = self.factors.get(factor) else {
            return Err(Error::new(ErrorKind::NoSuchSample { index: factor, len }));
        };
        let mut stream = Stream::new(seed, "ground truth held", factor as u64);
        let value = below(&mut stream, held.values.len());
        let mut rows = self.sample(seed, count);
        for row in &mut rows {
            row[factor] = value;
        }
        Ok(rows)
    }

    /// Number of combinations, as far as a word holds it.
    #[must_use]
    pub fn combinations(&self) -> usize {
        self.factors
            .iter()
            .fold(1usize, |n, f| n.saturating_mul(f.values.len()))
    }

    /// Combination `index`, the last factor running fastest.
    ///
    /// # Errors
    /// When the index is not below [`GroundTruth::combinations`].
    pub fn combination(&self, index: usize) -> Result<GroundRow, Error> {
        let len = self.combinations();
        if index >= len {
            return Err(Error::new(ErrorKind::NoSuchSample { index, len }));
        }
        let mut rest = index;
        let mut row = vec![0; self.factors.len()];
        for (slot, factor) in row.iter_mut().zip(&self.factors).rev() {
            *slot = (rest % factor.values.len()) as u32;
            rest /= factor.values.len();
        }
        Ok(row)
    }

    /// The face of a row.
    ///
    /// # Errors
    /// When the row has another number of factors, or a value number that its factor does not have.
    pub fn face(&self, row: &[u32]) -> Result<Factors, Error> {
        if row.len() != self.factors.len() {
            return Err(Error::new(ErrorKind::Conflict {
                text: format!(
                    "a row of {} values for {} factors",
                    row.len(),
                    self.factors.len()
                ),
            }));
        }
        let mut face = Factors::default();
        for (factor, &k) in self.factors.iter().zip(row) {
            let len = factor.values.len();
            let Some(&value) = factor.values.get(k as usize) else {
                return Err(Error::new(ErrorKind::NoSuchSample {
                    index: k as usize,
                    len,
                }));
            };
            match factor.name.name() {
                "identity" => {
                    (face.shape, face.colours, face.style) = person(&self.config, value as u32);
                    (face.identity, face.true_identity) = (k, k);
                }
                "expression" => {
                    let expression = value as u32;
                    face.actions = textbook(expression as usize, self.config.expression_strength);
                    face.actions.cut();
                    (face.expression, face.true_expression) = (expression, expression);
                    if expression == CONTEMPT {
                        face.lateral = 1.0;
                    }
                }
                name => face.set(name, value)?,
            }
        }
        Ok(face)
    }

    /// The picture of a row, with its labels.
    ///
    /// # Errors
    /// As [`GroundTruth::face`].
    pub fn observe(&self, row: &[u32]) -> Result<Rendered, Error> {
        render_factors(&self.face(row)?, self.config.size)
    }

    /// Rows as one column a factor, which is what measures over tables take.
    #[must_use]
    pub fn columns(&self, rows: &[GroundRow]) -> Vec<Vec<u32>> {
        (0..self.factors.len())
            .map(|f| rows.iter().filter_map(|row| row.get(f).copied()).collect())
            .collect()
    }
}

fn below(stream: &mut Stream, count: usize) -> u32 {
    ((stream.uniform() * count as f32) as usize).min(count.saturating_sub(1)) as u32
}
