//! What convolutions share: padding, the walk from outputs to inputs, and the kernels.

mod depthwise;
mod direct;
mod lanes;
mod narrow;
mod panels;
mod parts;
pub(crate) mod sums;
mod tiled;
mod walk;

use kiln_shaders::{self as shaders, Unit};

use crate::ops::Matmul;
use crate::{Along, Independence, Io, Launch, Op, OpError, Spread, Step, TensorDesc, Tier};
use parts::Part;
use walk::WalkParams;

/// Zeros around an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// So many at the top, bottom, left and right.
    Explicit([usize; 4]),
    /// As many as make the output the input's size; the odd one goes to the bottom and to the right, as in PyTorch.
    /// Only with stride 1.
    Same,
}

impl From<usize> for Padding {
    fn from(all: usize) -> Self {
        Padding::Explicit([all; 4])
    }
}

impl From<[usize; 2]> for Padding {
    /// From (height, width), the same on both sides.
    fn from([h, w]: [usize; 2]) -> Self {
        Padding::Explicit([h, h, w, w])
    }
}

impl From<[usize; 4]> for Padding {
    /// From (top, bottom, left, right).
    fn from(sides: [usize; 4]) -> Self {
        Padding::Explicit(sides)
    }
}

/// Positions must fit WGSL's i32 with room to add.
pub(crate) const POSITIONS: usize = 1 << 30;

/// One axis of a walk: output `first + i * step` for `i < count` sums, for each tap `t < taps`, the product of kernel
/// position `tap_first + t * tap_step` and input `base + i * stride + t * dilation`, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    pub first: usize,
    pub step: usize,
    pub count: usize,
    pub base: i32,
    pub stride: i32,
    pub dilation: i32,
    pub taps: usize,
    pub tap_first: usize,
    pub tap_step: usize,
}

impl Axis {
    /// The axis of an ordinary convolution with `count` outputs.
    pub fn forward(count: usize, kernel: usize, stride: usize, dilation: usize, before: usize) -> Self {
        Self {
            first: 0,
            step: 1,
            count,
            base: -(before as i32),
            stride: stride as i32,
            dilation: dilation as i32,
            taps: kernel,
            tap_first: 0,
            tap_step: 1,
        }
    }
}

/// A convolution with everything resolved: NHWC images, whatever the op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The op's name, for errors.
    pub op: &'static str,
    pub batch: usize,
    /// The input's height and width, before upsampling.
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub cin: usize,
    pub cout: usize,
    pub groups: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Whether the weight is [Cin, Cout / groups, kh, kw] instead of [Cout, Cin / groups, kh, kw].
    pub transposed: bool,
    /// How often each input pixel is repeated along both axes: 1 or 2.
    pub upsample: usize,
    /// Walks along height and width that together write each output once.
    pub phases: Vec<[Axis; 2]>,
}

impl Plan {
    /// Input channels of a group.
    pub fn cin_group(&self) -> usize {
        self.cin / self.groups
    }

    /// Output channels of a group.
    pub fn cout_group(&self) -> usize {
        self.cout / self.groups
    }

    /// Strides of the weight in elements: [group, output channel, input channel, kernel row, kernel column].
    pub fn weight_strides(&self) -> [usize; 5] {
        let [kh, kw] = self.kernel;
        let area = kh * kw;
        if self.transposed {
            let row = self.cout_group() * area;
            [self.cin_group() * row, area, row, kw, 1]
        } else {
            let row = self.cin_group() * area;
            [self.cout_group() * row, row, area, kw, 1]
        }
    }

    /// The output's description, where its elements can be counted.
    pub fn describe(&self, inputs: &[TensorDesc], shape: &[usize]) -> Result<Vec<TensorDesc>, OpError> {
        if !addressable(shape) {
            let reason = format!("the output {shape:?} has over 2^32 elements");
            return Err(OpError::new(self.op, inputs, reason));
        }
        Ok(inputs.first().map(|x| TensorDesc::new(shape, x.dtype)).into_iter().collect())
    }

    /// A multiply-add counted as two; taps over the border count.
    pub fn flops(&self) -> u64 {
        let pixels = |[h, w]: &[Axis; 2]| (h.count * h.taps) as u64 * (w.count * w.taps) as u64;
        let taps: u64 = self.phases.iter().map(pixels).sum();
        2 * self.batch as u64 * taps * self.cout as u64 * self.cin_group() as u64
    }

    /// The units that load inputs and store outputs through the epilogue, four channels at a time.
    fn images(&self, io: &Io) -> Vec<Unit> {
        let whole = |channels: usize, group: usize| channels.is_multiple_of(4) && group.is_multiple_of(4);
        let x = whole(self.cin, self.cin_group());
        let y = whole(self.cout, self.cout_group());
        let mut parts = vec![
            if x { shaders::CONV_X_VEC4 } else { shaders::CONV_X_SCALAR },
            if y { shaders::CONV_Y_VEC4 } else { shaders::CONV_Y_SCALAR },
        ];
        parts.extend(io.outputs.first().map(|out| io.epilogue.units(out, y)).into_iter().flatten());
        parts
    }

    /// Whether each output pixel is a product of the input pixel at its place.
    fn is_pointwise(&self) -> bool {
        let still = |axis: &Axis| axis.base == 0 && axis.stride == 1 && axis.step == 1;
        self.kernel == [1, 1]
            && self.groups == 1
            && self.upsample == 1
            && self.input == self.output
            && self.phases.iter().flatten().all(still)
    }

    /// Such a convolution as a product of [pixels, Cin] with the weight, which is a matrix as it is stored.
    fn pointwise(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let [x, weight, operands @ ..] = io.inputs else { return Ok(Vec::new()) };
        let pixels = self.batch * self.output[0] * self.output[1];
        let matrix = |desc: &TensorDesc, rows, columns| TensorDesc::new([rows, columns], desc.dtype);
        let weight = match self.transposed {
            true => matrix(weight, self.cin, self.cout),
            false => matrix(weight, self.cout, self.cin),
        };
        let mut inputs = vec![matrix(x, pixels, self.cin), weight];
        inputs.extend_from_slice(operands);
        let io = Io { inputs: &inputs, outputs: &[matrix(x, pixels, self.cout)], ..*io };
        Matmul { transpose_b: !self.transposed }.launches(&io, tier)
    }

    /// Ways to compute it, best guess first.
    pub fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (parts, epilogue) = self.parts(io, tier)?;
        let whole = parts.len() == self.phases.len();
        let io_of_parts = Io { epilogue: &epilogue, ..*io };
        let direct = direct::launch(self, &parts, &io_of_parts, tier);
        // A product does not cut an image's channel vector.
        let vector = |step: &Step| matches!(step, Step::Binary { spread: Spread::Batch { .. }, .. });
        if self.is_pointwise() && (whole || !io.epilogue.steps.iter().any(vector)) {
            let mut launches = self.pointwise(io, tier)?;
            launches.push(direct);
            return Ok(launches);
        }
        let (parts, io) = (&parts, &io_of_parts);
        if !io.is_constant(1) {
            return Ok(vec![direct]);
        }
        if depthwise::fits(self) {
            return Ok(vec![depthwise::launch(self, parts, io, tier), direct]);
        }
        let mut launches = Vec::new();
        if tier.software {
            launches.push(lanes::launch(self, parts, io, tier));
            launches.push(direct);
            launches.extend(tiled::launches(self, parts, io, tier));
        } else {
            launches.extend(tiled::launches(self, parts, io, tier));
            launches.push(direct);
        }
        if self.cout_group() <= narrow::CHANNELS {
            launches.insert(0, narrow::launch(self, parts, io, tier));
        }
        Ok(launches)
    }
}

/// Whether the elements of a tensor can be counted in 32 bits.
fn addressable(shape: &[usize]) -> bool {
    let len = shape.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent));
    len.is_some_and(|len| u32::try_from(len).is_ok())
}

/// What an op's inputs have to be: floats of one type, of so many axes, with channels that split into groups.
pub(crate) struct Checked {
    pub cin: usize,
    pub cout: usize,
}

/// Checks input, weight, groups and that nothing is beyond what kernels can address.
pub(crate) fn check(
    op: &'static str,
    inputs: &[TensorDesc],
    rank: usize,
    groups: usize,
    transposed: bool,
) -> Result<Checked, OpError> {
    let wrong = |reason: String| Err(OpError::new(op, inputs, reason));
    let [x, weight] = inputs else { return wrong("wants an input and a weight".into()) };
    if x.dtype != weight.dtype || !x.dtype.is_float() {
        return wrong("wants an input and a weight of one floating-point type".into());
    }
    if x.rank() != rank || weight.rank() != rank {
        return wrong(format!("wants an input and a weight of {rank} axes"));
    }
    if groups == 0 {
        return wrong("wants at least one group".into());
    }
    let cin = x.last();
    let (first, second) = (weight.shape[0], weight.shape[1]);
    let (wants_in, cout) = if transposed {
        (first, second.checked_mul(groups))
    } else {
        let cin = second.checked_mul(groups);
        let Some(cin) = cin else { return wrong("has too many channels".into()) };
        (cin, Some(first))
    };
    let Some(cout) = cout else { return wrong("has too many channels".into()) };
    if wants_in != cin {
        return wrong(format!("the weight wants {wants_in} input channels and there are {cin}"));
    }
    if cin % groups != 0 || cout % groups != 0 {
        return wrong(format!("{cin} input and {cout} output channels do not split into {groups} groups"));
    }
    if x.shape.iter().chain(&weight.shape).any(|&extent| extent >= POSITIONS) {
        return wrong("has an extent over 2^30".into());
    }
    if !addressable(&x.shape) || !addressable(&weight.shape) {
        return wrong("has a tensor of over 2^32 elements".into());
    }
    Ok(Checked { cin, cout })
}

/// Outputs along one axis of an ordinary convolution, and the zeros before it.
pub(crate) fn forward_extent(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: Option<[usize; 2]>,
) -> Result<(usize, usize), String> {
    if kernel == 0 || stride == 0 || dilation == 0 {
        return Err("kernel, stride and dilation must be at least 1".into());
    }
    let reach = (kernel - 1).checked_mul(dilation).filter(|&reach| reach < POSITIONS);
    let reach = reach.ok_or("the kernel reaches over 2^30 positions")?;
    let [before, after] = match padding {
        Some(sides) => sides,
        None if stride != 1 => return Err("padding 'same' wants stride 1".into()),
        None => [reach / 2, reach - reach / 2],
    };
    if stride >= POSITIONS || before >= POSITIONS || after >= POSITIONS {
        return Err("stride or padding is over 2^30".into());
    }
    let padded = input + before + after;
    if padded >= POSITIONS {
        return Err("the padded input is over 2^30 positions".into());
    }
    if padded <= reach {
        return Err(format!(
            "the kernel spans {} positions and the padded input has {padded}",
            reach.saturating_add(1)
        ));
    }
    Ok(((padded - reach - 1) / stride + 1, before))
}

/// Images, and without groups output channels, of which a weight has axis `axis`.
pub(super) fn independence(io: &Io, groups: usize, axis: usize) -> Independence {
    let mut axes = vec![Along::new([Some(0)], [Some(0)])];
    if groups == 1 {
        axes.push(Along::new([None, Some(axis)], [Some(io.outputs[0].rank() - 1)]));
    }
    Independence::Axes(axes)
}
