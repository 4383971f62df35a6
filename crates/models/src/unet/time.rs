//! What a timestep adds within the residual blocks.

use kiln_graph::ops::{TimestepEmbedding, Unary};
use kiln_graph::{Builder, DType, GraphError, Value};

use super::config::{ClassEmbedding, Config, Time};
use crate::Taps;
use crate::layers::linear;

/// What a row of the embedding depends on besides its timestep.
pub(super) struct Conditions {
    /// `class_labels`, where there is a class embedding.
    class: Option<Value>,
    /// `timestep_cond`, where there is a projection for it.
    cond: Option<Value>,
}

impl Conditions {
    /// Those of `count` timesteps, as inputs of the graph.
    pub fn inputs(time: &Time, b: &mut Builder, count: usize) -> Result<Self, GraphError> {
        let class = time.class.map(|class| match class {
            ClassEmbedding::Table(_) => b.input("class_labels", [count], DType::I32),
            ClassEmbedding::Timestep => b.input("class_labels", [count], DType::F32),
            ClassEmbedding::Identity => b.input("class_labels", [count, time.width], DType::F32),
            ClassEmbedding::Projection(width) | ClassEmbedding::SimpleProjection(width) => {
                b.input("class_labels", [count, width], DType::F32)
            }
        });
        let cond = time.cond.map(|width| b.input("timestep_cond", [count, width], DType::F32));
        Ok(Self { class: class.transpose()?, cond: cond.transpose()? })
    }
}

/// What each residual block takes of `timesteps` `[count]`, side by side: `[count, time_width]`, one product for all.
pub(super) fn time(
    config: &Config,
    b: &mut Builder,
    timesteps: Value,
    conditions: Conditions,
    taps: &Taps,
) -> Result<Value, GraphError> {
    let time = &config.time;
    let mut sines = sines(time, b, timesteps)?;
    if let Some(cond) = conditions.cond {
        let cond = linear(b, "time_embedding.cond_proj", cond, time.sines, false)?;
        sines = b.add(sines, cond)?;
    }
    let mut embedding = perceptron(b, "time_embedding", sines, time.width, config.act_fn)?;
    if let Some(act) = time.post_act {
        embedding = b.scope("time_embedding", |b| b.unary(act, embedding))?;
    }
    taps.tap(b, "time_embedding", embedding)?;
    if let (Some(class), Some(labels)) = (time.class, conditions.class) {
        let class = class_embedding(config, b, class, labels)?;
        taps.tap(b, "class_embedding", class)?;
        embedding = b.scope("class_embedding", |b| b.add(embedding, class))?;
    }
    if let Some(act) = time.act {
        embedding = b.scope("time_embed_act", |b| b.unary(act, embedding))?;
    }
    projections(config, b, embedding)
}

/// Sines and cosines of timesteps `[count]`: `[count, sines]`.
fn sines(time: &Time, b: &mut Builder, timesteps: Value) -> Result<Value, GraphError> {
    let op = TimestepEmbedding {
        flip_sin_to_cos: time.flip_sin_to_cos,
        downscale_freq_shift: time.freq_shift,
        ..TimestepEmbedding::new(time.sines)
    };
    b.scope("time_proj", |b| b.timestep_embedding(timesteps, op))
}

/// diffusers' `TimestepEmbedding`: two linear layers.
fn perceptron(
    b: &mut Builder,
    module: &str,
    x: Value,
    width: usize,
    act: Unary,
) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let x = linear(b, "linear_1", x, width, true)?;
        let x = b.unary(act, x)?;
        linear(b, "linear_2", x, width, true)
    })
}

/// `[count, time width]` of labels.
fn class_embedding(
    config: &Config,
    b: &mut Builder,
    class: ClassEmbedding,
    labels: Value,
) -> Result<Value, GraphError> {
    const MODULE: &str = "class_embedding";
    let width = config.time.width;
    match class {
        ClassEmbedding::Table(classes) => b.scope(MODULE, |b| {
            let table = b.weight("weight", [classes, width])?;
            b.embedding(labels, table)
        }),
        ClassEmbedding::Timestep => {
            let sines = sines(&config.time, b, labels)?;
            perceptron(b, MODULE, sines, width, config.act_fn)
        }
        ClassEmbedding::Identity => Ok(labels),
        // This one has its own activation, whatever the rest has.
        ClassEmbedding::Projection(_) => perceptron(b, MODULE, labels, width, Unary::Silu),
        ClassEmbedding::SimpleProjection(_) => linear(b, MODULE, labels, width, true),
    }
}

/// The residual blocks' projections of an embedding `[count, time width]`.
fn projections(config: &Config, b: &mut Builder, embedding: Value) -> Result<Value, GraphError> {
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    for (path, width) in config.time_widths() {
        weights.push(b.weight(&format!("{path}.time_emb_proj.weight"), [width, config.time.width])?);
        biases.push(b.weight(&format!("{path}.time_emb_proj.bias"), [width])?);
    }
    b.scope("time_emb_proj", |b| {
        let embedding = b.unary(config.act_fn, embedding)?;
        let weight = b.concat(&weights, 0)?;
        let bias = b.concat(&biases, 0)?;
        b.linear(embedding, weight, Some(bias))
    })
}
