//! Every op family with its cases: what the parity test, the contract test, `kiln check` and the benches read.

use std::sync::Arc;

use crate::numerics::Gate;
use crate::random::{SplitMix64, fnv1a64};
use crate::{DType, Epilogue, Op, OpError, Tensor, TensorDesc, ops};

/// How an input of a case is filled. All of it is reproducible from the case's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Uniform in [low, high).
    Uniform(f32, f32),
    /// Integers from low to high, both included, in whatever type the input has.
    Integers(i32, i32),
    /// These, repeated to the end.
    Given(Vec<f64>),
}

/// An input of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Fill {
    /// Extents.
    pub shape: Vec<usize>,
    /// Element type; f32 stands for whichever float type the case is run in.
    pub dtype: DType,
    /// Whether f32 stays f32 when the case runs in f16.
    pub fixed: bool,
    /// The elements.
    pub values: Values,
}

impl Fill {
    fn new(values: Values, dtype: DType) -> Self {
        Self { shape: Vec::new(), dtype, fixed: false, values }
    }

    /// Floats, uniform in [low, high).
    pub fn uniform(low: f32, high: f32) -> Self {
        Self::new(Values::Uniform(low, high), DType::F32)
    }

    /// Floats that are small integers, so that sums of products are exact in any order.
    pub fn integers(low: i32, high: i32) -> Self {
        Self::new(Values::Integers(low, high), DType::F32)
    }

    /// Integers of an integer type.
    pub fn typed(dtype: DType, low: i32, high: i32) -> Self {
        Self::new(Values::Integers(low, high), dtype)
    }

    /// Given elements, repeated to the end.
    pub fn given(dtype: DType, values: impl Into<Vec<f64>>) -> Self {
        Self::new(Values::Given(values.into()), dtype)
    }

    /// The same with this shape.
    pub fn shape(mut self, shape: impl Into<Vec<usize>>) -> Self {
        self.shape = shape.into();
        self
    }

    /// The same, f32 even where the case runs in f16.
    pub fn keep_f32(mut self) -> Self {
        self.fixed = true;
        self
    }

    fn dtype_in(&self, float: DType) -> DType {
        if self.dtype == DType::F32 && !self.fixed { float } else { self.dtype }
    }

    fn tensor(&self, name: &str, float: DType) -> Result<Tensor, OpError> {
        let desc = TensorDesc::new(self.shape.clone(), self.dtype_in(float));
        let sequence = SplitMix64::named(name);
        let value = |i: usize| match &self.values {
            Values::Uniform(low, high) => f64::from(low + (high - low) * sequence.unit(i as u64)),
            Values::Integers(low, high) => {
                let span = (high - low + 1) as f32;
                f64::from(*low) + f64::from((sequence.unit(i as u64) * span).floor())
            }
            Values::Given(values) => values.get(i % values.len().max(1)).copied().unwrap_or(0.0),
        };
        let values: Vec<f64> = (0..desc.len()).map(value).collect();
        Ok(Tensor::from_f64(desc.shape, desc.dtype, &values)?)
    }
}

/// An op, its inputs and how its result is judged.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is computed.
    pub op: Arc<dyn Op>,
    /// The op's inputs, then the epilogue's operands.
    pub inputs: Vec<Fill>,
    /// Elementwise work fused into the op.
    pub epilogue: Epilogue,
    /// Replaces the default gates; each use says why beside it.
    pub gate: Option<fn(DType) -> Gate>,
    /// Length of the sums of a product, where the op is one: its error bound follows from it.
    pub depth: Option<usize>,
    /// Inputs that are constants of the graph, so that launches may pack them.
    pub constant: Vec<usize>,
    /// Types that the case runs in.
    pub dtypes: &'static [DType],
    /// Only with `--full`.
    pub full: bool,
}

impl Case {
    /// A case judged by the default gates, in f32 and f16.
    pub fn new(op: impl Op, inputs: impl Into<Vec<Fill>>) -> Self {
        Self {
            op: Arc::new(op),
            inputs: inputs.into(),
            epilogue: Epilogue::default(),
            gate: None,
            depth: None,
            constant: Vec::new(),
            dtypes: &[DType::F32, DType::F16],
            full: false,
        }
    }

    /// The same in f32 alone.
    pub fn f32_only(mut self) -> Self {
        self.dtypes = &[DType::F32];
        self
    }

    /// The same in f16 alone.
    pub fn f16_only(mut self) -> Self {
        self.dtypes = &[DType::F16];
        self
    }

    /// The same, judged by these gates. Say why beside the call.
    pub fn gate(mut self, gate: fn(DType) -> Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// The same, judged for equality in every type: moved data, integers.
    pub fn exact(self) -> Self {
        self.gate(|_| Gate::Exact)
    }

    /// The same as a product whose sums have `depth` terms. With inputs of small integers in f32 it must be exact.
    pub fn product(mut self, depth: usize) -> Self {
        self.depth = Some(depth);
        self
    }

    /// The same with these inputs constant.
    pub fn constant(mut self, inputs: impl Into<Vec<usize>>) -> Self {
        self.constant = inputs.into();
        self
    }

    /// The same with an epilogue, whose operands are the last inputs.
    pub fn epilogue(mut self, epilogue: Epilogue) -> Self {
        self.epilogue = epilogue;
        self
    }

    /// The same in the long run alone.
    pub fn full(mut self) -> Self {
        self.full = true;
        self
    }

    /// The case's name within its family: attributes and shapes.
    pub fn label(&self) -> String {
        let shapes: Vec<String> = self
            .inputs
            .iter()
            .map(|fill| {
                let extents: Vec<String> = fill.shape.iter().map(usize::to_string).collect();
                let extents = if extents.is_empty() { "scalar".to_string() } else { extents.join("x") };
                match &fill.values {
                    Values::Uniform(..) => extents,
                    Values::Integers(..) if fill.dtype == DType::F32 => format!("{extents}i"),
                    Values::Integers(..) => format!("{extents}{}", fill.dtype),
                    Values::Given(values) => {
                        // Given values are named by a digest: they differ where nothing else does.
                        let digest = fnv1a64(&format!("{values:?}")) as u16;
                        format!("{extents}{}#{digest:04x}", fill.dtype)
                    }
                }
            })
            .collect();
        let mut label = format!("{}({})", self.op.attributes(), shapes.join(","));
        if !self.epilogue.is_empty() {
            label.push_str(&format!("+{:?}", self.epilogue.steps));
        }
        if !self.constant.is_empty() {
            label.push_str(&format!(" constant{:?}", self.constant));
        }
        label.retain(|c| c != ' ' && c != '"');
        label
    }

    /// The inputs, with floats of type `float`.
    pub fn tensors(&self, float: DType) -> Result<Vec<Tensor>, OpError> {
        let label = self.label();
        let inputs = self.inputs.iter().enumerate();
        inputs.map(|(i, fill)| fill.tensor(&format!("{label}/{i}"), float)).collect()
    }

    /// What is expected, and the bound of each element of output 0 where the op is a product.
    pub fn expected(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Option<Vec<f64>>), OpError> {
        let own = inputs.len() - self.epilogue.operands();
        let run = |tensors: &[Tensor]| self.op.reference(&tensors[..own].iter().collect::<Vec<_>>());
        let mut outputs = run(inputs)?;
        let bounds = match self.depth {
            Some(depth) if self.epilogue.is_empty() => {
                let magnitude = |tensor: &Tensor| {
                    let values: Vec<f64> = tensor.to_f64().iter().map(|v| v.abs()).collect();
                    // In f32 even for f16 inputs: a bound must not overflow.
                    let dtype = if tensor.dtype().is_float() { DType::F32 } else { tensor.dtype() };
                    Tensor::from_f64(tensor.shape(), dtype, &values)
                };
                let inputs = inputs[..own].iter().map(magnitude).collect::<Result<Vec<_>, _>>()?;
                let factor = 8.0 * 2f64.powi(-24) * (depth.max(1) as f64).sqrt();
                Some(run(&inputs)?[0].to_f64().iter().map(|sum| factor * sum).collect())
            }
            _ => None,
        };
        if !self.epilogue.is_empty() {
            outputs[0] = self.epilogue.reference(&outputs[0], &inputs[own..].iter().collect::<Vec<_>>())?;
        }
        Ok((outputs, bounds))
    }

    /// The gate of an output of this type.
    pub fn gate_for(&self, dtype: DType) -> Gate {
        let integers = self.inputs.iter().all(|fill| !matches!(fill.values, Values::Uniform(..)));
        if self.depth.is_some() && integers && dtype == DType::F32 && self.epilogue.is_empty() {
            return Gate::Exact;
        }
        self.gate.map_or(Gate::default_for(dtype), |gate| gate(dtype))
    }
}

/// Ops that share a file, a name and their cases.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name on the command line.
    pub name: &'static str,
    /// Its cases.
    pub cases: fn() -> Vec<Case>,
}

macro_rules! families {
    ($($module:ident),* $(,)?) => {
        &[$(Family { name: stringify!($module), cases: ops::$module::cases }),*]
    };
}

/// Every op family, by the file it stands in.
#[rustfmt::skip]
pub const FAMILIES: &[Family] = families![
    // Products.
    matmul,
    // Convolutions.
    conv1d,
    conv2d,
    conv_transpose2d,
    // Attention.
    attention,
    kv_cache,
    // Elementwise.
    binary,
    cast,
    compare,
    gate,
    select,
    unary,
    // Normalisation.
    batch_norm,
    group_norm,
    l2_normalize,
    layer_norm,
    softmax,
    // Sampling in space.
    grid_sample,
    interpolate,
    max_unpool,
    pool,
    // Moves.
    concat,
    gather,
    pad,
    permute,
    pixel_shuffle,
    repeat,
    reshape,
    roll,
    scatter,
    slice,
    // Reductions.
    arg_reduce,
    cumsum,
    reduce,
    top_k,
    // Vision and generation.
    nearest_code,
    sine_position_2d,
    timestep_embedding,
    rope,
    boxes,
    nms,
    soft_nms,
    roi_align,
    selective_scan,
];
