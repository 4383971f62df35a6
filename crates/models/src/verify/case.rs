//! A single op's case while its graph is built.

use std::collections::HashMap;

use kiln_graph::{Builder, DType, Graph, Tensor, TensorDesc, Value, strides};
use serde_json::Value as Json;

use super::VerifyError;

/// How a tensor on disk and its value in the graph differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Layout {
    /// Not at all.
    Plain,
    /// Channels second on disk, last in the graph.
    Image,
    /// `[batch, heads, length, dim]` on disk, `[batch, length, heads, dim]` in the graph.
    HeadsFirst,
    /// A number of elements, for the output before it, which is padded.
    Count,
}

impl Layout {
    /// Axes of the disk's tensor in the graph's order.
    fn axes(self, rank: usize) -> Vec<usize> {
        match self {
            Layout::Image if rank > 2 => [0].into_iter().chain(2..rank).chain([1]).collect(),
            Layout::HeadsFirst if rank > 2 => [0, 2, 1].into_iter().chain(3..rank).collect(),
            _ => (0..rank).collect(),
        }
    }

    fn to_graph(self, tensor: &Tensor) -> Result<Tensor, VerifyError> {
        permute(tensor, &self.axes(tensor.shape().len()))
    }

    fn to_disk(self, tensor: &Tensor) -> Result<Tensor, VerifyError> {
        let axes = self.axes(tensor.shape().len());
        let mut inverse = vec![0; axes.len()];
        for (i, &axis) in axes.iter().enumerate() {
            inverse[axis] = i;
        }
        permute(tensor, &inverse)
    }
}

/// The tensor with its axes in this order.
pub(crate) fn permute(tensor: &Tensor, axes: &[usize]) -> Result<Tensor, VerifyError> {
    if axes.iter().enumerate().all(|(i, &axis)| i == axis) {
        return Ok(tensor.clone());
    }
    let from = strides(tensor.shape());
    let shape: Vec<usize> = axes.iter().map(|&axis| tensor.shape()[axis]).collect();
    let steps: Vec<(usize, usize)> = axes.iter().map(|&axis| (tensor.shape()[axis], from[axis])).collect();
    let source = (0..tensor.len()).map(|mut i| {
        let mut index = 0;
        for &(extent, stride) in steps.iter().rev() {
            index += i % extent * stride;
            i /= extent;
        }
        Some(index)
    });
    Ok(tensor.pick(shape, source)?)
}

/// In which type a case is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaseType {
    /// f32.
    F32,
    /// f32, with inputs that were rounded to f16.
    Rounded,
    /// f16.
    F16,
}

/// A single op's case: its parameters, its tensors, and the graph that a family's `build` makes of them.
///
/// Tensors have the case's float type ([`OpCase::dtype`]) whatever they have on disk; 64-bit integers are i32.
#[derive(Debug)]
pub struct OpCase {
    /// Builds the graph.
    pub builder: Builder,
    id: String,
    params: Json,
    tensors: HashMap<String, Tensor>,
    dtype: DType,
    values: HashMap<(String, Layout), Value>,
    feeds: Vec<(String, Tensor)>,
    outputs: Vec<(String, Layout)>,
}

impl OpCase {
    pub(crate) fn new(id: &str, params: &Json, tensors: &HashMap<String, Tensor>, kind: CaseType) -> Self {
        let convert = |tensor: &Tensor| match kind {
            _ if !tensor.dtype().is_float() => tensor.clone(),
            CaseType::F32 => tensor.cast(DType::F32),
            CaseType::Rounded => tensor.cast(DType::F16).cast(DType::F32),
            CaseType::F16 => tensor.cast(DType::F16),
        };
        Self {
            builder: Builder::new(),
            id: id.to_string(),
            params: params.clone(),
            tensors: tensors.iter().map(|(name, tensor)| (name.clone(), convert(tensor))).collect(),
            dtype: if kind == CaseType::F16 { DType::F16 } else { DType::F32 },
            values: HashMap::new(),
            feeds: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// The case's id within its family: `c000`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The float type that the graph computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The graph, and what to give it.
    pub(crate) fn finish(self) -> (Graph, Vec<(String, Tensor)>, Finish) {
        (self.builder.finish(), self.feeds, Finish(self.outputs))
    }
}

/// Tensors in, tensors out.
impl OpCase {
    /// Whether the case has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor of the case as it lies on disk.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, VerifyError> {
        let missing = || VerifyError::Tensor { name: name.into(), reason: "is not in the case".into() };
        self.tensors.get(name).ok_or_else(missing)
    }

    /// Shape and type of a tensor as it lies on disk.
    pub fn desc(&self, name: &str) -> Result<TensorDesc, VerifyError> {
        Ok(self.tensor(name)?.desc())
    }

    /// A graph input as it lies on disk.
    pub fn input(&mut self, name: &str) -> Result<Value, VerifyError> {
        self.feed(name, Layout::Plain)
    }

    /// A graph input with channels second on disk (NCHW, NCL) and last in the graph (NHWC, NLC).
    pub fn image(&mut self, name: &str) -> Result<Value, VerifyError> {
        self.feed(name, Layout::Image)
    }

    /// A graph input of shape `[batch, heads, length, dim]` on disk and `[batch, length, heads, dim]` in the graph.
    pub fn heads_first(&mut self, name: &str) -> Result<Value, VerifyError> {
        self.feed(name, Layout::HeadsFirst)
    }

    /// A constant as it lies on disk.
    pub fn weight(&mut self, name: &str) -> Result<Value, VerifyError> {
        let tensor = self.tensor(name)?.clone();
        Ok(self.builder.constant(tensor))
    }

    fn feed(&mut self, name: &str, layout: Layout) -> Result<Value, VerifyError> {
        let key = (name.to_string(), layout);
        if let Some(&value) = self.values.get(&key) {
            return Ok(value);
        }
        let tensor = layout.to_graph(self.tensor(name)?)?;
        let graph_name =
            if layout == Layout::Plain { name.to_string() } else { format!("{name} as {layout:?}") };
        let value = self.builder.input(graph_name.clone(), tensor.shape(), tensor.dtype())?;
        self.feeds.push((graph_name, tensor));
        self.values.insert(key, value);
        Ok(value)
    }

    /// The expected tensor `name` is this value.
    pub fn output(&mut self, name: &str, value: Value) -> Result<(), VerifyError> {
        self.keep(name, value, Layout::Plain)
    }

    /// The expected tensor `name`, channels second, is this value, channels last.
    pub fn image_output(&mut self, name: &str, value: Value) -> Result<(), VerifyError> {
        self.keep(name, value, Layout::Image)
    }

    /// The expected tensor `name`, of shape `[batch, heads, length, dim]`, is this value of shape
    /// `[batch, length, heads, dim]`.
    pub fn heads_first_output(&mut self, name: &str, value: Value) -> Result<(), VerifyError> {
        self.keep(name, value, Layout::HeadsFirst)
    }

    /// The expected tensor `name` is the first `count` elements of this value, `count` being a value of one element.
    pub fn counted_output(&mut self, name: &str, value: Value, count: Value) -> Result<(), VerifyError> {
        self.keep(name, value, Layout::Plain)?;
        self.keep(&format!("{name} count"), count, Layout::Count)
    }

    fn keep(&mut self, name: &str, value: Value, layout: Layout) -> Result<(), VerifyError> {
        self.builder.output(name, value)?;
        self.outputs.push((name.to_string(), layout));
        Ok(())
    }
}

/// Brings a graph's outputs into the disk's layout.
pub(crate) struct Finish(Vec<(String, Layout)>);

impl Finish {
    pub(crate) fn outputs(&self, computed: Vec<Tensor>) -> Result<HashMap<String, Tensor>, VerifyError> {
        let mut tensors = HashMap::new();
        let mut last: Option<&String> = None;
        for ((name, layout), tensor) in self.0.iter().zip(computed) {
            if *layout == Layout::Count {
                let count = tensor.to_f64().first().map_or(0, |&count| count as usize);
                if let Some(padded) = last.and_then(|last| tensors.get_mut(last)) {
                    let whole: &Tensor = padded;
                    let count = count.min(whole.len());
                    *padded = whole.pick([count], (0..count).map(Some))?;
                }
                continue;
            }
            tensors.insert(name.clone(), layout.to_disk(&tensor)?);
            last = Some(name);
        }
        Ok(tensors)
    }
}

/// Parameters.
impl OpCase {
    /// All parameters: a JSON object.
    pub fn params(&self) -> &Json {
        &self.params
    }

    fn get<T>(
        &self,
        name: &str,
        kind: &str,
        read: impl Fn(&Json) -> Option<T>,
    ) -> Result<Option<T>, VerifyError> {
        let wrong = |value: &Json| VerifyError::Param {
            name: name.into(),
            reason: format!("is {value}, and should be {kind}"),
        };
        match self.params.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| wrong(value)),
        }
    }

    fn need<T>(&self, name: &str, value: Option<T>) -> Result<T, VerifyError> {
        value.ok_or_else(|| VerifyError::Param { name: name.into(), reason: "is missing".into() })
    }

    /// An integer, or `None` where it is missing or null.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>, VerifyError> {
        self.get(name, "an integer", Json::as_i64)
    }

    /// An integer.
    pub fn int(&self, name: &str) -> Result<i64, VerifyError> {
        self.need(name, self.opt_int(name)?)
    }

    /// An integer that is not negative, or `None` where it is missing or null.
    pub fn opt_size(&self, name: &str) -> Result<Option<usize>, VerifyError> {
        self.get(name, "an integer that is not negative", as_size)
    }

    /// An integer that is not negative.
    pub fn size(&self, name: &str) -> Result<usize, VerifyError> {
        self.need(name, self.opt_size(name)?)
    }

    /// A number, or `None` where it is missing or null. Strings such as "inf" count as numbers.
    pub fn opt_float(&self, name: &str) -> Result<Option<f64>, VerifyError> {
        self.get(name, "a number", |value| match value {
            Json::String(text) => text.parse().ok(),
            _ => value.as_f64(),
        })
    }

    /// A number.
    pub fn float(&self, name: &str) -> Result<f64, VerifyError> {
        self.need(name, self.opt_float(name)?)
    }

    /// A truth value, or `None` where it is missing or null.
    pub fn opt_bool(&self, name: &str) -> Result<Option<bool>, VerifyError> {
        self.get(name, "true or false", Json::as_bool)
    }

    /// A truth value.
    pub fn bool(&self, name: &str) -> Result<bool, VerifyError> {
        self.need(name, self.opt_bool(name)?)
    }

    /// A string, or `None` where it is missing or null.
    pub fn opt_str(&self, name: &str) -> Result<Option<String>, VerifyError> {
        self.get(name, "a string", |value| value.as_str().map(str::to_string))
    }

    /// A string.
    pub fn str(&self, name: &str) -> Result<String, VerifyError> {
        self.need(name, self.opt_str(name)?)
    }

    /// `[height, width]`, for which one number may stand; `None` where it is missing or null.
    pub fn opt_pair(&self, name: &str) -> Result<Option<[usize; 2]>, VerifyError> {
        self.get(name, "an integer or two", |value| match value.as_array().map(Vec::as_slice) {
            Some([h, w]) => Some([as_size(h)?, as_size(w)?]),
            Some([both]) => Some([as_size(both)?; 2]),
            Some(_) => None,
            None => Some([as_size(value)?; 2]),
        })
    }

    /// `[height, width]`, for which one number may stand.
    pub fn pair(&self, name: &str) -> Result<[usize; 2], VerifyError> {
        self.need(name, self.opt_pair(name)?)
    }

    /// Two numbers, for which one may stand; `None` where it is missing or null.
    pub fn opt_float_pair(&self, name: &str) -> Result<Option<[f64; 2]>, VerifyError> {
        self.get(name, "a number or two", |value| match value.as_array().map(Vec::as_slice) {
            Some([h, w]) => Some([h.as_f64()?, w.as_f64()?]),
            Some([both]) => Some([both.as_f64()?; 2]),
            Some(_) => None,
            None => Some([value.as_f64()?; 2]),
        })
    }

    /// A list of integers, for which one number may stand; `None` where it is missing or null.
    pub fn opt_ints(&self, name: &str) -> Result<Option<Vec<i64>>, VerifyError> {
        self.get(name, "integers", |value| match value.as_array() {
            Some(list) => list.iter().map(Json::as_i64).collect(),
            None => Some(vec![value.as_i64()?]),
        })
    }

    /// A list of integers, for which one number may stand.
    pub fn ints(&self, name: &str) -> Result<Vec<i64>, VerifyError> {
        self.need(name, self.opt_ints(name)?)
    }

    /// A list of numbers, for which one number may stand; `None` where it is missing or null.
    pub fn opt_floats(&self, name: &str) -> Result<Option<Vec<f64>>, VerifyError> {
        self.get(name, "numbers", |value| match value.as_array() {
            Some(list) => list.iter().map(Json::as_f64).collect(),
            None => Some(vec![value.as_f64()?]),
        })
    }
}

fn as_size(value: &Json) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_go_there_and_back() {
        let x = Tensor::i32([2, 3, 2, 2], (0..24).collect()).unwrap();
        for layout in [Layout::Plain, Layout::Image, Layout::HeadsFirst] {
            assert_eq!(layout.to_disk(&layout.to_graph(&x).unwrap()).unwrap(), x);
        }
        let y = Layout::Image.to_graph(&x).unwrap();
        assert_eq!(y.shape(), [2, 2, 2, 3]);
        assert_eq!(y.as_i32().unwrap()[..4], [0, 4, 8, 1]);
    }

    #[test]
    fn parameters_are_read_as_what_they_should_be() {
        let params = serde_json::json!({"k": [3, 5], "s": 2, "v": null, "scale": "inf", "f": 0.5});
        let case = OpCase::new("c", &params, &HashMap::new(), CaseType::F32);
        assert_eq!((case.pair("k").unwrap(), case.pair("s").unwrap()), ([3, 5], [2, 2]));
        assert_eq!(case.opt_float("v").unwrap(), None);
        assert_eq!(case.float("scale").unwrap(), f64::INFINITY);
        assert!(case.float("v").unwrap_err().to_string().contains("missing"));
        assert!(case.int("f").unwrap_err().to_string().contains("0.5"));
    }
}
