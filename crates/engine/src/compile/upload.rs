//! Buffers of one value each, and what is written to them: constants, tables and parameters.

use kiln_graph::{GraphError, Origin, Tensor, Value};

use super::{Compiler, Region, padded};
use crate::Error;

/// Usage of storage buffers, which are also copied from and to.
pub(super) const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);

/// Bytes of uploads in flight: the driver layer keeps a copy of each until it is done.
const MAX_PENDING: u64 = 64 << 20;

impl Compiler<'_> {
    /// The region of a value; constants are computed and uploaded when first asked for.
    pub(super) async fn resolve(&mut self, value: Value) -> Result<Region, Error> {
        if let Some(region) = self.regions.get(&value) {
            return Ok(region.clone());
        }
        if !self.constant[value.index()] {
            let (name, reason) = (format!("{value:?}"), "was not planned".to_string());
            return Err(GraphError::Value { what: "value", name, reason }.into());
        }
        let region = self.upload_constant(&self.fold(value)?).await?;
        self.regions.insert(value, region.clone());
        Ok(region)
    }

    pub(super) fn fold(&self, value: Value) -> Result<Tensor, Error> {
        let tensor = self.folder.value(value)?;
        if let Origin::Weight(name) = &self.graph.info(value).origin {
            log::debug!("loaded {name} {}", tensor.desc());
        }
        Ok(tensor)
    }

    pub(super) async fn upload_constant(&mut self, tensor: &Tensor) -> Result<Region, Error> {
        let region = self.whole("constant", padded(tensor.as_bytes().len()), STORAGE).await?;
        self.weight_bytes += region.bytes;
        self.write(&region.buffer, tensor.as_bytes()).await?;
        Ok(region)
    }

    pub(super) async fn upload(&mut self, label: &str, bytes: &[u8]) -> Result<Region, Error> {
        let region = self.whole(label, padded(bytes.len()), STORAGE).await?;
        self.other_bytes += region.bytes;
        self.write(&region.buffer, bytes).await?;
        Ok(region)
    }

    pub(super) async fn upload_uniform(&mut self, bytes: &[u8]) -> Result<wgpu::Buffer, Error> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let region = self.whole("params", padded(bytes.len()), usage).await?;
        self.other_bytes += region.bytes;
        self.write(&region.buffer, bytes).await?;
        Ok(region.buffer)
    }

    async fn write(&mut self, buffer: &wgpu::Buffer, bytes: &[u8]) -> Result<(), Error> {
        crate::run::write(self.gpu, buffer, 0, bytes).await?;
        self.pending += bytes.len() as u64;
        if self.pending > MAX_PENDING {
            self.pending = 0;
            let encoder = self.gpu.guarded.device.create_command_encoder(&Default::default());
            self.gpu.guarded.submit(encoder.finish()).await?;
            self.gpu.guarded.finish().await?;
        }
        Ok(())
    }

    pub(super) async fn whole(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Region, Error> {
        Ok(Region { buffer: self.buffer(label, bytes, usage).await?, offset: 0, bytes })
    }

    pub(super) async fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Error> {
        let limit = self.gpu.tier().limits.max_buffer_bytes;
        if bytes > limit {
            return Err(Error::Limit {
                node: label.to_string(),
                what: "a buffer".into(),
                needed: bytes,
                limit,
                device: self.gpu.info().name.clone(),
            });
        }
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false };
        self.gpu.guarded.scoped(|device| device.create_buffer(&descriptor)).await
    }
}
