//! Everything a face is made from, as one value whose parts are known by name.

use crate::actions::{Actions, Style};
use crate::error::{Error, ErrorKind};
use crate::looks::{Disguise, Makeup, States, Surround};
use crate::person::{Colours, Shape};
use crate::scene::Scene;
use crate::surroundings::{Occluder, Recording, Skin, Texture};

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
