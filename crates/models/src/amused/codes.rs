//! Codes to pictures, and pictures to codes.

use std::collections::BTreeSet;

use kiln_engine::Precision;
use kiln_graph::{DType, Graph, GraphError, Tensor, passes};

use crate::image::Picture;
use crate::prepared::Prepared;
use crate::stable_diffusion::pictures::resized;
use crate::vq_model::VqModel;
use crate::weights::SharedWeights;
use crate::{Device, Error, Runner, Taps, folder};

/// A half of an autoencoder on a device. Its pixels are in 0..1.
struct Half {
    model: VqModel,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    /// By how many pictures and the rows and columns of what goes in.
    prepared: Prepared<[usize; 3]>,
}

impl Half {
    async fn run(
        &mut self,
        input: (&str, Tensor),
        graph: impl FnOnce(&VqModel, usize, [usize; 2]) -> Result<Graph, Error>,
    ) -> Result<Tensor, Error> {
        let &[batch, height, width, ..] = input.1.shape() else {
            return Err(Error::Input(format!("{} is no batch of pictures or codes", input.1.desc())));
        };
        let key = [batch, height, width];
        let (model, device, weights, precision) =
            (&self.model, &self.device, self.weights.clone(), self.precision);
        let make = async {
            let graph = graph(model, batch, [height, width])?;
            let keep_f32 = model.keep_f32(&graph);
            Runner::new(device, &graph, weights, precision, keep_f32, &mut |_, _| {}).await
        };
        let (_, runner) = self.prepared.get(key, |other| *other == key, make).await?;
        let output = runner.run(&[input]).await?.into_iter().next();
        output.ok_or_else(|| Error::Input("the autoencoder gave nothing".into()))
    }

    fn set_device(&mut self, device: Device) {
        self.prepared.clear();
        self.device = device;
    }

    fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }
}

/// What makes pictures of codes, on a device.
pub struct CodeDecoder(Half);

impl CodeDecoder {
    pub(super) fn new(model: VqModel, weights: SharedWeights, device: Device, precision: Precision) -> Self {
        Self(Half { model, weights, device, precision, prepared: Prepared::new() })
    }

    /// The same with nothing compiled yet: for previews, while this one's owner is at work.
    pub fn another(&self) -> Self {
        let Half { model, weights, device, precision, .. } = &self.0;
        Self::new(model.clone(), weights.clone(), device.clone(), *precision)
    }

    /// The autoencoder.
    pub fn model(&self) -> &VqModel {
        &self.0.model
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// How weights and activations are stored.
    pub fn precision(&self) -> Precision {
        self.0.precision
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) -> Result<(), Error> {
        folder::check_precision(&device, self.0.precision)?;
        self.0.set_device(device);
        Ok(())
    }

    /// Paths of the nodes that run in f32 though f16 was asked for, since a tensor of theirs left f16's range.
    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.0.kept_f32()
    }

    /// Pictures of codes (i32) `[batch, height, width]`. [`Error::Input`] where one is none of the codebook's, such as a mask.
    pub async fn pictures(&mut self, codes: &Tensor) -> Result<Vec<Picture>, Error> {
        self.0.model.check_codes(codes)?;
        let graph = |model: &VqModel, batch, size| {
            let graph = model.decode_graph(batch, size, &Taps::none())?;
            Ok(passes::select_outputs(graph, &["image"])?)
        };
        let image = self.0.run(("codes", codes.clone()), graph).await?;
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
pub(super) struct CodeEncoder(Half);

impl CodeEncoder {
    pub fn new(model: VqModel, weights: SharedWeights, device: Device, precision: Precision) -> Self {
        Self(Half { model, weights, device, precision, prepared: Prepared::new() })
    }

    pub fn set_device(&mut self, device: Device) {
        self.0.set_device(device);
    }

    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.0.kept_f32()
    }

    /// The codes of a picture at `[height, width]` pixels, row by row.
    pub async fn codes(&mut self, picture: &Picture, size: [usize; 2]) -> Result<Vec<i32>, Error> {
        let [height, width] = size;
        let values = resized(picture, size).rgb.iter().map(|&value| f32::from(value) / 255.0).collect();
        let image = Tensor::f32([1, height, width, 3], values).map_err(GraphError::from)?;
        let graph = |model: &VqModel, batch, size| {
            let graph = model.encode_graph(batch, size, &Taps::none())?;
            Ok(passes::select_outputs(graph, &["codes"])?)
        };
        let codes = self.0.run(("image", image), graph).await?.cast(DType::I32);
        Ok(codes.as_i32().unwrap_or_default().to_vec())
    }
}
