//! What a pipeline is asked for.

use crate::image::Picture;
use crate::prompt::Syntax;

/// What to make. Start from [`Request::default`].
#[derive(Clone, Debug)]
pub struct Request {
    /// What the pictures are to show.
    pub prompt: String,
    /// What they are not to show.
    pub negative_prompt: String,
    /// How prompts are read.
    pub syntax: Syntax,
    /// How many of the text encoder's last layers are left out: as diffusers has it for the prompt alone, and as the web UI has
    /// it, with [`Syntax::Weighted`], for the negative prompt too.
    pub clip_skip: usize,
    /// Height and width in pixels, multiples of what one of the latents is along a side: 8 for Stable Diffusion. The model's own
    /// size where it is not given.
    pub size: Option<[usize; 2]>,
    /// Steps of the scheduler.
    pub steps: usize,
    /// Factor of the difference between the model's outputs for the prompt and for the negative one. Up to 1 there is no
    /// guidance, and the negative prompt says nothing.
    pub guidance_scale: f32,
    /// How much of the spread of the prompt's output the guided one gets back, from 0 to 1.
    pub guidance_rescale: f32,
    /// DDIM's share of fresh noise, from 0 to 1.
    pub eta: f64,
    /// Class of the scheduler, with the settings of the folder's; the folder's own where it is not given.
    pub scheduler: Option<String>,
    /// Whether the noise levels are those of "Elucidating the Design Space of Diffusion-Based Generative Models" (Karras et al.
    /// 2022, <https://arxiv.org/abs/2206.00364>); as the folder has it where it is not given.
    pub karras: Option<bool>,
    /// A seed for each picture.
    pub seeds: Vec<u64>,
    /// A picture to begin with; noise alone where there is none.
    pub start: Option<Start>,
}

impl Request {
    /// Layers left out for the negative prompt.
    pub(super) fn negative_clip_skip(&self) -> usize {
        match self.syntax {
            Syntax::Plain => 0,
            Syntax::Weighted => self.clip_skip,
        }
    }
}

impl Default for Request {
    /// diffusers' defaults: 50 steps with a guidance of 7.5, of seed 0.
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative_prompt: String::new(),
            syntax: Syntax::Plain,
            clip_skip: 0,
            size: None,
            steps: 50,
            guidance_scale: 7.5,
            guidance_rescale: 0.0,
            eta: 0.0,
            scheduler: None,
            karras: None,
            seeds: vec![0],
            start: None,
        }
    }
}

/// A picture to begin with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The picture, resized to the request's size where it has another.
    pub picture: Picture,
    /// How much of the schedule is carried out, from 0 to 1: at 1 a picture is made of noise, and little of the given one is
    /// left.
    pub strength: f64,
    /// What is to change, in white; the rest, in black, stays. All of it changes where there is none.
    pub mask: Option<Picture>,
}
