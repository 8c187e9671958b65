//! Factors of skin, background, occlusion and recording, and how they are drawn.

use crate::config::SynthConfig;
use crate::group::group;
use crate::math::step;
use crate::stream::Stream;

/// Classes of occlusion, in the order of [`States::occlusion`](crate::States).
pub const OCCLUSIONS: [&str; 3] = ["none", "hand", "object"];

group! {
    /// A person's skin beside its colour.
    Skin {
        /// Freckles on nose and cheeks, 0 to 1. Mostly near 0.
        freckles = 0.0,
        /// Shadow of a shaven beard, 0 to 1; grows with `sex`, none below -0.2.
        stubble = 0.0,
        /// Number of moles, 0 to 4; a part counts as a paler one.
        moles = 0.0,
        /// Uneven redness, 0 to 1. Mean 0.4.
        blotches = 0.3,
        /// Dark rings under the eyes, 0 to 1. Mean 0.35.
        eye_rings = 0.2,
        /// Which pattern of spots, 0 to 1. Uniform.
        skin_pattern = 0.5,
    }
}

group! {
    /// Texture of the background.
    Texture {
        /// How strongly the texture shows, 0 to 1; none on two images of five.
        texture = 0.0,
        /// Clouds from 0, stripes from 0.25, spots of light from 0.5, bricks from 0.75.
        texture_kind = 0.0,
        /// Size of its parts, 0 coarse to 1 fine.
        texture_scale = 0.3,
        /// Its turn, 0 to 1 for a whole one.
        texture_turn = 0.0,
    }
}

group! {
    /// Things between camera and face.
    Occluder {
        /// A hand: from 0.5 on.
        hand = 0.0,
        /// A thing, round or square: from 0.5 on.
        object = 0.0,
        /// Its place in parts of the side, from the middle of the image to the right.
        occluder_x = 0.0,
        /// Its place downwards.
        occluder_y = 0.25,
        /// Its turn in degrees, clockwise; fingers of an unturned hand point up.
        occluder_turn = 0.0,
        /// Its size: 1 about a third of the side.
        occluder_size = 1.0,
        /// Hue of the thing in turns; of a hand, its skin's melanin from 0 to 1.
        occluder_hue = 0.5,
    }
}

group! {
    /// What lens, sensor and file take away.
    Recording {
        /// Resolution of the recording as part of the image's, 0.1 to 1: the image is reduced and enlarged again.
        resolution = 1.0,
        /// Quality of JPEG compression, 1 the worst to 100; 0 without.
        jpeg = 0.0,
        /// Darkening towards the corners, 0 to 1.
        vignette = 0.0,
    }
}

/// A person's skin; `sex` is the shape's direction, which carries the beard.
pub(crate) fn skin(config: &SynthConfig, person: u32, sex: f32) -> Skin {
    let mut stream = Stream::new(config.seed, "skin", u64::from(person));
    let k = config.identity_strength.min(1.0);
    let mut uniform = || stream.uniform();
    let mean = Skin::default();
    let cube = |u: f32| u * u * u;
    let drawn = Skin {
        freckles: cube(uniform()),
        stubble: uniform() * step(-0.2, 1.0, sex),
        moles: 4.0 * uniform() * uniform(),
        blotches: 0.15 + 0.5 * uniform(),
        eye_rings: 0.7 * uniform(),
        skin_pattern: uniform(),
    };
    let mut skin = mean;
    let mut drawn = drawn;
    for (slot, value) in skin.slots().zip(drawn.slots()) {
        *slot += k * (*value - *slot);
    }
    skin
}

/// Background texture of a sample.
pub(crate) fn texture(config: &SynthConfig, number: u64) -> Texture {
    let mut stream = Stream::new(config.seed, "texture", number);
    let plain = stream.chance(0.4);
    let mut uniform = || stream.uniform();
    let strength = 0.25 + 0.75 * uniform();
    Texture {
        texture: if plain {
            0.0
        } else {
            config.background * strength
        },
        texture_kind: uniform(),
        texture_scale: uniform(),
        texture_turn: uniform(),
    }
}

/// Occluder of a sample and its class.
pub(crate) fn occluder(config: &SynthConfig, number: u64) -> (Occluder, u32) {
    let mut stream = Stream::new(config.seed, "occlusion", number);
    let present = stream.chance(config.occlusion);
    let hand = stream.chance(0.5);
    let side = if stream.chance(0.5) { 1.0 } else { -1.0 };
    let mut between = |a, b| stream.between(a, b);
    let state = match (present, hand) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 2,
    };
    let at = Occluder {
        hand: 0.0,
        object: 0.0,
        occluder_x: side * between(0.03, 0.30),
        occluder_y: between(-0.20, 0.34),
        occluder_turn: -side * between(-10.0, 75.0),
        occluder_size: between(0.75, 1.15),
        occluder_hue: between(0.0, 1.0),
    };
    let occluder = match state {
        1 => Occluder {
            hand: 1.0,
            // Hands come from below.
            occluder_y: at.occluder_y.max(0.05),
            ..at
        },
        2 => Occluder { object: 1.0, ..at },
        _ => Occluder::default(),
    };
    (occluder, state)
}

/// Losses of a sample's recording.
pub(crate) fn recording(config: &SynthConfig, number: u64) -> Recording {
    let mut stream = Stream::new(config.seed, "recording", number);
    let (small, packed) = (
        stream.chance(config.low_resolution),
        stream.chance(config.jpeg),
    );
    let (resolution, quality) = (stream.between(0.25, 0.6), stream.between(8.0, 60.0));
    Recording {
        resolution: if small { resolution } else { 1.0 },
        jpeg: if packed { quality.floor() } else { 0.0 },
        vignette: 0.0,
    }
}
