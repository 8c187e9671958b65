//! Statistics, margins drawn, sub-centres and centres: what heads keep and how it moves.

use candle::{DType, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use phiz_losses::*;

use crate::invariances::{LABELS, weights};
use crate::{close, cpu, labels, numbers, values};

#[test]
fn statistics_are_buffers_of_the_builder() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F64, cpu());
    let get = |name: &str| values(&vars.data().lock().unwrap()[name].as_detached_tensor());
    let e = (numbers((6, 5), 11, 1.0) * 3.0)?;
    let ada = AdaFace::new(
        5,
        4,
        AdaFaceConfig {
            momentum: 0.5,
            ..Default::default()
        },
        vb.pp("ada"),
    )?;
    ada.loss(&e, &labels(&LABELS))?;
    let norms = values(&e.sqr()?.sum(1)?.sqrt()?);
    let mean = norms.iter().sum::<f64>() / 6.0;
    close(
        "mean",
        &get("ada.running_mean"),
        &[0.5 * 20.0 + 0.5 * mean],
        1e-12,
    );
    // One item has no deviation.
    let before = get("ada.running_std");
    ada.loss(&e.narrow(0, 0, 1)?, &labels(&[1]))?;
    assert_eq!(get("ada.running_std"), before);
    // A batch that fails leaves the statistics alone.
    let before = get("ada.running_mean");
    assert!(ada.loss(&(&e * f64::NAN)?, &labels(&LABELS)).is_err());
    assert_eq!(get("ada.running_mean"), before);

    let curricular = CurricularFace::new(5, 4, CurricularFaceConfig::default(), vb.pp("cur"))?;
    curricular.loss(&e, &labels(&LABELS))?;
    let cosines = curricular.scores(&e)?.to_vec2::<f64>()?;
    let mean = LABELS
        .iter()
        .zip(&cosines)
        .map(|(&l, c)| c[l as usize])
        .sum::<f64>()
        / 6.0;
    close("target", &get("cur.running_target"), &[0.01 * mean], 1e-12);

    let elastic = ElasticFace::new(5, 4, ElasticFaceConfig::default(), vb.pp("elastic"))?;
    let first = values(&elastic.loss(&e, &labels(&LABELS))?);
    let second = values(&elastic.loss(&e, &labels(&LABELS))?);
    assert_ne!(first, second);
    assert_eq!(get("elastic.num_batches_tracked"), [2.0]);
    // A second handle goes on where the first one stopped; a reset counter draws the same again.
    vars.data().lock().unwrap()["elastic.num_batches_tracked"]
        .set(&Tensor::new(&[1u32], cpu())?)?;
    let again = ElasticFace::new(5, 4, ElasticFaceConfig::default(), vb.pp("elastic"))?;
    assert_eq!(values(&again.loss(&e, &labels(&LABELS))?), second);
    Ok(())
}

#[test]
fn elastic_margins_are_those_of_arc_and_cos_face() -> Result<()> {
    let (e, w) = (numbers((6, 5), 11, 1.0), weights(1));
    let angle = ElasticFaceConfig {
        deviation: 0.0,
        ..Default::default()
    };
    let ours = ElasticFace::from_weight(w.clone(), angle)?.loss(&e, &labels(&LABELS))?;
    let arc =
        ArcFace::from_weight(w.clone(), ArcFaceConfig::default())?.loss(&e, &labels(&LABELS))?;
    close("arc", &values(&ours), &values(&arc), 1e-13);
    let cosine = ElasticFaceConfig {
        deviation: 0.0,
        margin: 0.35,
        kind: ElasticMargin::Cosine,
        ..angle
    };
    let ours = ElasticFace::from_weight(w.clone(), cosine)?.loss(&e, &labels(&LABELS))?;
    let cos =
        CosFace::from_weight(w.clone(), CosFaceConfig::default())?.loss(&e, &labels(&LABELS))?;
    close("cos", &values(&ours), &values(&cos), 1e-13);
    // Drawn margins, one item at a time by CosFace; sorted so that the nearest item has the smallest.
    for sorted in [false, true] {
        let config = ElasticFaceConfig {
            deviation: 0.3,
            sorted,
            ..cosine
        };
        let head = ElasticFace::from_weight(w.clone(), config)?;
        let mut margins = head.margins(0, 6);
        let cosines = head.scores(&e)?.to_vec2::<f64>()?;
        let own = |i: usize| cosines[i][LABELS[i] as usize];
        if sorted {
            margins.sort_by(f64::total_cmp);
            let mut nearest: Vec<usize> = (0..6).collect();
            nearest.sort_by(|&i, &j| own(j).total_cmp(&own(i)));
            let drawn = margins.clone();
            nearest
                .into_iter()
                .zip(drawn)
                .for_each(|(i, m)| margins[i] = m);
        }
        let mut expected = 0.0;
        for (i, &margin) in margins.iter().enumerate() {
            let head = CosFace::from_weight(
                w.clone(),
                CosFaceConfig {
                    scale: 64.0,
                    margin,
                },
            )?;
            expected += values(&head.loss(&e.narrow(0, i, 1)?, &labels(&LABELS[i..=i]))?)[0] / 6.0;
        }
        close(
            "drawn",
            &values(&head.loss(&e, &labels(&LABELS))?),
            &[expected],
            1e-12,
        );
    }
    Ok(())
}

#[test]
fn outliers_are_far_from_the_dominant_center() -> Result<()> {
    // Class 0 has centres along x and y, class 1 along z twice.
    let w = Tensor::new(
        &[[1f64, 0., 0.], [0., 1., 0.], [0., 0., 1.], [0., 0., 2.]],
        cpu(),
    )?;
    let config = SubCenterArcFaceConfig {
        centers: 2,
        ..Default::default()
    };
    let head = SubCenterArcFace::from_weight(w, config)?;
    let e = Tensor::new(
        &[[2f64, 0.1, 0.], [1., 0., 0.2], [0., 3., 0.], [0., 0., 1.]],
        cpu(),
    )?;
    let found = head.outliers(&e, &labels(&[0, 0, 0, 1]), 75f64.to_radians())?;
    assert_eq!(found.items, [2]);
    assert_eq!(found.dominant, [Some(0), Some(0)]);
    assert_eq!(
        head.outliers(&e.narrow(0, 3, 1)?, &labels(&[1]), 1.0)?
            .dominant,
        [None, Some(0)]
    );
    Ok(())
}

#[test]
fn centers_move_by_the_papers_rule() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F64, cpu());
    let loss = CenterLoss::new(2, 3, CenterLossConfig::default(), vb)?;
    let e = Tensor::new(&[[1f64, 2.], [3., 4.], [5., 6.]], cpu())?;
    // Centres at 0: half the mean square.
    close(
        "loss",
        &values(&loss.loss(&e, &labels(&[0, 0, 2]))?),
        &[0.5 * 91.0 / 3.0],
        1e-13,
    );
    loss.update(&e, &labels(&[0, 0, 2]))?;
    // 0.5 * (1 + 3) / (1 + 2), and so on.
    let expected = [2. / 3., 1.0, 0., 0., 1.25, 1.5];
    close("centres", &values(loss.centers()), &expected, 1e-13);
    close(
        "buffer",
        &values(&vars.data().lock().unwrap()["running_centers"].as_detached_tensor()),
        &expected,
        1e-13,
    );
    let learned = CenterLossConfig {
        learned: true,
        ..Default::default()
    };
    assert!(
        CenterLoss::from_centers(e.clone(), learned)?
            .update(&e, &labels(&[0, 0, 2]))
            .is_err()
    );
    assert!(loss.update(&(&e * f64::NAN)?, &labels(&[0, 0, 2])).is_err());
    Ok(())
}

#[test]
fn meta_classes_cover_the_proxies() {
    let classes = random_meta_classes(12, 5, 1, 2);
    assert!((0..5).all(|c| classes.contains(&c)) && classes.iter().all(|&c| c < 5));
    assert_eq!(classes, random_meta_classes(12, 5, 1, 2));
    assert_ne!(classes, random_meta_classes(12, 5, 1, 3));
    let mut few = random_meta_classes(3, 5, 1, 2);
    few.sort_unstable();
    few.dedup();
    assert_eq!(few.len(), 3);
}
