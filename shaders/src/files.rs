//! The table of WGSL files.

use crate::Unit;

macro_rules! files {
    ($($(#[$meta:meta])* $name:ident = $path:literal;)*) => {
        $(
            $(#[$meta])*
            pub const $name: Unit = Unit::file($path, include_str!(concat!("../wgsl/", $path)));
        )*

        /// Every file, for tools that list or check them.
        pub const FILES: &[Unit] = &[$($name),*];
    };
}

files! {
    // ---- element types: `Elem`, `Elem4`
    /// f32 elements.
    ELEM_F32 = "elem/f32.wgsl";
    /// f16 elements.
    ELEM_F16 = "elem/f16.wgsl";
    /// i32 elements.
    ELEM_I32 = "elem/i32.wgsl";
    /// u32 elements; truth values too.
    ELEM_U32 = "elem/u32.wgsl";

    // ---- shared functions
    /// `group_index`: a workgroup's place in the run of groups.
    GRID = "lib/grid.wgsl";
    /// Elementwise functions on `vec4<f32>`.
    MATH = "lib/math.wgsl";
    /// Input x, four elements at a time.
    LOAD_VEC4 = "lib/load_vec4.wgsl";
    /// Input x, an element at a time.
    LOAD_SCALAR = "lib/load_scalar.wgsl";
    /// Output y, four elements at a time.
    STORE_VEC4 = "lib/store_vec4.wgsl";
    /// Output y, an element at a time.
    STORE_SCALAR = "lib/store_scalar.wgsl";
    /// Both of an output that holds its input until then, four elements at a time.
    IN_PLACE_VEC4 = "lib/in_place_vec4.wgsl";
    /// The same, an element at a time.
    IN_PLACE_SCALAR = "lib/in_place_scalar.wgsl";
    /// Sums and maxima over a workgroup through shared memory.
    REDUCE_WORKGROUP = "lib/reduce_workgroup.wgsl";
    /// The same for four numbers at once.
    REDUCE_FOUR = "lib/reduce_four.wgsl";
    /// The same for a workgroup of one invocation.
    REDUCE_ALONE = "lib/reduce_alone.wgsl";

    // ---- epilogue operands
    /// Operand 0, four elements a load.
    OPERAND0_VEC4 = "epilogue/operand0_vec4.wgsl";
    /// Operand 1, four elements a load.
    OPERAND1_VEC4 = "epilogue/operand1_vec4.wgsl";
    /// Operand 2, four elements a load.
    OPERAND2_VEC4 = "epilogue/operand2_vec4.wgsl";
    /// Operand 3, four elements a load.
    OPERAND3_VEC4 = "epilogue/operand3_vec4.wgsl";
    /// Operand 4, four elements a load.
    OPERAND4_VEC4 = "epilogue/operand4_vec4.wgsl";
    /// Operand 5, four elements a load.
    OPERAND5_VEC4 = "epilogue/operand5_vec4.wgsl";
    /// Operand 0, an element at a time.
    OPERAND0_SCALAR = "epilogue/operand0_scalar.wgsl";
    /// Operand 1, an element at a time.
    OPERAND1_SCALAR = "epilogue/operand1_scalar.wgsl";
    /// Operand 2, an element at a time.
    OPERAND2_SCALAR = "epilogue/operand2_scalar.wgsl";
    /// Operand 3, an element at a time.
    OPERAND3_SCALAR = "epilogue/operand3_scalar.wgsl";
    /// Operand 4, an element at a time.
    OPERAND4_SCALAR = "epilogue/operand4_scalar.wgsl";
    /// Operand 5, an element at a time.
    OPERAND5_SCALAR = "epilogue/operand5_scalar.wgsl";

    // ---- matrix products
    /// An element an invocation, for any extents and strides.
    MATMUL_NAIVE = "matmul/naive.wgsl";
    /// The parameters of a product, and a workgroup's tile of it.
    MATMUL_PRODUCT = "matmul/product.wgsl";
    /// Tiles in shared memory.
    MATMUL_TILED = "matmul/tiled.wgsl";
    /// Sums of partial products.
    MATMUL_REDUCE_SPLITS = "matmul/reduce_splits.wgsl";
    /// At most 16 rows.
    MATMUL_FEW_ROWS = "matmul/few_rows.wgsl";
    /// Sums over a workgroup that is one subgroup.
    MATMUL_FEW_ROWS_SUBGROUP = "matmul/few_rows_subgroup.wgsl";
    /// Sums over a workgroup through shared memory.
    MATMUL_FEW_ROWS_WORKGROUP = "matmul/few_rows_workgroup.wgsl";
    /// Register tiles without shared memory or barriers.
    MATMUL_LANES = "matmul/lanes.wgsl";
    /// What becomes of such tiles: a product's result.
    MATMUL_LANES_RESULT = "matmul/lanes_result.wgsl";
    /// Rows of a shared by the lanes of a subgroup.
    MATMUL_LANES_ROWS_SHUFFLE = "matmul/lanes_rows_shuffle.wgsl";
    /// Rows of a loaded by every lane.
    MATMUL_LANES_ROWS_PLAIN = "matmul/lanes_rows_plain.wgsl";
    /// Rows of a, four elements a load.
    MATMUL_A_VEC4 = "matmul/a_vec4.wgsl";
    /// Rows of a of any length.
    MATMUL_A_SCALAR = "matmul/a_scalar.wgsl";
    /// b in panels of eight columns.
    MATMUL_B_PANELS = "matmul/b_panels.wgsl";
    /// b row-major, four elements a load.
    MATMUL_B_ROWS_VEC4 = "matmul/b_rows_vec4.wgsl";
    /// b row-major, of any extents.
    MATMUL_B_ROWS_SCALAR = "matmul/b_rows_scalar.wgsl";
    /// b transposed, four elements a load.
    MATMUL_B_COLUMNS_VEC4 = "matmul/b_columns_vec4.wgsl";
    /// b transposed, of any extents.
    MATMUL_B_COLUMNS_SCALAR = "matmul/b_columns_scalar.wgsl";
    /// Rows of the result, four elements a store.
    MATMUL_C_VEC4 = "matmul/c_vec4.wgsl";
    /// Rows of the result of any length.
    MATMUL_C_SCALAR = "matmul/c_scalar.wgsl";
    /// Partial sums, kept for a reduction.
    MATMUL_C_PARTIAL = "matmul/c_partial.wgsl";

    // ---- convolutions
    /// Up to four output channels of a pixel an invocation, for any options.
    CONV_DIRECT = "conv/direct.wgsl";
    /// Four channels of a pixel an invocation, a filter a channel.
    CONV_DEPTHWISE = "conv/depthwise.wgsl";
    /// Four pixels and all of a few output channels an invocation.
    CONV_NARROW = "conv/narrow.wgsl";
    /// Tiles in shared memory.
    CONV_TILED = "conv/tiled.wgsl";
    /// Register tiles without shared memory or barriers.
    CONV_LANES = "conv/lanes.wgsl";
    /// Pixels of such a tile, shared by a subgroup.
    CONV_LANES_SHARED = "conv/lanes_shared.wgsl";
    /// Pixels of such a tile, loaded by each lane.
    CONV_LANES_ALONE = "conv/lanes_alone.wgsl";
    /// The walk from outputs to inputs, and the parameters of all convolutions.
    CONV_WALK = "conv/walk.wgsl";
    /// Inputs, four channels a load.
    CONV_X_VEC4 = "conv/x_vec4.wgsl";
    /// Inputs of any number of channels.
    CONV_X_SCALAR = "conv/x_scalar.wgsl";
    /// Outputs, four channels a store.
    CONV_Y_VEC4 = "conv/y_vec4.wgsl";
    /// Outputs of any number of channels.
    CONV_Y_SCALAR = "conv/y_scalar.wgsl";

    // ---- attention
    /// What every attention kernel is told, and where heads lie.
    ATTENTION_PARAMS = "attention/params.wgsl";
    /// Queries, keys, values and results four elements at a time.
    ATTENTION_VEC4 = "attention/vec4.wgsl";
    /// Queries, keys, values and results an element at a time.
    ATTENTION_SCALAR = "attention/scalar.wgsl";
    /// No mask.
    ATTENTION_MASK_NONE = "attention/mask_none.wgsl";
    /// A mask of truth values.
    ATTENTION_MASK_BOOL = "attention/mask_bool.wgsl";
    /// A mask of addends.
    ATTENTION_MASK_ADD = "attention/mask_add.wgsl";
    /// Addends of the queries' type.
    ATTENTION_MASK_ELEM = "attention/mask_elem.wgsl";
    /// Addends in f32.
    ATTENTION_MASK_F32 = "attention/mask_f32.wgsl";
    /// All keys are valid.
    ATTENTION_KEYS_ALL = "attention/keys_all.wgsl";
    /// A number given at run time says how many keys are valid.
    ATTENTION_KEYS_VALID = "attention/keys_valid.wgsl";
    /// The first query stands at the first key.
    ATTENTION_POSITION_ZERO = "attention/position_zero.wgsl";
    /// A number given at run time says where the first query stands.
    ATTENTION_POSITION_GIVEN = "attention/position_given.wgsl";
    /// A query an invocation.
    ATTENTION_ROWS = "attention/rows.wgsl";
    /// A query a workgroup, its keys shared out among the invocations.
    ATTENTION_FEW_QUERIES = "attention/few_queries.wgsl";
    /// Four queries a lane, without shared memory or barriers.
    ATTENTION_LANES = "attention/lanes.wgsl";
    /// Eight keys or values, shuffled between the lanes of a subgroup.
    ATTENTION_LANES_SHUFFLE = "attention/lanes_shuffle.wgsl";
    /// Eight keys or values, loaded by every lane.
    ATTENTION_LANES_PLAIN = "attention/lanes_plain.wgsl";
    /// A lane's sums, in scratch memory.
    ATTENTION_SUMS_SCRATCH = "attention/sums_scratch.wgsl";
    /// A lane's sums, in its own memory.
    ATTENTION_SUMS_PRIVATE = "attention/sums_private.wgsl";
    /// 64 queries a workgroup, keys and values through shared memory.
    ATTENTION_TILED = "attention/tiled.wgsl";
    /// New rows moved to their place in a cache.
    CACHE_APPEND = "attention/cache_append.wgsl";
    /// A cache of four elements an item.
    CACHE_APPEND_VEC4 = "attention/cache_append_vec4.wgsl";
    /// A cache of one element an item.
    CACHE_APPEND_SCALAR = "attention/cache_append_scalar.wgsl";

    // ---- normalisation
    /// What row kernels multiply deviations by, and their parameters.
    NORM_ROWS_FACTOR = "norm/rows_factor.wgsl";
    /// Normalises rows, a row an invocation.
    NORM_ROWS_LANE = "norm/rows_lane.wgsl";
    /// Normalises rows, a row a workgroup.
    NORM_ROWS_WORKGROUP = "norm/rows_workgroup.wgsl";
    /// Softmax or its logarithm, and what rows without one give.
    SOFTMAX_KIND = "softmax/kind.wgsl";
    /// Softmax of rows, a row an invocation.
    SOFTMAX_ROWS_LANE = "softmax/rows_lane.wgsl";
    /// Softmax along another axis than the last, a line an invocation.
    SOFTMAX_COLUMNS = "softmax/columns.wgsl";
    /// Softmax along another axis than the last, a line a workgroup.
    SOFTMAX_COLUMNS_WORKGROUP = "softmax/columns_workgroup.wgsl";
    /// Divides lines along another axis than the last by their lengths.
    L2_COLUMNS = "norm/l2_columns.wgsl";
    /// Divides lines along another axis than the last by their lengths, a line a workgroup.
    L2_COLUMNS_WORKGROUP = "norm/l2_columns_workgroup.wgsl";
    /// Batch normalisation by given statistics.
    BATCH_NORM = "norm/batch.wgsl";
    /// Group norm, first step: statistics of each channel over a part of the pixels.
    GROUP_NORM_STATISTICS = "norm/group_statistics.wgsl";
    /// Group norm, second step: statistics of each group.
    GROUP_NORM_COMBINE = "norm/group_combine.wgsl";
    /// Group norm, third step: the normalised elements.
    GROUP_NORM_APPLY = "norm/group_apply.wgsl";
    /// Group norm in one step, a group a workgroup.
    GROUP_NORM_WORKGROUP = "norm/group_workgroup.wgsl";
    /// Softmax of rows, a row a workgroup.
    SOFTMAX_ROWS_WORKGROUP = "softmax/rows_workgroup.wgsl";

    // ---- sampling in space
    /// Four channels an invocation: `Stored`, `Lanes`, `Bits`, `Ints`.
    SPATIAL_LANES_VEC4 = "spatial/lanes_vec4.wgsl";
    /// A channel an invocation.
    SPATIAL_LANES_SCALAR = "spatial/lanes_scalar.wgsl";
    /// `In` and `Out` are the tensors' element type.
    SPATIAL_STORAGE_SAME = "spatial/storage_same.wgsl";
    /// `Out` is f32.
    SPATIAL_STORAGE_TO_F32 = "spatial/storage_to_f32.wgsl";
    /// `In` is f32.
    SPATIAL_STORAGE_FROM_F32 = "spatial/storage_from_f32.wgsl";
    /// Weighted sums over rectangles of pixels, by tables of taps.
    SPATIAL_RESAMPLE = "spatial/resample.wgsl";
    /// Nearest-neighbour resizing by a table of positions.
    SPATIAL_RESIZE_NEAREST = "spatial/resize_nearest.wgsl";
    /// Nearest-neighbour upsampling by whole factors.
    SPATIAL_REPEAT_NEAREST = "spatial/repeat_nearest.wgsl";
    /// Maxima over windows.
    SPATIAL_MAX_POOL = "spatial/max_pool.wgsl";
    /// `store_index` of pools that give the maxima's places.
    SPATIAL_STORE_INDEX = "spatial/store_index.wgsl";
    /// `store_index` of pools that do not.
    SPATIAL_STORE_NO_INDEX = "spatial/store_no_index.wgsl";
    /// Padding and cropping by tables of positions.
    SPATIAL_PAD = "spatial/pad.wgsl";
    /// Channels to pixels.
    SPATIAL_PIXEL_SHUFFLE = "spatial/pixel_shuffle.wgsl";
    /// Pixels to channels.
    SPATIAL_PIXEL_UNSHUFFLE = "spatial/pixel_unshuffle.wgsl";
    /// Max unpooling: clears the places.
    SPATIAL_UNPOOL_CLEAR = "spatial/unpool_clear.wgsl";
    /// Max unpooling: pixels claim places.
    SPATIAL_UNPOOL_CLAIM = "spatial/unpool_claim.wgsl";
    /// Max unpooling: places fetch pixels.
    SPATIAL_UNPOOL_FETCH = "spatial/unpool_fetch.wgsl";
    /// Samples at the points of a grid.
    SPATIAL_GRID_SAMPLE = "spatial/grid_sample.wgsl";
    /// `Coordinate`: an f32.
    SPATIAL_GRID_F32 = "spatial/grid_f32.wgsl";
    /// `Coordinate`: an f16.
    SPATIAL_GRID_F16 = "spatial/grid_f16.wgsl";

    // ---- moves
    /// `Item`: an f16.
    ITEM_F16 = "moves/item_f16.wgsl";
    /// `Item`: 4 bytes.
    ITEM_4 = "moves/item_4.wgsl";
    /// `Item`: 8 bytes.
    ITEM_8 = "moves/item_8.wgsl";
    /// `Item`: 16 bytes.
    ITEM_16 = "moves/item_16.wgsl";
    /// Items moved from a strided box to another.
    STRIDED_COPY = "moves/strided_copy.wgsl";
    /// Rows picked by index.
    GATHER = "moves/gather.wgsl";
    /// Elements picked by index along an axis.
    TAKE_ALONG = "moves/take_along.wgsl";
    /// Parts put or added where indices say.
    SCATTER = "moves/scatter.wgsl";

    // ---- reductions
    /// `order_key`: floats as integers of the same order.
    ORDER_FLOAT = "lib/order_float.wgsl";
    /// `order_key`: signed integers as unsigned ones of the same order.
    ORDER_I32 = "lib/order_i32.wgsl";
    /// `order_key` of unsigned integers.
    ORDER_U32 = "lib/order_u32.wgsl";
    /// What a reduction does, and which elements it takes.
    REDUCE_KIND = "reduce/reduce_kind.wgsl";
    /// A reduction, an output an invocation.
    REDUCE_LANE = "reduce/reduce_lane.wgsl";
    /// A reduction, an output a workgroup.
    REDUCE_WORKGROUP_OUTPUT = "reduce/reduce_workgroup_output.wgsl";
    /// Index of the largest or smallest, a line an invocation.
    ARG_REDUCE_LANE = "reduce/arg_reduce_lane.wgsl";
    /// Index of the largest or smallest, a line a workgroup.
    ARG_REDUCE_WORKGROUP = "reduce/arg_reduce_workgroup.wgsl";
    /// Largest elements in order, by counting.
    TOP_K_RANK = "reduce/top_k_rank.wgsl";
    /// Largest elements in order, one after the other.
    TOP_K_SELECT = "reduce/top_k_select.wgsl";
    /// `Sum` of floats.
    SUM_FLOAT = "reduce/sum_float.wgsl";
    /// `Sum` of integers.
    SUM_INTEGER = "reduce/sum_integer.wgsl";
    /// Running sums, a line an invocation.
    CUMSUM_LANE = "reduce/cumsum_lane.wgsl";
    /// Running sums, a line a workgroup.
    CUMSUM_WORKGROUP = "reduce/cumsum_workgroup.wgsl";

    // ---- vision and generation
    /// `Out`: results in f32.
    OUT_F32 = "lib/out_f32.wgsl";
    /// `Out`: results in f16.
    OUT_F16 = "lib/out_f16.wgsl";
    /// `sin_cos` with range reduction.
    TRIG = "lib/trig.wgsl";
    /// DETR's sine positions.
    SINE_POSITION_2D = "vision/sine_position_2d.wgsl";
    /// Sinusoidal embeddings of time steps.
    TIMESTEP_EMBEDDING = "vision/timestep_embedding.wgsl";
    /// Vectors and codes, four elements a load.
    CODES_VEC4 = "vision/codes_vec4.wgsl";
    /// Vectors and codes, an element a load.
    CODES_SCALAR = "vision/codes_scalar.wgsl";
    /// Squared distances to a code.
    NEAREST_CODE = "vision/nearest_code.wgsl";
    /// Nearest codes, four rows an invocation.
    NEAREST_CODE_LANE = "vision/nearest_code_lane.wgsl";
    /// Nearest codes, four rows a workgroup.
    NEAREST_CODE_WORKGROUP = "vision/nearest_code_workgroup.wgsl";
    /// How far scores of codes can be off.
    NEAREST_CODE_SLACK = "vision/nearest_code_slack.wgsl";
    /// What becomes of register tiles: bounds of the scores of a tile's codes.
    NEAREST_CODE_BOUNDS = "vision/nearest_code_bounds.wgsl";
    /// Nearest codes of tiles that may have them.
    NEAREST_CODE_DECIDE = "vision/nearest_code_decide.wgsl";
    /// Rotary embedding.
    ROPE = "vision/rope.wgsl";
    /// Formats of boxes.
    BOXES = "vision/boxes.wgsl";
    /// Boxes converted or clipped.
    BOXES_MAP = "vision/boxes_map.wgsl";
    /// Areas of boxes.
    BOXES_AREA = "vision/boxes_area.wgsl";
    /// Intersection over union.
    IOU = "vision/iou.wgsl";
    /// Overlap of every pair of boxes.
    PAIRWISE_IOU = "vision/pairwise_iou.wgsl";
    /// Boxes in the order of their scores.
    NMS_ORDER = "vision/nms_order.wgsl";
    /// Suppression within a class.
    NMS_CLASSES = "vision/nms_classes.wgsl";
    /// Suppression among all.
    NMS_ALL = "vision/nms_all.wgsl";
    /// Greedy suppression by an invocation.
    NMS_LANE = "vision/nms_lane.wgsl";
    /// Greedy suppression by a workgroup.
    NMS_WORKGROUP = "vision/nms_workgroup.wgsl";
    /// Soft suppression by a workgroup.
    SOFT_NMS = "vision/soft_nms.wgsl";
    /// Indices of boxes with long enough sides.
    REMOVE_SMALL_BOXES = "vision/remove_small_boxes.wgsl";
    /// Means of bilinear samples of regions.
    ROI_ALIGN = "vision/roi_align.wgsl";
    /// A scan with a direct way.
    SCAN_SKIP = "vision/scan_skip.wgsl";
    /// A scan without a direct way.
    SCAN_PLAIN = "vision/scan_plain.wgsl";
    /// Mamba's selective scan.
    SELECTIVE_SCAN = "vision/selective_scan.wgsl";

    // ---- change of element type
    /// An element an invocation.
    CAST = "cast/cast.wgsl";
    /// Reads f32.
    CAST_FROM_F32 = "cast/from_f32.wgsl";
    /// Reads f16.
    CAST_FROM_F16 = "cast/from_f16.wgsl";
    /// Reads i32.
    CAST_FROM_I32 = "cast/from_i32.wgsl";
    /// Reads u32.
    CAST_FROM_U32 = "cast/from_u32.wgsl";
    /// Gives f32.
    CAST_TO_F32 = "cast/to_f32.wgsl";
    /// Gives f16.
    CAST_TO_F16 = "cast/to_f16.wgsl";
    /// Gives i32.
    CAST_TO_I32 = "cast/to_i32.wgsl";
    /// Gives u32.
    CAST_TO_U32 = "cast/to_u32.wgsl";
    /// Gives truth values.
    CAST_TO_BOOL = "cast/to_bool.wgsl";

    // ---- elementwise
    /// A chain of elementwise functions over a tensor, four elements a load.
    ELEMENTWISE_VEC4 = "elementwise/elementwise_vec4.wgsl";
    /// A chain of elementwise functions over a tensor of any length.
    ELEMENTWISE_SCALAR = "elementwise/elementwise_scalar.wgsl";
    /// Where the inputs of a broadcast result's element lie.
    BROADCAST = "elementwise/broadcast.wgsl";
    /// Functions of two floats, both broadcast.
    BROADCAST_FLOAT = "elementwise/broadcast_float.wgsl";
    /// Integer arithmetic and logic, both inputs broadcast.
    BROADCAST_INTEGER = "elementwise/broadcast_integer.wgsl";
    /// Comparisons, both inputs broadcast.
    BROADCAST_COMPARE = "elementwise/broadcast_compare.wgsl";
    /// How floats are compared.
    COMPARABLE_FLOAT = "elementwise/comparable_float.wgsl";
    /// How integers are compared.
    COMPARABLE_INTEGER = "elementwise/comparable_integer.wgsl";
    /// Choices between two tensors.
    BROADCAST_SELECT = "elementwise/broadcast_select.wgsl";
    /// Half of a row times a function of the other.
    GATE = "elementwise/gate.wgsl";

    // ---- numbers beyond a range
    /// What sixteen bytes of f16 hold beyond it.
    RANGE_F16 = "range/elements_f16.wgsl";
    /// What sixteen bytes of f32 hold beyond it.
    RANGE_F32 = "range/elements_f32.wgsl";
    /// ORs what is found into the tensor's word.
    RANGE_SCAN = "range/scan.wgsl";
}

/// Epilogue operands where the result's last extent is a multiple of 4.
pub const OPERANDS_VEC4: &[Unit] =
    &[OPERAND0_VEC4, OPERAND1_VEC4, OPERAND2_VEC4, OPERAND3_VEC4, OPERAND4_VEC4, OPERAND5_VEC4];
/// Epilogue operands for any extent.
pub const OPERANDS_SCALAR: &[Unit] =
    &[OPERAND0_SCALAR, OPERAND1_SCALAR, OPERAND2_SCALAR, OPERAND3_SCALAR, OPERAND4_SCALAR, OPERAND5_SCALAR];
