//! Where a model's time and memory go.

use kiln_engine::{CompileTimes, MemoryReport, Profile};
use kiln_graph::Tensor;

use crate::{Error, Runner};

/// Where a model's time and memory go.
#[derive(Clone, Debug)]
pub struct ModelProfile {
    /// Each node of a run.
    pub profile: Profile,
    /// Bytes on the device.
    pub memory: MemoryReport,
    /// What came before the first run.
    pub compile: CompileTimes,
}

impl Runner {
    /// Times each node of a run; `None` on the CPU reference.
    pub async fn profile(&mut self, inputs: &[(&str, Tensor)]) -> Result<Option<ModelProfile>, Error> {
        // The first run settles what stays in f32, and warms up what drivers do late.
        self.run(inputs).await?;
        let Some(session) = self.session() else { return Ok(None) };
        let profile = session.profile(inputs).await?;
        Ok(Some(ModelProfile { profile, memory: session.memory(), compile: session.compile_times() }))
    }
}
