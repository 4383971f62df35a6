//! Separable resampling of images: each output pixel is a weighted sum over a rectangle of input pixels. Smooth resizing
//! and average pooling are this with different weights.

use kiln_shaders as shaders;
use rayon::prelude::*;

use crate::ops::slabs::{self, Rows};
use crate::ops::spatial::{bind_to, groups, lanes, lanes_unit, words};
use crate::ops::units;
use crate::{DType, Dispatch, Kernel, Launch, OpError, Source, Tensor, TensorDesc, Tier, params};

params! {
    struct ResampleParams {
        first_row: u32, rows: u32, in_height: u32, in_width: u32, out_height: u32, out_width: u32, channels: u32,
        x_origin: u32, y_origin: u32, row_words: u32, column_words: u32, columns_at: u32,
    }
}

/// More taps than this are summed in two passes, one axis after the other: a third buffer is written and read, but
/// the taps add up instead of multiplying.
const ONE_PASS_TAPS: usize = 24;

/// The consecutive input positions that an output position reads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Taps {
    /// The first of them.
    pub first: usize,
    /// A weight each; at least one.
    pub weights: Vec<f64>,
}

impl Taps {
    /// One position as it is.
    pub fn one(position: usize) -> Self {
        Self { first: position, weights: vec![1.0] }
    }

    /// Weighted positions that may repeat and may lie outside of the input, where the border stands for them.
    pub fn clamped(input: usize, first: i64, weights: &[f64]) -> Self {
        let last = input.saturating_sub(1) as i64;
        let inside = |k: usize| (first + k as i64).clamp(0, last) as usize;
        let (low, high) = (inside(0), inside(weights.len().saturating_sub(1)));
        let mut merged = vec![0.0; high - low + 1];
        for (k, weight) in weights.iter().enumerate() {
            merged[inside(k) - low] += weight;
        }
        Self { first: low, weights: merged }.trimmed()
    }

    /// Without the zeros at either end.
    pub fn trimmed(mut self) -> Self {
        while self.weights.len() > 1 && self.weights.last() == Some(&0.0) {
            self.weights.pop();
        }
        let zeros = self.weights.iter().take_while(|&&weight| weight == 0.0).count();
        let zeros = zeros.min(self.weights.len() - 1);
        self.weights.drain(..zeros);
        self.first += zeros;
        self
    }
}

/// Cubic convolution (Keys 1981).
pub(crate) fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// The definition: `x` of shape `[N, H, W, C]` to as many rows and columns as there are taps.
pub(crate) fn reference(x: &Tensor, rows: &[Taps], columns: &[Taps]) -> Result<Tensor, OpError> {
    let &[batch, in_height, in_width, channels] = x.shape() else {
        return Err(OpError::new("resample", &[x.desc()], "wants an image [N, H, W, C]"));
    };
    let shape = [batch, rows.len(), columns.len(), channels];
    let x_row = in_width * channels;
    let values = x.to_f64();
    let mut result = vec![0.0; shape.iter().product()];
    // An empty result has no lines, so no line is of length 0.
    let line = (columns.len() * channels).max(1);
    result.par_chunks_mut(line).enumerate().for_each(|(y, line)| {
        let taps = &rows[y % rows.len()];
        let first = (y / rows.len() * in_height + taps.first) * x_row;
        for (column, pixel) in columns.iter().zip(line.chunks_exact_mut(channels)) {
            for (r, row_weight) in taps.weights.iter().enumerate() {
                for (c, weight) in column.weights.iter().enumerate() {
                    let at = first + r * x_row + (column.first + c) * channels;
                    let weight = row_weight * weight;
                    pixel.iter_mut().zip(&values[at..]).for_each(|(sum, v)| *sum += weight * v);
                }
            }
        }
    });
    Ok(Tensor::from_f64(shape, x.dtype(), &result)?)
}

/// Floating-point operations of `images` images of one channel.
pub(crate) fn flops(images: usize, rows: &[Taps], columns: &[Taps]) -> u64 {
    let taps = |taps: &[Taps]| taps.iter().map(|taps| taps.weights.len()).sum::<usize>();
    2 * (images * taps(rows) * taps(columns)) as u64
}

/// Launches from input 0, `x`, to output 0, `y`, both `[N, H, W, C]`.
pub(crate) fn launches(
    x: &TensorDesc,
    y: &TensorDesc,
    rows: &[Taps],
    columns: &[Taps],
    tier: &Tier,
) -> Result<Vec<Launch>, OpError> {
    let one = |x_desc: &TensorDesc, y_desc: &TensorDesc, rows: &[Taps], columns: &[Taps]| Pass {
        x: x_desc.clone(),
        y: y_desc.clone(),
        rows: rows.to_vec(),
        columns: columns.to_vec(),
    };
    let mut direct = Launch { name: "direct", ..Launch::default() };
    one(x, y, rows, columns).add(&mut direct, Source::Input(0), Source::Output(0), tier)?;
    let most = |taps: &[Taps]| taps.iter().map(|taps| taps.weights.len()).max().unwrap_or(0);
    let copies = |extent: usize| -> Vec<Taps> {
        (0..extent).map(|first| Taps { first, weights: vec![1.0] }).collect()
    };
    if most(rows) * most(columns) <= ONE_PASS_TAPS || most(rows) == 1 || most(columns) == 1 {
        return Ok(vec![direct]);
    }
    // Rows first where that leaves less behind.
    let rows_first = y.shape[1] * x.shape[2] < x.shape[1] * y.shape[2];
    let (height, width) = if rows_first { (y.shape[1], x.shape[2]) } else { (x.shape[1], y.shape[2]) };
    let middle = TensorDesc::new([x.shape[0], height, width, x.shape[3]], DType::F32);
    let mut passes = Launch { name: "two_passes", ..Launch::default() };
    passes.scratch.push(middle.bytes() as u64);
    let (first, second) = if rows_first {
        let (rows_alone, columns_alone) = (copies(width), copies(height));
        (one(x, &middle, rows, &rows_alone), one(&middle, y, &columns_alone, columns))
    } else {
        let (columns_alone, rows_alone) = (copies(height), copies(width));
        (one(x, &middle, &columns_alone, columns), one(&middle, y, rows, &rows_alone))
    };
    first.add(&mut passes, Source::Input(0), Source::Scratch(0), tier)?;
    second.add(&mut passes, Source::Scratch(0), Source::Output(0), tier)?;
    let taps = most(rows) * (1 + most(columns));
    Ok(if taps > units::MAX_LOOP_ITERATIONS { vec![passes] } else { vec![passes, direct] })
}

/// One kernel over one image size to another.
struct Pass {
    x: TensorDesc,
    y: TensorDesc,
    rows: Vec<Taps>,
    columns: Vec<Taps>,
}

/// Entries of one length: first position, number of taps, weights.
fn entries(taps: &[Taps]) -> (usize, Vec<u32>) {
    let most = taps.iter().map(|taps| taps.weights.len()).max().unwrap_or(0);
    let mut table = Vec::with_capacity(taps.len() * (2 + most));
    for taps in taps {
        table.extend([taps.first as u32, taps.weights.len() as u32]);
        table.extend(taps.weights.iter().map(|&weight| (weight as f32).to_bits()));
        table.extend(std::iter::repeat_n(0, most - taps.weights.len()));
    }
    (2 + most, table)
}

impl Pass {
    fn add(&self, launch: &mut Launch, from: Source, to: Source, tier: &Tier) -> Result<(), OpError> {
        let (x, y) = (&self.x, &self.y);
        let lanes = lanes(x.last());
        let (in_height, out_height) = (x.shape[1], y.shape[1]);
        let reads = |line: usize| {
            let taps = &self.rows[line % out_height];
            let row = line / out_height * in_height + taps.first;
            row..row + taps.weights.len()
        };
        let (row_words, mut table) = entries(&self.rows);
        let columns_at = table.len();
        let (column_words, columns) = entries(&self.columns);
        table.extend(columns);
        let table_index = launch.tables.len();
        launch.tables.push(words(table));
        let (elem, storage) = match (from, to) {
            (Source::Input(_), Source::Output(_)) => (x.dtype, shaders::SPATIAL_STORAGE_SAME),
            (Source::Input(_), _) => (x.dtype, shaders::SPATIAL_STORAGE_TO_F32),
            _ => (y.dtype, shaders::SPATIAL_STORAGE_FROM_F32),
        };
        for slab in slabs::cut(Rows::of(x, 2), &[Rows::of(y, 2)], reads, tier)? {
            let (workgroup, groups) = groups(slab.rows.len() * y.shape[2] * y.last() / lanes, tier);
            let params = ResampleParams {
                first_row: slab.rows.start as u32,
                rows: slab.rows.len() as u32,
                in_height: in_height as u32,
                in_width: x.shape[2] as u32,
                out_height: out_height as u32,
                out_width: y.shape[2] as u32,
                channels: (y.last() / lanes) as u32,
                x_origin: slabs::origin(&slab.x, x, lanes),
                y_origin: slabs::origin(&slab.y[0], y, lanes),
                row_words: row_words as u32,
                column_words: column_words as u32,
                columns_at: columns_at as u32,
                ..Default::default()
            };
            let parts = [
                units::elem(elem),
                shaders::GRID,
                lanes_unit(lanes),
                storage.clone(),
                shaders::SPATIAL_RESAMPLE,
            ];
            let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
            let dispatch = Dispatch::new(kernel, params, groups).bind("taps", Source::Table(table_index));
            launch.dispatches.push(bind_to(dispatch, &slab, from, to));
        }
        Ok(())
    }
}
