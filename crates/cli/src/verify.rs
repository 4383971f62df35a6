//! `kiln verify`: parity with somebody else's tensors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kiln::engine::Precision;
use kiln::models::verify::{self, Device, Gates, Options, Row, Verdict, VerifyError};
use kiln::models::weights::Folder;

use crate::Outcome;
use crate::device::{DeviceArgs, DeviceKind, PrecisionKind};
use crate::output::say;

/// Compare with expected tensors: `inputs.safetensors` in, `expected.safetensors` out.
///
/// DIR holds `config.json`, `inputs.safetensors` and `expected.safetensors`, or folders that do.
#[derive(clap::Args)]
pub struct Args {
    /// A folder of tensors, or a folder of such folders.
    dir: PathBuf,
    /// Storage type of weights and activations.
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionKind,
    /// Compare hidden layers too: tensors named `mid.*`. Nothing is fused across them.
    #[arg(long)]
    layers: bool,
    /// Tensors that Kiln does not compute are failures.
    #[arg(long)]
    strict: bool,
    /// A tensor passes where its largest error is at most N times its own noise, f32 against f64.
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    noise: f64,
    /// A tensor passes where its normalised mean square error is at most X.
    #[arg(long, value_name = "X")]
    nmse: Option<f64>,
    /// Each element has to be within A + R * |expected| too.
    #[arg(long, value_name = "R")]
    rtol: Option<f64>,
    /// See --rtol.
    #[arg(long, value_name = "A")]
    atol: Option<f64>,
}

/// How many tensors ended how.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    not_compared: usize,
    reported: usize,
    out_of_range: usize,
}

pub fn run(args: &Args, device: &DeviceArgs) -> Result<Outcome> {
    let folders = find(&args.dir)?;
    // The same numbers each time, unless tuning is what is to be looked at.
    let device = DeviceArgs { deterministic: device.tune.is_none(), ..device.clone() };
    let gpu = device.choose(DeviceKind::Gpu)?.ok();
    let precision = Precision::from(args.precision);
    if let Some(gpu) = &gpu {
        say!("on {}", gpu.info().name);
        if precision == Precision::F16 && !gpu.tier().f16 {
            bail!("{} does not offer f16", gpu.info().name);
        }
    }
    let options = Options {
        device: gpu.as_ref().map_or(Device::Cpu, Device::Gpu),
        precision,
        gates: Gates { nmse: args.nmse, noise: args.noise, atol: args.atol, rtol: args.rtol },
        layers: args.layers,
    };
    let mut counts = Counts::default();
    for folder in &folders {
        say!("{}", folder.display());
        let mut each = |row| {
            counts.add(&row, args.strict);
            print(&row);
        };
        let files = Arc::new(Folder::new(folder));
        let result = pollster::block_on(verify::verify(files.clone(), &options, &mut each));
        match result {
            // One folder among several must not hide the others.
            Err(error) if folders.len() > 1 => {
                let verdict = match error {
                    VerifyError::Unsupported(reason) => Verdict::NotCompared(reason),
                    other => Verdict::Failed(other.to_string()),
                };
                verify::all(files, &verdict, &mut each)?;
            }
            other => other?,
        }
    }
    if counts.not_compared > 0 {
        say!("{} not compared", counts.not_compared);
    }
    if counts.reported > 0 {
        say!("{} reported, not gated", counts.reported);
    }
    if counts.out_of_range > 0 {
        say!("{} out of f16 range", counts.out_of_range);
    }
    say!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(if counts.failed == 0 { Outcome::Done } else { Outcome::CheckFailed })
}

impl Counts {
    fn add(&mut self, row: &Row, strict: bool) {
        match &row.verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::NotCompared(_) => {
                self.not_compared += 1;
                self.failed += usize::from(strict);
            }
            Verdict::Reported(_) => self.reported += 1,
            Verdict::OutOfRange(_) => self.out_of_range += 1,
        }
    }
}

fn print(row: &Row) {
    let shape = format!("{:?}", row.shape);
    let mut line = format!("  {:<24} {shape:<20}", row.name);
    if let Some(found) = &row.comparison {
        line +=
            &format!(" abs {:<9.2e} rel {:<9.2e} nmse {:<9.2e}", found.max_abs, found.max_rel, found.nmse);
    }
    if let Some(noise) = row.noise {
        line += &format!(" noise {noise:<9.2e}");
    }
    line += &match &row.verdict {
        Verdict::Passed => match row.comparison.map_or(0, |found| found.wrong) {
            0 => " pass".to_string(),
            wrong => format!(" pass, {wrong} of {} differ", row.shape.iter().product::<usize>()),
        },
        Verdict::Failed(reason) => format!(" FAIL: {reason}"),
        Verdict::Reported(reason) => format!(" reported, not gated: {reason}"),
        Verdict::NotCompared(reason) => format!(" not compared: {reason}"),
        Verdict::OutOfRange(reason) => format!(" out of f16 range: {reason}"),
    };
    say!("{line}");
}

/// The folders to verify: `dir`, or those directly and indirectly in it.
fn find(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        bail!("{} is not a folder", dir.display());
    }
    if dir.join("expected.safetensors").is_file() {
        return Ok(vec![dir.to_path_buf()]);
    }
    let mut inner = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            inner.push(path);
        }
    }
    inner.sort();
    let mut found = Vec::new();
    for path in inner {
        found.extend(find(&path).unwrap_or_default());
    }
    if found.is_empty() {
        bail!("{} holds no expected.safetensors, and no folder in it does", dir.display());
    }
    Ok(found)
}
