//! What the launches of a product share: its units, its parameters, and its cuts into dispatches.

use std::ops::Range;
use std::sync::Arc;

use kiln_shaders::{self as shaders, Unit};

use super::panels::{self, PANEL};
use super::{Extents, Matmul, Walk};
use crate::ops::units;
use crate::split::{binding_limit, gcd, lcm};
use crate::{Dispatch, Io, Kernel, Launch, Pack, Source, Spread, Step, Tier, params};

params! {
    pub(super) struct ProductParams {
        rows: u32, columns: u32, depth: u32, row_tiles: u32, column_tiles: u32, products: u32,
        inner: u32, a_start: u32, a_outer: u32, a_inner: u32, b_start: u32, b_outer: u32, b_inner: u32,
        c_start: u32, c_stride: u32, c_column: u32, split_depth: u32,
    }
}

/// A product that is to be launched.
pub(crate) struct Product<'a> {
    pub op: &'a Matmul,
    pub e: &'a Extents,
    pub io: &'a Io<'a>,
    pub tier: &'a Tier,
    /// Whether b is packed in panels.
    pub packed: bool,
    walk: Walk,
}

/// The part of a product that one dispatch's bindings can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slab {
    rows: Range<usize>,
    columns: Range<usize>,
}

fn whole(extent: usize) -> bool {
    extent.is_multiple_of(4)
}

impl<'a> Product<'a> {
    /// `pack` asks for a constant b in panels, which is possible for one matrix.
    pub fn new(op: &'a Matmul, e: &'a Extents, io: &'a Io, tier: &'a Tier, pack: bool) -> Self {
        let packed = pack && io.is_constant(1) && e.batch.is_empty();
        Self { op, e, io, tier, packed, walk: Walk::new(e) }
    }

    /// Number of matrices that are multiplied in one dispatch.
    pub fn products(&self) -> usize {
        self.walk.products
    }

    /// Whether one dispatch does it all, apart from what a limit on bindings asks for.
    pub fn is_one_walk(&self) -> bool {
        self.walk.starts.len() == 1
    }

    /// Whether b's rows lie together along the depth.
    pub fn b_along_depth(&self) -> bool {
        self.op.transpose_b && !self.packed
    }

    /// Whether four neighbours of b can be loaded at once where it stands.
    pub fn b_in_quads(&self) -> bool {
        whole(if self.op.transpose_b { self.e.k } else { self.e.n })
    }

    /// The units that load a and b; both define the element type.
    pub fn load_units(&self) -> Vec<Unit> {
        let a = if whole(self.e.k) { shaders::MATMUL_A_VEC4 } else { shaders::MATMUL_A_SCALAR };
        let b = match (self.packed, self.op.transpose_b) {
            (true, _) => shaders::MATMUL_B_PANELS,
            (_, true) if whole(self.e.k) => shaders::MATMUL_B_COLUMNS_VEC4,
            (_, true) => shaders::MATMUL_B_COLUMNS_SCALAR,
            (_, false) if whole(self.e.n) => shaders::MATMUL_B_ROWS_VEC4,
            (_, false) => shaders::MATMUL_B_ROWS_SCALAR,
        };
        vec![units::elem(self.io.inputs[0].dtype), shaders::GRID, shaders::MATMUL_PRODUCT, a, b]
    }

    /// The units that store the result.
    pub fn store_units(&self) -> Vec<Unit> {
        let y = &self.io.outputs[0];
        let mut parts = vec![if whole(self.e.n) { shaders::MATMUL_C_VEC4 } else { shaders::MATMUL_C_SCALAR }];
        parts.extend(self.io.epilogue.units(y, whole(self.e.n)));
        parts
    }

    /// The packs that go with [`Product::load_units`].
    pub fn packs(&self) -> Vec<Pack> {
        if !self.packed {
            return Vec::new();
        }
        let (k, n, transposed) = (self.e.k, self.e.n, self.op.transpose_b);
        let apply = move |b: &crate::Tensor| {
            let at = |i: usize, j: usize| if transposed { j * k + i } else { i * n + j };
            Ok(panels::pack(b, k, n, at)?)
        };
        let key = format!("panels {k}x{n}{}", if transposed { " transposed" } else { "" });
        vec![Pack { input: 1, key, apply: Arc::new(apply) }]
    }

    fn params(
        &self,
        slab: &Slab,
        tile: (usize, usize),
        [a_start, b_start, c_start]: [u32; 3],
    ) -> ProductParams {
        let (rows, columns) = (slab.rows.len(), slab.columns.len());
        ProductParams {
            rows: rows as u32,
            columns: columns as u32,
            depth: self.e.k as u32,
            row_tiles: rows.div_ceil(tile.0) as u32,
            column_tiles: columns.div_ceil(tile.1) as u32,
            products: self.walk.products as u32,
            inner: self.walk.inner,
            a_start,
            a_outer: self.walk.a_outer,
            a_inner: self.walk.a_inner,
            b_start,
            b_outer: self.walk.b_outer,
            b_inner: self.walk.b_inner,
            c_start,
            c_stride: self.e.n as u32,
            c_column: slab.columns.start as u32,
            split_depth: self.e.k.next_multiple_of(4) as u32,
            ..Default::default()
        }
    }

    /// The launch of a kernel that computes tiles of so many rows and columns.
    pub fn launch(&self, name: &'static str, kernel: &Kernel, tile: (usize, usize)) -> Launch {
        let mut dispatches = Vec::new();
        for slab in self.slabs(tile) {
            for &start in &self.walk.starts {
                let params = self.params(&slab, tile, start);
                let groups =
                    u64::from(params.row_tiles) * u64::from(params.column_tiles) * u64::from(params.products);
                let dispatch = self.bind_inputs(Dispatch::new(kernel.clone(), params, groups), &slab);
                dispatches.push(self.bind_output(dispatch, &slab));
            }
        }
        Launch { name, packs: self.packs(), dispatches, ..Launch::default() }
    }

    /// The dispatch of a kernel that makes something else of the sums of some rows of one product; it is left to bind.
    pub fn sums(&self, kernel: &Kernel, tile: (usize, usize), rows: Range<usize>) -> Dispatch {
        let start = [(rows.start * self.e.k) as u32, 0, 0];
        let params = self.params(&Slab { rows, columns: 0..self.e.n }, tile, start);
        let groups = u64::from(params.row_tiles) * u64::from(params.column_tiles);
        Dispatch::new(kernel.clone(), params, groups).bind("a", Source::Input(0)).bind("b", Source::Input(1))
    }

    /// The launch of a kernel that stores partial sums of `depth` terms each, and of the reduction that adds them up.
    pub fn split_launch(
        &self,
        name: &'static str,
        kernel: &Kernel,
        tile: (usize, usize),
        depth: usize,
    ) -> Launch {
        let all = Slab { rows: 0..self.e.m, columns: 0..self.e.n };
        let splits = self.e.k.div_ceil(depth).max(1);
        let params = ProductParams { split_depth: depth as u32, ..self.params(&all, tile, [0; 3]) };
        let groups =
            u64::from(params.row_tiles) * u64::from(params.column_tiles) * u64::from(params.products);
        let partial = self.walk.products * self.e.m * self.e.n.div_ceil(4);
        let sum = self
            .bind_inputs(Dispatch::new(kernel.clone(), params, groups * splits as u64), &all)
            .bind("partial", Source::Scratch(0));
        let workgroup = 64.min(self.tier.limits.max_invocations);
        let mut parts = vec![units::elem(self.io.outputs[0].dtype), shaders::GRID, shaders::MATMUL_PRODUCT];
        parts.push(shaders::MATMUL_REDUCE_SPLITS);
        parts.extend(self.store_units());
        let reduce = Kernel::new(parts).set("WORKGROUP", workgroup).set("SPLITS", splits as u32);
        let reduce = Dispatch::new(reduce, params, (partial as u64).div_ceil(workgroup.into()))
            .bind("partial", Source::Scratch(0))
            .bind("c", Source::Output(0));
        Launch {
            name,
            scratch: vec![(splits * partial * 16) as u64],
            packs: self.packs(),
            dispatches: vec![sum, self.io.epilogue.bind(reduce, 2)],
            ..Launch::default()
        }
    }

    fn element(&self) -> usize {
        self.io.outputs[0].dtype.size()
    }

    fn bind_inputs(&self, dispatch: Dispatch, slab: &Slab) -> Dispatch {
        let (e, bytes) = (self.e, self.element());
        let dispatch = if slab.rows.len() == e.m {
            dispatch.bind("a", Source::Input(0))
        } else {
            dispatch.bind_range("a", Source::Input(0), range(&slab.rows, e.k * bytes))
        };
        // Panels take more than the tensor: with a range, they are seen to where they are too large.
        let panels_fit =
            (e.n.div_ceil(PANEL) * self.panel_bytes()) as u64 <= binding_limit(&self.tier.limits);
        if slab.columns.len() == e.n && (panels_fit || !self.packed) {
            dispatch.bind("b", Source::Input(1))
        } else if self.packed {
            let panels = slab.columns.start / PANEL..slab.columns.end.div_ceil(PANEL);
            dispatch.bind_range("b", Source::Input(1), range(&panels, self.panel_bytes()))
        } else {
            dispatch.bind_range("b", Source::Input(1), range(&slab.columns, e.k * bytes))
        }
    }

    fn bind_output(&self, mut dispatch: Dispatch, slab: &Slab) -> Dispatch {
        if slab.rows.len() == self.e.m {
            return self.io.epilogue.bind(dispatch.bind("c", Source::Output(0)), 2);
        }
        let rows = range(&slab.rows, self.e.n * self.element());
        dispatch = dispatch.bind_range("c", Source::Output(0), rows.clone());
        for operand in 0..self.io.epilogue.operands() {
            let (name, source) = (format!("operand{operand}"), Source::Input(2 + operand));
            dispatch = if self.spread(operand) == Some(Spread::Full) {
                dispatch.bind_range(name, source, rows.clone())
            } else {
                dispatch.bind(name, source)
            };
        }
        dispatch
    }

    fn spread(&self, wanted: usize) -> Option<Spread> {
        self.io.epilogue.steps.iter().find_map(|step| match *step {
            Step::Binary { operand, spread, .. } if operand == wanted => Some(spread),
            _ => None,
        })
    }

    fn panel_bytes(&self) -> usize {
        self.e.k.next_multiple_of(4) * PANEL * self.element()
    }

    /// Cuts one product whose operands are larger than a binding may be, where whole rows of a and c and whole columns
    /// of b can be bound by themselves. What cannot be cut stays whole, and the engine reports it.
    fn slabs(&self, tile: (usize, usize)) -> Vec<Slab> {
        let (e, bytes) = (self.e, self.element());
        let batch_operand = (0..self.io.epilogue.operands())
            .any(|operand| matches!(self.spread(operand), Some(Spread::Batch { .. })));
        let cuttable_rows = e.batch.is_empty() && !batch_operand;
        let row_bytes = if cuttable_rows { vec![e.k * bytes, e.n * bytes] } else { Vec::new() };
        let rows = self.pieces(e.m, &row_bytes, 1, tile.0);
        let columns = match (self.packed, self.op.transpose_b) {
            _ if !e.batch.is_empty() => self.pieces(e.n, &[], 1, 4),
            (true, _) => self.pieces(e.n, &[self.panel_bytes()], PANEL, tile.1),
            (false, true) => self.pieces(e.n, &[e.k * bytes], 1, tile.1),
            (false, false) => self.pieces(e.n, &[], 1, 4),
        };
        let cut = |rows: &Range<usize>| {
            columns
                .iter()
                .map(|columns| Slab { rows: rows.clone(), columns: columns.clone() })
                .collect::<Vec<_>>()
        };
        rows.iter().flat_map(cut).collect()
    }

    /// Cuts `extent` so that runs of units of `unit` of it, of so many bytes in each of some tensors, can be bound.
    fn pieces(&self, extent: usize, unit_bytes: &[usize], unit: usize, tile: usize) -> Vec<Range<usize>> {
        let limit = self.tier.limits.max_binding_bytes as usize;
        let units = extent.div_ceil(unit);
        let largest = unit_bytes.iter().copied().max().unwrap_or(0);
        if largest == 0 || largest.saturating_mul(units) <= limit {
            return std::iter::once(0..extent).collect();
        }
        // Offsets must be aligned in every tensor, and cuts fall between vectors of four, and between tiles where that
        // leaves any.
        let alignment = (self.tier.limits.offset_alignment as usize).max(16);
        let step = unit_bytes.iter().fold(4, |step, &bytes| lcm(step, alignment / gcd(alignment, bytes)));
        let most = limit / largest;
        let tiles = lcm(step, tile.div_ceil(unit));
        let step = if most >= tiles { tiles } else { step };
        let length = most / step * step * unit;
        if length == 0 {
            return std::iter::once(0..extent).collect();
        }
        (0..extent).step_by(length).map(|start| start..extent.min(start + length)).collect()
    }
}

/// The bytes of a range of units. The end is that of a whole vector: buffers are padded to one.
fn range(units: &Range<usize>, unit_bytes: usize) -> Range<u64> {
    (units.start * unit_bytes) as u64..(units.end * unit_bytes).next_multiple_of(16) as u64
}

#[cfg(test)]
mod tests {
    use crate::ops::Matmul;
    use crate::{DType, DeviceLimits, Epilogue, Io, Launch, Op, Source, TensorDesc, Tier};

    /// Launches of a linear layer on a device whose bindings hold 64 KiB.
    fn launches(m: usize, n: usize, k: usize, constant: bool) -> Vec<Launch> {
        let desc = |shape: [usize; 2]| TensorDesc::new(shape, DType::F32);
        let (inputs, outputs) = ([desc([m, k]), desc([n, k])], [desc([m, n])]);
        let io =
            Io { inputs: &inputs, outputs: &outputs, constant: &[false, constant], epilogue: Epilogue::NONE };
        let limits = DeviceLimits { max_binding_bytes: 64 << 10, ..DeviceLimits::WEBGPU };
        let tier = Tier { software: true, limits, ..Tier::webgpu() };
        Matmul { transpose_b: true }.launches(&io, &tier).unwrap()
    }

    /// Bytes of a source that a launch binds, over all dispatches; each range must be one that a binding can have.
    fn bound(launch: &Launch, source: Source) -> u64 {
        let mut next = 0;
        for binding in launch.dispatches.iter().flat_map(|d| &d.bindings).filter(|b| b.source == source) {
            let range = binding.range.clone().unwrap();
            assert!(range.end - range.start <= 64 << 10 && range.start % 256 == 0, "{range:?}");
            assert_eq!(range.start, next);
            next = range.end;
        }
        next
    }

    #[test]
    fn large_rows_are_cut() {
        for launch in launches(1001, 36, 64, false) {
            assert_eq!(bound(&launch, Source::Input(0)), 1001 * 64 * 4, "{}", launch.name);
            assert_eq!(bound(&launch, Source::Output(0)), 1001 * 36 * 4, "{}", launch.name);
        }
    }

    #[test]
    fn cuts_fall_within_tiles_where_they_must() {
        for launch in launches(200, 1000, 68, false) {
            for binding in launch.dispatches.iter().flat_map(|dispatch| &dispatch.bindings) {
                let range = binding.range.clone().unwrap();
                assert!(range.end - range.start <= 64 << 10 && range.start % 256 == 0, "{range:?}");
            }
        }
    }

    #[test]
    fn large_weights_are_cut_by_columns() {
        for constant in [false, true] {
            for launch in launches(3, 1001, 100, constant) {
                // Panels hold 8 columns.
                let columns = if launch.packs.is_empty() { 1001 } else { 1008 };
                assert_eq!(bound(&launch, Source::Input(1)), columns * 100 * 4, "{}", launch.name);
            }
        }
    }
}
