//! Functions of one number, applied to every element.

use crate::ops::elementwise;
use crate::registry::{Case, Fill};
use crate::{Builder, GraphError, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `-x`.
    Neg,
    /// `|x|`.
    Abs,
    /// `sqrt(x)`.
    Sqrt,
    /// `1 / sqrt(x)`.
    Rsqrt,
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Error function.
    Erf,
    /// `max(x, 0)`.
    Relu,
    /// `x` where it is not negative, `slope * x` elsewhere.
    LeakyRelu {
        /// Factor of negative values.
        slope: f32,
    },
    /// Gaussian error linear unit by erf (Hendrycks and Gimpel 2016).
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
    /// Its approximation `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `min(max(x, low), high)`.
    Clamp {
        /// Smallest result.
        low: f32,
        /// Largest result.
        high: f32,
    },
    /// `scale * x + offset`.
    Affine {
        /// Factor.
        scale: f32,
        /// Summand.
        offset: f32,
    },
}

/// Error function in f64: Maclaurin series near zero, Lentz's continued fraction of erfc elsewhere.
pub(crate) fn erf(x: f64) -> f64 {
    let z = x.abs();
    let y = if z < 2.5 {
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term.abs() > 1e-18 * sum {
            n += 1.0;
            term *= -z * z / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else if z > 6.0 {
        1.0
    } else {
        // erfc(z) = e^(-z^2) / sqrt(pi) / (z + 1/2 / (z + 2/2 / (z + 3/2 / (z + ...))))
        let fraction = (1..=120).rev().fold(z, |f, k| z + f64::from(k) / 2.0 / f);
        1.0 - (-z * z).exp() / std::f64::consts::PI.sqrt() / fraction
    };
    y.copysign(x)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Unary {
    /// The function, in f64.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Unary::Neg => -x,
            Unary::Abs => x.abs(),
            Unary::Sqrt => x.sqrt(),
            Unary::Rsqrt => 1.0 / x.sqrt(),
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
            Unary::Sin => x.sin(),
            Unary::Cos => x.cos(),
            Unary::Tanh => x.tanh(),
            Unary::Sigmoid => sigmoid(x),
            Unary::Erf => erf(x),
            Unary::Relu => x.max(0.0),
            Unary::LeakyRelu { slope } => {
                if x >= 0.0 {
                    x
                } else {
                    x * f64::from(slope)
                }
            }
            Unary::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Unary::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
            }
            Unary::QuickGelu => x * sigmoid(1.702 * x),
            Unary::Silu => x * sigmoid(x),
            Unary::Clamp { low, high } => x.max(f64::from(low)).min(f64::from(high)),
            Unary::Affine { scale, offset } => x * f64::from(scale) + f64::from(offset),
        }
    }

    /// The WGSL expression of the function applied to `v`.
    pub fn wgsl(self, v: &str) -> String {
        let name = match self {
            Unary::Neg => "neg",
            Unary::Abs => "abs",
            Unary::Sqrt => "sqrt",
            Unary::Rsqrt => "rsqrt",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Tanh => "tanh_rational",
            Unary::Sigmoid => "sigmoid",
            Unary::Erf => "erf",
            Unary::Relu => "relu",
            Unary::LeakyRelu { slope } => return format!("leaky_relu({v}, {slope:?})"),
            Unary::Gelu => "gelu",
            Unary::GeluTanh => "gelu_tanh",
            Unary::QuickGelu => "quick_gelu",
            Unary::Silu => "silu",
            Unary::Clamp { low, high } => return format!("clamped({v}, {low:?}, {high:?})"),
            Unary::Affine { scale, offset } => return format!("affine({v}, {scale:?}, {offset:?})"),
        };
        format!("{name}({v})")
    }
}

impl Op for Unary {
    fn name(&self) -> &'static str {
        "unary"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        match inputs {
            [x] if x.dtype.is_float() => Ok(vec![x.clone()]),
            _ => Err(OpError::new(self.name(), inputs, "wants one floating-point input")),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let values: Vec<f64> = x.to_f64().into_iter().map(|v| self.apply(v)).collect();
        Ok(vec![Tensor::from_f64(x.shape(), x.dtype(), &values)?])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        Ok(vec![elementwise::launch(Some(*self), io, tier)])
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl Builder {
    /// Applies a function to every element.
    pub fn unary(&mut self, function: Unary, x: Value) -> Result<Value, GraphError> {
        self.op(function, &[x])
    }
}

/// Cases: every function over the range where it bends, odd lengths included.
pub fn cases() -> Vec<Case> {
    let wide = [
        Unary::Neg,
        Unary::Abs,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Erf,
        Unary::Relu,
        Unary::LeakyRelu { slope: 0.2 },
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::QuickGelu,
        Unary::Silu,
        Unary::Clamp { low: -0.5, high: 1.5 },
        Unary::Affine { scale: 0.125, offset: -3.0 },
    ];
    let mut cases: Vec<Case> =
        wide.into_iter().map(|f| Case::new(f, [Fill::uniform(-12.0, 12.0).shape([3, 129])])).collect();
    for f in [Unary::Exp, Unary::Sin, Unary::Cos] {
        cases.push(Case::new(f, [Fill::uniform(-6.0, 6.0).shape([5, 64])]));
    }
    for f in [Unary::Sqrt, Unary::Rsqrt, Unary::Log] {
        cases.push(Case::new(f, [Fill::uniform(0.01, 9.0).shape([257])]));
    }
    for shape in [vec![], vec![0], vec![1], vec![2, 3, 0, 5], vec![2, 1, 3, 4], vec![1021]] {
        cases.push(Case::new(Unary::Silu, [Fill::uniform(-4.0, 4.0).shape(shape)]));
    }
    cases
}
