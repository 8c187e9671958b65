//! Disentanglement metrics against disentanglement_lib (`fixtures/eval/disentanglement.py`), in closed form, and by
//! property.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use phiz_eval::Rows;
use phiz_eval::disentanglement::{
    BoostedTrees, BoostedTreesConfig, Coded, DisentanglementConfig, Factors, UdrConfig,
    UdrRelation, VoteConfig, beta_vae, dci, disentanglement, explicitness, factor_vae,
    interventional_robustness, modularity, mutual_information_gap, mutual_information_matrix,
    separated_attribute_predictability, separated_attribute_predictability_of_numbers, unfairness,
    unsupervised_disentanglement_ranking,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    fixed: Fixed,
    sampled: Sampled,
    ranking: Ranking,
}

#[derive(Deserialize)]
struct Fixed {
    codes: Vec<f64>,
    dim: usize,
    factors: Vec<Vec<u32>>,
    train: usize,
    mig: f64,
    dci: [f64; 3],
    importance: Vec<Vec<f64>>,
    sap: f64,
    sap_numbers: f64,
    mutual_information: Vec<Vec<f64>>,
    modularity: f64,
    explicitness: f64,
    irs: f64,
    irs_maximum: f64,
}

#[derive(Deserialize)]
struct Sampled {
    codes: Vec<f64>,
    dim: usize,
    factors: Vec<Vec<u32>>,
    beta_vae: Vec<f64>,
    factor_vae: Vec<f64>,
    unfairness: Vec<f64>,
}

#[derive(Deserialize)]
struct Ranking {
    models: Vec<Vec<f64>>,
    kl: Vec<Vec<f64>>,
    lasso: Vec<f64>,
    spearman: Vec<f64>,
}

fn golden() -> Golden {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/eval/disentanglement.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn close(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!(
        (got - want).abs() <= tolerance,
        "{what}: {got} against {want}"
    );
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn figures_on_fixed_rows_equal_the_program() {
    let case = golden().fixed;
    let cut = case.train * case.dim;
    let factors = |from: usize, to: usize| {
        let columns: Vec<&[u32]> = case.factors.iter().map(|c| &c[from..to]).collect();
        Factors::new(&columns).unwrap()
    };
    let n = case.factors[0].len();
    let (train_codes, test_codes) = (
        Rows::new(case.codes[..cut].to_vec(), case.dim).unwrap(),
        Rows::new(case.codes[cut..].to_vec(), case.dim).unwrap(),
    );
    let (train_factors, test_factors) = (factors(0, case.train), factors(case.train, n));
    let train = Coded::new(&train_codes, &train_factors).unwrap();
    let test = Coded::new(&test_codes, &test_factors).unwrap();

    let matrix = mutual_information_matrix(train, 20).unwrap();
    for (got, want) in matrix
        .iter()
        .flatten()
        .zip(case.mutual_information.iter().flatten())
    {
        close("mutual information", *got, *want, 1e-12);
    }
    close(
        "mig",
        mutual_information_gap(train, 20).unwrap(),
        case.mig,
        1e-12,
    );
    close(
        "modularity",
        modularity(train, 20).unwrap(),
        case.modularity,
        1e-12,
    );
    close(
        "irs",
        interventional_robustness(train, 0.99, 20).unwrap().score,
        case.irs,
        1e-12,
    );
    close(
        "irs by the maximum",
        interventional_robustness(train, 1.0, 20).unwrap().score,
        case.irs_maximum,
        1e-12,
    );
    // Their logistic regression stops at a tolerance of 1e-4; ours goes on.
    close(
        "explicitness",
        explicitness(train, test).unwrap(),
        case.explicitness,
        1e-4,
    );
    // liblinear stops early: a prediction or two may differ.
    close(
        "sap",
        separated_attribute_predictability(train, test).unwrap(),
        case.sap,
        2e-3,
    );
    let numbers: Vec<Vec<f64>> = case
        .factors
        .iter()
        .map(|c| c[..case.train].iter().map(|&v| f64::from(v)).collect())
        .collect();
    close(
        "sap of numbers",
        separated_attribute_predictability_of_numbers(&train_codes, &numbers).unwrap(),
        case.sap_numbers,
        1e-12,
    );
    // Boosted trees break ties between equal splits differently: figures agree to the third digit.
    let found = dci(train, test).unwrap();
    for (got, want) in found
        .importance
        .iter()
        .flatten()
        .zip(case.importance.iter().flatten())
    {
        close("importance", *got, *want, 5e-3);
    }
    close("disentanglement", found.disentanglement, case.dci[0], 5e-3);
    close("completeness", found.completeness, case.dci[1], 5e-3);
    close("informativeness", found.informativeness, case.dci[2], 5e-3);
}

#[test]
fn sampled_figures_equal_the_program_in_the_mean() {
    let case = golden().sampled;
    let codes = Rows::new(case.codes, case.dim).unwrap();
    let factors = Factors::new(&case.factors).unwrap();
    let coded = Coded::new(&codes, &factors).unwrap();
    let config = VoteConfig {
        batch: 16,
        train: 1500,
        test: 1000,
        least_sd: 0.05,
    };
    let over = |f: &dyn Fn(u64) -> f64| mean(&(0..4).map(f).collect::<Vec<f64>>());
    close(
        "beta vae",
        over(&|s| beta_vae(coded, &config, s).unwrap()),
        mean(&case.beta_vae),
        0.02,
    );
    close(
        "factor vae",
        over(&|s| factor_vae(coded, &config, s).unwrap().accuracy),
        mean(&case.factor_vae),
        0.02,
    );
    // As there: 400 training rows with replacement.
    let n = codes.len() as u64;
    let rows = |s: u64| -> Vec<usize> {
        (0..400u64)
            .map(|i| ((i + 400 * s).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % n)
            .map(|r| r as usize)
            .collect()
    };
    close(
        "unfairness",
        over(&|s| unfairness(coded, &rows(s), 100, s).unwrap().mean),
        mean(&case.unfairness),
        0.02,
    );
}

#[test]
fn ranking_equals_its_statement() {
    let case = golden().ranking;
    let models: Vec<Rows> = case
        .models
        .into_iter()
        .map(|m| Rows::new(m, 4).unwrap())
        .collect();
    for (relation, want) in [
        (UdrRelation::Lasso, case.lasso),
        (UdrRelation::Spearman, case.spearman),
    ] {
        let config = UdrConfig {
            relation,
            ..Default::default()
        };
        let got = unsupervised_disentanglement_ranking(&models, Some(&case.kl), &config).unwrap();
        for (got, want) in got.iter().zip(want) {
            close("udr", *got, want, 1e-6);
        }
    }
}

/// Every combination of three factors, six times; the code is made of the factors by `code`.
fn grid(code: impl Fn([f64; 3], f64) -> Vec<f64>) -> (Rows, Factors) {
    let (mut values, mut columns) = (vec![], vec![vec![], vec![], vec![]]);
    let mut dim = 0;
    for i in 0..4 * 3 * 5 * 6u32 {
        let v = [i % 4, i / 4 % 3, i / 12 % 5];
        let noise = f64::from(i.wrapping_mul(2_654_435_761) >> 8) / f64::from(1u32 << 24) - 0.5;
        let row = code(v.map(f64::from), noise);
        dim = row.len();
        values.extend(row);
        for (column, v) in columns.iter_mut().zip(v) {
            column.push(v);
        }
    }
    (
        Rows::new(values, dim).unwrap(),
        Factors::new(&columns).unwrap(),
    )
}

fn quick() -> DisentanglementConfig {
    DisentanglementConfig {
        seeds: vec![0],
        votes: VoteConfig {
            batch: 16,
            train: 400,
            test: 300,
            ..Default::default()
        },
        interventions: 30,
        ..Default::default()
    }
}

#[test]
fn the_factors_themselves_are_perfect() {
    let (codes, factors) = grid(|v, _| v.to_vec());
    let found = disentanglement(Coded::new(&codes, &factors).unwrap(), &quick()).unwrap();
    assert!(found.undefined.is_empty(), "{:?}", found.undefined);
    assert_eq!(found.figures.len(), 11);
    for (name, figure) in &found.figures {
        // SAP's machine cannot part inner values of one column, so its gap is below 1.
        let (low, high) = match name.as_str() {
            "unfairness" => (0.0, 1e-9),
            "sap" => (0.2, 1.0),
            // Sampled without replacement, columns are not exactly independent.
            "mig" | "explicitness" => (0.85, 1.0),
            _ => (0.97, 1.0 + 1e-12),
        };
        assert!((low..=high).contains(&figure.mean), "{name}: {figure:?}");
    }
}

#[test]
fn constant_duplicated_and_rotated_codes_score_low() {
    let of = |code: &dyn Fn([f64; 3], f64) -> Vec<f64>| {
        let (codes, factors) = grid(code);
        let found = disentanglement(Coded::new(&codes, &factors).unwrap(), &quick()).unwrap();
        move |name: &str| found.figures[name].mean
    };
    let perfect = of(&|v, _| v.to_vec());
    let constant = of(&|_, _| vec![1.0; 3]);
    for name in [
        "mig",
        "sap",
        "modularity",
        "factor_vae",
        "irs",
        "dci_disentanglement",
    ] {
        assert!(constant(name) < 0.1, "{name}: {}", constant(name));
    }
    // A copy of each column: no column leads.
    let twice = of(&|v, _| [v, v].concat());
    assert!(twice("mig") < 1e-9 && twice("sap") < 1e-9);
    assert!(twice("modularity") > 0.97);
    // Two factors mixed at 45 degrees.
    let turned = of(&|v, _| vec![v[0] + v[1], v[0] - v[1], v[2]]);
    for name in [
        "mig",
        "dci_disentanglement",
        "dci_completeness",
        "modularity",
    ] {
        assert!(
            turned(name) < perfect(name) - 0.05,
            "{name}: {}",
            turned(name)
        );
    }
    // Noise alone: chance.
    let noise = of(&|_, n| vec![n, (37.0 * n).sin(), (91.0 * n).cos()]);
    assert!(noise("beta_vae") < 0.5 && noise("factor_vae") < 0.5 && noise("mig") < 0.1);
    assert!((noise("explicitness") - 0.5).abs() < 0.12);
}

#[test]
fn degenerate_input_is_named() {
    let rows = Rows::new((0..40).map(f64::from).collect(), 1).unwrap();
    let factors = Factors::new(&[(0..40).map(|i| i % 2).collect::<Vec<u32>>()]).unwrap();
    let coded = Coded::new(&rows, &factors).unwrap();
    let found = disentanglement(coded, &quick()).unwrap();
    for (name, words) in [
        ("mig", "there is one only"),
        ("sap", "there is one only"),
        ("dci_disentanglement", "there is one only"),
        ("modularity", "modularity compares factors"),
        ("beta_vae", "compares factors"),
        ("unfairness", "compares factors"),
    ] {
        assert!(
            found.undefined[name].contains(words),
            "{name}: {:?}",
            found.undefined
        );
    }
    assert!(found.figures.contains_key("irs") && found.figures.contains_key("explicitness"));
    for error in [
        Factors::new(&[vec![0u32, 1], vec![3, 3]]).unwrap_err(),
        Factors::new(&[vec![0u32, 1], vec![0, 1, 1]]).unwrap_err(),
        Factors::new::<Vec<u32>>(&[]).unwrap_err(),
        Coded::new(&Rows::new(vec![0.0; 3], 1).unwrap(), &factors).unwrap_err(),
    ] {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    // A hole in the grid: the combination is named.
    let columns = [vec![0u32, 0, 1, 0, 0, 1], vec![0u32, 1, 0, 0, 1, 0]];
    let holes = Factors::new(&columns).unwrap();
    let rows = Rows::new((0..12).map(f64::from).collect(), 2).unwrap();
    let all: Vec<usize> = (0..6).collect();
    let line = unfairness(Coded::new(&rows, &holes).unwrap(), &all, 50, 0)
        .unwrap_err()
        .to_string();
    assert!(line.contains("no row has the factors [1, 1]"), "{line}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Permuted columns and positive scales leave MIG, modularity and SAP's and the trees' figures as they are.
    #[test]
    fn order_and_scale_of_columns_do_not_matter(
        scales in prop::array::uniform3(1u32..6),
        weight in 0.0f64..2.0,
    ) {
        let plain = |v: [f64; 3], n: f64| vec![v[0] + n, v[1] - weight * n, v[2] + weight * v[0]];
        let (codes, factors) = grid(plain);
        // Powers of two, so that the bins' edges scale exactly.
        let s = scales.map(|e| f64::from(1 << e));
        let (moved, _) = grid(|v, n| {
            let z = plain(v, n);
            vec![s[2] * z[2], s[0] * z[0], s[1] * z[1]]
        });
        let (one, two) = (Coded::new(&codes, &factors).unwrap(), Coded::new(&moved, &factors).unwrap());
        let gap = |c| mutual_information_gap(c, 20).unwrap();
        prop_assert!((gap(one) - gap(two)).abs() < 1e-12);
        let m = |c| modularity(c, 20).unwrap();
        prop_assert!((m(one) - m(two)).abs() < 1e-12);
        let config = BoostedTreesConfig { stages: 5, ..Default::default() };
        let fit = |rows: &Rows| BoostedTrees::fit(rows, factors.column(0), &config).unwrap();
        let (a, b) = (fit(&codes), fit(&moved));
        prop_assert!((a.importance()[0] - b.importance()[1]).abs() < 0.05);
    }
}
