//! Scaled dot-product attention, computed with an online softmax: no launch keeps a matrix of all scores.

mod cases;
mod kernel;
mod reference;
mod shapes;

pub use cases::cases;
pub(crate) use shapes::{Mask, Shapes};

use crate::{
    Along, Builder, GraphError, Independence, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value,
};

/// Where queries, keys and values lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AttentionLayout {
    /// Three inputs: q `[B, Lq, Hq, D]`, k `[B, Lk, Hkv, D]`, v `[B, Lk, Hkv, Dv]`, or the same with the last two axes
    /// as one (`[B, Lq, Hq * D]` ...), as linear layers give them. The result has as many axes as q.
    #[default]
    Separate,
    /// Two inputs: q as above and one `[B, Lk, 2 * Hkv * D]` whose rows are k, then v: one product for both.
    PackedKeyValue,
    /// One input `[B, L, (Hq + 2 * Hkv) * D]` whose rows are q, then k, then v, read in place. The result is
    /// `[B, L, Hq * D]`.
    Packed,
}

impl AttentionLayout {
    /// Number of inputs that hold queries, keys and values.
    pub fn inputs(self) -> usize {
        match self {
            AttentionLayout::Separate => 3,
            AttentionLayout::PackedKeyValue => 2,
            AttentionLayout::Packed => 1,
        }
    }
}

/// `softmax(scale * q k^T + mask) v` for each head (Vaswani et al. 2017; PyTorch's
/// `scaled_dot_product_attention`), with heads behind the length instead of before it.
///
/// Inputs: queries, keys and values as [`AttentionLayout`] says; then those of the mask, the number of keys and the
/// position that the options name, in this order. A query that may see no key at all gives zeros.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaledDotProductAttention {
    /// Query heads, Hq.
    pub heads: usize,
    /// Key and value heads, Hkv: as many, or a divisor for grouped queries (query head `h` reads `h * Hkv / Hq`).
    pub kv_heads: usize,
    /// Where queries, keys and values lie.
    pub layout: AttentionLayout,
    /// Factor of the scores; `1 / sqrt(D)` where there is none.
    pub scale: Option<f32>,
    /// Whether query `i` sees keys up to `i` alone (PyTorch's `is_causal`), or up to `i + position`.
    pub causal: bool,
    /// Whether there is a mask: truth values (true attends) or floats added to the scaled scores, of a shape that
    /// broadcasts over `[B, Hq, Lq, Lk]`. An addend of -inf hides its key.
    pub mask: bool,
    /// Whether a u32 of shape `[]` says how many of the keys are valid: a cache is filled so far.
    pub kv_len: bool,
    /// Whether a u32 of shape `[]` gives the first query's place among the keys; with `causal` alone.
    pub position: bool,
}

impl ScaledDotProductAttention {
    /// Attention with this many heads and no options.
    pub fn new(heads: usize) -> Self {
        Self {
            heads,
            kv_heads: heads,
            layout: AttentionLayout::Separate,
            scale: None,
            causal: false,
            mask: false,
            kv_len: false,
            position: false,
        }
    }
}

impl Op for ScaledDotProductAttention {
    fn name(&self) -> &'static str {
        "scaled_dot_product_attention"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let shapes = Shapes::of(self, inputs)?;
        let (rows, dtype) = (vec![shapes.batch, shapes.queries], inputs[0].dtype);
        let row = if self.layout != AttentionLayout::Packed && inputs[0].rank() == 4 {
            vec![shapes.heads, shapes.value_dim]
        } else {
            vec![shapes.heads * shapes.value_dim]
        };
        Ok(vec![TensorDesc::new([rows, row].concat(), dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        reference::attention(self, inputs)
    }

    fn independence(&self, io: &Io) -> Independence {
        let (first, own) = (Some(0), self.layout.inputs());
        let mask = self.mask.then(|| io.inputs.get(own)).flatten();
        // The mask's axis of queries, and that of the batch, where it has them.
        let mask_axis = |behind: usize| {
            let axis = mask?.rank().checked_sub(behind)?;
            (mask?.shape[axis] != 1).then_some(axis)
        };
        let with_mask = |mut inputs: Vec<Option<usize>>, axis| {
            inputs.push(axis);
            inputs
        };
        let mut axes = vec![Along::new(with_mask(vec![first; own], mask_axis(4)), [first])];
        // A causal query's place among all of them counts.
        if !self.causal && self.layout != AttentionLayout::Packed {
            let mut inputs = vec![None; own];
            inputs[0] = Some(1);
            axes.push(Along::new(with_mask(inputs, mask_axis(2)), [Some(1)]));
        }
        Independence::Axes(axes)
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let shapes = Shapes::of(self, io.inputs)?;
        kernel::launches(self, &shapes, io, tier)
            .map_err(|reason| OpError::new(self.name(), io.inputs, reason))
    }

    fn flops(&self, io: &Io) -> u64 {
        Shapes::of(self, io.inputs).map_or(0, |s| {
            let scores = (s.batch * s.heads * s.queries * s.keys) as u64;
            2 * scores * (s.head_dim + s.value_dim) as u64
        })
    }
}

/// Options of [`Builder::scaled_dot_product_attention`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; as many as query heads where there is none.
    pub kv_heads: Option<usize>,
    /// Factor of the scores; `1 / sqrt(D)` where there is none.
    pub scale: Option<f32>,
    /// Whether query `i` sees keys up to `i` alone.
    pub causal: bool,
    /// Truth values or addends that broadcast over `[B, Hq, Lq, Lk]`.
    pub mask: Option<Value>,
    /// Number of valid keys, a u32 of shape `[]`.
    pub kv_len: Option<Value>,
    /// The first query's place among the keys, a u32 of shape `[]`; makes a causal query `i` see keys up to
    /// `i + position`.
    pub position: Option<Value>,
}

impl AttentionOptions {
    /// This many heads; everything sees everything.
    pub fn heads(heads: usize) -> Self {
        Self { heads, kv_heads: None, scale: None, causal: false, mask: None, kv_len: None, position: None }
    }

    /// The op with these options, and its inputs behind queries, keys and values.
    fn op(&self, layout: AttentionLayout) -> (ScaledDotProductAttention, Vec<Value>) {
        let op = ScaledDotProductAttention {
            heads: self.heads,
            kv_heads: self.kv_heads.unwrap_or(self.heads),
            layout,
            scale: self.scale,
            causal: self.causal,
            mask: self.mask.is_some(),
            kv_len: self.kv_len.is_some(),
            position: self.position.is_some(),
        };
        (op, [self.mask, self.kv_len, self.position].into_iter().flatten().collect())
    }
}

impl Builder {
    /// Attention of `q` `[B, Lq, Hq, D]` over `k` `[B, Lk, Hkv, D]` and `v` `[B, Lk, Hkv, Dv]`, or of the same with heads
    /// and channels as one axis. The result is laid out like `q`.
    pub fn scaled_dot_product_attention(
        &mut self,
        q: Value,
        k: Value,
        v: Value,
        options: &AttentionOptions,
    ) -> Result<Value, GraphError> {
        let (op, rest) = options.op(AttentionLayout::Separate);
        self.op(op, &[vec![q, k, v], rest].concat())
    }

    /// Attention within `qkv` `[B, L, (Hq + 2 * Hkv) * D]`, whose rows are queries, keys and values; gives
    /// `[B, L, Hq * D]`.
    pub fn packed_attention(&mut self, qkv: Value, options: &AttentionOptions) -> Result<Value, GraphError> {
        let (op, rest) = options.op(AttentionLayout::Packed);
        self.op(op, &[vec![qkv], rest].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn infer(op: ScaledDotProductAttention, shapes: &[&[usize]]) -> Result<Vec<usize>, OpError> {
        let descs: Vec<TensorDesc> = shapes.iter().map(|&shape| TensorDesc::new(shape, DType::F32)).collect();
        op.infer(&descs).map(|mut out| out.swap_remove(0).shape)
    }

    #[test]
    fn heads_may_be_an_axis_or_not() {
        let op = ScaledDotProductAttention::new(4);
        assert_eq!(infer(op, &[&[2, 5, 4, 8], &[2, 7, 4, 8], &[2, 7, 4, 6]]), Ok(vec![2, 5, 4, 6]));
        assert_eq!(infer(op, &[&[2, 5, 32], &[2, 7, 32], &[2, 7, 24]]), Ok(vec![2, 5, 24]));
        let packed = ScaledDotProductAttention { layout: AttentionLayout::Packed, kv_heads: 2, ..op };
        assert_eq!(infer(packed, &[&[2, 5, 64]]), Ok(vec![2, 5, 32]));
        let pair = ScaledDotProductAttention { layout: AttentionLayout::PackedKeyValue, ..op };
        assert_eq!(infer(pair, &[&[2, 5, 32], &[2, 9, 64]]), Ok(vec![2, 5, 32]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let op = ScaledDotProductAttention::new(4);
        // Heads that do not divide, lengths and batches that differ, head sizes that differ.
        assert!(infer(op, &[&[2, 5, 30], &[2, 7, 30], &[2, 7, 30]]).is_err());
        assert!(infer(op, &[&[2, 5, 32], &[2, 7, 32], &[2, 8, 32]]).is_err());
        assert!(infer(op, &[&[2, 5, 32], &[1, 7, 32], &[1, 7, 32]]).is_err());
        assert!(infer(op, &[&[2, 5, 4, 8], &[2, 7, 4, 6], &[2, 7, 4, 8]]).is_err());
        assert!(infer(op, &[&[2, 5, 3, 8], &[2, 7, 3, 8], &[2, 7, 3, 8]]).is_err());
        let grouped = ScaledDotProductAttention { kv_heads: 3, ..op };
        assert!(infer(grouped, &[&[2, 5, 32], &[2, 7, 24], &[2, 7, 24]]).is_err());
        let position = ScaledDotProductAttention { position: true, ..op };
        let qkv: &[&[usize]] = &[&[2, 5, 32], &[2, 7, 32], &[2, 7, 32]];
        assert!(infer(position, &[qkv, &[&[]]].concat()).is_err());
        let masked = ScaledDotProductAttention { mask: true, ..op };
        assert!(infer(masked, &[qkv, &[&[2, 4, 5, 8]]].concat()).is_err());
        assert!(infer(masked, &[qkv, &[&[5, 7]]].concat()).is_ok());
        assert!(infer(masked, qkv).is_err());
    }

    #[test]
    fn equal_scores_give_the_mean_and_no_keys_give_zeros() {
        let q = Tensor::f32([1, 2, 1, 2], vec![0.0; 4]).unwrap();
        let k = Tensor::f32([1, 2, 1, 2], vec![1.0, -1.0, 2.0, 3.0]).unwrap();
        let v = Tensor::f32([1, 2, 1, 1], vec![4.0, 8.0]).unwrap();
        let mask = Tensor::bool([2, 2], vec![1, 1, 0, 0]).unwrap();
        let op = ScaledDotProductAttention { mask: true, ..ScaledDotProductAttention::new(1) };
        let y = op.reference(&[&q, &k, &v, &mask]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[6.0, 0.0][..]));
    }

    #[test]
    fn packed_rows_give_what_separate_inputs_give() {
        let numbers: Vec<f32> = (0..2 * 3 * 8).map(|i| ((i * 7) % 11) as f32 * 0.25 - 1.0).collect();
        let packed = Tensor::f32([2, 3, 8], numbers.clone()).unwrap();
        let part = |from: usize, len: usize| {
            let data = numbers.chunks(8).flat_map(|row| row[from..from + len].to_vec()).collect();
            Tensor::f32([2, 3, len], data).unwrap()
        };
        let op = ScaledDotProductAttention { kv_heads: 1, causal: true, ..ScaledDotProductAttention::new(2) };
        let separate = op.reference(&[&part(0, 4), &part(4, 2), &part(6, 2)]).unwrap();
        let op = ScaledDotProductAttention { layout: AttentionLayout::Packed, ..op };
        assert_eq!(op.reference(&[&packed]).unwrap(), separate);
    }
}
