//! What a pipeline is asked for.

use crate::image::Picture;

/// What to make. Start from [`Request::default`].
#[derive(Clone, Debug)]
pub struct Request {
    /// What the pictures are to show.
    pub prompt: String,
    /// What they are not to show.
    pub negative_prompt: String,
    /// Height and width in pixels, multiples of what one code is along a side. The model's own size where it is not given.
    pub size: Option<[usize; 2]>,
    /// Steps.
    pub steps: usize,
    /// Factor of the difference between the model's logits for the prompt and for the negative one. Up to 1 there is no
    /// guidance, and the negative prompt says nothing.
    pub guidance_scale: f32,
    /// How much chance has to say in which codes stay, at the first step and at the last.
    pub temperature: [f32; 2],
    /// The score that pictures of this beauty had in training, about 4 to 7.
    pub aesthetic_score: f32,
    /// Where the picture begins within a larger one, from the top and from the left, as pictures were cropped in training.
    pub crop: [usize; 2],
    /// A seed for each picture.
    pub seeds: Vec<u64>,
    /// A picture to begin with; nothing but masks where there is none.
    pub start: Option<Start>,
}

impl Default for Request {
    /// diffusers' defaults: 12 steps with a guidance of 10, of seed 0.
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative_prompt: String::new(),
            size: None,
            steps: 12,
            guidance_scale: 10.0,
            temperature: [2.0, 0.0],
            aesthetic_score: 6.0,
            crop: [0; 2],
            seeds: vec![0],
            start: None,
        }
    }
}

/// A picture to begin with, as diffusers' `AmusedImg2ImgPipeline` and `AmusedInpaintPipeline` have it.
#[derive(Clone, Debug)]
pub struct Start {
    /// The picture, resized to the request's size where it has another.
    pub picture: Picture,
    /// What is to change, in white; the codes of the rest, in black, stay. Where there is none, as many codes are masked at
    /// random as are masked behind the steps that are left out: at a strength of 1 all of them.
    pub mask: Option<Picture>,
    /// How many of the steps are carried out, as a share of them from 0 to 1.
    pub strength: f64,
}
