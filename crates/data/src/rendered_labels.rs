//! Everything known of rendered faces, as columns of labels.

use std::sync::Arc;

use phiz_synth::{
    ALL_EXPRESSIONS, Actions, Annotations, DISGUISES, Factors, Frame, LANDMARKS, LIGHTS, MAKEUP,
    OCCLUSIONS, PHASES, States, affect, annotate_factors, head_mesh_of,
};
use rayon::prelude::*;

use crate::rendering::{Picture, Rendering};
use crate::{Column, Labels, Result, Vectors};

/// Level from which on a frame shows its sequence's expression and not the face at rest.
const SHOWN: f32 = 0.5;

/// The expression that a frame shows: that of the sequence from half its strength on, neutral below.
pub(crate) fn shown(frame: &Frame) -> u32 {
    if frame.level >= SHOWN {
        frame.factors.expression
    } else {
        0
    }
}

/// Every column of the pictures of `set`.
pub(crate) fn labels(set: &Rendering) -> Result<Labels> {
    let n = set.len();
    let pictures: Vec<_> = (0..n).into_par_iter().map(|i| set.picture(i)).collect();
    let pictures = pictures.into_iter().collect::<Result<Vec<_>>>()?;
    let drawn: Vec<&Factors> = pictures.iter().map(Picture::factors).collect();
    let mut labels = Labels::new(n);
    let config = set.faces();
    let people =
        (0..config.identities as u64).map(|i| format!("p{}", u64::from(config.first_identity) + i));
    labels.insert(
        "identity",
        Column::Categorical {
            codes: drawn.iter().map(|f| f.identity).collect(),
            names: people.collect(),
        },
    )?;
    let expressions = |codes: Vec<u32>| Column::Categorical {
        codes,
        names: texts(&ALL_EXPRESSIONS[..config.expressions()]),
    };
    let written: Vec<u32> = drawn.iter().map(|f| f.expression).collect();
    if let Rendering::Sequences(video) = set {
        let frames: Vec<&Frame> = pictures.iter().filter_map(Picture::frame).collect();
        labels.insert(
            "expression",
            expressions(frames.iter().copied().map(shown).collect()),
        )?;
        labels.insert("sequence_expression", expressions(written))?;
        let names = (0..video.sequences).map(|s| format!("s{s}")).collect();
        let codes = frames.iter().map(|f| f.sequence as u32).collect();
        labels.insert("sequence", Column::Categorical { codes, names })?;
        let codes = frames.iter().map(|f| f.phase as u32).collect();
        let names = texts(&PHASES);
        labels.insert("phase", Column::Categorical { codes, names })?;
        labels.insert("talks", yes_or_no(frames.iter().map(|f| f.talks)))?;
        let numbers =
            |of: fn(&Frame) -> f32| Column::Continuous(frames.iter().copied().map(of).collect());
        labels.insert("level", numbers(|f| f.level))?;
        labels.insert("time", numbers(|f| f.time))?;
    } else {
        labels.insert("expression", expressions(written))?;
    }
    // What is shown, where the written label may be wrong.
    if config.flaws.identity_noise > 0.0 || config.flaws.expression_noise > 0.0 {
        let wrong =
            |f: &Factors| (f.identity != f.true_identity) || (f.expression != f.true_expression);
        labels.insert("mislabelled", yes_or_no(drawn.iter().copied().map(wrong)))?;
    }
    for (k, unit) in Actions::UNITS.iter().enumerate() {
        let facs = |f: &Factors| (5.0 * f.actions.intensities()[k]).clamp(0.0, 5.0);
        let column = Column::Continuous(drawn.iter().copied().map(facs).collect());
        labels.insert(format!("au.{unit}"), column)?;
    }
    let (valence, arousal) = drawn.iter().map(|f| affect(&f.actions)).unzip();
    labels.insert("valence", Column::Continuous(valence))?;
    labels.insert("arousal", Column::Continuous(arousal))?;
    let states = |of: fn(&States) -> u32| drawn.iter().map(|f| of(&f.states)).collect();
    for (name, classes, codes) in [
        ("makeup", &MAKEUP[..], states(|s| s.makeup)),
        ("disguise", &DISGUISES, states(|s| s.disguise)),
        ("light", &LIGHTS, states(|s| s.light)),
        ("occlusion", &OCCLUSIONS, states(|s| s.occlusion)),
    ] {
        let names = texts(classes);
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
    for (name, column) in made(set)? {
        labels.insert_vectors(name, column)?;
    }
    Ok(labels)
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn yes_or_no(values: impl Iterator<Item = bool>) -> Column {
    Column::Categorical {
        codes: values.map(u32::from).collect(),
        names: texts(&["no", "yes"]),
    }
}

/// The labels that are made when they are asked for.
fn made(set: &Rendering) -> Result<Vec<(&'static str, Vectors)>> {
    let (set, n, size) = (*set, set.len(), set.faces().size);
    let of = |take: fn(&Annotations) -> Vec<f32>| {
        move |i: usize| {
            let picture = set.picture(i)?;
            Ok(take(
                &annotate_factors(picture.factors(), size).map_err(|e| set.refused(&e))?,
            ))
        }
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
        let front: Arc<[usize]> = front().map_err(|e| set.refused(&e))?.into();
        let count = front.len();
        let vertices = move |i: usize| -> Result<Vec<f32>> {
            let picture = set.picture(i)?;
            let a = annotate_factors(picture.factors(), size).map_err(|e| set.refused(&e))?;
            let mesh = head_mesh_of(picture.factors()).map_err(|e| set.refused(&e))?;
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
pub(crate) fn depth(a: &Annotations, z: f32) -> f32 {
    let middle = a.pose.translation[2];
    (z - middle) * a.camera.focal / middle
}

/// Vertices in the front of the mean head: nearer to the camera than a third of the way to the tip of the nose.
fn front() -> std::result::Result<Vec<usize>, phiz_synth::Error> {
    let mean = head_mesh_of(&Factors::default())?;
    let tip = mean.canonical.iter().map(|p| p[2]).fold(0., f32::max);
    Ok((0..mean.canonical.len())
        .filter(|&v| mean.canonical[v][2] > tip / 3.)
        .collect())
}
