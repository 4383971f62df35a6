//! Rotary position embedding.

use kiln_shaders as shaders;

use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, Dispatch, GraphError, Independence, Io, Kernel, Launch, LengthError, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// Rotary embedding (Su et al. 2021): pairs of the last axis's elements rotated by angles that follow the position along
/// `axis`. Inputs are `x`, and `cos` and `sin` of shape `[positions, pairs]`; elements past `2 pairs` stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rope {
    /// The axis of positions in `x`: not the last.
    pub axis: usize,
    /// Whether a pair's elements are neighbours (GPT-J); else they lie `pairs` apart (GPT-NeoX, Llama: "rotate half").
    pub interleaved: bool,
}

params! {
    struct RopeParams { len: u32, dim: u32, pairs: u32, heads: u32, positions: u32 }
}

impl Rope {
    /// Cosines and sines of shape `[positions, dim / 2]` for heads of `dim` elements: position `p` turns pair `i` by
    /// `p * theta^(-2 i / dim)`.
    pub fn tables(positions: usize, dim: usize, theta: f64) -> Result<(Tensor, Tensor), LengthError> {
        let pairs = dim / 2;
        let angle = |i: usize| {
            let frequency = theta.powf(-((i % pairs.max(1)) as f64) * 2.0 / dim as f64);
            (i / pairs.max(1)) as f64 * frequency
        };
        let table = |function: fn(f64) -> f64| {
            Tensor::f32(
                [positions, pairs],
                (0..positions * pairs).map(|i| function(angle(i)) as f32).collect(),
            )
        };
        Ok((table(f64::cos)?, table(f64::sin)?))
    }

    /// Heads between neighbouring positions, number of positions, elements of a head.
    fn extents(&self, x: &TensorDesc) -> (usize, usize, usize) {
        (x.shape[self.axis + 1..x.rank() - 1].iter().product(), x.shape[self.axis], x.last())
    }
}

impl Op for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new(self.name(), inputs, reason);
        let [x, cos, sin] = inputs else { return Err(wrong("wants a tensor, cosines and sines")) };
        if !x.dtype.is_float() || cos.dtype != x.dtype || cos != sin {
            return Err(wrong("wants cosines and sines of one shape, and all of one floating-point type"));
        }
        if self.axis + 1 >= x.rank() {
            return Err(wrong("has no such axis of positions before the last"));
        }
        match cos.shape[..] {
            [positions, pairs] if positions == x.shape[self.axis] && 2 * pairs <= x.last() => {
                Ok(vec![x.clone()])
            }
            _ => Err(wrong("wants tables of shape [positions, pairs], with no more pairs than there are")),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|x| x.desc()).collect();
        self.infer(&descs)?;
        let (heads, positions, dim) = self.extents(&descs[0]);
        let pairs = descs[1].last();
        let (mut x, cos, sin) = (inputs[0].to_f64(), inputs[1].to_f64(), inputs[2].to_f64());
        for (head, x) in x.chunks_mut(dim.max(1)).enumerate() {
            let position = head / heads % positions;
            for pair in 0..pairs {
                let (cos, sin) = (cos[position * pairs + pair], sin[position * pairs + pair]);
                let (i, j) = if self.interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + pairs) };
                (x[i], x[j]) = (x[i] * cos - x[j] * sin, x[j] * cos + x[i] * sin);
            }
        }
        Ok(vec![Tensor::from_f64(descs[0].shape.clone(), descs[0].dtype, &x)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let along = |axis| {
            let table = (axis == self.axis).then_some(0);
            Along::new([Some(axis), table, table], [Some(axis)])
        };
        Independence::Axes((0..io.inputs[0].rank() - 1).map(along).collect())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let x = &io.inputs[0];
        let (heads, positions, dim) = self.extents(x);
        let params = RopeParams {
            len: x.len() as u32,
            dim: dim as u32,
            pairs: io.inputs[1].last() as u32,
            heads: heads as u32,
            positions: positions as u32,
            ..Default::default()
        };
        let workgroup = 64.min(tier.limits.max_invocations);
        let kernel = Kernel::new([units::elem(x.dtype), shaders::GRID, shaders::ROPE])
            .set("WORKGROUP", workgroup)
            .set("INTERLEAVED", self.interleaved.into());
        let dispatch = Dispatch::new(kernel, params, (x.len() as u64).div_ceil(workgroup.into()))
            .bind("x", Source::Input(0))
            .bind("cosines", Source::Input(1))
            .bind("sines", Source::Input(2))
            .bind("y", Source::Output(0));
        Ok(vec![Launch::one("elements", dispatch)])
    }

    fn flops(&self, io: &Io) -> u64 {
        3 * io.outputs.iter().map(|out| out.len() as u64).sum::<u64>()
    }
}

impl Builder {
    /// `x` with pairs of its last axis rotated by the angles of its positions along an axis.
    pub fn rope(&mut self, x: Value, cos: Value, sin: Value, op: Rope) -> Result<Value, GraphError> {
        self.op(op, &[x, cos, sin])
    }
}

/// Cases: both kinds of pairs, positions along either axis, heads that are rotated in part.
pub fn cases() -> Vec<Case> {
    let case = |axis, interleaved, x: &[usize], pairs| {
        let table = || Fill::uniform(-1.0, 1.0).shape([x[axis], pairs]);
        Case::new(Rope { axis, interleaved }, [Fill::uniform(-2.0, 2.0).shape(x), table(), table()])
    };
    let mut cases = Vec::new();
    for interleaved in [false, true] {
        cases.extend([
            case(2, interleaved, &[2, 3, 9, 16], 8),
            case(1, interleaved, &[2, 9, 3, 64], 32),
            case(0, interleaved, &[7, 2], 1),
            case(1, interleaved, &[1, 5, 33], 8),
            case(1, interleaved, &[2, 3, 4], 0),
            case(1, interleaved, &[2, 0, 4], 2),
        ]);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn a_quarter_turn_exchanges_a_pair() {
        let x = Tensor::f32([1, 4], vec![1., 2., 3., 4.]).unwrap();
        let (cos, sin) =
            (Tensor::f32([1, 2], vec![0., 1.]).unwrap(), Tensor::f32([1, 2], vec![1., 0.]).unwrap());
        let rotate =
            |interleaved| Rope { axis: 0, interleaved }.reference(&[&x, &cos, &sin]).unwrap()[0].to_f64();
        assert_eq!(rotate(true), [-2., 1., 3., 4.]);
        assert_eq!(rotate(false), [-3., 2., 1., 4.]);
    }

    #[test]
    fn tables_must_fit() {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        let infer = |x: &[usize], table: &[usize]| {
            Rope { axis: 1, interleaved: false }.infer(&[desc(x), desc(table), desc(table)])
        };
        assert!(infer(&[2, 3, 4], &[3, 2]).is_ok());
        assert!(infer(&[2, 3, 4], &[4, 2]).is_err());
        assert!(infer(&[2, 3, 4], &[3, 3]).is_err());
        assert!(infer(&[2, 3], &[3, 1]).is_err());
        let (cos, _) = Rope::tables(3, 4, 10_000.0).unwrap();
        assert_eq!((cos.shape(), cos.as_f32().unwrap()[2]), (&[3, 2][..], 1f32.cos()));
    }
}
