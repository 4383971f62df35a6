//! What every model's folder is asked for.

mod model_config;

use std::sync::Arc;

use kiln_engine::Precision;
use serde_json::Value as Json;

use crate::weights::{self, Files, Part, SharedWeights};
use crate::{Device, Error};

pub use model_config::model_config;
pub(crate) use model_config::naming;

/// Largest configuration file.
const MAX_JSON: u64 = 64 << 20;

/// The files of a folder on disk.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn open(path: std::path::PathBuf) -> Result<Arc<dyn Files>, Error> {
    if !path.is_dir() {
        return Err(Error::Input(format!("{} is not a folder", path.display())));
    }
    Ok(Arc::new(crate::weights::Folder::new(path)))
}

/// The folder of a file on disk, and the file's name in it.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn split(path: &std::path::Path) -> Result<(Arc<dyn Files>, String), Error> {
    let name = path.file_name().ok_or_else(|| Error::Input(format!("{} is no file", path.display())))?;
    let folder = crate::weights::Folder::new(path.parent().unwrap_or(std::path::Path::new("")));
    Ok((Arc::new(folder), name.to_string_lossy().into_owned()))
}

/// A JSON file, where there is one of this name.
pub(crate) fn read_json(files: &Arc<dyn Files>, name: &str) -> Result<Option<Json>, Error> {
    let wrong = |error: String| Error::Input(format!("{}: {error}", files.display(name)));
    let Some(bytes) = files.read(name, MAX_JSON).map_err(|error| wrong(error.to_string()))? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(format!("it is no JSON: {error}")))
}

/// `config.json`.
pub(crate) fn config(files: &Arc<dyn Files>) -> Result<Json, Error> {
    read_json(files, "config.json")?.ok_or_else(|| {
        let folder = files.display("");
        Error::Input(format!("{} holds no config.json", folder.trim_end_matches('/')))
    })
}

/// A model's configuration and weights.
pub(crate) type Model = (Json, SharedWeights);

/// Refuses what is not the folder of a pipeline of one of these classes, or lacks one of these parts.
pub(crate) fn check_pipeline(files: &Arc<dyn Files>, classes: &[&str], parts: &[&str]) -> Result<(), Error> {
    const INDEX: &str = "model_index.json";
    let missing = |name: &str| {
        let folder = files.display("");
        let folder = folder.trim_end_matches('/');
        Error::Input(format!("{folder} holds no {name}, so it is no pipeline's folder"))
    };
    let index = read_json(files, INDEX)?.ok_or_else(|| missing(INDEX))?;
    match index.get("_class_name").and_then(Json::as_str) {
        Some(class) if classes.contains(&class) => {}
        Some(class) => return Err(Error::Input(format!("{}: Kiln has no {class}", files.display(INDEX)))),
        None => return Err(Error::Input(format!("{} names no pipeline", files.display(INDEX)))),
    }
    parts.iter().find(|part| !holds(files, part)).map_or(Ok(()), |part| Err(missing(part)))
}

/// Whether there is a folder of this name: one without a file is one that is not there.
pub(crate) fn holds(files: &Arc<dyn Files>, part: &str) -> bool {
    Part::new(files.clone(), part).list().is_ok_and(|names| !names.is_empty())
}

/// A folder within another.
pub(crate) fn part(files: &Arc<dyn Files>, name: &str) -> Arc<dyn Files> {
    Arc::new(Part::new(files.clone(), name))
}

/// A pipeline's model of this name.
pub(crate) fn model(files: &Arc<dyn Files>, name: &str) -> Result<Model, Error> {
    Ok((config(&part(files, name))?, weights::open_part(files, name)?))
}

/// Refuses f16 on a device without it.
pub(crate) fn check_precision(device: &Device, precision: Precision) -> Result<(), Error> {
    match (device, precision) {
        (Device::Gpu(gpu), Precision::F16) if !gpu.tier().f16 => {
            let feature = "16-bit floats (shader-f16)".into();
            Err(kiln_engine::Error::Unsupported { device: gpu.info().name.clone(), feature }.into())
        }
        _ => Ok(()),
    }
}

/// The classes' names: transformers' `id2label`, timm's `label_names`, or numbers.
pub(crate) fn labels(config: &Json, count: usize) -> Vec<String> {
    let by_id = config.get("id2label");
    let lists = [config.get("label_names"), config.get("pretrained_cfg").and_then(|c| c.get("label_names"))];
    let name = |class: usize| {
        let found = by_id.and_then(|labels| labels.get(class.to_string())).and_then(Json::as_str);
        let listed = lists.iter().flatten().find_map(|list| list.get(class)?.as_str());
        found.or(listed).map_or_else(|| format!("class {class}"), str::to_string)
    };
    (0..count).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_come_from_either_library() {
        assert_eq!(labels(&json!({"id2label": {"1": "b", "0": "a"}}), 3), ["a", "b", "class 2"]);
        assert_eq!(labels(&json!({"label_names": ["x", "y"]}), 2), ["x", "y"]);
    }
}
