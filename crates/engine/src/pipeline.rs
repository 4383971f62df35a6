//! Pipelines: linked, reflected, built and cached.

use std::sync::{Arc, PoisonError};

use kiln_graph::{Kernel, shaders};

use crate::reflect::{BindingKind, BoundVariable, Reflection, reflect};
use crate::{Checks, Error, Gpu};

/// A compute pipeline and what it binds.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    pub reflection: Reflection,
}

/// A pipeline, or none yet. Whoever builds it holds the lock across awaits, which a lock of std's must not be.
pub(crate) type Slot = Arc<futures_intrusive::sync::Mutex<Option<Arc<Pipeline>>>>;

fn empty_slot() -> Slot {
    Arc::new(futures_intrusive::sync::Mutex::new(None, true))
}

/// Links, parses and validates a kernel without a device, and gives what it binds.
pub fn validate(kernel: &Kernel) -> Result<Reflection, String> {
    let source = shaders::link(&kernel.units);
    let module = naga::front::wgsl::parse_str(&source).map_err(|error| error.emit_to_string(&source))?;
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
    validator.validate(&module).map_err(|error| error.emit_to_string(&source))?;
    reflect(&module)
}

/// Links and parses a kernel: its text and what it binds. wgpu validates it.
fn load(kernel: &Kernel) -> Result<(String, Reflection), String> {
    let source = shaders::link(&kernel.units);
    let module = naga::front::wgsl::parse_str(&source).map_err(|error| error.emit_to_string(&source))?;
    Ok((source, reflect(&module)?))
}

fn layout_entry(variable: &BoundVariable) -> wgpu::BindGroupLayoutEntry {
    let ty = match variable.kind {
        BindingKind::Uniform => wgpu::BufferBindingType::Uniform,
        BindingKind::Read => wgpu::BufferBindingType::Storage { read_only: true },
        BindingKind::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding: variable.binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

/// Writes a linked kernel to the folder that `KILN_DUMP_WGSL` names.
fn dump(label: &str, source: &str) {
    let Ok(folder) = std::env::var("KILN_DUMP_WGSL") else { return };
    let key = kiln_graph::random::fnv1a64(source);
    let path = std::path::Path::new(&folder).join(format!("{label}-{key:016x}.wgsl"));
    if let Err(error) = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, source)) {
        log::warn!("KILN_DUMP_WGSL: {}: {error}", path.display());
    }
}

impl Gpu {
    /// The pipeline of a kernel, built at its first use, and once however many threads ask for it.
    pub(crate) async fn pipeline(&self, label: &str, kernel: &Kernel) -> Result<Arc<Pipeline>, Error> {
        let trusted = kernel.units.iter().all(|unit| unit.trusted);
        let checks = if trusted { self.checks() } else { Checks::All };
        let slot = {
            let mut slots = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry((kernel.clone(), checks)).or_insert_with(empty_slot).clone()
        };
        let mut slot = slot.lock().await;
        if let Some(pipeline) = &*slot {
            return Ok(pipeline.clone());
        }
        let wrong = |message: String| Error::Shader { label: label.to_string(), message };
        let (source, reflection) = load(kernel).map_err(wrong)?;
        dump(label, &source);
        let storage = reflection.variables.iter().filter(|v| v.kind != BindingKind::Uniform).count();
        let allowed = self.tier().limits.max_storage_buffers as usize;
        if storage > allowed {
            return Err(wrong(format!("it binds {storage} storage buffers and the device allows {allowed}")));
        }
        let built =
            self.guarded.scoped(|device| self.build(device, label, kernel, source, reflection, checks));
        let pipeline = match built.await {
            Ok(pipeline) => Arc::new(pipeline),
            Err(Error::Validation(message)) => return Err(wrong(message)),
            Err(error) => return Err(error),
        };
        *slot = Some(pipeline.clone());
        Ok(pipeline)
    }

    fn build(
        &self,
        device: &wgpu::Device,
        label: &str,
        kernel: &Kernel,
        source: String,
        reflection: Reflection,
        checks: Checks,
    ) -> Pipeline {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(label),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        };
        let module = match checks {
            Checks::All => device.create_shader_module(descriptor),
            Checks::Fast => {
                let runtime = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..Default::default() };
                // SAFETY: the kernel is Kiln's own, and every loop in it counts up to a bound taken from its
                // parameters or constants. Bounds of buffers and divisions stay checked.
                unsafe { device.create_shader_module_trusted(descriptor, runtime) }
            }
        };
        let entries: Vec<_> = reflection.variables.iter().map(layout_entry).collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(label),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let constants: Vec<(&str, f64)> =
            kernel.overrides.iter().map(|&(name, value)| (name, f64::from(value))).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Kernels write shared memory before they read it; other programs' data cannot be seen through it.
                zero_initialize_workgroup_memory: checks == Checks::All,
            },
            cache: None,
        });
        Pipeline { pipeline, layout, reflection }
    }
}
