//! What states held at some moment.

use kiln_graph::{DType, Tensor};

use super::Compiled;
use crate::Error;

/// What a state held at some moment.
pub struct Snapshot {
    taken: Taken,
    dtype: DType,
}

enum Taken {
    Cpu(Tensor),
    Gpu(kiln_engine::Snapshot),
}

impl Snapshot {
    /// `dtype` is the state's as the graph was given.
    pub(super) async fn take(compiled: &Compiled, name: &str, dtype: DType) -> Result<Self, Error> {
        let taken = match compiled {
            Compiled::Cpu(interpreter, _) => {
                let unknown = || Error::Input(format!("there is no state {name:?}"));
                Taken::Cpu(interpreter.state(name).cloned().ok_or_else(unknown)?)
            }
            Compiled::Gpu(session) => Taken::Gpu(session.snapshot(name).await?),
        };
        Ok(Self { taken, dtype })
    }

    /// Waits for it. In f32 where it is stored in f16.
    pub async fn read(self) -> Result<Tensor, Error> {
        let tensor = match self.taken {
            Taken::Cpu(tensor) => tensor,
            Taken::Gpu(snapshot) => snapshot.read().await?,
        };
        Ok(tensor.cast(self.dtype))
    }
}
