//! A `scheduler_config.json`, read key by key with the defaults of the class.

use serde_json::Value as Json;

use super::SchedulerError;

/// Most timesteps of training: far more than any model has, few enough for tables of them.
const MOST_TIMESTEPS: usize = 100_000;

/// How the model was trained: what its output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity (Salimans and Ho 2022, <https://arxiv.org/abs/2202.00512>).
    Velocity,
    /// The clean sample.
    Sample,
}

impl Prediction {
    pub const ALL: [Self; 3] = [Self::Epsilon, Self::Velocity, Self::Sample];
}

/// A configuration, read as that of `class`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    pub class: &'a str,
    pub json: &'a Json,
}

impl<'a> Settings<'a> {
    fn get<T>(
        self,
        key: &'static str,
        kind: &'static str,
        default: T,
        read: impl Fn(&'a Json) -> Option<T>,
    ) -> Result<T, SchedulerError> {
        match self.json.get(key) {
            None | Some(Json::Null) => Ok(default),
            Some(value) => read(value).ok_or_else(|| SchedulerError::Setting {
                class: self.class.into(),
                key,
                value: value.to_string(),
                kind,
            }),
        }
    }

    pub fn flag(self, key: &'static str, default: bool) -> Result<bool, SchedulerError> {
        self.get(key, "true or false", default, Json::as_bool)
    }

    pub fn number(self, key: &'static str, default: f64) -> Result<f64, SchedulerError> {
        self.get(key, "a number", default, Json::as_f64)
    }

    /// A number or none.
    pub fn optional(self, key: &'static str) -> Result<Option<f64>, SchedulerError> {
        self.get(key, "a number above 0", None, |value| value.as_f64().filter(|&v| v > 0.0).map(Some))
    }

    pub fn count(self, key: &'static str, default: usize) -> Result<usize, SchedulerError> {
        self.get(key, "a count", default, as_count)
    }

    pub fn counts(self, key: &'static str) -> Result<Vec<usize>, SchedulerError> {
        self.get(key, "a list of counts", Vec::new(), |value| {
            value.as_array()?.iter().map(as_count).collect()
        })
    }

    pub fn numbers(self, key: &'static str) -> Result<Option<Vec<f64>>, SchedulerError> {
        self.get(key, "a list of numbers", None, |value| {
            value.as_array()?.iter().map(Json::as_f64).collect::<Option<_>>().map(Some)
        })
    }

    pub fn str(self, key: &'static str, default: &'a str) -> Result<&'a str, SchedulerError> {
        self.get(key, "a string", default, Json::as_str)
    }

    /// The error of a value that is not supported.
    pub fn unsupported(self, key: &'static str, value: impl ToString) -> SchedulerError {
        SchedulerError::Unsupported { class: self.class.into(), key, value: value.to_string() }
    }

    /// Refuses switches that are on.
    pub fn refuse(self, keys: &[&'static str]) -> Result<(), SchedulerError> {
        for key in keys {
            if self.flag(key, false)? {
                return Err(self.unsupported(key, true));
            }
        }
        Ok(())
    }

    /// Timesteps of training.
    pub fn training(self) -> Result<usize, SchedulerError> {
        let training = self.count("num_train_timesteps", 1000)?;
        if training == 0 || training > MOST_TIMESTEPS {
            return Err(self.unsupported("num_train_timesteps", training));
        }
        Ok(training)
    }

    /// The output of the model, where it is one of `allowed`.
    pub fn prediction(self, allowed: &[Prediction]) -> Result<Prediction, SchedulerError> {
        let name = self.str("prediction_type", "epsilon")?;
        let prediction = match name {
            "epsilon" => Prediction::Epsilon,
            "v_prediction" => Prediction::Velocity,
            "sample" => Prediction::Sample,
            _ => return Err(self.unsupported("prediction_type", name)),
        };
        if !allowed.contains(&prediction) {
            return Err(self.unsupported("prediction_type", name));
        }
        Ok(prediction)
    }

    /// The range to which the predicted clean sample is clipped, if it is.
    pub fn clip(self, default: bool) -> Result<Option<f64>, SchedulerError> {
        let range = self.number("clip_sample_range", 1.0)?;
        if self.flag("clip_sample", default)? {
            return if range > 0.0 {
                Ok(Some(range))
            } else {
                Err(self.unsupported("clip_sample_range", range))
            };
        }
        Ok(None)
    }
}

fn as_count(value: &Json) -> Option<usize> {
    let count = usize::try_from(value.as_u64()?).ok()?;
    (count <= 1 << 24).then_some(count)
}

/// JSON as Python writes it: numbers that JSON does not have become strings, `-Infinity` becomes `"-Infinity"`.
pub(super) fn without_infinities(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let (mut quoted, mut escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        if !quoted && let Some(word) = ["-Infinity", "Infinity", "NaN"].iter().find(|w| rest.starts_with(**w))
        {
            plain.push('"');
            plain.push_str(word);
            plain.push('"');
            rest = rest.get(word.len()..).unwrap_or_default();
            continue;
        }
        quoted ^= next == '"' && !escaped;
        escaped = next == '\\' && !escaped;
        plain.push(next);
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_lacks_become_strings_outside_of_strings() {
        let text = r#"{"a": -Infinity, "NaN \" NaN": [NaN, 1.0], "c": "Infinity"}"#;
        let wanted = r#"{"a": "-Infinity", "NaN \" NaN": ["NaN", 1.0], "c": "Infinity"}"#;
        assert_eq!(without_infinities(text), wanted);
    }
}
