//! Cases: head sizes, lengths, both layouts, every kind of mask, caches.

use super::{AttentionLayout, ScaledDotProductAttention};
use crate::DType;
use crate::registry::{Case, Fill};

fn floats(shape: impl Into<Vec<usize>>) -> Fill {
    Fill::uniform(-2.0, 2.0).shape(shape)
}

/// Batch, query and key lengths, query heads, key heads, both head sizes.
struct Extents(usize, usize, usize, usize, usize, usize, usize);

impl Extents {
    fn op(&self) -> ScaledDotProductAttention {
        ScaledDotProductAttention { kv_heads: self.4, ..ScaledDotProductAttention::new(self.3) }
    }

    fn inputs(&self) -> Vec<Fill> {
        let &Extents(b, lq, lk, hq, hkv, d, dv) = self;
        vec![floats([b, lq, hq, d]), floats([b, lk, hkv, d]), floats([b, lk, hkv, dv])]
    }

    fn case(&self) -> Case {
        Case::new(self.op(), self.inputs())
    }

    fn with(&self, op: ScaledDotProductAttention, rest: impl IntoIterator<Item = Fill>) -> Case {
        let mut inputs = self.inputs();
        inputs.extend(rest);
        Case::new(op, inputs)
    }
}

fn scalar(value: u32) -> Fill {
    Fill::given(DType::U32, [f64::from(value)]).shape([])
}

/// Truth values with a whole row of false among them.
fn truths(shape: [usize; 4]) -> Fill {
    let [b, h, l, k] = shape;
    let value = |i: usize| f64::from(u8::from(!(i / k).is_multiple_of(3) && i % 7 % 3 != 1));
    Fill::given(DType::Bool, (0..b * h * l * k).map(value).collect::<Vec<_>>()).shape(shape)
}

/// Addends, some of them as large as those that stand for "hidden", and a row of -inf.
fn addends(shape: [usize; 4], hidden: f64) -> Fill {
    let [b, h, l, k] = shape;
    let value = |i: usize| match i {
        _ if (i / k) % 5 == 2 => f64::NEG_INFINITY,
        _ if i % 4 == 1 => hidden,
        _ => (i * 37 % 23) as f64 * 0.125 - 1.5,
    };
    Fill::given(DType::F32, (0..b * h * l * k).map(value).collect::<Vec<_>>()).shape(shape)
}

/// Cases of attention.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Head sizes, with values' own; odd ones too.
    for (d, dv) in
        [(8, 8), (20, 20), (32, 32), (40, 40), (64, 64), (72, 24), (80, 80), (7, 5), (33, 64), (3, 1), (1, 4)]
    {
        cases.push(Extents(1, 17, 13, 2, 2, d, dv).case());
    }
    for (d, dv) in [(128, 128), (160, 160), (256, 256), (512, 512), (127, 129)] {
        cases.push(Extents(1, 9, 35, 1, 1, d, dv).case());
    }
    // Lengths around tiles.
    for (lq, lk) in [(1, 1), (1, 33), (2, 7), (31, 3), (33, 65), (64, 64), (65, 127), (129, 31), (257, 2)] {
        cases.push(Extents(2, lq, lk, 2, 2, 16, 16).case());
    }
    for (lq, lk) in [(0, 3), (3, 0), (1, 0)] {
        cases.push(Extents(1, lq, lk, 2, 1, 8, 8).case());
    }
    cases.push(Extents(1, 255, 257, 3, 3, 64, 64).case().full());
    cases.push(Extents(1, 128, 850, 2, 2, 32, 32).case().full());
    // Heads and channels as one axis.
    cases.push(Case::new(
        ScaledDotProductAttention::new(3),
        [floats([2, 9, 24]), floats([2, 11, 24]), floats([2, 11, 36])],
    ));
    // One tensor for several operands.
    let packed = |heads, kv_heads, layout| ScaledDotProductAttention {
        kv_heads,
        layout,
        ..ScaledDotProductAttention::new(heads)
    };
    for (heads, kv_heads, d) in [(3, 3, 16), (4, 2, 24), (2, 1, 7), (2, 2, 40)] {
        let op = packed(heads, kv_heads, AttentionLayout::Packed);
        cases.push(Case::new(op, [floats([2, 19, (heads + 2 * kv_heads) * d])]));
        let op = packed(heads, kv_heads, AttentionLayout::PackedKeyValue);
        cases.push(Case::new(op, [floats([2, 10, heads * d]), floats([2, 21, 2 * kv_heads * d])]));
    }
    // Scales; large ones make one key win, negative ones are as good as any.
    for scale in [1.0, 0.01, 5.0, -0.5, 0.0] {
        let e = Extents(1, 9, 18, 2, 2, 16, 16);
        let case = e.with(ScaledDotProductAttention { scale: Some(scale), ..e.op() }, []);
        // Scores up to 5 * 16 * 4 = 320, whose rounding in f32 moves the weights by their exponent's.
        let steep = |dtype| match dtype {
            DType::F32 => crate::numerics::Gate::Close { nmse: 1e-9, atol: 1e-4, rtol: 1e-3 },
            other => crate::numerics::Gate::default_for(other),
        };
        cases.push(if scale == 5.0 { case.gate(steep) } else { case });
    }
    // Causal, aligned at the top left, and with groups.
    for (lq, lk, kv_heads) in [(9, 9, 4), (33, 33, 2), (5, 9, 1), (9, 5, 4), (70, 40, 2)] {
        let e = Extents(1, lq, lk, 4, kv_heads, 16, 16);
        cases.push(e.with(ScaledDotProductAttention { causal: true, ..e.op() }, []));
    }
    for kv_heads in [1, 2, 3] {
        cases.push(Extents(2, 10, 20, 6, kv_heads, 20, 12).case());
    }
    // Masks, broadcast along each axis.
    for shape in [[2, 1, 1, 19], [2, 2, 11, 19], [1, 1, 11, 19], [1, 2, 11, 19], [2, 1, 11, 1], [1, 1, 1, 1]]
    {
        let e = Extents(2, 11, 19, 2, 2, 16, 16);
        let op = ScaledDotProductAttention { mask: true, ..e.op() };
        cases.push(e.with(op, [truths(shape)]));
        cases.push(e.with(op, [addends(shape, -1e9).keep_f32()]));
        // Not for rows that are all hidden so: f32 has steps of 1/128 there.
        if shape[2] == 11 && shape[3] == 19 {
            cases.push(e.with(op, [addends(shape, -6e4)]));
        }
    }
    let e = Extents(1, 37, 70, 2, 1, 40, 40);
    let op = ScaledDotProductAttention { mask: true, causal: true, ..e.op() };
    cases.push(e.with(op, [truths([1, 1, 37, 70])]));
    let lowest = f64::from(f32::MIN);
    cases.push(e.with(op, [addends([1, 2, 37, 70], lowest).keep_f32()]));
    // Rows of nothing but huge addends are means.
    let even = Fill::given(DType::F32, [lowest]).shape([5, 6]).keep_f32();
    let e = Extents(1, 5, 6, 1, 1, 8, 8);
    cases.push(e.with(ScaledDotProductAttention { mask: true, ..e.op() }, [even]));
    let even = Fill::given(DType::F32, [-1e9]).shape([6]).keep_f32();
    cases.push(e.with(ScaledDotProductAttention { mask: true, ..e.op() }, [even]));
    // Caches: the number of valid keys, the first query's position, both; none, all and too many.
    for (lq, lk, kv_len, position) in
        [(1, 32, 17, 16), (4, 32, 20, 16), (5, 33, 0, 0), (3, 20, 20, 17), (7, 65, 1000, 4_000_000_000)]
    {
        let e = Extents(2, lq, lk, 4, 2, 16, 16);
        let op = ScaledDotProductAttention { kv_len: true, ..e.op() };
        cases.push(e.with(op, [scalar(kv_len)]));
        let op = ScaledDotProductAttention { causal: true, position: true, ..op };
        cases.push(e.with(op, [scalar(kv_len), scalar(position)]));
        let op = ScaledDotProductAttention { kv_len: false, ..op };
        cases.push(e.with(op, [scalar(position)]).full());
        let op = ScaledDotProductAttention { mask: true, kv_len: true, ..op };
        cases.push(e.with(op, [truths([2, 1, lq, lk]), scalar(kv_len), scalar(position)]));
    }
    cases.extend(large());
    cases
}

/// Cases that are large enough for kernels of long compilation, one for each of their parts.
fn large() -> Vec<Case> {
    let mut cases = Vec::new();
    // Long heads, odd ones, both; more keys than a tile by one.
    for (lq, lk, d, dv) in [(33, 40, 160, 160), (65, 67, 33, 35)] {
        cases.push(Extents(1, lq, lk, 2, 2, d, dv).case());
    }
    for (lq, lk, d, dv) in [(40, 77, 127, 129), (97, 33, 64, 40)] {
        cases.push(Extents(1, lq, lk, 2, 2, d, dv).case().full());
    }
    let e = Extents(2, 50, 50, 2, 2, 40, 40);
    let op = ScaledDotProductAttention { layout: AttentionLayout::Packed, ..e.op() };
    cases.push(Case::new(op, [floats([2, 50, 240])]).full());
    let e = Extents(1, 70, 40, 6, 2, 20, 12);
    cases.push(e.with(ScaledDotProductAttention { causal: true, ..e.op() }, []));
    let e = Extents(1, 65, 67, 2, 1, 32, 32);
    let op = ScaledDotProductAttention { mask: true, ..e.op() };
    cases.push(e.with(op, [truths([1, 2, 65, 67])]));
    cases.push(e.with(op, [truths([1, 1, 1, 67])]).full());
    cases.push(e.with(op, [addends([1, 1, 65, 67], -6e4)]).full());
    cases.push(e.with(op, [addends([1, 2, 65, 67], -1e9).keep_f32()]));
    let e = Extents(2, 31, 70, 1, 1, 128, 100);
    let op = ScaledDotProductAttention { mask: true, causal: true, ..e.op() };
    cases.push(e.with(op, [truths([2, 1, 31, 70])]).full());
    for (kv_len, position) in [(50, 17), (0, 0), (1000, 4_000_000_000)] {
        let e = Extents(2, 40, 97, 4, 2, 16, 16);
        let op = ScaledDotProductAttention { kv_len: true, causal: true, position: true, ..e.op() };
        cases.push(e.with(op, [scalar(kv_len), scalar(position)]));
    }
    // A decoder's next tokens: several tiles of keys, heads shorter and longer than a workgroup, odd ones.
    for (lq, lk, d, dv, position) in [
        (1, 300, 64, 64, 255),
        (1, 300, 64, 64, 299),
        (2, 130, 7, 5, 64),
        (1, 70, 300, 300, 69),
        (4, 33, 12, 140, 0),
    ] {
        let e = Extents(2, lq, lk, 4, 2, d, dv);
        let op = ScaledDotProductAttention { causal: true, position: true, ..e.op() };
        cases.push(e.with(op, [scalar(position)]));
    }
    // More iterations than software drivers run in a query's loop over all keys.
    cases.push(Extents(1, 5, 4096, 1, 1, 64, 64).case());
    cases.push(Extents(1, 3, 4096, 1, 1, 512, 512).case().full());
    cases
}
