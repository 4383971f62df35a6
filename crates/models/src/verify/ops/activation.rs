//! `activation`: element-wise functions of `torch` and `torch.nn.functional`, and gated linear units.

use kiln_graph::ops::Unary;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let name = case.str("fn")?;
    let x = case.input("x")?;
    let y = match name.as_str() {
        "glu" => gate(case, Unary::Sigmoid)?,
        "geglu" => gate(case, Unary::Gelu)?,
        "swiglu" => gate(case, Unary::Silu)?,
        name => {
            let function = function(name)
                .ok_or_else(|| VerifyError::Unsupported(format!("Kiln has no function {name:?}")))?;
            case.builder.unary(function, x)?
        }
    };
    case.output("y", y)
}

fn gate(case: &mut OpCase, function: Unary) -> Result<kiln_graph::Value, VerifyError> {
    let x = case.input("x")?;
    let last = case.desc("x")?.rank() as i64 - 1;
    match case.opt_int("dim")? {
        Some(dim) if dim != -1 && dim != last => {
            Err(VerifyError::Unsupported(format!("gates split the last axis, not axis {dim}")))
        }
        _ => Ok(case.builder.gate(x, function)?),
    }
}

/// A function by the name that PyTorch gives it; a number after `leaky_relu_` is the slope, after `elu_` alpha.
fn function(name: &str) -> Option<Unary> {
    Some(match name {
        "gelu" => Unary::Gelu,
        "gelu_tanh" => Unary::GeluTanh,
        "quick_gelu" => Unary::QuickGelu,
        "silu" | "swish" => Unary::Silu,
        "relu" => Unary::Relu,
        "relu6" => Unary::RELU6,
        "sigmoid" => Unary::Sigmoid,
        "tanh" => Unary::Tanh,
        "softplus" => Unary::Softplus,
        "log1p_exp" => Unary::Log1pExp,
        "mish" => Unary::Mish,
        "hardswish" => Unary::HardSwish,
        "hardsigmoid" => Unary::HardSigmoid,
        "leaky_relu" => Unary::LeakyRelu { slope: 0.01 },
        "elu" => Unary::Elu { alpha: 1.0 },
        "exp" => Unary::Exp,
        "expm1" => Unary::Expm1,
        "log" => Unary::Log,
        "erf" => Unary::Erf,
        "sin" => Unary::Sin,
        "cos" => Unary::Cos,
        "sqrt" => Unary::Sqrt,
        "rsqrt" => Unary::Rsqrt,
        "abs" => Unary::Abs,
        "neg" => Unary::Neg,
        "square" => Unary::Square,
        "reciprocal" => Unary::Reciprocal,
        "floor" => Unary::Floor,
        "ceil" => Unary::Ceil,
        "round" => Unary::Round,
        _ => {
            let number = |prefix| name.strip_prefix(prefix).and_then(|text: &str| text.parse().ok());
            if let Some(slope) = number("leaky_relu_") {
                Unary::LeakyRelu { slope }
            } else {
                Unary::Elu { alpha: number("elu_")? }
            }
        }
    })
}
