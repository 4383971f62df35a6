//! Padding and cropping of any axes, as `torch.nn.functional.pad`.

use kiln_shaders as shaders;

use crate::ops::slabs::{self, Rows};
use crate::ops::spatial::{bind, groups, lanes, lanes_unit, words};
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Io, Kernel, Launch, Op, OpError, Source, Tensor, TensorDesc, Tier,
    Value, params,
};

/// What stands beyond the edges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// A number.
    Constant(f32),
    /// The elements mirrored at the first and the last one, which are not repeated.
    Reflect,
    /// The first and the last element.
    Replicate,
    /// The elements from the other end.
    Circular,
}

/// Adds elements before and after each axis; negative numbers of elements crop.
///
/// Moves elements of any type. Axes that are not named stay as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// What stands beyond the edges.
    pub mode: PadMode,
    /// Elements before and after each axis, the first axis first.
    pub pads: Vec<[i64; 2]>,
}

/// What no input position stands for.
const OUTSIDE: u32 = u32::MAX;

/// The input position of every output position of an axis; none where the constant stands.
fn positions(mode: PadMode, input: usize, [before, after]: [i64; 2]) -> Result<Vec<Option<usize>>, String> {
    // Far beyond any tensor, and sums of three of them do not overflow.
    const MOST: i64 = 1 << 40;
    let extent = input as i64;
    if before.abs() > MOST || after.abs() > MOST || extent > MOST {
        return Err("is too long".into());
    }
    let output = extent + before + after;
    if output < 0 || output > i64::from(u32::MAX) {
        return Err(format!("would be of length {output}"));
    }
    let largest = before.max(after);
    match mode {
        PadMode::Constant(_) => {}
        // Nothing to add: nothing that an empty input could not give.
        _ if largest <= 0 && output > 0 => {}
        _ if extent == 0 || output == 0 && !matches!(mode, PadMode::Circular) => {
            return Err("is empty".into());
        }
        PadMode::Reflect if largest >= extent => {
            return Err(format!("of {extent} has too few elements to mirror {largest}"));
        }
        PadMode::Circular if largest > extent + before.min(0) + after.min(0) => {
            return Err(format!("of {extent} has too few elements to take {largest} from the other end"));
        }
        _ => {}
    }
    let position = |i: i64| {
        let at = i - before;
        let at = match mode {
            PadMode::Constant(_) => return (0..extent).contains(&at).then_some(at as usize),
            PadMode::Replicate => at.clamp(0, (extent - 1).max(0)),
            PadMode::Reflect if at < 0 => -at,
            PadMode::Reflect if at >= extent => 2 * (extent - 1) - at,
            PadMode::Reflect => at,
            PadMode::Circular => {
                // Cropped first, then wrapped around.
                let (first, kept) = ((-before).max(0), extent + before.min(0) + after.min(0));
                first + (at - first).rem_euclid(kept.max(1))
            }
        };
        usize::try_from(at).ok()
    };
    Ok((0..output).map(position).collect())
}

impl Pad {
    /// The input positions along every axis.
    fn axes(&self, inputs: &[TensorDesc]) -> Result<Vec<Vec<Option<usize>>>, OpError> {
        let [x] = inputs else { return Err(OpError::new("pad", inputs, "wants one input")) };
        if self.pads.len() > x.rank() {
            let reason = format!("pads {} axes", self.pads.len());
            return Err(OpError::new("pad", inputs, reason));
        }
        let pads = self.pads.iter().copied().chain(std::iter::repeat([0, 0]));
        x.shape
            .iter()
            .zip(pads)
            .enumerate()
            .map(|(axis, (&extent, pads))| {
                let refused = |reason| OpError::new("pad", inputs, format!("axis {axis} {reason}"));
                positions(self.mode, extent, pads).map_err(refused)
            })
            .collect()
    }

    fn fill(&self) -> f32 {
        if let PadMode::Constant(value) = self.mode { value } else { 0.0 }
    }
}

/// An axis of the copy: its extents and the input position of every output position, where they differ.
#[derive(Clone, Debug)]
struct Axis {
    input: usize,
    output: usize,
    positions: Option<Vec<Option<usize>>>,
}

impl Axis {
    /// An axis that stays as it is.
    fn plain(extent: usize) -> Self {
        Self { input: extent, output: extent, positions: None }
    }

    fn position(&self, i: usize) -> Option<usize> {
        self.positions.as_ref().map_or(Some(i), |positions| positions[i])
    }

    /// Appends the positions to a table, and gives where they begin.
    fn tabulate(&self, table: &mut Vec<u32>) -> u32 {
        let Some(positions) = &self.positions else { return OUTSIDE };
        let at = table.len() as u32;
        table.extend(positions.iter().map(|at| at.map_or(OUTSIDE, |at| at as u32)));
        at
    }
}

/// Four axes, after merging neighbours that both stay as they are; the last holds whole channels where it can.
fn four_axes(shape: &[usize], axes: Vec<Vec<Option<usize>>>) -> Option<[Axis; 4]> {
    let mut merged: Vec<Axis> = Vec::new();
    for (&input, positions) in shape.iter().zip(axes) {
        let same = positions.len() == input && positions.iter().enumerate().all(|(i, at)| *at == Some(i));
        match merged.last_mut() {
            Some(last) if last.positions.is_none() && same => *last = Axis::plain(last.input * input),
            _ if same => merged.push(Axis::plain(input)),
            _ => merged.push(Axis { input, output: positions.len(), positions: Some(positions) }),
        }
    }
    if merged.last().is_none_or(|axis| axis.positions.is_some()) && merged.len() < 4 {
        merged.push(Axis::plain(1));
    }
    // Ones before the last axis, so that the leading axes count rows.
    while merged.len() < 4 {
        merged.insert(merged.len() - 1, Axis::plain(1));
    }
    merged.try_into().ok()
}

params! {
    struct PadParams {
        first_row: u32, rows: u32, in_height: u32, in_width: u32, in_channels: u32, out_height: u32, out_width: u32,
        out_channels: u32, images_at: u32, rows_at: u32, columns_at: u32, channels_at: u32, x_origin: u32, y_origin: u32,
        value: f32,
    }
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let axes = self.axes(inputs)?;
        let x = &inputs[0];
        let shape: Vec<usize> = axes.iter().map(Vec::len).collect();
        let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        if elements.is_none_or(|elements| elements > u32::MAX as usize) {
            return Err(OpError::new("pad", inputs, "the result has more than 2^32 elements"));
        }
        let fill = self.fill();
        if !x.dtype.is_float() && (fill.fract() != 0.0 || fill.abs() > 16_777_216.0) {
            return Err(OpError::new("pad", inputs, format!("{fill} is no exact integer")));
        }
        if x.dtype == DType::U32 && fill < 0.0 || x.dtype == DType::Bool && fill != 0.0 && fill != 1.0 {
            return Err(OpError::new("pad", inputs, format!("{fill} is out of the type's range")));
        }
        if four_axes(&x.shape, axes).is_none() {
            return Err(OpError::new("pad", inputs, "pads more than four separate axes"));
        }
        Ok(vec![TensorDesc::new(shape, x.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let axes = self.axes(&[x.desc()])?;
        let shape: Vec<usize> = axes.iter().map(Vec::len).collect();
        let strides = x.desc().strides();
        let source = |mut i: usize| {
            let mut index = Some(0);
            for (positions, stride) in axes.iter().zip(&strides).rev() {
                let at = positions[i % positions.len()];
                i /= positions.len();
                index = index.zip(at).map(|(index, at)| index + at * stride);
            }
            index
        };
        let elements: usize = shape.iter().product();
        let moved = x.pick(shape.clone(), (0..elements).map(source))?;
        let fill = self.fill();
        if fill == 0.0 {
            return Ok(vec![moved]);
        }
        // The constant is picked from an element appended to the input.
        let mut values = x.to_f64();
        values.push(fill.into());
        let last = x.len();
        let extended = Tensor::from_f64([last + 1], x.dtype(), &values)?;
        Ok(vec![extended.pick(shape, (0..elements).map(|i| Some(source(i).unwrap_or(last))))?])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (x, y) = (&io.inputs[0], &io.outputs[0]);
        let axes = four_axes(&x.shape, self.axes(&io.inputs[..1])?)
            .ok_or_else(|| OpError::new("pad", io.inputs, "pads more than four separate axes"))?;
        let lanes = if axes[3].positions.is_none() { lanes(axes[3].input) } else { 1 };
        let [images, rows, columns, channels] = &axes;
        // The tensors as images.
        let x_image = TensorDesc::new(axes.each_ref().map(|axis| axis.input), x.dtype);
        let y_image = TensorDesc::new(axes.each_ref().map(|axis| axis.output), y.dtype);
        let reads =
            |line: usize| match (images.position(line / rows.output), rows.position(line % rows.output)) {
                (Some(image), Some(row)) => image * rows.input + row..image * rows.input + row + 1,
                _ => 0..0,
            };
        let mut table = Vec::new();
        let [images_at, rows_at, columns_at, channels_at] =
            axes.each_ref().map(|axis| axis.tabulate(&mut table));
        let mut launch = Launch { name: "move", tables: vec![words(table)], ..Launch::default() };
        for slab in slabs::cut(Rows::of(&x_image, 2), &[Rows::of(&y_image, 2)], reads, tier)? {
            let loads = slab.rows.len() * columns.output * channels.output / lanes;
            let (workgroup, groups) = groups(loads, tier);
            let params = PadParams {
                first_row: slab.rows.start as u32,
                rows: slab.rows.len() as u32,
                in_height: rows.input as u32,
                in_width: columns.input as u32,
                in_channels: (channels.input / lanes) as u32,
                out_height: rows.output as u32,
                out_width: columns.output as u32,
                out_channels: (channels.output / lanes) as u32,
                images_at,
                rows_at,
                columns_at,
                channels_at,
                x_origin: slabs::origin(&slab.x, x, lanes),
                y_origin: slabs::origin(&slab.y[0], y, lanes),
                value: self.fill(),
                ..Default::default()
            };
            let parts = [units::elem(x.dtype), shaders::GRID, lanes_unit(lanes), shaders::SPATIAL_PAD];
            let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
            let dispatch = Dispatch::new(kernel, params, groups).bind("positions", Source::Table(0));
            launch.dispatches.push(bind(dispatch, &slab));
        }
        Ok(vec![launch])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }
}

impl Builder {
    /// Pads or crops the axes of `x`, the first axis first; axes that are not named stay as they are.
    pub fn pad(
        &mut self,
        x: Value,
        mode: PadMode,
        pads: impl Into<Vec<[i64; 2]>>,
    ) -> Result<Value, GraphError> {
        self.op(Pad { mode, pads: pads.into() }, &[x])
    }

    /// Pads rows and columns of `x` of shape `[N, H, W, C]`.
    pub fn pad2d(
        &mut self,
        x: Value,
        mode: PadMode,
        rows: [i64; 2],
        columns: [i64; 2],
    ) -> Result<Value, GraphError> {
        self.pad(x, mode, [[0, 0], rows, columns])
    }
}

/// Cases: every mode on images, tokens and single axes, crops, all types, extents of 0 and 1.
pub fn cases() -> Vec<Case> {
    let case = |mode, pads: &[[i64; 2]], shape: &[usize]| {
        Case::new(Pad { mode, pads: pads.to_vec() }, [Fill::uniform(-1.0, 1.0).shape(shape)]).exact()
    };
    let (half, zero) = (PadMode::Constant(0.5), PadMode::Constant(0.0));
    let mut cases = vec![
        case(half, &[[0, 0], [3, 0], [1, 2]], &[1, 5, 6, 4]),
        case(half, &[[0, 0], [3, 0], [1, 2]], &[2, 5, 6, 3]),
        case(half, &[[0, 0], [0, -1], [-1, 2]], &[1, 5, 6, 4]),
        case(half, &[[1, 2], [0, 1], [2, 0], [3, 1]], &[2, 3, 4, 5]),
        case(zero, &[[0, 0], [0, 1], [0, 1], [0, 0]], &[2, 7, 9, 8]),
        case(zero, &[[0, 0], [2, 3]], &[2, 7, 8]),
        case(zero, &[[0, 0], [0, 0], [0, 3]], &[2, 7, 33]),
        case(half, &[[2, 1]], &[0]),
        case(half, &[[2, 1], [0, 0]], &[0, 4]),
        case(half, &[[0, 0], [1, 1]], &[0, 3]),
        case(zero, &[], &[3]),
        case(zero, &[[-2, -1]], &[3]),
        case(half, &[], &[]),
        case(PadMode::Constant(f32::NEG_INFINITY), &[[0, 0], [1, 1], [1, 1]], &[1, 3, 3, 4]),
    ];
    for mode in [PadMode::Reflect, PadMode::Replicate, PadMode::Circular] {
        cases.push(case(mode, &[[0, 0], [3, 1], [1, 2]], &[1, 5, 6, 4]));
        cases.push(case(mode, &[[0, 0], [3, 4], [5, 5]], &[2, 5, 6, 3]));
        cases.push(case(mode, &[[0, 0], [2, -1], [-1, 2]], &[1, 5, 6, 8]));
        cases.push(case(mode, &[[0, 0], [2, 3]], &[2, 31, 7]));
        cases.push(case(mode, &[[0, 0], [0, 0], [1, 2]], &[1, 3, 5]).full());
    }
    cases.push(case(PadMode::Replicate, &[[0, 0], [3, 1], [1, 9]], &[1, 1, 2, 4]));
    let typed = |dtype, low, high, value: f32| {
        let pads = vec![[0, 0], [1, 2], [2, 0]];
        let input = Fill::typed(dtype, low, high).shape([2, 3, 4, 3]);
        Case::new(Pad { mode: PadMode::Constant(value), pads }, [input]).exact().f32_only()
    };
    cases.push(typed(DType::I32, -1_000_000_000, 1_000_000_000, -7.0));
    cases.push(typed(DType::U32, 0, 1_000_000_000, 7.0));
    cases.push(typed(DType::Bool, 0, 1, 1.0));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(mode: PadMode, pads: [i64; 2], input: &[f32]) -> Option<Vec<f32>> {
        let x = Tensor::f32([input.len()], input.to_vec()).unwrap();
        let op = Pad { mode, pads: vec![pads] };
        op.infer(&[x.desc()]).ok()?;
        Some(op.reference(&[&x]).unwrap()[0].to_f32().to_vec())
    }

    #[test]
    fn edges_are_pytorchs() {
        let x = [1., 2., 3., 4.];
        let reflect = |pads| padded(PadMode::Reflect, pads, &x);
        assert_eq!(reflect([3, 0]), Some(vec![4., 3., 2., 1., 2., 3., 4.]));
        assert_eq!(reflect([-1, 2]), Some(vec![2., 3., 4., 3., 2.]));
        assert_eq!(reflect([3, -2]), Some(vec![4., 3., 2., 1., 2.]));
        assert_eq!(reflect([-2, 3]), Some(vec![3., 4., 3., 2., 1.]));
        let replicate = |pads| padded(PadMode::Replicate, pads, &x);
        assert_eq!(replicate([5, -2]), Some(vec![1., 1., 1., 1., 1., 1., 2.]));
        assert_eq!(replicate([-3, 3]), Some(vec![4., 4., 4., 4.]));
        let circular = |pads| padded(PadMode::Circular, pads, &x);
        assert_eq!(circular([3, 0]), Some(vec![2., 3., 4., 1., 2., 3., 4.]));
        assert_eq!(circular([-1, 2]), Some(vec![2., 3., 4., 2., 3.]));
        assert_eq!(circular([2, -1]), Some(vec![2., 3., 1., 2., 3.]));
        assert_eq!(padded(PadMode::Constant(9.0), [-3, 2], &x), Some(vec![4., 9., 9.]));
    }

    #[test]
    fn what_cannot_be_padded_is_refused() {
        let x = [1., 2., 3., 4.];
        assert_eq!(padded(PadMode::Reflect, [4, 0], &x), None);
        assert_eq!(padded(PadMode::Reflect, [-2, -2], &x), None);
        assert_eq!(padded(PadMode::Replicate, [1, 0], &[]), None);
        assert_eq!(padded(PadMode::Circular, [5, 0], &x), None);
        assert_eq!(padded(PadMode::Constant(0.0), [-3, -2], &x), None);
        assert_eq!(padded(PadMode::Constant(0.0), [i64::MIN, 0], &x), None);
        assert_eq!(padded(PadMode::Constant(0.0), [i64::MAX, 0], &x), None);
        let op = Pad { mode: PadMode::Constant(0.5), pads: vec![[1, 1]] };
        assert!(op.infer(&[TensorDesc::new([3], DType::I32)]).is_err());
        assert!(op.infer(&[TensorDesc::new([], DType::F32)]).is_err());
        let op = Pad { mode: PadMode::Replicate, pads: vec![[1, 1]; 5] };
        assert!(op.infer(&[TensorDesc::new([2; 5], DType::F32)]).is_err());
    }
}
