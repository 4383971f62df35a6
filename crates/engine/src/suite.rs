//! The shader correctness suite: registry cases on a device, judged against the definition.

use std::collections::HashMap;

use kiln_graph::numerics::{Comparison, compare};
use kiln_graph::registry::{Case, FAMILIES};
use kiln_graph::{Builder, DType, Graph, Io, OpError, Tensor};

use crate::{CompileOptions, Error, Gpu, Session};

/// How a case ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All outputs are within the gates.
    Passed,
    /// Some output is not, or the case could not run; with the reason.
    Failed(String),
    /// The device lacks something that the case needs; with the reason.
    Skipped(String),
}

/// One launch of one case in one type.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// `family/label@dtype`, which `kiln check --case` takes.
    pub id: String,
    /// The launch's name.
    pub launch: &'static str,
    /// The worst output's comparison, where outputs were compared.
    pub comparison: Option<Comparison>,
    /// How it ended.
    pub outcome: Outcome,
}

/// A case in one type.
#[derive(Clone, Debug)]
pub struct CaseRun {
    /// The family's name.
    pub family: &'static str,
    /// The case.
    pub case: Case,
    /// The float type.
    pub dtype: DType,
}

/// Every case in every type it runs in: the everyday ones, or with `full` all of them.
pub fn all_cases(full: bool) -> Vec<CaseRun> {
    let mut runs = Vec::new();
    for family in FAMILIES {
        for case in (family.cases)() {
            if case.full && !full {
                continue;
            }
            for &dtype in case.dtypes {
                runs.push(CaseRun { family: family.name, case: case.clone(), dtype });
            }
        }
    }
    runs
}

impl CaseRun {
    /// `family/label@dtype`.
    pub fn id(&self) -> String {
        format!("{}/{}@{}", self.family, self.case.label(), self.dtype)
    }

    /// The case as a graph of one node.
    fn graph(&self, tensors: &[Tensor]) -> Result<Graph, Error> {
        let mut builder = Builder::new();
        let mut values = Vec::new();
        for (i, tensor) in tensors.iter().enumerate() {
            values.push(if self.case.constant.contains(&i) {
                builder.constant(tensor.clone())
            } else {
                builder.input(format!("input{i}"), tensor.shape(), tensor.dtype())?
            });
        }
        let outputs = builder.fused_op(self.case.op.clone(), self.case.epilogue.clone(), &values)?;
        for (i, output) in outputs.iter().enumerate() {
            builder.output(format!("output{i}"), *output)?;
        }
        Ok(builder.finish())
    }

    /// Names of the launches that the op offers on this device.
    fn launches(&self, gpu: &Gpu, graph: &Graph) -> Result<Vec<&'static str>, OpError> {
        let Some(node) = graph.nodes().first() else { return Ok(Vec::new()) };
        let (inputs, outputs) = graph.node_descs(node);
        if outputs.iter().all(kiln_graph::TensorDesc::is_empty) || node.op.is_view() {
            return Ok(vec!["none"]);
        }
        let constants = graph.constants();
        let constant: Vec<bool> = node.inputs.iter().map(|input| constants[input.index()]).collect();
        let io = Io { inputs: &inputs, outputs: &outputs, constant: &constant, epilogue: &node.epilogue };
        let launches = kiln_graph::launches_within(&*node.op, &io, gpu.tier())?;
        let in_place = kiln_graph::launches_in_place_within(&*node.op, &io, gpu.tier());
        Ok(launches.iter().chain(&in_place).map(|launch| launch.name).collect())
    }

    /// Runs every launch of the case on a device.
    pub async fn check(&self, gpu: &Gpu) -> Vec<CaseReport> {
        let report = |launch, outcome| CaseReport { id: self.id(), launch, comparison: None, outcome };
        if self.dtype == DType::F16 && !gpu.tier().f16 {
            return vec![report("", Outcome::Skipped("the device has no f16".into()))];
        }
        let prepared = (|| {
            let tensors = self.case.tensors(self.dtype)?;
            let expected = self.case.expected(&tensors)?;
            Ok::<_, OpError>((tensors, expected))
        })();
        let (tensors, (expected, bounds)) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                return vec![report("", Outcome::Failed(format!("the definition refuses it: {error}")))];
            }
        };
        let (graph, launches) = match self.graph(&tensors).and_then(|graph| {
            let launches = self.launches(gpu, &graph).map_err(|error| Error::op("", error))?;
            Ok((graph, launches))
        }) {
            Ok(found) => found,
            Err(error) => return vec![report("", Outcome::Failed(error.to_string()))],
        };
        let mut reports = Vec::new();
        for launch in launches {
            reports.push(match self.run(gpu, &graph, &tensors, launch).await {
                Ok(actual) => self.judge(launch, &expected, &actual, bounds.as_deref()),
                Err(error) => report(launch, Outcome::Failed(error.to_string())),
            });
        }
        reports
    }

    async fn run(
        &self,
        gpu: &Gpu,
        graph: &Graph,
        tensors: &[Tensor],
        launch: &str,
    ) -> Result<Vec<Tensor>, Error> {
        let options = CompileOptions {
            fuse: false,
            launch: Some(launch.to_string()),
            guard: true,
            ..Default::default()
        };
        let session = Session::compile(gpu, graph, &HashMap::new(), &options, &mut |_, _| {}).await?;
        let names: Vec<String> = (0..tensors.len()).map(|i| format!("input{i}")).collect();
        let inputs: Vec<(&str, Tensor)> =
            names.iter().map(String::as_str).zip(tensors.iter().cloned()).collect();
        session.run(&inputs).await
    }

    fn judge(
        &self,
        launch: &'static str,
        expected: &[Tensor],
        actual: &[Tensor],
        bounds: Option<&[f64]>,
    ) -> CaseReport {
        let mut worst: Option<Comparison> = None;
        let mut reasons = Vec::new();
        for (i, (expected, actual)) in expected.iter().zip(actual).enumerate() {
            let bounds = bounds.filter(|_| i == 0);
            let comparison = compare(expected, actual, self.case.gate_for(expected.dtype()), bounds);
            if !comparison.passed {
                let mut reason = format!(
                    "output {i}: max abs error {:.3e}, NMSE {:.3e}, {} wrong of {}",
                    comparison.max_abs,
                    comparison.nmse,
                    comparison.wrong,
                    expected.len()
                );
                if let Some(at) = comparison.first_wrong {
                    let value = |tensor: &Tensor| tensor.to_f64().get(at).copied().unwrap_or(f64::NAN);
                    reason += &format!(", first at {at}: {} instead of {}", value(actual), value(expected));
                }
                reasons.push(reason);
            }
            if worst.is_none_or(|worst| comparison.nmse > worst.nmse || !comparison.passed) {
                worst = Some(comparison);
            }
        }
        if expected.len() != actual.len() {
            reasons.push(format!("{} outputs instead of {}", actual.len(), expected.len()));
        }
        let outcome = if reasons.is_empty() { Outcome::Passed } else { Outcome::Failed(reasons.join("; ")) };
        CaseReport { id: self.id(), launch, comparison: worst, outcome }
    }

    /// Whether some expected output has a number that is not zero, so that a device that does nothing must fail.
    pub fn is_nonzero(&self) -> Result<bool, OpError> {
        let (expected, _) = self.case.expected(&self.case.tensors(self.dtype)?)?;
        Ok(expected.iter().any(|tensor| tensor.to_f64().iter().any(|&value| value != 0.0)))
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl CaseRun {
    /// [`CaseRun::check`] for callers without an executor.
    pub fn check_blocking(&self, gpu: &Gpu) -> Vec<CaseReport> {
        pollster::block_on(self.check(gpu))
    }
}
