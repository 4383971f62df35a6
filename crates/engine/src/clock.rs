//! Where compiling spends its time.

use std::cell::Cell;

use kiln_graph::{GraphError, Tensor, WeightSource};

/// Seconds that compiling took, by what they went into; zeros on wasm32, where there is no clock to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CompileTimes {
    /// Reading or making weights.
    pub weights: f64,
    /// Trying launches out.
    pub tuning: f64,
    /// Building pipelines, in drivers' compilers mostly.
    pub pipelines: f64,
    /// Everything else: planning, computing constants, changing their layout, uploading.
    pub packing: f64,
}

impl CompileTimes {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.weights + self.tuning + self.pipelines + self.packing
    }
}

/// Measures seconds from when it was started.
pub(crate) struct Stopwatch {
    #[cfg(not(target_arch = "wasm32"))]
    start: std::time::Instant,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self {
            #[cfg(not(target_arch = "wasm32"))]
            start: std::time::Instant::now(),
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    #[cfg(target_arch = "wasm32")]
    pub fn seconds(&self) -> f64 {
        0.0
    }
}

/// Weights, and the seconds it took to get them.
pub(crate) struct TimedWeights<'a> {
    weights: &'a dyn WeightSource,
    seconds: Cell<f64>,
}

impl<'a> TimedWeights<'a> {
    pub fn new(weights: &'a dyn WeightSource) -> Self {
        Self { weights, seconds: Cell::new(0.0) }
    }

    pub fn seconds(&self) -> f64 {
        self.seconds.get()
    }
}

impl WeightSource for TimedWeights<'_> {
    fn load(&self, name: &str) -> Result<Tensor, GraphError> {
        let watch = Stopwatch::start();
        let tensor = self.weights.load(name);
        self.seconds.set(self.seconds.get() + watch.seconds());
        tensor
    }
}
