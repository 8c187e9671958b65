//! `synth:key=value,...` and `synth-video:key=value,...`: the settings of the renderer as text.

use std::collections::BTreeSet;
use std::str::FromStr;

use phiz_synth::{FactorName, Flaws, SynthConfig, VideoConfig};

use crate::Result;
use crate::error::one_line;
use crate::spec::{nearest, spec_error};

/// A setting of the renderer under its name in a specification.
enum Setting<'a> {
    Size(&'a mut usize),
    Seed(&'a mut u64),
    Number(&'a mut u32),
    Strength(&'a mut f32),
    Flag(&'a mut bool),
    Factor(&'a mut Option<FactorName>),
}

type Settings<'a> = Vec<(&'static str, Setting<'a>)>;

/// Every key of `synth:`, in the order they are printed.
fn still(config: &mut SynthConfig) -> Settings<'_> {
    // Without `..`: a new field of the renderer shows itself here.
    let SynthConfig {
        identities,
        per_expression,
        expressions_per_identity,
        size,
        seed,
        first_identity,
        first_take,
        identity_strength,
        expression_strength,
        pose,
        light,
        noise,
        blur,
        jitter,
        glasses,
        background,
        makeup,
        disguise,
        lighting,
        occlusion,
        low_resolution,
        jpeg,
        contempt,
        mixture,
        flaws,
    } = config;
    let Flaws {
        imbalance,
        identity_noise,
        expression_noise,
        duplicates,
        correlation,
        cause,
        effect,
    } = flaws;
    vec![
        ("identities", Setting::Size(identities)),
        ("per_expression", Setting::Size(per_expression)),
        (
            "expressions_per_identity",
            Setting::Size(expressions_per_identity),
        ),
        ("size", Setting::Size(size)),
        ("seed", Setting::Seed(seed)),
        ("first_identity", Setting::Number(first_identity)),
        ("first_take", Setting::Number(first_take)),
        ("identity_strength", Setting::Strength(identity_strength)),
        (
            "expression_strength",
            Setting::Strength(expression_strength),
        ),
        ("pose", Setting::Strength(pose)),
        ("light", Setting::Strength(light)),
        ("noise", Setting::Strength(noise)),
        ("blur", Setting::Strength(blur)),
        ("jitter", Setting::Strength(jitter)),
        ("glasses", Setting::Strength(glasses)),
        ("background", Setting::Strength(background)),
        ("makeup", Setting::Strength(makeup)),
        ("disguise", Setting::Strength(disguise)),
        ("lighting", Setting::Strength(lighting)),
        ("occlusion", Setting::Strength(occlusion)),
        ("low_resolution", Setting::Strength(low_resolution)),
        ("jpeg", Setting::Strength(jpeg)),
        ("contempt", Setting::Flag(contempt)),
        ("mixture", Setting::Strength(mixture)),
        ("imbalance", Setting::Strength(imbalance)),
        ("identity_noise", Setting::Strength(identity_noise)),
        ("expression_noise", Setting::Strength(expression_noise)),
        ("duplicates", Setting::Strength(duplicates)),
        ("correlation", Setting::Strength(correlation)),
        ("cause", Setting::Factor(cause)),
        ("effect", Setting::Factor(effect)),
    ]
}

impl Setting<'_> {
    fn set(self, text: &str) -> bool {
        fn parsed<T: FromStr>(slot: &mut T, text: &str) -> bool {
            text.parse().map(|value| *slot = value).is_ok()
        }
        match self {
            Self::Size(slot) => parsed(slot, text),
            Self::Seed(slot) => parsed(slot, text),
            Self::Number(slot) => parsed(slot, text),
            Self::Strength(slot) => parsed(slot, text),
            Self::Flag(slot) => parsed(slot, text),
            Self::Factor(slot) => text.parse().map(|name| *slot = Some(name)).is_ok(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Size(value) => value.to_string(),
            Self::Seed(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Strength(value) => value.to_string(),
            Self::Flag(value) => value.to_string(),
            Self::Factor(value) => value.map_or(String::new(), |name| name.to_string()),
        }
    }
}

/// Keys of `synth:` that mean nothing in sequences: their pictures are counted by `sequences` and `frames`, and their
/// labels are right.
const STILL_ALONE: [&str; 10] = [
    "per_expression",
    "first_take",
    "expressions_per_identity",
    "imbalance",
    "identity_noise",
    "expression_noise",
    "duplicates",
    "correlation",
    "cause",
    "effect",
];

/// Every key of `synth-video:`, in the order they are printed.
fn moving(config: &mut VideoConfig) -> Settings<'_> {
    let VideoConfig {
        faces,
        sequences,
        frames,
        rate,
        redundancy,
        talking,
        motion,
        lead,
    } = config;
    let mut all = vec![
        ("sequences", Setting::Size(sequences)),
        ("frames", Setting::Size(frames)),
        ("rate", Setting::Strength(rate)),
        ("redundancy", Setting::Strength(redundancy)),
        ("talking", Setting::Strength(talking)),
        ("motion", Setting::Strength(motion)),
        ("lead", Setting::Strength(lead)),
    ];
    let mut faces = still(faces);
    faces.retain(|(name, _)| !STILL_ALONE.contains(name));
    all.append(&mut faces);
    all
}

fn names(settings: Settings<'_>) -> Vec<&'static str> {
    settings.into_iter().map(|(name, _)| name).collect()
}

/// The keys that `synth:` takes.
#[must_use]
pub fn synth_keys() -> Vec<&'static str> {
    names(still(&mut SynthConfig::default()))
}

/// The keys that `synth-video:` takes: its own seven, and those of `synth:` but for counts and flaws.
#[must_use]
pub fn synth_video_keys() -> Vec<&'static str> {
    names(moving(&mut VideoConfig::default()))
}

/// Reads what stands after `synth:`.
///
/// # Errors
/// Names the key that is unknown, has no value or a wrong one.
pub(crate) fn synth_config(text: &str) -> Result<SynthConfig> {
    let config: SynthConfig = read("synth", text, still)?;
    checked("synth", config.validate()).map(|()| config)
}

/// Reads what stands after `synth-video:`.
///
/// # Errors
/// Names the key that is unknown, has no value or a wrong one.
pub(crate) fn video_config(text: &str) -> Result<VideoConfig> {
    let config: VideoConfig = read("synth-video", text, moving)?;
    checked("synth-video", config.validate()).map(|()| config)
}

fn checked(source: &str, found: std::result::Result<(), phiz_synth::Error>) -> Result<()> {
    found.map_err(|e| spec_error(format!("{source}: {}", one_line(&e.to_string()))))
}

fn read<C: Default>(source: &str, text: &str, settings: fn(&mut C) -> Settings<'_>) -> Result<C> {
    let mut config = C::default();
    let mut given = BTreeSet::new();
    for pair in text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let Some((key, value)) = pair
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
        else {
            return Err(spec_error(format!(
                "{source}: expected key=value, found {pair:?}"
            )));
        };
        if !given.insert(key) {
            return Err(spec_error(format!(
                "{source}: {key} is given twice, expected once"
            )));
        }
        let Some((_, setting)) = settings(&mut config)
            .into_iter()
            .find(|(name, _)| *name == key)
        else {
            let known = names(settings(&mut config));
            return Err(spec_error(format!(
                "{source}: unknown key {key:?}: expected one of {}; nearest is {:?}",
                known.join(", "),
                nearest(key, &known)
            )));
        };
        let expected = match setting {
            Setting::Strength(_) => "a number",
            Setting::Flag(_) => "true or false",
            Setting::Factor(_) => "the name of a factor, identity or expression",
            _ => "a whole number",
        };
        if !setting.set(value) {
            return Err(spec_error(format!(
                "{source}: {key}: expected {expected}, found {value:?}"
            )));
        }
    }
    Ok(config)
}

/// The settings that are not the usual ones, as [`synth_config`] reads them.
pub(crate) fn synth_text(config: &SynthConfig) -> String {
    unusual(*config, still)
}

/// The settings that are not the usual ones, as [`video_config`] reads them.
pub(crate) fn video_text(config: &VideoConfig) -> String {
    unusual(*config, moving)
}

fn unusual<C: Default>(mut config: C, settings: fn(&mut C) -> Settings<'_>) -> String {
    let mut default = C::default();
    let pairs: Vec<String> = settings(&mut config)
        .iter()
        .zip(settings(&mut default))
        .filter(|((_, value), (_, usual))| value.text() != usual.text())
        .map(|((key, value), _)| format!("{key}={}", value.text()))
        .collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, Synthetic};

    /// A value other than the usual one.
    fn other(key: &str) -> &'static str {
        match key {
            "sequences" => "5",
            "frames" => "5",
            "rate" => "10",
            "redundancy" | "low_resolution" | "identity_strength" => "0.5",
            "identities" => "3",
            "size" => "32",
            "seed" => "9",
            "first_identity" => "77",
            "contempt" => "true",
            "motion" | "pose" | "light" | "expression_strength" => "1.7",
            "noise" | "blur" | "jitter" => "2",
            "background" => "0",
            _ => "1",
        }
    }

    /// Names, sizes and pixels of all there is.
    fn drawn(text: &str) -> Vec<(String, Vec<u8>)> {
        let set = Synthetic::new(video_config(text).unwrap()).unwrap();
        let draw = |i| (set.sample_id(i), set.image(i).unwrap().pixels);
        (0..set.len()).map(draw).collect()
    }

    #[test]
    fn every_key_of_sequences_changes_what_is_drawn() {
        let base = "sequences=16,frames=2,rate=2,size=24,identities=4,talking=0,lead=2,noise=1,blur=1,jitter=1";
        let known = drawn(base);
        for key in synth_video_keys() {
            // A key is given once.
            let kept = base
                .split(',')
                .filter(|pair| !pair.starts_with(&format!("{key}=")));
            let text: Vec<&str> = kept.collect();
            let changed = drawn(&format!("{},{key}={}", text.join(","), other(key)));
            assert!(changed != known, "{key} changes nothing");
        }
    }
}
