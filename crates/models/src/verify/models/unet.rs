//! Stable Diffusion's UNet of diffusers.

use std::collections::HashMap;

use kiln_graph::{DType, Tensor, TensorDesc};

use super::{Computed, Family, channels_second, images_second};
use crate::Taps;
use crate::unet::{ClassEmbedding, Config, Shape, UNet};
use crate::verify::{ModelRun, VerifyError};

pub(super) const FAMILY: Family = Family {
    matches: |name| name == "UNet2DConditionModel",
    nmse: [1e-8, 1e-3],
    equal: 1.0,
    reported: |_| false,
    run,
};

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let unet = UNet::new(Config::from_json(run.config)?, run.weights)?;
        let sample = run.image("sample")?;
        let &[batch, height, width, _] = sample.shape() else { return Ok(Default::default()) };
        let states = run.input("encoder_hidden_states")?.clone();
        let tokens = states.shape().get(1).copied().unwrap_or(0);
        let graph = unet.graph(Shape { batch, size: [height, width], tokens }, &Taps::of(&run.layers))?;
        let timestep = for_each(run.input("timestep")?, batch, &[])?.cast(DType::F32);
        let mut inputs = vec![("sample", sample), ("timestep", timestep), ("encoder_hidden_states", states)];
        let time = &unet.config().time;
        if let Some(class) = time.class {
            let labels = run.input("class_labels")?;
            let (row, dtype) = match class {
                ClassEmbedding::Table(_) => (0, DType::I32),
                ClassEmbedding::Timestep => (0, DType::F32),
                _ => (1, DType::F32),
            };
            let row = &labels.shape()[labels.shape().len() - row.min(labels.shape().len())..];
            inputs.push(("class_labels", for_each(labels, batch, row)?.cast(dtype)));
        }
        if let Some(width) = time.cond {
            // None is as good as zeros.
            let zeros = Tensor::zeros(&TensorDesc::new([1, width], DType::F32));
            let cond = run.input("timestep_cond").unwrap_or(&zeros);
            inputs.push(("timestep_cond", for_each(cond, batch, &[width])?));
        }
        let keep_f32 = unet.keep_f32(&graph);
        let mut outputs: HashMap<String, Tensor> =
            images_second(run.compute(graph, keep_f32, &inputs).await?)?;
        if let Some(sample) = outputs.get_mut("sample") {
            *sample = channels_second(sample)?;
        }
        Ok(outputs)
    })
}

/// A row for each of the batch, of one that stands for all or of as many.
fn for_each(tensor: &Tensor, batch: usize, row: &[usize]) -> Result<Tensor, VerifyError> {
    let shape: Vec<usize> = [&[batch], row].concat();
    let wanted: usize = shape.iter().product();
    let len = tensor.len().max(1);
    if tensor.len() == wanted || len * batch == wanted {
        return Ok(tensor.pick(shape, (0..wanted).map(|i| Some(i % len)))?);
    }
    Ok(tensor.clone())
}
