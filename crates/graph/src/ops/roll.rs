//! Elements shifted along axes, those that leave coming in again.

use crate::ops::strided::{self, Axis, Walk};
use crate::registry::{Case, Fill};
use crate::{Builder, DType, GraphError, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

/// Elements shifted along axes, those that leave at one end coming in at the other: PyTorch's `roll`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// Shift of each axis, towards larger indices.
    pub shifts: Vec<isize>,
}

impl Roll {
    /// The shifts, none of them negative or a whole turn.
    fn turns(&self, shape: &[usize]) -> Vec<usize> {
        let turn = |(&extent, &shift): (&usize, &isize)| shift.rem_euclid(extent.max(1) as isize) as usize;
        shape.iter().zip(&self.shifts).map(turn).collect()
    }

    /// Two pieces for each shifted axis, in every combination.
    fn walks(&self, x: &TensorDesc) -> Vec<Walk> {
        let whole =
            |(&extent, stride): (&usize, usize)| Axis { extent, from: stride as isize, to: stride as isize };
        let axes = x.shape.iter().zip(x.strides()).map(whole).collect();
        let mut walks = vec![Walk { axes, from: 0, to: 0 }];
        for (axis, turn) in self.turns(&x.shape).into_iter().enumerate().filter(|&(_, turn)| turn > 0) {
            let (extent, stride) = (x.shape[axis], x.strides()[axis]);
            let piece = |walk: &Walk, from: usize, to: usize, extent: usize| {
                let mut walk =
                    Walk { from: walk.from + from * stride, to: walk.to + to * stride, ..walk.clone() };
                walk.axes[axis].extent = extent;
                walk
            };
            let split =
                |walk: Walk| [piece(&walk, 0, turn, extent - turn), piece(&walk, extent - turn, 0, turn)];
            walks = walks.into_iter().flat_map(split).collect();
        }
        walks
    }
}

impl Op for Roll {
    fn name(&self) -> &'static str {
        "roll"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new(self.name(), inputs, reason);
        let [x] = inputs else { return Err(wrong("wants one input")) };
        if self.shifts.len() != x.rank() {
            return Err(wrong("wants a shift for each axis"));
        }
        if self.turns(&x.shape).iter().filter(|&&turn| turn > 0).count() > 4 {
            return Err(wrong("shifts more than four axes"));
        }
        if !self.walks(x).iter().all(Walk::fits) {
            return Err(wrong("has more than eight separate axes"));
        }
        Ok(vec![x.clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0].desc();
        self.infer(std::slice::from_ref(&x))?;
        let (turns, strides) = (self.turns(&x.shape), x.strides());
        let place = |i: usize| {
            let axes = x.shape.iter().zip(&strides).zip(&turns);
            axes.map(|((&extent, &stride), &turn)| (i / stride + extent - turn) % extent * stride).sum()
        };
        Ok(vec![inputs[0].pick(x.shape.clone(), (0..x.len()).map(|i| Some(place(i))))?])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let walks = self.walks(x);
        let dispatches = walks.iter().flat_map(|walk| strided::dispatches(walk, io, 0, tier));
        Ok(vec![Launch { name: "pieces", dispatches: dispatches.collect(), ..Launch::default() }])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }
}

impl Builder {
    /// `x` shifted along some axes: pairs of axis and shift.
    pub fn roll(&mut self, x: Value, shifts: &[(usize, isize)]) -> Result<Value, GraphError> {
        let mut all = vec![0; self.shape(x).len()];
        for &(axis, shift) in shifts {
            match all.get_mut(axis) {
                Some(sum) => *sum += shift,
                // One shift too many: refused with the shape in the message.
                None => all.push(shift),
            }
        }
        self.op(Roll { shifts: all }, &[x])
    }
}

/// Cases: no shift, whole turns, several axes, shifts on and off the vector width, every type.
pub fn cases() -> Vec<Case> {
    let case = |shape: &[usize], shifts: &[isize]| {
        Case::new(Roll { shifts: shifts.to_vec() }, [Fill::uniform(-9.0, 9.0).shape(shape)]).exact()
    };
    let mut cases = vec![
        case(&[], &[]),
        case(&[0, 3], &[1, 2]),
        case(&[1], &[5]),
        case(&[7], &[3]),
        case(&[7], &[-3]),
        case(&[7], &[14]),
        case(&[64], &[16]),
        case(&[33, 65], &[1, -2]),
        case(&[2, 8, 8, 12], &[0, -4, -4, 0]),
        case(&[2, 7, 7, 5], &[0, 3, 3, 0]),
        case(&[3, 4, 5, 6], &[1, 2, 3, 4]),
    ];
    for dtype in [DType::I32, DType::U32, DType::Bool] {
        let fill = Fill::typed(dtype, 0, 1).shape([6, 7]);
        cases.push(Case::new(Roll { shifts: vec![2, 3] }, [fill]).f32_only().exact());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_in_again() {
        let x = Tensor::i32([5], vec![1, 2, 3, 4, 5]).unwrap();
        let y = Roll { shifts: vec![2] }.reference(&[&x]).unwrap();
        assert_eq!(y[0].as_i32(), Some(&[4, 5, 1, 2, 3][..]));
        let y = Roll { shifts: vec![-6] }.reference(&[&x]).unwrap();
        assert_eq!(y[0].as_i32(), Some(&[2, 3, 4, 5, 1][..]));
    }

    #[test]
    fn each_axis_has_a_shift() {
        let x = [TensorDesc::new([2, 3], DType::F32)];
        assert!(Roll { shifts: vec![1] }.infer(&x).is_err());
        assert!(Roll { shifts: vec![1, 0] }.infer(&x).is_ok());
    }
}
