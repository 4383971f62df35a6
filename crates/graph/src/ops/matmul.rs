//! Matrix products, linear layers among them.

mod few_rows;
pub(crate) mod lanes;
mod naive;
pub(crate) mod panels;
mod product;
mod tiled;
mod walk;

use rayon::prelude::*;

pub(crate) use product::Product;
pub(crate) use walk::Walk;

use crate::ops::Binary;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, Epilogue, GraphError, Independence, Io, Launch, Op, OpError, Spread, Step, Tensor,
    TensorDesc, Tier, Value,
};

/// `a b` for `a` of shape `[..., M, K]` and `b` of shape `[..., K, N]`, or `[..., N, K]` with `transpose_b`.
/// Leading axes broadcast as in NumPy; the result is `[..., M, N]`.
///
/// A linear layer is this with its checkpoint's `[out, in]` weight as `b`, transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matmul {
    /// Whether `b`'s last two axes are (N, K).
    pub transpose_b: bool,
}

/// The extents of a product, leading axes folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extents {
    /// Leading axes of the result.
    pub batch: Vec<usize>,
    /// Rows of one product.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Leading strides of `a` in elements, 0 where it broadcasts; as many as `batch`.
    pub a_strides: Vec<usize>,
    /// Leading strides of `b`.
    pub b_strides: Vec<usize>,
}

impl Matmul {
    /// The extents of a product of these inputs.
    pub(crate) fn extents(&self, inputs: &[TensorDesc]) -> Result<Extents, OpError> {
        let wrong = |reason: String| OpError::new("matmul", inputs, reason);
        let [a, b] = inputs else { return Err(wrong("wants two inputs".into())) };
        if a.dtype != b.dtype || !a.dtype.is_float() {
            return Err(wrong("wants two inputs of one floating-point type".into()));
        }
        let ([a_lead @ .., m, k], [b_lead @ .., b0, b1]) = (&a.shape[..], &b.shape[..]) else {
            return Err(wrong("wants inputs of at least two axes".into()));
        };
        let (b_k, n) = if self.transpose_b { (b1, b0) } else { (b0, b1) };
        if k != b_k {
            return Err(wrong(format!("the sums' lengths {k} and {b_k} differ")));
        }
        if b_lead.is_empty() {
            // One b for all: the leading axes are more rows.
            let m = a_lead.iter().product::<usize>() * m;
            let (n, k) = (*n, *k);
            return Ok(Extents { batch: vec![], m, n, k, a_strides: vec![], b_strides: vec![] });
        }
        let rank = a_lead.len().max(b_lead.len());
        let padded = |lead: &[usize]| [vec![1; rank - lead.len()], lead.to_vec()].concat();
        let (a_lead, b_lead) = (padded(a_lead), padded(b_lead));
        let mut batch = Vec::with_capacity(rank);
        for (&p, &q) in a_lead.iter().zip(&b_lead) {
            if p != q && p != 1 && q != 1 {
                return Err(wrong(format!("leading axes of {p} and {q} do not broadcast")));
            }
            batch.push(if p == 1 { q } else { p });
        }
        let strides = |lead: &[usize], matrix: usize| {
            let full = crate::strides(lead);
            lead.iter()
                .zip(full)
                .map(|(&extent, stride)| if extent == 1 { 0 } else { stride * matrix })
                .collect()
        };
        let (a_strides, b_strides) = (strides(&a_lead, m * k), strides(&b_lead, n * k));
        Ok(Extents { batch, m: *m, n: *n, k: *k, a_strides, b_strides })
    }
}

impl Extents {
    /// Number of separate products.
    pub(crate) fn products(&self) -> usize {
        self.batch.iter().product()
    }

    /// Where product `p` starts in `a` and in `b`, in elements.
    pub(crate) fn start(&self, p: usize) -> (usize, usize) {
        let (mut rest, mut a, mut b) = (p, 0, 0);
        for axis in (0..self.batch.len()).rev() {
            let i = rest % self.batch[axis];
            rest /= self.batch[axis];
            a += i * self.a_strides[axis];
            b += i * self.b_strides[axis];
        }
        (a, b)
    }
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let extents = self.extents(inputs)?;
        let (a, b) = (&inputs[0], &inputs[1]);
        let mut shape = if b.rank() == 2 { a.shape[..a.rank() - 2].to_vec() } else { extents.batch };
        shape.extend([a.shape[a.rank() - 2], extents.n]);
        Ok(vec![TensorDesc::new(shape, a.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs = [inputs[0].desc(), inputs[1].desc()];
        let e = self.extents(&descs)?;
        let out = self.infer(&descs)?.swap_remove(0);
        let (a, b) = (inputs[0].to_f64(), inputs[1].to_f64());
        let mut c = vec![0.0; out.len()];
        c.par_chunks_mut(e.n.max(1)).enumerate().for_each(|(line, c)| {
            let (a0, b0) = e.start(line / e.m);
            let a = &a[a0 + line % e.m * e.k..][..e.k];
            if self.transpose_b {
                for (j, c) in c.iter_mut().enumerate() {
                    let b = &b[b0 + j * e.k..][..e.k];
                    *c = a.iter().zip(b).map(|(a, b)| a * b).sum();
                }
            } else {
                for (k, a) in a.iter().enumerate() {
                    let b = &b[b0 + k * e.n..][..e.n];
                    c.iter_mut().zip(b).for_each(|(c, b)| *c += a * b);
                }
            }
        });
        Ok(vec![Tensor::from_f64(out.shape, out.dtype, &c)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let (a, b, y) = (&io.inputs[0], &io.inputs[1], io.outputs[0].rank());
        // A leading axis is that many from the end in every tensor, where a broadcast one is not cut.
        let leading = (0..y - 2).map(|axis| {
            let own = |desc: &TensorDesc| {
                let own = (axis + desc.rank()).checked_sub(y).filter(|&own| own + 2 < desc.rank())?;
                (desc.shape[own] != 1).then_some(own)
            };
            Along::new([own(a), own(b)], [Some(axis)])
        });
        let rows = Along::new([Some(a.rank() - 2)], [Some(y - 2)]);
        let column = b.rank() - if self.transpose_b { 2 } else { 1 };
        let columns = Along::new([None, Some(column)], [Some(y - 1)]);
        Independence::Axes(leading.chain([rows, columns]).collect())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let extents = self.extents(&io.inputs[..2])?;
        // Software reads panels of columns fastest; a GPU needs them only where b cannot be read in vectors.
        let in_place = Product::new(self, &extents, io, tier, false);
        let pack = tier.software || !in_place.b_in_quads();
        let product = Product::new(self, &extents, io, tier, pack);
        let mut launches = Vec::new();
        if tier.software {
            launches.push(lanes::launch(&product));
        }
        launches.extend(few_rows::launch(&product));
        launches.extend(tiled::launches(&product));
        let largest = io.inputs.iter().chain(io.outputs).map(|desc| desc.bytes()).max().unwrap_or(0);
        if largest as u64 <= tier.limits.max_binding_bytes || launches.is_empty() {
            launches.push(naive::launch(self, &extents, io, tier));
        }
        Ok(launches)
    }

    fn flops(&self, io: &Io) -> u64 {
        self.extents(&io.inputs[..2]).map_or(0, |e| 2 * (e.products() * e.m * e.n * e.k) as u64)
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// `a b` as `torch.matmul`: a vector on the left is a row, one on the right a column, and the axis that it gets for
    /// the purpose is taken from the result again.
    pub fn matmul(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        let (a_vector, b_vector) = (self.shape(a).len() == 1, self.shape(b).len() == 1);
        let a = if a_vector { self.unsqueeze(a, 0)? } else { a };
        let b = if b_vector { self.unsqueeze(b, 1)? } else { b };
        let y = self.op(Matmul { transpose_b: false }, &[a, b])?;
        let mut shape = self.shape(y).to_vec();
        if b_vector {
            shape.pop();
        }
        if a_vector {
            shape.remove(shape.len() - if b_vector { 1 } else { 2 });
        }
        if a_vector || b_vector { self.reshape(y, shape) } else { Ok(y) }
    }

    /// A linear layer: `x` of shape `[..., in]`, `weight` of shape `[out, in]`, `bias` of shape `[out]`.
    pub fn linear(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Result<Value, GraphError> {
        let y = if let [features] = *self.shape(x) {
            let row = self.reshape(x, [1, features])?;
            let y = self.op(Matmul { transpose_b: true }, &[row, weight])?;
            let out = self.shape(y)[1];
            self.reshape(y, [out])?
        } else {
            self.op(Matmul { transpose_b: true }, &[x, weight])?
        };
        match bias {
            Some(bias) => self.binary(Binary::Add, y, bias),
            None => Ok(y),
        }
    }
}

/// Cases: every edge of the extents, both orders of `b`, broadcast batches, long sums, epilogues.
pub fn cases() -> Vec<Case> {
    let product = |transpose_b: bool, a: &[usize], b: &[usize], fill: Fill| {
        let depth = a[a.len() - 1];
        Case::new(Matmul { transpose_b }, [fill.clone().shape(a), fill.shape(b)]).product(depth)
    };
    let floats = || Fill::uniform(-1.0, 1.0);
    let integers = || Fill::integers(-4, 4);
    let mut cases = Vec::new();
    for [m, n, k] in [
        [1, 1, 1],
        [2, 3, 7],
        [7, 2, 3],
        [31, 33, 32],
        [33, 31, 65],
        [63, 64, 65],
        [64, 64, 64],
        [65, 63, 129],
        [1, 257, 127],
        [3, 128, 256],
        [17, 96, 32],
        [128, 129, 31],
        [197, 64, 48],
        [2, 1000, 64],
    ] {
        cases.push(product(false, &[m, k], &[k, n], floats()));
        cases.push(product(true, &[m, k], &[n, k], floats()).constant([1]));
    }
    for [m, n, k] in [[0, 3, 4], [3, 0, 4], [3, 4, 0], [33, 65, 127], [64, 128, 256], [16, 8, 3]] {
        cases.push(product(false, &[m, k], &[k, n], integers()));
        cases.push(product(true, &[m, k], &[n, k], integers()).constant([1]));
    }
    // Long sums, which may be split; constant b in its own order.
    for [m, n, k] in [[40, 70, 600], [5, 35, 518], [130, 72, 258]] {
        cases.push(product(false, &[m, k], &[k, n], integers()).constant([1]));
        cases.push(product(true, &[m, k], &[n, k], floats()));
    }
    for (a, b) in [
        (&[2, 5, 7][..], &[2, 7, 3][..]),
        (&[2, 3, 4, 8], &[2, 3, 8, 4]),
        (&[2, 1, 4, 8], &[1, 3, 8, 12]),
        (&[4, 8], &[3, 8, 5]),
        (&[3, 2, 17, 32], &[32, 20]),
        (&[2, 1, 3, 1, 4, 8], &[1, 2, 1, 3, 8, 4]),
        (&[2, 0, 4], &[2, 4, 3]),
    ] {
        cases.push(product(false, a, b, floats()));
    }
    cases.push(product(true, &[2, 6, 33, 32], &[2, 6, 35, 32], floats()));
    cases.push(product(false, &[5, 2048], &[2048, 36], floats()));
    let step = |function, operand, spread| Step::Binary { function, operand, spread, swapped: false };
    let epilogue = Epilogue {
        steps: vec![
            step(Binary::Add, 0, Spread::Last),
            Step::Unary(crate::ops::Unary::Gelu),
            step(Binary::Add, 1, Spread::Full),
        ],
    };
    for [m, n, k] in [[5, 12, 8], [33, 65, 32], [70, 64, 96]] {
        let inputs =
            [floats().shape([m, k]), floats().shape([n, k]), floats().shape([n]), floats().shape([m, n])];
        cases.push(
            Case::new(Matmul { transpose_b: true }, inputs).constant([1, 2]).epilogue(epilogue.clone()),
        );
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn infer(transpose_b: bool, a: &[usize], b: &[usize]) -> Result<Vec<usize>, OpError> {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        Matmul { transpose_b }.infer(&[desc(a), desc(b)]).map(|mut out| out.swap_remove(0).shape)
    }

    #[test]
    fn leading_axes_broadcast() {
        assert_eq!(infer(false, &[2, 1, 4, 8], &[3, 8, 5]), Ok(vec![2, 3, 4, 5]));
        assert_eq!(infer(true, &[2, 7, 8], &[5, 8]), Ok(vec![2, 7, 5]));
        assert_eq!(infer(false, &[4, 8], &[3, 8, 5]), Ok(vec![3, 4, 5]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(infer(false, &[2, 3], &[4, 5]).is_err());
        assert!(infer(false, &[3], &[3, 5]).is_err());
        assert!(infer(false, &[2, 4, 8], &[3, 8, 5]).is_err());
    }

    #[test]
    fn vectors_are_rows_and_columns() {
        let shape = |a: &[usize], b: &[usize]| {
            let mut builder = Builder::new();
            let a = builder.input("a", a, DType::F32).unwrap();
            let b = builder.input("b", b, DType::F32).unwrap();
            builder.matmul(a, b).map(|y| builder.shape(y).to_vec()).ok()
        };
        assert_eq!(shape(&[4], &[4]), Some(vec![]));
        assert_eq!(shape(&[4], &[4, 5]), Some(vec![5]));
        assert_eq!(shape(&[3, 4], &[4]), Some(vec![3]));
        assert_eq!(shape(&[2, 3, 4], &[4]), Some(vec![2, 3]));
        assert_eq!(shape(&[4], &[2, 4, 5]), Some(vec![2, 5]));
        assert_eq!(shape(&[4], &[3]), None);
        assert_eq!(shape(&[], &[3]), None);
    }

    #[test]
    fn both_orders_of_b_give_the_same() {
        let a = Tensor::f32([2, 3], vec![1., 2., 3., 4., 5., 6.]).unwrap();
        let b = Tensor::f32([3, 2], vec![1., 2., 3., 4., 5., 6.]).unwrap();
        let t = Tensor::f32([2, 3], vec![1., 3., 5., 2., 4., 6.]).unwrap();
        let c = Matmul { transpose_b: false }.reference(&[&a, &b]).unwrap();
        assert_eq!(c[0].as_f32(), Some(&[22., 28., 49., 64.][..]));
        assert_eq!(Matmul { transpose_b: true }.reference(&[&a, &t]).unwrap(), c);
    }
}
