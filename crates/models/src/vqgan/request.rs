//! What is asked for, and what comes of it.

use std::ops::ControlFlow;

use kiln_graph::sampling::Sampling;

use super::Condition;
use crate::code_codec::CodeMap;
use crate::image::Picture;

/// Pictures to be made.
#[derive(Clone, Debug)]
pub struct Request {
    /// What each picture is to show, or all of them where there is one alone.
    pub conditions: Vec<Condition>,
    /// A seed for each picture.
    pub seeds: Vec<u64>,
    /// Height and width in codes; those that the model was trained on where it is not given. Larger pictures are written
    /// through a window.
    pub grid: Option<[usize; 2]>,
    /// How a code is chosen of what is likely.
    pub sampling: Sampling,
    /// A picture that is there in part.
    pub completion: Option<Completion>,
}

/// A picture whose upper part stays: the model writes the rest.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The picture. It is cut in the middle and resized to the size that is asked for.
    pub picture: Picture,
    /// How many rows of codes stay.
    pub rows: usize,
}

impl Default for Request {
    /// One picture of seed 0, its codes drawn of the 100 that are likeliest, as the paper's code has it.
    fn default() -> Self {
        let sampling = Sampling { top_k: Some(100), ..Sampling::default() };
        Self { conditions: vec![Condition::None], seeds: vec![0], grid: None, sampling, completion: None }
    }
}

/// A picture that was made.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its codes.
    pub codes: CodeMap,
    /// The picture of them.
    pub picture: Picture,
}

/// How far pictures are.
#[derive(Debug)]
pub struct Progress {
    /// Codes of each picture that are written.
    pub done: usize,
    /// Those of a whole picture.
    pub codes: usize,
    /// The pictures so far, black where nothing is written yet, where they were wanted.
    pub pictures: Option<Vec<Picture>>,
}

/// Who hears of codes.
pub trait Watch {
    /// Whether the pictures so far are wanted when so many rows of codes are written: they are then decoded.
    fn wants(&self, rows: usize) -> bool;

    /// A code of each picture is written. Breaking ends it with [`kiln_engine::Error::Cancelled`].
    fn see(&mut self, progress: Progress) -> ControlFlow<()>;
}

/// Nobody.
impl Watch for () {
    fn wants(&self, _: usize) -> bool {
        false
    }

    fn see(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
