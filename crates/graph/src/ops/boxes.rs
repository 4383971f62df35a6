//! Boxes: formats, areas, clipping, overlap. As torchvision's `ops.boxes`.

use kiln_shaders as shaders;

use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor,
    TensorDesc, Tier, Value, params,
};

/// What a box's four numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxFormat {
    /// Left, top, right, bottom.
    Xyxy,
    /// Left, top, width, height.
    Xywh,
    /// Centre x, centre y, width, height.
    Cxcywh,
}

/// Boxes, along the last axis, in another format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxConvert {
    /// The format they have.
    pub from: BoxFormat,
    /// The format they get.
    pub to: BoxFormat,
}

/// Areas of boxes of corners, along the last axis: `[..., 4]` to `[...]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxArea;

/// Boxes of corners moved inside an image of this size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipBoxes {
    /// The image's height.
    pub height: f32,
    /// The image's width.
    pub width: f32,
}

/// A measure of two boxes' overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IouKind {
    /// Intersection over union.
    Iou,
    /// Less the share of the smallest box around both that neither fills (Rezatofighi et al. 2019).
    Generalized,
    /// Less the squared distance of the centres over that box's squared diagonal (Zheng et al. 2020).
    Distance,
    /// Less a term of the aspect ratios too.
    Complete,
}

/// Overlap of every box of `a`, `[N, 4]`, with every box of `b`, `[M, 4]`, corners both: `[N, M]`. Two boxes without any
/// area give NaN, as in torchvision, where a device keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairwiseIou {
    /// The measure.
    pub kind: IouKind,
}

params! {
    struct BoxParams { len: u32, source: u32, wanted: u32, width: f32, height: f32 }
}

params! {
    struct PairParams { len: u32, columns: u32 }
}

/// Checks a tensor of boxes and gives its description.
pub(super) fn boxes_of<'a>(
    op: &'static str,
    inputs: &'a [TensorDesc],
    index: usize,
) -> Result<&'a TensorDesc, OpError> {
    match inputs.get(index) {
        Some(x) if x.dtype.is_float() && x.shape.last() == Some(&4) => Ok(x),
        _ => Err(OpError::new(op, inputs, "wants floating-point boxes of four numbers along the last axis")),
    }
}

fn one_of(op: &'static str, inputs: &[TensorDesc]) -> Result<(), OpError> {
    boxes_of(op, inputs, 0)?;
    if inputs.len() == 1 { Ok(()) } else { Err(OpError::new(op, inputs, "wants one input")) }
}

fn to_corners(b: [f64; 4], format: BoxFormat) -> [f64; 4] {
    let [x, y, z, w] = b;
    match format {
        BoxFormat::Xyxy => b,
        BoxFormat::Xywh => [x, y, x + z, y + w],
        BoxFormat::Cxcywh => [x - 0.5 * z, y - 0.5 * w, x + 0.5 * z, y + 0.5 * w],
    }
}

fn from_corners(b: [f64; 4], format: BoxFormat) -> [f64; 4] {
    let [x1, y1, x2, y2] = b;
    match format {
        BoxFormat::Xyxy => b,
        BoxFormat::Xywh => [x1, y1, x2 - x1, y2 - y1],
        BoxFormat::Cxcywh => [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1],
    }
}

/// A tensor's boxes.
pub(super) fn quads(x: &Tensor) -> Vec<[f64; 4]> {
    x.to_f64().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect()
}

fn map(x: &Tensor, f: impl Fn([f64; 4]) -> [f64; 4]) -> Result<Vec<Tensor>, OpError> {
    let values: Vec<f64> = quads(x).into_iter().flat_map(f).collect();
    Ok(vec![Tensor::from_f64(x.shape(), x.dtype(), &values)?])
}

fn launch(file: crate::Unit, work: u32, params: BoxParams, io: &Io, tier: &Tier) -> Vec<Launch> {
    let x = &io.inputs[0];
    let boxes = x.len() / 4;
    let workgroup = 64.min(tier.limits.max_invocations);
    let kernel = Kernel::new([units::elem(x.dtype), shaders::GRID, shaders::BOXES, file])
        .set("WORKGROUP", workgroup)
        .set("WORK", work);
    let params = BoxParams { len: boxes as u32, ..params };
    let dispatch = Dispatch::new(kernel, params, (boxes as u64).div_ceil(workgroup.into()))
        .bind("boxes", Source::Input(0))
        .bind("y", Source::Output(0));
    vec![Launch::one("boxes", dispatch)]
}

impl Op for BoxConvert {
    fn name(&self) -> &'static str {
        "box_convert"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        one_of(self.name(), inputs)?;
        Ok(inputs.to_vec())
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        map(inputs[0], |b| from_corners(to_corners(b, self.from), self.to))
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[io.inputs[0].rank() - 1])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let params = BoxParams { source: self.from as u32, wanted: self.to as u32, ..Default::default() };
        Ok(launch(shaders::BOXES_MAP, 0, params, io, tier))
    }
}

impl Op for ClipBoxes {
    fn name(&self) -> &'static str {
        "clip_boxes"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        one_of(self.name(), inputs)?;
        Ok(inputs.to_vec())
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (w, h) = (f64::from(self.width), f64::from(self.height));
        let inside = |v: f64, most: f64| v.max(0.0).min(most);
        map(inputs[0], |[x1, y1, x2, y2]| [inside(x1, w), inside(y1, h), inside(x2, w), inside(y2, h)])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[io.inputs[0].rank() - 1])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let params = BoxParams { width: self.width, height: self.height, ..Default::default() };
        Ok(launch(shaders::BOXES_MAP, 1, params, io, tier))
    }
}

impl Op for BoxArea {
    fn name(&self) -> &'static str {
        "box_area"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        one_of(self.name(), inputs)?;
        let mut out = inputs[0].clone();
        out.shape.pop();
        Ok(vec![out])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc()])?.swap_remove(0);
        let areas: Vec<f64> =
            quads(inputs[0]).into_iter().map(|[x1, y1, x2, y2]| (x2 - x1) * (y2 - y1)).collect();
        Ok(vec![Tensor::from_f64(out.shape, out.dtype, &areas)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[io.inputs[0].rank() - 1])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        Ok(launch(shaders::BOXES_AREA, 2, BoxParams::default(), io, tier))
    }
}

impl IouKind {
    fn apply(self, a: [f64; 4], b: [f64; 4]) -> f64 {
        let area = |b: [f64; 4]| (b[2] - b[0]) * (b[3] - b[1]);
        let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
        let hull = |i: usize| (a[i + 2].max(b[i + 2]) - a[i].min(b[i])).max(0.0);
        let inter = side(0) * side(1);
        let union = area(a) + area(b) - inter;
        let iou = inter / union;
        let distance = || {
            let apart = |i: usize| 0.5 * ((a[i] + a[i + 2]) - (b[i] + b[i + 2]));
            let diagonal = hull(0) * hull(0) + hull(1) * hull(1) + 1e-7;
            iou - (apart(0) * apart(0) + apart(1) * apart(1)) / diagonal
        };
        match self {
            IouKind::Iou => iou,
            IouKind::Generalized => iou - (hull(0) * hull(1) - union) / (hull(0) * hull(1)),
            IouKind::Distance => distance(),
            IouKind::Complete => {
                let slope = |b: [f64; 4]| ((b[2] - b[0]) / (b[3] - b[1])).atan();
                let turn = slope(a) - slope(b);
                let v = 4.0 / std::f64::consts::PI.powi(2) * turn * turn;
                distance() - v * v / (1.0 - iou + v + 1e-7)
            }
        }
    }
}

impl Op for PairwiseIou {
    fn name(&self) -> &'static str {
        "pairwise_iou"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let (a, b) = (boxes_of(self.name(), inputs, 0)?, boxes_of(self.name(), inputs, 1)?);
        match (&a.shape[..], &b.shape[..]) {
            (&[n, _], &[m, _]) if a.dtype == b.dtype && inputs.len() == 2 => {
                Ok(vec![TensorDesc::new([n, m], a.dtype)])
            }
            _ => Err(OpError::new(self.name(), inputs, "wants boxes [N, 4] and [M, 4] of one type")),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc(), inputs[1].desc()])?.swap_remove(0);
        let (a, b) = (quads(inputs[0]), quads(inputs[1]));
        let values: Vec<f64> =
            a.iter().flat_map(|&a| b.iter().map(move |&b| self.kind.apply(a, b))).collect();
        Ok(vec![Tensor::from_f64(out.shape, out.dtype, &values)?])
    }

    fn independence(&self, _: &Io) -> Independence {
        let first = Some(0);
        Independence::Axes(vec![Along::new([first], [first]), Along::new([None, first], [Some(1)])])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let out = &io.outputs[0];
        let params = PairParams { len: out.len() as u32, columns: out.last() as u32, ..Default::default() };
        let workgroup = 64.min(tier.limits.max_invocations);
        let units = [units::elem(out.dtype), shaders::GRID, shaders::IOU, shaders::PAIRWISE_IOU];
        let kernel = Kernel::new(units).set("WORKGROUP", workgroup).set("KIND", self.kind as u32);
        let dispatch = Dispatch::new(kernel, params, (out.len() as u64).div_ceil(workgroup.into()))
            .bind("a", Source::Input(0))
            .bind("b", Source::Input(1))
            .bind("y", Source::Output(0));
        Ok(vec![Launch::one("pairs", dispatch)])
    }
}

impl Builder {
    /// Boxes in another format.
    pub fn box_convert(&mut self, boxes: Value, from: BoxFormat, to: BoxFormat) -> Result<Value, GraphError> {
        self.op(BoxConvert { from, to }, &[boxes])
    }

    /// Areas of boxes of corners.
    pub fn box_area(&mut self, boxes: Value) -> Result<Value, GraphError> {
        self.op(BoxArea, &[boxes])
    }

    /// Boxes of corners moved inside an image.
    pub fn clip_boxes(&mut self, boxes: Value, height: f32, width: f32) -> Result<Value, GraphError> {
        self.op(ClipBoxes { height, width }, &[boxes])
    }

    /// Overlap of every box of `a` with every box of `b`.
    pub fn pairwise_iou(&mut self, kind: IouKind, a: Value, b: Value) -> Result<Value, GraphError> {
        self.op(PairwiseIou { kind }, &[a, b])
    }
}

/// Corners of so many boxes of positive sides on a small grid, so that many overlap and f16 holds them.
pub(super) fn corners(count: usize, seed: u64) -> Fill {
    let mut state = seed;
    let mut next = |span: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % span) as f64
    };
    let mut values = Vec::with_capacity(4 * count);
    for _ in 0..count {
        let (x, y) = (next(40), next(40));
        values.extend([x, y, x + 1.0 + next(24), y + 1.0 + next(24)]);
    }
    Fill::given(crate::DType::F32, values).shape([count, 4])
}

/// Cases: every pair of formats, every measure, boxes outside the image, none at all.
pub fn cases() -> Vec<Case> {
    let formats = [BoxFormat::Xyxy, BoxFormat::Xywh, BoxFormat::Cxcywh];
    let boxes = |shape: &[usize]| Fill::uniform(-8.0, 8.0).shape(shape);
    let mut cases = Vec::new();
    for from in formats {
        for to in formats {
            cases.push(Case::new(BoxConvert { from, to }, [boxes(&[2, 33, 4])]));
        }
    }
    let convert = BoxConvert { from: BoxFormat::Cxcywh, to: BoxFormat::Xyxy };
    cases.push(Case::new(convert, [boxes(&[0, 4])]));
    cases.push(Case::new(convert, [boxes(&[4])]));
    cases.push(Case::new(BoxArea, [boxes(&[3, 5, 4])]));
    cases.push(Case::new(BoxArea, [boxes(&[4])]));
    cases.push(Case::new(ClipBoxes { height: 3.0, width: 5.5 }, [boxes(&[65, 4])]).exact());
    for kind in [IouKind::Iou, IouKind::Generalized, IouKind::Distance, IouKind::Complete] {
        cases.push(Case::new(PairwiseIou { kind }, [corners(33, 1), corners(17, 2)]));
        cases.push(Case::new(PairwiseIou { kind }, [corners(1, 3), corners(1, 4)]));
    }
    cases.push(Case::new(PairwiseIou { kind: IouKind::Iou }, [corners(3, 5), boxes(&[0, 4])]));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn formats_go_there_and_back() {
        let x = Tensor::f32([4], vec![1., 2., 5., 8.]).unwrap();
        let convert = |from, to, x: &Tensor| BoxConvert { from, to }.reference(&[x]).unwrap().swap_remove(0);
        let y = convert(BoxFormat::Xyxy, BoxFormat::Cxcywh, &x);
        assert_eq!(y.as_f32(), Some(&[3., 5., 4., 6.][..]));
        assert_eq!(convert(BoxFormat::Cxcywh, BoxFormat::Xyxy, &y), x);
        assert_eq!(BoxArea.reference(&[&x]).unwrap()[0].as_f32(), Some(&[24.][..]));
    }

    #[test]
    fn overlaps_are_what_they_should_be() {
        let (a, b) = ([0., 0., 2., 2.], [1., 1., 3., 3.]);
        assert_eq!(IouKind::Iou.apply(a, b), 1.0 / 7.0);
        assert_eq!(IouKind::Generalized.apply(a, b), 1.0 / 7.0 - 2.0 / 9.0);
        assert!((IouKind::Distance.apply(a, b) - (1.0 / 7.0 - 2.0 / 18.0)).abs() < 1e-8);
    }

    #[test]
    fn what_is_no_box_is_refused() {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        assert!(BoxArea.infer(&[desc(&[3, 5])]).is_err());
        assert!(BoxArea.infer(&[TensorDesc::new([3, 4], DType::I32)]).is_err());
        let iou = PairwiseIou { kind: IouKind::Iou };
        assert!(iou.infer(&[desc(&[3, 4]), desc(&[4])]).is_err());
        assert!(iou.infer(&[desc(&[3, 4])]).is_err());
    }
}
