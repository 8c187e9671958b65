//! One line that names a data set: `synth:identities=20`, `orl`, `mnist:test`, `folder:PATH`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use phiz_synth::{SynthConfig, VideoConfig};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::altered_digits::{AlteredDigits, DILATED, Part, ROTATED};
use crate::catalogue::{FASHION_FOLDER, catalogue};
use crate::layouts::{LAYOUTS, Layout};
use crate::mnist::{FASHION_CLASSES, Half, Mnist};
use crate::synth_spec::{synth_config, synth_text, video_config, video_text};
use crate::{Dataset, Error, ErrorKind, Folder, Orl, Result, Synthetic};

/// A data set by its specification. Parse it from text, or from TOML or JSON as a string; print it to get
/// text that parses to the same.
///
/// ```
/// use phiz_data::Spec;
/// let spec: Spec = "synth:size=32,identities=5".parse()?;
/// assert_eq!(spec.to_string(), "synth:identities=5,size=32");
/// let error = "sinth".parse::<Spec>().unwrap_err().to_string();
/// assert!(error.contains("nearest is \"synth\""));
/// # Ok::<(), phiz_data::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Spec {
    /// `synth[:key=value,...]`: rendered faces; the keys are the fields of [`SynthConfig`].
    Synth(SynthConfig),
    /// `synth-video[:key=value,...]`: rendered sequences, a frame an image; the keys are the fields of [`VideoConfig`]
    /// and those of [`SynthConfig`] that are neither counts nor flaws.
    SynthVideo(VideoConfig),
    /// `orl`: 400 photographs of 40 people, fetched on first use.
    Orl,
    /// `mnist[:train|test]` fetched on first use, or `mnist:PATH[,train|test]`.
    Mnist {
        /// Folder of the idx files; the cache where there is none.
        folder: Option<PathBuf>,
        /// Which half.
        half: Half,
    },
    /// `mnist-rot[:PATH][,PART]` and `mnist-dil:[PATH,]PART`: digits turned, eroded or dilated.
    AlteredDigits {
        /// Folder of MNIST's idx files; the cache where there is none.
        folder: Option<PathBuf>,
        /// Which images and alterations.
        part: Part,
    },
    /// `fashion-mnist[:train|test]` where Debian's package puts it, or `fashion-mnist:PATH[,train|test]`.
    FashionMnist {
        /// Folder of the idx files; [`FASHION_FOLDER`] where there is none.
        folder: Option<PathBuf>,
        /// Which half.
        half: Half,
    },
    /// `folder:PATH`: image files, or an index of them.
    Folder(PathBuf),
    /// `NAME:PATH[,PART]`: a published set as its authors lay it out.
    Published {
        /// Which set.
        layout: &'static Layout,
        /// Where it is.
        folder: PathBuf,
        /// One of its parts.
        part: Option<&'static str>,
    },
    /// `hub:OWNER/NAME[,SPLIT]`: a parquet image set of the Hugging Face hub; cargo feature `hub`.
    Hub {
        /// `OWNER/NAME`.
        repo: String,
        /// Only the files of this split, as in `train`; all of them where there is none.
        split: Option<String>,
    },
    /// `parquet:PATH`: a parquet file of images, or a folder of such; cargo feature `parquet`.
    Parquet(PathBuf),
}

impl Spec {
    /// Opens the data set; `orl` and `mnist` are fetched where the cache has none.
    ///
    /// # Errors
    /// What the source says; a missing cargo feature is named.
    pub fn open(&self) -> Result<Arc<dyn Dataset>> {
        Ok(match self {
            Self::Synth(config) => Arc::new(Synthetic::new(*config)?),
            Self::SynthVideo(config) => Arc::new(Synthetic::new(*config)?),
            Self::Orl => Arc::new(Orl::open()?),
            Self::Mnist { folder, half } => {
                Arc::new(Mnist::open("mnist", &mnist_folder(folder)?, *half, &[])?)
            }
            Self::AlteredDigits { folder, part } => Arc::new(AlteredDigits::open(
                self.source(),
                &mnist_folder(folder)?,
                *part,
            )?),
            Self::FashionMnist { folder, half } => {
                let folder = folder.as_deref().unwrap_or(Path::new(FASHION_FOLDER));
                if !folder.is_dir() {
                    return Err(Error::missing(
                        "no such folder: install Debian's package dataset-fashion-mnist, or write fashion-mnist:PATH",
                    )
                    .at(folder));
                }
                Arc::new(Mnist::open(
                    "fashion-mnist",
                    folder,
                    *half,
                    &FASHION_CLASSES,
                )?)
            }
            Self::Folder(path) => Arc::new(Folder::open(path)?),
            Self::Published {
                layout,
                folder,
                part,
            } => layout.open(folder, *part)?,
            #[cfg(feature = "parquet")]
            Self::Hub { repo, split } => Arc::new(crate::hub::open_hub(repo, split.as_deref())?),
            #[cfg(not(feature = "parquet"))]
            Self::Hub { .. } => return Err(self.lacks("hub")),
            #[cfg(feature = "parquet")]
            Self::Parquet(path) => Arc::new(crate::parquet_images::ParquetImages::open(path)?),
            #[cfg(not(feature = "parquet"))]
            Self::Parquet(_) => return Err(self.lacks("parquet")),
        })
    }

    #[cfg(not(feature = "parquet"))]
    fn lacks(&self, feature: &str) -> Error {
        Error::new(ErrorKind::Feature(format!(
            "{self}: this build lacks the cargo feature `{feature}`: build with --features {feature}"
        )))
    }

    /// The name before the colon.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::Synth(_) => "synth",
            Self::SynthVideo(_) => "synth-video",
            Self::Orl => "orl",
            Self::Mnist { .. } => "mnist",
            Self::AlteredDigits { part, .. } if DILATED.iter().any(|(_, p)| p == part) => {
                "mnist-dil"
            }
            Self::AlteredDigits { .. } => "mnist-rot",
            Self::FashionMnist { .. } => "fashion-mnist",
            Self::Folder(_) => "folder",
            Self::Published { layout, .. } => layout.name,
            Self::Hub { .. } => "hub",
            Self::Parquet(_) => "parquet",
        }
    }
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let (name, rest) = text
            .split_once(':')
            .map_or((text, None), |(name, rest)| (name, Some(rest)));
        let argument = |what: &str| match rest {
            Some(rest) if !rest.is_empty() => Ok(rest),
            _ => Err(spec_error(format!("{name}: expected {name}:{what}"))),
        };
        match name {
            "synth" => synth_config(rest.unwrap_or("")).map(Self::Synth),
            "synth-video" => video_config(rest.unwrap_or("")).map(Self::SynthVideo),
            "orl" if rest.is_none() => Ok(Self::Orl),
            "orl" => Err(spec_error(format!("{text:?}: expected orl alone"))),
            "mnist" => digits(rest, &HALVES).map(|(folder, half)| Self::Mnist { folder, half }),
            "fashion-mnist" => {
                digits(rest, &HALVES).map(|(folder, half)| Self::FashionMnist { folder, half })
            }
            "mnist-rot" => {
                digits(rest, &ROTATED).map(|(folder, part)| Self::AlteredDigits { folder, part })
            }
            // There is no kernel that goes without saying.
            "mnist-dil" => match rest.and_then(|rest| digits(Some(rest), &DILATED).ok()) {
                Some((folder, part)) if text.ends_with(part.name()) => {
                    Ok(Self::AlteredDigits { folder, part })
                }
                _ => Err(spec_error(format!(
                    "{text:?}: expected mnist-dil:[PATH,]erode2|dilate2|dilate3|dilate4"
                ))),
            },
            "folder" => argument("PATH").map(|path| Self::Folder(path.into())),
            "parquet" => argument("PATH").map(|path| Self::Parquet(path.into())),
            "hub" => {
                let rest = argument("OWNER/NAME")?;
                let (repo, split) = rest
                    .split_once(',')
                    .map_or((rest, None), |(repo, split)| (repo, Some(split)));
                let plain = |s: &str| {
                    !s.is_empty()
                        && !s.starts_with('.')
                        && s.chars()
                            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
                };
                let parts: Vec<&str> = repo.split('/').collect();
                if parts.len() != 2
                    || !parts.iter().all(|part| plain(part))
                    || !split.is_none_or(plain)
                {
                    return Err(spec_error(format!(
                        "{text:?}: expected hub:OWNER/NAME[,SPLIT]"
                    )));
                }
                Ok(Self::Hub {
                    repo: repo.to_string(),
                    split: split.map(str::to_string),
                })
            }
            _ => match LAYOUTS.iter().find(|layout| layout.name == name) {
                Some(layout) => {
                    let parts = layout.parts.join("|");
                    let rest = argument(&if parts.is_empty() {
                        "PATH".to_string()
                    } else {
                        format!("PATH[,{parts}]")
                    })?;
                    let part = |end: &str| layout.parts.iter().copied().find(|part| *part == end);
                    let (folder, part) = match rest.rsplit_once(',') {
                        Some((path, end)) if part(end).is_some() => (path, part(end)),
                        _ => (rest, None),
                    };
                    Ok(Self::Published {
                        layout,
                        folder: folder.into(),
                        part,
                    })
                }
                None => {
                    let known: Vec<&str> = catalogue().iter().map(|source| source.name).collect();
                    Err(spec_error(format!(
                        "unknown data set {text:?}: expected one of {}; nearest is {:?}",
                        known.join(", "),
                        nearest(name, &known)
                    )))
                }
            },
        }
    }
}

pub(crate) fn spec_error(message: String) -> Error {
    Error::new(ErrorKind::Spec(message))
}

/// The known name that is spelled most alike.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> &'a str {
    let alike = |other: &str| (strsim::jaro_winkler(name, other) * 1e6) as i64;
    known
        .iter()
        .copied()
        .max_by_key(|other| alike(other))
        .unwrap_or("")
}

const HALVES: [(&str, Half); 2] = [("train", Half::Train), ("test", Half::Test)];

/// `[PATH][,PART]`; without a part the first one.
fn digits<T: Copy + Default>(
    rest: Option<&str>,
    parts: &[(&str, T)],
) -> Result<(Option<PathBuf>, T)> {
    let part = |text: &str| {
        parts
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, part)| *part)
    };
    let first = parts.first().map_or("", |(name, _)| name);
    let rest = rest.unwrap_or(first);
    if rest.is_empty() {
        let known: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        return Err(spec_error(format!(
            "expected {} or the path of a folder after the colon",
            known.join(", ")
        )));
    }
    if let Some(part) = part(rest) {
        return Ok((None, part));
    }
    match rest
        .rsplit_once(',')
        .and_then(|(path, end)| Some((path, part(end)?)))
    {
        Some((path, part)) => Ok((Some(path.into()), part)),
        None => Ok((Some(rest.into()), T::default())),
    }
}

fn mnist_folder(given: &Option<PathBuf>) -> Result<PathBuf> {
    given
        .as_ref()
        .map_or_else(|| crate::fetch("mnist"), |path| Ok(path.clone()))
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.source();
        match self {
            Self::Orl => f.write_str(name),
            Self::Synth(_) | Self::SynthVideo(_) => {
                let keys = match self {
                    Self::Synth(config) => synth_text(config),
                    Self::SynthVideo(config) => video_text(config),
                    _ => String::new(),
                };
                match keys.as_str() {
                    "" => f.write_str(name),
                    keys => write!(f, "{name}:{keys}"),
                }
            }
            Self::Mnist { folder, half } | Self::FashionMnist { folder, half } => match folder {
                Some(folder) => write!(f, "{name}:{},{}", folder.display(), half.name()),
                None => write!(f, "{name}:{}", half.name()),
            },
            Self::AlteredDigits { folder, part } => match folder {
                Some(folder) => write!(f, "{name}:{},{}", folder.display(), part.name()),
                None => write!(f, "{name}:{}", part.name()),
            },
            Self::Published { folder, part, .. } => match part {
                Some(part) => write!(f, "{name}:{},{part}", folder.display()),
                None => write!(f, "{name}:{}", folder.display()),
            },
            Self::Folder(path) | Self::Parquet(path) => {
                write!(f, "{name}:{}", path.display())
            }
            Self::Hub { repo, split: None } => write!(f, "{name}:{repo}"),
            Self::Hub {
                repo,
                split: Some(split),
            } => write!(f, "{name}:{repo},{split}"),
        }
    }
}

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_print_as_they_parse() {
        for text in [
            "synth",
            "synth:identities=5,size=32,first_identity=7,pose=0.5",
            "synth-video",
            "synth-video:sequences=9,frames=30,redundancy=0.9,lead=3,identities=5,size=32",
            "orl",
            "mnist:train",
            "mnist:test",
            "mnist:/data/my mnist,test",
            "mnist-rot:validation",
            "mnist-rot:/data/my mnist,65",
            "mnist-dil:dilate3",
            "mnist-dil:/data/x,erode2",
            "fashion-mnist:train",
            "folder:/a/b:c,d",
            "celeba:/data/celeba",
            "celeba:/data/celeba,validation",
            "yale-b:/data/CroppedYale",
            "300w:/data/300w,challenging",
            "bp4d:/data/bp4d,train",
            "hub:owner/name",
            "hub:owner/some.name-x,test",
            "parquet:faces/train.parquet",
        ] {
            let spec: Spec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec);
        }
        assert_eq!("mnist".parse::<Spec>().unwrap().to_string(), "mnist:train");
        assert_eq!(
            "mnist:x".parse::<Spec>().unwrap().to_string(),
            "mnist:x,train"
        );
        assert_eq!("synth:".parse::<Spec>().unwrap().to_string(), "synth");
    }

    #[test]
    fn mistakes_are_told_with_what_is_known() {
        let error = |text: &str| text.parse::<Spec>().unwrap_err().to_string();
        assert_eq!(
            error("foldr:x"),
            "unknown data set \"foldr:x\": expected one of synth, synth-video, orl, mnist, mnist-rot, mnist-dil, fashion-mnist, folder, hub, parquet, celeba, yale-b, 300w, wflw, cofw, aflw2000, 300w-lp, affectnet, disfa, bp4d; nearest is \
             \"folder\""
        );
        assert!(
            error("synth:identity=3").ends_with("nearest is \"identities\""),
            "{}",
            error("synth:identity=3")
        );
        assert!(error("synth:sise=3").ends_with("nearest is \"size\""));
        assert_eq!(
            error("synth:size=32,seed=1,size=64"),
            "synth: size is given twice, expected once"
        );
        assert_eq!(
            error("synth:size"),
            "synth: expected key=value, found \"size\""
        );
        assert_eq!(
            error("synth:size=big"),
            "synth: size: expected a whole number, found \"big\""
        );
        assert!(error("synth:size=3").starts_with("synth: "));
        assert_eq!(
            error("synth-video:redundancy=1.5"),
            "synth-video: rendered faces: redundancy is 1.5, expected 0 to 1"
        );
        assert!(error("synth-video:per_expression=3").contains("unknown key \"per_expression\""));
        assert_eq!(error("folder"), "folder: expected folder:PATH");
        assert_eq!(error("orl:x"), "\"orl:x\": expected orl alone");
        for text in [
            "hub:x",
            "hub:../x",
            "hub:a/b/c",
            "hub:a/b,",
            "hub:a/..",
            "mnist:",
            "mnist-rot:",
            "mnist-dil",
            "mnist-dil:/data",
            "",
        ] {
            assert!(text.parse::<Spec>().is_err(), "{text}");
        }
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn a_missing_feature_is_named() {
        let error = "hub:a/b".parse::<Spec>().unwrap().open().err().unwrap();
        assert_eq!(
            error.to_string(),
            "hub:a/b: this build lacks the cargo feature `hub`: build with --features hub"
        );
        assert!(matches!(error.kind(), ErrorKind::Feature(_)));
    }
}
