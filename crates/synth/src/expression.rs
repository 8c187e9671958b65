//! Expressions as sets of facial actions.
//!
//! Follows the Facial Action Coding System (Ekman, Friesen and Hager, 2002): an expression is a set of action
//! units (AU), each with an intensity from 0 (absent) to 1 (the strongest, FACS level E). Each expression has
//! several forms seen in people (an open and a closed smile, shouting and pressed anger, ...); a sample draws one.

use crate::actions::{Actions, Style};
use crate::stream::Stream;

/// The seven expressions, in the order of the labels.
pub const EXPRESSIONS: [&str; 7] = [
    "neutral",
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
];

/// The seven and contempt, which is one-sided.
pub const ALL_EXPRESSIONS: [&str; 8] = [
    "neutral",
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "contempt",
];

/// Position of contempt in [`ALL_EXPRESSIONS`].
pub(crate) const CONTEMPT: u32 = 7;

/// One form of an expression: how often it is drawn, and its action units at full strength.
struct Form {
    weight: f32,
    units: &'static [(u8, f32)],
}

const fn form(weight: f32, units: &'static [(u8, f32)]) -> Form {
    Form { weight, units }
}

/// The forms of each expression; the first is the textbook one. Weights of an expression sum to 1.
const FORMS: [&[Form]; 8] = [
    &[form(1.0, &[])],
    &[
        form(0.4, &[(4, 1.0), (5, 0.5), (7, 0.8), (17, 0.4), (23, 0.9)]),
        form(
            0.3,
            &[
                (4, 0.9),
                (5, 0.6),
                (7, 0.6),
                (10, 0.7),
                (16, 0.6),
                (25, 0.9),
                (26, 0.4),
            ],
        ),
        form(0.3, &[(4, 0.8), (7, 0.7), (15, 0.3), (17, 0.3), (23, 0.5)]),
    ],
    &[
        form(
            0.4,
            &[
                (9, 1.0),
                (10, 0.8),
                (4, 0.4),
                (7, 0.5),
                (17, 0.5),
                (15, 0.3),
            ],
        ),
        form(
            0.35,
            &[
                (9, 0.7),
                (10, 0.9),
                (4, 0.3),
                (6, 0.3),
                (16, 0.4),
                (25, 0.7),
                (26, 0.2),
            ],
        ),
        form(0.25, &[(9, 0.6), (10, 0.4), (15, 0.6), (17, 0.6), (7, 0.4)]),
    ],
    &[
        form(
            0.4,
            &[
                (1, 1.0),
                (2, 0.5),
                (4, 0.7),
                (5, 0.9),
                (20, 0.9),
                (25, 0.7),
                (26, 0.25),
            ],
        ),
        form(
            0.3,
            &[
                (1, 0.8),
                (2, 0.5),
                (4, 0.5),
                (5, 0.9),
                (20, 0.4),
                (25, 0.7),
                (26, 0.6),
            ],
        ),
        form(
            0.3,
            &[(1, 0.9), (4, 0.7), (5, 0.7), (7, 0.2), (20, 0.8), (25, 0.2)],
        ),
    ],
    &[
        form(0.4, &[(6, 0.8), (12, 1.0), (25, 0.9), (26, 0.15)]),
        form(0.35, &[(6, 0.5), (12, 0.8)]),
        form(0.25, &[(6, 0.9), (7, 0.3), (12, 1.0), (25, 1.0), (26, 0.5)]),
    ],
    &[
        form(0.4, &[(1, 1.0), (4, 0.6), (15, 0.9), (17, 0.5)]),
        form(0.3, &[(1, 0.7), (4, 0.4), (15, 0.7), (7, 0.2)]),
        form(
            0.3,
            &[
                (1, 0.6),
                (4, 0.7),
                (6, 0.2),
                (15, 0.5),
                (17, 0.8),
                (20, 0.2),
            ],
        ),
    ],
    &[
        form(0.4, &[(1, 0.9), (2, 1.0), (5, 0.8), (25, 0.9), (26, 0.9)]),
        form(0.3, &[(1, 0.9), (2, 0.9), (5, 0.5), (25, 0.2)]),
        form(0.3, &[(1, 0.8), (2, 0.8), (5, 0.7), (25, 0.7), (26, 0.4)]),
    ],
    &[
        form(0.5, &[(14, 1.0), (12, 0.35)]),
        form(0.3, &[(14, 0.7), (12, 0.5), (7, 0.3)]),
        form(0.2, &[(14, 0.9), (10, 0.4), (2, 0.3)]),
    ],
];

/// The action units of the textbook form of `expression` (an index into [`ALL_EXPRESSIONS`]) at `strength` (1 full).
/// An index beyond them gives the neutral face. Contempt shows on one side: set [`crate::Factors::lateral`] as well.
#[must_use]
pub fn textbook(expression: usize, strength: f32) -> Actions {
    let mut actions = Actions::default();
    if let Some(form) = FORMS.get(expression).and_then(|forms| forms.first()) {
        for &(unit, intensity) in form.units {
            actions.add(unit, intensity * strength);
        }
    }
    actions
}

/// A free mixture: the sum of textbook expressions, each with its strength, every unit cut at 1.5.
///
/// ```
/// // Happily surprised.
/// let actions = phiz_synth::blend(&[(4, 0.7), (6, 0.5)]);
/// assert!(actions.au12 > 0.6 && actions.au2 > 0.4);
/// ```
#[must_use]
pub fn blend(parts: &[(usize, f32)]) -> Actions {
    let mut actions = Actions::default();
    for &(expression, strength) in parts {
        if let Some(form) = FORMS.get(expression).and_then(|forms| forms.first()) {
            for &(unit, intensity) in form.units {
                actions.add(unit, intensity * strength);
            }
        }
    }
    actions.cut();
    actions
}

/// Draws the expression that is mixed into `first`, and how strongly it shows.
pub(crate) fn second(
    first: u32,
    expressions: usize,
    mixture: f32,
    seed: u64,
    number: u64,
) -> Option<(u32, f32)> {
    if mixture <= 0.0 {
        return None;
    }
    let mut stream = Stream::new(seed, "mixture", number);
    let (which, weight) = (stream.uniform(), mixture * stream.uniform());
    // Any of the others.
    let step = 1 + ((which * (expressions - 1) as f32) as usize).min(expressions - 2);
    Some((((first as usize + step) % expressions) as u32, weight))
}

/// Draws the action units of one sample: form, peak, each unit's own jitter, the person's gains, speech and
/// background activity. Returns them with the peak.
pub(crate) fn draw(
    expression: u32,
    strength: f32,
    second: Option<(u32, f32)>,
    style: &Style,
    stream: &mut Stream,
) -> (Actions, f32) {
    let forms = FORMS.get(expression as usize).copied().unwrap_or(FORMS[0]);
    let mut left = stream.uniform();
    let mut units: &[(u8, f32)] = &[];
    for form in forms {
        units = form.units;
        left -= form.weight;
        if left < 0.0 {
            break;
        }
    }
    let peak = stream.between(0.35, 1.0);
    let mut actions = Actions::default();
    for &(unit, intensity) in units {
        let jitter = (1.0 + 0.3 * stream.normal_within(2.5)).max(0.0);
        actions.add(unit, peak * intensity * jitter);
    }
    // Faces are never quite still, and people talk: both put units of other expressions on any face.
    for unit in Actions::UNITS {
        let twitch = stream.normal();
        if twitch > 0.8 {
            actions.add(unit, 0.12 * (twitch - 0.8));
        }
    }
    let talks = stream.chance(0.2);
    let (lips, jaw) = (stream.between(0.3, 0.8), stream.between(0.0, 0.45));
    if talks {
        actions.raise(25, lips);
        actions.raise(26, jaw);
    }
    if let Some((other, weight)) = second {
        for &(unit, intensity) in FORMS.get(other as usize).map_or(&[][..], |f| f[0].units) {
            actions.add(unit, weight * intensity);
        }
    }
    actions.finish(style, strength);
    (actions, peak)
}

/// How one-sided the mouth is: a little by chance, contempt strongly, to either side.
pub(crate) fn lateral(expression: u32, seed: u64, number: u64) -> f32 {
    let mut stream = Stream::new(seed, "lateral", number);
    let (slight, side, strong) = (
        0.10 * stream.normal_within(2.5),
        stream.chance(0.5),
        stream.between(0.75, 1.0),
    );
    match (expression, side) {
        (CONTEMPT, true) => strong,
        (CONTEMPT, false) => -strong,
        _ => slight,
    }
}
