//! Configurations of models of two stages, as the paper's code has them.

use serde_json::Value as Json;

use crate::config::Config as Reader;
use crate::{Error, folder, gpt};

/// Most classes that a configuration may tell of.
const MAX_CLASSES: usize = 1 << 20;

/// Both stages, and what they are asked for by.
pub(super) struct Config {
    pub transformer: gpt::Config,
    /// That of the autoencoder.
    pub first_stage: Json,
    pub condition: Source,
}

/// Where the tokens before a picture's come from.
pub(super) enum Source {
    /// They are always this one.
    Start(usize),
    /// A class's number. Names are empty where the configuration tells none.
    Classes(Vec<String>),
    /// A map's codes, by an autoencoder of this configuration.
    Map(Json),
    /// A picture's codes, by the first stage.
    FirstStage,
}

/// The configuration of a `Net2NetTransformer`: `params`, in a file's `model` or without what is around them.
fn params(json: &Json) -> &Json {
    let model = json.get("model").unwrap_or(json);
    model.get("params").unwrap_or(model)
}

impl Config {
    /// Whether a configuration is that of a model of two stages.
    pub fn is(json: &Json) -> bool {
        params(json).get("transformer_config").is_some()
    }

    pub fn from_json(json: &Json) -> Result<Self, Error> {
        let params = params(json);
        let reader = Reader(params);
        let wrong = |reason: String| Err(Error::Config(reason));
        let part = |key: &str| params.get(key).ok_or_else(|| Error::Config(format!("it has no {key}")));
        let transformer = part("transformer_config")?;
        if let Some(other) = Reader(transformer).str("target")?.filter(|target| class(target) != "GPT") {
            return wrong(format!(
                "its transformer is a {other}, and Kiln has taming-transformers' GPT alone"
            ));
        }
        for key in ["permuter_config", "first_stage_permuter_config"] {
            let permuter = params.get(key).filter(|config| !config.is_null());
            let name = permuter.map(|config| Reader(config).str("target")).transpose()?.flatten();
            if let Some(other) = name.filter(|target| class(target) != "Identity") {
                return wrong(format!(
                    "its codes are in the order of {other}, and Kiln writes them row by row"
                ));
            }
        }
        // Less than 0 means that there is none, which is no size.
        if params.get("downsample_cond_size").and_then(Json::as_i64).is_some_and(|size| size > -1) {
            return wrong("downsample_cond_size shrinks its maps, which Kiln does not".into());
        }
        Ok(Self {
            transformer: gpt::Config::from_json(transformer)?,
            first_stage: part("first_stage_config")?.clone(),
            condition: source(json, part("cond_stage_config")?, reader)?,
        })
    }
}

fn source(json: &Json, config: &Json, params: Reader<'_>) -> Result<Source, Error> {
    let start = || Ok::<_, Error>(Source::Start(params.size("sos_token")?.unwrap_or(0)));
    if params.flag("unconditional")? == Some(true) {
        return start();
    }
    match config.as_str() {
        Some("__is_unconditional__") => return start(),
        Some("__is_first_stage__") => return Ok(Source::FirstStage),
        Some(other) => {
            return Err(Error::Config(format!("cond_stage_config is {other:?}, which Kiln does not know")));
        }
        None => {}
    }
    let reader = Reader(config);
    let target = reader.str("target")?.unwrap_or_default();
    match class(target) {
        "SOSProvider" => Ok(Source::Start(reader.nested("params").size("sos_token")?.unwrap_or(0))),
        "Labelator" => {
            let count = reader.nested("params").size("n_classes")?;
            let count = count.ok_or_else(|| Error::Config("its Labelator has no n_classes".into()))?;
            if count == 0 || count > MAX_CLASSES {
                return Err(Error::Config(format!("{count} classes are not 1 to {MAX_CLASSES}")));
            }
            Ok(Source::Classes(folder::labels(json, count)))
        }
        "VQModel" | "VQSegmentationModel" | "VQNoDiscModel" | "GumbelVQ" | "EMAVQ" => {
            Ok(Source::Map(config.clone()))
        }
        _ => Err(Error::Config(format!("it is asked for pictures by {target:?}, which Kiln does not know"))),
    }
}

/// The last part of a Python path.
fn class(target: &str) -> &str {
    target.rsplit('.').next().unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(key: &str, value: Json) -> Json {
        let mut config = json!({"model": {
            "target": "taming.models.cond_transformer.Net2NetTransformer",
            "params": {
                "transformer_config": {
                    "target": "taming.modules.transformer.mingpt.GPT",
                    "params": {"vocab_size": 16, "block_size": 9, "n_layer": 1, "n_head": 1, "n_embd": 4}
                },
                "first_stage_config": {"target": "taming.models.vqgan.VQModel", "params": {}},
                "cond_stage_config": "__is_unconditional__"
            }
        }});
        config["model"]["params"][key] = value;
        config
    }

    #[test]
    fn conditions_are_those_of_the_papers_code() {
        let source = |value| Config::from_json(&with("cond_stage_config", value)).unwrap().condition;
        assert!(matches!(source(json!("__is_unconditional__")), Source::Start(0)));
        assert!(matches!(source(json!("__is_first_stage__")), Source::FirstStage));
        let classes = json!({"target": "taming.modules.util.Labelator", "params": {"n_classes": 2}});
        assert!(matches!(source(classes), Source::Classes(names) if names == ["class 0", "class 1"]));
        assert!(matches!(source(json!({"target": "taming.models.vqgan.VQModel"})), Source::Map(_)));
        let start = Config::from_json(&with("sos_token", json!(3))).unwrap().condition;
        assert!(matches!(start, Source::Start(3)));
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        for (key, value, part) in [
            ("cond_stage_config", json!({"target": "taming.modules.misc.coord.CoordStage"}), "CoordStage"),
            (
                "cond_stage_config",
                json!({"target": "taming.modules.util.Labelator", "params": {}}),
                "n_classes",
            ),
            ("cond_stage_config", json!("text"), "text"),
            ("permuter_config", json!({"target": "taming.modules.transformer.permuter.ZCurve"}), "ZCurve"),
            ("downsample_cond_size", json!(64), "downsample_cond_size"),
            ("transformer_config", json!({"target": "my.Transformer"}), "my.Transformer"),
            ("transformer_config", json!({"params": {"block_size": 3}}), "vocab_size"),
        ] {
            let error = Config::from_json(&with(key, value)).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(Config::from_json(&with("downsample_cond_size", json!(-1))).is_ok());
        assert!(Config::is(&with("sos_token", json!(0))) && !Config::is(&json!({"model": {}})));
    }
}
