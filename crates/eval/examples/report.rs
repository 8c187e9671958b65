//! Judges made-up embeddings by three protocols and writes `report.html` into the folder that is given.
//!
//! `cargo run --release -p phiz-eval --example report -- /tmp`

use std::error::Error;
use std::path::PathBuf;

use phiz_eval::report::{ExampleImage, ExamplePair, Headline, Report, Series};
use phiz_eval::{
    BootstrapConfig, Embeddings, EvaluateOptions, LandmarkErrors, Normaliser, Protocol, by_group,
    evaluate,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PEOPLE: usize = 20;
const IMAGES: usize = 14;
const DIM: usize = 24;
const EXPRESSIONS: [&str; 7] = [
    "neutral", "happy", "sad", "surprise", "fear", "disgust", "anger",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: report FOLDER")?);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut normal = move || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;

    // Each person is a point, each image of them a noisy copy of it.
    let people: Vec<Vec<f32>> = (0..PEOPLE)
        .map(|_| (0..DIM).map(|_| normal()).collect())
        .collect();
    let (mut values, mut identity, mut expression, mut logits) = (vec![], vec![], vec![], vec![]);
    for image in 0..PEOPLE * IMAGES {
        let person = people.get(image % PEOPLE).ok_or("no such person")?;
        values.extend(person.iter().map(|v| v + 0.95 * normal()));
        identity.push((image % PEOPLE) as u32);
        let truth = (image / PEOPLE) % EXPRESSIONS.len();
        expression.push(truth as u32);
        logits
            .extend((0..EXPRESSIONS.len()).map(|c| normal() + if c == truth { 2.2 } else { 0.0 }));
    }
    let embeddings = Embeddings::new(values, DIM)?
        .with_labels("identity", identity)?
        .with_labels("expression", expression)?
        .with_names("expression", EXPRESSIONS.map(String::from).to_vec())
        .with_logits(logits, EXPRESSIONS.len())?;

    let by_identity = EvaluateOptions {
        label: "identity".to_string(),
        ..Default::default()
    };
    let by_expression = EvaluateOptions {
        label: "expression".to_string(),
        ..Default::default()
    };
    let verification = evaluate(&Protocol::VerificationAllPairs, &embeddings, &by_identity)?;
    let retrieval = evaluate(&Protocol::Retrieval, &embeddings, &by_identity)?;
    let classification = evaluate(&Protocol::Classification, &embeddings, &by_expression)?;

    let loss: Vec<(f64, f64)> = (0..900)
        .map(|step| {
            let t = f64::from(step);
            (
                t,
                1.9 * (-t / 240.0).exp() + 0.25 + 0.08 * f64::from(normal()),
            )
        })
        .collect();
    let series = |name: &str, points| Series {
        name: name.to_string(),
        points,
    };
    let accuracy = |top: f64, speed: f64| {
        (0..=10)
            .map(|e| {
                (
                    f64::from(e),
                    top - (top - 0.14) * (-f64::from(e) / speed).exp(),
                )
            })
            .collect()
    };

    let mut report = Report::new("phiz: a made-up run");
    report
        .subtitle("Random vectors around twenty points, to show what a report looks like.")
        .rendered_faces(true)
        .fact("Recipe", "none")
        .fact("Images", (PEOPLE * IMAGES).to_string())
        .fact("Seed", "7")
        .evaluation(&verification)
        .evaluation(&retrieval)
        .embedding_map("Embedding map by identity", &embeddings, "identity")?
        .evaluation(&classification)
        .embedding_map("Embedding map by expression", &embeddings, "expression")?
        .training("Loss", "Step", "Loss", false, &[series("loss", loss)])
        .training(
            "Accuracy",
            "Epoch",
            "Accuracy",
            false,
            &[
                series("training", accuracy(0.97, 2.0)),
                series("held-out", accuracy(0.88, 2.5)),
            ],
        );
    // Landmarks of 300 made-up faces, two methods; and a figure by group.
    let errors = |spread: f32, normal: &mut dyn FnMut() -> f32| LandmarkErrors {
        normaliser: Normaliser::InterOcular,
        errors: (0..300)
            .map(|_| f64::from(0.03 + spread * normal().abs()))
            .collect(),
    };
    let ced = |name: &str, errors: &LandmarkErrors| series(name, errors.ced(0.12, 60));
    let (ours, other) = (errors(0.012, &mut normal), errors(0.025, &mut normal));
    report.ced(
        "Landmark error",
        &[ced("ours", &ours), ced("other", &other)],
        Some(0.1),
    );
    let logits = embeddings.logits().ok_or("no logits")?;
    let truth = embeddings.labels("expression")?;
    let right = |rows: &[usize]| {
        let hit = |&&r: &&usize| {
            let row = logits
                .values
                .get(r * logits.classes..(r + 1) * logits.classes);
            let best =
                row.map(|row| (0..row.len()).fold(0, |b, c| if row[c] > row[b] { c } else { b }));
            best.map(|b| b as u32) == truth.get(r).copied()
        };
        rows.iter().filter(hit).count() as f64 / rows.len() as f64
    };
    let identity = embeddings.labels("identity")?;
    let bootstrap = BootstrapConfig::default();
    let groups: Vec<u32> = identity.iter().map(|i| i % 4).collect();
    let found = by_group(&groups, Some(identity), Some(&bootstrap), right)?;
    let figures: Vec<Headline> = found
        .groups
        .iter()
        .map(|g| Headline {
            label: format!("group {}", g.group),
            value: g.value.unwrap_or(f64::NAN),
            interval: g.interval,
        })
        .collect();
    report.intervals(
        "Accuracy by group",
        "Dots with 95 % intervals, people drawn anew; dashed: all together.",
        &figures,
        classification.metrics.get("accuracy").copied(),
    );
    report.neighbour_map("Neighbour map by identity", &embeddings, "identity")?;
    let pairs = verification
        .curves
        .false_accepts
        .iter()
        .map(|pair| {
            Ok(ExamplePair {
                left: blob(pair.a)?,
                right: blob(pair.b)?,
                score: pair.score,
                caption: format!("{} and {}", embeddings.id(pair.a), embeddings.id(pair.b)),
            })
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    report.pairs(
        "Hardest pairs",
        "Different people with the highest scores.",
        &pairs,
    );
    let images = (0..16)
        .map(|i| {
            Ok(ExampleImage {
                png: blob(i)?,
                caption: format!("person {}", i % PEOPLE),
            })
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    report.images("Example images", "", &images);
    report.write(folder.join("report.html"))?;
    Ok(())
}

/// A small image whose colour follows the person.
fn blob(image: usize) -> Result<Vec<u8>, image::ImageError> {
    let person = (image % PEOPLE) as u32;
    let picture = image::RgbImage::from_fn(64, 64, |x, y| {
        let inside = (x as i32 - 32).pow(2) + (y as i32 - 34).pow(2) < 24 * 24;
        let shade = if inside { 150 } else { 60 };
        image::Rgb([
            (shade + person * 5) as u8,
            (shade + (person * 37) % 60) as u8,
            (shade + (person * 71) % 60) as u8,
        ])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}
