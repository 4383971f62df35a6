//! Prompts as embeddings.

use std::collections::BTreeSet;

use kiln_engine::Precision;
use kiln_graph::{GraphError, Tensor};

use crate::clip_text::{ClipText, Prompts};
use crate::prepared::Prepared;
use crate::prompt::Prompt;
use crate::weights::SharedWeights;
use crate::{Device, Error, Runner, Taps};

/// A text encoder on a device.
pub(super) struct TextEncoder {
    clip: ClipText,
    weights: SharedWeights,
    device: Device,
    precision: Precision,
    prepared: Prepared<Prompts>,
}

impl TextEncoder {
    pub fn new(clip: ClipText, weights: SharedWeights, device: Device, precision: Precision) -> Self {
        Self { clip, weights, device, precision, prepared: Prepared::new() }
    }

    /// Refuses prompts that the encoder cannot read.
    pub fn check(&self, prompts: &[Prompt], clip_skip: usize) -> Result<(), Error> {
        for prompt in prompts {
            self.clip.prompts(&prompt.input_ids()?)?;
        }
        let layers = self.clip.config().num_hidden_layers;
        if clip_skip >= layers {
            return Err(Error::Input(format!(
                "of {layers} layers of the text encoder, {clip_skip} are left out"
            )));
        }
        Ok(())
    }

    /// A prompt's embeddings, `[1, tokens, width]`.
    pub async fn encode(&mut self, prompt: &Prompt, clip_skip: usize) -> Result<Tensor, Error> {
        let ids = prompt.input_ids()?;
        let prompts = Prompts { clip_skip, ..self.clip.prompts(&ids)? };
        let (clip, device, weights, precision) = (&self.clip, &self.device, &self.weights, self.precision);
        let make = async {
            let graph = clip.graph(prompts, &Taps::none())?;
            let graph = kiln_graph::passes::select_outputs(graph, &["last_hidden_state"])?;
            Runner::new(device, &graph, weights.clone(), precision, BTreeSet::new(), &mut |_, _| {}).await
        };
        let (_, runner) = self.prepared.get(prompts, |other| *other == prompts, make).await?;
        let hidden = runner.run(&[("input_ids", ids)]).await?.into_iter().next();
        let missing = || GraphError::Value {
            what: "output",
            name: "last_hidden_state".into(),
            reason: "was not computed".into(),
        };
        Ok(prompt.weigh(&hidden.ok_or_else(missing)?)?)
    }

    /// Goes on on another device.
    pub fn set_device(&mut self, device: Device) {
        self.release();
        self.device = device;
    }

    /// Lets go of what is compiled.
    pub fn release(&mut self) {
        self.prepared.clear();
    }

    pub fn kept_f32(&self) -> BTreeSet<String> {
        self.prepared.runners().flat_map(|runner| runner.kept_f32().clone()).collect()
    }
}
