//! A graph ready to run, on a GPU or on the CPU reference.

use kiln_engine::{CompileOptions, Gpu, Precision, Session};
use kiln_graph::{DType, Graph, GraphError, Interpreter, Tensor, WeightSource};

use crate::Error;

/// What computes.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // There is one of it, not a list.
pub enum Device {
    /// The CPU reference: the definition of every op, with f64 sums. Slow.
    Cpu,
    /// A GPU.
    Gpu(Gpu),
}

impl Device {
    /// Its name in one line.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu => "the CPU reference".into(),
            Device::Gpu(gpu) => gpu.describe(),
        }
    }
}

/// A graph with its weights on a device.
pub enum Runner {
    /// On the CPU reference.
    Cpu(Box<Interpreter>),
    /// On a GPU.
    Gpu(Box<Session>),
}

impl Runner {
    /// Loads the weights and compiles the graph. On the CPU reference, f16 rounds the weights alone.
    pub async fn new(
        device: &Device,
        graph: &Graph,
        weights: &dyn WeightSource,
        precision: Precision,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, Error> {
        Ok(match device {
            Device::Cpu if precision == Precision::F16 => {
                Runner::Cpu(Box::new(Interpreter::new(graph.clone(), &Rounded(weights))?))
            }
            Device::Cpu => Runner::Cpu(Box::new(Interpreter::new(graph.clone(), weights)?)),
            Device::Gpu(gpu) => {
                let options = CompileOptions { precision, ..Default::default() };
                Runner::Gpu(Box::new(Session::compile(gpu, graph, weights, &options, progress).await?))
            }
        })
    }

    /// Computes the outputs, in the graph's order.
    pub async fn run(&mut self, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, Error> {
        match self {
            Runner::Cpu(interpreter) => Ok(interpreter.run(inputs)?),
            Runner::Gpu(session) => Ok(session.run(inputs).await?),
        }
    }

    /// The session, where a GPU computes.
    pub fn session(&self) -> Option<&Session> {
        match self {
            Runner::Cpu(_) => None,
            Runner::Gpu(session) => Some(session),
        }
    }
}

/// Weights rounded to f16.
struct Rounded<'a>(&'a dyn WeightSource);

impl WeightSource for Rounded<'_> {
    fn load(&self, name: &str) -> Result<Tensor, GraphError> {
        let tensor = self.0.load(name)?;
        Ok(if tensor.dtype().is_float() { tensor.cast(DType::F16) } else { tensor })
    }
}
