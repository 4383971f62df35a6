//! Work in overlapping tiles whose seams are blended, as diffusers does it.
//!
//! Along each axis tiles begin at multiples of less than their size, and those at the end are smaller. Tiles are compared
//! with diffusers' by number, `AutoencoderKL`'s by `tiled_encode` and `tiled_decode`, `AutoencoderTiny`'s by their like.

use std::fmt;
use std::ops::Range;

use kiln_graph::{GraphError, Tensor};

use crate::Error;

/// What a tile's latents along a side are a multiple of, so that its seams lie between latents in both halves.
pub(crate) const QUANTUM: usize = 8;

/// A half of an autoencoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Encoder,
    Decoder,
}

/// How tiles meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seams {
    /// They overlap by a quarter. A tile fades in over what lies above it, then over what lies left of it, and its own last
    /// quarter is left to the tiles behind.
    Crop,
    /// They overlap by an eighth. A tile is painted over what is there already, fading in along both axes at once.
    Mask,
}

/// The tiles that an image is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    half: Half,
    seams: Seams,
    factor: usize,
    /// The image that goes in.
    size: [usize; 2],
    /// Pixels of it along a side of a tile.
    side: usize,
}

/// A tile.
pub(crate) struct Place {
    /// Rows and columns of the image that goes in.
    pub range: [Range<usize>; 2],
}

impl Place {
    pub fn size(&self) -> [usize; 2] {
        [self.range[0].len(), self.range[1].len()]
    }
}

impl fmt::Display for Tiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.half == Half::Encoder { "encoding" } else { "decoding" };
        let ([height, width], side) = (self.size, self.side);
        write!(
            f,
            "{verb} {height}x{width} in {} tiles of {side}x{side}, whose seams are blended",
            self.count()
        )
    }
}

impl Tiles {
    /// Tiles of so many latents along a side, where the image `size` that goes into `half` is larger than one.
    pub(crate) fn new(
        half: Half,
        latents: usize,
        size: [usize; 2],
        factor: usize,
        seams: Seams,
    ) -> Result<Option<Self>, Error> {
        if latents == 0 || !latents.is_multiple_of(QUANTUM) {
            return Err(Error::Input(format!("tiles of {latents} latents are not a multiple of {QUANTUM}")));
        }
        let side = if half == Half::Encoder { latents * factor } else { latents };
        let larger = size.iter().any(|&extent| extent > side);
        Ok(larger.then_some(Self { half, seams, factor, size, side }))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.starts(0).len() * self.starts(1).len()
    }

    /// Pixels of the image or latents that go in along a side of a tile; those at the ends are smaller.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The largest of them.
    pub(crate) fn largest(&self) -> [usize; 2] {
        self.size.map(|extent| extent.min(self.side))
    }

    /// What comes out for so many pixels that go in.
    fn output(&self, pixels: usize) -> usize {
        match (self.half, self.seams) {
            (Half::Decoder, _) => pixels * self.factor,
            (Half::Encoder, Seams::Crop) => pixels / self.factor,
            (Half::Encoder, Seams::Mask) => pixels.div_ceil(self.factor),
        }
    }

    /// Pixels that go in and that two neighbours share.
    fn overlap(&self) -> usize {
        match self.seams {
            Seams::Crop => self.side / 4,
            Seams::Mask => self.side / 8,
        }
    }

    /// Where tiles begin along an axis. One of which nothing would come out is left out.
    fn starts(&self, axis: usize) -> Vec<usize> {
        let extent = self.size[axis];
        let starts = (0..extent).step_by((self.side - self.overlap()).max(1));
        starts.filter(|start| self.output(extent - start) > 0).collect()
    }

    /// The tiles, row by row.
    pub(crate) fn places(&self) -> Vec<Place> {
        let ranges = [0, 1].map(|axis| {
            let end = |start: usize| (start + self.side).min(self.size[axis]);
            self.starts(axis).into_iter().map(|start| start..end(start)).collect::<Vec<_>>()
        });
        let row = |rows: &Range<usize>| {
            let rows = rows.clone();
            let place = |columns: &Range<usize>| Place { range: [rows.clone(), columns.clone()] };
            ranges[1].iter().map(place).collect::<Vec<_>>()
        };
        ranges[0].iter().flat_map(row).collect()
    }

    /// The whole of what the tiles gave, row by row.
    pub(crate) fn join(&self, tiles: &[Tensor]) -> Result<Tensor, Error> {
        let mut images: Vec<Image> = tiles.iter().map(Image::of).collect::<Result<_, _>>()?;
        let (batch, channels) = images.first().map_or((0, 0), |image| (image.batch, image.channels));
        let [rows, columns] = [0, 1].map(|axis| self.starts(axis).len());
        let fits = images.len() == rows * columns
            && images.iter().all(|image| (image.batch, image.channels) == (batch, channels));
        if !fits {
            return Err(Error::Input("the tiles are not those of one image".into()));
        }
        let [height, width] = self.size.map(|extent| self.output(extent));
        let mut whole = Image::zeros(batch, height, width, channels);
        let overlap = self.output(self.overlap());
        for row in 0..rows {
            for column in 0..columns {
                let (before, rest) = images.split_at_mut(row * columns + column);
                let Some(tile) = rest.first_mut() else { continue };
                let [y, x] = [(0, row), (1, column)]
                    .map(|(axis, i)| self.output(self.starts(axis).get(i).copied().unwrap_or(0)));
                match self.seams {
                    Seams::Crop => {
                        if let Some(above) = before.len().checked_sub(columns).filter(|_| row > 0) {
                            tile.fade_in(&before[above], overlap, 0);
                        }
                        if let Some(left) = before.last().filter(|_| column > 0) {
                            tile.fade_in(left, overlap, 1);
                        }
                        let kept = self.output(self.side) - overlap;
                        whole.paint(tile, [y, x], kept, |_, _| 1.0);
                    }
                    Seams::Mask => {
                        let ramp = |first: bool, i: usize| {
                            if first { 1.0 } else { (i as f32 / (overlap as f32 - 1.0)).clamp(0.0, 1.0) }
                        };
                        whole
                            .paint(tile, [y, x], usize::MAX, |i, j| ramp(row == 0, i) * ramp(column == 0, j));
                    }
                }
            }
        }
        whole.tensor()
    }
}

/// Images on the host, channels last.
struct Image {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    values: Vec<f32>,
}

impl Image {
    fn zeros(batch: usize, height: usize, width: usize, channels: usize) -> Self {
        Self { batch, height, width, channels, values: vec![0.0; batch * height * width * channels] }
    }

    fn of(tensor: &Tensor) -> Result<Self, Error> {
        let &[batch, height, width, channels] = tensor.shape() else {
            return Err(Error::Input(format!("a tile is {}, no image", tensor.desc())));
        };
        Ok(Self { batch, height, width, channels, values: tensor.to_f32().into_owned() })
    }

    fn tensor(self) -> Result<Tensor, Error> {
        let shape = [self.batch, self.height, self.width, self.channels];
        Ok(Tensor::f32(shape, self.values).map_err(GraphError::from)?)
    }

    /// Where a pixel's channels are.
    fn at(&self, image: usize, y: usize, x: usize) -> Range<usize> {
        let start = ((image * self.height + y) * self.width + x) * self.channels;
        start..start + self.channels
    }

    /// Fades in over the last rows (axis 0) or columns of the tile before it.
    fn fade_in(&mut self, before: &Image, extent: usize, axis: usize) {
        let along = |image: &Image| if axis == 0 { image.height } else { image.width };
        let across = if axis == 0 { self.width.min(before.width) } else { self.height.min(before.height) };
        let extent = extent.min(along(self)).min(along(before));
        let first = along(before) - extent;
        for image in 0..self.batch {
            for i in 0..extent {
                let share = i as f64 / extent as f64;
                let (old, new) = ((1.0 - share) as f32, share as f32);
                for j in 0..across {
                    let place = |i: usize| if axis == 0 { (i, j) } else { (j, i) };
                    let (from, to) = (place(first + i), place(i));
                    let (from, to) = (before.at(image, from.0, from.1), self.at(image, to.0, to.1));
                    for (value, other) in self.values[to].iter_mut().zip(&before.values[from]) {
                        *value = other * old + *value * new;
                    }
                }
            }
        }
    }

    /// Paints the first `kept` rows and columns of a tile over what is there, as far as they lie within; `weight` of a row
    /// and a column is the tile's share.
    fn paint(&mut self, tile: &Image, [y, x]: [usize; 2], kept: usize, weight: impl Fn(usize, usize) -> f32) {
        let rows = tile.height.min(kept).min(self.height.saturating_sub(y));
        let columns = tile.width.min(kept).min(self.width.saturating_sub(x));
        for image in 0..self.batch {
            for i in 0..rows {
                for j in 0..columns {
                    let share = weight(i, j);
                    let (from, to) = (tile.at(image, i, j), self.at(image, y + i, x + j));
                    for (value, new) in self.values[to].iter_mut().zip(&tile.values[from]) {
                        *value = if share == 1.0 { *new } else { share * new + (1.0 - share) * *value };
                    }
                }
            }
        }
    }
}

/// A box of images `[batch, height, width, channels]`.
pub(crate) fn cut(images: &Tensor, batch: Range<usize>, range: [Range<usize>; 2]) -> Result<Tensor, Error> {
    let &[_, height, width, channels] = images.shape() else {
        return Err(Error::Input(format!("{} are no images", images.desc())));
    };
    let [rows, columns] = range;
    let shape = [batch.len(), rows.len(), columns.len(), channels];
    let mut from = Vec::with_capacity(shape.iter().product());
    for image in batch {
        for y in rows.clone() {
            let start = (image * height + y) * width;
            from.extend(((start + columns.start) * channels..(start + columns.end) * channels).map(Some));
        }
    }
    Ok(images.pick(shape, from.into_iter()).map_err(GraphError::from)?)
}

/// Single images as a batch.
pub(crate) fn stack(images: &[Tensor]) -> Result<Tensor, Error> {
    let shape = images.first().map(|image| image.shape().to_vec()).unwrap_or_default();
    if shape.len() != 4 || images.iter().any(|image| image.shape() != shape) {
        return Err(Error::Input("there are no images of one size".into()));
    }
    let values = images.iter().flat_map(|image| image.to_f32().into_owned()).collect();
    let shape = [images.len(), shape[1], shape[2], shape[3]];
    Ok(Tensor::f32(shape, values).map_err(GraphError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_no_larger_than_a_tile_are_left_whole() {
        let tiles = |latents, size| Tiles::new(Half::Decoder, latents, size, 8, Seams::Crop);
        assert_eq!(tiles(64, [64, 64]).unwrap(), None);
        assert_eq!(tiles(64, [64, 65]).unwrap().unwrap().count(), 4);
        for latents in [0, 12] {
            let error = tiles(latents, [64, 64]).unwrap_err().to_string();
            assert!(error.contains("not a multiple of 8"), "{error}");
        }
    }

    #[test]
    fn tiles_begin_at_multiples_of_what_they_do_not_share() {
        let tiles = Tiles::new(Half::Encoder, 8, [100, 51], 2, Seams::Crop).unwrap().unwrap();
        // Nothing comes out of a last column of three pixels' third.
        assert_eq!(
            (tiles.starts(0), tiles.starts(1)),
            (vec![0, 12, 24, 36, 48, 60, 72, 84, 96], vec![0, 12, 24, 36, 48])
        );
        let tiles = Tiles { size: [100, 49], ..tiles };
        assert_eq!(tiles.starts(1), [0, 12, 24, 36]);
        let last = tiles.places().pop().unwrap();
        assert_eq!((last.range, tiles.largest()), ([96..100, 36..49], [16, 16]));
        assert_eq!(tiles.to_string(), "encoding 100x49 in 36 tiles of 16x16, whose seams are blended");
        let mask = Tiles { seams: Seams::Mask, half: Half::Decoder, side: 16, ..tiles };
        assert_eq!(mask.starts(1), [0, 14, 28, 42]);
    }

    #[test]
    fn tiles_of_an_image_that_agree_are_the_image() {
        let data = (0..2 * 50 * 34 * 2).map(|i| (i % 977) as f32).collect();
        let image = Tensor::f32([2, 50, 34, 2], data).unwrap();
        for seams in [Seams::Crop, Seams::Mask] {
            let tiles = Tiles::new(Half::Decoder, 16, [50, 34], 1, seams).unwrap().unwrap();
            let parts: Vec<Tensor> =
                tiles.places().into_iter().map(|place| cut(&image, 0..2, place.range).unwrap()).collect();
            let joined = tiles.join(&parts).unwrap();
            assert_eq!(joined.shape(), image.shape());
            for (joined, original) in joined.to_f64().iter().zip(image.to_f64()) {
                assert!((joined - original).abs() < 1e-3, "{joined} {original}");
            }
            assert!(tiles.join(&parts[1..]).is_err());
        }
    }

    #[test]
    fn a_tile_fades_in() {
        let tile = |width: usize, value: f32| Tensor::f32([1, 8, width, 1], vec![value; 8 * width]).unwrap();
        let tiles = Tiles::new(Half::Decoder, 16, [8, 28], 1, Seams::Crop).unwrap().unwrap();
        let joined = tiles.join(&[tile(16, 0.0), tile(16, 1.0), tile(4, 2.0)]).unwrap();
        let row = joined.to_f32()[..28].to_vec();
        assert_eq!(row[..16], [[0.0; 12].as_slice(), &[0.0, 0.25, 0.5, 0.75]].concat());
        assert_eq!(row[16..], [[1.0; 8].as_slice(), &[1.0, 1.25, 1.5, 1.75]].concat());
    }

    #[test]
    fn single_images_are_a_batch() {
        let images = Tensor::f32([2, 1, 2, 1], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let single = |i| cut(&images, i..i + 1, [0..1, 0..2]).unwrap();
        assert_eq!(stack(&[single(0), single(1)]).unwrap(), images);
        assert!(stack(&[single(0), images.clone()]).is_err());
        assert!(stack(&[]).is_err());
    }
}
