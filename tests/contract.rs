//! Every launch of every case, on made-up tiers, without a device: its WGSL links and validates, its parameters lie as
//! WGSL lays them out, everything it binds exists, and it stays within the tier's limits.

use std::collections::{BTreeSet, HashMap};

use kiln::engine::suite::all_cases;
use kiln::engine::{BindingKind, Reflection, validate};
use kiln::graph::{
    CoopKind, DType, DeviceLimits, Dispatch, Io, Kernel, Launch, Pack, Source, SubgroupSize, TensorDesc,
    Tier, launches_in_place_within, launches_within,
};

/// A tier on which most cases' tensors are larger than a binding.
const SMALL_BINDINGS: &str = "bindings of 4 KiB";

/// Tiers that differ in what kernels choose by.
fn tiers() -> Vec<(&'static str, Tier)> {
    let base = Tier::webgpu();
    let subgroups = |min, max| Some(SubgroupSize { min, max });
    let small = DeviceLimits { max_binding_bytes: 4 << 10, ..base.limits };
    let software = Tier { software: true, f16: true, ..base.clone() };
    vec![
        ("webgpu", base.clone()),
        ("webgpu with f16", Tier { f16: true, ..base.clone() }),
        ("software", software.clone()),
        ("software, subgroups of 4", Tier { subgroups: subgroups(4, 4), ..software.clone() }),
        ("software, subgroups of 8", Tier { subgroups: subgroups(8, 8), ..software }),
        ("gpu, subgroups of 32", Tier { f16: true, subgroups: subgroups(32, 32), ..base.clone() }),
        ("gpu, subgroups of 32 to 128", Tier { f16: true, subgroups: subgroups(32, 128), ..base.clone() }),
        (SMALL_BINDINGS, Tier { f16: true, limits: small, ..base.clone() }),
        (
            "gpu, cooperative matrices",
            Tier {
                f16: true,
                subgroups: subgroups(32, 32),
                coop: vec![CoopKind { size: 16, f16_in: true, f32_out: true }],
                ..base
            },
        ),
    ]
}

/// Bytes of a source, as memory has them; nothing where the launch does not have it.
fn bytes_of(launch: &Launch, inputs: &[TensorDesc], outputs: &[TensorDesc], source: Source) -> Option<u64> {
    let bytes = match source {
        Source::Input(i) => inputs.get(i)?.bytes() as u64,
        Source::Output(i) => outputs.get(i)?.bytes() as u64,
        Source::Scratch(i) => *launch.scratch.get(i)?,
        Source::Table(i) => launch.tables.get(i)?.len() as u64,
    };
    Some(bytes.next_multiple_of(16).max(16))
}

fn check_dispatch(dispatch: &Dispatch, reflection: &Reflection, tier: &Tier, problems: &mut Vec<String>) {
    let fields: Vec<_> = reflection.params.iter().map(|f| (f.name.as_str(), f.offset, f.size)).collect();
    let written: Vec<_> = dispatch.params.fields.iter().map(|f| (f.name, f.offset, f.size)).collect();
    if fields != written {
        problems.push(format!("WGSL's params are {fields:?}, the launch writes {written:?}"));
    }
    let storage: Vec<&str> = reflection
        .variables
        .iter()
        .filter(|variable| variable.kind != BindingKind::Uniform)
        .map(|variable| variable.name.as_str())
        .collect();
    for name in &storage {
        if !dispatch.bindings.iter().any(|binding| binding.name == *name) {
            problems.push(format!("nothing is bound to {name}"));
        }
    }
    for binding in &dispatch.bindings {
        let variable = reflection.variables.iter().find(|variable| variable.name == binding.name);
        match variable.map(|variable| variable.kind) {
            None => problems.push(format!("{} is bound but not declared", binding.name)),
            Some(BindingKind::ReadWrite) if matches!(binding.source, Source::Input(_) | Source::Table(_)) => {
                problems.push(format!("{} may be written but is an input", binding.name));
            }
            Some(_) => {}
        }
        let align = u64::from(tier.limits.offset_alignment);
        if binding.range.as_ref().is_some_and(|range| range.start % align != 0) {
            problems.push(format!("{} starts at an unaligned offset", binding.name));
        }
    }
    if storage.len() > tier.limits.max_storage_buffers as usize {
        problems.push(format!("{} storage buffers: {storage:?}", storage.len()));
    }
    if dispatch.groups > u64::from(u32::MAX) {
        problems.push(format!("{} groups", dispatch.groups));
    }
}

#[test]
fn every_launch_is_valid_on_every_tier() {
    let mut validated: HashMap<Kernel, Result<Reflection, String>> = HashMap::new();
    let mut problems = BTreeSet::new();
    let mut launched = 0;
    for run in all_cases(true) {
        let tensors = run.case.tensors(run.dtype).expect("inputs of a case");
        let own = tensors.len() - run.case.epilogue.operands();
        let inputs: Vec<TensorDesc> = tensors.iter().map(|tensor| tensor.desc()).collect();
        let outputs = match run.case.op.infer(&inputs[..own]) {
            Ok(outputs) => outputs,
            Err(error) => {
                problems.insert(format!("{}: {error}", run.id()));
                continue;
            }
        };
        if run.case.op.is_view() || outputs.iter().all(TensorDesc::is_empty) {
            continue;
        }
        let constant: Vec<bool> = (0..inputs.len()).map(|i| run.case.constant.contains(&i)).collect();
        let io = Io { inputs: &inputs, outputs: &outputs, constant: &constant, epilogue: &run.case.epilogue };
        for (name, tier) in tiers() {
            if run.dtype == DType::F16 && !tier.f16 {
                continue;
            }
            let launches = match launches_within(&*run.case.op, &io, &tier) {
                Ok(launches) if !launches.is_empty() => launches,
                Ok(_) => {
                    problems.insert(format!("{} has no launch on {name}", run.id()));
                    continue;
                }
                // What this tier binds is less than some rows have.
                Err(_) if name == SMALL_BINDINGS => continue,
                Err(error) => {
                    problems.insert(format!("{} on {name}: {error}", run.id()));
                    continue;
                }
            };
            let in_place = launches_in_place_within(&*run.case.op, &io, &tier);
            for launch in launches.iter().chain(&in_place) {
                launched += 1;
                let mut found = Vec::new();
                for dispatch in &launch.dispatches {
                    let reflection = validated
                        .entry(dispatch.kernel.clone())
                        .or_insert_with(|| validate(&dispatch.kernel));
                    match reflection {
                        Ok(reflection) => check_dispatch(dispatch, reflection, &tier, &mut found),
                        Err(error) => found.push(error.clone()),
                    }
                    for binding in &dispatch.bindings {
                        let packed = |pack: &Pack| binding.source == Source::Input(pack.input);
                        let Some(whole) = bytes_of(launch, &inputs, &outputs, binding.source) else {
                            found.push(format!("{} is bound to {:?}", binding.name, binding.source));
                            continue;
                        };
                        let bound = binding.range.as_ref().map_or(whole, |range| range.end - range.start);
                        if bound > tier.limits.max_binding_bytes {
                            found.push(format!("{} binds {bound} bytes", binding.name));
                        }
                        if binding.range.as_ref().is_some_and(|range| range.end > whole)
                            && !launch.packs.iter().any(packed)
                        {
                            found.push(format!("{} ends behind {:?}", binding.name, binding.source));
                        }
                    }
                }
                let where_ = format!("{} {} on {name}", run.id(), launch.name);
                problems.extend(found.into_iter().map(|problem| format!("{where_}: {problem}")));
            }
        }
    }
    assert!(launched > 0);
    let shown: Vec<String> = problems.iter().take(40).cloned().collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), shown.join("\n"));
}

/// Two cases of one name would be filled with the same numbers and could not be told apart in a report.
#[test]
fn case_names_are_unique() {
    let mut seen = BTreeSet::new();
    let twice: Vec<String> =
        all_cases(true).iter().map(|run| run.id()).filter(|id| !seen.insert(id.clone())).collect();
    assert!(twice.is_empty(), "named twice: {twice:#?}");
}

/// Inputs rounded to f16 must fail the f32 gates: otherwise the gates could not tell f32 from f16 arithmetic.
#[test]
fn f32_gates_reject_inputs_rounded_to_f16() {
    use kiln::graph::numerics::{Gate, compare};
    use kiln::graph::registry::Values;
    let mut checked = 0;
    let mut slack = Vec::new();
    for run in all_cases(false).into_iter().filter(|run| run.dtype == DType::F32) {
        let uniform = run.case.inputs.iter().any(|fill| matches!(fill.values, Values::Uniform(..)));
        let tensors = run.case.tensors(DType::F32).expect("inputs of a case");
        let rounded: Vec<_> = tensors
            .iter()
            .map(|t| if t.dtype() == DType::F32 { t.cast(DType::F16).cast(DType::F32) } else { t.clone() })
            .collect();
        let (expected, bounds) = run.case.expected(&tensors).expect("a case's definition");
        let (control, _) = run.case.expected(&rounded).expect("a case's definition");
        // Only where rounding changes what is expected by more than a rounding of the result itself.
        let moved = expected.iter().zip(&control).any(|(e, c)| {
            e.dtype() == DType::F32 && {
                let found = compare(e, c, Gate::Exact, None);
                found.wrong * 2 > e.len() && e.len() >= 16
            }
        });
        if !uniform || !moved || matches!(run.case.gate_for(DType::F32), Gate::Exact) {
            continue;
        }
        checked += 1;
        let passes = expected.iter().zip(&control).enumerate().all(|(i, (e, c))| {
            let bounds = bounds.as_deref().filter(|_| i == 0);
            compare(e, c, run.case.gate_for(e.dtype()), bounds).passed
        });
        if passes {
            slack.push(run.id());
        }
    }
    assert!(checked > 20, "only {checked} cases were checked");
    assert!(slack.is_empty(), "{} of {checked} cases cannot tell f16 from f32: {slack:#?}", slack.len());
}
