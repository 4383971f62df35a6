//! The extents of an attention and where each operand's rows lie.

use super::{AttentionLayout, ScaledDotProductAttention};
use crate::{DType, OpError, TensorDesc, strides};

/// Largest head that the kernels take, in elements.
const MAX_HEAD: usize = 1024;

/// Rows of heads within a tensor, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedView {
    /// Which input of the op.
    pub input: usize,
    /// The first row's first element.
    pub offset: usize,
    /// From one row to the next.
    pub row_stride: usize,
}

/// What hides keys from queries by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mask {
    /// Which input of the op.
    pub input: usize,
    /// Its element type.
    pub dtype: DType,
    /// Elements between neighbours along B, Hq, Lq and Lk: 0 where it broadcasts.
    pub strides: [usize; 4],
}

/// Extents and operands of one attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shapes {
    pub batch: usize,
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub kv_heads: usize,
    /// Length of a query's and a key's head.
    pub head_dim: usize,
    /// Length of a value's head.
    pub value_dim: usize,
    pub q: PackedView,
    pub k: PackedView,
    pub v: PackedView,
    pub mask: Option<Mask>,
    /// The input that holds the number of valid keys.
    pub kv_len: Option<usize>,
    /// The input that holds the first query's position.
    pub position: Option<usize>,
}

/// Batch, length and head size of an operand of `heads` heads.
fn rows(desc: &TensorDesc, heads: usize) -> Result<[usize; 3], String> {
    match desc.shape[..] {
        [b, l, h, d] if h == heads => Ok([b, l, d]),
        [_, _, h, _] => Err(format!("an input has {h} heads where {heads} are wanted")),
        [b, l, c] if c % heads == 0 => Ok([b, l, c / heads]),
        [_, _, c] => Err(format!("{c} channels do not split into {heads} heads")),
        _ => Err("wants queries, keys and values of three axes, or four with the heads".into()),
    }
}

impl Shapes {
    /// Checks the inputs against the op's options.
    pub fn of(op: &ScaledDotProductAttention, inputs: &[TensorDesc]) -> Result<Self, OpError> {
        Self::checked(op, inputs)
            .map_err(|reason| OpError::new("scaled_dot_product_attention", inputs, reason))
    }

    fn checked(op: &ScaledDotProductAttention, inputs: &[TensorDesc]) -> Result<Self, String> {
        let own = op.layout.inputs();
        let wanted = own + usize::from(op.mask) + usize::from(op.kv_len) + usize::from(op.position);
        if inputs.len() != wanted {
            return Err(format!("wants {wanted} inputs"));
        }
        if op.heads == 0 || op.kv_heads == 0 || !op.heads.is_multiple_of(op.kv_heads) {
            return Err(format!(
                "{} query heads are no multiple of {} key and value heads",
                op.heads, op.kv_heads
            ));
        }
        if op.scale.is_some_and(|scale| !scale.is_finite()) {
            return Err("wants a finite scale".into());
        }
        if op.position && !op.causal {
            return Err("a position has a meaning for causal attention alone".into());
        }
        let dtype = inputs[0].dtype;
        if !dtype.is_float() || inputs[..own].iter().any(|desc| desc.dtype != dtype) {
            return Err("wants queries, keys and values of one floating-point type".into());
        }
        let mut shapes = Self::operands(op, inputs)?;
        if shapes.head_dim == 0 || shapes.head_dim.max(shapes.value_dim) > MAX_HEAD {
            return Err(format!("wants heads of 1 to {MAX_HEAD} elements"));
        }
        let mut next = own;
        if op.mask {
            shapes.mask = Some(shapes.mask(&inputs[next], next, dtype)?);
            next += 1;
        }
        let mut scalar = |wanted: bool, what: &str| {
            if !wanted {
                return Ok(None);
            }
            let index = next;
            next += 1;
            if inputs[index] != TensorDesc::new([], DType::U32) {
                return Err(format!("wants the {what} as a u32 of shape []"));
            }
            Ok(Some(index))
        };
        shapes.kv_len = scalar(op.kv_len, "number of keys")?;
        shapes.position = scalar(op.position, "position")?;
        Ok(shapes)
    }

    /// Extents and rows of queries, keys and values.
    fn operands(op: &ScaledDotProductAttention, inputs: &[TensorDesc]) -> Result<Self, String> {
        let (heads, kv_heads) = (op.heads, op.kv_heads);
        let view = |input, offset, row_stride| PackedView { input, offset, row_stride };
        let ([batch, queries, head_dim], [k_batch, keys, k_dim], [v_batch, v_keys, value_dim], q, k, v) =
            match op.layout {
                AttentionLayout::Separate => {
                    if inputs[1].rank() != inputs[0].rank() || inputs[2].rank() != inputs[0].rank() {
                        return Err("wants queries, keys and values of as many axes".into());
                    }
                    let (q, k, v) =
                        (rows(&inputs[0], heads)?, rows(&inputs[1], kv_heads)?, rows(&inputs[2], kv_heads)?);
                    let views =
                        (view(0, 0, heads * q[2]), view(1, 0, kv_heads * k[2]), view(2, 0, kv_heads * v[2]));
                    (q, k, v, views.0, views.1, views.2)
                }
                AttentionLayout::PackedKeyValue => {
                    if inputs[1].rank() != 3 {
                        return Err("wants packed keys and values of three axes".into());
                    }
                    let (q, kv) = (rows(&inputs[0], heads)?, rows(&inputs[1], 2 * kv_heads)?);
                    let half = kv_heads * kv[2];
                    (q, kv, kv, view(0, 0, heads * q[2]), view(1, 0, 2 * half), view(1, half, 2 * half))
                }
                AttentionLayout::Packed => {
                    if inputs[0].rank() != 3 {
                        return Err("wants packed queries, keys and values of three axes".into());
                    }
                    let all = heads + 2 * kv_heads;
                    let qkv = rows(&inputs[0], all)?;
                    let at = |head: usize| view(0, head * qkv[2], all * qkv[2]);
                    (qkv, qkv, qkv, at(0), at(heads), at(heads + kv_heads))
                }
            };
        if k_batch != batch || v_batch != batch {
            return Err(format!("batches of {batch}, {k_batch} and {v_batch} differ"));
        }
        if k_dim != head_dim {
            return Err(format!("heads of {head_dim} elements in queries and {k_dim} in keys differ"));
        }
        if v_keys != keys {
            return Err(format!("{keys} keys and {v_keys} values differ"));
        }
        Ok(Self {
            batch,
            queries,
            keys,
            heads,
            kv_heads,
            head_dim,
            value_dim,
            q,
            k,
            v,
            mask: None,
            kv_len: None,
            position: None,
        })
    }

    fn mask(&self, desc: &TensorDesc, input: usize, dtype: DType) -> Result<Mask, String> {
        if ![DType::Bool, DType::F32, dtype].contains(&desc.dtype) {
            return Err("wants a mask of truth values or of f32 or the queries' type".into());
        }
        let full = [self.batch, self.heads, self.queries, self.keys];
        let Some(pad) = 4usize.checked_sub(desc.rank()) else {
            return Err("wants a mask of at most four axes".into());
        };
        let mut result = Mask { input, dtype: desc.dtype, strides: [0; 4] };
        for ((axis, &extent), stride) in desc.shape.iter().enumerate().zip(strides(&desc.shape)) {
            if extent != 1 && extent != full[pad + axis] {
                return Err(format!("a mask of shape {:?} does not broadcast over {full:?}", desc.shape));
            }
            if extent != 1 {
                result.strides[pad + axis] = stride;
            }
        }
        Ok(result)
    }
}
