//! Codes of images under trained networks.

use candle::Device;
use phiz_data::{Transform, load_images};
use phiz_eval::Rows;

use super::config::DisentangleConfig;
use super::material::Part;
use super::model::Splitter;
use crate::Result;

/// Images encoded at once.
const BATCH: usize = 250;

/// Codes of a part's images, and the classes read from d.
pub(crate) struct PartCodes {
    pub d: Vec<f32>,
    pub l: Vec<f32>,
    pub predicted: Vec<u32>,
}

/// Encodes every image of a part.
pub(crate) fn encode(
    config: &DisentangleConfig,
    splitter: &Splitter,
    part: &Part,
    device: &Device,
) -> Result<PartCodes> {
    let transform = Transform::new(config.image.size, config.image.size, config.image.channels);
    let mut codes = PartCodes {
        d: Vec::with_capacity(part.indices.len() * config.model.d_dim),
        l: Vec::with_capacity(part.indices.len() * config.model.l_dim),
        predicted: Vec::with_capacity(part.indices.len()),
    };
    for chunk in part.indices.chunks(BATCH) {
        let images = load_images(part.dataset.as_ref(), chunk, &transform, device)?;
        let found = splitter.encode(&images)?;
        let logits = splitter.classify(&found.d)?;
        codes.d.extend(found.d.flatten_all()?.to_vec1::<f32>()?);
        codes.l.extend(found.l.flatten_all()?.to_vec1::<f32>()?);
        codes.predicted.extend(logits.argmax(1)?.to_vec1::<u32>()?);
    }
    Ok(codes)
}

/// The chosen rows of codes with `dim` columns.
pub(crate) fn rows(codes: &[f32], dim: usize, chosen: &[usize]) -> Result<Rows> {
    let values = chosen
        .iter()
        .flat_map(|&row| &codes[row * dim..(row + 1) * dim])
        .map(|&v| f64::from(v))
        .collect();
    Ok(Rows::new(values, dim)?)
}
