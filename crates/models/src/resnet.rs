//! Residual networks: "Deep Residual Learning for Image Recognition" (He et al. 2015,
//! <https://arxiv.org/abs/1512.03385>), with ResNeXt's groups, wide widths and dilated last stages.
//!
//! Reads the layouts of timm and torchvision (`resnet18` to `resnet152`, `resnext*`, `wide_resnet*`) and of transformers
//! (`ResNetForImageClassification`). Input: `pixel_values` `[batch, height, width, channels]`. Output: `logits` `[batch,
//! labels]`. DETR uses the stages without the classifier.

mod config;
mod names;
#[cfg(test)]
mod tests;

use kiln_graph::ops::{Conv2d, MaxPool2d, Unary};
use kiln_graph::{Builder, DType, Graph, GraphError, Value};

pub use config::{Block, Config, Stage};
pub use names::Layout;
use names::Names;

use crate::weights::{Weights, check};
use crate::{Error, Taps};

/// Added to the variances of batch norms.
const EPS: f32 = 1e-5;

/// A residual network: its sizes and whose names its weights have.
#[derive(Clone, Debug)]
pub struct ResNet {
    config: Config,
    names: Names,
}

impl ResNet {
    /// The classifier that `config` describes and `weights` hold.
    pub fn new(config: Config, weights: &dyn Weights) -> Result<Self, Error> {
        let prefix = if weights.shape("resnet.embedder.embedder.convolution.weight").is_some() {
            "resnet."
        } else {
            ""
        };
        let net = Self::backbone(config, weights, prefix);
        let graph = net.graph(1, [32; 2], &Taps::none())?;
        check(&graph, weights, &|name| name.ends_with("num_batches_tracked"))?;
        Ok(net)
    }

    /// The network whose weights stand behind a prefix in a larger model's, which checks them.
    pub(crate) fn backbone(mut config: Config, weights: &dyn Weights, prefix: &str) -> Self {
        let names = Names::of(weights, prefix);
        config.fit(weights, &names);
        Self { config, names }
    }

    /// The sizes, those of the weights.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The graph of the classifier for `batch` images of `image` height and width. Taps: `stem`, `layer1` and on.
    pub fn graph(&self, batch: usize, image: [usize; 2], taps: &Taps) -> Result<Graph, Error> {
        let mut b = Builder::new();
        if image.contains(&0) {
            return Err(Error::Input(format!("an image of {image:?} has no pixel")));
        }
        let shape = [batch, image[0], image[1], self.config.num_channels];
        let x = b.input("pixel_values", shape, DType::F32)?;
        let last = self.stages(&mut b, x, None, taps)?.pop().unwrap_or(x);
        let x = b.mean(last, [1, 2], false)?;
        let (labels, channels) = (self.config.num_labels, b.desc(x).last());
        let logits = b.scope(self.names.head(), |b| {
            let (weight, bias) = (b.weight("weight", [labels, channels])?, b.weight("bias", [labels])?);
            b.linear(x, weight, Some(bias))
        })?;
        b.output("logits", logits)?;
        Ok(b.finish())
    }

    /// What each stage makes of images `[batch, height, width, channels]`: for an output stride of 32, a quarter to
    /// a thirty-second of their rows and columns. `frame` says where there is a picture, where images are padded: what
    /// lies outside is kept 0, as it is around a picture that comes alone.
    pub(crate) fn stages(
        &self,
        b: &mut Builder,
        x: Value,
        mut frame: Option<Value>,
        taps: &Taps,
    ) -> Result<Vec<Value>, GraphError> {
        let config = &self.config;
        let conv = Conv2d::default().padding(3).stride(2);
        let x = self.conv(b, &self.names.stem(), x, config.embedding_size, 7, conv)?;
        let x = b.unary(config.hidden_act, x)?;
        frame = halve(b, frame)?;
        let x = within(b, frame, x)?;
        let x = b.max_pool2d(x, MaxPool2d::new(3).stride(2).padding(1))?;
        frame = halve(b, frame)?;
        let mut x = within(b, frame, x)?;
        taps.tap(b, "stem", x)?;
        let (mut total, mut dilation) = (4, 1);
        let mut features = Vec::new();
        for (i, stage) in config.stages.iter().enumerate() {
            let mut stride = if i == 0 && !config.downsample_in_first_stage { 1 } else { 2 };
            let first_dilation = dilation;
            // Beyond the wanted stride, taps move apart instead of outputs.
            if total >= config.output_stride {
                dilation *= stride;
                stride = 1;
            } else {
                total *= stride;
            }
            for block in 0..stage.blocks {
                let (stride, dilations) =
                    if block == 0 { (stride, [first_dilation, dilation]) } else { (1, [dilation; 2]) };
                let after = if stride == 2 { halve(b, frame)? } else { frame };
                x = self.block(b, [i, block], x, stride, dilations, [frame, after])?;
                frame = after;
            }
            taps.tap(b, &format!("layer{}", i + 1), x)?;
            features.push(x);
        }
        Ok(features)
    }

    /// A frame `[batch, height, width]` at the size of a stage's features.
    pub(crate) fn frame(b: &mut Builder, frame: Value, size: [usize; 2]) -> Result<Value, GraphError> {
        let mut frame = frame;
        while b.shape(frame).get(1..3).is_some_and(|now| now[0] > size[0] || now[1] > size[1]) {
            frame = halve(b, Some(frame))?.unwrap_or(frame);
        }
        Ok(frame)
    }

    /// A residual block: `activation(convolutions(x) + shortcut(x))`. The first 3x3 convolution has the first dilation, a
    /// second one the second. `frames` say where there is a picture before and behind it.
    fn block(
        &self,
        b: &mut Builder,
        [stage, block]: [usize; 2],
        x: Value,
        stride: usize,
        dilations: [usize; 2],
        frames: [Option<Value>; 2],
    ) -> Result<Value, GraphError> {
        let config = &self.config;
        let Stage { width, groups, channels, .. } = config.stages[stage];
        // transformers' inner convolutions do not ask what the activation is to be.
        let act = |b: &mut Builder, x| b.unary(Unary::Relu, x);
        let name = |i| self.names.conv(stage, block, i);
        let wide = |dilation: usize| Conv2d::default().padding(dilation).dilation(dilation);
        let point = Conv2d::default();
        let y = match config.block {
            Block::Basic => {
                let y = self.conv(b, &name(0), x, width, 3, wide(dilations[0]).stride(stride))?;
                let y = act(b, y)?;
                let y = within(b, frames[1], y)?;
                self.conv(b, &name(1), y, channels, 3, wide(dilations[1]))?
            }
            Block::Bottleneck => {
                let (first, second) = if config.downsample_in_bottleneck { (stride, 1) } else { (1, stride) };
                let y = self.conv(b, &name(0), x, width, 1, point.stride(first))?;
                let y = act(b, y)?;
                let y = within(b, frames[usize::from(first == 2)], y)?;
                let how = wide(dilations[0]).stride(second).groups(groups);
                let y = self.conv(b, &name(1), y, width, 3, how)?;
                let y = act(b, y)?;
                self.conv(b, &name(2), y, channels, 1, point)?
            }
        };
        let projects = block == 0 && (stride != 1 || b.desc(x).last() != channels);
        let shortcut = if projects {
            self.conv(b, &self.names.shortcut(stage, block), x, channels, 1, point.stride(stride))?
        } else {
            x
        };
        let sum = b.add(y, shortcut)?;
        let y = b.unary(config.hidden_act, sum)?;
        // A basic block begins with a convolution that looks around.
        if config.block == Block::Basic { within(b, frames[1], y) } else { Ok(y) }
    }

    /// A convolution without bias and the batch norm behind it.
    fn conv(
        &self,
        b: &mut Builder,
        (conv, norm): &(String, String),
        x: Value,
        channels: usize,
        kernel: usize,
        how: Conv2d,
    ) -> Result<Value, GraphError> {
        let inputs = b.desc(x).last() / how.groups.max(1);
        let x = b.scope(conv, |b| {
            let weight = b.weight("weight", [channels, inputs, kernel, kernel])?;
            b.conv2d(x, weight, None, how)
        })?;
        b.scope(norm, |b| {
            let mut vector = |name: &str| b.weight(name, [channels]);
            let (weight, bias) = (vector("weight")?, vector("bias")?);
            let (mean, variance) = (vector("running_mean")?, vector("running_var")?);
            b.batch_norm(x, Some(weight), Some(bias), mean, variance, EPS)
        })
    }
}

/// Every second row and column of a frame `[batch, height, width]`: where outputs of a convolution of stride 2 lie within
/// the picture.
fn halve(b: &mut Builder, frame: Option<Value>) -> Result<Option<Value>, GraphError> {
    let Some(mut frame) = frame else { return Ok(None) };
    for axis in [1, 2] {
        let end = b.shape(frame).get(axis).copied().unwrap_or(0);
        frame = b.slice_step(frame, axis, 0, end, 2)?;
    }
    Ok(Some(frame))
}

/// `x` `[batch, height, width, channels]` with zeros outside the frame.
fn within(b: &mut Builder, frame: Option<Value>, x: Value) -> Result<Value, GraphError> {
    let Some(frame) = frame else { return Ok(x) };
    let inside = b.cast(frame, DType::F32)?;
    let inside = b.unsqueeze(inside, 3)?;
    b.mul(x, inside)
}
