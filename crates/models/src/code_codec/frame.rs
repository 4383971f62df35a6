//! Pictures of any size for a model that wants whole codes.

use kiln_graph::Tensor;

use crate::Error;
use crate::image::Picture;

/// A picture whose last column and row are repeated until its sides are multiples of `factor`.
pub(super) fn padded(picture: &Picture, factor: usize) -> Result<Picture, Error> {
    let [height, width] = [picture.height, picture.width].map(|side| side.next_multiple_of(factor));
    let mut rgb = Vec::with_capacity(height * width * 3);
    let rows = picture.rgb.chunks_exact(picture.width * 3);
    for row in rows {
        rgb.extend_from_slice(row);
        let last = row.last_chunk::<3>().copied().unwrap_or_default();
        rgb.extend(last.repeat(width - picture.width));
    }
    let bottom = rgb[rgb.len().saturating_sub(width * 3)..].repeat(height - picture.height);
    rgb.extend(bottom);
    made(width, height, rgb)
}

/// The picture of an image `[1, height, width, 3]` in -1..1, without what is outside of `size`, its height and width.
pub(super) fn picture(image: &Tensor, [height, width]: [usize; 2]) -> Result<Picture, Error> {
    let pictures = Picture::from_images(image).map_err(|error| Error::Input(format!("an image {error}")))?;
    let Some(whole) = pictures.into_iter().next() else {
        return Err(Error::Input("the model gave no image".into()));
    };
    let rows = whole.rgb.chunks_exact(whole.width * 3).take(height);
    let rgb = rows.flat_map(|row| row.iter().take(width * 3)).copied().collect();
    made(width, height, rgb)
}

fn made(width: usize, height: usize, rgb: Vec<u8>) -> Result<Picture, Error> {
    Picture::new(width, height, rgb).map_err(|error| Error::Input(format!("a picture {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_repeated_and_cut_off_again() {
        let picture = Picture::new(3, 2, (0..18).collect()).unwrap();
        let whole = padded(&picture, 4).unwrap();
        let [first, second] =
            [[0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15, 16, 17, 15, 16, 17]];
        assert_eq!((whole.width, whole.height), (4, 4));
        assert_eq!(whole.rgb, [first, second, second, second].concat());
        assert_eq!(padded(&whole, 2).unwrap(), whole);
        assert_eq!(super::picture(&whole.to_image().unwrap(), [2, 3]).unwrap(), picture);
    }
}
