//! Judges a file of embeddings and prints the result as JSON, with the time it took on standard error.
//!
//! `cargo run --release -p phiz-eval --example evaluate -- FILE.safetensors verification-all-pairs`

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example is a program"
)]

use std::error::Error;
use std::time::Instant;

use phiz_eval::{Embeddings, EvaluateOptions, Protocol, evaluate};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: evaluate FILE [PROTOCOL]")?;
    let name = arguments.next();
    let protocol: Protocol = name
        .as_deref()
        .unwrap_or("verification-all-pairs")
        .parse()?;
    let start = Instant::now();
    let embeddings = Embeddings::read(file)?;
    let read = start.elapsed();
    let result = evaluate(&protocol, &embeddings, &EvaluateOptions::default())?;
    println!("{}", serde_json::to_string_pretty(&result)?);
    eprintln!("read {read:.2?}, all {:.2?}", start.elapsed());
    Ok(())
}
