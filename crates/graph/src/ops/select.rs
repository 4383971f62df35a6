//! Choices between two tensors, element by element.

use kiln_shaders as shaders;

use crate::ops::binary::{broadcast, broadcast_indices};
use crate::ops::broadcast as walk;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, GraphError, Independence, Io, Launch, Op, OpError, Source, Tensor, TensorDesc, Tier,
    Value,
};

/// `a` where `condition` holds, `b` elsewhere, as PyTorch's `where`: inputs `condition` (truth values), `a` and `b` of one
/// type. All three broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Where;

impl Op for Where {
    fn name(&self) -> &'static str {
        "where"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new("where", inputs, reason);
        let [condition, a, b] = inputs else { return Err(wrong("wants three inputs")) };
        if condition.dtype != DType::Bool {
            return Err(wrong("the condition should be truth values"));
        }
        if a.dtype != b.dtype {
            return Err(wrong("wants a choice of one type"));
        }
        let shape = broadcast(&a.shape, &b.shape)
            .and_then(|shape| broadcast(&shape, &condition.shape))
            .ok_or_else(|| wrong("the shapes do not broadcast"))?;
        walk::check("where", inputs, &shape)?;
        Ok(vec![TensorDesc::new(shape, a.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|input| input.desc()).collect();
        let y = self.infer(&descs)?.swap_remove(0);
        let (condition, a, b) = (inputs[0].to_f64(), inputs[1], inputs[2]);
        let index = |tensor: usize| broadcast_indices(&descs[tensor].shape, &y.shape);
        let (c_index, a_index, b_index) = (index(0), index(1), index(2));
        // One tensor after the other, so that elements can be picked by place, bits and all.
        let both = concatenated(a, b)?;
        let picked = (0..y.len())
            .map(|i| Some(if condition[c_index(i)] != 0.0 { a_index(i) } else { a.len() + b_index(i) }));
        Ok(vec![both.pick(y.shape.clone(), picked)?])
    }

    fn independence(&self, _: &Io) -> Independence {
        Independence::Elements
    }

    fn launches(&self, io: &Io, _: &Tier) -> Result<Vec<Launch>, OpError> {
        let (condition, a, b) = (&io.inputs[0], &io.inputs[1], &io.inputs[2]);
        let units = [shaders::BROADCAST_SELECT];
        let dispatch = walk::dispatch(&units, &[a, b, condition], walk::elem(a), &io.outputs[0])
            .bind("a", Source::Input(1))
            .bind("b", Source::Input(2))
            .bind("c", Source::Input(0))
            .bind("y", Source::Output(0));
        Ok(vec![Launch::one("strided", dispatch)])
    }
}

/// The elements of two tensors of one type in a row.
fn concatenated(a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    let bytes = [a.as_bytes(), b.as_bytes()].concat();
    Ok(Tensor::from_bytes(&TensorDesc::new([a.len() + b.len()], a.dtype()), &bytes)?)
}

impl Builder {
    /// `a` where `condition` holds, `b` elsewhere.
    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Result<Value, GraphError> {
        self.op(Where, &[condition, a, b])
    }
}

/// Cases: every type, every input broadcast.
pub fn cases() -> Vec<Case> {
    let c = |shape: &[usize]| Fill::typed(DType::Bool, 0, 1).shape(shape);
    let x = |shape: &[usize]| Fill::uniform(-2.0, 2.0).shape(shape);
    let mut cases = Vec::new();
    for (condition, a, b) in [
        (&[3, 65][..], &[3, 65][..], &[3, 65][..]),
        (&[3, 1], &[65], &[3, 65]),
        (&[2, 1, 4], &[3, 1], &[]),
        (&[1], &[2, 3], &[2, 3]),
        (&[4, 1, 3, 1, 2], &[1, 5, 3, 1, 1], &[4, 5, 1, 2, 1]),
        (&[0, 3], &[3], &[1]),
    ] {
        cases.push(Case::new(Where, [c(condition), x(a), x(b)]).exact());
    }
    for dtype in [DType::I32, DType::U32, DType::Bool] {
        let of = |shape: &[usize]| Fill::typed(dtype, 0, 1000).shape(shape);
        cases.push(Case::new(Where, [c(&[3, 7]), of(&[3, 7]), of(&[7])]).f32_only().exact());
    }
    let special = Fill::given(DType::F32, [f64::NAN, f64::INFINITY, -0.0, 1.0]).shape([8]);
    cases.push(Case::new(Where, [c(&[8]), special, x(&[8])]).exact());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_truth_values() {
        let desc = |shape: &[usize], dtype| TensorDesc::new(shape, dtype);
        let [c, x] = [desc(&[2, 1], DType::Bool), desc(&[3], DType::F32)];
        assert_eq!(Where.infer(&[c.clone(), x.clone(), x.clone()]), Ok(vec![desc(&[2, 3], DType::F32)]));
        assert!(Where.infer(&[x.clone(), x.clone(), x.clone()]).is_err());
        assert!(Where.infer(&[c, x, desc(&[3], DType::I32)]).is_err());
    }

    #[test]
    fn elements_are_chosen_one_by_one() {
        let c = Tensor::bool([3], vec![1, 0, 1]).unwrap();
        let (a, b) = (Tensor::i32([3], vec![1, 2, 3]).unwrap(), Tensor::i32([1], vec![-1]).unwrap());
        assert_eq!(Where.reference(&[&c, &a, &b]).unwrap()[0].as_i32(), Some(&[1, -1, 3][..]));
    }
}
