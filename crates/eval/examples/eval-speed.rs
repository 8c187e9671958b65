//! Time and memory of the large cases, to be set beside `fixtures/eval/speed.py`, which does the same with scikit-learn,
//! faiss and pytorch-metric-learning.
//!
//! `cargo run --release -p phiz-eval --example eval-speed -- roc|retrieval|top-k|ijb-c|million`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example")]

use std::time::Instant;

use phiz_eval::{
    Embeddings, PoolConfig, RetrievalConfig, Roc, Score, TemplateIndex, TemplatePairs, nearest,
    pool_templates, retrieve, verify_templates,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Roughly normal numbers: sums of four uniform ones.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut out = vec![0f32; n];
    out.par_chunks_mut(1 << 16)
        .enumerate()
        .for_each(|(i, part)| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(i as u64);
            for v in part {
                let bits: u64 = rng.random();
                let sum: u64 = (0..4).map(|k| bits >> (16 * k) & 0xffff).sum();
                *v = (sum as f32 / 32768.0 - 4.0) * 0.866;
            }
        });
    out
}

fn timed<R>(what: &str, run: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = run();
    println!("{what}: {:.3} s", start.elapsed().as_secs_f64());
    result
}

/// Peak of memory that is not a mapped file, in MB, where the system tells.
fn memory() -> String {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return "unknown".into();
    };
    let find = |key: &str| {
        status
            .lines()
            .find(|l| l.starts_with(key))
            .unwrap_or("")
            .to_string()
    };
    format!("{} {}", find("VmHWM"), find("RssAnon"))
}

fn clustered(n: usize, dim: usize, per: usize, seed: u64) -> (Embeddings, Vec<u32>) {
    let centres = noise(n.div_ceil(per) * dim, seed + 1);
    let mut values = noise(n * dim, seed);
    for (i, row) in values.chunks_exact_mut(dim).enumerate() {
        for (v, c) in row.iter_mut().zip(&centres[i / per * dim..]) {
            *v += 0.5 * c;
        }
    }
    let labels = (0..n as u32).map(|i| i / per as u32).collect();
    (Embeddings::new(values, dim).unwrap(), labels)
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("roc") => {
            let n = 8_000_000;
            let scores: Vec<f64> = noise(n, 0)
                .iter()
                .enumerate()
                .map(|(i, &v)| f64::from(v) + if i % 2 == 0 { 1.0 } else { 0.0 })
                .collect();
            let same: Vec<bool> = (0..n).map(|i| i % 2 == 0).collect();
            for _ in 0..3 {
                let roc = timed("roc + auc, 8 M pairs", || {
                    let roc = Roc::from_labelled(&scores, &same).unwrap();
                    let auc = roc.auc();
                    (roc, auc)
                });
                println!("auc {}", roc.1);
            }
        }
        Some("retrieval") => {
            let (table, labels) = clustered(20_000, 128, 20, 3);
            let config = RetrievalConfig {
                bootstrap: None,
                ..Default::default()
            };
            for score in [Score::Cosine, Score::Euclid, Score::Cosine] {
                let config = RetrievalConfig {
                    score,
                    ..config.clone()
                };
                let found = timed("retrieval, 20,000 x 128", || {
                    retrieve(&table, &labels, &config).unwrap()
                });
                println!("{score} map@r {} map {}", found.map_at_r, found.map);
            }
        }
        Some("top-k") => {
            let gallery = Embeddings::new(noise(100_000 * 256, 1), 256).unwrap();
            let queries = Embeddings::new(noise(5_000 * 256, 2), 256).unwrap();
            for score in [Score::Euclid, Score::Cosine, Score::Euclid] {
                let found = timed("top 10 of 5,000 in 100,000 x 256", || {
                    nearest(&queries, &gallery, 10, score, false).unwrap()
                });
                println!("{score} {:?}", found.of(0));
            }
        }
        Some("ijb-c") => {
            let (n, dim, count) = (469_375usize, 512, 23_124u32);
            let table = Embeddings::new(noise(n * dim, 4), dim).unwrap();
            let templates = (0..n as u32).map(|i| i % count).collect();
            let media = (0..n as u32).map(|i| i / count / 3).collect();
            let index = TemplateIndex::new(templates, media).unwrap();
            let pairs = 15_658_489u32;
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let a: Vec<u32> = (0..pairs).map(|i| i / 4500).collect();
            let b = (0..pairs).map(|_| rng.random_range(0..count)).collect();
            let same = (0..pairs).map(|i| i % 800 == 0).collect();
            let pairs = TemplatePairs::new(a, b, same).unwrap();
            println!("made: {}", memory());
            timed("ijb-c 1:1", || {
                let pooled = timed("  pool", || {
                    pool_templates(&table, &index, &PoolConfig::default()).unwrap()
                });
                let fars = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1];
                let found = verify_templates(&pooled, &pairs, &fars).unwrap();
                println!("auc {} {:?}", found.auc, found.exact[2].1);
            });
        }
        Some("million") => {
            let path = std::env::temp_dir().join("phiz-million.npy");
            let (n, dim) = (1_000_000usize, 128);
            {
                let (table, labels) = clustered(n, dim, 20, 9);
                table
                    .with_labels("labels", labels)
                    .unwrap()
                    .write_npy(&path)
                    .unwrap();
            }
            println!("written: {}", memory());
            let table = timed("map and check", || Embeddings::map(&path).unwrap());
            println!("mapped: {}", memory());
            let labels = table.labels("labels").unwrap().to_vec();
            let config = RetrievalConfig {
                bootstrap: None,
                queries: Some((0..2_000).map(|i| i * 500).collect()),
                ..Default::default()
            };
            let found = timed("retrieval, 2,000 queries in 1,000,000 x 128", || {
                retrieve(&table, &labels, &config).unwrap()
            });
            println!("map@r {} map {}", found.map_at_r, found.map);
            println!("after retrieval: {}", memory());
        }
        _ => println!("expected roc, retrieval, top-k, ijb-c or million"),
    }
    println!("{}", memory());
}
