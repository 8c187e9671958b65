//! What a sample wears and how it is lit: make-up, disguise, marked light, and the classes that name them.
//!
//! Shares of [`SynthConfig`] switch them on; each has a stream of its own, so that switching one on moves nothing
//! else of a sample.

use crate::config::SynthConfig;
use crate::group::group;
use crate::math::mix;
use crate::scene::Scene;
use crate::stream::Stream;

/// Classes of make-up, in the order of [`States::makeup`].
pub const MAKEUP: [&str; 3] = ["none", "day", "evening"];

/// Classes of disguise, in the order of [`States::disguise`]. Glasses count whether they come from
/// `SynthConfig::glasses` or from `SynthConfig::disguise`.
pub const DISGUISES: [&str; 7] = [
    "none",
    "glasses",
    "sunglasses",
    "beard",
    "mask",
    "scarf",
    "hat",
];

/// Classes of light, in the order of [`States::light`]: the usual spread of studio light, or one of seven marked
/// ones (sides are the image's).
pub const LIGHTS: [&str; 8] = [
    "usual", "frontal", "left", "right", "top", "below", "dim", "coloured",
];

group! {
    /// Make-up. All strengths run from 0 (none) to 1 (as much as is worn).
    Makeup {
        /// Evens out the skin's colour, hides freckles and stubble, takes the shine away.
        foundation = 0.0,
        /// Cover of the lips' own colour by lipstick.
        lipstick = 0.0,
        /// Colour of the lipstick: 0 rose, 0.5 red, 1 dark plum.
        lipstick_tone = 0.5,
        /// Colour on the upper lid, up to the brow.
        eye_shadow = 0.0,
        /// Hue of the eye shadow in turns, 0 to 1 (0 red, 1/3 green, 2/3 blue).
        eye_shadow_hue = 0.75,
        /// Dark line along the lids and thicker lashes.
        eye_liner = 0.0,
        /// Rouge on the cheeks.
        blush = 0.0,
    }
}

group! {
    /// Disguise. From 0.5 on a thing is worn.
    Disguise {
        /// Sunglasses.
        sunglasses = 0.0,
        /// A full beard, whoever wears it.
        false_beard = 0.0,
        /// A surgical mask over nose and mouth.
        mask = 0.0,
        /// A scarf over chin and mouth.
        scarf = 0.0,
        /// A knitted hat down to the forehead.
        hat = 0.0,
        /// Hue of hat, scarf and beard in turns (of the beard only its shade).
        disguise_hue = 0.6,
        /// Brightness of what is worn, 0 dark to 1 light.
        disguise_tone = 0.5,
    }
}

group! {
    /// The light from all sides as spherical harmonics: beside the mean (`ambient` of [`Scene`]) the eight further
    /// terms up to second degree, as parts of it (Ramamoorthi and Hanrahan, 2001). With the normal n = (x, y, z) to
    /// the right, up and to the viewer: `1 + sh_x x + sh_y y + sh_z z + sh_xy xy + sh_yz yz + sh_xz xz +
    /// sh_zz (3 zz - 1) / 2 + sh_xx (xx - yy)`.
    Surround {
        /// Hue of the light from all sides in turns.
        ambient_hue = 0.0,
        /// Strength of its colour, 0 white to 1.
        ambient_colour = 0.0,
        /// More from the right. Mean 0, sd 0.15.
        sh_x = 0.0,
        /// More from above. Mean 0.27, sd 0.1.
        sh_y = 0.27,
        /// More from the viewer. Mean 0.07, sd 0.1.
        sh_z = 0.07,
        /// Second degree, see above. Mean 0, sd 0.06.
        sh_xy = 0.0,
        /// Second degree, see above. Mean 0, sd 0.06.
        sh_yz = 0.0,
        /// Second degree, see above. Mean 0, sd 0.06.
        sh_xz = 0.0,
        /// Second degree, see above. Mean 0, sd 0.06.
        sh_zz = 0.0,
        /// Second degree, see above. Mean 0, sd 0.06.
        sh_xx = 0.0,
    }
}

/// The class of each of a sample's looks, as drawn. Labels only: the image follows the factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct States {
    /// Index into [`MAKEUP`].
    pub makeup: u32,
    /// Index into [`DISGUISES`].
    pub disguise: u32,
    /// Index into [`LIGHTS`].
    pub light: u32,
    /// Index into [`OCCLUSIONS`](crate::OCCLUSIONS).
    pub occlusion: u32,
}

/// One of the classes after the first with probability `share`, each as likely; the first otherwise.
fn class(share: f32, classes: usize, stream: &mut Stream) -> u32 {
    let (chance, which) = (stream.chance(share), stream.uniform());
    let others = classes - 1;
    if chance {
        1 + ((which * others as f32) as usize).min(others - 1) as u32
    } else {
        0
    }
}

/// Draws make-up and its class.
pub(crate) fn makeup(config: &SynthConfig, number: u64) -> (Makeup, u32) {
    let mut stream = Stream::new(config.seed, "makeup", number);
    let state = class(config.makeup, MAKEUP.len(), &mut stream);
    let mut between = |a, b| stream.between(a, b);
    let makeup = match state {
        0 => Makeup::default(),
        1 => Makeup {
            foundation: between(0.3, 0.6),
            lipstick: between(0.35, 0.65),
            lipstick_tone: between(0.0, 0.4),
            eye_shadow: between(0.15, 0.4),
            eye_shadow_hue: between(0.0, 0.12),
            eye_liner: between(0.2, 0.5),
            blush: between(0.2, 0.5),
        },
        _ => Makeup {
            foundation: between(0.6, 0.95),
            lipstick: between(0.8, 1.0),
            lipstick_tone: between(0.4, 1.0),
            eye_shadow: between(0.65, 1.0),
            eye_shadow_hue: between(0.4, 1.0),
            eye_liner: between(0.7, 1.0),
            blush: between(0.45, 0.9),
        },
    };
    (makeup, state)
}

/// Draws the disguise and its class; glasses among them are put on in `scene`.
pub(crate) fn disguise(config: &SynthConfig, number: u64, scene: &mut Scene) -> (Disguise, u32) {
    let mut stream = Stream::new(config.seed, "disguise", number);
    let state = class(config.disguise, DISGUISES.len(), &mut stream);
    let plain = Disguise {
        disguise_hue: stream.uniform(),
        disguise_tone: stream.uniform(),
        ..Disguise::default()
    };
    let disguise = match state {
        2 => Disguise {
            sunglasses: 1.0,
            ..plain
        },
        3 => Disguise {
            false_beard: 1.0,
            ..plain
        },
        4 => Disguise { mask: 1.0, ..plain },
        5 => Disguise {
            scarf: 1.0,
            ..plain
        },
        6 => Disguise { hat: 1.0, ..plain },
        _ => plain,
    };
    match state {
        0 if scene.glasses >= 0.5 => (disguise, 1),
        0 => (disguise, 0),
        1 => {
            scene.glasses = 1.0;
            (disguise, 1)
        }
        // One disguise at a time, so that the class says all.
        _ => {
            scene.glasses = 0.0;
            (disguise, state)
        }
    }
}

/// Draws the light's class and the light from all sides; a marked light takes the place of the usual one in `scene`.
pub(crate) fn light(config: &SynthConfig, number: u64, scene: &mut Scene) -> (Surround, u32) {
    let mut stream = Stream::new(config.seed, "lighting", number);
    let state = class(config.lighting, LIGHTS.len(), &mut stream);
    let spread = |stream: &mut Stream, sd: f32| config.light * sd * stream.normal_within(2.0);
    let mean = Surround::default();
    let mut surround = Surround {
        sh_x: spread(&mut stream, 0.15),
        sh_y: mean.sh_y + spread(&mut stream, 0.1),
        sh_z: mean.sh_z + spread(&mut stream, 0.1),
        sh_xy: spread(&mut stream, 0.06),
        sh_yz: spread(&mut stream, 0.06),
        sh_xz: spread(&mut stream, 0.06),
        sh_zz: spread(&mut stream, 0.06),
        sh_xx: spread(&mut stream, 0.06),
        ..mean
    };
    if state == 0 {
        return (surround, state);
    }
    let mut between = |a, b| stream.between(a, b);
    // Azimuth, elevation, strength, light from all sides: lowest and highest of each.
    let ranges = match state {
        1 => [(-8.0, 8.0), (4.0, 16.0), (0.95, 1.15), (0.20, 0.30)],
        2 => [(-88.0, -58.0), (4.0, 28.0), (1.05, 1.3), (0.10, 0.20)],
        3 => [(58.0, 88.0), (4.0, 28.0), (1.05, 1.3), (0.10, 0.20)],
        4 => [(-15.0, 15.0), (64.0, 84.0), (1.15, 1.4), (0.12, 0.24)],
        5 => [(-18.0, 18.0), (-62.0, -36.0), (0.9, 1.15), (0.10, 0.20)],
        6 => [(-40.0, 40.0), (10.0, 45.0), (0.16, 0.28), (0.08, 0.14)],
        _ => [(-40.0, 40.0), (10.0, 45.0), (0.30, 0.50), (0.50, 0.70)],
    };
    let [azimuth, elevation, strength, ambient] = ranges.map(|(a, b)| between(a, b));
    scene.light_azimuth = azimuth;
    scene.light_elevation = elevation;
    scene.light_strength = strength;
    scene.ambient = ambient;
    if state == 7 {
        scene.warmth *= 0.5;
        surround.ambient_hue = between(0.0, 1.0);
        surround.ambient_colour = between(0.55, 0.9);
    } else if state == 6 {
        scene.warmth = mix(scene.warmth, 0.6, 0.5);
    }
    (surround, state)
}
