//! Sequences: one person, one expression that comes and goes, with moving head, gaze, lids, light and speech.
//!
//! Frame i of sequence s is a function of the configuration, s and i alone: it can be drawn first or last, and a
//! longer sequence begins like the shorter one. Curves are smooth: an action rises and falls on a quintic (no jump in
//! speed or acceleration), pose and light drift on smooth noise, the gaze rests and jumps as eyes do.

use std::f32::consts::PI;

use crate::actions::Actions;
use crate::config::{Place, SynthConfig};
use crate::draw::uncorrelated;
use crate::error::{Error, ErrorKind};
use crate::expression::ALL_EXPRESSIONS;
use crate::factors::Factors;
use crate::math::{clamp01, noise1, sin_cos};
use crate::render::{Rendered, render_factors};
use crate::stream::Stream;

/// A set of sequences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoConfig {
    /// Who and how: people, seed, size, strength of identity, expression, pose, light and the rest. Its counts of
    /// images and its flaws do not matter here.
    pub faces: SynthConfig,
    /// Number of sequences, 1 to 16777216. Sequence s shows person `s % identities` of the set; over the rounds the
    /// expressions take turns. Default 60.
    pub sequences: usize,
    /// Frames of each sequence, 1 to 1000000. Default 50.
    pub frames: usize,
    /// Frames a second, 1 to 240. Default 25.
    pub rate: f32,
    /// Redundancy: the part of the motion between frames that is taken away. At 0 time passes as on a clock; at 0.9
    /// neighbouring frames are a tenth as far apart; at 1 every frame is the first one again, sensor noise aside.
    /// Default 0.
    pub redundancy: f32,
    /// Share of sequences in which the person talks, 0 to 1. Default 0.3.
    pub talking: f32,
    /// How much head, gaze and light move within a sequence, relative to how they differ between images
    /// (`faces.pose`, `faces.light`): 0 still, at most 2. Default 0.6.
    pub motion: f32,
    /// Seconds by which the clock of a sequence may be ahead at its first frame: each sequence draws its own from 0 to
    /// `lead`, so that sets of short or redundant sequences show more than faces at rest. 0 to 60; some 3 take in every
    /// phase. Default 0: every sequence begins at rest.
    pub lead: f32,
}

impl Default for VideoConfig {
    fn default() -> Self {
        Self {
            faces: SynthConfig::default(),
            sequences: 60,
            frames: 50,
            rate: 25.0,
            redundancy: 0.0,
            talking: 0.3,
            motion: 0.6,
            lead: 0.0,
        }
    }
}

/// Where an expression is on its course.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not shown.
    Neutral,
    /// Rising.
    Onset,
    /// At its peak.
    Apex,
    /// Falling.
    Offset,
}

/// Names of the phases, in the order of [`Phase`].
pub const PHASES: [&str; 4] = ["neutral", "onset", "apex", "offset"];

/// One frame, not yet drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Number of the sequence.
    pub sequence: usize,
    /// Number of the frame.
    pub frame: usize,
    /// Time on the sequence's own clock, which redundancy slows and `lead` sets ahead, in seconds.
    pub time: f32,
    /// Phase of the expression.
    pub phase: Phase,
    /// How far the expression is shown, 0 to 1.
    pub level: f32,
    /// Whether the person talks in this sequence.
    pub talks: bool,
    /// What the face is made from.
    pub factors: Factors,
}

impl VideoConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field outside its range.
    pub fn validate(&self) -> Result<(), Error> {
        self.faces.validate()?;
        for (field, value, low, high, expected) in [
            ("rate", self.rate, 1.0, 240.0, "1 to 240 frames a second"),
            ("redundancy", self.redundancy, 0.0, 1.0, "0 to 1"),
            ("talking", self.talking, 0.0, 1.0, "a share, 0 to 1"),
            ("motion", self.motion, 0.0, 2.0, "0 to 2"),
            ("lead", self.lead, 0.0, 60.0, "0 to 60 seconds"),
        ] {
            // Written so that NaN fails too.
            if !(low..=high).contains(&value) {
                return Err(Error::range(field, f64::from(value), expected));
            }
        }
        for (field, value, most, expected) in [
            ("sequences", self.sequences, 1 << 24, "1 to 16777216"),
            ("frames", self.frames, 1_000_000, "1 to 1000000"),
        ] {
            if !(1..=most).contains(&value) {
                return Err(Error::range(field, value as f64, expected));
            }
        }
        Ok(())
    }

    /// Number of frames in all: `sequences * frames` (0 for a configuration that does not validate).
    #[must_use]
    pub fn len(&self) -> usize {
        if self.validate().is_err() {
            return 0;
        }
        self.sequences.saturating_mul(self.frames)
    }

    /// True when there are no frames, which is when the configuration does not validate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who and what a sequence shows.
    fn place(&self, sequence: usize) -> Place {
        let identity = (sequence % self.faces.identities) as u32;
        let round = sequence / self.faces.identities;
        // After neutral, so that short sets show something; everybody begins elsewhere.
        let shown = self.faces.expressions() - 1;
        let expression = 1 + (round + identity as usize) % shown;
        Place {
            identity,
            person: self.faces.first_identity + identity,
            expression: expression.min(ALL_EXPRESSIONS.len() - 1) as u32,
            take: sequence as u32,
        }
    }
}

/// Rises from 0 to 1 with neither speed nor acceleration at the ends.
fn ease(t: f32) -> f32 {
    let t = clamp01(t);
    (t * t * t * (t * (6.0 * t - 15.0) + 10.0)).min(1.0)
}

/// How far an expression is shown at `time`: rest, onset, apex, offset, again and again.
fn course(stream: &mut Stream, time: f32) -> (Phase, f32) {
    let mut at = 0.0;
    loop {
        let rest = stream.between(0.2, 0.6);
        let onset = stream.between(0.25, 0.7);
        let apex = stream.between(0.4, 1.4);
        let offset = stream.between(0.4, 1.2);
        let t = time - at;
        if t < rest {
            return (Phase::Neutral, 0.0);
        }
        if t < rest + onset {
            return (Phase::Onset, ease((t - rest) / onset));
        }
        if t < rest + onset + apex {
            return (Phase::Apex, 1.0);
        }
        at += rest + onset + apex + offset;
        if time < at {
            return (Phase::Offset, ease((at - time) / offset));
        }
    }
}

/// How far the lids are shut at `time`: a blink of a quarter of a second every 1.5 to 6 seconds.
fn blink(stream: &mut Stream, time: f32) -> f32 {
    const LENGTH: f32 = 0.26;
    let mut at = stream.between(0.3, 4.0);
    while at + LENGTH < time {
        at += stream.between(1.5, 6.0);
    }
    let t = (time - at) / LENGTH;
    // Down faster than up.
    ease(t / 0.35) * ease((1.0 - t) / 0.65)
}

/// The gaze at `time`, in standard deviations: it rests 0.4 to 2 seconds and jumps within 60 ms.
fn gaze(stream: &mut Stream, time: f32) -> (f32, f32) {
    let mut now = (stream.normal_within(2.0), stream.normal_within(2.0));
    let mut at = 0.0;
    loop {
        at += stream.between(0.4, 2.0);
        let next = (stream.normal_within(2.0), stream.normal_within(2.0));
        if time < at {
            return now;
        }
        if time < at + 0.06 {
            let t = ease((time - at) / 0.06);
            return (now.0 + t * (next.0 - now.0), now.1 + t * (next.1 - now.1));
        }
        now = next;
    }
}

/// Smooth noise about 0, between -1 and 1, that changes `speed` times a second.
fn drift(phase: f32, speed: f32, time: f32) -> f32 {
    2.0 * noise1(phase + speed * time) - 1.0
}

/// One frame of a sequence, not yet drawn.
///
/// # Errors
/// When the configuration does not validate or there is no such sequence or frame.
pub fn video_frame(config: &VideoConfig, sequence: usize, frame: usize) -> Result<Frame, Error> {
    config.validate()?;
    for (index, len) in [(sequence, config.sequences), (frame, config.frames)] {
        if index >= len {
            return Err(Error::new(ErrorKind::NoSuchSample { index, len }));
        }
    }
    let place = config.place(sequence);
    let apex = uncorrelated(&config.faces, place);
    // Streams of a sequence: its number alone.
    let stream = |name: &str| Stream::new(config.faces.seed, name, sequence as u64);
    let time = frame as f32 / config.rate * (1.0 - config.redundancy)
        + config.lead * stream("video lead").uniform();
    let (phase, level) = course(&mut stream("video course"), time);

    let mut s = stream("video drift");
    let mut phases = [0.0; 12];
    for slot in &mut phases {
        *slot = 1000.0 * s.uniform();
    }
    let talks = s.chance(config.talking);
    let strength = config.faces.expression_strength;

    let mut actions = Actions::default();
    for (k, (unit, intensity)) in Actions::UNITS
        .into_iter()
        .zip(apex.actions.intensities())
        .enumerate()
    {
        // Units of one expression do not quite keep step, and nothing is ever quite still.
        let lag = 0.12 * drift(phases[k % 12] + 7.0 * k as f32, 0.0, 0.0);
        let own = ease(level + lag * level * (1.0 - level) * 4.0);
        let still = 0.03 * strength * (drift(phases[k % 12] + 31.0 * k as f32, 0.8, time) - 0.2);
        let own = if matches!(phase, Phase::Apex) {
            level
        } else {
            own
        };
        actions.add(unit, intensity * own + still.max(0.0));
    }
    if talks {
        // Syllables, four to five a second, in phrases with pauses.
        let phrase = ease(2.5 * noise1(phases[0] + 0.7 * time) - 0.6);
        let (beat, _) = sin_cos(2.0 * PI * 4.4 * time + 6.0 * noise1(phases[1] + 2.0 * time));
        let open = clamp01(0.5 + 0.5 * beat) * (0.45 + 0.55 * noise1(phases[2] + 3.1 * time));
        actions.raise(25, strength.min(1.0) * phrase * (0.25 + 0.55 * open));
        actions.raise(26, strength.min(1.0) * phrase * 0.55 * open);
        actions.raise(
            20,
            strength.min(1.0) * phrase * 0.25 * noise1(phases[3] + 2.3 * time),
        );
        actions.raise(
            23,
            strength.min(1.0) * phrase * 0.30 * noise1(phases[4] + 2.7 * time),
        );
    }
    actions.raise(43, blink(&mut stream("video blink"), time));
    actions.cut();

    let mut factors = Factors {
        actions,
        take: sequence as u32,
        ..apex
    };
    let pose = config.motion * config.faces.pose;
    let scene = &mut factors.scene;
    // From the first frame's pose onwards, so that sequences differ as images do.
    let sway = |k: usize, speed: f32, size: f32| {
        size * pose
            * (drift(phases[k], speed, time) + 0.3 * drift(phases[k] + 500.0, 3.0 * speed, time))
    };
    scene.yaw = (scene.yaw + sway(5, 0.45, 16.0)).clamp(-60.0, 60.0);
    scene.pitch = (scene.pitch + sway(6, 0.5, 9.0)).clamp(-40.0, 40.0);
    scene.roll += sway(7, 0.35, 6.0);
    let (x, y) = gaze(&mut stream("video gaze"), time);
    scene.gaze_x += 0.2 * pose * x;
    scene.gaze_y += 0.1 * pose * y;
    let light = config.motion * config.faces.light;
    scene.light_azimuth += 25.0 * light * drift(phases[8], 0.2, time);
    scene.light_elevation += 8.0 * light * drift(phases[9], 0.2, time);
    scene.light_strength =
        (scene.light_strength * (1.0 + 0.10 * light * drift(phases[10], 0.3, time))).max(0.1);
    let jitter = config.motion * config.faces.jitter;
    scene.zoom *= 1.0 + 0.03 * jitter * drift(phases[11], 0.25, time);
    factors.noise_seed = apex
        .noise_seed
        .wrapping_add((frame as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Ok(Frame {
        sequence,
        frame,
        time,
        phase,
        level,
        talks,
        factors,
    })
}

/// Draws one frame of a sequence: the same bytes on every machine and thread.
///
/// # Errors
/// When the configuration does not validate or there is no such sequence or frame.
pub fn render_frame(
    config: &VideoConfig,
    sequence: usize,
    frame: usize,
) -> Result<Rendered, Error> {
    let drawn = video_frame(config, sequence, frame)?;
    render_factors(&drawn.factors, config.faces.size)
}
