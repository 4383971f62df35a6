//! Which configuration lies beside a model's weights: JSON or YAML.

use std::sync::Arc;

use serde_json::Value as Json;

use super::read_json;
use crate::Error;
use crate::weights::Files;

/// Largest YAML file.
const MAX_YAML: u64 = 1 << 20;

/// What the paper's code calls its configurations; behind a date it puts the same names.
const NAMES: [&str; 2] = ["config", "project"];

/// A model's configuration, and the name of its file: `config.json` or, where there is none, a YAML file as VQGAN's code has
/// it. [`Error::Input`] where there is neither, or it cannot be read.
pub fn model_config(files: &Arc<dyn Files>) -> Result<(String, Json), Error> {
    const JSON: &str = "config.json";
    if let Some(json) = read_json(files, JSON)? {
        return Ok((JSON.into(), json));
    }
    let title = files.display("");
    let title = title.trim_end_matches('/');
    let listed = files.list().map_err(|error| Error::Input(format!("{title}: {error}")))?;
    let is_yaml = |name: &&String| name.ends_with(".yaml") || name.ends_with(".yml");
    let yaml: Vec<&String> = listed.iter().filter(is_yaml).collect();
    let stem = |name: &str| name.trim_end_matches(".yaml").trim_end_matches(".yml").to_string();
    let exact = NAMES.iter().find_map(|wanted| yaml.iter().find(|name| stem(name) == *wanted));
    let dated = || {
        NAMES.iter().find_map(|wanted| yaml.iter().find(|name| stem(name).ends_with(&format!("-{wanted}"))))
    };
    let name = match (exact.or_else(dated), &yaml[..]) {
        (Some(name), _) | (None, [name]) => name.to_string(),
        (None, []) => return Err(Error::Input(format!("{title} holds no config.json and no YAML file"))),
        (None, many) => {
            return Err(Error::Input(format!("{title} holds {} YAML files and no config.yaml", many.len())));
        }
    };
    let json = read_yaml(files, &name)?;
    Ok((name, json))
}

fn read_yaml(files: &Arc<dyn Files>, name: &str) -> Result<Json, Error> {
    let wrong = |error: String| Error::Input(format!("{}: {error}", files.display(name)));
    let bytes = files.read(name, MAX_YAML).map_err(|error| wrong(error.to_string()))?.unwrap_or_default();
    serde_saphyr::from_slice(&bytes).map_err(|error| {
        // What follows shows the place.
        let error = error.to_string();
        let line = error.lines().next().unwrap_or_default();
        wrong(format!("it is no YAML: {}", line.trim_start_matches("error: ")))
    })
}

/// An error of a configuration's content by the name of its file.
pub(crate) fn naming(error: Error, files: &Arc<dyn Files>, name: &str) -> Error {
    match error {
        Error::Config(reason) if name != "config.json" => {
            Error::Input(format!("{}: {reason}", files.display(name)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Memory;
    use serde_json::json;

    fn memory(names: &[&str]) -> Arc<dyn Files> {
        let mut memory = Memory::of("m");
        for name in names {
            let text =
                if name.ends_with("json") { format!("{{\"of\": {name:?}}}") } else { format!("of: {name}") };
            memory.insert(*name, text.into_bytes());
        }
        Arc::new(memory)
    }

    #[test]
    fn a_configuration_is_found_by_its_usual_names() {
        for (names, expected) in [
            (&["a.yaml", "config.json", "config.yaml"][..], "config.json"),
            (&["a.yaml", "config.yaml", "project.yaml"], "config.yaml"),
            (&["a.yml", "project.yml"], "project.yml"),
            (&["2020-lightning.yaml", "2020-project.yaml"], "2020-project.yaml"),
            (&["model.yaml", "model.safetensors"], "model.yaml"),
        ] {
            assert_eq!(
                model_config(&memory(names)).unwrap(),
                (expected.to_string(), json!({ "of": expected }))
            );
        }
        let error = |names: &[&str]| model_config(&memory(names)).unwrap_err().to_string();
        assert_eq!(error(&["model.safetensors"]), "m holds no config.json and no YAML file");
        assert_eq!(error(&["a.yaml", "b.yaml"]), "m holds 2 YAML files and no config.yaml");
    }

    #[test]
    fn errors_name_the_configurations_file() {
        let naming =
            |name: &str| super::naming(Error::Config("it is wrong".into()), &memory(&[]), name).to_string();
        assert_eq!(naming("config.yaml"), "m/config.yaml: it is wrong");
        assert_eq!(naming("config.json"), "config.json: it is wrong");
    }

    #[test]
    fn what_is_no_yaml_is_refused_in_one_line() {
        for (text, reason) in [("a: [1", "line 1 column 4"), ("a: 1\na: 2", "duplicate"), ("a: .nan", ".nan")]
        {
            let mut memory = Memory::of("m");
            memory.insert("config.yaml", text.as_bytes());
            let files: Arc<dyn Files> = Arc::new(memory);
            let error = model_config(&files).unwrap_err().to_string();
            assert!(error.starts_with("m/config.yaml: it is no YAML: ") && error.contains(reason), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
