//! Metrics and protocols over embeddings, predictions and labels.
//!
//! This crate knows no model: it takes a table of embeddings ([`Embeddings`], read from safetensors, npy, CSV or parquet
//! files, or mapped where they lie) and says how good they are, exactly, with intervals, by a protocol that is named in
//! the result. [`conformance`] says point by point what each protocol follows.
//!
//! * [`verify_all_pairs`], [`verify_pairs`]: ROC, DET, AUC, AP, equal error rate, true accept rate at a false accept rate,
//!   thresholds from elsewhere, conditions on pairs; [`Roc`] alone for scores that are there already;
//! * [`verify_folds`]: LFW-style accuracy over folds by three named rule sets;
//! * [`pool_templates`], [`verify_templates`], [`identify`]: IJB-B and IJB-C, 1:1 and 1:N;
//! * [`retrieve`]: rank-1, R-precision, MAP, MAP@R, recall@k, CMC, per class; [`nearest`]: exact neighbours
//!   (feature `approximate`: nearly all of them by a graph);
//! * [`kmeans`], [`compare_clusters`]: NMI, AMI, pairwise F;
//! * [`Classification`]: accuracies, macro F1, confusion matrix, log-loss;
//! * [`regression`], [`icc_3_1`]: MSE, MAE, RMSE, SAGR, PCC, CCC, ICC(3,1) of action units, valence and arousal;
//! * [`LandmarkErrors`]: NME by a named normaliser, failure rate, AUC, CED; [`Sparse2d`], [`Dense3d`],
//!   [`Reconstruction`]: the three errors of 3D shape that share one name elsewhere;
//! * [`calibration`]: ECE, Brier score and the reliability diagram;
//! * [`by_group`], [`verification_by_group`], [`decision_gaps`]: every figure per group, gaps with intervals;
//! * [`linear_probe`], [`mlp_probe`], [`ridge_probe`], [`nearest_neighbours`], [`few_shot`]: what frozen features say;
//!   [`leakage`]: what they still say although they should not;
//! * [`disentanglement`]: MIG, DCI, SAP, FactorVAE, BetaVAE, modularity, explicitness, IRS, UDR, fairness;
//! * [`BootstrapConfig`]: intervals over whole identities; [`mean_sd_ci95`]: over repeated runs;
//! * [`paired_verification`], [`paired_mean_difference`], [`delong_test`]: is one run better than another?
//! * [`Protocol`] and [`evaluate`]: these by name or from a TOML file ([`ProtocolFile`]), with a result that
//!   serialises; [`compare`]: two runs on the same samples;
//! * [`report`]: one HTML file that opens offline.
//!
//! ```
//! use phiz_eval::{Embeddings, EvaluateOptions, Protocol, evaluate};
//!
//! // Four images of two people.
//! let embeddings = Embeddings::new(vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.2, 0.9], 2)?
//!     .with_labels("labels", vec![1, 1, 2, 2])?;
//! let protocol: Protocol = "verification-all-pairs".parse()?;
//! let result = evaluate(&protocol, &embeddings, &EvaluateOptions::default())?;
//! assert_eq!(result.metrics["auc"], 1.0);
//! assert_eq!(result.undefined["tar@far=1e-1"], "needs 10 impostor pairs, there are 4");
//! # Ok::<(), phiz_eval::Error>(())
//! ```
//!
//! # Figures that programs disagree on
//!
//! * **TAR at FAR** is the largest acceptance whose FAR does not exceed the target. Programs that take the nearest point
//!   of the curve may exceed it. It is undefined below 1/FAR impostor pairs.
//! * **EER** is read off the exact curve with straight lines between its corners.
//! * **Ties** count half in the AUC. Scores are rounded to 2^-40 of their range, so that pairs whose scores are equal in
//!   exact arithmetic are tied; scikit-learn compares floats as they come, and on such input its value depends on the
//!   order in which a matrix product was summed.
//! * **scikit-learn's `roc_curve`** drops collinear points by default and begins at an infinite threshold since 1.3 (the
//!   largest score plus one before); neither changes the area. `det_curve` drops points whose rates both stand still.
//!   `balanced_accuracy_score` warns about a class that is predicted but never occurs and leaves it out, while
//!   `f1_score(average="macro")` counts it with 0. `log_loss` clips probabilities at the epsilon of their type.

mod against;
mod all_pairs;
#[cfg(feature = "approximate")]
mod approximate;
mod bootstrap;
mod calibration;
mod classification;
mod clustering;
mod coarse;
mod columns;
mod conditions;
mod counting;
mod csv_file;
mod delong;
pub mod disentanglement;
mod elements;
mod embeddings;
mod error;
mod fairness;
mod figures;
mod files;
mod folds;
mod groups;
mod hardest;
mod identification;
mod kmeans;
mod landmarks;
mod lookup;
mod mapped;
mod nearest;
mod neighbours;
mod npy;
mod ordered;
mod paired;
mod pairs;
mod panels;
#[cfg(feature = "parquet")]
mod parquet_file;
mod plan;
mod probes;
mod products;
mod projection;
mod protocol;
mod protocol_file;
mod ranks;
mod regression;
pub mod report;
mod retrieval;
mod roc;
mod rows;
mod safetensors_file;
mod score;
mod score_index;
mod screen;
mod shape3d;
mod simd;
mod stats;
mod streams;
mod task_protocols;

mod template_files;
mod template_protocol;
mod templates;
mod turned;
mod verification;

/// What each protocol follows, and where programs part.
#[doc = include_str!("../CONFORMANCE.md")]
pub mod conformance {}

pub use against::{Comparison, compare};
#[cfg(feature = "approximate")]
pub use approximate::{Approximate, ApproximateConfig};
pub use bootstrap::{
    BandPoint, BootstrapConfig, cluster_mean_interval, cluster_weights, percentile_interval,
};
pub use calibration::{
    Binning, Calibration, CalibrationConfig, ReliabilityBin, calibration, calibration_of_logits,
};
pub use classification::{Classification, Confusion};
pub use clustering::{Clustering, compare_clusters};
pub use conditions::{Condition, PairKind, Relation};
pub use delong::{DeLong, DeLongTest, delong, delong_test};
pub use embeddings::{Embeddings, Logits};
pub use error::{Error, ErrorKind, Result};
pub use fairness::{
    DecisionGaps, GroupFigure, GroupFigures, GroupVerification, by_group, decision_gaps,
    verification_by_group,
};
pub use folds::{FoldAccuracy, FoldRule, Validation, verify_folds};
pub use hardest::ScoredPair;
pub use identification::{Identification, IdentificationConfig, TpirAtFpir, identify};
pub use kmeans::{KMeansConfig, kmeans};
pub use landmarks::{FaceBox, LandmarkErrors, LandmarkFigures, Normaliser, exact_ced_area};
pub use nearest::{Neighbours, nearest};
pub use neighbours::{NeighbourMap, neighbour_map};
pub use npy::labels_from_npy;
pub use paired::{
    PairClusters, PairedDifference, paired_differences, paired_mean_difference, paired_verification,
};
pub use pairs::{Pair, PairList};
pub use probes::{
    FewShot, FewShotResult, Leakage, LeakageConfig, LeakageScore, LinearProbe, Logistic,
    LogisticConfig, Mlp, MlpConfig, NeighbourConfig, ProbeConfig, Ridge, few_shot, few_shot_probe,
    leakage, leakage_of_number, linear_probe, mlp_probe, nearest_neighbours, r_squared,
    ridge_probe,
};
pub use projection::{Projection, principal_plane};
pub use protocol::{Curves, EvaluateOptions, Evaluation, Protocol, evaluate};
pub use protocol_file::{
    ConditionEntry, ProtocolFile, ProtocolKind, QueryEntry, TemplatesEntry, ThresholdEntry,
    ValueEntry,
};
pub use regression::{Regression, RegressionColumns, icc_3_1, regression, regression_columns};
pub use retrieval::{ClassRetrieval, QueryFigures, Retrieval, RetrievalConfig, retrieve};
pub use roc::{CurvePoint, DetPoint, EqualError, Roc, RocPoint, TarAtFar};
pub use rows::Rows;
pub use score::{Score, ScoreHistogram};
pub use shape3d::{Dense3d, Reconstruction, Sparse2d, Sparse2dByYaw, similarity_align};
pub use stats::{Summary, mean_sd_ci95, normal_cdf, normal_quantile};
pub use template_files::{
    TemplateIndex, TemplatePairs, detector_scores_from_text, read_detector_scores, read_subjects,
    subjects_from_csv,
};
pub use templates::{
    Flip, PoolConfig, TemplateVerification, Templates, pool_templates, score_templates,
    verify_templates,
};
pub use verification::{
    MAX_BOOTSTRAP_PAIRS, Operating, ThresholdRule, Verification, VerificationConfig, score_pairs,
    tar_name, verify_all_pairs, verify_pairs,
};
