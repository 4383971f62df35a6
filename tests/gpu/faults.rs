//! Faults of the device come out as errors, in time, and a new device works afterwards.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kiln::engine::{Cancel, CompileOptions, Error, Gpu, GpuOptions, Session, wgpu};
use kiln::graph::ops::Unary;
use kiln::graph::{Builder, DType, Graph, Tensor};
use libtest_mimic::{Failed, Trial};

/// y = x * 2 + 1 over `len` elements.
fn graph(len: usize) -> Graph {
    let mut builder = Builder::new();
    let x = builder.input("x", [len], DType::F32).expect("an input");
    let y = builder.unary(Unary::Affine { scale: 2.0, offset: 1.0 }, x).expect("an op");
    builder.output("y", y).expect("an output");
    builder.finish()
}

fn ones(len: usize) -> Tensor {
    Tensor::f32([len], vec![1.0; len]).expect("a tensor")
}

fn compile(gpu: &Gpu, graph: &Graph) -> Result<Session, Error> {
    Session::compile_blocking(gpu, graph, &HashMap::new(), &CompileOptions::default())
}

/// A device of its own: a test that breaks one must not break the others'.
fn fresh(options: &GpuOptions) -> Result<Gpu, Failed> {
    Gpu::open_blocking(options).map_err(|error| Failed::from(error.to_string()))
}

fn works(gpu: &Gpu) -> Result<(), Failed> {
    let out = compile(gpu, &graph(1000))?.run_blocking(&[("x", ones(1000))])?;
    let right = out[0].as_f32().is_some_and(|y| y.iter().all(|&v| v == 3.0));
    if right { Ok(()) } else { Err("the device computes wrongly".into()) }
}

fn expect_lost<T>(result: Result<T, Error>) -> Result<(), Failed> {
    match result {
        Err(error) if error.is_device_lost() => Ok(()),
        Err(error) => Err(format!("another error: {error}").into()),
        Ok(_) => Err("the loss of the device went unnoticed".into()),
    }
}

fn destroyed_before_compiling(_: &Gpu) -> Result<(), Failed> {
    let gpu = fresh(&crate::options())?;
    gpu.device().destroy();
    let started = Instant::now();
    let result = compile(&gpu, &graph(64)).and_then(|session| session.run_blocking(&[("x", ones(64))]));
    if result.is_ok() {
        return Err("the loss of the device went unnoticed".into());
    }
    if started.elapsed() > Duration::from_secs(20) {
        return Err("the loss of the device was noticed late".into());
    }
    works(&fresh(&crate::options())?)
}

fn destroyed_between_runs(_: &Gpu) -> Result<(), Failed> {
    let gpu = fresh(&crate::options())?;
    let session = compile(&gpu, &graph(64))?;
    session.run_blocking(&[("x", ones(64))])?;
    gpu.device().destroy();
    if session.run_blocking(&[("x", ones(64))]).is_ok() {
        return Err("the loss of the device went unnoticed".into());
    }
    // Once it is known, every further call says so.
    expect_lost(session.run_blocking(&[("x", ones(64))]))?;
    works(&fresh(&crate::options())?)
}

fn destroyed_during_a_run(_: &Gpu) -> Result<(), Failed> {
    let gpu = fresh(&crate::options())?;
    let session = compile(&gpu, &graph(4 << 20))?;
    let device = gpu.device().clone();
    let breaker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        device.destroy();
    });
    // However the race ends, it ends, and without a wrong answer.
    let mut result = Ok(Vec::new());
    for _ in 0..200 {
        result = session.run_blocking(&[("x", ones(4 << 20))]);
        match &result {
            Ok(out) if out[0].as_f32().is_some_and(|y| y.iter().all(|&v| v == 3.0)) => {}
            Ok(_) => return Err("a lost device gave a wrong answer".into()),
            Err(_) => break,
        }
    }
    breaker.join().map_err(|_| "the thread that destroys the device panicked")?;
    if result.is_ok() {
        return Err("the loss of the device went unnoticed".into());
    }
    works(&fresh(&crate::options())?)
}

fn cancelled(gpu: &Gpu) -> Result<(), Failed> {
    let session = compile(gpu, &graph(64))?;
    let cancel = Cancel::default();
    cancel.cancel();
    match pollster::block_on(session.run_with(&[("x", ones(64))], &cancel)) {
        Err(Error::Cancelled) => {}
        other => return Err(format!("instead of a cancelled run: {other:?}").into()),
    }
    works(gpu)
}

fn wrong_inputs(gpu: &Gpu) -> Result<(), Failed> {
    let session = compile(gpu, &graph(64))?;
    for inputs in [vec![], vec![("x", ones(63))], vec![("y", ones(64))]] {
        match session.run_blocking(&inputs) {
            Err(Error::Graph(_)) => {}
            other => return Err(format!("instead of a refusal: {other:?}").into()),
        }
    }
    works(gpu)
}

fn downlevel_limits(_: &Gpu) -> Result<(), Failed> {
    let limits = wgpu::Limits::defaults();
    works(&fresh(&GpuOptions { limits: Some(limits), ..crate::options() })?)
}

fn oversized_buffer_is_refused(_: &Gpu) -> Result<(), Failed> {
    let limits = wgpu::Limits {
        max_buffer_size: 1 << 20,
        max_storage_buffer_binding_size: 1 << 20,
        ..wgpu::Limits::defaults()
    };
    let gpu = fresh(&GpuOptions { limits: Some(limits), ..crate::options() })?;
    match compile(&gpu, &graph(1 << 20)) {
        Err(Error::Limit { needed, limit, .. }) if needed > limit => {}
        other => return Err(format!("instead of a limit: {:?}", other.err()).into()),
    }
    works(&gpu)
}

fn shared_device(_: &Gpu) -> Result<(), Failed> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
        .map_err(|error| error.to_string())?;
    let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
    let (device, queue) =
        pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| error.to_string())?;
    let gpu = Gpu::from_device(&adapter, device.clone(), queue, &crate::options());
    works(&gpu)?;
    // Nothing of Kiln's was installed: the application's own scope sees the application's own error.
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let _ = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 16,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    match pollster::block_on(scope.pop()) {
        Some(_) => works(&gpu),
        None => Err("the application's error was swallowed".into()),
    }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let tests: [(&str, fn(&Gpu) -> Result<(), Failed>); 8] = [
        ("destroyed_before_compiling", destroyed_before_compiling),
        ("destroyed_between_runs", destroyed_between_runs),
        ("destroyed_during_a_run", destroyed_during_a_run),
        ("cancelled", cancelled),
        ("wrong_inputs", wrong_inputs),
        ("downlevel_limits", downlevel_limits),
        ("oversized_buffer_is_refused", oversized_buffer_is_refused),
        ("shared_device", shared_device),
    ];
    tests.into_iter().map(|(name, test)| crate::trial(format!("faults::{name}"), gpu, test)).collect()
}
