//! Pipelines of a graph, built before its steps are assembled: several at once where there are threads, since most of
//! the time goes into drivers' compilers.

use std::collections::HashSet;

use kiln_graph::Kernel;

use super::Step;
use crate::{Error, Gpu};

/// A kernel to build, and the first node that wants it.
pub(super) struct Wanted<'a> {
    kernel: &'a Kernel,
    label: String,
    path: &'a str,
}

impl Wanted<'_> {
    async fn build(&self, gpu: &Gpu) -> Result<(), Error> {
        match gpu.pipeline(&self.label, self.kernel).await {
            Ok(_) => Ok(()),
            Err(Error::Shader { label, message }) => {
                Err(Error::Shader { label: format!("{label} at {:?}", self.path), message })
            }
            Err(error) => Err(error),
        }
    }
}

/// The distinct kernels of the steps, in order.
pub(super) fn distinct_kernels<'a>(steps: &'a [Step]) -> Vec<Wanted<'a>> {
    let mut seen = HashSet::new();
    let mut wanted = Vec::new();
    for step in steps {
        for dispatch in step.launch.dispatches.iter().filter(|dispatch| dispatch.groups > 0) {
            if seen.insert(&dispatch.kernel) {
                let label = format!("{}-{}", step.node.op.name(), step.launch.name);
                wanted.push(Wanted { kernel: &dispatch.kernel, label, path: &step.node.path });
            }
        }
    }
    wanted
}

/// Builds the kernels' pipelines. `progress` hears how many are done.
pub(super) async fn build_pipelines(
    gpu: &Gpu,
    wanted: &[Wanted<'_>],
    progress: &mut dyn FnMut(usize),
) -> Result<(), Error> {
    #[cfg(not(target_arch = "wasm32"))]
    if threads(wanted.len()) > 1 {
        return build_at_once(gpu, wanted, progress);
    }
    for (index, kernel) in wanted.iter().enumerate() {
        kernel.build(gpu).await?;
        progress(index + 1);
    }
    Ok(())
}

/// Threads that build so many kernels: drivers' compilers want memory, so not all cores of a large machine.
#[cfg(not(target_arch = "wasm32"))]
fn threads(kernels: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(8).min(kernels)
}

/// Builds on several threads, the calling one being busy with progress. Error scopes belong to a thread each, so every
/// thread sees its own kernels' errors; of several, the first node's is given, as if one had been built after another.
#[cfg(not(target_arch = "wasm32"))]
fn build_at_once(gpu: &Gpu, wanted: &[Wanted], progress: &mut dyn FnMut(usize)) -> Result<(), Error> {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let next = AtomicUsize::new(0);
    let (sender, receiver) = std::sync::mpsc::channel();
    let build = |sender: std::sync::mpsc::Sender<(usize, Result<(), Error>)>| {
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(kernel) = wanted.get(index)
        {
            let built = pollster::block_on(kernel.build(gpu));
            if built.is_err() {
                // Nobody starts another.
                next.store(wanted.len(), Ordering::Relaxed);
            }
            if sender.send((index, built)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let mut workers = 0;
        for _ in 0..threads(wanted.len()) {
            let sender = sender.clone();
            let worker = std::thread::Builder::new().name("kiln-pipelines".into());
            workers += usize::from(worker.spawn_scoped(scope, || build(sender)).is_ok());
        }
        if workers == 0 {
            build(sender.clone());
        }
        drop(sender);
        let mut failed: Option<(usize, Error)> = None;
        for (done, (index, built)) in receiver.iter().enumerate() {
            progress(done + 1);
            if let Err(error) = built
                && failed.as_ref().is_none_or(|(first, _)| index < *first)
            {
                failed = Some((index, error));
            }
        }
        failed.map_or(Ok(()), |(_, error)| Err(error))
    })
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use std::sync::{Arc, PoisonError};

    use kiln_graph::Unit;

    use super::*;
    use crate::GpuOptions;

    const WGSL: &str = "override SIZE: u32 = 1; @compute @workgroup_size(SIZE) fn main() {}";
    const BROKEN: &str = "override SIZE: u32 = 1; @compute @workgroup_size(SIZE) fn not_main() {}";

    /// Kernels that differ in an override; those named in `broken` parse, and lack the entry point.
    fn kernels(count: u32, broken: &[u32]) -> Vec<Kernel> {
        let text = |i: u32| if broken.contains(&i) { BROKEN } else { WGSL };
        (0..count).map(|i| Kernel::new([Unit::custom("test", text(i))]).set("SIZE", 1 + i)).collect()
    }

    fn wanted<'a>(kernels: &'a [Kernel], paths: &'a [String]) -> Vec<Wanted<'a>> {
        let one =
            |(kernel, path): (&'a Kernel, &'a String)| Wanted { kernel, label: "op-lanes".into(), path };
        kernels.iter().zip(paths).map(one).collect()
    }

    fn paths(count: u32) -> Vec<String> {
        (0..count).map(|i| format!("layer.{i}")).collect()
    }

    #[test]
    fn every_pipeline_is_built_once_and_reported() {
        let gpu = Gpu::noop(&GpuOptions::default());
        let (kernels, paths) = (kernels(20, &[]), paths(20));
        let wanted = wanted(&kernels, &paths);
        let mut heard = Vec::new();
        pollster::block_on(build_pipelines(&gpu, &wanted, &mut |done| heard.push(done))).unwrap();
        assert_eq!(heard, (1..=20).collect::<Vec<_>>());
        assert_eq!(gpu.pipelines.lock().unwrap_or_else(PoisonError::into_inner).len(), 20);
    }

    #[test]
    fn threads_that_ask_at_once_share_one_pipeline() {
        let gpu = Gpu::noop(&GpuOptions::default());
        let kernels = kernels(1, &[]);
        let all: Vec<_> = std::thread::scope(|scope| {
            let ask = || scope.spawn(|| pollster::block_on(gpu.pipeline("same", &kernels[0])).unwrap());
            let threads: Vec<_> = (0..8).map(|_| ask()).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|pipeline| Arc::ptr_eq(pipeline, &all[0])));
    }

    #[test]
    fn an_error_names_the_first_node_that_has_it() {
        let gpu = Gpu::noop(&GpuOptions::default());
        let (broken, broken_paths) = (kernels(20, &[0, 1, 7]), paths(20));
        let result = pollster::block_on(build_pipelines(&gpu, &wanted(&broken, &broken_paths), &mut |_| {}));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("op-lanes at \"layer.0\""), "{error}");
        // The threads' error scopes caught it; nothing is left over for whoever calls next.
        gpu.guarded.check().unwrap();
        let (good, good_paths) = (kernels(4, &[]), paths(4));
        pollster::block_on(build_pipelines(&gpu, &wanted(&good, &good_paths), &mut |_| {})).unwrap();
    }
}
