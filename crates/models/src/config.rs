//! Reading `config.json` files: typed access with plain errors.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use crate::Error;

/// Largest size that a configuration may name: wide enough for any model, small enough that products of two sizes and
/// loops over one are safe.
const MAX_SIZE: u64 = 1 << 24;

/// A JSON object with typed access; a missing key and null are the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config<'a>(pub &'a Json);

impl<'a> Config<'a> {
    /// A nested object; empty where it is missing.
    pub fn nested(self, key: &str) -> Config<'a> {
        Config(self.0.get(key).unwrap_or(&Json::Null))
    }

    fn get<T>(self, key: &str, kind: &str, read: impl Fn(&'a Json) -> Option<T>) -> Result<Option<T>, Error> {
        match self.0.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => {
                read(value).map(Some).ok_or_else(|| Error::Config(format!("{key} is {value}, not {kind}")))
            }
        }
    }

    /// An integer from 0 to 2^24.
    pub fn size(self, key: &str) -> Result<Option<usize>, Error> {
        self.get(key, "a size", as_size)
    }

    /// `[height, width]`, for which one number may stand.
    pub fn pair(self, key: &str) -> Result<Option<[usize; 2]>, Error> {
        self.get(key, "a size or two", |value| match value.as_array().map(Vec::as_slice) {
            Some([h, w]) => Some([as_size(h)?, as_size(w)?]),
            Some(_) => None,
            None => Some([as_size(value)?; 2]),
        })
    }

    /// A list of integers from 0 to 2^24.
    pub fn sizes(self, key: &str) -> Result<Option<Vec<usize>>, Error> {
        self.get(key, "a list of sizes", |value| value.as_array()?.iter().map(as_size).collect())
    }

    /// A number.
    pub fn float(self, key: &str) -> Result<Option<f32>, Error> {
        self.get(key, "a number", |value| value.as_f64().map(|v| v as f32))
    }

    /// A list of numbers.
    pub fn floats(self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        self.get(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(|number| Some(number.as_f64()? as f32)).collect()
        })
    }

    /// A list of strings.
    pub fn strings(self, key: &str) -> Result<Option<Vec<&'a str>>, Error> {
        self.get(key, "a list of strings", |value| value.as_array()?.iter().map(Json::as_str).collect())
    }

    /// A truth value.
    pub fn flag(self, key: &str) -> Result<Option<bool>, Error> {
        self.get(key, "true or false", Json::as_bool)
    }

    /// A string.
    pub fn str(self, key: &str) -> Result<Option<&'a str>, Error> {
        self.get(key, "a string", Json::as_str)
    }

    /// The first of `architectures`.
    pub fn architecture(self) -> Option<&'a str> {
        self.0.get("architectures")?.as_array()?.first()?.as_str()
    }

    /// An activation function by transformers' name for it.
    pub fn activation(self, key: &str) -> Result<Option<Unary>, Error> {
        Ok(match self.str(key)? {
            None => None,
            Some("gelu" | "gelu_python") => Some(Unary::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_accurate") => Some(Unary::GeluTanh),
            Some("quick_gelu") => Some(Unary::QuickGelu),
            Some("relu") => Some(Unary::Relu),
            Some("silu" | "swish") => Some(Unary::Silu),
            Some("mish") => Some(Unary::Mish),
            Some("tanh") => Some(Unary::Tanh),
            Some("sigmoid") => Some(Unary::Sigmoid),
            Some(other) => {
                return Err(Error::Config(format!("{key} is {other:?}, which Kiln does not know")));
            }
        })
    }
}

fn as_size(value: &Json) -> Option<usize> {
    let size = value.as_u64().filter(|&size| size <= MAX_SIZE)?;
    usize::try_from(size).ok()
}
