//! What is neither person nor expression: pose, light, glasses, background and camera, and how they are drawn.

use crate::config::SynthConfig;
use crate::group::group;
use crate::math::mix;
use crate::stream::Stream;

group! {
    /// What is neither person nor expression: pose, light, glasses, background, camera.
    Scene {
        /// Rotation about the vertical axis in degrees, positive to the right of the image. Mean 0, sd 11, cut at 2.5 sd
        /// and at 60 degrees.
        yaw = 0.0,
        /// Nod in degrees, positive downwards. Mean 0, sd 7, cut at 2.5 sd and at 40 degrees.
        pitch = 0.0,
        /// Roll in the image plane in degrees, positive clockwise. Mean 0, sd 5, cut at 2.5 sd.
        roll = 0.0,
        /// Gaze to the right of the image, in iris radii. Mean 0, sd 0.2.
        gaze_x = 0.0,
        /// Gaze upwards, in iris radii. Mean 0, sd 0.1.
        gaze_y = 0.0,
        /// Where the light stands, in degrees to the right of the camera. Mean 0, sd 38.
        light_azimuth = -20.0,
        /// Height of the light in degrees. Mean 28, sd 14.
        light_elevation = 30.0,
        /// Strength of the directional light. Mean 0.75, sd 0.1.
        light_strength = 0.75,
        /// Strength of the light from all sides. Mean 0.4, sd 0.07.
        ambient = 0.4,
        /// Colour temperature, -1 blue to 1 warm. Mean 0, sd 0.4.
        warmth = 0.0,
        /// Glasses: 1 worn, 0 not.
        glasses = 0.0,
        /// Shape of the glasses, 0 round to 1 square. Uniform.
        glasses_shape = 0.5,
        /// Frame of the glasses, 0 black to 1 light metal. Uniform.
        glasses_tone = 0.2,
        /// Hue of the background in turns, 0 to 1. Uniform.
        background_hue = 0.6,
        /// Strength of the background's colour, 0 to 0.5.
        background_colour = 0.0,
        /// Brightness of the background, 0 to 1. Mean 0.55, sd 0.2.
        background_light = 0.6,
        /// Hue of the clothes in turns, 0 to 1. Uniform.
        clothes_hue = 0.6,
        /// Scale of the face. Mean 1, sd 0.04.
        zoom = 1.0,
        /// Shift to the right in parts of the side. Mean 0, sd 0.025.
        shift_x = 0.0,
        /// Shift downwards in parts of the side. Mean 0, sd 0.025.
        shift_y = 0.0,
        /// Radius (standard deviation) of the blur in pixels at 64 pixels. Uniform on 0 to 0.7.
        blur = 0.0,
        /// Standard deviation of the noise in 255 grey levels. Uniform on 1 to 6.
        noise = 0.0,
    }
}

/// Draws the scene of a sample.
pub(crate) fn scene(config: &SynthConfig, stream: &mut Stream) -> Scene {
    let plain = Scene::default();
    let SynthConfig {
        pose,
        light,
        jitter,
        background,
        ..
    } = *config;
    // Struct fields are evaluated in the order written, which fixes the order of the draws.
    Scene {
        yaw: (11.0 * pose * stream.normal_within(2.5)).clamp(-60.0, 60.0),
        pitch: (7.0 * pose * stream.normal_within(2.5)).clamp(-40.0, 40.0),
        roll: 5.0 * pose * stream.normal_within(2.5),
        gaze_x: 0.2 * pose * stream.normal_within(2.0),
        gaze_y: 0.1 * pose * stream.normal_within(2.0),
        light_azimuth: mix(plain.light_azimuth, 38.0 * stream.normal_within(2.0), light),
        light_elevation: mix(
            plain.light_elevation,
            28.0 + 14.0 * stream.normal_within(2.0),
            light,
        ),
        light_strength: (0.75 + 0.1 * light * stream.normal()).max(0.1),
        ambient: (0.4 + 0.07 * light * stream.normal()).max(0.1),
        warmth: (0.4 * light * stream.normal()).clamp(-1.0, 1.0),
        glasses: if stream.chance(config.glasses) {
            1.0
        } else {
            0.0
        },
        glasses_shape: stream.uniform(),
        glasses_tone: stream.uniform(),
        background_hue: mix(plain.background_hue, stream.uniform(), background),
        background_colour: 0.5 * background * stream.uniform(),
        background_light: mix(
            plain.background_light,
            (0.55 + 0.2 * stream.normal()).clamp(0.05, 0.95),
            background,
        ),
        clothes_hue: mix(plain.clothes_hue, stream.uniform(), background),
        zoom: 1.0 + 0.04 * jitter * stream.normal_within(2.5),
        shift_x: 0.025 * jitter * stream.normal_within(2.5),
        shift_y: 0.025 * jitter * stream.normal_within(2.5),
        blur: 0.7 * config.blur * stream.uniform(),
        noise: config.noise * stream.between(1.0, 6.0),
    }
}
