//! `reduce`: PyTorch's reductions along `dim`, running sums, top-k and sorts.

use kiln_graph::ops::Reduction;

use crate::verify::{OpCase, VerifyError};

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let (x, kind) = (case.input("x")?, case.str("kind")?);
    let rank = case.builder.shape(x).len() as i64;
    let axis = |dim: i64| usize::try_from(if dim < 0 { dim + rank } else { dim }).unwrap_or(usize::MAX);
    let axes: Vec<usize> = match case.opt_ints("dim")? {
        Some(dims) => dims.into_iter().map(axis).collect(),
        None => (0..rank as usize).collect(),
    };
    let last = axes.first().copied().unwrap_or(0);
    let keepdim = case.opt_bool("keepdim")?.unwrap_or(false);
    let b = &mut case.builder;
    let reduction = match kind.as_str() {
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        "prod" => Reduction::Prod,
        "amax" | "max" => Reduction::Max,
        "amin" | "min" => Reduction::Min,
        "var" => Reduction::Var { correction: 1 },
        "var_biased" => Reduction::Var { correction: 0 },
        "std" => Reduction::Std { correction: 1 },
        "std_biased" => Reduction::Std { correction: 0 },
        "logsumexp" => Reduction::LogSumExp,
        "cumsum" => {
            let y = b.cumsum(x, last)?;
            return case.output("y", y);
        }
        "argmax" | "argmin" => {
            let smallest = kind == "argmin";
            let y = b.op(kiln_graph::ops::ArgReduce { axis: last, keepdim, smallest }, &[x])?;
            return case.output("y", y);
        }
        _ => {
            let descending = case.opt_bool("descending")?.unwrap_or(true);
            let b = &mut case.builder;
            let k = kind.strip_prefix("topk").and_then(|k| k.parse().ok());
            let (values, indices) = match k {
                Some(k) => b.top_k(x, k, last)?,
                None if kind == "sort" => b.sort(x, last, descending)?,
                None => return Err(VerifyError::Unsupported(format!("Kiln has no reduction {kind:?}"))),
            };
            case.output("y", values)?;
            return case.output("indices", indices);
        }
    };
    let y = b.reduce(reduction, x, axes, keepdim)?;
    case.output("y", y)
}
