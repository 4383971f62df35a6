//! Soft non-maximum suppression: overlapping boxes lose score instead of being dropped.

use kiln_shaders as shaders;

use crate::ops::boxes::{boxes_of, corners, quads};
use crate::ops::lines::workgroup_for;
use crate::ops::nms::iou;
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Io, Kernel, Launch, Op, OpError, Source, Tensor, TensorDesc, Tier,
    Value, params,
};

/// What a box's score is multiplied by when a better box that overlaps it is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// By `1 - IoU` where the IoU is more than the threshold.
    Linear {
        /// Largest IoU that changes nothing.
        threshold: f32,
    },
    /// By `exp(-IoU^2 / sigma)`.
    Gaussian {
        /// How slowly scores fall; the paper takes 0.5.
        sigma: f32,
    },
}

/// Soft-NMS ("Soft-NMS -- Improving Object Detection With One Line of Code", Bodla et al. 2017,
/// <https://arxiv.org/abs/1704.04503>): takes the box of the highest score, decays the scores of the others by their
/// overlap with it, and so on with those that are left.
///
/// Inputs are boxes `[N, 4]` (corners), scores `[N]` and, with `classes`, classes `[N]` (i32): then a box decays those of
/// its class alone. Outputs are the taken boxes' indices in order, i32 `[N]` padded with -1; their scores when they were
/// taken, `[N]` of the scores' type padded with 0; and their number, i32 `[1]`. Of equal scores the first is taken
/// first. A box is dropped once its score is less than `min_score`, and one with a NaN score is never taken. A box
/// without area or with a NaN overlaps none: it decays nothing and is not decayed. Scores are meant to be 0 or more, for
/// a negative one would rise.
///
/// Scores and overlaps are f32 throughout, in this order of operations, since a comparison decides by the last bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftNms {
    /// How scores fall.
    pub decay: Decay,
    /// Least score of a taken box.
    pub min_score: f32,
    /// Whether there is a third input.
    pub classes: bool,
}

params! {
    struct SoftParams { len: u32, decay: f32, min_score: f32, first: u32, end: u32 }
}

impl Decay {
    /// A score after its box met a taken one; a NaN overlap changes nothing.
    fn apply(self, score: f32, overlap: f32) -> f32 {
        match self {
            Decay::Linear { threshold } if overlap > threshold => score * (1.0 - overlap).max(0.0),
            Decay::Gaussian { sigma } if overlap > 0.0 => score * (-(overlap * overlap) / sigma).exp(),
            _ => score,
        }
    }
}

impl SoftNms {
    fn check(&self, inputs: &[TensorDesc]) -> Result<usize, OpError> {
        let wrong = |reason: &str| OpError::new("soft_nms", inputs, reason);
        if matches!(self.decay, Decay::Gaussian { sigma } if sigma.is_nan() || sigma <= 0.0) {
            return Err(wrong("wants a sigma of more than 0"));
        }
        let boxes = boxes_of("soft_nms", inputs, 0)?;
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

impl Op for SoftNms {
    fn name(&self) -> &'static str {
        "soft_nms"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let n = self.check(inputs)?;
        let scores = TensorDesc::new([n], inputs[0].dtype);
        Ok(vec![TensorDesc::new([n], DType::I32), scores, TensorDesc::new([1], DType::I32)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|x| x.desc()).collect();
        let n = self.check(&descs)?;
        let boxes: Vec<[f32; 4]> = quads(inputs[0]).into_iter().map(|b| b.map(|v| v as f32)).collect();
        let mut scores = inputs[1].to_f32().to_vec();
        let classes = inputs.get(2).map(|classes| classes.to_f64());
        let class = |i: usize| classes.as_ref().map_or(0.0, |classes| classes[i]);
        // In order, so that the first of equals is found first.
        let mut left: Vec<usize> = (0..n).filter(|&i| scores[i] >= self.min_score).collect();
        let (mut taken, mut decayed) = (Vec::new(), Vec::new());
        while let Some(best) = left.iter().copied().reduce(|a, b| if scores[b] > scores[a] { b } else { a }) {
            taken.push(best as i32);
            decayed.push(f64::from(scores[best]));
            left.retain(|&i| {
                if i != best && class(i) == class(best) {
                    scores[i] = self.decay.apply(scores[i], iou(boxes[best], boxes[i]));
                }
                i != best && scores[i] >= self.min_score
            });
        }
        let count = taken.len() as i32;
        taken.resize(n, -1);
        decayed.resize(n, 0.0);
        let decayed = Tensor::from_f64([n], descs[1].dtype, &decayed)?;
        Ok(vec![Tensor::i32([n], taken)?, decayed, Tensor::i32([1], vec![count])?])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let own = if self.classes { 3 } else { 2 };
        let n = self.check(&io.inputs[..own])?;
        let compete = if self.classes { shaders::NMS_CLASSES } else { shaders::NMS_ALL };
        let (gaussian, decay) = match self.decay {
            Decay::Linear { threshold } => (0, threshold),
            Decay::Gaussian { sigma } => (1, sigma),
        };
        let launch = |name, width: u32| {
            let elem = units::elem(io.inputs[0].dtype);
            let units = [elem, compete.clone(), shaders::GRID, shaders::IOU, shaders::SOFT_NMS];
            let kernel = Kernel::new(units).set("WORKGROUP", width).set("GAUSSIAN", gaussian);
            // Boxes of an invocation, the steps to the best of a workgroup's, and the round itself.
            let share = n.div_ceil(width as usize);
            let round = share + width.ilog2() as usize + 1;
            let stretch = (units::MAX_LOOP_ITERATIONS.saturating_sub(share) / round).max(1);
            let rounds = |first: usize| {
                let params = SoftParams {
                    len: n as u32,
                    decay,
                    min_score: self.min_score,
                    first: first as u32,
                    end: (first + stretch).min(n) as u32,
                    ..Default::default()
                };
                let dispatch = Dispatch::new(kernel.clone(), params, 1)
                    .bind("boxes", Source::Input(0))
                    .bind("scores", Source::Input(1))
                    .bind("current", Source::Scratch(0))
                    .bind("taken", Source::Output(0))
                    .bind("decayed", Source::Output(1))
                    .bind("count", Source::Output(2));
                if self.classes { dispatch.bind("classes", Source::Input(2)) } else { dispatch }
            };
            Launch {
                name,
                scratch: vec![4 * n as u64],
                dispatches: (0..n).step_by(stretch).map(rounds).collect(),
                ..Launch::default()
            }
        };
        let (lane, workgroup) = (launch("lane", 1), launch("workgroup", workgroup_for(n, tier)));
        let meetings = n.saturating_mul(n + 2);
        Ok(units::alone_or_shared(lane, workgroup, meetings, tier.software))
    }

    fn flops(&self, io: &Io) -> u64 {
        let n = io.outputs.first().map_or(0, |taken| taken.len() as u64);
        // Each box that is left meets each taken one.
        10 * n * n
    }
}

impl Builder {
    /// Soft-NMS: indices of the boxes that are taken, padded with -1, their decayed scores, padded with 0, and their
    /// number. Boxes are `[N, 4]` corners, scores `[N]`; see [`SoftNms`].
    pub fn soft_nms(
        &mut self,
        boxes: Value,
        scores: Value,
        decay: Decay,
        min_score: f32,
    ) -> Result<(Value, Value, Value), GraphError> {
        self.taken(SoftNms { decay, min_score, classes: false }, &[boxes, scores])
    }

    /// The same within each class, `[N]` of i32.
    pub fn batched_soft_nms(
        &mut self,
        boxes: Value,
        scores: Value,
        classes: Value,
        decay: Decay,
        min_score: f32,
    ) -> Result<(Value, Value, Value), GraphError> {
        self.taken(SoftNms { decay, min_score, classes: true }, &[boxes, scores, classes])
    }

    fn taken(&mut self, op: SoftNms, inputs: &[Value]) -> Result<(Value, Value, Value), GraphError> {
        match self.op_all(op, inputs)?[..] {
            [indices, scores, count] => Ok((indices, scores, count)),
            _ => {
                let error = OpError::new("soft_nms", &[], "gives indices, scores and their number");
                Err(GraphError::Op { path: self.path(), error })
            }
        }
    }
}

/// Cases: few and many boxes, both decays, classes, equal scores, the same box again and again, boxes without area, NaNs.
///
/// Indices must be equal and scores close. Devices round divisions and exponentials in their own ways, so the boxes'
/// seeds, thresholds and least scores are such that no choice depends on it: a test below tries.
pub fn cases() -> Vec<Case> {
    let scores = |n: usize| Fill::uniform(0.0, 1.0).shape([n]);
    let soft = |decay, min_score, n: usize, seed| {
        Case::new(SoftNms { decay, min_score, classes: false }, [corners(n, seed), scores(n)])
    };
    let batched = |decay, min_score, n: usize, seed| {
        let classes = Fill::typed(DType::I32, -1, 2).shape([n]);
        Case::new(SoftNms { decay, min_score, classes: true }, [corners(n, seed), scores(n), classes])
    };
    let linear = |threshold| Decay::Linear { threshold };
    let gaussian = |sigma| Decay::Gaussian { sigma };
    let mut cases = vec![
        soft(linear(0.3), 0.0, 1, 1),
        soft(gaussian(0.5), 0.0, 2, 2),
        soft(linear(0.31), 0.05, 33, 33),
        soft(gaussian(0.5), 0.001, 33, 34),
        soft(linear(0.0), 0.02, 65, 65),
        soft(gaussian(0.1), 0.001, 127, 127),
        soft(linear(0.51), 0.001, 257, 257),
        soft(gaussian(0.5), 0.001, 257, 258),
        soft(gaussian(0.9), 0.01, 701, 701),
        // Where most boxes are taken, one dispatch's loops would be too long.
        soft(linear(0.91), 0.01, 4000, 4000).full(),
        batched(linear(0.3), 0.1, 1, 1),
        batched(linear(0.41), 0.01, 65, 65),
        batched(gaussian(0.5), 0.001, 129, 129),
    ];
    let boxes = |values: &[f64], n| Fill::given(DType::F32, values).shape([n, 4]);
    for decay in [linear(0.5), gaussian(0.5)] {
        let op = SoftNms { decay, min_score: 0.01, classes: false };
        let case = |boxes, scores| Case::new(op, [boxes, scores]);
        // Equal scores, and the same box again and again.
        let same = boxes(&[0.0, 0.0, 4.0, 4.0], 9);
        cases.push(case(same, Fill::given(DType::F32, [0.25]).shape([9])));
        // Equal scores of boxes that do not meet keep their order.
        let apart: Vec<f64> = (0..40).flat_map(|i| [0.0, 1.0, 0.5, 1.5].map(|v| v + f64::from(i))).collect();
        cases.push(case(boxes(&apart, 40), Fill::given(DType::F32, [0.5, 0.75, 0.5]).shape([40])));
        // Boxes without area overlap nothing.
        let flat = [1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 5.0, 0.0, 0.0, 4.0, 4.0];
        cases.push(case(boxes(&flat, 6), scores(6)));
        // NaN scores are never taken, and boxes with a NaN overlap nothing.
        let hole = [0.0, 0.0, 4.0, 4.0, 0.0, f64::NAN, 4.0, 4.0, 0.0, 0.0, 4.0, 3.0];
        let values = [0.5, 0.75, 0.875, f64::NAN];
        cases.push(case(boxes(&hole, 9), Fill::given(DType::F32, values).shape([9])));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: Decay = Decay::Linear { threshold: 0.5 };

    fn op(decay: Decay, min_score: f32) -> SoftNms {
        SoftNms { decay, min_score, classes: false }
    }

    /// The taken boxes with their scores.
    fn run(op: SoftNms, boxes: &[[f32; 4]], scores: &[f32], classes: Option<&[i32]>) -> Vec<(i32, f32)> {
        let n = boxes.len();
        let boxes = Tensor::f32([n, 4], boxes.concat()).unwrap();
        let scores = Tensor::f32([n], scores.to_vec()).unwrap();
        let classes = classes.map(|classes| Tensor::i32([n], classes.to_vec()).unwrap());
        let inputs: Vec<&Tensor> = [&boxes, &scores].into_iter().chain(&classes).collect();
        let y = op.reference(&inputs).unwrap();
        let count = y[2].as_i32().unwrap()[0] as usize;
        let (taken, scores) = (y[0].as_i32().unwrap(), y[1].as_f32().unwrap());
        assert!(taken[count..].iter().all(|&i| i == -1) && scores[count..].iter().all(|&s| s == 0.0));
        taken[..count].iter().copied().zip(scores[..count].iter().copied()).collect()
    }

    /// A box, one that fills three quarters of it, and one far away.
    const THREE: [[f32; 4]; 3] = [[0., 0., 4., 4.], [0., 0., 4., 3.], [10., 10., 12., 12.]];

    fn close(found: &[(i32, f32)], wanted: &[(i32, f32)]) {
        let same = |(a, b): (&(i32, f32), &(i32, f32))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6;
        let all = found.len() == wanted.len() && found.iter().zip(wanted).all(same);
        assert!(all, "{found:?}, not {wanted:?}");
    }

    #[test]
    fn scores_fall_by_the_overlap() {
        let scores = [0.9, 0.8, 0.5];
        let run = |decay, min_score| run(op(decay, min_score), &THREE, &scores, None);
        close(&run(LINEAR, 0.0), &[(0, 0.9), (2, 0.5), (1, 0.8 * 0.25)]);
        // Dropped once it is below the least score, and kept at it.
        close(&run(LINEAR, 0.201), &[(0, 0.9), (2, 0.5)]);
        close(&run(LINEAR, 0.5), &[(0, 0.9), (2, 0.5)]);
        close(&run(LINEAR, 0.95), &[]);
        // An IoU at the threshold changes nothing.
        close(&run(Decay::Linear { threshold: 0.75 }, 0.0), &[(0, 0.9), (1, 0.8), (2, 0.5)]);
        // exp(-0.75^2 / 0.5) and exp(-0.75^2 / 2).
        close(&run(Decay::Gaussian { sigma: 0.5 }, 0.0), &[(0, 0.9), (2, 0.5), (1, 0.8 * 0.324_652_5)]);
        close(&run(Decay::Gaussian { sigma: 2.0 }, 0.0), &[(0, 0.9), (1, 0.8 * 0.754_839_6), (2, 0.5)]);
    }

    #[test]
    fn boxes_decay_their_own_class() {
        let with_classes = SoftNms { classes: true, ..op(LINEAR, 0.0) };
        let run = |classes| run(with_classes, &THREE, &[0.9, 0.8, 0.5], Some(classes));
        close(&run(&[0, 1, 1]), &[(0, 0.9), (1, 0.8), (2, 0.5)]);
        close(&run(&[-3, -3, 1]), &[(0, 0.9), (2, 0.5), (1, 0.2)]);
    }

    #[test]
    fn equal_scores_keep_their_order() {
        let apart = [[0., 0., 1., 1.], [2., 2., 3., 3.], [4., 4., 5., 5.]];
        close(&run(op(LINEAR, 0.0), &apart, &[0.5, 0.75, 0.5], None), &[(1, 0.75), (0, 0.5), (2, 0.5)]);
        // The same box again falls to nothing, which is still 0 or more.
        let same = [[0., 0., 4., 4.]; 3];
        close(&run(op(LINEAR, 0.0), &same, &[0.5; 3], None), &[(0, 0.5), (1, 0.0), (2, 0.0)]);
        close(&run(op(LINEAR, 0.1), &same, &[0.5; 3], None), &[(0, 0.5)]);
    }

    #[test]
    fn nan_and_boxes_without_area_decay_nothing() {
        for decay in [LINEAR, Decay::Linear { threshold: -1.0 }, Decay::Gaussian { sigma: 0.5 }] {
            let soft = op(decay, 0.0);
            let boxes = [[0., 0., 4., 4.], [f32::NAN, 0., 4., 4.], [0., 0., 4., 4.]];
            close(&run(soft, &boxes, &[0.5, 0.75, f32::NAN], None), &[(1, 0.75), (0, 0.5)]);
            let flat = [[1., 1., 1., 5.], [1., 1., 1., 5.], [0., 0., 4., 4.], [2., 2., 2., 2.]];
            let scores = [0.9, 0.8, 0.7, 0.6];
            close(&run(soft, &flat, &scores, None), &[(0, 0.9), (1, 0.8), (2, 0.7), (3, 0.6)]);
        }
        // Infinity times nothing is NaN, and dropped.
        close(&run(op(LINEAR, 0.0), &[[0., 0., 4., 4.]; 2], &[f32::INFINITY; 2], None)[1..], &[]);
        close(&run(op(LINEAR, f32::NAN), &THREE, &[0.9, 0.8, 0.5], None), &[]);
    }

    #[test]
    fn inputs_must_agree() {
        let soft = op(LINEAR, 0.0);
        let desc = |shape: &[usize], dtype| TensorDesc::new(shape, dtype);
        let (boxes, scores) = (desc(&[3, 4], DType::F16), desc(&[3], DType::F16));
        let outputs = soft.infer(&[boxes.clone(), scores.clone()]).unwrap();
        assert_eq!(outputs, [desc(&[3], DType::I32), scores.clone(), desc(&[1], DType::I32)]);
        let refused = |op: SoftNms, inputs: &[TensorDesc]| op.infer(inputs).is_err();
        assert!(refused(soft, &[boxes.clone(), desc(&[4], DType::F16)]));
        assert!(refused(soft, &[boxes.clone(), desc(&[3], DType::F32)]));
        assert!(refused(soft, std::slice::from_ref(&boxes)));
        assert!(refused(soft, &[desc(&[3, 5], DType::F16), scores.clone()]));
        assert!(refused(soft, &[desc(&[0, 4], DType::F32), desc(&[0], DType::F32)]));
        let with_classes = SoftNms { classes: true, ..soft };
        assert!(refused(with_classes, &[boxes.clone(), scores.clone()]));
        assert!(refused(soft, &[boxes.clone(), scores.clone(), desc(&[3], DType::I32)]));
        assert!(!refused(with_classes, &[boxes.clone(), scores.clone(), desc(&[3], DType::I32)]));
        for sigma in [0.0, -1.0, f32::NAN] {
            assert!(refused(op(Decay::Gaussian { sigma }, 0.0), &[boxes.clone(), scores.clone()]));
        }
    }

    /// What is taken stays the same where overlaps and scores are nudged by more than a device's rounding.
    #[test]
    fn cases_do_not_hang_on_last_bits() {
        for case in cases().into_iter().filter(|case| !cfg!(debug_assertions) || !case.full) {
            let soft = *crate::downcast::<SoftNms>(&*case.op).unwrap();
            for dtype in [DType::F32, DType::F16] {
                let inputs: Vec<Tensor> = case.tensors(dtype).unwrap();
                let taken = |op: SoftNms, nudge: f32| {
                    // The more, the higher the score: equal ones stay equal, and the order is kept.
                    let scores = inputs[1].to_f32().iter().map(|s| s * (1.0 + nudge * s)).collect();
                    let scores = Tensor::f32(inputs[1].shape(), scores).unwrap();
                    let boxes = inputs[0].cast(DType::F32);
                    let all: Vec<&Tensor> = [&boxes, &scores].into_iter().chain(&inputs[2..]).collect();
                    op.reference(&all).unwrap().swap_remove(0)
                };
                let wanted = taken(soft, 0.0);
                for nudge in [-3e-5, -1e-6, 1e-6, 3e-5] {
                    let factor = 1.0 + nudge;
                    let decay = match soft.decay {
                        Decay::Linear { threshold } => Decay::Linear { threshold: threshold * factor },
                        Decay::Gaussian { sigma } => Decay::Gaussian { sigma: sigma * factor },
                    };
                    let nudged = SoftNms { decay, min_score: soft.min_score * factor, ..soft };
                    assert_eq!(taken(nudged, 0.0), wanted, "{} {dtype} {nudge}", case.label());
                    assert_eq!(taken(soft, nudge), wanted, "{} {dtype} {nudge}", case.label());
                }
            }
        }
    }
}
