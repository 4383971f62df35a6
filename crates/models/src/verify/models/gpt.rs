//! GPT-2 and minGPT: logits of given tokens, and what the likeliest successors make of their beginning.

use kiln_engine::Precision;
use kiln_graph::{DType, Tensor};

use super::{Computed, Family};
use crate::Taps;
use crate::gpt::{Config, Decoder, Gpt};
use crate::verify::{ModelRun, VerifyError};

pub(super) const FAMILY: Family =
    Family { matches: |name| name == "gpt2", nmse: [1e-9, 1e-4], equal: 0.98, reported: |_| false, run };

fn run<'a>(run: &'a ModelRun<'a>) -> Computed<'a> {
    Box::pin(async move {
        let gpt = Gpt::new(Config::from_json(run.config)?, run.weights)?;
        let ids = run.input("input_ids")?.cast(DType::I32);
        let (&[batch, length], Some(tokens)) = (ids.shape(), ids.as_i32()) else {
            let reason = format!("is {} instead of [batch, length]", ids.desc());
            return Err(VerifyError::Tensor { name: "input_ids".into(), reason });
        };
        gpt.check_tokens(tokens)?;
        let rows: Vec<&[i32]> = tokens.chunks(length.max(1)).collect();
        let graph = gpt.graph(batch, length, &Taps::of(&run.layers))?;
        let mut outputs = run.compute(graph, Default::default(), &[("input_ids", ids.clone())]).await?;
        if let Some(greedy) = run.expected.get("greedy") {
            outputs.insert("greedy".into(), greedily(run, gpt, &rows, greedy).await?);
        }
        Ok(outputs)
    })
}

/// The tokens' beginning as far as it is that of the expected ones, and then always the likeliest successor.
///
/// Where the expected one is as likely but for noise, it is taken. In f16 the expected ones are what is continued, each time,
/// since one that differs has others behind it; how many differ has a gate.
async fn greedily(
    run: &ModelRun<'_>,
    gpt: Gpt,
    rows: &[&[i32]],
    expected: &Tensor,
) -> Result<Tensor, VerifyError> {
    let (batch, wanted) = (rows.len(), expected.cast(DType::I32));
    let length = wanted.len().checked_div(batch).unwrap_or(0);
    let wanted: Vec<&[i32]> = wanted.as_i32().unwrap_or_default().chunks(length.max(1)).collect();
    let same = |i: usize| rows.iter().zip(&wanted).all(|(row, wanted)| row.get(i) == wanted.get(i));
    let given = (0..length).take_while(|&i| same(i)).count();
    if given == 0 || wanted.len() != batch {
        let reason = format!("does not begin as the {batch} texts of input_ids do");
        return Err(VerifyError::Tensor { name: "greedy".into(), reason });
    }
    let noise = run.noise.get("logits").copied().unwrap_or(0.0);
    let (device, precision) = (run.device(), run.precision());
    let weights = run.shared();
    let mut decoder =
        Decoder::new(&device, gpt, weights, precision, batch, length, None, &mut |_, _| {}).await?;
    let mut texts: Vec<Vec<i32>> = rows.iter().map(|row| row[..given].to_vec()).collect();
    for i in 0..length.saturating_sub(1) {
        let forced = precision == Precision::F16;
        let fed = if forced { &wanted } else { &texts.iter().map(Vec::as_slice).collect() };
        let next: Vec<i32> = fed.iter().map(|text| text[i]).collect();
        let successors = decoder.push(&next).await?;
        if i + 1 < given {
            continue;
        }
        for ((text, logits), wanted) in texts.iter_mut().zip(&successors).zip(&wanted) {
            let best = likeliest(logits);
            let score = |token: i32| logits.get(token as usize).map_or(f64::NEG_INFINITY, |&v| f64::from(v));
            let tied = !forced && score(best) - score(wanted[i + 1]) <= noise;
            text.push(if tied { wanted[i + 1] } else { best });
        }
    }
    Ok(Tensor::i32([batch, length], texts.concat())?)
}

/// The token with the largest logit, the first of equals.
fn likeliest(logits: &[f32]) -> i32 {
    let better = |best: usize, token: usize| if logits[token] > logits[best] { token } else { best };
    (0..logits.len()).fold(0, better) as i32
}
