//! Random numbers against PyTorch's (`tests/oracle/torch_random.py` writes them).

use kiln_models::random::Generator;
use serde_json::Value as Json;

/// Steps between two f32 numbers: how many others lie between them, and one.
fn steps(a: f32, b: f32) -> i64 {
    let place = |v: f32| {
        let bits = i64::from(v.to_bits() & 0x7fff_ffff);
        if v.is_sign_negative() { -bits } else { bits }
    };
    (place(a) - place(b)).abs()
}

/// The largest difference of all calls of the fixture for numbers of a kind, absolute and in steps.
fn largest_difference(kind: &str) -> (f32, i64) {
    let path = format!("{}/../../tests/fixtures/random.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut worst = (0.0, 0);
    for case in cases.as_array().unwrap() {
        let mut generator = Generator::new(case["seed"].as_str().unwrap().parse().unwrap());
        for call in case["calls"].as_array().unwrap() {
            let count = call["length"].as_u64().unwrap() as usize;
            let values = match call["kind"].as_str().unwrap() {
                "normal" => generator.normals(count),
                "uniform" => generator.uniforms(count),
                _ => generator.exponentials(count),
            };
            assert_eq!(values.len(), count);
            if call["kind"] != kind {
                continue;
            }
            let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
            assert!((sum - call["sum"].as_f64().unwrap()).abs() < 1e-7 * count as f64, "the sum is {sum}");
            let stride = call["stride"].as_u64().unwrap() as usize;
            let samples = values.iter().step_by(stride);
            let last = values.iter().skip(count.saturating_sub(20));
            let wanted = |key: &str| call[key].as_array().unwrap().clone().into_iter();
            for (&value, wanted) in samples.zip(wanted("samples")).chain(last.zip(wanted("last"))) {
                let wanted = wanted.as_f64().unwrap() as f32;
                worst.0 = f32::max(worst.0, (value - wanted).abs());
                worst.1 = i64::max(worst.1, steps(value, wanted));
            }
        }
    }
    worst
}

#[test]
fn normal_numbers() {
    let (difference, steps) = largest_difference("normal");
    println!("largest difference {difference:e}, {steps} steps of f32");
    assert!(difference <= 1e-6, "largest difference {difference:e}, {steps} steps of f32");
}

#[test]
fn uniform_numbers_bit_for_bit() {
    assert_eq!(largest_difference("uniform"), (0.0, 0));
}

#[test]
fn exponential_numbers() {
    // Logarithms differ in the last bit of f64, which seldom shows in f32.
    let (_, steps) = largest_difference("exponential");
    assert!(steps <= 1, "{steps} steps of f32");
}
