//! What collections gathered in the wild suffer from, each as a dial: imbalance, wrong labels, duplicates, and factors
//! that go together though nothing in a face makes them. All off by default.

use std::fmt;
use std::str::FromStr;

use crate::config::{Place, SynthConfig};
use crate::draw::uncorrelated;
use crate::error::{Error, ErrorKind};
use crate::factors::Factors;
use crate::math::hash;
use crate::stream::Stream;

/// How a set falls short of a designed one. The default has no flaw.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Flaws {
    /// Imbalance of expressions: of the i-th expression (from 0) that a person shows there are
    /// `per_expression * (1 - imbalance)^i` images, rounded, at least one. 0 to 0.95. Default 0.
    pub imbalance: f32,
    /// Share of samples that bear the label of another person of the set, each as likely. 0 to 1. Default 0.
    pub identity_noise: f32,
    /// Share of samples that bear the label of another expression, each as likely. 0 to 1. Default 0.
    pub expression_noise: f32,
    /// Redundancy: share of takes after the first that repeat an earlier take of the same person and expression, new
    /// sensor noise aside. 0 to 1. Default 0.
    pub duplicates: f32,
    /// Strength of the correlation between `cause` and `effect`, -1 to 1: the share of samples in which the rank of
    /// the effect follows that of the cause (is opposed to it, when negative). Near Spearman's correlation over many
    /// people. Default 0.
    pub correlation: f32,
    /// The factor that leads: any name of [`Factors::values`], `identity` or `expression`. Default none.
    pub cause: Option<FactorName>,
    /// The factor that follows: of the scene, the actions or the light, or of the person if the cause is the
    /// person's too. Default none.
    pub effect: Option<FactorName>,
}

/// The name of a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FactorName(u16);

/// Numbers beyond all continuous factors.
const IDENTITY: u16 = u16::MAX;
const EXPRESSION: u16 = u16::MAX - 1;

fn names() -> Vec<&'static str> {
    Factors::default().values().iter().map(|v| v.0).collect()
}

/// Whose factor it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Person,
    Sample,
    /// Worn things carry a class of their own, `peak` and the style's gains act through the actions.
    Bound,
}

impl FactorName {
    /// The name, as in [`Factors::values`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            IDENTITY => "identity",
            EXPRESSION => "expression",
            k => names().get(usize::from(k)).copied().unwrap_or(""),
        }
    }

    fn owner(self) -> Owner {
        let f = Factors::default();
        let mut people = Vec::new();
        f.list_person(&mut people);
        let mut worn = Vec::new();
        f.list_worn(&mut worn);
        let name = self.name();
        if name == "identity" || people.iter().any(|(n, _)| *n == name) {
            Owner::Person
        } else if name == "expression"
            || name == "peak"
            || name.starts_with("gain")
            || worn.iter().any(|(n, _)| *n == name)
        {
            Owner::Bound
        } else {
            Owner::Sample
        }
    }

    /// Whether it belongs to the person.
    pub(crate) fn of_person(self) -> bool {
        self.owner() == Owner::Person || self.name().starts_with("gain")
    }

    pub(crate) fn value(self, factors: &Factors) -> f32 {
        factors
            .values()
            .get(usize::from(self.0))
            .map_or(0.0, |v| v.1)
    }
}

impl fmt::Display for FactorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FactorName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "identity" => Ok(Self(IDENTITY)),
            "expression" => Ok(Self(EXPRESSION)),
            _ => names()
                .iter()
                .position(|name| *name == text)
                .map(|k| Self(k as u16))
                .ok_or_else(|| {
                    Error::new(ErrorKind::NoSuchFactor {
                        name: text.to_owned(),
                    })
                }),
        }
    }
}

impl Flaws {
    /// Checks ranges and that the settings do not contradict each other.
    ///
    /// # Errors
    /// Names the first setting that cannot be.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        for (field, value, low, high, expected) in [
            ("imbalance", self.imbalance, 0.0, 0.95, "0 to 0.95"),
            (
                "identity_noise",
                self.identity_noise,
                0.0,
                1.0,
                "a share, 0 to 1",
            ),
            (
                "expression_noise",
                self.expression_noise,
                0.0,
                1.0,
                "a share, 0 to 1",
            ),
            ("duplicates", self.duplicates, 0.0, 1.0, "a share, 0 to 1"),
            ("correlation", self.correlation, -1.0, 1.0, "-1 to 1"),
        ] {
            // Written so that NaN fails too.
            if !(low..=high).contains(&value) {
                return Err(Error::range(field, f64::from(value), expected));
            }
        }
        let conflict = |text: String| Err(Error::new(ErrorKind::Conflict { text }));
        match (self.cause, self.effect) {
            (None, None) if self.correlation != 0.0 => {
                conflict("correlation without a cause and an effect: name two factors".to_owned())
            }
            (Some(_), None) => conflict("cause without an effect: name a second factor".to_owned()),
            (None, Some(_)) => conflict("effect without a cause: name a second factor".to_owned()),
            (Some(cause), Some(effect)) if cause == effect => conflict(format!(
                "cause and effect are both {cause}: name two different factors"
            )),
            (Some(cause), Some(effect)) => match (cause.owner(), effect.owner()) {
                (_, Owner::Bound) => conflict(format!(
                    "effect {effect} is tied to a class or to the actions: expected a factor of scene, light, actions or person"
                )),
                (from, Owner::Person) if from != Owner::Person => conflict(format!(
                    "effect {effect} belongs to the person and cause {cause} to the sample: a person cannot change with the sample"
                )),
                _ => Ok(()),
            },
            (None, None) => Ok(()),
        }
    }
}

/// The take that a sample is a copy of: itself in most cases.
pub(crate) fn source(config: &SynthConfig, place: Place) -> u32 {
    let (mut take, first) = (place.take, config.first_take);
    while take > first && config.flaws.duplicates > 0.0 {
        let mut stream = Stream::new(config.seed, "duplicate", number(Place { take, ..place }));
        let (copied, which) = (stream.chance(config.flaws.duplicates), stream.uniform());
        if !copied {
            break;
        }
        take = first + ((which * (take - first) as f32) as u32).min(take - first - 1);
    }
    take
}

/// One stream a sample, numbered so that growing a set changes nothing in it.
pub(crate) fn number(place: Place) -> u64 {
    (u64::from(place.person) << 32) | (u64::from(place.expression) << 24) | u64::from(place.take)
}

/// Labels that may be wrong: identity and expression as they are written on the sample.
pub(crate) fn written(config: &SynthConfig, place: Place) -> (u32, u32) {
    let flaws = &config.flaws;
    // Another of `count` classes, each as likely.
    let other = |share: f32, name: &str, class: u32, count: usize| {
        if share <= 0.0 || count < 2 {
            return class;
        }
        let mut stream = Stream::new(config.seed, name, number(place));
        let (wrong, which) = (stream.chance(share), stream.uniform());
        if !wrong {
            return class;
        }
        let step = 1 + ((which * (count - 1) as f32) as usize).min(count - 2);
        ((class as usize + step) % count) as u32
    };
    (
        other(
            flaws.identity_noise,
            "wrong identity",
            place.identity,
            config.identities,
        ),
        other(
            flaws.expression_noise,
            "wrong expression",
            place.expression,
            config.expressions(),
        ),
    )
}

/// Samples that the rank of a value is taken among.
const DONORS: u32 = 15;

/// Lets the effect follow the cause: the value of the effect becomes that one of 16 independently drawn values whose
/// rank is the rank of the cause among 16 independently drawn causes. Both keep their own distributions.
pub(crate) fn correlate(config: &SynthConfig, place: Place, factors: &mut Factors) {
    let Flaws {
        correlation,
        cause: Some(cause),
        effect: Some(effect),
        ..
    } = config.flaws
    else {
        return;
    };
    let of_person = effect.owner() == Owner::Person;
    // What belongs to a person must not depend on the sample.
    let key = if of_person {
        u64::from(place.person) << 32
    } else {
        number(place)
    };
    let mut stream = Stream::new(config.seed, "correlation", key);
    let (follows, jitter) = (stream.chance(correlation.abs()), stream.uniform());
    if !follows {
        return;
    }
    let donors: Vec<Factors> = (0..DONORS)
        .map(|_| {
            let word = stream.word();
            uncorrelated(
                config,
                Place {
                    person: (word >> 32) as u32,
                    take: word as u32 & 0xff_ffff,
                    ..place
                },
            )
        })
        .collect();
    let last = DONORS as f32;
    let rank = match cause.0 {
        IDENTITY => {
            let word = hash(hash(config.seed) ^ u64::from(place.person));
            (word >> 40) as f32 * (1.0 / 16_777_216.0) * (last + 1.0)
        }
        EXPRESSION => {
            (place.expression as f32 + jitter) / config.expressions() as f32 * (last + 1.0)
        }
        _ => {
            let own = cause.value(factors);
            let below = donors.iter().filter(|d| cause.value(d) < own).count() as f32;
            let equal = donors.iter().filter(|d| cause.value(d) == own).count() as f32;
            below + jitter * (equal + 1.0)
        }
    };
    let rank = (rank as usize).min(DONORS as usize);
    let mut values: Vec<f32> = donors.iter().map(|d| effect.value(d)).collect();
    values.push(effect.value(factors));
    values.sort_by(f32::total_cmp);
    let at = if correlation < 0.0 {
        DONORS as usize - rank
    } else {
        rank
    };
    if let Some(&value) = values.get(at) {
        // The name exists and the value was drawn: it cannot fail.
        let _ = factors.set(effect.name(), value);
    }
    factors.settle();
}
