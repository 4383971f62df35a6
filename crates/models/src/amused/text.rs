//! Prompts as what the model is conditioned on.

use std::collections::BTreeSet;

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor};

use crate::clip_text::{ClipText, Prompts};
use crate::prepared::Prepared;
use crate::prompt::Prompt;
use crate::weights::SharedWeights;
use crate::{Device, Error, Runner, Taps};

/// What goes into the last layer, and what a prompt is as a whole.
const OUTPUTS: [&str; 2] = ["mid.penultimate", "text_embeds"];

/// A text encoder on a device.
pub(super) struct TextEncoder {
    clip: ClipText,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    prepared: Prepared<Prompts>,
}

/// What prompts come to, one row a prompt.
pub(super) struct Encoded {
    /// `[prompts, tokens, width]`.
    states: Tensor,
    /// `[prompts, width]`.
    pooled: Tensor,
}

/// What each picture is conditioned on; with guidance, all of the negative prompts first.
pub(super) struct Conditions {
    states: Tensor,
    pooled: Tensor,
    micro_conds: Tensor,
}

impl TextEncoder {
    /// [`Error::Config`] where the encoder has no projection.
    pub fn new(
        clip: ClipText,
        weights: SharedWeights,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        if clip.config().projection_dim == 0 || clip.config().num_hidden_layers == 0 {
            return Err(Error::Config("the text encoder has no projection, which aMUSEd wants".into()));
        }
        Ok(Self { clip, weights, device, precision, prepared: Prepared::new() })
    }

    /// Refuses prompts that the encoder cannot read.
    pub fn check(&self, prompts: &[Prompt]) -> Result<(), Error> {
        prompts.iter().try_for_each(|prompt| self.clip.prompts(&prompt.input_ids()?).map(|_| ()))
    }

    /// The negative prompt and the prompt, or where nothing leads the prompt alone.
    pub async fn encode(&mut self, prompts: &[Prompt; 2], guided: bool) -> Result<Encoded, Error> {
        let [negative, prompt] = prompts;
        let wanted = if guided { vec![negative, prompt] } else { vec![prompt] };
        let mut ids = Vec::new();
        for prompt in &wanted {
            ids.extend_from_slice(prompt.input_ids()?.as_i32().unwrap_or_default());
        }
        let ids = Tensor::i32([wanted.len(), ids.len() / wanted.len()], ids).map_err(GraphError::from)?;
        let shape = self.clip.prompts(&ids)?;
        let (clip, device, weights, precision) = (&self.clip, &self.device, &self.weights, self.precision);
        let make = async {
            let graph = clip.graph(shape, &Taps::of(["penultimate"]))?;
            let graph = kiln_graph::passes::select_outputs(graph, &OUTPUTS)?;
            Runner::new(device, &graph, weights.clone(), precision, BTreeSet::new(), &mut |_, _| {}).await
        };
        let (_, runner) = self.prepared.get(shape, |other| *other == shape, make).await?;
        let mut outputs = runner.run(&[("input_ids", ids)]).await?.into_iter();
        match (outputs.next(), outputs.next()) {
            (Some(states), Some(pooled)) => Ok(Encoded { states, pooled }),
            _ => Err(Error::Input("the text encoder gave nothing".into())),
        }
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) {
        self.prepared.clear();
        self.device = device;
    }

    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }
}

impl Encoded {
    /// The same prompts for each of a batch of pictures, all of which are described by the same numbers.
    pub fn conditions(&self, batch: usize, micro_conds: &[f32]) -> Result<Conditions, Error> {
        let rows = self.pooled.shape().first().copied().unwrap_or(0) * batch;
        let micro = micro_conds.repeat(rows);
        Ok(Conditions {
            states: repeated(&self.states, batch)?,
            pooled: repeated(&self.pooled, batch)?,
            micro_conds: Tensor::f32([rows, micro_conds.len()], micro).map_err(GraphError::from)?,
        })
    }
}

impl Conditions {
    /// Tokens of a prompt.
    pub fn tokens(&self) -> usize {
        self.states.shape().get(1).copied().unwrap_or(0)
    }

    /// The model's inputs besides the codes.
    pub fn inputs(&self) -> [(&'static str, Tensor); 3] {
        [
            ("encoder_hidden_states", self.states.clone()),
            ("pooled_text_emb", self.pooled.clone()),
            ("micro_conds", self.micro_conds.clone()),
        ]
    }
}

/// Each row as many times.
fn repeated(tensor: &Tensor, times: usize) -> Result<Tensor, Error> {
    let (mut shape, values) = (tensor.shape().to_vec(), tensor.to_f32());
    let row: usize = shape.iter().skip(1).product();
    if let Some(first) = shape.first_mut() {
        *first *= times;
    }
    let rows = values.chunks(row.max(1)).flat_map(|row| std::iter::repeat_n(row, times)).flatten();
    Ok(Tensor::f32(shape, rows.copied().collect()).map_err(GraphError::from)?)
}
