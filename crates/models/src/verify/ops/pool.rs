//! `pool`: PyTorch's 2-d pools and `max_unpool2d`.

use kiln_graph::ops::{AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d, MaxUnpool2d};
use serde_json::Value as Json;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let kind = case.str("kind")?;
    match kind.as_str() {
        "max" => {
            let kernel_size = case.pair("kernel")?;
            let pool = MaxPool2d {
                kernel_size,
                stride: case.opt_pair("stride")?.unwrap_or(kernel_size),
                padding: case.opt_pair("padding")?.unwrap_or([0; 2]),
                dilation: case.opt_pair("dilation")?.unwrap_or([1; 2]),
                ceil_mode: case.opt_bool("ceil_mode")?.unwrap_or(false),
                return_indices: true,
            };
            let x = case.image("x")?;
            let (y, indices) = case.builder.max_pool2d_with_indices(x, pool)?;
            case.image_output("y", y)?;
            case.image_output("indices", indices)
        }
        "avg" => {
            let kernel_size = case.pair("kernel")?;
            let divisor = case.opt_size("divisor_override")?.map(u32::try_from).transpose();
            let pool = AvgPool2d {
                kernel_size,
                stride: case.opt_pair("stride")?.unwrap_or(kernel_size),
                padding: case.opt_pair("padding")?.unwrap_or([0; 2]),
                ceil_mode: case.opt_bool("ceil_mode")?.unwrap_or(false),
                count_include_pad: case.opt_bool("count_include_pad")?.unwrap_or(true),
                divisor_override: divisor.map_err(|_| VerifyError::Param {
                    name: "divisor_override".into(),
                    reason: "is too large".into(),
                })?,
            };
            let x = case.image("x")?;
            let y = case.builder.avg_pool2d(x, pool)?;
            case.image_output("y", y)
        }
        "adaptive_avg" => {
            let pool = AdaptiveAvgPool2d { output_size: output_size(case)? };
            let x = case.image("x")?;
            let y = case.builder.op(pool, &[x])?;
            case.image_output("y", y)
        }
        "adaptive_max" => {
            let pool = AdaptiveMaxPool2d { output_size: output_size(case)?, return_indices: true };
            let x = case.image("x")?;
            let outputs = case.builder.op_all(pool, &[x])?;
            for (name, output) in ["y", "indices"].into_iter().zip(outputs) {
                case.image_output(name, output)?;
            }
            Ok(())
        }
        "max_unpool" => {
            let (x, indices) = (case.image("x")?, case.image("indices")?);
            let size = match case.opt_ints("output_size")?.as_deref() {
                // The leading axes are the input's own.
                Some([.., height, width]) => [size(*height)?, size(*width)?],
                _ => {
                    let kernel = case.pair("kernel")?;
                    let stride = case.opt_pair("stride")?.unwrap_or(kernel);
                    let padding = case.opt_pair("padding")?.unwrap_or([0; 2]);
                    let &[_, height, width, _] = case.builder.shape(x) else {
                        return Err(VerifyError::Unsupported("Kiln unpools images alone".into()));
                    };
                    MaxUnpool2d::size_of([height, width], kernel, stride, padding)
                }
            };
            let y = case.builder.max_unpool2d(x, indices, size)?;
            case.image_output("y", y)
        }
        _ => Err(VerifyError::Unsupported(format!("Kiln has no pool {kind:?}"))),
    }
}

fn size(value: i64) -> Result<usize, VerifyError> {
    usize::try_from(value)
        .map_err(|_| VerifyError::Param { name: "output_size".into(), reason: format!("has {value}") })
}

/// Rows and columns; null stands for the input's.
fn output_size(case: &OpCase) -> Result<[Option<usize>; 2], VerifyError> {
    let wrong = || VerifyError::Param {
        name: "output_size".into(),
        reason: "should be an integer or two, or null for the input's".into(),
    };
    let one = |value: &Json| match value {
        Json::Null => Ok(None),
        _ => value.as_u64().and_then(|v| usize::try_from(v).ok()).map(Some).ok_or_else(wrong),
    };
    match case.params().get("output_size") {
        Some(Json::Array(list)) => match &list[..] {
            [height, width] => Ok([one(height)?, one(width)?]),
            [both] => Ok([one(both)?; 2]),
            _ => Err(wrong()),
        },
        Some(both) => Ok([one(both)?; 2]),
        None => Err(wrong()),
    }
}
