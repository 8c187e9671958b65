//! Eight-bit images in memory, and contact sheets of them.

use crate::error::{Error, ErrorKind};

/// An eight-bit image, rows from the top, channels interleaved (height, width, channel).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Channels a pixel: 1 grey, 3 RGB (2 and 4 with alpha).
    pub channels: usize,
    /// `height * width * channels` bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// An image over given bytes.
    ///
    /// # Errors
    /// When a side is empty, the channels are not 1 to 4, or the bytes are not exactly
    /// `width * height * channels`.
    pub fn new(
        width: usize,
        height: usize,
        channels: usize,
        pixels: Vec<u8>,
    ) -> Result<Self, Error> {
        let want = width
            .checked_mul(height)
            .and_then(|n| n.checked_mul(channels));
        if width == 0 || height == 0 || !(1..=4).contains(&channels) || want != Some(pixels.len()) {
            return Err(Error::new(ErrorKind::Pixels {
                width,
                height,
                channels,
                found: pixels.len(),
            }));
        }
        Ok(Self {
            width,
            height,
            channels,
            pixels,
        })
    }

    /// The channels of the pixel at column `x`, row `y`; `None` outside the image.
    #[must_use]
    pub fn pixel(&self, x: usize, y: usize) -> Option<&[u8]> {
        if x >= self.width || y >= self.height {
            return None;
        }
        let at = (y * self.width + x) * self.channels;
        self.pixels.get(at..at + self.channels)
    }
}

/// A contact sheet: the images row by row, `columns` a row, two pixels of white between them.
/// Missing places in the last row stay white.
///
/// # Errors
/// When there are no images or columns, or the images differ in size or channels.
pub fn grid(images: &[Image], columns: usize) -> Result<Image, Error> {
    const GAP: usize = 2;
    let Some(first) = images.first() else {
        return Err(Error::range("images", 0.0, "at least one image"));
    };
    if columns == 0 {
        return Err(Error::range("columns", 0.0, "at least one column"));
    }
    let columns = columns.min(images.len());
    let (w, h, c) = (first.width, first.height, first.channels);
    for (position, image) in images.iter().enumerate() {
        if (image.width, image.height, image.channels) != (w, h, c) {
            return Err(Error::new(ErrorKind::MixedImages { position }));
        }
        // The fields are public, so the bytes may have been changed since the image was checked.
        if image.pixels.len() != w * h * c {
            return Err(Error::new(ErrorKind::Pixels {
                width: w,
                height: h,
                channels: c,
                found: image.pixels.len(),
            }));
        }
    }
    let rows = images.len().div_ceil(columns);
    let width = columns * (w + GAP) + GAP;
    let height = rows * (h + GAP) + GAP;
    let mut pixels = vec![255u8; width * height * c];
    for (k, image) in images.iter().enumerate() {
        let left = (k % columns) * (w + GAP) + GAP;
        let top = (k / columns) * (h + GAP) + GAP;
        for (y, row) in image.pixels.chunks_exact(w * c).enumerate() {
            let at = ((top + y) * width + left) * c;
            pixels[at..at + w * c].copy_from_slice(row);
        }
    }
    Image::new(width, height, c, pixels)
}
