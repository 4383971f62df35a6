//! A step on a device: codes in, and what is drawn for each of them out.

use std::collections::BTreeSet;

use kiln_engine::Precision;
use kiln_graph::{Builder, DType, Graph, GraphError, Tensor};

use super::plan::Plan;
use super::scheduler::Draw;
use super::text::Conditions;
use crate::prepared::Prepared;
use crate::uvit2d::UVit2d;
use crate::weights::SharedWeights;
use crate::{Device, Error, Runner, Taps};

/// What a graph is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    batch: usize,
    size: [usize; 2],
    tokens: usize,
    guided: bool,
}

/// A U-ViT on a device.
pub(super) struct Stepper {
    model: UVit2d,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    prepared: Prepared<Key>,
}

impl Stepper {
    pub fn new(model: UVit2d, weights: SharedWeights, device: Device, precision: Precision) -> Self {
        Self { model, weights, device, precision, prepared: Prepared::new() }
    }

    pub fn model(&self) -> &UVit2d {
        &self.model
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) {
        self.prepared.clear();
        self.device = device;
    }

    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }

    /// What is drawn for every one of `codes` `[batch, height, width]`, with exponential noise for each place and code of
    /// each picture; what is drawn where a code is known already says nothing. A step reads back a code and a probability a place, and nothing is compiled but for the first.
    pub async fn draw(
        &mut self,
        plan: &Plan,
        conditions: &Conditions,
        codes: Tensor,
        noise: Vec<Vec<f32>>,
    ) -> Result<Vec<Draw>, Error> {
        let [height, width] = plan.codes;
        let key =
            Key { batch: plan.batch, size: plan.codes, tokens: conditions.tokens(), guided: plan.guided };
        let (model, device, weights, precision) =
            (&self.model, &self.device, self.weights.clone(), self.precision);
        let make = async {
            let graph = graph(model, key)?;
            let mut keep_f32 = model.keep_f32(&graph);
            keep_f32.extend(drawing(&graph));
            Runner::new(device, &graph, weights, precision, keep_f32, &mut |_, _| {}).await
        };
        let (_, runner) = self.prepared.get(key, |other| *other == key, make).await?;
        let noise = Tensor::f32([plan.batch, height * width, plan.codebook], noise.concat());
        let mut inputs = vec![("codes", codes), ("noise", noise.map_err(GraphError::from)?)];
        inputs.extend(conditions.inputs());
        if plan.guided {
            inputs.push(("guidance_scale", Tensor::scalar(plan.guidance_scale)));
        }
        let outputs = runner.run(&inputs).await?;
        let [codes, probabilities] = &outputs[..] else {
            return Err(Error::Input("the model gave nothing".into()));
        };
        let codes = codes.cast(DType::I32);
        let codes = codes.as_i32().unwrap_or_default();
        let probabilities = probabilities.to_f32();
        if probabilities.iter().any(|p| !p.is_finite()) {
            return Err(Error::Input("the model's answer is not a number".into()));
        }
        let pixels = (height * width).max(1);
        let each = codes.chunks(pixels).zip(probabilities.chunks(pixels));
        Ok(each.map(|(codes, p)| Draw { codes: codes.to_vec(), probabilities: p.to_vec() }).collect())
    }
}

/// The module of the nodes that draw.
const DRAW: &str = "draw";

/// Paths of the nodes that draw: f16 has too few numbers for them.
fn drawing(graph: &Graph) -> impl Iterator<Item = String> + '_ {
    let paths = graph.nodes().iter().map(|node| &node.path);
    paths.filter(|path| path.starts_with(DRAW)).cloned()
}

/// Inputs: `codes` `[batch, height, width]`, `noise` `[batch, height * width, codebook_size]`, [`UVit2d::conditions`], those
/// of negative prompts first where they lead, and then `guidance_scale` `[]`. Outputs: `drawn` (i32) and `probabilities`
/// `[batch, height * width]`.
fn graph(model: &UVit2d, key: Key) -> Result<Graph, Error> {
    let Key { batch, size: [height, width], tokens, guided } = key;
    let (places, codebook) = (height * width, model.config().codebook_size);
    let mut b = Builder::new();
    let codes = b.input("codes", [batch, height, width], DType::I32)?;
    let noise = b.input("noise", [batch, places, codebook], DType::F32)?;
    let conditions = model.conditions(&mut b, if guided { 2 * batch } else { batch }, tokens)?;
    let ids = if guided { b.concat(&[codes, codes], 0)? } else { codes };
    let logits = model.logits(&mut b, ids, conditions, &Taps::none())?;
    let scale = if guided { Some(b.input("guidance_scale", [], DType::F32)?) } else { None };
    let (drawn, probabilities) = b.scope(DRAW, |b| {
        let mut logits = logits;
        if let Some(scale) = scale {
            let negative = b.slice(logits, 0, 0, batch)?;
            let difference = b.slice(logits, 0, batch, 2 * batch)?;
            let difference = b.sub(difference, negative)?;
            let difference = b.mul(difference, scale)?;
            logits = b.add(difference, negative)?;
        }
        let logits = b.reshape(logits, [batch, places, codebook])?;
        let probabilities = b.softmax(logits, -1)?;
        // As torch.multinomial draws: of numbers that are exponential with rates, the least belongs to each with a
        // probability as large as its share of the rates.
        let shares = b.div(probabilities, noise)?;
        let drawn = b.argmax(shares, 2)?;
        let place = b.unsqueeze(drawn, 2)?;
        let probabilities = b.take_along(probabilities, place, 2)?;
        let probabilities = b.squeeze(probabilities, 2)?;
        Ok::<_, GraphError>((drawn, probabilities))
    })?;
    b.output("drawn", drawn)?;
    b.output("probabilities", probabilities)?;
    Ok(b.finish())
}
