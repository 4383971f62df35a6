//! Token after token on a device.

use kiln_engine::Precision;
use kiln_graph::{DType, GraphError, Tensor};

use super::Gpt;
use crate::weights::SharedWeights;
use crate::{Device, Error, Runner};

/// What a token's successors score: a row of logits for each text, minus infinity where a token is not among the largest that
/// were asked for.
pub type Successors = Vec<Vec<f32>>;

/// Texts that grow by a token at a time, with a cache of keys and values on the device. It is compiled once, for a number of
/// texts and the longest of them; a token takes one run, at whatever place.
pub struct Decoder {
    gpt: Gpt,
    runner: Runner,
    batch: usize,
    capacity: usize,
    position: usize,
}

impl Decoder {
    /// Compiles a step for `batch` texts of at most `capacity` tokens. With `top_k` no more than so many logits of each are
    /// read back. `progress` hears of (done, in all) of pipelines and steps.
    #[allow(clippy::too_many_arguments)]
    pub async fn new(
        device: &Device,
        gpt: Gpt,
        weights: SharedWeights,
        precision: Precision,
        batch: usize,
        capacity: usize,
        top_k: Option<usize>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, Error> {
        let graph = gpt.step_graph(batch, capacity, top_k)?;
        let runner = Runner::new(device, &graph, weights, precision, Default::default(), progress).await?;
        Ok(Self { gpt, runner, batch, capacity, position: 0 })
    }

    /// Tokens of each text so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Begins anew with empty texts.
    pub fn restart(&mut self) {
        // What the cache holds behind the position is never looked at.
        self.position = 0;
    }

    /// Adds a token to each text, and gives its successors. [`Error::Input`] where the texts are full, or a token is none of
    /// the vocabulary.
    pub async fn push(&mut self, tokens: &[i32]) -> Result<Successors, Error> {
        let (batch, capacity) = (self.batch, self.capacity);
        if tokens.len() != batch {
            let count = tokens.len();
            return Err(Error::Input(format!("{count} tokens do not continue {batch} texts")));
        }
        if self.position >= capacity {
            return Err(Error::Input(format!("the texts are full with {capacity} tokens")));
        }
        self.gpt.check_tokens(tokens)?;
        let position = Tensor::u32([], vec![self.position as u32]).map_err(GraphError::from)?;
        let inputs = [("input_ids", ids([batch, 1], tokens.to_vec())?), ("position", position)];
        // The first run finds what leaves f16's range; to look for that behind each token would cost more than the token.
        let outputs = match self.position {
            0 => self.runner.run(&inputs).await?,
            _ => self.runner.run_unchecked(&inputs).await?,
        };
        self.position += 1;
        successors(outputs, self.gpt.config().vocab_size)
    }

    /// The runner, for what is known of its memory and time.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }
}

/// The successors of any token of texts that are given whole, without a cache: for texts that change before their ends, and
/// for windows that move.
pub struct Window {
    gpt: Gpt,
    runner: Runner,
    batch: usize,
    length: usize,
}

impl Window {
    /// Compiles it for `batch` texts of `length` tokens.
    #[allow(clippy::too_many_arguments)]
    pub async fn new(
        device: &Device,
        gpt: Gpt,
        weights: SharedWeights,
        precision: Precision,
        batch: usize,
        length: usize,
        top_k: Option<usize>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, Error> {
        let graph = gpt.window_graph(batch, length, top_k)?;
        let runner = Runner::new(device, &graph, weights, precision, Default::default(), progress).await?;
        Ok(Self { gpt, runner, batch, length })
    }

    /// The successors of the last token of each text, all of one length, up to that which it was compiled for.
    pub async fn successors(&mut self, texts: &[Vec<i32>]) -> Result<Successors, Error> {
        let (batch, length) = (self.batch, self.length);
        let given = texts.first().map_or(0, Vec::len);
        if texts.len() != batch
            || given == 0
            || given > length
            || texts.iter().any(|text| text.len() != given)
        {
            let count = texts.len();
            return Err(Error::Input(format!(
                "{count} texts of {given} tokens are not {batch} of one length up to {length}"
            )));
        }
        let mut tokens = Vec::with_capacity(batch * length);
        for text in texts {
            self.gpt.check_tokens(text)?;
            tokens.extend(text);
            tokens.resize(tokens.len() + length - given, 0);
        }
        let last = ids([1], vec![given as i32 - 1])?;
        let inputs = [("input_ids", ids([batch, length], tokens)?), ("last", last)];
        successors(self.runner.run(&inputs).await?, self.gpt.config().vocab_size)
    }

    /// The runner, for what is known of its memory and time.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }
}

fn ids(shape: impl Into<Vec<usize>>, tokens: Vec<i32>) -> Result<Tensor, Error> {
    Ok(Tensor::i32(shape, tokens).map_err(GraphError::from)?)
}

/// Rows of all logits of a graph's outputs.
fn successors(outputs: Vec<Tensor>, vocab: usize) -> Result<Successors, Error> {
    let (logits, tokens) = match &outputs[..] {
        [logits] => (logits, None),
        [logits, tokens] => (logits, Some(tokens.cast(DType::I32))),
        _ => return Err(Error::Input("there are no logits".into())),
    };
    let width = logits.shape().last().copied().unwrap_or(0).max(1);
    let values = logits.to_f32();
    if values.iter().any(|value| value.is_nan()) {
        return Err(Error::Input(
            "logits are not numbers: the model's activations left the range of floats".into(),
        ));
    }
    let rows = values.chunks(width);
    let Some(tokens) = tokens else { return Ok(rows.map(<[f32]>::to_vec).collect()) };
    let place = |(values, tokens): (&[f32], &[i32])| {
        let mut row = vec![f32::NEG_INFINITY; vocab];
        for (&value, &token) in values.iter().zip(tokens) {
            if let Some(logit) = usize::try_from(token).ok().and_then(|token| row.get_mut(token)) {
                *logit = value;
            }
        }
        row
    };
    Ok(rows.zip(tokens.as_i32().unwrap_or_default().chunks(width)).map(place).collect())
}
