//! Facial action units, and the style in which a person shows them.

use crate::group::group;

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
