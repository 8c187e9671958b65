//! Valence and arousal of a face from its action units, by a fixed linear rule.
//!
//! The circumplex of affect (Russell, 1980) places a feeling by how pleasant (valence) and how excited (arousal) it
//! is. Raters place real photographs; here a rule places a face, so that the label is exact and says only what the
//! face shows. With intensities a from 0 to 1 the sums below are cut to [-1, 1]. Their weights were chosen by hand
//! so that the textbook expressions lie where affect data sets put their names (valence, arousal):
//! happiness (0.8, 0.5), surprise (0.0, 0.8), fear (-0.7, 0.7), anger (-0.7, 0.5), disgust (-0.9, 0.3),
//! sadness (-0.9, -0.5), contempt (-0.5, 0.1), neutral (0, 0).

use crate::actions::Actions;

/// Weights of each action unit: number, valence, arousal.
pub const AFFECT_RULE: [(u8, f32, f32); 19] = [
    (1, -0.10, -0.10),
    (2, 0.10, 0.15),
    (4, -0.35, 0.05),
    (5, 0.0, 0.45),
    (6, 0.08, 0.10),
    (7, -0.15, 0.20),
    (9, -0.35, 0.30),
    (10, -0.20, 0.10),
    (12, 0.75, 0.20),
    (14, -0.55, 0.05),
    (15, -0.40, -0.45),
    (16, -0.05, 0.10),
    (17, -0.15, -0.15),
    (20, -0.25, 0.20),
    (23, -0.15, 0.20),
    (24, -0.15, 0.10),
    (25, 0.0, 0.15),
    (26, 0.0, 0.25),
    (43, 0.0, -0.60),
];

/// Further valence of the inner brow raised and drawn together at once (AU 1 times AU 4), the mark of distress.
pub const DISTRESS: f32 = -0.20;

/// Valence and arousal, each in [-1, 1], of a face that shows `actions`.
///
/// valence = cut(sum_u v_u a_u + [`DISTRESS`] a_1 a_4), arousal = cut(sum_u r_u a_u), with (u, v_u, r_u) from
/// [`AFFECT_RULE`] and intensities a as in [`Actions`] (1 the strongest).
#[must_use]
pub fn affect(actions: &Actions) -> (f32, f32) {
    let mut valence = DISTRESS * actions.au1 * actions.au4;
    let mut arousal = 0.0;
    for (unit, intensity) in Actions::UNITS.iter().zip(actions.intensities()) {
        for &(number, v, a) in &AFFECT_RULE {
            if number == *unit {
                valence += v * intensity;
                arousal += a * intensity;
            }
        }
    }
    (valence.clamp(-1.0, 1.0), arousal.clamp(-1.0, 1.0))
}
