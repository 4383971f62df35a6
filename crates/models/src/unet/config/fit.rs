//! What the weights' shapes tell.

use super::{Attention, ClassEmbedding, Config, MAX_PARTS, Stage};
use crate::weights::Weights;

/// Shapes of weights by their names.
struct Shapes<'a>(&'a dyn Weights);

impl Shapes<'_> {
    fn matrix(&self, name: &str) -> Option<[usize; 2]> {
        self.0.shape(name)?.try_into().ok()
    }

    /// Output channels, input channels and the first side of the squares.
    fn conv(&self, name: &str) -> Option<[usize; 3]> {
        let &[outputs, inputs, side, _] = self.0.shape(name)? else { return None };
        Some([outputs, inputs, side])
    }

    /// How many there are from 0 on, and one more than Kiln takes at most.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..=MAX_PARTS).take_while(|&i| self.0.shape(&name(i)).is_some()).count()
    }
}

pub(super) fn fit(config: &mut Config, weights: &dyn Weights) {
    let shapes = Shapes(weights);
    if let Some([_, inputs, side]) = shapes.conv("conv_in.weight") {
        (config.in_channels, config.conv_in_kernel) = (inputs, side);
    }
    if let Some([outputs, _, side]) = shapes.conv("conv_out.weight") {
        (config.out_channels, config.conv_out_kernel) = (outputs, side);
    }
    if let Some([width, sines]) = shapes.matrix("time_embedding.linear_1.weight") {
        (config.time.width, config.time.sines) = (width, sines);
    }
    config.time.cond =
        shapes.matrix("time_embedding.cond_proj.weight").map(|[_, width]| width).or(config.time.cond);
    if let Some([_, width]) = shapes.matrix("encoder_hid_proj.weight") {
        config.encoder_hid_dim = Some(width);
    }
    match &mut config.time.class {
        Some(ClassEmbedding::Table(classes)) => {
            if let Some([rows, _]) = shapes.matrix("class_embedding.weight") {
                *classes = rows;
            }
        }
        Some(ClassEmbedding::SimpleProjection(width)) => {
            if let Some([_, columns]) = shapes.matrix("class_embedding.weight") {
                *width = columns;
            }
        }
        Some(ClassEmbedding::Projection(width)) => {
            if let Some([_, columns]) = shapes.matrix("class_embedding.linear_1.weight") {
                *width = columns;
            }
        }
        Some(ClassEmbedding::Timestep | ClassEmbedding::Identity) | None => {}
    }
    let first = "down_blocks.0.resnets.0";
    if let (Some([rows, _]), Some([channels, ..])) = (
        shapes.matrix(&format!("{first}.time_emb_proj.weight")),
        shapes.conv(&format!("{first}.conv1.weight")),
    ) {
        config.time.scale_shift = rows == 2 * channels;
    }
    let down = config.down.iter_mut().enumerate().map(|(i, stage)| (format!("down_blocks.{i}"), stage));
    let mid = config.mid.iter_mut().map(|stage| ("mid_block".to_string(), stage));
    let up = config.up.iter_mut().enumerate().map(|(i, stage)| (format!("up_blocks.{i}"), stage));
    for (path, stage) in down.chain(mid).chain(up) {
        if let Some(linear) = fit_stage(stage, &path, &shapes) {
            config.use_linear_projection = linear;
        }
    }
}

/// Takes a stage's sizes; says whether its transformers begin with a linear layer, where there are some.
fn fit_stage(stage: &mut Stage, path: &str, shapes: &Shapes) -> Option<bool> {
    if let Some([channels, ..]) = shapes.conv(&format!("{path}.resnets.0.conv1.weight")) {
        stage.channels = channels;
        stage.resnets = shapes.count(|j| format!("{path}.resnets.{j}.conv1.weight"));
    }
    let attention = stage.attention.as_mut()?;
    let first = format!("{path}.attentions.0");
    let projection = shapes.0.shape(&format!("{first}.proj_in.weight"))?;
    let transformers = shapes.count(|j| format!("{path}.attentions.{j}.norm.weight"));
    attention.layers = (0..transformers)
        .map(|j| shapes.count(|k| format!("{path}.attentions.{j}.transformer_blocks.{k}.norm1.weight")))
        .collect();
    fit_width(attention, &format!("{first}.transformer_blocks.0"), shapes);
    Some(projection.len() == 2)
}

fn fit_width(attention: &mut Attention, layer: &str, shapes: &Shapes) {
    let keys = |name: &str| shapes.matrix(&format!("{layer}.{name}.to_k.weight"));
    let (Some([channels, own]), Some([_, tokens])) = (keys("attn1"), keys("attn2")) else { return };
    attention.cross_attention_dim = tokens;
    // Where tokens are as wide as pixels, the shapes do not tell what is looked at.
    if tokens != channels {
        attention.only_cross = own == tokens;
    }
}
