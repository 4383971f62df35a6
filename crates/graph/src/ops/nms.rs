//! Non-maximum suppression, and other choices of boxes whose number depends on the data.

use kiln_shaders as shaders;

use crate::ops::boxes::{boxes_of, corners, quads};
use crate::ops::lines::{self, workgroup_for};
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Io, Kernel, Launch, Op, OpError, Params, Source, Tensor,
    TensorDesc, Tier, Value, params,
};

/// Greedy non-maximum suppression, as torchvision's `nms`: boxes in the order of their scores, each kept where no kept
/// box before it overlaps it by an IoU of more than the threshold.
///
/// Inputs are boxes `[N, 4]` (corners), scores `[N]` and, with `classes`, classes `[N]` (i32): then boxes compete within
/// their class alone, as in `batched_nms`. Outputs are the kept boxes' indices in order, i32 `[N]` padded with -1, and
/// their number, i32 `[1]`. Boxes of equal scores keep their order; a NaN score comes first; a box with a NaN overlaps
/// none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nms {
    /// Largest IoU of two kept boxes.
    pub threshold: f32,
    /// Whether there is a third input.
    pub classes: bool,
}

/// Boxes `[N, 4]` (corners) whose sides are both at least this long, as torchvision's `remove_small_boxes`: their
/// indices in order, i32 `[N]` padded with -1, and their number, i32 `[1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RemoveSmallBoxes {
    /// Shortest side that stays.
    pub min_size: f32,
}

params! {
    struct NmsParams { len: u32, threshold: f32 }
}

params! {
    struct SweepParams { len: u32, threshold: f32, first: u32, end: u32 }
}

params! {
    struct SmallParams { len: u32, min_size: f32 }
}

/// The outputs' descriptions: indices and their number.
fn outputs(boxes: usize) -> Vec<TensorDesc> {
    vec![TensorDesc::new([boxes], DType::I32), TensorDesc::new([1], DType::I32)]
}

/// The outputs of these indices.
fn padded(mut kept: Vec<i32>, boxes: usize) -> Result<Vec<Tensor>, OpError> {
    let count = kept.len() as i32;
    kept.resize(boxes, -1);
    Ok(vec![Tensor::i32([boxes], kept)?, Tensor::i32([1], vec![count])?])
}

impl Nms {
    fn check(&self, inputs: &[TensorDesc]) -> Result<usize, OpError> {
        let wrong = |reason: &str| OpError::new("nms", inputs, reason);
        let boxes = boxes_of("nms", inputs, 0)?;
        let [n, _] = boxes.shape[..] else { return Err(wrong("wants boxes of shape [N, 4]")) };
        let scores = TensorDesc::new([n], boxes.dtype);
        let classes = TensorDesc::new([n], DType::I32);
        let wanted = [boxes.clone(), scores, classes];
        let wanted = if self.classes { &wanted[..] } else { &wanted[..2] };
        if inputs != wanted {
            return Err(wrong("wants a score of the boxes' type for each box, then a class of i32 if any"));
        }
        if n == 0 {
            return Err(wrong("wants a box"));
        }
        Ok(n)
    }
}

/// Intersection over union in f32, as torchvision computes it: the threshold decides by its last bit.
pub(super) fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area = |b: [f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let inter = side(0) * side(1);
    inter / (area(a) + area(b) - inter)
}

impl Op for Nms {
    fn name(&self) -> &'static str {
        "nms"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        Ok(outputs(self.check(inputs)?))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|x| x.desc()).collect();
        let n = self.check(&descs)?;
        let boxes: Vec<[f32; 4]> = quads(inputs[0]).into_iter().map(|b| b.map(|v| v as f32)).collect();
        let scores = inputs[1].to_f64();
        let classes = inputs.get(2).map(|classes| classes.to_f64());
        let class = |i: usize| classes.as_ref().map_or(0.0, |classes| classes[i]);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| lines::compare(scores[b], scores[a]));
        let mut kept: Vec<i32> = Vec::new();
        for i in order {
            let beaten = |&k: &i32| {
                let k = k as usize;
                class(k) == class(i) && iou(boxes[k], boxes[i]) > self.threshold
            };
            if !kept.iter().any(beaten) {
                kept.push(i as i32);
            }
        }
        padded(kept, n)
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let own = if self.classes { 3 } else { 2 };
        let n = self.check(&io.inputs[..own])?;
        let dtype = io.inputs[0].dtype;
        let params = NmsParams { len: n as u32, threshold: self.threshold, ..Default::default() };
        let lanes = 64.min(tier.limits.max_invocations);
        let units = [units::elem(dtype), lines::order(dtype), shaders::GRID, shaders::NMS_ORDER];
        let order = Dispatch::new(
            Kernel::new(units).set("WORKGROUP", lanes),
            params,
            (n as u64).div_ceil(lanes.into()),
        )
        .bind("scores", Source::Input(1))
        .bind("order", Source::Scratch(0));
        let compete = if self.classes { shaders::NMS_CLASSES } else { shaders::NMS_ALL };
        let sweep = |file, params: Params| {
            let kernel =
                Kernel::new([units::elem(dtype), compete.clone(), shaders::GRID, shaders::IOU, file]);
            let dispatch = Dispatch::new(kernel, params, 1)
                .bind("boxes", Source::Input(0))
                .bind("order", Source::Scratch(0))
                .bind("kept", Source::Output(0))
                .bind("count", Source::Output(1));
            if self.classes { dispatch.bind("classes", Source::Input(2)) } else { dispatch }
        };
        let bytes = 4 * n as u64;
        let lane = Launch {
            name: "lane",
            scratch: vec![bytes],
            dispatches: vec![order.clone(), sweep(shaders::NMS_LANE, params.into())],
            ..Launch::default()
        };
        let width = workgroup_for(n, tier);
        let stretch = (units::MAX_LOOP_ITERATIONS / (2 + n / width as usize)).max(1);
        let wide = |first: usize| {
            let params = SweepParams {
                len: n as u32,
                threshold: self.threshold,
                first: first as u32,
                end: (first + stretch).min(n) as u32,
                ..Default::default()
            };
            let mut wide =
                sweep(shaders::NMS_WORKGROUP, params.into()).bind("suppressed", Source::Scratch(1));
            wide.kernel = wide.kernel.set("WORKGROUP", width);
            wide
        };
        let sweeps = (0..n.max(1)).step_by(stretch).map(wide);
        let workgroup = Launch {
            name: "workgroup",
            scratch: vec![bytes, bytes],
            dispatches: std::iter::once(order).chain(sweeps).collect(),
            ..Launch::default()
        };
        // Each box meets the kept ones before it.
        let meetings = n.saturating_mul(n + 3) / 2;
        Ok(units::alone_or_shared(lane, workgroup, meetings, tier.software))
    }

    fn flops(&self, io: &Io) -> u64 {
        let n = io.outputs.first().map_or(0, |kept| kept.len() as u64);
        8 * n * n
    }
}

impl Op for RemoveSmallBoxes {
    fn name(&self) -> &'static str {
        "remove_small_boxes"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new(self.name(), inputs, reason);
        match boxes_of(self.name(), inputs, 0)?.shape[..] {
            [n, _] if inputs.len() == 1 && n > 0 => Ok(outputs(n)),
            _ => Err(wrong("wants boxes of shape [N, 4], at least one")),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let boxes = quads(inputs[0]);
        let stays = |b: &[f64; 4]| {
            let [x1, y1, x2, y2] = b.map(|v| v as f32);
            x2 - x1 >= self.min_size && y2 - y1 >= self.min_size
        };
        let kept = boxes.iter().enumerate().filter(|(_, b)| stays(b)).map(|(i, _)| i as i32).collect();
        padded(kept, boxes.len())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let boxes = &io.inputs[0];
        let n = boxes.len() / 4;
        let params = SmallParams { len: n as u32, min_size: self.min_size, ..Default::default() };
        let workgroup = 64.min(tier.limits.max_invocations);
        let units = [units::elem(boxes.dtype), shaders::GRID, shaders::REMOVE_SMALL_BOXES];
        let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
        let dispatch = Dispatch::new(kernel, params, (n as u64).div_ceil(workgroup.into()))
            .bind("boxes", Source::Input(0))
            .bind("kept", Source::Output(0))
            .bind("count", Source::Output(1));
        Ok(vec![Launch::one("boxes", dispatch)])
    }
}

impl Builder {
    /// Indices of the boxes that survive suppression, padded with -1, and their number.
    pub fn nms(&mut self, boxes: Value, scores: Value, threshold: f32) -> Result<(Value, Value), GraphError> {
        self.indices(Nms { threshold, classes: false }, &[boxes, scores])
    }

    /// The same within each class.
    pub fn batched_nms(
        &mut self,
        boxes: Value,
        scores: Value,
        classes: Value,
        threshold: f32,
    ) -> Result<(Value, Value), GraphError> {
        self.indices(Nms { threshold, classes: true }, &[boxes, scores, classes])
    }

    /// Indices of the boxes with sides of at least `min_size`, padded with -1, and their number.
    pub fn remove_small_boxes(&mut self, boxes: Value, min_size: f32) -> Result<(Value, Value), GraphError> {
        self.indices(RemoveSmallBoxes { min_size }, &[boxes])
    }

    fn indices(&mut self, op: impl Op, inputs: &[Value]) -> Result<(Value, Value), GraphError> {
        let name = op.name();
        match self.op_all(op, inputs)?[..] {
            [indices, count] => Ok((indices, count)),
            _ => {
                let error = OpError::new(name, &[], "gives indices and their number");
                Err(GraphError::Op { path: self.path(), error })
            }
        }
    }
}

/// Cases: few and many boxes, all thresholds, classes, equal scores, NaNs.
pub fn cases() -> Vec<Case> {
    let scores = |n: usize| Fill::uniform(0.0, 1.0).shape([n]);
    let nms = |threshold, n: usize| {
        Case::new(Nms { threshold, classes: false }, [corners(n, n as u64), scores(n)]).exact()
    };
    let batched = |threshold, n: usize| {
        let classes = Fill::typed(DType::I32, -1, 2).shape([n]);
        let op = Nms { threshold, classes: true };
        Case::new(op, [corners(n, 7 * n as u64), scores(n), classes]).exact()
    };
    let mut cases = vec![nms(0.5, 1), nms(0.3, 2), nms(0.33, 33), nms(0.9, 65), nms(0.0, 127), nms(0.1, 257)];
    // Where few are suppressed, one invocation's loops would be too long, and then a workgroup's.
    cases.extend([nms(0.99, 700), nms(0.999, 6000).full()]);
    cases.extend([batched(0.41, 1), batched(0.41, 65), batched(0.1, 129)]);
    // Equal scores, and the same box again and again.
    let op = Nms { threshold: 0.5, classes: false };
    let same = Fill::given(DType::F32, [0.0, 0.0, 4.0, 4.0]).shape([9, 4]);
    cases.push(Case::new(op, [same, Fill::given(DType::F32, [0.25]).shape([9])]).exact());
    // Boxes without area overlap nothing.
    let flat = Fill::given(DType::F32, [1.0, 1.0, 1.0, 5.0, 0.0, 0.0, 4.0, 4.0]).shape([6, 4]);
    cases.push(Case::new(op, [flat, scores(6)]).exact());
    for n in [1, 33, 130] {
        let small = RemoveSmallBoxes { min_size: 9.0 };
        cases.push(Case::new(small, [corners(n, 11 * n as u64)]).exact());
    }
    cases.push(Case::new(RemoveSmallBoxes { min_size: 100.0 }, [corners(5, 3)]).exact());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: impl Op, inputs: &[&Tensor]) -> (Vec<i32>, i32) {
        let y = op.reference(inputs).unwrap();
        (y[0].as_i32().unwrap().to_vec(), y[1].as_i32().unwrap()[0])
    }

    #[test]
    fn the_better_of_two_overlapping_boxes_stays() {
        let boxes = Tensor::f32([3, 4], vec![0., 0., 4., 4., 0., 0., 4., 5., 9., 9., 10., 10.]).unwrap();
        let scores = Tensor::f32([3], vec![0.5, 0.9, 0.1]).unwrap();
        let nms = Nms { threshold: 0.5, classes: false };
        assert_eq!(run(nms, &[&boxes, &scores]), (vec![1, 2, -1], 2));
        let classes = Tensor::i32([3], vec![0, 1, 1]).unwrap();
        let nms = Nms { threshold: 0.5, classes: true };
        assert_eq!(run(nms, &[&boxes, &scores, &classes]), (vec![1, 0, 2], 3));
        assert_eq!(run(RemoveSmallBoxes { min_size: 2.0 }, &[&boxes]), (vec![0, 1, -1], 2));
    }

    #[test]
    fn nan_suppresses_nothing() {
        let boxes = Tensor::f32([2, 4], vec![f32::NAN, 0., 4., 4., 0., 0., 4., 4.]).unwrap();
        let scores = Tensor::f32([2], vec![0.5, f32::NAN]).unwrap();
        assert_eq!(run(Nms { threshold: 0.5, classes: false }, &[&boxes, &scores]), (vec![1, 0], 2));
    }

    #[test]
    fn inputs_must_agree() {
        let nms = Nms { threshold: 0.5, classes: false };
        let desc = |shape: &[usize], dtype| TensorDesc::new(shape, dtype);
        let boxes = desc(&[3, 4], DType::F32);
        assert!(nms.infer(&[boxes.clone(), desc(&[3], DType::F32)]).is_ok());
        assert!(nms.infer(&[boxes.clone(), desc(&[4], DType::F32)]).is_err());
        assert!(nms.infer(std::slice::from_ref(&boxes)).is_err());
        assert!(nms.infer(&[desc(&[0, 4], DType::F32), desc(&[0], DType::F32)]).is_err());
        assert!(RemoveSmallBoxes { min_size: 1.0 }.infer(&[boxes]).is_ok());
    }
}
