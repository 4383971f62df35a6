//! Tensors one after the other along an axis.

use crate::ops::strided::{self, Axis, Walk};
use crate::registry::{Case, Fill};
use crate::{Builder, DType, GraphError, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

/// Tensors one after the other along an axis; all other extents are equal. PyTorch's `cat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}

impl Concat {
    /// Elements that lie behind one index of the axis, and number of indices before it.
    fn around(&self, shape: &[usize]) -> (usize, usize) {
        (shape[self.axis + 1..].iter().product(), shape[..self.axis].iter().product())
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new(self.name(), inputs, reason);
        let [first, rest @ ..] = inputs else { return Err(wrong("wants an input")) };
        if self.axis >= first.rank() {
            return Err(wrong("the inputs have no such axis"));
        }
        let mut out = first.clone();
        for x in rest {
            let others = |(axis, (p, q)): (usize, (&usize, &usize))| axis == self.axis || p == q;
            let alike = x.dtype == first.dtype
                && x.rank() == first.rank()
                && x.shape.iter().zip(&first.shape).enumerate().all(others);
            if !alike {
                return Err(wrong("wants inputs of one type that differ along the axis alone"));
            }
            out.shape[self.axis] += x.shape[self.axis];
        }
        Ok(vec![out])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|x| x.desc()).collect();
        let out = self.infer(&descs)?.swap_remove(0);
        let (inner, outer) = self.around(&out.shape);
        let mut bytes = Vec::with_capacity(out.bytes());
        for row in 0..outer {
            for x in inputs {
                let run = x.shape()[self.axis] * inner * out.dtype.size();
                bytes.extend_from_slice(&x.as_bytes()[row * run..][..run]);
            }
        }
        Ok(vec![Tensor::from_bytes(&out, &bytes)?])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let out = &io.outputs[0];
        let (inner, outer) = self.around(&out.shape);
        let row = (out.shape[self.axis] * inner) as isize;
        let mut launch = Launch { name: "strided", ..Launch::default() };
        let mut to = 0;
        for (i, x) in io.inputs.iter().enumerate().filter(|(_, x)| !x.is_empty()) {
            let run = x.shape[self.axis] * inner;
            let axes = vec![
                Axis { extent: outer, from: run as isize, to: row },
                Axis { extent: run, from: 1, to: 1 },
            ];
            let walk = Walk { axes, from: 0, to };
            launch.dispatches.extend(strided::dispatches(&walk, io, i, tier));
            to += run;
        }
        Ok(vec![launch])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }
}

impl Builder {
    /// Tensors one after the other along an axis.
    pub fn concat(&mut self, inputs: &[Value], axis: usize) -> Result<Value, GraphError> {
        self.op(Concat { axis }, inputs)
    }

    /// Tensors of one shape along a new axis before axis `axis`.
    pub fn stack(&mut self, inputs: &[Value], axis: usize) -> Result<Value, GraphError> {
        let inputs = inputs.iter().map(|&x| self.unsqueeze(x, axis)).collect::<Result<Vec<_>, _>>()?;
        self.concat(&inputs, axis)
    }
}

/// Cases: each axis, parts of every width, empty parts, many parts, every type.
pub fn cases() -> Vec<Case> {
    let case = |axis: usize, shapes: &[&[usize]]| {
        let inputs: Vec<Fill> = shapes.iter().map(|&shape| Fill::uniform(-9.0, 9.0).shape(shape)).collect();
        Case::new(Concat { axis }, inputs).exact()
    };
    let mut cases = vec![
        case(0, &[&[5]]),
        case(0, &[&[3], &[0], &[5]]),
        case(0, &[&[33, 7], &[2, 7]]),
        case(1, &[&[33, 7], &[33, 2]]),
        case(1, &[&[3, 8], &[3, 16], &[3, 64]]),
        case(1, &[&[3, 8], &[3, 6], &[3, 64]]),
        case(1, &[&[2, 1, 48], &[2, 196, 48]]),
        case(3, &[&[2, 5, 7, 32], &[2, 5, 7, 16]]),
        case(3, &[&[2, 5, 7, 31], &[2, 5, 7, 1]]),
        case(2, &[&[1, 1, 0, 3], &[1, 1, 2, 3]]),
        case(0, &[&[2, 2][..]; 11]),
        case(1, &[&[0, 2], &[0, 3]]),
    ];
    for dtype in [DType::I32, DType::U32, DType::Bool] {
        let high = if dtype == DType::Bool { 1 } else { 1 << 20 };
        let fill = |n| Fill::typed(dtype, 0, high).shape([6, n]);
        cases.push(Case::new(Concat { axis: 1 }, [fill(3), fill(4)]).f32_only().exact());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_axes_must_agree() {
        let desc = |shape: &[usize], dtype| TensorDesc::new(shape, dtype);
        let concat = Concat { axis: 1 };
        let x = desc(&[2, 3], DType::F32);
        assert_eq!(concat.infer(&[x.clone(), desc(&[2, 5], DType::F32)]).unwrap()[0].shape, [2, 8]);
        assert!(concat.infer(&[x.clone(), desc(&[3, 3], DType::F32)]).is_err());
        assert!(concat.infer(&[x.clone(), desc(&[2, 3], DType::I32)]).is_err());
        assert!(concat.infer(&[x.clone(), desc(&[2, 3, 1], DType::F32)]).is_err());
        assert!(concat.infer(&[desc(&[2], DType::F32)]).is_err());
        assert!(concat.infer(&[]).is_err());
    }

    #[test]
    fn rows_alternate() {
        let a = Tensor::i32([2, 1], vec![1, 4]).unwrap();
        let b = Tensor::i32([2, 2], vec![2, 3, 5, 6]).unwrap();
        let y = Concat { axis: 1 }.reference(&[&a, &b]).unwrap();
        assert_eq!(y[0].as_i32(), Some(&[1, 2, 3, 4, 5, 6][..]));
    }
}
