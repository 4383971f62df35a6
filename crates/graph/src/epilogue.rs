//! Elementwise work done on a result before it is stored.

use std::fmt::Write;

use kiln_shaders::Unit;

use crate::ops::{Binary, Unary};
use crate::{Dispatch, OpError, Source, Tensor, TensorDesc};

/// How an operand's elements spread over the result's. Both are row-major; `last` is the result's last extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spread {
    /// One element for each of the result's.
    Full,
    /// One element for each index of the last axis: `operand[i % last]`.
    Last,
    /// One element.
    Scalar,
    /// One row of `last` elements for each run of `inner` elements: `operand[i / inner * last + i % last]`.
    /// A batch's channel vector over its pixels.
    Batch {
        /// Elements of the result that share a row.
        inner: usize,
    },
}

impl Spread {
    /// How an operand of shape `operand` broadcasts over a result of shape `result`, where one of the kinds fits.
    pub fn of(operand: &[usize], result: &[usize]) -> Option<Self> {
        let len: usize = operand.iter().product();
        if operand.len() > result.len() {
            return None;
        }
        let last = result.last().copied().unwrap_or(1);
        let pad = result.len() - operand.len();
        let extent = |axis: usize| if axis < pad { 1 } else { operand[axis - pad] };
        if (0..result.len()).all(|axis| extent(axis) == result[axis]) {
            return Some(Spread::Full);
        }
        if len == 1 {
            return Some(Spread::Scalar);
        }
        let fits = |axis: usize| extent(axis) == 1 || extent(axis) == result[axis];
        if !(0..result.len()).all(fits) || extent(result.len() - 1) != last {
            return None;
        }
        if len == last {
            return Some(Spread::Last);
        }
        // Leading axes equal, then ones up to the last axis.
        let lead = (0..result.len() - 1).take_while(|&axis| extent(axis) == result[axis]).count();
        let ones = (lead..result.len() - 1).all(|axis| extent(axis) == 1);
        ones.then(|| Spread::Batch { inner: result[lead..].iter().product() })
    }

    /// The operand's index for the result's element `i`.
    pub fn index(self, i: usize, last: usize) -> usize {
        match self {
            Spread::Full => i,
            Spread::Last => i % last,
            Spread::Scalar => 0,
            Spread::Batch { inner } => i / inner * last + i % last,
        }
    }
}

/// One step of an epilogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// A function of the value.
    Unary(Unary),
    /// A function of the value and an operand.
    Binary {
        /// The function.
        function: Binary,
        /// Which of the epilogue's operands.
        operand: usize,
        /// How it spreads.
        spread: Spread,
        /// Whether the operand is the left argument.
        swapped: bool,
    },
}

/// A chain of elementwise steps. Its operands are the last inputs of the node that carries it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Epilogue {
    /// Nothing.
    pub const NONE: &'static Epilogue = &Epilogue { steps: Vec::new() };

    /// Number of operands.
    pub fn operands(&self) -> usize {
        self.steps
            .iter()
            .filter_map(|step| match step {
                Step::Binary { operand, .. } => Some(operand + 1),
                Step::Unary(_) => None,
            })
            .max()
            .unwrap_or(0)
    }

    /// Operands that fusion gives a node's epilogue at most. WGSL has units for two more, for ops whose own inputs
    /// (a norm's weight and bias) are operands of the chain that they run.
    pub const MAX_OPERANDS: usize = 4;

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The definition, in f64.
    pub fn reference(&self, value: &Tensor, operands: &[&Tensor]) -> Result<Tensor, OpError> {
        if self.is_empty() {
            return Ok(value.clone());
        }
        let last = value.desc().last();
        let mut values = value.to_f64();
        for step in &self.steps {
            match *step {
                Step::Unary(function) => values.iter_mut().for_each(|v| *v = function.apply(*v)),
                Step::Binary { function, operand, spread, swapped } => {
                    let missing = || OpError::new("epilogue", &[value.desc()], "an operand is missing");
                    let operand = operands.get(operand).ok_or_else(missing)?.to_f64();
                    for (i, v) in values.iter_mut().enumerate() {
                        let other = *operand.get(spread.index(i, last)).ok_or_else(missing)?;
                        *v = if swapped { function.apply(other, *v) } else { function.apply(*v, other) };
                    }
                }
            }
        }
        Ok(Tensor::from_f64(value.shape(), value.dtype(), &values)?)
    }

    /// The units that define `epilogue(value, index, column)` in WGSL for a result of this description.
    ///
    /// `index` is the flat index of the first of four consecutive elements, `column` its index along the last axis. With
    /// `vec4`, both are multiples of 4, and so is the last extent; without, a kernel may also use the first element
    /// alone. The element type's unit is the kernel's to link.
    pub fn units(&self, result: &TensorDesc, vec4: bool) -> Vec<Unit> {
        let mut text = String::from(
            "fn epilogue(value: vec4<f32>, index: u32, column: u32) -> vec4<f32> {\n    var v = value;\n",
        );
        let mut units = vec![kiln_shaders::MATH];
        for step in &self.steps {
            // Writing to a String cannot fail.
            let _ = match *step {
                Step::Unary(function) => writeln!(text, "    v = {};", function.wgsl("v")),
                Step::Binary { function, operand, spread, swapped } => {
                    let at = match spread {
                        Spread::Full => "index".to_string(),
                        Spread::Last => "column".to_string(),
                        Spread::Scalar => "0u".to_string(),
                        Spread::Batch { inner } => {
                            format!("index / {inner}u * {}u + column", result.last())
                        }
                    };
                    let load = if spread == Spread::Scalar { "scalar" } else { "load" };
                    let other = format!("operand{operand}_{load}({at})");
                    let (a, b) = if swapped { (other.as_str(), "v") } else { ("v", other.as_str()) };
                    writeln!(text, "    v = {}({a}, {b});", function.wgsl())
                }
            };
        }
        text.push_str("    return v;\n}\n");
        units.push(Unit::generated("epilogue", text));
        let operands = if vec4 { kiln_shaders::OPERANDS_VEC4 } else { kiln_shaders::OPERANDS_SCALAR };
        units.extend(operands.iter().take(self.operands()).cloned());
        units
    }

    /// Binds the operands, which are inputs `first..` of the node.
    pub fn bind(&self, mut dispatch: Dispatch, first: usize) -> Dispatch {
        for operand in 0..self.operands() {
            dispatch = dispatch.bind(format!("operand{operand}"), Source::Input(first + operand));
        }
        dispatch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_recognised() {
        for (operand, result, spread) in [
            (&[2, 3, 4][..], &[2, 3, 4][..], Some(Spread::Full)),
            (&[4], &[2, 3, 4], Some(Spread::Last)),
            (&[1, 1, 4], &[2, 3, 4], Some(Spread::Last)),
            (&[], &[2, 3, 4], Some(Spread::Scalar)),
            (&[1, 1], &[2, 3, 4], Some(Spread::Scalar)),
            (&[2, 1, 4], &[2, 3, 4], Some(Spread::Batch { inner: 12 })),
            (&[2, 1, 1, 4], &[2, 5, 3, 4], Some(Spread::Batch { inner: 60 })),
            (&[2, 3, 1], &[2, 3, 4], None),
            (&[3, 4], &[2, 3, 4], None),
            (&[1, 2, 3, 4], &[2, 3, 4], None),
        ] {
            assert_eq!(Spread::of(operand, result), spread, "{operand:?} over {result:?}");
        }
    }
}
