//! `norm`: layer, RMS, group, batch, instance and L2 normalisation, as `torch.nn.functional` has them.

use kiln_graph::Value;
use kiln_graph::ops::LayerNorm;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let kind = case.str("kind")?;
    let eps = case.opt_float("eps")?.unwrap_or(1e-5) as f32;
    let weight = optional(case, "w")?;
    let bias = optional(case, "b")?;
    match kind.as_str() {
        "layer_norm" | "rms_norm" => {
            let x = case.input("x")?;
            let axes = match case.opt_ints("normalized_shape")? {
                Some(shape) => shape.len(),
                None => weight.map_or(1, |weight| case.builder.shape(weight).len()),
            };
            let centred = kind == "layer_norm";
            let op = LayerNorm { axes, centred, weight: weight.is_some(), bias: bias.is_some(), eps };
            let inputs: Vec<Value> = [Some(x), weight, bias].into_iter().flatten().collect();
            let y = case.builder.op(op, &inputs)?;
            case.output("y", y)
        }
        "group_norm" => {
            let x = case.image("x")?;
            let groups = case.size("groups")?;
            let y = case.builder.group_norm(x, groups, weight, bias, eps)?;
            case.image_output("y", y)
        }
        "instance_norm" => {
            let x = case.image("x")?;
            let y = case.builder.instance_norm(x, weight, bias, eps)?;
            case.image_output("y", y)
        }
        kind if kind.starts_with("batch_norm") => {
            let x = case.image("x")?;
            let (mean, variance) = (case.weight("mean")?, case.weight("var")?);
            let y = case.builder.batch_norm(x, weight, bias, mean, variance, eps)?;
            case.image_output("y", y)
        }
        "l2_normalize" => {
            let x = case.input("x")?;
            let axis = case.opt_int("dim")?.unwrap_or(1) as isize;
            let y = case.builder.l2_normalize(x, axis, eps)?;
            case.output("y", y)
        }
        kind => Err(VerifyError::Unsupported(format!("Kiln has no {kind:?}"))),
    }
}

fn optional(case: &mut OpCase, name: &str) -> Result<Option<Value>, VerifyError> {
    if case.has(name) { Ok(Some(case.weight(name)?)) } else { Ok(None) }
}
