//! Which digit a picture of one shows, as the bundled classifier reads it.
//!
//! It is read as `examples/models/digits-vqgan/reader.py` reads.

use kiln::models::image::Picture;

use super::things::{ink, thing};

/// A picture as the classifier knows them, light ink on black: the lightest of each pixel's channels.
pub fn light(picture: &Picture) -> Picture {
    let lightest = |pixel: &[u8]| [pixel.iter().copied().max().unwrap_or(0); 3];
    let rgb = picture.rgb.chunks_exact(3).flat_map(lightest).collect();
    Picture { rgb, ..picture.clone() }
}

/// Whether a picture shows its class, such as `red 3`, given what the classifier calls it.
pub fn shows(picture: &Picture, class: &str, label: &str) -> bool {
    let whole = [0.0, 0.0, picture.width as f32, picture.height as f32];
    thing(&format!("a {class}"))
        .is_some_and(|(colour, digit)| digit == label && colour == ink(picture, whole))
}
