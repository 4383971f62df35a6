//! `kiln check`: the shader correctness suite.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use kiln::engine::suite::{self, CaseReport, CaseRun, all_cases};
use kiln::engine::{Gpu, Part};
use kiln::graph::DType;
use kiln::graph::registry::FAMILIES;
use serde_json::{Value as Json, json};

use crate::Outcome;
use crate::device::{DeviceArgs, DeviceKind, PrecisionKind};
use crate::output::{Pending, bar, say};

/// Compare every kernel with its definition on this device.
///
/// Each case runs with buffers full of NaN and sentinels around them, once for each launch that the op offers here.
/// Cases are made from their id alone, so that a failure can be repeated anywhere.
#[derive(clap::Args)]
pub struct Args {
    /// The op family; --list names them.
    #[arg(long, value_name = "NAME")]
    op: Option<String>,
    /// One case, by its id.
    #[arg(long, value_name = "ID")]
    case: Option<String>,
    /// One element type.
    #[arg(long, value_enum)]
    dtype: Option<PrecisionKind>,
    /// One of the op's launches, by its name.
    #[arg(long, value_name = "NAME")]
    launch: Option<String>,
    /// The long cases too.
    #[arg(long)]
    full: bool,
    /// Once more with f16 and with subgroups switched off, where the device has them.
    #[arg(long)]
    tiers: bool,
    /// Write a report.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print what is covered and run nothing.
    #[arg(long)]
    list: bool,
    /// Print failures and sums alone.
    #[arg(long, short)]
    quiet: bool,
}

/// How many launches ended how.
#[derive(Clone, Copy, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    fn add(&mut self, outcome: &suite::Outcome) {
        match outcome {
            suite::Outcome::Passed => self.passed += 1,
            suite::Outcome::Failed(_) => self.failed += 1,
            suite::Outcome::Skipped(_) => self.skipped += 1,
        }
    }
}

pub fn run(args: &Args, device: &DeviceArgs) -> Result<Outcome> {
    let cases = chosen(args)?;
    if args.list {
        list(args, &cases);
        return Ok(Outcome::Done);
    }
    if device.device == Some(DeviceKind::Cpu) {
        bail!(
            "kiln check compares a device with the CPU reference, and --device cpu names the reference itself"
        );
    }
    let report = args.json.as_deref().map(Pending::create).transpose()?;
    let mut tiers = vec![Vec::new()];
    if args.tiers {
        let gpu = device.open()?;
        let offered = [(Part::F16, gpu.tier().f16), (Part::Subgroups, gpu.tier().subgroups.is_some())];
        for (part, there) in offered {
            match there {
                true => tiers.push(vec![part]),
                false => say!("{} has no {} to switch off", gpu.info().name, name(part)),
            }
        }
    }
    let (mut total, mut found, mut runs) = (Counts::default(), false, Vec::new());
    for disable in &tiers {
        let tier = Tier { device, disable };
        let (counts, json) = tier.run(args, &cases)?;
        found |= counts.passed + counts.failed + counts.skipped > 0;
        total.passed += counts.passed;
        total.failed += counts.failed;
        total.skipped += counts.skipped;
        runs.push(json);
    }
    if let (false, Some(launch)) = (found, &args.launch) {
        bail!("no op of these cases has a launch named {launch:?} on this device");
    }
    if let Some(report) = report {
        let json = json!({
            "kiln": env!("CARGO_PKG_VERSION"),
            "passed": total.passed, "failed": total.failed, "skipped": total.skipped,
            "runs": runs,
        });
        report.commit(&serde_json::to_vec_pretty(&json)?)?;
    }
    say!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(if total.failed == 0 { Outcome::Done } else { Outcome::CheckFailed })
}

fn name(part: Part) -> &'static str {
    Part::ALL.iter().find(|(other, _)| *other == part).map_or("", |&(_, name)| name)
}

/// The cases that the options name.
fn chosen(args: &Args) -> Result<Vec<CaseRun>> {
    if let Some(op) = &args.op
        && !FAMILIES.iter().any(|family| family.name == op)
    {
        let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        bail!("there is no op family {op:?}; there is {}", names.join(", "));
    }
    let dtype = args.dtype.map(|kind| match kind {
        PrecisionKind::F32 => DType::F32,
        PrecisionKind::F16 => DType::F16,
    });
    let mut cases = all_cases(args.full || args.case.is_some());
    cases.retain(|run| {
        args.op.as_deref().is_none_or(|op| op == run.family)
            && dtype.is_none_or(|dtype| dtype == run.dtype)
            && args.case.as_deref().is_none_or(|id| id == run.id())
    });
    if let (true, Some(id)) = (cases.is_empty(), &args.case) {
        bail!("there is no case {id:?}; kiln check --list --op NAME names those of an op");
    }
    Ok(cases)
}

fn list(args: &Args, cases: &[CaseRun]) {
    if args.op.is_some() || args.case.is_some() {
        for case in cases {
            say!("{}", case.id());
        }
    } else {
        for family in FAMILIES {
            let count =
                |dtype| cases.iter().filter(|case| case.family == family.name && case.dtype == dtype).count();
            say!("{:<24} {:>4} f32, {:>4} f16", family.name, count(DType::F32), count(DType::F16));
        }
    }
    say!("{} cases of {} op families", cases.len(), FAMILIES.len());
}

/// One run of the suite: the device without some parts.
struct Tier<'a> {
    device: &'a DeviceArgs,
    disable: &'a [Part],
}

impl Tier<'_> {
    fn run(&self, args: &Args, cases: &[CaseRun]) -> Result<(Counts, Json)> {
        let mut gpu = self.device.open_with(self.disable)?;
        let without: Vec<&str> = self.disable.iter().map(|&part| name(part)).collect();
        let suffix =
            if without.is_empty() { String::new() } else { format!(" without {}", without.join(", ")) };
        say!("on {}{suffix}", gpu.describe());
        let progress = bar(cases.len(), "cases");
        let mut by_family: BTreeMap<&str, Counts> = BTreeMap::new();
        let (mut counts, mut rows, mut failures) = (Counts::default(), Vec::new(), Vec::new());
        for case in cases {
            let mut reports = case.check_blocking(&gpu);
            if let Some(launch) = &args.launch {
                reports.retain(|report| report.launch == launch);
            }
            for report in reports {
                counts.add(&report.outcome);
                by_family.entry(case.family).or_default().add(&report.outcome);
                rows.push(row(case, &report));
                let failed = matches!(report.outcome, suite::Outcome::Failed(_));
                if failed || !args.quiet {
                    progress.suspend(|| print(&report));
                }
                if failed {
                    failures.push(self.reproduce(&report));
                }
            }
            // A lost device fails every case that comes after; a fresh one shows which are at fault themselves.
            if gpu.is_lost() {
                gpu = self.device.open_with(self.disable)?;
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        say!("");
        for (family, counts) in &by_family {
            say!(
                "{family:<24} {:>5} passed {:>5} failed {:>5} skipped{}",
                counts.passed,
                counts.failed,
                counts.skipped,
                if counts.failed > 0 { "  FAIL" } else { "" }
            );
        }
        if !failures.is_empty() {
            say!("\nto repeat the failures:");
            for command in &failures {
                say!("  {command}");
            }
        }
        Ok((counts, json_of(&gpu, &without, &counts, rows)))
    }

    /// The smallest command that shows a failure again.
    fn reproduce(&self, report: &CaseReport) -> String {
        let mut command = format!("kiln check --case '{}'", report.id.replace('\'', r"'\''"));
        if !report.launch.is_empty() {
            command += &format!(" --launch {}", report.launch);
        }
        let disable: Vec<&str> =
            self.device.disable.as_deref().into_iter().chain(self.disable.iter().map(|&p| name(p))).collect();
        if !disable.is_empty() {
            command += &format!(" --disable {}", disable.join(","));
        }
        if let Some(adapter) = &self.device.adapter {
            command += &format!(" --adapter '{adapter}'");
        }
        command
    }
}

fn print(report: &CaseReport) {
    let verdict = match &report.outcome {
        suite::Outcome::Passed => "pass",
        suite::Outcome::Failed(_) => "FAIL",
        suite::Outcome::Skipped(_) => "skip",
    };
    let numbers = report.comparison.map_or(String::new(), |found| {
        format!(
            "  abs {:.1e} rel {:.1e} ulp {} nmse {:.1e}",
            found.max_abs, found.max_rel, found.max_ulp, found.nmse
        )
    });
    let launch = if report.launch.is_empty() { String::new() } else { format!(" [{}]", report.launch) };
    let reason = match &report.outcome {
        suite::Outcome::Passed => String::new(),
        suite::Outcome::Failed(reason) | suite::Outcome::Skipped(reason) => format!("  {reason}"),
    };
    say!("{verdict} {}{launch}{numbers}{reason}", report.id);
}

fn row(case: &CaseRun, report: &CaseReport) -> Json {
    let (outcome, reason) = match &report.outcome {
        suite::Outcome::Passed => ("passed", None),
        suite::Outcome::Failed(reason) => ("failed", Some(reason)),
        suite::Outcome::Skipped(reason) => ("skipped", Some(reason)),
    };
    // JSON has no infinity; a text stands for it.
    let number = |value: f64| if value.is_finite() { json!(value) } else { json!(value.to_string()) };
    let mut row = json!({
        "id": report.id, "op": case.family, "dtype": case.dtype.name(), "launch": report.launch, "outcome": outcome,
    });
    if let Some(reason) = reason {
        row["reason"] = json!(reason);
    }
    if let Some(found) = report.comparison {
        row["max_abs"] = number(found.max_abs);
        row["max_rel"] = number(found.max_rel);
        row["max_ulp"] = json!(found.max_ulp);
        row["nmse"] = number(found.nmse);
        row["wrong"] = json!(found.wrong);
    }
    row
}

/// A device as reports show it.
pub fn device_json(gpu: &Gpu) -> Json {
    let (info, tier) = (gpu.info(), gpu.tier());
    let limits = &tier.limits;
    json!({
        "adapter": {
            "name": info.name, "driver": info.driver, "driver_info": info.driver_info,
            "backend": format!("{:?}", info.backend), "type": format!("{:?}", info.device_type),
            "vendor": info.vendor, "device": info.device,
        },
        "features": {
            "f16": tier.f16,
            "subgroups": tier.subgroups.map(|size| [size.min, size.max]),
            "cooperative_matrices": tier.coop.iter().map(|kind| format!("{kind:?}")).collect::<Vec<_>>(),
            "timestamps": tier.timestamps,
            "software": tier.software,
        },
        "limits": {
            "max_invocations": limits.max_invocations,
            "max_shared_bytes": limits.max_shared_bytes,
            "max_storage_buffers": limits.max_storage_buffers,
            "max_binding_bytes": limits.max_binding_bytes,
            "max_buffer_bytes": limits.max_buffer_bytes,
            "offset_alignment": limits.offset_alignment,
            "max_groups": limits.max_groups,
        },
    })
}

fn json_of(gpu: &Gpu, without: &[&str], counts: &Counts, rows: Vec<Json>) -> Json {
    let mut json = device_json(gpu);
    json["disabled"] = json!(without);
    json["passed"] = json!(counts.passed);
    json["failed"] = json!(counts.failed);
    json["skipped"] = json!(counts.skipped);
    json["cases"] = Json::Array(rows);
    json
}
