//! The halves that work on tiles: images to latents, and codes to images.

use std::collections::BTreeSet;

use kiln_graph::{Builder, DType, Graph};

use crate::tiled::{Half, Input, Seams, Tileable};
use crate::vq_model::VqModel;
use crate::{Error, Taps};

impl Tileable for VqModel {
    fn spatial_factor(&self) -> usize {
        self.spatial_factor()
    }

    fn graph(&self, half: Half, batch: usize, [height, width]: [usize; 2]) -> Result<Graph, Error> {
        let mut b = Builder::new();
        let Input { name, channels, dtype } = self.input(half);
        let input = b.input(name, [batch, height, width, channels], dtype)?;
        let output = match half {
            Half::Encoder => self.encode(&mut b, input, &Taps::none())?,
            Half::Decoder => {
                let codes = b.reshape(input, [batch, height, width])?;
                let quantized = self.look_up(&mut b, codes)?;
                self.decode(&mut b, quantized, &Taps::none())?
            }
        };
        b.output(if half == Half::Encoder { "latents" } else { "image" }, output)?;
        Ok(b.finish())
    }

    fn input(&self, half: Half) -> Input {
        match half {
            Half::Encoder => Input { name: "image", channels: self.config().in_channels, dtype: DType::F32 },
            Half::Decoder => Input { name: "codes", channels: 1, dtype: DType::I32 },
        }
    }

    fn keep_f32(&self, graph: &Graph) -> BTreeSet<String> {
        self.keep_f32(graph)
    }

    fn seams(&self) -> Seams {
        Seams::Crop
    }

    fn model_size(&self) -> usize {
        self.config().sample_size / self.spatial_factor()
    }
}
