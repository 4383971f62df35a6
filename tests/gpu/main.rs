//! Tests that need a device. Each is reported as ignored where there is none, and fails instead where
//! `KILN_REQUIRE_GPU=1`.

mod amused;
mod captions;
mod codes;
mod digits;
mod faults;
mod glyphs;
mod goldens;
mod parity;
mod pipelines;
mod range;
mod scenes;
mod session;
mod slabs;
mod states;
mod tuning;

#[path = "../../crates/cli/src/demo/things.rs"]
mod things;

use kiln::engine::{Gpu, GpuOptions};
use libtest_mimic::{Arguments, Failed, Trial};

/// A test that gets the device.
fn trial(
    name: String,
    gpu: &Result<Gpu, String>,
    test: impl FnOnce(&Gpu) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let required = std::env::var("KILN_REQUIRE_GPU").is_ok_and(|value| value == "1");
    match gpu {
        Ok(gpu) => {
            let gpu = gpu.clone();
            Trial::test(name, move || test(&gpu))
        }
        // Even where ignored tests are run on request, one without a device does not pass.
        Err(error) => {
            let error = error.clone();
            Trial::test(name, move || Err(error.into())).with_ignored_flag(!required)
        }
    }
}

/// How tests open devices: nothing depends on what the machine measured, and nothing is measured.
fn options() -> GpuOptions {
    GpuOptions { deterministic: true, ..Default::default() }
}

/// The device, unless `KILN_NO_GPU=1` asks for none.
fn open() -> Result<Gpu, String> {
    if std::env::var("KILN_NO_GPU").is_ok_and(|value| value == "1") {
        return Err("KILN_NO_GPU is set".into());
    }
    Gpu::open_blocking(&options()).map_err(|error| error.to_string())
}

fn main() {
    let mut arguments = Arguments::from_args();
    // A device runs one test at a time; software ones use every core for it.
    arguments.test_threads.get_or_insert(1);
    let gpu = open();
    match &gpu {
        Ok(gpu) => println!("device: {}", gpu.describe()),
        Err(error) => println!("no device: {error}"),
    }
    let mut trials = parity::trials(&gpu);
    trials.extend(session::trials(&gpu));
    trials.extend(states::trials(&gpu));
    trials.extend(range::trials(&gpu));
    trials.extend(slabs::trials(&gpu));
    trials.extend(faults::trials(&gpu));
    trials.extend(amused::trials(&gpu));
    trials.extend(captions::trials(&gpu));
    trials.extend(glyphs::trials(&gpu));
    trials.extend(codes::trials(&gpu));
    trials.extend(digits::trials(&gpu));
    trials.extend(pipelines::trials(&gpu));
    trials.extend(scenes::trials(&gpu));
    trials.extend(goldens::trials(&gpu));
    trials.extend(tuning::trials(&gpu));
    libtest_mimic::run(&arguments, trials).exit();
}
