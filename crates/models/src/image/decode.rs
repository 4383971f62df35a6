//! Picture files.

use std::io::{BufRead, Cursor, Seek};

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, metadata::Orientation};
use kiln_graph::{LengthError, Tensor};

/// A picture of 8-bit RGB pixels, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green, blue; `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

/// A picture that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// It is no picture of a known format, or it is damaged.
    #[error("cannot be decoded: {0}")]
    Decode(String),
    /// It has more pixels than are decoded.
    #[error("has {width} x {height} pixels, and at most {max} in all are decoded", max = Picture::MAX_PIXELS)]
    TooLarge {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// It has no pixels.
    #[error("has no pixels")]
    Empty,
}

impl Picture {
    /// Pixels above which a picture is refused: about ten times what cameras make.
    pub const MAX_PIXELS: u64 = 1 << 29;

    /// A picture of pixels, which must fill it.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, PictureError> {
        if width * height == 0 {
            return Err(PictureError::Empty);
        }
        if rgb.len() != width * height * 3 {
            let (have, want) = (rgb.len(), width * height * 3);
            return Err(PictureError::Decode(format!("{have} bytes do not fill {want}")));
        }
        Ok(Self { width, height, rgb })
    }

    /// Decodes a file's bytes: PNG, JPEG, WebP, GIF's first frame, BMP, TIFF, PNM. Grey, palette, 16-bit and CMYK become
    /// 8-bit RGB, alpha is dropped as PIL's `convert("RGB")` drops it, and EXIF's rotation is applied.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        Self::read(Cursor::new(bytes))
    }

    /// Decodes from a reader; see [`Picture::decode`].
    pub fn read(reader: impl BufRead + Seek) -> Result<Self, PictureError> {
        let wrong = |error: image::ImageError| PictureError::Decode(error.to_string());
        let mut reader = ImageReader::new(reader)
            .with_guessed_format()
            .map_err(|error| PictureError::Decode(error.to_string()))?;
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(Self::MAX_PIXELS * 8);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(wrong)?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > Self::MAX_PIXELS {
            return Err(PictureError::TooLarge { width, height });
        }
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(wrong)?;
        image.apply_orientation(orientation);
        let rgb = image.into_rgb8();
        Self::new(rgb.width() as usize, rgb.height() as usize, rgb.into_raw())
    }

    /// The picture as an image `[1, height, width, 3]` in -1..1, as autoencoders take it.
    pub fn to_image(&self) -> Result<Tensor, LengthError> {
        let values = self.rgb.iter().map(|&value| f32::from(value) / 255.0 * 2.0 - 1.0).collect();
        Tensor::f32([1, self.height, self.width, 3], values)
    }

    /// Pictures of images `[batch, height, width, 3]` in -1..1, as autoencoders give them; what lies outside is clipped.
    pub fn from_images(images: &Tensor) -> Result<Vec<Self>, PictureError> {
        let &[_, height, width, 3] = images.shape() else {
            return Err(PictureError::Decode(format!("{} are no RGB images", images.desc())));
        };
        // As diffusers rounds: halves to the even number.
        let byte = |value: &f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        let values = images.to_f32();
        let each = values.chunks_exact((height * width * 3).max(1));
        each.map(|values| Self::new(width, height, values.iter().map(byte).collect())).collect()
    }

    /// The picture as a PNG file's bytes.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        use image::ImageEncoder;
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&self.rgb, self.width as u32, self.height as u32, image::ExtendedColorType::Rgb8)
            .map_err(|error| PictureError::Decode(error.to_string()))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, ImageFormat, Luma, LumaA, Rgba};

    fn png(image: DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn grey_16_bit_and_alpha_become_rgb() {
        let grey = png(DynamicImage::ImageLuma8(ImageBuffer::from_pixel(3, 2, Luma([77]))));
        assert_eq!(Picture::decode(&grey).unwrap().rgb, vec![77; 18]);
        let deep = png(DynamicImage::ImageLuma16(ImageBuffer::from_pixel(2, 2, Luma([0x8080]))));
        assert_eq!(Picture::decode(&deep).unwrap().rgb, vec![0x80; 12]);
        let alpha = png(DynamicImage::ImageRgba8(ImageBuffer::from_pixel(1, 1, Rgba([9, 8, 7, 0]))));
        assert_eq!(Picture::decode(&alpha).unwrap().rgb, vec![9, 8, 7]);
        let both = png(DynamicImage::ImageLumaA8(ImageBuffer::from_pixel(1, 1, LumaA([5, 128]))));
        assert_eq!(Picture::decode(&both).unwrap().rgb, vec![5, 5, 5]);
    }

    #[test]
    fn damaged_files_are_refused_at_every_length() {
        let whole = png(DynamicImage::ImageLuma8(ImageBuffer::from_fn(16, 16, |x, y| Luma([(x * y) as u8]))));
        assert!(Picture::decode(&[]).is_err());
        assert!(Picture::decode(b"not a picture").is_err());
        // The last twelve bytes are the end marker, which decoders do without.
        for len in 0..whole.len() - 16 {
            assert!(Picture::decode(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
        }
    }

    #[test]
    fn a_claim_of_too_many_pixels_is_refused_before_memory_is_taken() {
        // A BMP header that claims 60000 x 60000 pixels.
        let mut bmp = b"BM".to_vec();
        bmp.extend(100u32.to_le_bytes());
        bmp.extend([0; 4]);
        bmp.extend(54u32.to_le_bytes());
        bmp.extend(40u32.to_le_bytes());
        bmp.extend(60_000u32.to_le_bytes());
        bmp.extend(60_000u32.to_le_bytes());
        bmp.extend([1, 0, 24, 0]);
        bmp.extend([0; 24]);
        assert!(matches!(Picture::decode(&bmp), Err(PictureError::TooLarge { .. })));
    }

    #[test]
    fn exif_rotation_is_applied() {
        // A JPEG of 16 x 8 pixels, left half black, with an EXIF segment of orientation 6 (rotate by 90 degrees).
        let image = ImageBuffer::from_fn(16, 8, |x, _| Luma([if x < 8 { 0u8 } else { 255 }]));
        let mut jpeg = Cursor::new(Vec::new());
        DynamicImage::ImageLuma8(image).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let jpeg = jpeg.into_inner();
        let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
        let mut rotated = jpeg[..2].to_vec();
        rotated.extend([0xFF, 0xE1]);
        rotated.extend((exif.len() as u16 + 2).to_be_bytes());
        rotated.append(&mut exif);
        rotated.extend(&jpeg[2..]);
        let picture = Picture::decode(&rotated).unwrap();
        assert_eq!((picture.width, picture.height), (8, 16));
        assert!(picture.rgb[0] < 20 && picture.rgb[picture.rgb.len() - 1] > 235);
    }

    #[test]
    fn png_round_trips() {
        let picture = Picture::new(5, 3, (0..45).collect()).unwrap();
        assert_eq!(Picture::decode(&picture.to_png().unwrap()).unwrap(), picture);
    }
}
