//! Rendered faces as a data set: a face is drawn when it is asked for.

use phiz_synth::{ALL_EXPRESSIONS, render_factors};

use crate::labels::check_indices;
use crate::rendered_labels;
use crate::rendering::{Picture, Rendering};
use crate::{Dataset, Error, ErrorKind, Image, Labels, Result};

/// Most samples of one set: every sample carries some eighty factors, which are kept.
pub const MAX_SAMPLES: usize = 1 << 20;

/// Rendered faces, single pictures or sequences. Labels: `identity` (classes `p<number of the person>`), `expression`
/// (the first of [`ALL_EXPRESSIONS`]), `mislabelled` where labels may be wrong, `au.<number>` (intensity of an action
/// unit on FACS' scale of 0 to 5), `valence` and `arousal` (-1 to 1), `makeup` ([`phiz_synth::MAKEUP`]), `disguise`
/// ([`phiz_synth::DISGUISES`]), `light` ([`phiz_synth::LIGHTS`]), `occlusion` ([`phiz_synth::OCCLUSIONS`]) and every
/// continuous factor as `factor.<name>`. Shares of samples with make-up, disguise, a marked light or something before
/// the face are the keys `makeup`, `disguise`, `lighting` and `occlusion`, 0 where they are not given.
///
/// Frames of sequences stand one sequence after the other and have `sequence` (classes `s<number>`), `phase`
/// ([`phiz_synth::PHASES`]), `talks` (no, yes), `level` (how far the expression is shown, 0 to 1), `time` (seconds) and
/// `sequence_expression` as well. Their `expression` is what the frame shows: that of the sequence where `level` is at
/// least 0.5, else neutral. Frames of one sequence are near-copies of each other: split by `identity` or `sequence`.
///
/// Made when they are asked for: `landmarks` (68, 2), `points3d` (68, 3) and `vertices` (V, 3) in pixels, depth away
/// from the camera and 0 at the middle of the head, `action_units` (19, on FACS' scale of 0 to 5) and
/// `valence_arousal` (2). Vertices are those of the front of the head, the same ones for every face.
pub struct Synthetic {
    set: Rendering,
    labels: Labels,
}

impl Synthetic {
    /// The set that a [`phiz_synth::SynthConfig`] or a [`phiz_synth::VideoConfig`] describes.
    ///
    /// # Errors
    /// When a setting is out of its range, or there would be more than [`MAX_SAMPLES`].
    pub fn new(set: impl Into<Rendering>) -> Result<Self> {
        let set = set.into();
        set.validate()?;
        let n = set.len();
        if n > MAX_SAMPLES {
            let lower = match set {
                Rendering::Stills(_) => "identities or per_expression",
                Rendering::Sequences(_) => "sequences or frames",
            };
            return Err(Error::new(ErrorKind::TooLarge(format!(
                "{}: {n} images, the limit is {MAX_SAMPLES}: lower {lower}",
                set.name()
            ))));
        }
        let labels = rendered_labels::labels(&set)?;
        Ok(Self { set, labels })
    }

    /// What is rendered.
    #[must_use]
    pub fn set(&self) -> &Rendering {
        &self.set
    }
}

impl Dataset for Synthetic {
    fn name(&self) -> &str {
        self.set.name()
    }
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        match &self.set {
            Rendering::Stills(config) => match config.place(index) {
                Ok(place) => {
                    let expression = ALL_EXPRESSIONS
                        .get(place.expression as usize)
                        .copied()
                        .unwrap_or("");
                    format!("p{}/{expression}/{}", place.person, place.take)
                }
                Err(_) => String::new(),
            },
            Rendering::Sequences(config) => match self.set.picture(index) {
                Ok(Picture::Frame(at)) => {
                    let person = config.faces.first_identity + at.factors.identity;
                    format!("p{person}/s{}/{}", at.sequence, at.frame)
                }
                _ => String::new(),
            },
        }
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.len())?;
        let picture = self.set.picture(index)?;
        let drawn = render_factors(picture.factors(), self.set.faces().size)
            .map_err(|e| self.set.refused(&e))?;
        Ok(drawn.image)
    }
    fn rendered(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use phiz_synth::{SynthConfig, VideoConfig, annotate, render, render_frame};

    use super::*;

    #[test]
    fn made_labels_are_those_of_the_picture() {
        let config = SynthConfig {
            identities: 3,
            per_expression: 1,
            ..SynthConfig::default()
        };
        let set = Synthetic::new(config).unwrap();
        let labels = set.labels();
        let landmarks = labels.vectors("landmarks").unwrap();
        assert_eq!(landmarks.shape(), [68, 2]);
        let known = annotate(&config, 9).unwrap();
        assert_eq!(landmarks.row(9).unwrap(), known.landmarks.concat());
        // 3D points lie over the 2D ones; the tip of the nose is nearer than the contour.
        let points = labels.vectors("points3d").unwrap().row(9).unwrap();
        assert_eq!(points[30 * 3..30 * 3 + 2], known.landmarks[30]);
        assert!(points[30 * 3 + 2] < points[2] - 5.0);
        let vertices = labels.vectors("vertices").unwrap();
        let (count, row) = (vertices.shape()[0], vertices.row(9).unwrap());
        assert!((400..3000).contains(&count), "{count}");
        let inside = row.chunks(3).filter(|p| (0. ..64.).contains(&p[0])).count();
        assert!(inside > count * 9 / 10);
        let units = labels.vectors("action_units").unwrap();
        assert_eq!(units.names()[8], "AU12");
        assert!(units.row(9).unwrap().iter().all(|v| (0. ..=5.).contains(v)));
        let affect = labels.vectors("valence_arousal").unwrap();
        assert_eq!(affect.row(9).unwrap(), [known.valence, known.arousal]);
        // A part keeps them, in its order.
        let part = labels.select(&[9, 2]).unwrap();
        assert_eq!(
            part.vectors("landmarks").unwrap().row(0).unwrap(),
            landmarks.row(9).unwrap()
        );
        let line = labels.vectors("gaze").unwrap_err().to_string();
        assert!(line.contains("action_units, landmarks"), "{line}");
    }

    #[test]
    fn frames_are_those_of_the_renderer_with_what_they_show() {
        let video = VideoConfig {
            faces: SynthConfig {
                identities: 4,
                first_identity: 7,
                ..SynthConfig::default()
            },
            sequences: 6,
            frames: 40,
            lead: 3.0,
            ..VideoConfig::default()
        };
        let set = Synthetic::new(video).unwrap();
        assert_eq!((set.name(), set.len()), ("synth-video", 240));
        assert_eq!(set.sample_id(5 * 40 + 3), "p8/s5/3");
        assert_eq!(set.sample_id(240), "");
        let known = render_frame(&video, 5, 3).unwrap();
        assert_eq!(set.image(203).unwrap(), known.image);
        let labels = set.labels();
        let points = labels.vectors("landmarks").unwrap().row(203).unwrap();
        assert_eq!(points, known.annotations.landmarks.concat());
        let (level, whole) = (
            labels.values("level").unwrap(),
            labels.codes("sequence_expression").unwrap(),
        );
        let shown = labels.codes("expression").unwrap();
        assert_eq!(labels.codes("sequence").unwrap()[203], 5);
        assert_eq!(labels.codes("identity").unwrap()[203], 1);
        for i in 0..set.len() {
            assert_eq!(shown[i], if level[i] >= 0.5 { whole[i] } else { 0 });
            assert!(whole[i] > 0);
        }
        assert!(shown.contains(&0) && shown.iter().any(|e| *e > 0));
        // A still sequence: labels of motion stay what they were.
        let still = Synthetic::new(VideoConfig {
            redundancy: 1.0,
            ..video
        })
        .unwrap();
        let time = still.labels().values("time").unwrap();
        assert!((0..240).all(|i| time[i] == time[i / 40 * 40]));
        assert_ne!(still.image(0).unwrap(), still.image(1).unwrap());
        let many = VideoConfig {
            sequences: 1 << 20,
            ..video
        };
        let line = Synthetic::new(many).err().unwrap().to_string();
        assert!(line.contains("lower sequences or frames"), "{line}");
        let fast = VideoConfig {
            rate: -1.0,
            ..video
        };
        let line = Synthetic::new(fast).err().unwrap().to_string();
        assert!(
            line.starts_with("synth-video: ") && line.contains("rate is -1"),
            "{line}"
        );
    }

    #[test]
    fn stills_are_those_of_the_renderer() {
        let config = SynthConfig {
            identities: 2,
            per_expression: 1,
            size: 32,
            ..SynthConfig::default()
        };
        let set = Synthetic::new(config).unwrap();
        assert_eq!(set.image(9).unwrap(), render(&config, 9).unwrap().image);
    }
}
