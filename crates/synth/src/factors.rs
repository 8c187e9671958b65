//! The factors a face is made from, and how they are drawn.

use crate::config::{Place, SynthConfig};
use crate::error::{Error, ErrorKind};
use crate::expression;
use crate::flaws;
use crate::looks::{self, Disguise, Makeup, States, Surround};
use crate::math::mix;
use crate::stream::Stream;
use crate::surroundings::{self, Occluder, Recording, Skin, Texture};

/// Declares a struct of `f32` factors with defaults and access by name.
macro_rules! group {
    ($(#[$meta:meta])* $name:ident { $( $(#[$doc:meta])* $field:ident = $default:expr ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name { $( $(#[$doc])* pub $field: f32 ),* }

        impl Default for $name {
            fn default() -> Self { Self { $( $field: $default ),* } }
        }

        impl $name {
            pub(crate) fn list(&self, out: &mut Vec<(&'static str, f32)>) {
                $( out.push((stringify!($field), self.$field)); )*
            }

            pub(crate) fn slots(&mut self) -> impl Iterator<Item = &mut f32> {
                [$( &mut self.$field ),*].into_iter()
            }

            pub(crate) fn find(&mut self, name: &str) -> Option<&mut f32> {
                let names = [$( stringify!($field) ),*];
                let at = names.iter().position(|&n| n == name)?;
                self.slots().nth(at)
            }
        }
    };
}

pub(crate) use group;

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

group! {
    /// Intensities of facial action units as shown in the image: 0 absent, 1 the strongest a model face does, at
    /// most 1.5. Names and numbers as in the Facial Action Coding System.
    Actions {
        /// Inner brow raiser.
        au1 = 0.0,
        /// Outer brow raiser.
        au2 = 0.0,
        /// Brow lowerer: down and together.
        au4 = 0.0,
        /// Upper lid raiser.
        au5 = 0.0,
        /// Cheek raiser, with crow's feet.
        au6 = 0.0,
        /// Lid tightener.
        au7 = 0.0,
        /// Nose wrinkler.
        au9 = 0.0,
        /// Upper lip raiser.
        au10 = 0.0,
        /// Lip corner puller (the smile).
        au12 = 0.0,
        /// Dimpler: corners of the mouth tightened into the cheeks.
        au14 = 0.0,
        /// Lip corner depressor.
        au15 = 0.0,
        /// Lower lip depressor.
        au16 = 0.0,
        /// Chin raiser.
        au17 = 0.0,
        /// Lip stretcher.
        au20 = 0.0,
        /// Lip tightener.
        au23 = 0.0,
        /// Lip pressor.
        au24 = 0.0,
        /// Lips part.
        au25 = 0.0,
        /// Jaw drop; opens the mouth as far as the lips part.
        au26 = 0.0,
        /// Eyes closed.
        au43 = 0.0,
    }
}

group! {
    /// A person's style: the gain on each action unit, 1 on average, drawn per person from a normal distribution
    /// with standard deviation 0.3 (times `identity_strength`), cut to 0.35 to 1.75.
    Style {
        /// Gain on inner brow raiser.
        gain1 = 1.0,
        /// Gain on outer brow raiser.
        gain2 = 1.0,
        /// Gain on brow lowerer.
        gain4 = 1.0,
        /// Gain on upper lid raiser.
        gain5 = 1.0,
        /// Gain on cheek raiser.
        gain6 = 1.0,
        /// Gain on lid tightener.
        gain7 = 1.0,
        /// Gain on nose wrinkler.
        gain9 = 1.0,
        /// Gain on upper lip raiser.
        gain10 = 1.0,
        /// Gain on lip corner puller.
        gain12 = 1.0,
        /// Gain on dimpler.
        gain14 = 1.0,
        /// Gain on lip corner depressor.
        gain15 = 1.0,
        /// Gain on lower lip depressor.
        gain16 = 1.0,
        /// Gain on chin raiser.
        gain17 = 1.0,
        /// Gain on lip stretcher.
        gain20 = 1.0,
        /// Gain on lip tightener.
        gain23 = 1.0,
        /// Gain on lip pressor.
        gain24 = 1.0,
        /// Gain on lips part.
        gain25 = 1.0,
        /// Gain on jaw drop.
        gain26 = 1.0,
        /// Gain on eyes closed.
        gain43 = 1.0,
    }
}

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

impl Actions {
    /// Numbers of the action units, in the order of the fields.
    pub const UNITS: [u8; 19] = [
        1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 20, 23, 24, 25, 26, 43,
    ];

    fn slot(&mut self, unit: u8) -> Option<&mut f32> {
        let at = Self::UNITS.iter().position(|&u| u == unit)?;
        self.slots().nth(at)
    }

    pub(crate) fn add(&mut self, unit: u8, intensity: f32) {
        if let Some(slot) = self.slot(unit) {
            *slot += intensity;
        }
    }

    /// Raises a unit to at least `intensity`.
    pub(crate) fn raise(&mut self, unit: u8, intensity: f32) {
        if let Some(slot) = self.slot(unit) {
            *slot = slot.max(intensity);
        }
    }

    /// Applies the person's gains and the strength, and cuts to the range.
    pub(crate) fn finish(&mut self, style: &Style, strength: f32) {
        let mut style = *style;
        for (slot, gain) in self.slots().zip(style.slots()) {
            *slot = (*slot * *gain * strength).clamp(0.0, 1.5);
        }
    }

    /// Cuts every unit to its range.
    pub(crate) fn cut(&mut self) {
        for slot in self.slots() {
            *slot = slot.clamp(0.0, 1.5);
        }
    }

    /// The intensities in the order of [`Actions::UNITS`].
    #[must_use]
    pub fn intensities(&self) -> [f32; 19] {
        let mut copy = *self;
        let mut out = [0.0; 19];
        for (out, slot) in out.iter_mut().zip(copy.slots()) {
            *out = *slot;
        }
        out
    }
}

/// Everything a face is made from. [`crate::render_factors`] draws it; a face can be changed one factor at a time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Factors {
    /// Position of the person in the set, from 0: the label, which [`crate::Flaws::identity_noise`] may make wrong.
    pub identity: u32,
    /// Expression, an index into [`crate::ALL_EXPRESSIONS`]: the label, which [`crate::Flaws::expression_noise`] may
    /// make wrong. The image follows `actions`.
    pub expression: u32,
    /// Which image of this person and expression, from 0.
    pub take: u32,
    /// Position of the person who is shown.
    pub true_identity: u32,
    /// Expression that is shown.
    pub true_expression: u32,
    /// The take that this one is a copy of; `take` itself for most ([`crate::Flaws::duplicates`]).
    pub copy_of: u32,
    /// Peak of the expression before the person's gains, 0.35 to 1 (uniform); drawn but not shown for neutral.
    pub peak: f32,
    /// One-sidedness of the mouth's actions: 0 both sides alike, 1 only on the right of the image, -1 only on the
    /// left.
    pub lateral: f32,
    /// Shape of the person's face.
    pub shape: Shape,
    /// Colours of the person.
    pub colours: Colours,
    /// Style of the person: gains on the action units.
    pub style: Style,
    /// Action units as shown.
    pub actions: Actions,
    /// Pose, light, glasses, background, camera.
    pub scene: Scene,
    /// Make-up.
    pub makeup: Makeup,
    /// Sunglasses, mask, beard, scarf, hat.
    pub disguise: Disguise,
    /// Light from all sides.
    pub surround: Surround,
    /// Freckles, stubble, moles and the like.
    pub skin: Skin,
    /// Texture of the background.
    pub texture: Texture,
    /// Hand or thing before the face.
    pub occluder: Occluder,
    /// Losses of the recording.
    pub recording: Recording,
    /// Classes of make-up, disguise, light and occlusion.
    pub states: States,
    /// Seed of the pixel noise.
    pub noise_seed: u64,
}

impl Factors {
    /// All continuous factors by name, in a fixed order.
    #[must_use]
    pub fn values(&self) -> Vec<(&'static str, f32)> {
        let mut out = Vec::with_capacity(192);
        out.push(("peak", self.peak));
        out.push(("lateral", self.lateral));
        self.shape.list(&mut out);
        self.colours.list(&mut out);
        self.style.list(&mut out);
        self.actions.list(&mut out);
        self.scene.list(&mut out);
        self.makeup.list(&mut out);
        self.disguise.list(&mut out);
        self.surround.list(&mut out);
        self.skin.list(&mut out);
        self.texture.list(&mut out);
        self.occluder.list(&mut out);
        self.recording.list(&mut out);
        out
    }

    /// # Errors
    /// Names the first factor that is not finite.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.values().into_iter().find(|(_, v)| !v.is_finite()) {
            None => Ok(()),
            Some((name, value)) => Err(Error::range(name, f64::from(value), "a finite number")),
        }
    }

    /// What belongs to the person.
    pub(crate) fn list_person(&self, out: &mut Vec<(&'static str, f32)>) {
        self.shape.list(out);
        self.colours.list(out);
        self.style.list(out);
        self.skin.list(out);
    }

    /// What carries a class of its own.
    pub(crate) fn list_worn(&self, out: &mut Vec<(&'static str, f32)>) {
        self.makeup.list(out);
        self.disguise.list(out);
        self.occluder.list(out);
    }

    /// Brings glasses and the class of disguise to agree after a factor was changed.
    pub(crate) fn settle(&mut self) {
        if self.states.disguise > 1 {
            self.scene.glasses = 0.0;
        } else {
            self.states.disguise = u32::from(self.scene.glasses >= 0.5);
        }
    }

    /// Sets one continuous factor by the name it has in [`Factors::values`].
    ///
    /// # Errors
    /// When there is no such factor, or the value is not finite.
    pub fn set(&mut self, name: &str, value: f32) -> Result<(), Error> {
        if !value.is_finite() {
            return Err(Error::range(
                "factor value",
                f64::from(value),
                "a finite number",
            ));
        }
        let slot = if name == "peak" {
            Some(&mut self.peak)
        } else if name == "lateral" {
            Some(&mut self.lateral)
        } else {
            self.shape
                .find(name)
                .or_else(|| self.colours.find(name))
                .or_else(|| self.style.find(name))
                .or_else(|| self.actions.find(name))
                .or_else(|| self.scene.find(name))
                .or_else(|| self.makeup.find(name))
                .or_else(|| self.disguise.find(name))
                .or_else(|| self.surround.find(name))
                .or_else(|| self.skin.find(name))
                .or_else(|| self.texture.find(name))
                .or_else(|| self.occluder.find(name))
                .or_else(|| self.recording.find(name))
        };
        match slot {
            Some(slot) => {
                *slot = value;
                Ok(())
            }
            None => Err(Error::new(ErrorKind::NoSuchFactor {
                name: name.to_owned(),
            })),
        }
    }
}

/// The factors of sample `index`: the same on every machine, whatever was drawn before.
///
/// # Errors
/// When the configuration does not validate or has no such sample.
pub fn factors(config: &SynthConfig, index: usize) -> Result<Factors, Error> {
    let place = config.place(index)?;
    let shown = Place {
        take: flaws::source(config, place),
        ..place
    };
    let mut out = uncorrelated(config, shown);
    flaws::correlate(config, shown, &mut out);
    if shown.take != place.take {
        // A copy has sensor noise of its own.
        out.noise_seed = Stream::new(config.seed, "copy", flaws::number(place)).word();
    }
    (out.identity, out.expression) = flaws::written(config, place);
    out.take = place.take;
    out.copy_of = shown.take;
    Ok(out)
}

/// The factors of a sample before any correlation between them.
pub(crate) fn uncorrelated(config: &SynthConfig, place: Place) -> Factors {
    let (shape, colours, style) = draw_person(config, place.person);
    let number = flaws::number(place);
    let mut stream = Stream::new(config.seed, "expression", number);
    let second = expression::second(
        place.expression,
        config.expressions(),
        config.mixture,
        config.seed,
        number,
    );
    let (actions, peak) = expression::draw(
        place.expression,
        config.expression_strength,
        second,
        &style,
        &mut stream,
    );
    let lateral = expression::lateral(place.expression, config.seed, number);
    let mut stream = Stream::new(config.seed, "scene", number);
    let mut scene = draw_scene(config, &mut stream);
    let (makeup, made_up) = looks::makeup(config, number);
    let (disguise, disguised) = looks::disguise(config, number, &mut scene);
    let (surround, lit) = looks::light(config, number, &mut scene);
    let (occluder, occluded) = surroundings::occluder(config, number);
    Factors {
        identity: place.identity,
        expression: place.expression,
        take: place.take,
        true_identity: place.identity,
        true_expression: place.expression,
        copy_of: place.take,
        peak,
        lateral,
        shape,
        colours,
        style,
        actions,
        scene,
        makeup,
        disguise,
        surround,
        skin: surroundings::skin(config, place.person, shape.sex),
        texture: surroundings::texture(config, number),
        occluder,
        recording: surroundings::recording(config, number),
        states: States {
            makeup: made_up,
            disguise: disguised,
            light: lit,
            occlusion: occluded,
        },
        noise_seed: stream.word(),
    }
}

/// Person number `person` of the seed: shape, colours and style.
pub(crate) fn person(config: &SynthConfig, person: u32) -> (Shape, Colours, Style) {
    draw_person(config, person)
}

/// Draws a person. New fields go to the end of their group, so that people keep their faces.
fn draw_person(config: &SynthConfig, person: u32) -> (Shape, Colours, Style) {
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

fn draw_scene(config: &SynthConfig, stream: &mut Stream) -> Scene {
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
