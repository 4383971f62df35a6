//! Codes to pictures, and pictures to codes.

use std::collections::BTreeSet;

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor, passes};

use crate::image::Picture;
use crate::prepared::Prepared;
use crate::stable_diffusion::pictures::resized;
use crate::tiled::{Half, Tiled};
use crate::vq_model::VqModel;
use crate::weights::SharedWeights;
use crate::{Device, Error, Runner, Taps};

/// What makes pictures of codes, on a device.
pub struct CodeDecoder(Tiled<VqModel>);

impl CodeDecoder {
    pub(super) fn new(model: VqModel, weights: SharedWeights, device: Device, precision: Precision) -> Self {
        Self(Tiled::new(model, weights, device, precision))
    }

    /// The same with nothing compiled yet: for previews, while this one's owner is at work.
    pub fn another(&self) -> Self {
        Self(self.0.another())
    }

    /// The autoencoder.
    pub fn model(&self) -> &VqModel {
        self.0.model()
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        self.0.device()
    }

    /// How weights and activations are stored.
    pub fn precision(&self) -> Precision {
        self.0.precision()
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        self.0.set_device(device)
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.0.kept_f32()
    }

    /// Pictures of codes (i32) `[batch, height, width]`. [`Error::Input`] where one is none of the codebook's, such as a mask.
    pub async fn pictures(&mut self, codes: &Tensor) -> Result<Vec<Picture>, Error> {
        if codes.shape().len() != 3 || codes.is_empty() {
            return Err(Error::Input(format!("{} are no codes [batch, height, width]", codes.desc())));
        }
        self.0.model().check_codes(codes)?;
        let codes = codes.reshape([codes.shape(), &[1]].concat()).map_err(GraphError::from)?;
        let image = self.0.compute(Half::Decoder, &codes).await?;
        // This autoencoder's pixels are in 0..1.
        let values = image.to_f32().iter().map(|value| 2.0 * value - 1.0).collect();
        let image = Tensor::f32(image.shape(), values).map_err(GraphError::from)?;
        Picture::from_images(&image).map_err(|error| Error::Input(format!("a picture {error}")))
    }

    /// [`CodeDecoder::pictures`] for callers without an executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn pictures_blocking(&mut self, codes: &Tensor) -> Result<Vec<Picture>, Error> {
        pollster::block_on(self.pictures(codes))
    }
}

/// What makes codes of pictures, on a device.
pub(super) struct CodeEncoder {
    model: VqModel,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    /// By height and width in pixels.
    prepared: Prepared<[usize; 2]>,
}

impl CodeEncoder {
    pub fn new(model: VqModel, weights: SharedWeights, device: Device, precision: Precision) -> Self {
        Self { model, weights, device, precision, prepared: Prepared::new() }
    }

    pub fn set_device(&mut self, device: Device) {
        self.prepared.clear();
        self.device = device;
    }

    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }

    /// The codes of a picture at `[height, width]` pixels, row by row.
    pub async fn codes(&mut self, picture: &Picture, size: [usize; 2]) -> Result<Vec<i32>, Error> {
        let [height, width] = size;
        let values = resized(picture, size).rgb.iter().map(|&value| f32::from(value) / 255.0).collect();
        let image = Tensor::f32([1, height, width, 3], values).map_err(GraphError::from)?;
        let (model, device, weights, precision) =
            (&self.model, &self.device, self.weights.clone(), self.precision);
        let make = async {
            let graph = passes::select_outputs(model.encode_graph(1, size, &Taps::none())?, &["codes"])?;
            let keep_f32 = model.keep_f32(&graph);
            Runner::new(device, &graph, weights, precision, keep_f32, &mut |_, _| {}).await
        };
        let (_, runner) = self.prepared.get(size, |other| *other == size, make).await?;
        let codes = runner.run(&[("image", image)]).await?;
        Ok(codes.iter().flat_map(Tensor::to_f64).map(|code| code as i32).collect())
    }
}
