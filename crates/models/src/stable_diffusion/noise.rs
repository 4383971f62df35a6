//! The pictures' noise: a generator each, as PyTorch draws it.

use kiln_graph::{GraphError, Tensor};

use crate::Error;
use crate::random::Generator;

/// Generators of normal numbers, one a picture.
pub(super) struct Noise {
    generators: Vec<Generator>,
    /// Height, width and channels of a picture's latents.
    shape: [usize; 3],
}

impl Noise {
    pub fn new(seeds: &[u64], shape: [usize; 3]) -> Self {
        Self { generators: seeds.iter().map(|&seed| Generator::new(seed)).collect(), shape }
    }

    /// Pictures.
    pub fn batch(&self) -> usize {
        self.generators.len()
    }

    /// The next numbers of every picture, `[batch, height, width, channels]`. They are drawn channel by channel, as
    /// `torch.randn` fills `[1, channels, height, width]`.
    pub fn draw(&mut self) -> Result<Tensor, Error> {
        let [height, width, channels] = self.shape;
        let pixels = height * width;
        let mut values = Vec::with_capacity(self.generators.len() * pixels * channels);
        for generator in &mut self.generators {
            let drawn = generator.normals(pixels * channels);
            for pixel in 0..pixels {
                values.extend(drawn.iter().skip(pixel).step_by(pixels));
            }
        }
        Ok(Tensor::f32([self.generators.len(), height, width, channels], values).map_err(GraphError::from)?)
    }
}
