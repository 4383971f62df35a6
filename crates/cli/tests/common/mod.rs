//! Running the binary.

use std::path::Path;
use std::process::{Command, Output};

/// The binary's output. It never panics.
pub fn run(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(arguments)
        .env_remove("KILN_DISABLE")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    output
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The command ends with code 2 and one sentence, which holds all of `parts`.
pub fn refused(arguments: &[&str], parts: &[&str]) {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}{}", stdout(&output));
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{arguments:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{arguments:?} should say {part:?}: {stderr}");
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
