//! Which device computes: the options that every command takes.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use kiln::engine::{Gpu, GpuOptions, Part, Precision, Tuning};

/// Options that every command takes.
#[derive(Clone, clap::Args)]
pub struct DeviceArgs {
    /// What computes: a GPU, the CPU reference, or a GPU where there is one.
    #[arg(long, value_enum, global = true, help_heading = "Device")]
    pub device: Option<DeviceKind>,
    /// Part of the adapter's name; `kiln devices` lists them.
    #[arg(long, value_name = "NAME", global = true, help_heading = "Device")]
    pub adapter: Option<String>,
    /// Do without parts of the device: f16, subgroups, coop, timestamps, software.
    #[arg(long, value_name = "LIST", global = true, help_heading = "Device")]
    pub disable: Option<String>,
    /// Take the best guess of every kernel, whatever was measured: runs repeat bit for bit.
    #[arg(long, global = true, help_heading = "Device")]
    pub deterministic: bool,
    /// Seconds that compiling a model may spend on trying kernels out; what is found is kept. 0 tries nothing
    /// [default: 1 on GPUs, 0 in software].
    #[arg(long, value_name = "SECONDS", global = true, help_heading = "Device", value_parser = seconds)]
    #[arg(conflicts_with = "deterministic")]
    pub tune: Option<Duration>,
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("{text:?} is no number of seconds");
    text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(wrong)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    /// The CPU reference: slow, and the definition of right.
    Cpu,
    /// A GPU, or a software Vulkan driver.
    Gpu,
    /// A GPU where there is one.
    Auto,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PrecisionKind {
    #[default]
    F32,
    F16,
}

impl From<PrecisionKind> for Precision {
    fn from(kind: PrecisionKind) -> Self {
        match kind {
            PrecisionKind::F32 => Precision::F32,
            PrecisionKind::F16 => Precision::F16,
        }
    }
}

impl DeviceArgs {
    /// How to open a device.
    pub fn options(&self) -> Result<GpuOptions> {
        let parse =
            |list: &str, from: &str| Part::parse_list(list).map_err(|error| anyhow!("{from}: {error}"));
        if let Ok(list) = std::env::var("KILN_DISABLE") {
            parse(&list, "KILN_DISABLE")?;
        }
        let disable = self.disable.as_deref().map(|list| parse(list, "--disable")).transpose()?;
        Ok(GpuOptions {
            adapter: self.adapter.clone(),
            disable: disable.unwrap_or_default(),
            tuning: self.tune.map(Tuning::Budget),
            deterministic: self.deterministic,
            ..GpuOptions::default()
        })
    }

    /// Opens the GPU. The adapter `noop` runs nothing: it shows that checks do fail.
    pub fn open(&self) -> Result<Gpu> {
        if self.device == Some(DeviceKind::Cpu) {
            bail!("this needs a GPU or a software Vulkan driver, and --device cpu asks for neither");
        }
        self.open_with(&[])
    }

    /// The same without more parts.
    pub fn open_with(&self, disable: &[Part]) -> Result<Gpu> {
        let mut options = self.options()?;
        options.disable.extend(disable);
        if self.adapter.as_deref() == Some("noop") {
            return Ok(Gpu::noop(&options));
        }
        Ok(Gpu::open_blocking(&options)?)
    }

    /// The GPU, or why the CPU reference computes instead.
    pub fn choose(&self, otherwise: DeviceKind) -> Result<Result<Gpu, String>> {
        // An unknown name in a list is an error with every device.
        self.options()?;
        match self.device.unwrap_or(otherwise) {
            DeviceKind::Cpu => Ok(Err("--device cpu asks for it".into())),
            DeviceKind::Gpu => Ok(Ok(self.open()?)),
            DeviceKind::Auto => match self.open() {
                Ok(gpu) => Ok(Ok(gpu)),
                // Who names an adapter wants that one.
                Err(error) if self.adapter.is_some() => Err(error),
                Err(error) => Ok(Err(error.to_string())),
            },
        }
    }
}
