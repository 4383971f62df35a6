//! Code after code.

use kiln_graph::sampling::Sampler;

use super::request::{Completion, Progress, Request, Sample, Watch};
use super::{Compiled, Vqgan, window};
use crate::code_codec::CodeMap;
use crate::gpt::{Decoder, Window};
use crate::image::{Filter, Picture, fill};
use crate::{Device, Error};

/// Most codes of a picture.
const MAX_CODES: usize = 1 << 16;

/// Pictures that are being written.
struct Writing {
    /// Height and width in codes.
    grid: [usize; 2],
    /// The conditions' tokens.
    before: Vec<Vec<u32>>,
    /// The codes so far.
    codes: Vec<Vec<u32>>,
    samplers: Vec<Sampler>,
}

impl Vqgan {
    /// Refuses a request that cannot be served.
    pub fn admit(&self, request: &Request) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Input(reason));
        let (pictures, conditions) = (request.seeds.len(), request.conditions.len());
        if pictures == 0 || (conditions != 1 && conditions != pictures) {
            return wrong(format!(
                "{conditions} conditions are neither one nor those of {pictures} pictures"
            ));
        }
        request.conditions.iter().try_for_each(|condition| self.conditioner.admit(condition))?;
        let ([height, width], [least_height, least_width]) = (self.size(request), self.grid());
        if height < least_height || width < least_width {
            return wrong(format!(
                "pictures of {width}x{height} codes are smaller than the {least_width}x{least_height} that the model writes"
            ));
        }
        if height.saturating_mul(width) > MAX_CODES {
            return wrong(format!("pictures of {width}x{height} codes have more than {MAX_CODES}"));
        }
        if let Some(completion) = request.completion.as_ref().filter(|completion| completion.rows > height) {
            return wrong(format!("{} rows of {height} cannot stay", completion.rows));
        }
        let sampling = request.sampling;
        if !(sampling.temperature >= 0.0 && sampling.temperature.is_finite()) {
            return wrong(format!("a temperature of {} is none", sampling.temperature));
        }
        match sampling.top_p {
            Some(p) if !(0.0..=1.0).contains(&p) => wrong(format!("a top-p of {p} is no share")),
            _ => Ok(()),
        }
    }

    fn size(&self, request: &Request) -> [usize; 2] {
        request.grid.unwrap_or_else(|| self.grid())
    }

    /// Makes pictures. Each is what it would be alone, but for rounding.
    pub async fn sample(&mut self, request: &Request, watch: &mut dyn Watch) -> Result<Vec<Sample>, Error> {
        self.admit(request)?;
        let grid = self.size(request);
        let given = match &request.completion {
            Some(completion) => self.beginning(completion, grid).await?,
            None => Vec::new(),
        };
        let mut before = Vec::new();
        for condition in &request.conditions {
            before.push(self.conditioner.encode(condition, grid, &mut self.codec).await?);
        }
        if let [all] = &before[..] {
            before = vec![all.clone(); request.seeds.len()];
        }
        let samplers = request.seeds.iter().map(|&seed| Sampler::new(request.sampling, seed)).collect();
        let mut writing = Writing { grid, before, codes: vec![given; request.seeds.len()], samplers };
        if grid == self.grid() {
            self.write(&mut writing, request, watch).await?;
        } else {
            self.write_through_window(&mut writing, request, watch).await?;
        }
        let mut samples = Vec::new();
        for codes in writing.codes {
            let codes = self.map(grid, codes)?;
            let picture = self.codec.decode(&codes).await?;
            samples.push(Sample { codes, picture });
        }
        Ok(samples)
    }

    /// With a cache: each token is pushed once.
    async fn write(
        &mut self,
        writing: &mut Writing,
        request: &Request,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let codes = writing.grid[0] * writing.grid[1];
        let first = writing.before.first().map_or(0, Vec::len);
        let compiled = self.compiled(request, first + codes - 1);
        let mut decoder = match self.decoder.take().filter(|(other, _)| *other == compiled) {
            Some((_, decoder)) => decoder,
            None => self.new_decoder(compiled).await?,
        };
        decoder.restart();
        for i in 0..first + codes - 1 {
            if writing.codes.first().is_some_and(|codes_| codes_.len() == codes) {
                break;
            }
            let token = |(before, codes): (&Vec<u32>, &Vec<u32>)| {
                let token = before.get(i).or_else(|| codes.get(i.checked_sub(first)?));
                token.map_or(-1, |&token| token as i32)
            };
            let tokens: Vec<i32> = writing.before.iter().zip(&writing.codes).map(token).collect();
            let successors = decoder.push(&tokens).await?;
            if i + 1 >= first + writing.codes.first().map_or(0, Vec::len) {
                self.choose(writing, &successors, watch).await?;
            }
        }
        self.decoder = Some((compiled, decoder));
        Ok(())
    }

    /// Through a window that moves over the pictures: all of it is computed for each code.
    async fn write_through_window(
        &mut self,
        writing: &mut Writing,
        request: &Request,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let ([height, width], seen) = (writing.grid, self.grid());
        let codes = seen[0] * seen[1];
        let compiled = self.compiled(request, self.conditioner.tokens(codes) + codes - 1);
        let mut compiled_window = match self.window.take().filter(|(other, _)| *other == compiled) {
            Some((_, window)) => window,
            None => self.new_window(compiled).await?,
        };
        for i in writing.codes.first().map_or(0, Vec::len)..height * width {
            let start = window::place([i / width, i % width], [height, width], seen);
            let texts = writing.before.iter().zip(&writing.codes).map(|(before, codes)| {
                let mut text = match before.len() {
                    1 => before.clone(),
                    _ => window::cut(before, width, start, seen),
                };
                // The codes of the window before this one.
                let within = (i / width - start[0]) * seen[1] + i % width - start[1];
                text.extend(window::cut(codes, width, start, seen).iter().take(within));
                text.into_iter().map(|token| token as i32).collect()
            });
            let texts: Vec<Vec<i32>> = texts.collect();
            let successors = compiled_window.successors(&texts).await?;
            self.choose(writing, &successors, watch).await?;
        }
        self.window = Some((compiled, compiled_window));
        Ok(())
    }

    /// Draws a code of each picture, and tells of it.
    async fn choose(
        &mut self,
        writing: &mut Writing,
        successors: &[Vec<f32>],
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        let codebook = self.codec.codebook().size as usize;
        for ((codes, sampler), logits) in writing.codes.iter_mut().zip(&mut writing.samplers).zip(successors)
        {
            // What the vocabulary has besides codes is no part of a picture.
            let logits = logits.get(..codebook).unwrap_or(logits);
            let code =
                sampler.sample(logits).ok_or_else(|| Error::Input("no code is likely at all".into()))?;
            codes.push(code as u32);
        }
        let ([height, width], done) = (writing.grid, writing.codes.first().map_or(0, Vec::len));
        let row_is_done = done.is_multiple_of(width) && done < height * width;
        let pictures = match row_is_done && watch.wants(done / width) {
            true => Some(self.so_far(writing).await?),
            false => None,
        };
        let progress = Progress { done, codes: height * width, pictures };
        match watch.see(progress).is_break() {
            true => Err(kiln_engine::Error::Cancelled.into()),
            false => Ok(()),
        }
    }

    /// The pictures whose last rows are not there yet.
    async fn so_far(&mut self, writing: &Writing) -> Result<Vec<Picture>, Error> {
        let [height, width] = writing.grid;
        let factor = self.spatial_factor();
        let mut pictures = Vec::new();
        for codes in &writing.codes {
            let mut whole = codes.clone();
            whole.resize(height * width, 0);
            let map = self.map(writing.grid, whole)?;
            let mut picture = self.codec.decode(&map).await?;
            let done = codes.len() / width.max(1) * factor * picture.width * 3;
            picture.rgb.iter_mut().skip(done).for_each(|value| *value = 0);
            pictures.push(picture);
        }
        Ok(pictures)
    }

    fn map(&self, grid: [usize; 2], codes: Vec<u32>) -> Result<CodeMap, Error> {
        let factor = self.spatial_factor();
        Ok(CodeMap::new(grid, codes, grid.map(|side| side * factor), self.codec.codebook())?)
    }

    /// The codes of what is there of a picture.
    async fn beginning(&mut self, completion: &Completion, grid: [usize; 2]) -> Result<Vec<u32>, Error> {
        let [height, width] = grid.map(|side| side * self.spatial_factor());
        let picture = fill(&completion.picture, width, height, Filter::Lanczos);
        let codes = self.codec.encode(&picture).await?;
        Ok(codes.codes().iter().take(completion.rows * grid[1]).copied().collect())
    }

    fn compiled(&self, request: &Request, tokens: usize) -> Compiled {
        // Where the vocabulary has more than codes, some of the largest might be none.
        let all_are_codes = self.codec.codebook().size as usize == self.gpt.config().vocab_size;
        // Reading back is a copy in the same memory there, and to look for the largest costs more.
        let at_hand = match &self.device {
            Device::Cpu => true,
            Device::Gpu(gpu) => gpu.tier().software,
        };
        let top_k = match request.sampling.temperature {
            0.0 => Some(1),
            _ => request.sampling.top_k,
        };
        Compiled { batch: request.seeds.len(), tokens, top_k: top_k.filter(|_| all_are_codes && !at_hand) }
    }

    async fn new_decoder(&self, compiled: Compiled) -> Result<Decoder, Error> {
        let Compiled { batch, tokens, top_k } = compiled;
        let (gpt, weights) = (self.gpt.clone(), self.weights.clone());
        Decoder::new(&self.device, gpt, weights, self.precision, batch, tokens, top_k, &mut |_, _| {}).await
    }

    async fn new_window(&self, compiled: Compiled) -> Result<Window, Error> {
        let Compiled { batch, tokens, top_k } = compiled;
        let (gpt, weights) = (self.gpt.clone(), self.weights.clone());
        Window::new(&self.device, gpt, weights, self.precision, batch, tokens, top_k, &mut |_, _| {}).await
    }
}
