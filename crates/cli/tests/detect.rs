//! `kiln detect` from outside. No test needs a GPU.

mod common;

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use common::{refused, run, stdout, text};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Eight scenes with annotations.
fn samples() -> PathBuf {
    root().join("examples/models/scenes-detr/samples")
}

fn scene(i: usize) -> String {
    text(&samples().join(format!("scene-000{i}.png"))).to_string()
}

/// A tiny model with a head for masks.
fn segmenter() -> PathBuf {
    root().join("tests/fixtures/detr/segmentation")
}

fn read_json(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// `name` followed by a number in what was printed.
fn number(lines: &str, name: &str) -> f64 {
    let line = lines.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_digits_of_the_samples_are_found() {
    let annotations = samples().join("annotations.json");
    let output = run(&["detect", "scenes", "--eval", text(&annotations), "--device", "cpu"]);
    let lines = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{lines}");
    assert!(number(&lines, "AP50") > 0.94 && number(&lines, "AP75") > 0.88, "{lines}");
}

#[test]
fn tables_and_pictures_tell_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [coco, csv, drawn] = ["found.json", "found.csv", "drawn"].map(|name| folder.path().join(name));
    let pattern = text(&samples()).to_string() + "/scene-000[013].png";
    let output = run(&[
        "detect",
        "scenes",
        &pattern,
        "--device",
        "cpu",
        "--precision",
        "f16",
        "--coco",
        text(&coco),
        "--csv",
        text(&csv),
        "--annotate",
        text(&drawn),
        "--attention",
        text(&drawn),
    ]);
    let lines = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{lines}");
    let found = read_json(&coco);
    assert_eq!(found["images"].as_array().unwrap().len(), 3);
    let list = found["annotations"].as_array().unwrap();
    let table = std::fs::read_to_string(&csv).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let printed: Vec<&str> = lines.lines().filter(|line| line.contains(" %  ")).collect();
    assert!(list.len() > 3 && list.len() == rows.len() && list.len() == printed.len(), "{lines}");
    for ((entry, row), printed) in list.iter().zip(&rows).zip(printed) {
        let id = entry["category_id"].as_u64().unwrap() as usize;
        assert_eq!(found["categories"][id]["name"], json!(row[1]));
        assert!(printed.contains(row[1]), "{printed} {row:?}");
        let [left, right]: [f64; 2] = [row[3], row[5]].map(|v| v.parse().unwrap());
        assert!((entry["bbox"][0].as_f64().unwrap() - left).abs() < 1e-3);
        assert!((entry["bbox"][2].as_f64().unwrap() - (right - left)).abs() < 1e-3);
    }
    let mut names: Vec<String> =
        std::fs::read_dir(&drawn).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let pairs = [0, 1, 3].map(|i| [format!("scene-000{i}-attention.png"), format!("scene-000{i}.png")]);
    assert_eq!(names, pairs.concat());
    // Small pictures are enlarged, so that labels can be read.
    assert_eq!(image::image_dimensions(drawn.join("scene-0000.png")).unwrap(), (512, 512));
}

#[test]
fn nothing_found_is_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let coco = folder.path().join("found.json");
    let arguments =
        ["detect", "scenes", &scene(0), "--device", "cpu", "--threshold", "1", "--coco", text(&coco)];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("nothing above 100.0 %"));
    assert_eq!(read_json(&coco)["annotations"], json!([]));
}

#[test]
fn pictures_of_any_proportions_are_taken_and_empty_ones_refused() {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, width, height| {
        let path = folder.path().join(name);
        image::RgbImage::new(width, height).save(&path).unwrap();
        path
    };
    let [dot, wide] = [save("dot.png", 1, 1), save("wide.png", 60_000, 2)];
    let drawn = folder.path().join("drawn");
    for model in ["scenes", text(&segmenter())] {
        let output =
            run(&["detect", model, text(&dot), text(&wide), "--device", "cpu", "--annotate", text(&drawn)]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(image::image_dimensions(drawn.join("wide.png")).unwrap(), (60_000, 2));
    let empty = folder.path().join("empty.png");
    std::fs::write(&empty, b"").unwrap();
    refused(&["detect", "scenes", text(&empty), "--device", "cpu"], &["empty.png"]);
}

#[test]
fn annotations_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("annotations.json");
    let good = read_json(&samples().join("annotations.json"));
    let refuses = |change: &dyn Fn(&mut Json), parts: &[&str]| {
        let mut json = good.clone();
        change(&mut json);
        std::fs::write(&file, json.to_string()).unwrap();
        let pictures = samples();
        refused(&["detect", "scenes", text(&pictures), "--eval", text(&file), "--device", "cpu"], parts);
    };
    refuses(&|json| json["annotations"][0]["image_id"] = json!(99), &["image 99", "not there"]);
    refuses(&|json| json["annotations"][0]["category_id"] = json!(99), &["category 99"]);
    refuses(&|json| json["annotations"][0]["bbox"] = json!([0, 0, -1, 5]), &["-1.0"]);
    refuses(&|json| json["annotations"][0]["bbox"] = json!([0, 0]), &["annotations.json", "no COCO"]);
    refuses(&|json| json["images"][1]["id"] = json!(1), &["two images have the id 1"]);
    refuses(&|json| json["images"][1]["file_name"] = json!("lost.png"), &["lost.png"]);
    let others = json!([{ "id": 77, "name": "cat" }]);
    let cats = |json: &mut Json| {
        json["categories"] = others.clone();
        json["annotations"] = json!([]);
    };
    refuses(&cats, &["none of the model's classes"]);
    std::fs::write(&file, "{").unwrap();
    refused(&["detect", "scenes", "--eval", text(&file), "--device", "cpu"], &["annotations.json"]);
    let two = [scene(0), scene(1)];
    let annotations = samples().join("annotations.json");
    refused(&["detect", "scenes", &two[0], &two[1], "--eval", text(&annotations)], &["one folder"]);
}

#[test]
fn segments_are_painted_where_the_model_has_a_head_for_masks() {
    let folder = tempfile::tempdir().unwrap();
    let model = segmenter();
    let painted = folder.path().join("painted");
    let arguments = ["--device", "cpu", "--threshold", "0.2", "--segment", text(&painted)];
    let picture = text(&root().join("examples/models/digits-vit/samples/digit-1621-one.png")).to_string();
    let output = run(&[&["detect", text(&model), &picture][..], &arguments].concat());
    let lines = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{lines}");
    assert!(lines.contains("segment 1,") && lines.contains("% of the picture"), "{lines}");
    let [before, after] = [PathBuf::from(&picture), painted.join("digit-1621-one-segments.png")]
        .map(|path| image::open(path).unwrap().to_rgb8());
    // Black became the class's colour.
    assert_eq!((before.get_pixel(1, 30).0, after.dimensions()), ([0; 3], (480, 480)));
    assert_ne!(after.get_pixel(18, 366).0, [0; 3]);
    let sky = [&["detect", text(&model), &picture][..], &arguments, &["--fuse", "sky"]].concat();
    refused(&sky, &["\"sky\"", "no class"]);
    refused(&[&["detect", "scenes", &picture][..], &arguments].concat(), &["no head for masks"]);
}

#[test]
fn what_is_no_detector_is_refused() {
    let picture = scene(0);
    refused(&["detect", "digits", &picture, "--device", "cpu"], &["\"vit\""]);
    refused(&["detect", "scenes", "no/such.png", "--device", "cpu"], &["no/such.png"]);
    refused(
        &["detect", "scenes", &picture, "--device", "cpu", "--annotate", text(&samples())],
        &["write over"],
    );
    refused(&["detect", "scenes", &picture, "--device", "cpu", "--csv", "no/such/table.csv"], &["table.csv"]);
    assert_eq!(run(&["detect", "scenes", &picture, "--threshold", "nan"]).status.code(), Some(2));
    assert_eq!(run(&["detect", "scenes"]).status.code(), Some(2));
}
