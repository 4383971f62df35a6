//! Tensors that leave f16's range: what they hold, whether that is a fault, and what has to run in f32 for it.
//!
//! Whoever runs a graph looks at what it stores ([`Excess::of`] on the host, [`scan`] on a device) and gets the tensors
//! that are to blame from [`out_of_range`]. In a graph with f16 in it those are tensors that left the range of the type
//! they are stored in, and of those the ones where it began: what follows from an infinity is none's fault. In a graph
//! of f32 alone they are all tensors that f16 could not hold.

mod masks;
mod report;
mod scan;

use crate::{DType, Graph, Tensor};

pub use report::{OutOfRange, out_of_range};
pub use scan::scan;

/// The largest number of f16.
pub const LARGEST_F16: f32 = 65504.0;

/// What a tensor holds beyond a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excess(u32);

impl Excess {
    const POSITIVE: u32 = 1;
    const NEGATIVE: u32 = 2;
    const NAN: u32 = 4;
    const WIDE: u32 = 8;

    /// From the word that [`scan`] writes.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & (Self::POSITIVE | Self::NEGATIVE | Self::NAN | Self::WIDE))
    }

    /// What a host tensor holds beyond `limit` where it is f32, beyond f16's range where it is f16. The largest number of
    /// f16 counts as beyond, since devices may round what is larger down to it.
    pub fn of(tensor: &Tensor, limit: f32) -> Self {
        let mut found = 0;
        if let Some(values) = tensor.as_f16() {
            // One pass that compilers make vectors of, since most tensors are within the range.
            if values.iter().map(|v| v.to_bits() & 0x7fff).max().unwrap_or(0) >= 0x7bff {
                found = values.iter().fold(0, |found, v| {
                    let bits = v.to_bits();
                    found
                        | match bits & 0x7fff {
                            0..0x7bff => 0,
                            0x7c01.. => Self::NAN,
                            _ => Self::sign(bits & 0x8000 != 0),
                        }
                });
            }
        } else if let Some(values) = tensor.as_f32() {
            for &v in values.iter().filter(|v| v.is_nan() || v.abs() > limit) {
                found |= if v.is_nan() { Self::NAN } else { Self::sign(v < 0.0) };
                found |= if v.is_finite() { 0 } else { Self::WIDE };
            }
        }
        Self(found)
    }

    fn sign(negative: bool) -> u32 {
        if negative { Self::NEGATIVE } else { Self::POSITIVE }
    }

    /// Whether everything is within the range.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether there is NaN.
    pub fn has_nan(self) -> bool {
        self.0 & Self::NAN != 0
    }

    /// Whether f32 does not hold it either: infinities and NaN in a tensor of f32.
    pub fn in_f32(self) -> bool {
        self.0 & Self::WIDE != 0
    }

    /// Whether it is large negative numbers or minus infinity alone.
    pub fn is_negative(self) -> bool {
        self.0 & !Self::WIDE == Self::NEGATIVE
    }

    /// Whether a tensor of this type holds infinities or NaN.
    fn infects(self, dtype: DType) -> bool {
        !self.is_none() && (dtype == DType::F16 || self.in_f32())
    }
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if self.0 & Self::NAN != 0 {
            parts.push("NaN");
        }
        let range =
            if self.in_f32() { ["infinity", "minus infinity"] } else { ["above 65504", "below -65504"] };
        for (bit, name) in [(Self::POSITIVE, range[0]), (Self::NEGATIVE, range[1])] {
            if self.0 & bit != 0 {
                parts.push(name);
            }
        }
        f.write_str(&parts.join(" and "))
    }
}

/// The largest f32 that counts as within the range in this graph: f16's largest where nothing is f16.
pub fn limit(graph: &Graph) -> f32 {
    let half = graph.values().iter().any(|info| info.desc.dtype == DType::F16);
    if half { f32::MAX } else { LARGEST_F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excess_tells_signs_nan_and_what_f32_does_not_hold_either() {
        let of = |values: &[f32], dtype| {
            let tensor = Tensor::f32([values.len()], values.to_vec()).unwrap().cast(dtype);
            Excess::of(&tensor, LARGEST_F16)
        };
        for dtype in [DType::F32, DType::F16] {
            assert!(of(&[0.0, -65000.0, 65000.0, 1e-8], dtype).is_none());
            assert!(of(&[7e4], dtype) == Excess(1) && of(&[1.0, -7e4], dtype) == Excess(2));
            assert!(of(&[-7e4], dtype).is_negative() && !of(&[-7e4, 7e4], dtype).is_negative());
            assert!(of(&[f32::NAN], dtype).has_nan());
        }
        assert!(of(&[f32::NEG_INFINITY], DType::F32).in_f32() && of(&[f32::NAN], DType::F32).in_f32());
        assert!(!of(&[f32::NEG_INFINITY], DType::F16).in_f32());
        assert_eq!(of(&[7e4, -7e4], DType::F32).to_string(), "above 65504 and below -65504");
    }
}
