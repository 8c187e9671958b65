//! Which faces: the configuration of a rendered set, and where each sample lies in it.

use crate::error::{Error, ErrorKind};
use crate::expression::{CONTEMPT, EXPRESSIONS};
use crate::flaws::Flaws;
use crate::stream::Stream;

/// A set of rendered faces. Every sample is a function of this and its index.
///
/// Samples are laid out identity-major, then expression, then take: with e = `expressions_per_identity` (one more with
/// `contempt`), `index = (identity * e + i) * per_expression + take`, and i counts the expressions this person shows
/// in the order of [`ALL_EXPRESSIONS`](crate::ALL_EXPRESSIONS); [`Flaws::imbalance`] leaves takes out. What a sample looks like depends on `seed` and on its own identity number
/// (`first_identity + identity`), expression and take (`first_take + take`), not on `identities`, `per_expression` or
/// `expressions_per_identity`: a larger set contains the smaller one, and two sets whose ranges of identities do not
/// overlap share nobody, and two whose ranges of takes do not overlap share no image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SynthConfig {
    /// Number of people. Default 60.
    pub identities: usize,
    /// Images of each person with each of the seven expressions. Default 4.
    pub per_expression: usize,
    /// How many of the seven expressions each person shows, 1 to 7, chosen by `seed` and person. Posed databases hold
    /// some three for each subject, so that who it is tells much of what is shown. Default 7.
    pub expressions_per_identity: usize,
    /// Side of the square image in pixels, 24 to 1024. Default 64.
    pub size: usize,
    /// Whether everybody shows contempt as well, after the others. Default false.
    pub contempt: bool,
    /// Mixture of expressions: how strongly a second expression, drawn at random, shows beside the first, whose label
    /// stays: its peak is uniform on 0 to `mixture`. 0 to 1. Default 0.
    pub mixture: f32,
    /// Seed of all random streams. Default 0.
    pub seed: u64,
    /// Number of the first person, so that a test set can have other people than a training set. Default 0.
    pub first_identity: u32,
    /// Number of the first take, so that a test set can show the same people in other images than a training set;
    /// `first_take + per_expression` at most 16777216. Default 0.
    pub first_take: u32,
    /// How far people differ from the mean face and in their style of expression: 0 one person, 1 as in the
    /// model, at most 2. Default 1.
    pub identity_strength: f32,
    /// How strongly expressions are shown: 0 not at all, 1 as in the model, at most 2. Default 1.
    pub expression_strength: f32,
    /// Head rotation and gaze: 1 gives standard deviations of 11 degrees of yaw, 7 of pitch and 5 of roll; 0 to 3.
    /// Default 1.
    pub pose: f32,
    /// Variation of the light's direction, strength and colour: 0 one studio light, at most 2. Default 1.
    pub light: f32,
    /// Sensor noise: 1 gives standard deviations of 1 to 6 of 255 grey levels; 0 to 5. Default 1.
    pub noise: f32,
    /// Blur: 1 gives Gaussian radii of 0 to 0.7 pixel at 64 pixels (in proportion at other sizes); 0 to 4.
    /// Default 1.
    pub blur: f32,
    /// Variation of scale and place in the image: 1 gives standard deviations of 4 % and 2.5 % of the side; 0 to 3.
    /// Default 1.
    pub jitter: f32,
    /// Probability that a sample wears glasses, 0 to 1. Default 0.1.
    pub glasses: f32,
    /// Variation of the background's colour and brightness: 0 plain grey, at most 1. Default 1.
    pub background: f32,
    /// Share of samples with make-up, half of them as by day, half as for an evening
    /// ([`MAKEUP`](crate::MAKEUP)), 0 to 1. Default 0.
    pub makeup: f32,
    /// Share of samples in disguise: glasses, sunglasses, beard, mask, scarf or hat, one at a time and equally often
    /// ([`DISGUISES`](crate::DISGUISES)), 0 to 1. Default 0.
    pub disguise: f32,
    /// Share of samples in a marked light: from the front, left, right, top, below, dim or coloured, equally often
    /// ([`LIGHTS`](crate::LIGHTS)); the others have the usual light that `light` varies. 0 to 1. Default 0.
    pub lighting: f32,
    /// Share of samples with a hand or a thing before the face, half of them each
    /// ([`OCCLUSIONS`](crate::OCCLUSIONS)), 0 to 1. Default 0.
    pub occlusion: f32,
    /// Share of samples recorded at 0.25 to 0.6 of the image's resolution, 0 to 1. Default 0.
    pub low_resolution: f32,
    /// Share of samples with the losses of JPEG of quality 8 to 60, 0 to 1. Default 0.
    pub jpeg: f32,
    /// Imbalance, wrong labels, duplicates, correlations. Default none.
    pub flaws: Flaws,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            identities: 60,
            per_expression: 4,
            expressions_per_identity: EXPRESSIONS.len(),
            size: 64,
            contempt: false,
            mixture: 0.0,
            seed: 0,
            first_identity: 0,
            first_take: 0,
            identity_strength: 1.0,
            expression_strength: 1.0,
            pose: 1.0,
            light: 1.0,
            noise: 1.0,
            blur: 1.0,
            jitter: 1.0,
            glasses: 0.1,
            background: 1.0,
            makeup: 0.0,
            disguise: 0.0,
            lighting: 0.0,
            occlusion: 0.0,
            low_resolution: 0.0,
            jpeg: 0.0,
            flaws: Flaws::default(),
        }
    }
}

/// Largest number of takes: the take is 24 bits of a stream's number.
const MAX_TAKES: usize = 1 << 24;

/// Who and what a sample shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Position of the person in this set, from 0; the class label.
    pub identity: u32,
    /// The person's number: `first_identity + identity`. Equal numbers under one seed are the same person.
    pub person: u32,
    /// Expression, an index into [`ALL_EXPRESSIONS`](crate::ALL_EXPRESSIONS).
    pub expression: u32,
    /// Which image of this person and expression, from `first_take`.
    pub take: u32,
}

impl SynthConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field outside its range.
    pub fn validate(&self) -> Result<(), Error> {
        let ranged = [
            ("identity_strength", self.identity_strength, 2.0, "0 to 2"),
            (
                "expression_strength",
                self.expression_strength,
                2.0,
                "0 to 2",
            ),
            ("pose", self.pose, 3.0, "0 to 3"),
            ("light", self.light, 2.0, "0 to 2"),
            ("noise", self.noise, 5.0, "0 to 5"),
            ("blur", self.blur, 4.0, "0 to 4"),
            ("jitter", self.jitter, 3.0, "0 to 3"),
            ("glasses", self.glasses, 1.0, "a probability, 0 to 1"),
            ("background", self.background, 1.0, "0 to 1"),
            ("mixture", self.mixture, 1.0, "0 to 1"),
            ("makeup", self.makeup, 1.0, "a share, 0 to 1"),
            ("disguise", self.disguise, 1.0, "a share, 0 to 1"),
            ("lighting", self.lighting, 1.0, "a share, 0 to 1"),
            ("occlusion", self.occlusion, 1.0, "a share, 0 to 1"),
            (
                "low_resolution",
                self.low_resolution,
                1.0,
                "a share, 0 to 1",
            ),
            ("jpeg", self.jpeg, 1.0, "a share, 0 to 1"),
        ];
        for (field, value, limit, expected) in ranged {
            // Written so that NaN fails too.
            if !(0.0..=limit).contains(&value) {
                return Err(Error::range(field, f64::from(value), expected));
            }
        }
        check_size(self.size)?;
        let people = self.identities as f64;
        if self.identities == 0
            || self.identities as u64 > u64::from(u32::MAX) - u64::from(self.first_identity)
        {
            return Err(Error::range(
                "identities",
                people,
                "at least 1, and first_identity + identities at most 4294967295",
            ));
        }
        if self.per_expression == 0 || self.per_expression > MAX_TAKES {
            return Err(Error::range(
                "per_expression",
                self.per_expression as f64,
                "1 to 16777216",
            ));
        }
        if self.first_take as usize > MAX_TAKES - self.per_expression {
            return Err(Error::range(
                "first_take",
                f64::from(self.first_take),
                "at most 16777216 - per_expression",
            ));
        }
        if !(1..=EXPRESSIONS.len()).contains(&self.expressions_per_identity) {
            return Err(Error::range(
                "expressions_per_identity",
                self.expressions_per_identity as f64,
                "1 to 7",
            ));
        }
        self.flaws.validate()?;
        if let Some(effect) = self.flaws.effect {
            let name = effect.name();
            let of_light = ["light_", "ambient", "warmth", "sh_"];
            if self.lighting > 0.0 && of_light.iter().any(|start| name.starts_with(start)) {
                return Err(Error::new(ErrorKind::Conflict {
                    text: format!(
                        "effect {name} and lighting {}: a marked light fixes its own direction and strength",
                        self.lighting
                    ),
                }));
            }
        }
        if self
            .identities
            .checked_mul(self.per_expression)
            .and_then(|n| n.checked_mul(EXPRESSIONS.len() + 1))
            .is_none()
        {
            return Err(Error::range(
                "identities",
                people,
                "identities * per_expression * 8 to fit this machine's word",
            ));
        }
        Ok(())
    }

    /// How many expressions the set knows: the seven, and contempt if it is asked for.
    #[must_use]
    pub fn expressions(&self) -> usize {
        EXPRESSIONS.len() + usize::from(self.contempt)
    }

    /// How many expressions each person shows.
    fn shown_by_each(&self) -> usize {
        self.expressions_per_identity + usize::from(self.contempt)
    }

    /// Images of the i-th expression that a person shows.
    fn takes(&self, i: usize) -> usize {
        let mut part = 1.0f64;
        for _ in 0..i {
            part *= 1.0 - f64::from(self.flaws.imbalance);
        }
        ((self.per_expression as f64 * part + 0.5) as usize).max(1)
    }

    /// Images of each person.
    fn of_each(&self) -> usize {
        (0..self.shown_by_each()).map(|i| self.takes(i)).sum()
    }

    /// Number of samples: `identities * expressions_per_identity * per_expression` for the default flaws and no
    /// contempt (0 for a configuration that does not validate).
    #[must_use]
    pub fn len(&self) -> usize {
        if self.validate().is_err() {
            return 0;
        }
        self.identities * self.of_each()
    }

    /// True when there are no samples, which is when the configuration does not validate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who and what sample `index` shows.
    ///
    /// # Errors
    /// When the configuration does not validate or the index is not below [`SynthConfig::len`].
    pub fn place(&self, index: usize) -> Result<Place, Error> {
        self.validate()?;
        let len = self.len();
        if index >= len {
            return Err(Error::new(ErrorKind::NoSuchSample { index, len }));
        }
        let each = self.of_each();
        let identity = (index / each) as u32;
        let mut take = index % each;
        let mut i = 0;
        while take >= self.takes(i) {
            take -= self.takes(i);
            i += 1;
        }
        let person = self.first_identity + identity;
        Ok(Place {
            identity,
            person,
            expression: self.shown(person, i),
            take: self.first_take + take as u32,
        })
    }

    /// The `i`-th expression that `person` shows.
    fn shown(&self, person: u32, i: usize) -> u32 {
        let count = self.expressions_per_identity;
        if i >= count {
            return CONTEMPT;
        }
        if count == EXPRESSIONS.len() {
            return i as u32;
        }
        // The first `count` of the person's own order, so that a larger count adds and never exchanges.
        let mut stream = Stream::new(self.seed, "repertoire", u64::from(person));
        let mut order: [u32; EXPRESSIONS.len()] = std::array::from_fn(|e| e as u32);
        for last in (1..order.len()).rev() {
            let chosen = (stream.uniform() * (last + 1) as f32) as usize;
            order.swap(last, chosen.min(last));
        }
        order[..count].sort_unstable();
        order[i]
    }
}

/// Checks an image's side.
pub(crate) fn check_size(size: usize) -> Result<(), Error> {
    if (24..=1024).contains(&size) {
        Ok(())
    } else {
        Err(Error::range("size", size as f64, "24 to 1024 pixels"))
    }
}
