//! Bad input is refused with the numbers in the message.

use crate::*;

#[test]
fn bad_input_is_named() {
    let e = random(4, 2, 0);
    let says = |r: Result<Tensor>, what: &str| {
        let message = r.unwrap_err().to_string();
        assert!(message.contains(what), "{message}");
    };
    let t = one(0, &[1], &[2]);
    says(
        tuplet_clusters(&e, &t, fixed(0.4, 1.0, TupletReduction::Mean)),
        "T > tau/2 > 0, got T = 0.4, tau = 1",
    );
    says(
        tuplet_clusters(&e, &t, fixed(1.0, 0.0, TupletReduction::Mean)),
        "T > tau/2",
    );
    says(
        tuplet_clusters(&e, &t, fixed(f64::NAN, 1.0, TupletReduction::Mean)),
        "reference distance must be finite",
    );
    for (_, loss) in tuplet_losses(2) {
        says(loss(&e, &one(0, &[1], &[9])), "outside of the batch of 4");
        says(
            loss(&Tensor::zeros(4, DType::F64, &Device::Cpu).unwrap(), &t),
            "(B, D)",
        );
    }
    says(
        tuplet_clusters(&e.to_dtype(DType::U8).unwrap(), &t, Default::default()),
        "f32 or f64",
    );
    says(
        triplet(&e, &t.to_triplets(), f64::NAN),
        "margin of the triplet loss must be finite",
    );
    says(
        n_pair(
            &e,
            &t,
            NPairConfig {
                scale: 0.0,
                ..Default::default()
            },
        ),
        "scale of the N-pair loss",
    );
    says(
        adaptive(3, AdaptiveConfig::default())
            .unwrap()
            .forward(&e, &t),
        "made for (B, 3)",
    );
    assert!(
        adaptive(
            3,
            AdaptiveConfig {
                tau: 4.0,
                ..Default::default()
            }
        )
        .is_err()
    );

    let w = random(3, 2, 1);
    let labels = |l: &[u32]| Tensor::new(l, &Device::Cpu).unwrap();
    let arc = |config| ArcFace::from_weight(w.clone(), config).unwrap();
    says(
        arc(ArcFaceConfig::default()).forward(&e, &labels(&[0, 1, 3, 2])),
        "label 3 of item 2",
    );
    says(
        arc(ArcFaceConfig::default()).forward(&e, &labels(&[0, 1])),
        "labels must be (4)",
    );
    says(
        arc(ArcFaceConfig {
            margin: 28.6,
            ..Default::default()
        })
        .forward(&e, &labels(&[0; 4])),
        "radians",
    );
    says(
        arc(ArcFaceConfig {
            scale: -1.0,
            ..Default::default()
        })
        .forward(&e, &labels(&[0; 4])),
        "above 0",
    );
    says(
        arc(ArcFaceConfig::default()).forward(&random(4, 5, 0), &labels(&[0; 4])),
        "weight is (3, 2)",
    );
}
