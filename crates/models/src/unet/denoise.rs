//! The way of the latents: down, through the middle and up again.

use kiln_graph::ops::{Conv2d, Interpolate, InterpolateMode};
use kiln_graph::{Builder, GraphError, Value};

use super::config::{Config, Stage};
use super::transformer::transformer;
use crate::Taps;
use crate::blocks::{Style, TimeShift, conv2d, conv3x3, downsample, group_norm, resnet_block};

/// A graph while the latents go through it.
struct Way<'a> {
    config: &'a Config,
    taps: &'a Taps,
    /// What the residual blocks take of the timestep, side by side, and how much of it is taken.
    time: Value,
    taken: usize,
    /// Keys and values of the attentions to the prompt that are yet to come.
    prompt: std::iter::Copied<std::slice::Iter<'a, Value>>,
    /// Results on the way down that are added to the input on the way up, the next one last.
    skips: Vec<Value>,
}

/// The prediction for `sample` `[batch, height, width, in_channels]`.
pub(super) fn denoise(
    config: &Config,
    b: &mut Builder,
    sample: Value,
    time: Value,
    prompt: &[Value],
    taps: &Taps,
) -> Result<Value, GraphError> {
    let mut x = sample;
    if config.center_input_sample {
        x = b.affine(x, 2.0, -1.0)?;
    }
    let (first, kernel) = (config.first_channels(), config.conv_in_kernel);
    x = conv2d(b, "conv_in", x, first, kernel, Conv2d::default().padding((kernel - 1) / 2))?;
    taps.tap(b, "conv_in", x)?;
    let mut way = Way { config, taps, time, taken: 0, prompt: prompt.iter().copied(), skips: vec![x] };
    for (i, stage) in config.down.iter().enumerate() {
        x = b.scope(format!("down_blocks.{i}"), |b| way.down(b, i, x, stage))?;
    }
    if let Some(stage) = &config.mid {
        x = b.scope("mid_block", |b| way.mid(b, x, stage))?;
        taps.tap(b, "mid_block", x)?;
    }
    for (i, stage) in config.up.iter().enumerate() {
        x = b.scope(format!("up_blocks.{i}"), |b| way.up(b, i, x, stage))?;
    }
    x = group_norm(b, "conv_norm_out", x, config.norm_num_groups, config.norm_eps)?;
    x = b.scope("conv_act", |b| b.unary(config.act_fn, x))?;
    let kernel = config.conv_out_kernel;
    let options = Conv2d::default().padding((kernel - 1) / 2);
    conv2d(b, "conv_out", x, config.out_channels, kernel, options)
}

impl Way<'_> {
    fn down(&mut self, b: &mut Builder, i: usize, mut x: Value, stage: &Stage) -> Result<Value, GraphError> {
        for j in 0..stage.resnets {
            x = self.layer(b, &format!("down{i}"), j, x, stage)?;
            self.skips.push(x);
        }
        if i + 1 < self.config.down.len() {
            x = downsample(b, "downsamplers.0", x, stage.channels, self.config.downsample_padding)?;
            self.taps.tap(b, &format!("down{i}_downsampler"), x)?;
            self.skips.push(x);
        }
        Ok(x)
    }

    fn mid(&mut self, b: &mut Builder, mut x: Value, stage: &Stage) -> Result<Value, GraphError> {
        for j in 0..stage.resnets {
            x = self.layer(b, "mid", j, x, stage)?;
        }
        Ok(x)
    }

    fn up(&mut self, b: &mut Builder, i: usize, mut x: Value, stage: &Stage) -> Result<Value, GraphError> {
        for j in 0..stage.resnets {
            let Some(skip) = self.skips.pop() else { continue };
            x = b.scope(format!("resnets.{j}"), |b| b.concat(&[x, skip], 3))?;
            x = self.layer(b, &format!("up{i}"), j, x, stage)?;
        }
        if i + 1 < self.config.up.len() {
            // To the size of what comes beside it, which is not twice this one where halving rounded up.
            let size = match self.skips.last().map(|&skip| b.shape(skip)) {
                Some(&[_, height, width, _]) => [height, width],
                _ => [0; 2],
            };
            x = b.scope("upsamplers.0", |b| {
                let large = b.interpolate(x, Interpolate::size(InterpolateMode::Nearest, size))?;
                conv3x3(b, "conv", large, stage.channels)
            })?;
            self.taps.tap(b, &format!("up{i}_upsampler"), x)?;
        }
        Ok(x)
    }

    /// Residual block `j` of a stage and the transformer behind it, if there is one.
    fn layer(
        &mut self,
        b: &mut Builder,
        tap: &str,
        j: usize,
        x: Value,
        stage: &Stage,
    ) -> Result<Value, GraphError> {
        let config = self.config;
        let module = format!("resnets.{j}");
        let shift = b.scope(&module, |b| self.shift(b, stage.channels))?;
        let style = Style { groups: config.norm_num_groups, eps: config.norm_eps, act: config.act_fn };
        let mut x = resnet_block(b, &module, x, stage.channels, Some(shift), style)?;
        if tap == "mid" && config.mid_block_scale_factor != 1.0 {
            x = b.affine(x, 1.0 / config.mid_block_scale_factor, 0.0)?;
        }
        self.taps.tap(b, &format!("{tap}_resnet{j}"), x)?;
        let Some(attention) = &stage.attention else { return Ok(x) };
        let Some(&layers) = attention.layers.get(j) else { return Ok(x) };
        let prompt = &mut self.prompt;
        x = b.scope(format!("attentions.{j}"), |b| transformer(config, attention, layers, b, x, prompt))?;
        self.taps.tap(b, &format!("{tap}_attn{j}"), x)?;
        Ok(x)
    }

    /// What the next residual block takes of the timestep.
    fn shift(&mut self, b: &mut Builder, channels: usize) -> Result<TimeShift, GraphError> {
        let scaled = self.config.time.scale_shift;
        let (from, to) = (self.taken, self.taken + if scaled { 2 * channels } else { channels });
        self.taken = to;
        let part = b.slice(self.time, 1, from, to)?;
        Ok(if scaled { TimeShift::ScaleShift(part) } else { TimeShift::Add(part) })
    }
}
