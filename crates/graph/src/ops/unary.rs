//! Functions of one number, applied to every element.

use crate::ops::elementwise;
use crate::registry::{Case, Fill};
use crate::{Builder, GraphError, Independence, Io, Launch, Op, OpError, Tensor, TensorDesc, Tier, Value};

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
    /// `x^2`.
    Square,
    /// `1 / x`.
    Reciprocal,
    /// The largest whole number that is not larger.
    Floor,
    /// The smallest whole number that is not smaller.
    Ceil,
    /// The nearest whole number, ties to even.
    Round,
    /// `e^x - 1`.
    Expm1,
    /// `log(1 + e^x)`, PyTorch's default beta and threshold.
    Softplus,
    /// `log(1 + e^-|x|)`, what is left of softplus once `max(x, 0)` is taken off.
    Log1pExp,
    /// `x * tanh(softplus(x))` (Misra 2019).
    Mish,
    /// `x` where it is positive, `alpha * (e^x - 1)` elsewhere (Clevert et al. 2015).
    Elu {
        /// Magnitude of the limit on the left.
        alpha: f32,
    },
    /// `min(max(x + 3, 0), 6) / 6`.
    HardSigmoid,
    /// `x * min(max(x + 3, 0), 6) / 6` (Howard et al. 2019).
    HardSwish,
    /// Rounded to what f16 can hold, ties to even; the type stays.
    RoundF16,
    /// Rounded to what bfloat16 can hold, ties to even; the type stays.
    RoundBf16,
}

impl Unary {
    /// `min(max(x, 0), 6)`.
    pub const RELU6: Unary = Unary::Clamp { low: 0.0, high: 6.0 };
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

/// `min(max(x, low), high)` that keeps NaN.
fn clamp(x: f64, low: f64, high: f64) -> f64 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

fn log1p_exp(x: f64) -> f64 {
    (-x.abs()).exp().ln_1p()
}

fn softplus(x: f64) -> f64 {
    clamp(x, 0.0, f64::INFINITY) + log1p_exp(x)
}

/// Infinity where f32 has no such number, for functions that PyTorch computes by a product of which that is true.
fn overflowing(x: f64) -> f64 {
    if x.abs() > f64::from(f32::MAX) { x * f64::INFINITY } else { x }
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
            Unary::Relu => clamp(x, 0.0, f64::INFINITY),
            Unary::LeakyRelu { slope } => {
                if x >= 0.0 {
                    x
                } else {
                    x * f64::from(slope)
                }
            }
            // As PyTorch has it on CPUs: infinities have no GELU, and the product comes before the halving.
            Unary::Gelu if x.is_infinite() => f64::NAN,
            Unary::Gelu => 0.5 * overflowing(x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))),
            Unary::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
            }
            Unary::QuickGelu => x * sigmoid(1.702 * x),
            Unary::Silu => x * sigmoid(x),
            Unary::Clamp { low, high } => clamp(x, f64::from(low), f64::from(high)),
            Unary::Affine { scale, offset } => x * f64::from(scale) + f64::from(offset),
            Unary::Square => x * x,
            Unary::Reciprocal => 1.0 / x,
            Unary::Floor => x.floor(),
            Unary::Ceil => x.ceil(),
            Unary::Round => x.round_ties_even(),
            Unary::Expm1 => x.exp_m1(),
            Unary::Softplus => softplus(x),
            Unary::Log1pExp => log1p_exp(x),
            Unary::Mish => x * softplus(x).tanh(),
            Unary::Elu { alpha } => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(alpha) * x.exp_m1()
                }
            }
            Unary::HardSigmoid => clamp(x + 3.0, 0.0, 6.0) / 6.0,
            Unary::HardSwish => overflowing(x * clamp(x + 3.0, 0.0, 6.0)) / 6.0,
            Unary::RoundF16 => half::f16::from_f32(x as f32).to_f64(),
            Unary::RoundBf16 => half::bf16::from_f32(x as f32).to_f64(),
        }
    }

    /// The WGSL expression of the function applied to `v`.
    pub fn wgsl(self, v: &str) -> String {
        let name = match self {
            Unary::Neg => "neg",
            Unary::Abs => "abs",
            Unary::Sqrt => "sqrt",
            Unary::Rsqrt => "rsqrt",
            Unary::Exp => "exponential",
            Unary::Log => "logarithm",
            Unary::Sin => "sin_reduced",
            Unary::Cos => "cos_reduced",
            Unary::Tanh => "tanh_rational",
            Unary::Sigmoid => "sigmoid",
            Unary::Erf => "erf",
            Unary::Relu => "relu",
            Unary::LeakyRelu { slope } => return format!("leaky_relu({v}, {slope:?})"),
            Unary::Gelu => "gelu",
            Unary::GeluTanh => "gelu_tanh",
            Unary::QuickGelu => "quick_gelu",
            Unary::Silu => "silu",
            Unary::Square => "square",
            Unary::Reciprocal => "reciprocal",
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Round => "round",
            Unary::Expm1 => "expm1",
            Unary::Softplus => "softplus",
            Unary::Log1pExp => "log1p_exp",
            Unary::Mish => "mish",
            Unary::Elu { alpha } => return format!("elu({v}, {alpha:?})"),
            Unary::HardSigmoid => "hardsigmoid",
            Unary::HardSwish => "hardswish",
            Unary::RoundF16 => "round_f16",
            Unary::RoundBf16 => "round_bf16",
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

    fn independence(&self, _: &Io) -> Independence {
        Independence::Elements
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

macro_rules! shorthands {
    ($($(#[$doc:meta])* $name:ident = $function:expr;)*) => {
        impl Builder {
            $($(#[$doc])* pub fn $name(&mut self, x: Value) -> Result<Value, GraphError> {
                self.unary($function, x)
            })*
        }
    };
}

shorthands! {
    /// `max(x, 0)`.
    relu = Unary::Relu;
    /// Gaussian error linear unit.
    gelu = Unary::Gelu;
    /// `x * sigmoid(x)`.
    silu = Unary::Silu;
    /// `1 / (1 + e^-x)`.
    sigmoid = Unary::Sigmoid;
    /// Hyperbolic tangent.
    tanh = Unary::Tanh;
    /// `e^x`.
    exp = Unary::Exp;
    /// Natural logarithm.
    log = Unary::Log;
    /// Sine of radians.
    sin = Unary::Sin;
    /// Cosine of radians.
    cos = Unary::Cos;
    /// `sqrt(x)`.
    sqrt = Unary::Sqrt;
    /// `-x`.
    neg = Unary::Neg;
}

impl Builder {
    /// `scale * x + offset`.
    pub fn affine(&mut self, x: Value, scale: f32, offset: f32) -> Result<Value, GraphError> {
        self.unary(Unary::Affine { scale, offset }, x)
    }

    /// `min(max(x, low), high)`.
    pub fn clamp(&mut self, x: Value, low: f32, high: f32) -> Result<Value, GraphError> {
        self.unary(Unary::Clamp { low, high }, x)
    }
}

/// Numbers at which functions bend, overflow or end.
const SPECIAL: [f64; 23] = [
    0.0,
    -0.0,
    1e-20,
    1e-3,
    -1e-3,
    0.25,
    -0.25,
    1.0,
    -1.0,
    20.5,
    -20.5,
    88.0,
    88.8,
    -88.0,
    -103.9,
    -104.0,
    1e4,
    -1e4,
    3.4e38,
    -3.4e38,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

/// Cases: every function over the range where it bends, at special numbers, and in odd lengths.
pub fn cases() -> Vec<Case> {
    use crate::{DType, Epilogue, Step};
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
        Unary::Square,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Softplus,
        Unary::Log1pExp,
        Unary::Mish,
        Unary::Elu { alpha: 1.5 },
        Unary::HardSigmoid,
        Unary::HardSwish,
        Unary::RoundF16,
        Unary::RoundBf16,
    ];
    let mut cases: Vec<Case> =
        wide.into_iter().map(|f| Case::new(f, [Fill::uniform(-12.0, 12.0).shape([3, 129])])).collect();
    for f in [Unary::Exp, Unary::Expm1, Unary::Sin, Unary::Cos] {
        cases.push(Case::new(f, [Fill::uniform(-6.0, 6.0).shape([5, 64])]));
    }
    for f in [Unary::Sqrt, Unary::Rsqrt, Unary::Log, Unary::Reciprocal] {
        cases.push(Case::new(f, [Fill::uniform(0.01, 9.0).shape([257])]));
    }
    for shape in [vec![], vec![0], vec![1], vec![2, 3, 0, 5], vec![2, 1, 3, 4], vec![1021]] {
        cases.push(Case::new(Unary::Silu, [Fill::uniform(-4.0, 4.0).shape(shape)]));
    }
    // f16 would round the arguments to whole turns and more.
    for (rows, range) in [100.0, 1023.0, 2e4, 3e7, 1.5e38].into_iter().enumerate() {
        for f in [Unary::Sin, Unary::Cos] {
            let x = Fill::uniform(-range, range).shape([rows + 1, 66]);
            cases.push(Case::new(f, [x]).f32_only());
        }
    }
    for f in wide.into_iter().chain([Unary::Exp, Unary::Expm1, Unary::Sin, Unary::Cos]) {
        // A bound on elements alone: one of 3e38 would hide all others in a mean.
        let special = Fill::given(DType::F32, SPECIAL).shape([SPECIAL.len()]);
        cases.push(Case::new(f, [special]).f32_only());
    }
    let logs =
        [0.0, 1e-30, 0.1, 0.7, 0.71, 1.0, 1.0001, 1.5, 2.0, 1e4, 3.4e38, f64::INFINITY, f64::NAN, -1.0];
    cases.push(Case::new(Unary::Log, [Fill::given(DType::F32, logs).shape([14])]).f32_only());
    // Rounding is exact: ties, subnormals of f16 and what overflows it.
    let ties = [
        1.00048828125,
        1.00146484375,
        65519.0,
        65520.0,
        -65520.0,
        2.98e-8,
        2.99e-8,
        6.1e-5,
        1.00390625,
        1.01171875,
    ];
    for f in [Unary::RoundF16, Unary::RoundBf16] {
        cases.push(Case::new(f, [Fill::given(DType::F32, ties).shape([10])]).f32_only().exact());
    }
    // As part of an epilogue, where the functions are called one after the other.
    let chain = [
        Unary::Softplus,
        Unary::Mish,
        Unary::Elu { alpha: 1.0 },
        Unary::HardSwish,
        Unary::HardSigmoid,
        Unary::Sin,
    ];
    let epilogue = Epilogue { steps: chain.into_iter().map(Step::Unary).collect() };
    for shape in [[3, 8], [3, 9]] {
        cases.push(Case::new(Unary::Neg, [Fill::uniform(-3.0, 3.0).shape(shape)]).epilogue(epilogue.clone()));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn one_float_is_taken() {
        assert!(Unary::Relu.infer(&[TensorDesc::new([2], DType::F16)]).is_ok());
        assert!(Unary::Relu.infer(&[TensorDesc::new([2], DType::I32)]).is_err());
        assert!(Unary::Relu.infer(&[]).is_err());
    }

    #[test]
    fn special_numbers_come_out_as_in_pytorch() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (f, x, y) in [
            (Unary::Relu, -inf, 0.0),
            (Unary::Relu, nan, nan),
            (Unary::RELU6, inf, 6.0),
            (Unary::Gelu, 0.0, 0.0),
            (Unary::Gelu, -inf, nan),
            (Unary::Silu, -inf, nan),
            (Unary::Mish, inf, inf),
            (Unary::Softplus, -inf, 0.0),
            (Unary::Softplus, 1e4, 1e4),
            (Unary::HardSwish, 3.4e38, inf),
            (Unary::Elu { alpha: 1.0 }, -inf, -1.0),
            (Unary::Tanh, -inf, -1.0),
            (Unary::Sin, inf, nan),
        ] {
            let got = f.apply(x);
            assert!(got == y || (got.is_nan() && y.is_nan()), "{f:?}({x}) is {got} and should be {y}");
        }
    }
}
