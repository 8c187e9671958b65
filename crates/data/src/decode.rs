//! From bytes to an [`Image`] and back, within bounds.
//!
//! The format is told by the first bytes, never by the file's name. Sizes are checked before pixels
//! are allocated, and a JPEG that stops early is an error: decoders commonly fill the rest with grey,
//! which a network would then learn.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits,
};

use crate::error::one_line;
use crate::{Error, ErrorKind, Image, Result};

/// Largest image that is decoded, in pixels (64 Mpx, as 8192 x 8192).
pub const MAX_PIXELS: u64 = 64 << 20;

/// Largest image file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// Endings of the files that a folder scan takes for images, in lower case.
pub const EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "pgm", "ppm", "pnm", "pbm"];

/// Reads and decodes an image file: PNG, JPEG or PNM (PGM, PPM, PBM). The result has one channel for
/// grey files and three (RGB) for all others; alpha is dropped, 16 bits become 8, and orientation marks
/// of cameras are not applied.
///
/// # Errors
/// Names the file; says what is wrong with it: empty, not an image, truncated, larger than
/// [`MAX_FILE_BYTES`] or [`MAX_PIXELS`].
pub fn read_image(path: &Path) -> Result<Image> {
    let file = File::open(path).map_err(|e| Error::io("cannot read", path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("cannot read", path, e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!(
            "larger than {} MiB, the limit for one image file",
            MAX_FILE_BYTES >> 20
        );
        return Err(Error::new(ErrorKind::TooLarge(message)).at(path));
    }
    decode_image(&bytes).map_err(|error| error.at(path))
}

/// Decodes an image from its bytes, as [`read_image`] does.
///
/// # Errors
/// When the bytes are empty, no known format, damaged, or declare more than [`MAX_PIXELS`].
pub fn decode_image(bytes: &[u8]) -> Result<Image> {
    if bytes.is_empty() {
        return Err(Error::new(ErrorKind::Empty(
            "empty file, expected a PNG, JPEG or PNM image".into(),
        )));
    }
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| Error::format(one_line(&e.to_string())))?;
    let name = match reader.format() {
        Some(ImageFormat::Png) => "PNG",
        Some(ImageFormat::Jpeg) => "JPEG",
        Some(ImageFormat::Pnm) => "PNM",
        _ => {
            let start: Vec<String> = bytes
                .iter()
                .take(4)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            return Err(Error::format(format!(
                "not a PNG, JPEG or PNM image (starts with bytes {})",
                start.join(" ")
            )));
        }
    };
    let damaged = |error: image::ImageError| {
        Error::format(format!("damaged {name}: {}", one_line(&error.to_string())))
    };
    let mut reader = reader;
    // Scratch of the decoders; the pixel check below is the exact one.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_PIXELS * 8);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::new(ErrorKind::TooLarge(format!(
            "{width} x {height} pixels, the limit is {MAX_PIXELS} in all"
        ))));
    }
    if width == 0 || height == 0 {
        return Err(Error::format(format!(
            "{name} of {width} x {height} pixels"
        )));
    }
    if name == "JPEG" && !jpeg_is_complete(bytes) {
        return Err(Error::format("truncated JPEG: no end-of-image marker"));
    }
    let decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let grey = matches!(
        decoded,
        DynamicImage::ImageLuma8(_)
            | DynamicImage::ImageLuma16(_)
            | DynamicImage::ImageLumaA8(_)
            | DynamicImage::ImageLumaA16(_)
    );
    let (channels, pixels) = if grey {
        (1, decoded.into_luma8().into_raw())
    } else {
        (3, decoded.into_rgb8().into_raw())
    };
    Ok(Image {
        width: width as usize,
        height: height as usize,
        channels,
        pixels,
    })
}

/// Whether the marker segments of a JPEG lead to its end-of-image marker. Segments are skipped by their
/// length, so that the end marker of a thumbnail inside one does not count.
#[must_use]
pub fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2; // past start-of-image
    while let Some(&byte) = bytes.get(at) {
        if byte != 0xFF {
            at += 1; // entropy-coded data
            continue;
        }
        match bytes.get(at + 1) {
            Some(0xD9) => return true,
            // A stuffed zero, a restart marker or a start without a length.
            Some(0x00 | 0x01 | 0xD0..=0xD8) => at += 2,
            Some(0xFF) => at += 1, // fill
            Some(_) => {
                let (Some(&high), Some(&low)) = (bytes.get(at + 2), bytes.get(at + 3)) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
            None => return false,
        }
    }
    false
}

/// Encodes an image as PNG, grey or RGB by its channels.
///
/// # Errors
/// When the image is inconsistent or has neither one nor three channels.
pub fn encode_png(image: &Image) -> Result<Vec<u8>> {
    check_image(image)?;
    let color = if image.channels == 1 {
        ExtendedColorType::L8
    } else {
        ExtendedColorType::Rgb8
    };
    let (Ok(width), Ok(height)) = (u32::try_from(image.width), u32::try_from(image.height)) else {
        return Err(Error::new(ErrorKind::TooLarge(format!(
            "{} x {} pixels",
            image.width, image.height
        ))));
    };
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(&image.pixels, width, height, color)
        .map_err(|e| Error::format(one_line(&e.to_string())))?;
    Ok(bytes)
}

/// An image that says of itself what is true: 1 or 3 channels, not empty, as many bytes as declared.
pub(crate) fn check_image(image: &Image) -> Result<()> {
    let Image {
        width,
        height,
        channels,
        pixels,
    } = image;
    let expected = width
        .checked_mul(*height)
        .and_then(|n| n.checked_mul(*channels));
    if !matches!(channels, 1 | 3) || pixels.is_empty() || expected != Some(pixels.len()) {
        return Err(Error::format(format!(
            "expected an image of 1 or 3 channels with width x height x channels bytes, found {width} x {height} x \
             {channels} with {}",
            pixels.len()
        )));
    }
    Ok(())
}

/// Brightness of an RGB pixel in thousandths of a grey level (ITU-R BT.601: .299 R + .587 G + .114 B).
/// Whole numbers, so that sums over many images do not depend on their order.
pub(crate) fn luma_thousandths(r: u8, g: u8, b: u8) -> u64 {
    299 * u64::from(r) + 587 * u64::from(g) + 114 * u64::from(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(channels: usize) -> Image {
        let (width, height) = (31, 17);
        let pixels = (0..width * height * channels)
            .map(|i| (i * 7 % 251) as u8)
            .collect();
        Image {
            width,
            height,
            channels,
            pixels,
        }
    }

    fn jpeg(image: &Image) -> Vec<u8> {
        let color = if image.channels == 1 {
            ExtendedColorType::L8
        } else {
            ExtendedColorType::Rgb8
        };
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut bytes)
            .write_image(
                &image.pixels,
                image.width as u32,
                image.height as u32,
                color,
            )
            .unwrap();
        bytes
    }

    #[test]
    fn png_and_pnm_round_trip() {
        for channels in [1, 3] {
            let image = picture(channels);
            let back = decode_image(&encode_png(&image).unwrap()).unwrap();
            assert_eq!((back.width, back.height, back.channels), (31, 17, channels));
            assert_eq!(back.pixels, image.pixels);
            let mut pnm =
                format!("P{}\n31 17\n255\n", if channels == 1 { 5 } else { 6 }).into_bytes();
            pnm.extend(&image.pixels);
            assert_eq!(decode_image(&pnm).unwrap().pixels, image.pixels);
        }
    }

    #[test]
    fn every_cut_of_a_jpeg_is_an_error() {
        for channels in [1, 3] {
            let bytes = jpeg(&picture(channels));
            assert_eq!(decode_image(&bytes).unwrap().channels, channels);
            for cut in 3..bytes.len() {
                assert!(
                    decode_image(&bytes[..cut]).is_err(),
                    "cut at {cut} of {}",
                    bytes.len()
                );
            }
            let error = decode_image(&bytes[..bytes.len() * 3 / 4])
                .unwrap_err()
                .to_string();
            assert_eq!(error, "truncated JPEG: no end-of-image marker");
        }
    }

    #[test]
    fn an_end_marker_inside_a_segment_does_not_count() {
        let bytes = jpeg(&picture(3));
        // An application segment that holds a whole other JPEG, as cameras write thumbnails.
        let thumbnail = jpeg(&picture(1));
        let mut with = vec![0xFF, 0xD8, 0xFF, 0xE1];
        with.extend(u16::try_from(thumbnail.len() + 2).unwrap().to_be_bytes());
        with.extend(&thumbnail);
        with.extend(&bytes[2..]);
        assert!(jpeg_is_complete(&with));
        assert!(!jpeg_is_complete(&with[..with.len() - 40]));
    }

    #[test]
    fn every_cut_of_a_png_is_an_error_and_so_is_text() {
        let bytes = encode_png(&picture(3)).unwrap();
        // The last 12 bytes are the empty end chunk: without them all pixels are there.
        for cut in 0..bytes.len() - 16 {
            assert!(decode_image(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let error = decode_image(b"hello, I am text").unwrap_err().to_string();
        assert_eq!(
            error,
            "not a PNG, JPEG or PNM image (starts with bytes 68 65 6c 6c)"
        );
    }

    #[test]
    fn huge_dimensions_are_refused_before_allocation() {
        let error = decode_image(b"P5\n100000 100000\n255\nxx").unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::TooLarge(_) | ErrorKind::Format(_)),
            "{error}"
        );
        assert!(decode_image(b"P5\n4294967295 4294967295\n255\nxx").is_err());
        assert!(decode_image(b"P6\n8000 8000\n255\nxx").is_err());
    }

    #[test]
    fn inconsistent_images_are_refused() {
        let mut image = picture(1);
        image.pixels.pop();
        assert!(encode_png(&image).is_err());
        image.channels = 2;
        assert!(encode_png(&image).is_err());
    }
}
