//! `kiln devices`: what there is, and what is missing.

use anyhow::Result;
use kiln::engine::{AdapterReport, Gpu, Tier};

use crate::Outcome;
use crate::device::DeviceArgs;
use crate::output::say;

/// List adapters, their limits, and what each lacks.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args, device: &DeviceArgs) -> Result<Outcome> {
    let options = device.options()?;
    let reports = Gpu::list_blocking(&options);
    let wanted = options.adapter.as_deref().unwrap_or_default().to_lowercase();
    let fits = |report: &AdapterReport| report.info.name.to_lowercase().contains(&wanted);
    let chosen = reports.iter().position(fits);
    if chosen.is_none() {
        // The same sentence that every other command gives.
        Gpu::open_blocking(&options)?;
    }
    for (i, report) in reports.iter().enumerate().filter(|(_, report)| fits(report)) {
        show(report, Some(i) == chosen);
    }
    Ok(Outcome::Done)
}

fn show(report: &AdapterReport, chosen: bool) {
    let (info, tier) = (&report.info, &report.tier);
    say!("{}{}", info.name, if chosen { "  (chosen)" } else { "" });
    let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ");
    say!("  driver      {:?}, {}, {:?}", info.backend, driver.trim(), info.device_type);
    let subgroups = match tier.subgroups {
        Some(size) if size.min == size.max => format!("of {}", size.min),
        Some(size) => format!("of {} to {}", size.min, size.max),
        None => "no".into(),
    };
    let coop: Vec<String> = tier
        .coop
        .iter()
        .map(|kind| {
            let name = |half: bool| if half { "f16" } else { "f32" };
            format!("{0}x{0} {1} to {2}", kind.size, name(kind.f16_in), name(!kind.f32_out))
        })
        .collect();
    let yes = |there: bool| if there { "yes" } else { "no" };
    say!("  f16         {}", yes(tier.f16));
    say!("  subgroups   {subgroups}");
    say!("  matrices    {}", if coop.is_empty() { "no".into() } else { coop.join(", ") });
    say!("  timestamps  {}", yes(tier.timestamps));
    let limits = &tier.limits;
    say!(
        "  workgroups  {} invocations, {} shared; {} groups a side",
        limits.max_invocations,
        bytes(u64::from(limits.max_shared_bytes)),
        limits.max_groups
    );
    say!(
        "  buffers     {} at most, {} a binding, {} bindings, offsets by {} bytes",
        bytes(limits.max_buffer_bytes),
        bytes(limits.max_binding_bytes),
        limits.max_storage_buffers,
        limits.offset_alignment
    );
    for cost in costs(tier) {
        say!("  missing     {cost}");
    }
}

/// What a device lacks and what that costs.
fn costs(tier: &Tier) -> Vec<String> {
    let mut costs = Vec::new();
    if !tier.f16 {
        costs.push("f16: --precision f16 is refused, and weights take twice the memory and bandwidth".into());
    }
    if tier.subgroups.is_none() {
        costs.push("subgroups: sums and maxima of rows go through shared memory, which is slower".into());
    }
    if tier.coop.is_empty() {
        costs.push("cooperative matrices: products run on ordinary lanes".into());
    }
    if !tier.timestamps {
        costs.push("timestamps: kiln profile and kiln bench time submits by the host's clock".into());
    }
    if tier.software {
        costs.push("a GPU: this is a software rasteriser, right but as slow as the CPU it runs on".into());
    }
    costs
}

/// Bytes in binary units.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && value < 100.0 && value.fract() > 0.0);
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(32 << 10), "32 KiB");
        assert_eq!(bytes(1536 << 10), "1.5 MiB");
        assert_eq!(bytes(u64::MAX), "16 EiB");
    }
}
