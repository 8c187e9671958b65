//! Writes the contact sheet, one row a factor: `sheet FILE.png [SIZE [SEED]]`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("expected FILE.png [SIZE [SEED]]")?;
    let size = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let seed = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let sheet = phiz_synth::sheet(seed, size)?;
    let (w, h) = (u32::try_from(sheet.width)?, u32::try_from(sheet.height)?);
    image::save_buffer(path, &sheet.pixels, w, h, image::ColorType::Rgb8)?;
    Ok(())
}
