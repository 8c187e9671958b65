//! What a person brings along: shape of the face, colours, style of expression, and how they are drawn.

use crate::actions::Style;
use crate::config::SynthConfig;
use crate::group::group;
use crate::math::mix;
use crate::stream::Stream;

group! {
    /// The shape of a person's face. Every field is a z-score: drawn from a normal distribution with mean 0 and
    /// standard deviation 1 (times `identity_strength`), cut at 2.5; the default 0 is the mean face. The comments
    /// say what a positive value does.
    Shape {
        /// Wider head.
        face_width = 0.0,
        /// Longer lower face.
        face_length = 0.0,
        /// Wider, squarer jaw.
        jaw_width = 0.0,
        /// Broader chin.
        chin_width = 0.0,
        /// Chin stands out further.
        chin_projection = 0.0,
        /// Higher forehead.
        forehead = 0.0,
        /// Fuller cheeks.
        cheek = 0.0,
        /// More marked cheekbones.
        cheekbone = 0.0,
        /// Longer nose.
        nose_length = 0.0,
        /// Wider nose.
        nose_width = 0.0,
        /// Nose stands out further.
        nose_projection = 0.0,
        /// Higher bridge of the nose.
        nose_bridge = 0.0,
        /// Brows higher above the eyes, at rest.
        brow_height = 0.0,
        /// Thicker brows.
        brow_thickness = 0.0,
        /// Outer ends of the brows higher (inner lower), at rest.
        brow_tilt = 0.0,
        /// More arched brows.
        brow_arch = 0.0,
        /// Brows further apart.
        brow_spacing = 0.0,
        /// Larger eyes.
        eye_size = 0.0,
        /// Lids further open, at rest.
        eye_openness = 0.0,
        /// Eyes further apart.
        eye_spacing = 0.0,
        /// Outer corners of the eyes higher.
        eye_tilt = 0.0,
        /// Deeper eye sockets.
        eye_depth = 0.0,
        /// Wider mouth.
        mouth_width = 0.0,
        /// Mouth lower under the nose.
        mouth_drop = 0.0,
        /// Corners of the mouth higher, at rest.
        mouth_curvature = 0.0,
        /// Thicker upper lip.
        upper_lip = 0.0,
        /// Thicker lower lip.
        lower_lip = 0.0,
        /// Larger ears.
        ear_size = 0.0,
        /// Higher hair line.
        hair_line = 0.0,
        /// More voluminous hair.
        hair_volume = 0.0,
        /// Longer hair; falls behind the face from 0.2 on.
        hair_length = 0.0,
        /// Fringe swept to the right of the image (negative: to the left).
        hair_part = 0.0,
        /// Older: deeper folds and wrinkles.
        age = 0.0,
        /// Beard; shows from 0.8 on.
        beard = 0.0,
        /// Longer skull from front to back.
        head_depth = 0.0,
        /// Forehead slopes back.
        forehead_slope = 0.0,
        /// Wider at the temples.
        temple_width = 0.0,
        /// Wider at the corners of the jaw.
        jaw_corner = 0.0,
        /// Lower edge of the jaw rises more steeply to the ear.
        jaw_angle = 0.0,
        /// Longer chin.
        chin_height = 0.0,
        /// Cleft chin.
        chin_cleft = 0.0,
        /// Hollow cheeks.
        cheek_hollow = 0.0,
        /// Higher cheekbones.
        cheek_height = 0.0,
        /// Middle of the face stands out further.
        midface = 0.0,
        /// More marked ridge over the eyes.
        brow_ridge = 0.0,
        /// Upper lids hang further over the lashes.
        lid_fold = 0.0,
        /// Upper lids peak further outwards.
        eye_roundness = 0.0,
        /// Deeper hollows below the eyes.
        under_eye = 0.0,
        /// Tip of the nose turned up.
        nose_turn = 0.0,
        /// Hump on the bridge of the nose.
        nose_hump = 0.0,
        /// Wider root of the nose.
        nose_root = 0.0,
        /// Wings of the nose flare.
        nostril_flare = 0.0,
        /// Deeper groove between nose and lip.
        philtrum_depth = 0.0,
        /// Mouth stands out further.
        mouth_projection = 0.0,
        /// Lower lip stands out further.
        lower_lip_projection = 0.0,
        /// More marked bow of the upper lip.
        lip_bow = 0.0,
        /// Ears stand out further.
        ear_projection = 0.0,
        /// Ears sit higher.
        ear_height = 0.0,
        /// Wider neck.
        neck_width = 0.0,
        /// Asymmetry: lower face bent to the right of the image.
        skew = 0.0,
        /// Asymmetry: nose bent to the right.
        nose_bend = 0.0,
        /// Asymmetry: mouth higher on the right.
        mouth_slant = 0.0,
        /// Asymmetry: eye on the right higher.
        eye_slant = 0.0,
        /// Asymmetry: brow on the right higher.
        brow_slant = 0.0,
        /// Asymmetry: cheek on the right fuller.
        cheek_uneven = 0.0,
        /// Sex-typical direction: positive as in the mean of men, negative as in the mean of women, without classes.
        sex = 0.0,
        /// Heavier: fuller cheeks, jaw and neck.
        weight = 0.0,
    }
}

group! {
    /// The colours of a person.
    Colours {
        /// Skin melanin, 0 the lightest to 1 the darkest skin. Uniform.
        melanin = 0.4,
        /// Blood in the skin, 0 sallow to 1 ruddy. Mean 0.5, sd 0.2.
        haemoglobin = 0.5,
        /// Hair melanin, 0 blond to 1 black; darker on darker skin.
        hair_melanin = 0.7,
        /// Red of the hair, 0 to 1.
        hair_red = 0.2,
        /// Grey of the hair, 0 to 1; grows with `age`.
        hair_grey = 0.0,
        /// Iris, 0 dark brown, 0.5 green, 1 light blue; lighter on light skin only.
        iris = 0.2,
        /// Lips, 0 the colour of the skin to 1 red. Mean 0.45, sd 0.2.
        lip_red = 0.45,
        /// Brows, 0 the skin's to 1 the hair's colour and darker. Mean 0.75, sd 0.15.
        brow_dark = 0.75,
    }
}

impl Shape {
    /// The shape with what `sex`, `age` and `weight` add to the other fields. Each direction is a fixed mixture, in
    /// standard deviations, of what differs most between the means of adult men and women, with the years, and with
    /// weight (after the summaries of Farkas, Anthropometry of the Head and Face, 1994); weights by hand.
    #[must_use]
    pub fn with_directions(&self) -> Self {
        let (sex, age, weight) = (self.sex, self.age, self.weight);
        let mut s = *self;
        s.face_length += 0.35 * sex;
        s.jaw_width += 0.55 * sex + 0.40 * weight;
        s.jaw_corner += 0.60 * sex + 0.45 * weight;
        s.chin_width += 0.55 * sex + 0.25 * weight;
        s.chin_height += 0.45 * sex;
        s.cheek += -0.25 * sex + 0.90 * weight - 0.30 * age;
        s.cheek_hollow += 0.25 * sex - 0.80 * weight + 0.35 * age;
        s.face_width += 0.15 * sex + 0.40 * weight;
        s.brow_ridge += 0.90 * sex;
        s.brow_height -= 0.55 * sex + 0.15 * age;
        s.brow_thickness += 0.70 * sex;
        s.brow_arch -= 0.50 * sex;
        s.forehead_slope += 0.60 * sex;
        s.nose_width += 0.30 * sex + 0.15 * age;
        s.nose_projection += 0.35 * sex;
        s.nose_length += 0.25 * sex + 0.25 * age;
        s.nose_turn -= 0.35 * sex + 0.20 * age;
        s.eye_size -= 0.40 * sex;
        s.eye_openness -= 0.15 * sex + 0.35 * age;
        s.lid_fold += 0.30 * age;
        s.under_eye += 0.45 * age + 0.10 * weight;
        s.upper_lip -= 0.40 * sex + 0.30 * age;
        s.lower_lip -= 0.25 * sex + 0.20 * age;
        s.mouth_width += 0.20 * sex;
        s.mouth_curvature -= 0.25 * age;
        s.ear_size += 0.20 * sex + 0.25 * age;
        s.neck_width += 0.90 * sex + 0.80 * weight;
        s
    }
}

/// Person number `person` of the seed. New fields go to the end of their group, so that people keep their faces.
pub(crate) fn person(config: &SynthConfig, person: u32) -> (Shape, Colours, Style) {
    let k = config.identity_strength;
    let mut stream = Stream::new(config.seed, "shape", u64::from(person));
    let mut shape = Shape::default();
    for slot in shape.slots() {
        *slot = k * stream.normal_within(2.5);
    }

    let mut stream = Stream::new(config.seed, "colours", u64::from(person));
    let mean = Colours::default();
    let melanin = stream.uniform();
    let light_skin = 1.0 - melanin;
    let hair_melanin = 1.0 - 1.1 * stream.uniform() * light_skin;
    let drawn = Colours {
        melanin,
        haemoglobin: 0.5 + 0.2 * stream.normal(),
        hair_melanin,
        hair_red: stream.uniform() * stream.uniform(),
        hair_grey: 0.25 * (shape.age - 0.6).max(0.0) + 0.4 * (shape.age - 1.2).max(0.0),
        iris: stream.uniform() * (1.3 * light_skin).min(1.0),
        lip_red: 0.45 + 0.2 * stream.normal(),
        brow_dark: 0.75 + 0.15 * stream.normal(),
    };
    let pull = |a: f32, b: f32| mix(a, b, k).clamp(0.0, 1.0);
    let colours = Colours {
        melanin: pull(mean.melanin, drawn.melanin),
        haemoglobin: pull(mean.haemoglobin, drawn.haemoglobin),
        hair_melanin: pull(mean.hair_melanin, drawn.hair_melanin),
        hair_red: pull(mean.hair_red, drawn.hair_red),
        hair_grey: pull(mean.hair_grey, drawn.hair_grey),
        iris: pull(mean.iris, drawn.iris),
        lip_red: pull(mean.lip_red, drawn.lip_red),
        brow_dark: pull(mean.brow_dark, drawn.brow_dark),
    };

    let mut stream = Stream::new(config.seed, "style", u64::from(person));
    let mut style = Style::default();
    for slot in style.slots() {
        *slot = (1.0 + 0.3 * k * stream.normal()).clamp(0.35, 1.75);
    }
    (shape, colours, style)
}
