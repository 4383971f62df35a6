//! What the attention kernels share: units, parameters and bindings.

use kiln_shaders::{self as shaders, Unit};

use super::{ScaledDotProductAttention, Shapes};
use crate::ops::units;
use crate::{DType, Dispatch, Io, Kernel, Launch, Source, Tier, params};

params! {
    struct AttentionParams {
        queries: u32, keys: u32, heads: u32, grouped: u32, causal: u32, scale: f32,
        q_start: u32, q_row: u32, q_head: u32, k_start: u32, k_row: u32, v_start: u32, v_row: u32, v_head: u32,
        mask_batch: u32, mask_head: u32, mask_query: u32, mask_key: u32, tiles: u32, batch_heads: u32,
    }
}

/// Invocations of a workgroup of `lanes`: what software rasterisers run side by side.
const LANES: u32 = 8;

/// Most queries that have a workgroup each for themselves, and its invocations on GPUs and on software rasterisers.
const FEW_QUERIES: usize = 4;
const FEW_LANES: [u32; 2] = [64, 32];

/// Longest head of values whose sums a lane of `lanes` keeps in its own memory, in elements.
const MAX_PRIVATE: usize = 96;

/// Invocations and queries of a workgroup of `tiled`.
const TILED_INVOCATIONS: u32 = 128;
const TILED_QUERIES: u32 = 64;

/// Most quads of a head of values that a workgroup of `tiled` computes: 16 registers of four an invocation.
const MAX_CHUNK_QUADS: usize = 32;

/// Most iterations that all loops of one invocation run together on a software device: Mesa's compiler for processors ends
/// loops silently after 65,535.
const MAX_ITERATIONS: usize = 60_000;

/// Products of queries and keys, summed over heads, from which `lanes` is worth its compilation.
const LANES_WORK: usize = 1 << 18;

/// One attention on one device.
struct Build<'a> {
    op: &'a ScaledDotProductAttention,
    shapes: &'a Shapes,
    dtype: DType,
    /// Whether everything is read and written four elements at a time.
    vec4: bool,
}

pub(super) fn launches(
    op: &ScaledDotProductAttention,
    shapes: &Shapes,
    io: &Io,
    tier: &Tier,
) -> Result<Vec<Launch>, String> {
    let quads = |n: usize| n.is_multiple_of(4);
    let views = [shapes.q, shapes.k, shapes.v];
    let vec4 = quads(shapes.head_dim)
        && quads(shapes.value_dim)
        && views.iter().all(|view| quads(view.offset) && quads(view.row_stride));
    let build = Build { op, shapes, dtype: io.outputs[0].dtype, vec4 };
    let tiled = (tier.limits.max_invocations >= TILED_INVOCATIONS).then(|| build.tiled());
    let few = build.few_queries(tier);
    if !tier.software {
        return Ok(few.into_iter().chain(tiled).chain([build.rows(tier)]).collect());
    }
    // A small attention is over before a larger kernel is compiled.
    let short = build.rows_iterations() <= MAX_ITERATIONS;
    let lanes = !short || build.work() >= LANES_WORK;
    let mut launches = Vec::new();
    if short && shapes.queries <= FEW_QUERIES {
        launches.push(build.heads(tier));
    }
    launches.extend(few);
    if lanes && build.lanes_iterations(build.blocks()) <= MAX_ITERATIONS {
        launches.push(build.lanes(tier));
    }
    if short {
        launches.push(build.rows(tier));
    }
    if lanes && build.tiled_iterations() <= MAX_ITERATIONS {
        launches.extend(tiled);
    }
    if launches.is_empty() {
        return Err(format!(
            "{} keys of {} elements are more than a software driver computes at once",
            shapes.keys, shapes.head_dim
        ));
    }
    Ok(launches)
}

impl Build<'_> {
    /// The units that every kernel links.
    fn units(&self, kernel: Unit) -> Vec<Unit> {
        let s = self.shapes;
        let constants = Unit::constants(&[
            ("HEAD", s.head_dim as u32),
            ("VALUE", s.value_dim as u32),
            ("HEAD_QUADS", s.head_dim.div_ceil(4) as u32),
            ("VALUE_QUADS", s.value_dim.div_ceil(4) as u32),
        ]);
        let access = if self.vec4 { shaders::ATTENTION_VEC4 } else { shaders::ATTENTION_SCALAR };
        let mut parts = vec![
            units::elem(self.dtype),
            constants,
            shaders::GRID,
            shaders::ATTENTION_PARAMS,
            access,
            kernel,
        ];
        match s.mask.map(|mask| mask.dtype) {
            None => parts.push(shaders::ATTENTION_MASK_NONE),
            Some(DType::Bool) => parts.push(shaders::ATTENTION_MASK_BOOL),
            Some(dtype) if dtype == self.dtype => {
                parts.extend([shaders::ATTENTION_MASK_ADD, shaders::ATTENTION_MASK_ELEM]);
            }
            Some(_) => parts.extend([shaders::ATTENTION_MASK_ADD, shaders::ATTENTION_MASK_F32]),
        }
        parts.push(match s.kv_len {
            None => shaders::ATTENTION_KEYS_ALL,
            Some(_) => shaders::ATTENTION_KEYS_VALID,
        });
        parts.push(match s.position {
            None => shaders::ATTENTION_POSITION_ZERO,
            Some(_) => shaders::ATTENTION_POSITION_GIVEN,
        });
        parts
    }

    /// The parameters, with tiles of `queries` queries.
    fn params(&self, queries: u32) -> AttentionParams {
        let s = self.shapes;
        let unit = if self.vec4 { 4 } else { 1 };
        let units = |elements: usize| (elements / unit) as u32;
        let scale = self.op.scale.map_or_else(|| 1.0 / (s.head_dim as f64).sqrt(), f64::from);
        let [mask_batch, mask_head, mask_query, mask_key] =
            s.mask.map_or([0; 4], |mask| mask.strides.map(|stride| stride as u32));
        AttentionParams {
            queries: s.queries as u32,
            keys: s.keys as u32,
            heads: s.heads as u32,
            grouped: (s.heads / s.kv_heads) as u32,
            causal: self.op.causal.into(),
            scale: (scale * std::f64::consts::LOG2_E) as f32,
            q_start: units(s.q.offset),
            q_row: units(s.q.row_stride),
            q_head: units(s.head_dim),
            k_start: units(s.k.offset),
            k_row: units(s.k.row_stride),
            v_start: units(s.v.offset),
            v_row: units(s.v.row_stride),
            v_head: units(s.value_dim),
            mask_batch,
            mask_head,
            mask_query,
            mask_key,
            tiles: (s.queries as u32).div_ceil(queries),
            batch_heads: (s.batch * s.heads) as u32,
            ..Default::default()
        }
    }

    /// A dispatch of one workgroup a tile of `queries` queries of a head.
    fn dispatch(&self, kernel: Kernel, queries: u32) -> Dispatch {
        let s = self.shapes;
        let params = self.params(queries);
        let groups = u64::from(params.tiles) * u64::from(params.batch_heads);
        let mut dispatch = Dispatch::new(kernel, params, groups)
            .bind("q", Source::Input(s.q.input))
            .bind("k", Source::Input(s.k.input))
            .bind("v", Source::Input(s.v.input))
            .bind("y", Source::Output(0));
        let rest = [("mask", s.mask.map(|mask| mask.input)), ("kv_len", s.kv_len), ("position", s.position)];
        for (name, input) in rest {
            if let Some(input) = input {
                dispatch = dispatch.bind(name, Source::Input(input));
            }
        }
        dispatch
    }

    /// Multiply-adds of the scores.
    fn work(&self) -> usize {
        let s = self.shapes;
        s.batch * s.heads * s.queries * s.keys * s.head_dim
    }

    /// Quads of a head of queries and one of values.
    fn quads(&self) -> (usize, usize) {
        (self.shapes.head_dim.div_ceil(4), self.shapes.value_dim.div_ceil(4))
    }

    /// Blocks of eight keys in a tile of `lanes`: four are faster, unless there is a mask, whose loads take long to compile,
    /// or they hold many keys past the end.
    fn blocks(&self) -> usize {
        let padded = |tile: usize| self.shapes.keys.next_multiple_of(tile);
        let small = self.shapes.mask.is_some() || padded(32) * 10 > padded(16) * 11;
        if small && self.lanes_iterations(2) <= MAX_ITERATIONS { 2 } else { 4 }
    }

    fn lanes_iterations(&self, blocks: usize) -> usize {
        let (head, value) = self.quads();
        self.shapes.keys.div_ceil(8 * blocks) * (head + value + 1) + 2 * value
    }

    fn rows_iterations(&self) -> usize {
        let (head, value) = self.quads();
        self.shapes.keys * (head + value + 1) + head + value
    }

    fn tiled_iterations(&self) -> usize {
        let (head, value) = self.quads();
        let slices = head.div_ceil(4) * 7;
        let columns = value.min(MAX_CHUNK_QUADS).div_ceil(8);
        self.shapes.keys.div_ceil(32) * (slices + 9 + columns * 11) + 8 + 4 * (columns + 1)
    }

    /// A query a workgroup, where they are few and the device has room for it.
    fn few_queries(&self, tier: &Tier) -> Option<Launch> {
        let lanes = FEW_LANES[usize::from(tier.software)];
        let (head, value) = self.quads();
        let tile = lanes as usize;
        let columns = value.div_ceil(value.clamp(1, tile));
        let iterations = self.shapes.keys.div_ceil(tile) * (head + (2 + columns) * tile) + columns * tile;
        let short = !tier.software || iterations <= MAX_ITERATIONS;
        if self.shapes.queries > FEW_QUERIES || lanes > tier.limits.max_invocations || !short {
            return None;
        }
        let mut parts = self.units(shaders::ATTENTION_FEW_QUERIES);
        parts.push(Unit::constants(&[("LANES", lanes)]));
        Some(Launch::one("few_queries", self.dispatch(Kernel::new(parts), 1)))
    }

    /// Four queries a lane.
    fn lanes(&self, tier: &Tier) -> Launch {
        // Shuffles need a workgroup that is one subgroup.
        let keys = match tier.fixed_subgroup() {
            Some(LANES) => shaders::ATTENTION_LANES_SHUFFLE,
            _ => shaders::ATTENTION_LANES_PLAIN,
        };
        let private = self.shapes.value_dim <= MAX_PRIVATE;
        let sums = if private { shaders::ATTENTION_SUMS_PRIVATE } else { shaders::ATTENTION_SUMS_SCRATCH };
        let mut parts = self.units(shaders::ATTENTION_LANES);
        parts.extend([keys, sums, Unit::constants(&[("LANES", LANES), ("BLOCKS", self.blocks() as u32)])]);
        let mut dispatch = self.dispatch(Kernel::new(parts), 4 * LANES);
        let mut scratch = Vec::new();
        if !private {
            let quads = u64::from(LANES) * 4 * self.shapes.value_dim.div_ceil(4) as u64;
            scratch.push(dispatch.groups * quads * 16);
            dispatch = dispatch.bind("all_sums", Source::Scratch(0));
        }
        Launch { scratch, ..Launch::one("lanes", dispatch) }
    }

    /// Tiles of queries and keys in shared memory. Long heads of values are split evenly over workgroups.
    fn tiled(&self) -> Launch {
        let quads = self.shapes.value_dim.div_ceil(4);
        let chunks = quads.div_ceil(MAX_CHUNK_QUADS).max(1);
        let chunk = quads.div_ceil(chunks);
        let mut parts = self.units(shaders::ATTENTION_TILED);
        parts.push(Unit::constants(&[
            ("CHUNKS", chunks as u32),
            ("CHUNK_QUADS", chunk as u32),
            ("COLUMNS", chunk.div_ceil(8) as u32),
        ]));
        let mut dispatch = self.dispatch(Kernel::new(parts), TILED_QUERIES);
        dispatch.groups *= chunks as u64;
        Launch::one("tiled", dispatch)
    }

    /// A query an invocation.
    fn rows(&self, tier: &Tier) -> Launch {
        let (kernel, workgroup) = self.rows_kernel(tier);
        Launch::one("rows", self.dispatch(kernel, workgroup))
    }

    /// A query an invocation, where they are few: those of several heads side by side, without the barriers that cost
    /// software rasterisers much.
    fn heads(&self, tier: &Tier) -> Launch {
        let (kernel, workgroup) = self.rows_kernel(tier);
        let mut dispatch = self.dispatch(kernel.set("ALL_HEADS", 1), workgroup);
        let queries = self.shapes.batch * self.shapes.heads * self.shapes.queries;
        dispatch.groups = queries.div_ceil(workgroup as usize) as u64;
        Launch::one("heads", dispatch)
    }

    fn rows_kernel(&self, tier: &Tier) -> (Kernel, u32) {
        let workgroup = if tier.software { 8 } else { 64.min(tier.limits.max_invocations) };
        (Kernel::new(self.units(shaders::ATTENTION_ROWS)).set("WORKGROUP", workgroup), workgroup)
    }
}
