//! PNG files that say what they show.

use anyhow::{Context, Result};
use kiln::models::image::Picture;

/// A picture as a PNG file with its parameters: a `tEXt` chunk where they are Latin-1, as older tools want it, else `iTXt`.
pub fn with_text(picture: &Picture, parameters: &str) -> Result<Vec<u8>> {
    const KEY: &str = "parameters";
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let latin = parameters.chars().all(|c| u32::from(c) < 256 && c != '\0');
    if latin {
        encoder.add_text_chunk(KEY.into(), parameters.into())
    } else {
        encoder.add_itxt_chunk(KEY.into(), parameters.into())
    }
    .context("the parameters do not fit a PNG file")?;
    let mut writer = encoder.write_header().context("the picture does not fit a PNG file")?;
    writer.write_image_data(&picture.rgb).context("the picture does not fit a PNG file")?;
    writer.finish().context("the picture does not fit a PNG file")?;
    Ok(bytes)
}
