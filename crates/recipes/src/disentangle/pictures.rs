//! Pictures of what each part holds: parts swapped between images, parts moved from one image to another, reconstructions.

use candle::Tensor;
use phiz_data::{Column, Image, Transform, encode_png, load_images};
use phiz_disentangle::Codes;
use phiz_synth::grid;

use super::factors::FactorColumn;
use super::judge::Studio;
use super::material::{Part, sampled};
use crate::{Error, Result};

/// Images along a side of the swap grid.
const SIDE: usize = 7;
/// Pictures along an interpolation.
const STEPS: usize = 9;
/// Pixels a picture has at least on the page.
const SHOWN: usize = 56;

/// Images of a part with their codes and the codes of their factors.
pub(crate) struct Sitters {
    images: Vec<Image>,
    codes: Codes,
    s: Tensor,
}

impl Sitters {
    /// Images of different classes in turns, in states that training knew.
    pub fn new(studio: &Studio<'_>, part: &Part) -> Result<Option<Sitters>> {
        let config = &studio.run.config;
        let dataset = part.dataset.as_ref();
        let labels = dataset.labels().codes(&config.data.target)?;
        let has = |name: &str| dataset.labels().get(name).is_some();
        let factors = &studio.run.factors;
        if !factors.iter().all(|f| f.name.split('+').all(has)) {
            return Ok(None);
        }
        let known = known(factors, part)?;
        // First one of each class, then seconds: rows and columns show different people or digits.
        let mut seen = std::collections::BTreeMap::<u32, usize>::new();
        let mut ranked: Vec<(usize, usize)> = sampled(part.indices.len(), 5000)
            .into_iter()
            .filter(|&row| known[row])
            .map(|row| {
                let place = seen.entry(labels[part.indices[row]]).or_default();
                *place += 1;
                (*place, row)
            })
            .collect();
        ranked.sort_unstable();
        let chosen: Vec<usize> = ranked
            .into_iter()
            .take(2 * SIDE)
            .map(|(_, row)| part.indices[row])
            .collect();
        if chosen.len() < 2 * SIDE {
            return Ok(None);
        }
        let transform = Transform::new(config.image.size, config.image.size, config.image.channels);
        let tensor = load_images(dataset, &chosen, &transform, studio.device)?;
        let codes = studio.splitter.encode(&tensor)?;
        let s = semantic(&studio.run.factors, part, &chosen, &codes.d)?;
        Ok(Some(Sitters {
            images: to_images(&tensor)?,
            codes,
            s,
        }))
    }

    /// d from the row's image, s and l from the column's.
    pub fn swap_grid(&self, studio: &Studio<'_>) -> Result<Vec<u8>> {
        let rows: Vec<u32> = (0..SIDE as u32).collect();
        let columns: Vec<u32> = (SIDE as u32..2 * SIDE as u32).collect();
        let mut sheet = vec![blank(&self.images)?];
        for &column in &columns {
            sheet.push(self.image(column)?);
        }
        for &row in &rows {
            sheet.push(self.image(row)?);
            let d = self.pick(&self.codes.d, &[row; SIDE])?;
            let s = self.pick(&self.s, &columns)?;
            let l = self.pick(&self.codes.l, &columns)?;
            sheet.extend(to_images(&studio.splitter.decode(&d, &s, &l)?)?);
        }
        png(&sheet, SIDE + 1)
    }

    /// From one image to another in one part at a time (d, s, l), then in all.
    pub fn interpolation(&self, studio: &Studio<'_>) -> Result<Vec<u8>> {
        let mut sheet = Vec::new();
        let (from, to) = (0u32, SIDE as u32);
        for moving in ["d", "s", "l", "all"] {
            sheet.push(self.image(from)?);
            let part = |name: &str, codes: &Tensor| -> Result<Tensor> {
                let (a, b) = (self.pick(codes, &[from])?, self.pick(codes, &[to])?);
                let mut steps = Vec::new();
                for i in 0..STEPS {
                    let t = if moving == name || moving == "all" {
                        i as f64 / (STEPS - 1) as f64
                    } else {
                        0.
                    };
                    steps.push((a.affine(1. - t, 0.)? + b.affine(t, 0.)?)?);
                }
                Ok(Tensor::cat(&steps, 0)?)
            };
            let (d, s, l) = (
                part("d", &self.codes.d)?,
                part("s", &self.s)?,
                part("l", &self.codes.l)?,
            );
            sheet.extend(to_images(&studio.splitter.decode(&d, &s, &l)?)?);
            sheet.push(self.image(to)?);
        }
        png(&sheet, STEPS + 2)
    }

    /// Images above what is rebuilt from their own parts.
    pub fn reconstructions(&self, studio: &Studio<'_>) -> Result<Vec<u8>> {
        let own: Vec<u32> = (0..2 * SIDE as u32).collect();
        let mut sheet = self.images.clone();
        let (d, s, l) = (
            self.pick(&self.codes.d, &own)?,
            self.pick(&self.s, &own)?,
            self.pick(&self.codes.l, &own)?,
        );
        sheet.extend(to_images(&studio.splitter.decode(&d, &s, &l)?)?);
        png(&sheet, 2 * SIDE)
    }

    fn image(&self, at: u32) -> Result<Image> {
        let found = self.images.get(at as usize).cloned();
        found.ok_or_else(|| Error::config("no such picture"))
    }

    fn pick(&self, codes: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let rows = Tensor::from_slice(rows, rows.len(), codes.device())?;
        Ok(codes.index_select(&rows, 0)?)
    }
}

/// Which rows of a part have values of all factors that training knew.
fn known(factors: &[FactorColumn], part: &Part) -> Result<Vec<bool>> {
    let mut known = vec![true; part.indices.len()];
    for factor in factors {
        if let super::factors::FactorColumnValues::Categorical { names, .. } = &factor.values
            && let Some(Column::Categorical { .. }) = part.dataset.labels().get(&factor.name)
        {
            let codes = crate::source::class_targets(part.dataset.as_ref(), &factor.name, names)?;
            for (row, &i) in part.indices.iter().enumerate() {
                known[row] &= codes[i].is_some();
            }
        }
    }
    Ok(known)
}

fn semantic(
    factors: &[FactorColumn],
    part: &Part,
    indices: &[usize],
    like: &Tensor,
) -> Result<Tensor> {
    let parts = factors
        .iter()
        .map(|column| {
            let values = column.values(part.dataset.as_ref(), indices, like.device())?;
            let code = column.factor()?.code(&values, like.dtype())?;
            Ok(code.to_device(like.device())?)
        })
        .collect::<Result<Vec<Tensor>>>()?;
    Ok(Tensor::cat(&parts, 1)?)
}

/// Images (B, C, H, W) in [-1, 1] as bytes, small ones enlarged by whole factors.
fn to_images(tensor: &Tensor) -> Result<Vec<Image>> {
    let (count, channels, h, w) = tensor.dims4()?;
    let zoom = SHOWN.div_ceil(w).max(1);
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    (0..count)
        .map(|i| {
            let mut pixels = Vec::with_capacity(h * w * zoom * zoom * channels);
            for y in 0..h * zoom {
                for x in 0..w * zoom {
                    for c in 0..channels {
                        let at = ((i * channels + c) * h + y / zoom) * w + x / zoom;
                        let grey = (values[at] + 1.) * 127.5;
                        pixels.push(grey.round().clamp(0., 255.) as u8);
                    }
                }
            }
            Image::new(w * zoom, h * zoom, channels, pixels)
                .map_err(|error| Error::config(error.to_string()))
        })
        .collect()
}

fn blank(images: &[Image]) -> Result<Image> {
    let mut blank = images
        .first()
        .cloned()
        .ok_or_else(|| Error::config("no picture"))?;
    blank.pixels.fill(255);
    Ok(blank)
}

fn png(sheet: &[Image], columns: usize) -> Result<Vec<u8>> {
    let sheet = grid(sheet, columns).map_err(|error| Error::config(error.to_string()))?;
    Ok(encode_png(&sheet)?)
}
