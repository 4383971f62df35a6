//! Copies of states on their way to the host.

use kiln_graph::{GraphError, Tensor, TensorDesc};

use crate::Error;
use crate::compile::Region;
use crate::faults::Guarded;

/// What a state held at some moment. The device goes on meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    guarded: Guarded,
    name: String,
    desc: TensorDesc,
    staging: wgpu::Buffer,
    copied: wgpu::SubmissionIndex,
}

impl Snapshot {
    /// Has a region copied behind everything that was submitted so far.
    pub(crate) async fn take(
        guarded: &Guarded,
        name: &str,
        desc: &TensorDesc,
        region: &Region,
    ) -> Result<Self, Error> {
        let staging = guarded
            .scoped(|device| {
                device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("snapshot"),
                    size: region.bytes,
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            })
            .await?;
        let mut encoder = guarded.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&region.buffer, region.offset, &staging, 0, region.bytes);
        let copied = guarded.submit(encoder.finish()).await?;
        Ok(Self { guarded: guarded.clone(), name: name.into(), desc: desc.clone(), staging, copied })
    }

    /// Waits for what was submitted before it was taken, and for nothing behind.
    pub async fn read(self) -> Result<Tensor, Error> {
        let bytes = self.guarded.read_behind(&self.staging, Some(self.copied)).await?;
        let own = bytes.get(..self.desc.bytes()).unwrap_or_default();
        let wrong = |error: kiln_graph::LengthError| GraphError::Value {
            what: "state",
            name: self.name,
            reason: error.to_string(),
        };
        Ok(Tensor::from_bytes(&self.desc, own).map_err(wrong)?)
    }
}
