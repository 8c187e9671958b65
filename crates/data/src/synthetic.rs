//! Rendered faces as a data set: a face is drawn when it is asked for.

use std::sync::Arc;

use phiz_synth::{
    ALL_EXPRESSIONS, Actions, Annotations, DISGUISES, Factors, LANDMARKS, LIGHTS, MAKEUP,
    OCCLUSIONS, SynthConfig, affect, annotate, factors, head_mesh, render,
};
use rayon::prelude::*;

use crate::error::one_line;
use crate::labels::check_indices;
use crate::{Column, Dataset, Error, ErrorKind, Image, Labels, Result, Vectors};

/// Most samples of one set: every sample carries some eighty factors, which are kept.
pub const MAX_SAMPLES: usize = 1 << 20;

/// Rendered faces. Labels: `identity` (classes `p<number of the person>`), `expression` (the first of
/// [`ALL_EXPRESSIONS`]), `mislabelled` where labels may be wrong, `au.<number>` (intensity of an action unit on FACS'
/// scale of 0 to 5), `valence` and `arousal` (-1 to 1), `makeup` ([`MAKEUP`]), `disguise` ([`DISGUISES`]), `light` ([`LIGHTS`]), `occlusion`
/// ([`OCCLUSIONS`]) and every continuous
/// factor as `factor.<name>`. Shares of samples with make-up, disguise, a marked light or something before the face are the
/// keys `makeup`, `disguise`, `lighting` and `occlusion`, 0 where they are not given.
///
/// Made when they are asked for: `landmarks` (68, 2), `points3d` (68, 3) and `vertices` (V, 3) in pixels, depth away
/// from the camera and 0 at the middle of the head, `action_units` (19, on FACS' scale of 0 to 5) and
/// `valence_arousal` (2). Vertices are those of the front of the head, the same ones for every face.
pub struct Synthetic {
    config: SynthConfig,
    labels: Labels,
}

fn refused(error: &phiz_synth::Error) -> Error {
    Error::config(format!("synth: {}", one_line(&error.to_string())))
}

impl Synthetic {
    /// The set that `config` describes.
    ///
    /// # Errors
    /// When a setting is out of its range, or there would be more than [`MAX_SAMPLES`].
    pub fn new(config: SynthConfig) -> Result<Self> {
        config.validate().map_err(|e| refused(&e))?;
        let n = config.len();
        if n > MAX_SAMPLES {
            return Err(Error::new(ErrorKind::TooLarge(format!(
                "synth: {n} images, the limit is {MAX_SAMPLES}: lower identities or per_expression"
            ))));
        }
        let drawn: Vec<_> = (0..n)
            .into_par_iter()
            .map(|i| factors(&config, i))
            .collect();
        let drawn = drawn
            .into_iter()
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|e| refused(&e))?;
        let mut labels = Labels::new(n);
        let people = (0..config.identities as u64)
            .map(|i| format!("p{}", u64::from(config.first_identity) + i));
        labels.insert(
            "identity",
            Column::Categorical {
                codes: drawn.iter().map(|f| f.identity).collect(),
                names: people.collect(),
            },
        )?;
        labels.insert(
            "expression",
            Column::Categorical {
                codes: drawn.iter().map(|f| f.expression).collect(),
                names: ALL_EXPRESSIONS[..config.expressions()]
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            },
        )?;
        // What is shown, where the written label may be wrong.
        if config.flaws.identity_noise > 0.0 || config.flaws.expression_noise > 0.0 {
            let wrong = |f: &Factors| {
                (f.identity != f.true_identity) || (f.expression != f.true_expression)
            };
            labels.insert(
                "mislabelled",
                Column::Categorical {
                    codes: drawn.iter().map(|f| u32::from(wrong(f))).collect(),
                    names: vec!["no".into(), "yes".into()],
                },
            )?;
        }
        for (k, unit) in Actions::UNITS.iter().enumerate() {
            let facs = |f: &Factors| (5.0 * f.actions.intensities()[k]).clamp(0.0, 5.0);
            let column = Column::Continuous(drawn.iter().map(facs).collect());
            labels.insert(format!("au.{unit}"), column)?;
        }
        let (valence, arousal) = drawn.iter().map(|f| affect(&f.actions)).unzip();
        labels.insert("valence", Column::Continuous(valence))?;
        labels.insert("arousal", Column::Continuous(arousal))?;
        let states: [(&str, &[&str], Vec<u32>); 4] = [
            (
                "makeup",
                &MAKEUP,
                drawn.iter().map(|f| f.states.makeup).collect(),
            ),
            (
                "disguise",
                &DISGUISES,
                drawn.iter().map(|f| f.states.disguise).collect(),
            ),
            (
                "light",
                &LIGHTS,
                drawn.iter().map(|f| f.states.light).collect(),
            ),
            (
                "occlusion",
                &OCCLUSIONS,
                drawn.iter().map(|f| f.states.occlusion).collect(),
            ),
        ];
        for (name, classes, codes) in states {
            let names = classes.iter().map(ToString::to_string).collect();
            labels.insert(name, Column::Categorical { codes, names })?;
        }
        let mut columns: Vec<(&'static str, Vec<f32>)> = Vec::new();
        for sample in &drawn {
            let values = sample.values();
            if columns.is_empty() {
                columns = values
                    .iter()
                    .map(|(name, _)| (*name, Vec::with_capacity(n)))
                    .collect();
            }
            for ((_, column), (_, value)) in columns.iter_mut().zip(values) {
                column.push(value);
            }
        }
        for (name, values) in columns {
            labels.insert(format!("factor.{name}"), Column::Continuous(values))?;
        }
        for (name, column) in made(&config, n)? {
            labels.insert_vectors(name, column)?;
        }
        Ok(Self { config, labels })
    }

    /// What is rendered.
    #[must_use]
    pub fn config(&self) -> &SynthConfig {
        &self.config
    }
}

/// The labels that are made when they are asked for.
fn made(config: &SynthConfig, n: usize) -> Result<Vec<(&'static str, Vectors)>> {
    let of = |take: fn(&Annotations) -> Vec<f32>| {
        let config = *config;
        move |i: usize| Ok(take(&annotate(&config, i).map_err(|e| refused(&e))?))
    };
    let points = of(|a| {
        let rows = a.landmarks.iter().zip(&a.landmarks_camera);
        rows.flat_map(|([x, y], camera)| [*x, *y, depth(a, camera[2])])
            .collect()
    });
    let units = Actions::UNITS.iter().map(|unit| format!("AU{unit}"));
    let mut out = vec![
        (
            "landmarks",
            Vectors::made(vec![LANDMARKS, 2], n, of(|a| a.landmarks.concat())),
        ),
        ("points3d", Vectors::made(vec![LANDMARKS, 3], n, points)),
        (
            "action_units",
            Vectors::made(
                vec![Actions::UNITS.len()],
                n,
                of(|a| a.action_units.to_vec()),
            )
            .with_names(units.collect())?,
        ),
        (
            "valence_arousal",
            Vectors::made(vec![2], n, of(|a| vec![a.valence, a.arousal]))
                .with_names(vec!["valence".into(), "arousal".into()])?,
        ),
    ];
    if n > 0 {
        let front: Arc<[usize]> = front().map_err(|e| refused(&e))?.into();
        let (count, config) = (front.len(), *config);
        let vertices = move |i: usize| -> Result<Vec<f32>> {
            let a = annotate(&config, i).map_err(|e| refused(&e))?;
            let mesh = head_mesh(&config, i).map_err(|e| refused(&e))?;
            Ok(front
                .iter()
                .filter_map(|&v| mesh.camera.get(v))
                .flat_map(|&p| {
                    let [x, y] = a.camera.project(p);
                    [x, y, depth(&a, p[2])]
                })
                .collect())
        };
        out.push(("vertices", Vectors::made(vec![count, 3], n, vertices)));
    }
    Ok(out)
}

/// Depth behind the middle of the head, in pixels as large as those of the face.
fn depth(a: &Annotations, z: f32) -> f32 {
    let middle = a.pose.translation[2];
    (z - middle) * a.camera.focal / middle
}

/// Vertices in the front of the mean head: nearer to the camera than a third of the way to the tip of the nose.
fn front() -> std::result::Result<Vec<usize>, phiz_synth::Error> {
    let mean = phiz_synth::head_mesh_of(&Factors::default())?;
    let tip = mean.canonical.iter().map(|p| p[2]).fold(0., f32::max);
    Ok((0..mean.canonical.len())
        .filter(|&v| mean.canonical[v][2] > tip / 3.)
        .collect())
}

impl Dataset for Synthetic {
    fn name(&self) -> &str {
        "synth"
    }
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        match self.config.place(index) {
            Ok(place) => {
                let expression = ALL_EXPRESSIONS
                    .get(place.expression as usize)
                    .copied()
                    .unwrap_or("");
                format!("p{}/{expression}/{}", place.person, place.take)
            }
            Err(_) => String::new(),
        }
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.len())?;
        Ok(render(&self.config, index).map_err(|e| refused(&e))?.image)
    }
    fn rendered(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
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
}
