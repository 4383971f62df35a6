//! How a device's numbers are judged against the definition's.

use crate::{DType, Tensor};

/// When two tensors agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gate {
    /// Equal numbers: integers, moved data, products of small integers.
    Exact,
    /// Close numbers: `nmse` over the tensor, and `atol + rtol * |expected|` for each element.
    Close {
        /// Largest normalised mean square error: sum of squared errors over sum of squared expected values.
        nmse: f64,
        /// Absolute tolerance of an element.
        atol: f64,
        /// Relative tolerance of an element.
        rtol: f64,
    },
}

impl Gate {
    /// The default gate of an element type.
    pub const fn default_for(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Gate::Close { nmse: 1e-10, atol: 1e-5, rtol: 1e-4 },
            DType::F16 => Gate::Close { nmse: 1e-6, atol: 2.5e-3, rtol: 1e-3 },
            DType::I32 | DType::U32 | DType::Bool => Gate::Exact,
        }
    }
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Largest absolute error of an element.
    pub max_abs: f64,
    /// Largest relative error of an element that is not expected to be zero.
    pub max_rel: f64,
    /// Sum of squared errors over sum of squared expected values; the former where the latter is zero.
    pub nmse: f64,
    /// Largest distance in units in the last place of the element type.
    pub max_ulp: u64,
    /// Elements that are outside of their tolerance, or whose NaN or infinity does not match.
    pub wrong: usize,
    /// First such element.
    pub first_wrong: Option<usize>,
    /// Whether the gate is passed.
    pub passed: bool,
}

/// Distance of two numbers in units in the last place of their type.
fn ulp(dtype: DType, a: f64, b: f64) -> u64 {
    // Maps floats to integers so that neighbours differ by one.
    fn ordered(bits: i64, sign: i64) -> i64 {
        if bits & sign != 0 { sign - bits } else { bits }
    }
    let key = |v: f64| match dtype {
        DType::F32 => ordered(i64::from((v as f32).to_bits()), 1 << 31),
        DType::F16 => ordered(i64::from(half::f16::from_f64(v).to_bits()), 1 << 15),
        _ => v as i64,
    };
    key(a).abs_diff(key(b))
}

/// Compares what a device computed with what was expected. Both must have the same shape and type.
///
/// NaN and infinities are compared by position. `bounds`, where given, replaces the element tolerance: one bound an
/// element, as for products, whose error grows with the magnitudes summed.
pub fn compare(expected: &Tensor, actual: &Tensor, gate: Gate, bounds: Option<&[f64]>) -> Comparison {
    let mut result = Comparison {
        max_abs: 0.0,
        max_rel: 0.0,
        nmse: 0.0,
        max_ulp: 0,
        wrong: 0,
        first_wrong: None,
        passed: false,
    };
    if expected.desc() != actual.desc() {
        result.wrong = expected.len().max(1);
        result.first_wrong = Some(0);
        return result;
    }
    let dtype = expected.dtype();
    let (want, got) = (expected.to_f64(), actual.to_f64());
    let (mut error_sum, mut square_sum) = (0.0, 0.0);
    for (i, (&e, &a)) in want.iter().zip(&got).enumerate() {
        let same = e == a || (e.is_nan() && a.is_nan());
        let right = if same {
            square_sum += if e.is_finite() { e * e } else { 0.0 };
            true
        } else if !e.is_finite() || !a.is_finite() {
            // An infinity or NaN out of place, or a finite number in its place.
            error_sum = f64::INFINITY;
            result.max_abs = f64::INFINITY;
            false
        } else {
            let error = (a - e).abs();
            error_sum += error * error;
            square_sum += e * e;
            result.max_abs = result.max_abs.max(error);
            if e != 0.0 {
                result.max_rel = result.max_rel.max(error / e.abs());
            }
            result.max_ulp = result.max_ulp.max(ulp(dtype, e, a));
            match gate {
                Gate::Exact => false,
                Gate::Close { atol, rtol, .. } => {
                    // A product's bound covers its accumulation; storing in f16 rounds once more.
                    let rounding = if dtype == DType::F16 { atol + rtol * e.abs() } else { 0.0 };
                    error <= bounds.and_then(|b| b.get(i)).map_or(atol + rtol * e.abs(), |b| b + rounding)
                }
            }
        };
        if !right {
            result.wrong += 1;
            result.first_wrong.get_or_insert(i);
        }
    }
    result.nmse = if square_sum > 0.0 { error_sum / square_sum } else { error_sum };
    result.passed = result.wrong == 0
        && match gate {
            Gate::Exact => true,
            // Where nothing but zeros is expected, the elements' tolerance decides.
            Gate::Close { nmse, .. } => square_sum == 0.0 || result.nmse <= nmse,
        };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> Tensor {
        Tensor::f32([values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn nan_and_infinity_are_compared_by_position() {
        let gate = Gate::default_for(DType::F32);
        let special = f32s(&[f32::NAN, f32::INFINITY, 1.0]);
        assert!(compare(&special, &special, gate, None).passed);
        assert!(!compare(&special, &f32s(&[0.0, f32::INFINITY, 1.0]), gate, None).passed);
        assert!(!compare(&f32s(&[0.0]), &f32s(&[f32::NAN]), gate, None).passed);
        assert!(!compare(&special, &f32s(&[f32::NAN, f32::NEG_INFINITY, 1.0]), gate, None).passed);
    }

    #[test]
    fn nmse_catches_what_elements_do_not() {
        let (want, got) = (f32s(&[1.0; 100]), f32s(&[1.00005; 100]));
        let result = compare(&want, &got, Gate::default_for(DType::F32), None);
        assert_eq!((result.wrong, result.passed), (0, false));
    }

    #[test]
    fn ulps_count_neighbours() {
        assert_eq!(compare(&f32s(&[1.0]), &f32s(&[1.0 + f32::EPSILON]), Gate::Exact, None).max_ulp, 1);
        assert_eq!(compare(&f32s(&[0.0]), &f32s(&[-f32::from_bits(1)]), Gate::Exact, None).max_ulp, 1);
    }

    #[test]
    fn bounds_replace_the_element_tolerance() {
        let gate = Gate::Close { nmse: 1.0, atol: 0.0, rtol: 0.0 };
        assert!(compare(&f32s(&[1.0]), &f32s(&[1.1]), gate, Some(&[0.2])).passed);
        assert!(!compare(&f32s(&[1.0]), &f32s(&[1.1]), gate, Some(&[0.05])).passed);
    }
}
