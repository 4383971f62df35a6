//! When computed and expected tensors agree.

use kiln_graph::Tensor;
use kiln_graph::numerics::{Comparison, Gate, compare};

/// When a tensor agrees with the expected one. Integers and truth values have to be equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gates {
    /// Largest normalised mean square error; `None` stands for the default of the model family and precision.
    pub nmse: Option<f64>,
    /// A tensor also passes where its largest error is at most this many times the expected tensor's own noise.
    pub noise: f64,
    /// Where this or `rtol` is given, each element has to be within `atol + rtol * |expected|` too.
    pub atol: Option<f64>,
    /// See `atol`.
    pub rtol: Option<f64>,
}

impl Default for Gates {
    fn default() -> Self {
        Self { nmse: None, noise: 4.0, atol: None, rtol: None }
    }
}

/// How the comparison of a tensor ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It agrees.
    Passed,
    /// It does not, or could not be computed; with the reason.
    Failed(String),
    /// It does not, but in f16 it is not held to a gate; with the reason.
    Reported(String),
    /// Kiln does not compute it; with the reason.
    NotCompared(String),
    /// In f16, it or its inputs leave that type's range or precision; with the reason.
    OutOfRange(String),
}

/// The comparison of a tensor.
#[derive(Clone, Debug)]
pub struct Row {
    /// The tensor's name: `out.logits`, or `c003.y` of an op case.
    pub name: String,
    /// Its expected shape.
    pub shape: Vec<usize>,
    /// What was found, where it was computed.
    pub comparison: Option<Comparison>,
    /// The expected tensor's own largest error, f32 against f64, where it is known.
    pub noise: Option<f64>,
    /// How it ended.
    pub verdict: Verdict,
}

impl Row {
    /// A row of a tensor that was not computed.
    pub fn without(name: impl Into<String>, expected: &Tensor, verdict: Verdict) -> Self {
        Self { name: name.into(), shape: expected.shape().to_vec(), comparison: None, noise: None, verdict }
    }

    /// Compares.
    pub fn compare(
        name: impl Into<String>,
        expected: &Tensor,
        actual: &Tensor,
        noise: Option<f64>,
        gates: &Gates,
        default_nmse: f64,
    ) -> Self {
        let mut row = Row::without(name, expected, Verdict::Passed);
        row.noise = noise;
        if expected.shape() != actual.shape() {
            let reason = format!("has shape {:?} instead of {:?}", actual.shape(), expected.shape());
            row.verdict = Verdict::Failed(reason);
            return row;
        }
        let float = expected.dtype().is_float();
        let nmse = gates.nmse.unwrap_or(default_nmse);
        let gate = if float {
            let elements = gates.atol.is_some() || gates.rtol.is_some();
            Gate::Close {
                nmse: f64::INFINITY,
                atol: gates.atol.unwrap_or(if elements { 0.0 } else { f64::INFINITY }),
                rtol: gates.rtol.unwrap_or(0.0),
            }
        } else {
            Gate::Exact
        };
        // In f64 terms both are exact, whatever their types.
        let wide = |tensor: &Tensor| tensor.to_f64();
        let comparison = if expected.dtype() == actual.dtype() {
            compare(expected, actual, gate, None)
        } else if !float && wide(expected) != wide(actual) {
            let mut comparison = compare(expected, &actual.cast(expected.dtype()), gate, None);
            comparison.passed = false;
            comparison.wrong = comparison.wrong.max(1);
            comparison
        } else {
            compare(expected, &actual.cast(expected.dtype()), gate, None)
        };
        let within_noise = noise.is_some_and(|noise| comparison.max_abs <= gates.noise * noise);
        let mut reasons = Vec::new();
        if comparison.wrong > 0 {
            let (want, got) = (wide(expected), wide(actual));
            let at = comparison.first_wrong.unwrap_or(0);
            let value = |values: &[f64]| values.get(at).copied().unwrap_or(f64::NAN);
            reasons.push(format!(
                "{} of {} elements are wrong, the first at {at}: {} instead of {}",
                comparison.wrong,
                expected.len(),
                value(&got),
                value(&want)
            ));
        } else if float && comparison.nmse > nmse && !within_noise {
            reasons.push(format!("NMSE over {nmse:.0e}"));
        }
        row.comparison = Some(comparison);
        if !reasons.is_empty() {
            row.verdict = Verdict::Failed(reasons.join("; "));
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(want: &Tensor, got: &Tensor, noise: Option<f64>, gates: Gates) -> bool {
        Row::compare("x", want, got, noise, &gates, 1e-9).verdict == Verdict::Passed
    }

    fn f32s(values: &[f32]) -> Tensor {
        Tensor::f32([values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn the_looser_of_nmse_and_noise_decides() {
        let (want, got) = (f32s(&[1.0, 1.0]), f32s(&[1.0, 1.001]));
        let gates = Gates::default();
        assert!(!verdict(&want, &got, None, gates));
        assert!(!verdict(&want, &got, Some(1e-4), gates));
        assert!(verdict(&want, &got, Some(1e-3), gates));
        assert!(verdict(&want, &got, None, Gates { nmse: Some(1e-6), ..gates }));
        assert!(!verdict(&want, &got, Some(1e-3), Gates { atol: Some(1e-4), ..gates }));
    }

    #[test]
    fn integers_have_to_be_equal() {
        let want = Tensor::i32([2], vec![3, -1]).unwrap();
        assert!(verdict(&want, &f32s(&[3.0, -1.0]), None, Gates::default()));
        assert!(!verdict(&want, &f32s(&[3.0, -1.5]), Some(9.0), Gates::default()));
        assert!(!verdict(&want, &Tensor::u32([2], vec![3, u32::MAX]).unwrap(), None, Gates::default()));
    }

    #[test]
    fn nan_is_never_close() {
        assert!(!verdict(&f32s(&[1.0]), &f32s(&[f32::NAN]), Some(1.0), Gates::default()));
        assert!(!verdict(&f32s(&[1.0]), &f32s(&[1.0, 2.0]), Some(1.0), Gates::default()));
    }
}
