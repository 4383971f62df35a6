//! The kiln binary.

mod bench;
mod bundled;
mod canvas;
mod check;
mod classify;
mod codes;
mod demo;
mod detect;
mod device;
mod devices;
mod gallery;
mod generate;
mod made;
mod opened;
mod output;
mod profile;
mod sample;
mod targets;
mod verify;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// GPU inference on wgpu with hand-written WGSL kernels.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    device: device::DeviceArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Devices(devices::Args),
    Check(check::Args),
    Classify(classify::Args),
    Detect(detect::Args),
    #[command(name = "text2image")]
    Text2Image(generate::TextArgs),
    #[command(name = "img2img")]
    Img2Img(generate::PictureArgs),
    Inpaint(generate::MaskArgs),
    Reconstruct(codes::ReconstructArgs),
    Encode(codes::EncodeArgs),
    Decode(codes::DecodeArgs),
    Sample(sample::Args),
    Demo(demo::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Profile(profile::Args),
}

/// What the exit code says: 0 done, 1 a check failed, 2 bad usage or bad input.
enum Outcome {
    Done,
    CheckFailed,
    /// Some input was refused, and said so; the rest was done.
    BadInput,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Devices(args) => devices::run(args, &cli.device),
        Command::Check(args) => check::run(args, &cli.device),
        Command::Classify(args) => classify::run(args, &cli.device),
        Command::Detect(args) => detect::run(args, &cli.device),
        Command::Text2Image(args) => generate::text2image(args, &cli.device),
        Command::Img2Img(args) => generate::img2img(args, &cli.device),
        Command::Inpaint(args) => generate::inpaint(args, &cli.device),
        Command::Reconstruct(args) => codes::reconstruct(args, &cli.device),
        Command::Encode(args) => codes::encode(args, &cli.device),
        Command::Decode(args) => codes::decode(args, &cli.device),
        Command::Sample(args) => sample::run(args, &cli.device),
        Command::Demo(args) => demo::run(args, &cli.device),
        Command::Verify(args) => verify::run(args, &cli.device),
        Command::Bench(args) => bench::run(args, &cli.device),
        Command::Profile(args) => profile::run(args, &cli.device),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::CheckFailed) => ExitCode::from(1),
        Ok(Outcome::BadInput) => ExitCode::from(2),
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::from(2)
        }
    }
}

/// An error with what caused it, as one sentence. Causes that an error's own text already tells are left out.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
