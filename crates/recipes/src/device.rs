//! Where to compute: from the word a person types to a candle device.

use candle::Device;

use crate::{Error, Result};

/// Opens `cpu`, `cuda`, `cuda:N` or `metal`.
///
/// # Errors
/// When the word is none of these, the build lacks the feature the device needs (the message
/// names it), or the device is not there.
pub fn open_device(name: &str) -> Result<Device> {
    let (kind, ordinal) = match name.split_once(':') {
        Some((kind, number)) => {
            let ordinal = number.parse::<usize>().map_err(|_| {
                Error::device(format!(
                    "device `{name}`: expected a number after `{kind}:`"
                ))
            })?;
            (kind, ordinal)
        }
        None => (name, 0),
    };
    let missing = |feature: &str| {
        Error::device(format!(
            "device `{name}`: this build has no {feature} support; build with the `{feature}` feature: \
             cargo run --release --package xtask --features {feature} -- ..."
        ))
    };
    match kind {
        "cpu" if !name.contains(':') => Ok(Device::Cpu),
        "cuda" if !candle::utils::cuda_is_available() => Err(missing("cuda")),
        "cuda" => Device::new_cuda(ordinal)
            .map_err(|error| Error::device(format!("device `{name}`: {}", first_line(&error)))),
        "metal" if !candle::utils::metal_is_available() => Err(missing("metal")),
        "metal" => Device::new_metal(ordinal)
            .map_err(|error| Error::device(format!("device `{name}`: {}", first_line(&error)))),
        _ => Err(Error::device(format!(
            "unknown device `{name}`; expected cpu, cuda, cuda:N or metal"
        ))),
    }
}

fn first_line(error: &candle::Error) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_feature_a_device_needs() {
        assert!(open_device("cpu").unwrap().is_cpu());
        if !candle::utils::cuda_is_available() {
            let error = open_device("cuda:0").unwrap_err().to_string();
            assert!(error.contains("`cuda` feature"), "{error}");
        }
        for bad in ["gpu", "cuda:x", "cpu:0", ""] {
            assert!(open_device(bad).is_err(), "{bad}");
        }
    }
}
