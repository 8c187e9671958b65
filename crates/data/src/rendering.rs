//! What is rendered: single pictures or the frames of sequences, behind one face.

use phiz_synth::{Factors, Frame, SynthConfig, VideoConfig, factors, video_frame};

use crate::error::one_line;
use crate::{Error, Result};

/// A set of rendered pictures: `synth` or `synth-video`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rendering {
    /// Pictures that have nothing to do with each other.
    Stills(SynthConfig),
    /// Frames of sequences, one sequence after the other.
    Sequences(VideoConfig),
}

impl From<SynthConfig> for Rendering {
    fn from(config: SynthConfig) -> Self {
        Self::Stills(config)
    }
}

impl From<VideoConfig> for Rendering {
    fn from(config: VideoConfig) -> Self {
        Self::Sequences(config)
    }
}

/// What a picture is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Picture {
    /// A picture by itself.
    Still(Factors),
    /// A moment of a sequence.
    Frame(Frame),
}

impl Picture {
    /// What is drawn.
    #[must_use]
    pub fn factors(&self) -> &Factors {
        match self {
            Self::Still(factors) => factors,
            Self::Frame(frame) => &frame.factors,
        }
    }

    /// Where in its sequence it stands, if it is of one.
    #[must_use]
    pub fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Still(_) => None,
            Self::Frame(frame) => Some(frame),
        }
    }
}

pub(crate) fn refused(name: &str, error: &phiz_synth::Error) -> Error {
    Error::config(format!("{name}: {}", one_line(&error.to_string())))
}

impl Rendering {
    /// The name before the colon of its specification.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stills(_) => "synth",
            Self::Sequences(_) => "synth-video",
        }
    }

    /// Who and how: of sequences, what they have in common with single pictures.
    #[must_use]
    pub fn faces(&self) -> &SynthConfig {
        match self {
            Self::Stills(config) => config,
            Self::Sequences(config) => &config.faces,
        }
    }

    /// Number of pictures; 0 where a setting is out of its range.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Stills(config) => config.len(),
            Self::Sequences(config) => config.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first one outside its range.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Stills(config) => config.validate(),
            Self::Sequences(config) => config.validate(),
        }
        .map_err(|e| self.refused(&e))
    }

    /// What picture `index` is made from.
    ///
    /// # Errors
    /// When there is no such picture.
    pub fn picture(&self, index: usize) -> Result<Picture> {
        match self {
            Self::Stills(config) => factors(config, index).map(Picture::Still),
            Self::Sequences(config) => {
                // No frames are refused with the settings.
                let each = config.frames.max(1);
                video_frame(config, index / each, index % each).map(Picture::Frame)
            }
        }
        .map_err(|e| self.refused(&e))
    }

    /// An error of the renderer under the name of the set.
    pub(crate) fn refused(&self, error: &phiz_synth::Error) -> Error {
        refused(self.name(), error)
    }
}
