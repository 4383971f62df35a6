//! COCO's measure against pycocotools' numbers (`tests/oracle/coco.py` writes them).

use kiln_models::coco::{Dataset, Detected, evaluate};
use serde_json::Value as Json;

fn compare(name: &str) {
    let path = format!("{}/../../tests/fixtures/coco/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let case: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let dataset = Dataset::from_json(case["dataset"].to_string().as_bytes()).unwrap();
    let results: Vec<Detected> = serde_json::from_value(case["results"].clone()).unwrap();
    let found = evaluate(&dataset, &results).unwrap();
    let mut numbers = vec![found.ap, found.ap50, found.ap75];
    numbers.extend(found.ap_by_area);
    numbers.extend(found.ar);
    numbers.extend(found.ar_by_area);
    let wanted: Vec<f64> = serde_json::from_value(case["stats"].clone()).unwrap();
    assert_eq!(numbers.len(), wanted.len());
    for (i, (number, wanted)) in numbers.iter().zip(&wanted).enumerate() {
        assert!((number - wanted).abs() < 1e-9, "number {i}: {number} instead of {wanted}");
    }
}

#[test]
fn ordinary_detections() {
    compare("plain");
}

#[test]
fn crowds() {
    compare("crowds");
}

#[test]
fn areas_without_objects() {
    compare("one");
}
