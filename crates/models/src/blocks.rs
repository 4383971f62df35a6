//! Blocks that diffusers' UNets and autoencoders share, by the name of the module that holds their weights.

use kiln_graph::ops::{Conv2d, Unary};
use kiln_graph::{Builder, GraphError, Value};

/// What a model's norms and activations are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Style {
    /// Groups of the group norms.
    pub groups: usize,
    /// Added to variances.
    pub eps: f32,
    /// The activation behind a norm.
    pub act: Unary,
}

/// The convolution whose weights are `module`'s, of squares of `kernel` pixels: `[batch, height, width, inputs]` to
/// `outputs` channels.
pub(crate) fn conv2d(
    b: &mut Builder,
    module: &str,
    x: Value,
    outputs: usize,
    kernel: usize,
    options: Conv2d,
) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let weight = b.weight("weight", [outputs, b.desc(x).last(), kernel, kernel])?;
        let bias = b.weight("bias", [outputs])?;
        b.conv2d(x, weight, Some(bias), options)
    })
}

/// A 3x3 convolution that keeps the image's size.
pub(crate) fn conv3x3(b: &mut Builder, module: &str, x: Value, outputs: usize) -> Result<Value, GraphError> {
    conv2d(b, module, x, outputs, 3, Conv2d::default().padding(1))
}

/// The group norm whose weights are `module`'s.
pub(crate) fn group_norm(
    b: &mut Builder,
    module: &str,
    x: Value,
    groups: usize,
    eps: f32,
) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        let channels = b.desc(x).last();
        let (weight, bias) = (b.weight("weight", [channels])?, b.weight("bias", [channels])?);
        b.group_norm(x, groups, Some(weight), Some(bias), eps)
    })
}

/// What a noise level adds inside a residual block, and how. `[batch or 1, channels]`, or twice the channels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TimeShift {
    /// It is added before the second norm.
    Add(Value),
    /// Behind the second norm, its first half and 1 is a factor, its second half is added.
    ScaleShift(Value),
}

/// `ResnetBlock2D`: two convolutions behind norm and activation, and a shortcut, which is a 1x1 convolution where the
/// channels change. `[batch, height, width, inputs]` to `outputs` channels.
pub(crate) fn resnet_block(
    b: &mut Builder,
    module: &str,
    x: Value,
    outputs: usize,
    time: Option<TimeShift>,
    style: Style,
) -> Result<Value, GraphError> {
    b.scope(module, |b| {
        // First, so that the norm may take over the memory of what goes in.
        let shortcut = if b.desc(x).last() == outputs {
            x
        } else {
            conv2d(b, "conv_shortcut", x, outputs, 1, Conv2d::default())?
        };
        let y = group_norm(b, "norm1", x, style.groups, style.eps)?;
        let y = b.unary(style.act, y)?;
        let mut y = conv3x3(b, "conv1", y, outputs)?;
        let image = |b: &mut Builder, shift: Value| {
            let (batch, channels) = (b.shape(shift).first().copied().unwrap_or(1), b.desc(shift).last());
            b.reshape(shift, [batch, 1, 1, channels])
        };
        if let Some(TimeShift::Add(shift)) = time {
            let shift = image(b, shift)?;
            y = b.add(y, shift)?;
        }
        y = group_norm(b, "norm2", y, style.groups, style.eps)?;
        if let Some(TimeShift::ScaleShift(both)) = time {
            let both = image(b, both)?;
            let scale = b.slice(both, 3, 0, outputs)?;
            let scale = b.unary(Unary::Affine { scale: 1.0, offset: 1.0 }, scale)?;
            let shift = b.slice(both, 3, outputs, 2 * outputs)?;
            y = b.mul(y, scale)?;
            y = b.add(y, shift)?;
        }
        let y = b.unary(style.act, y)?;
        let y = conv3x3(b, "conv2", y, outputs)?;
        b.add(y, shortcut)
    })
}

/// `Downsample2D`: a convolution at every other pixel. With no padding it is the autoencoders', whose zeros lie behind the
/// last row and column alone.
pub(crate) fn downsample(
    b: &mut Builder,
    module: &str,
    x: Value,
    outputs: usize,
    padding: usize,
) -> Result<Value, GraphError> {
    let sides = if padding == 0 { [0, 1, 0, 1] } else { [padding; 4] };
    conv2d(b, &format!("{module}.conv"), x, outputs, 3, Conv2d::default().padding(sides).stride(2))
}
