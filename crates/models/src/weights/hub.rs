//! Models of the Hugging Face Hub, fetched into its shared cache.
//!
//! `HF_TOKEN` (or the token that `hf auth login` stored) opens private models, `HF_HOME` moves the cache, `HF_ENDPOINT`
//! names another server, as for every tool of the ecosystem.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::WeightError;
use super::checkpoint::{NAMINGS, PICKLE, is_pickle};

/// What models are called on command lines: `hub:owner/name`.
pub const PREFIX: &str = "hub:";

/// Where models come from and where they are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The server, such as `https://huggingface.co`.
    pub endpoint: Option<String>,
    /// The cache's folder, which holds `models--owner--name`.
    pub cache: PathBuf,
    /// The token that opens private models.
    pub token: Option<String>,
    /// Whether downloads show progress bars.
    pub progress: bool,
}

impl Hub {
    /// The hub as the environment describes it.
    pub fn from_env() -> Result<Self, WeightError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // The crate finds a cache by the home folder, and panics where there is none.
        let cache = catch_unwind(Cache::from_env).map_err(|_| WeightError::File {
            file: "the Hugging Face cache".into(),
            reason: "there is no home folder to keep it in; set HF_HOME".into(),
        })?;
        Ok(Self {
            endpoint: variable("HF_ENDPOINT"),
            token: variable("HF_TOKEN").or_else(|| cache.token()),
            cache: cache.path().clone(),
            progress: true,
        })
    }

    /// The folder of the model `owner/name` (or `owner/name@revision`) in the cache, with its configurations and its
    /// weights. What is there already is not fetched again; without a connection, the last fetched state is used.
    pub fn fetch(&self, model: &str) -> Result<PathBuf, WeightError> {
        let wrong = |reason: String| WeightError::File { file: format!("{PREFIX}{model}"), reason };
        let (id, revision) = model.split_once('@').unwrap_or((model, "main"));
        let plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with(['.', '/'])
                && !text.contains("..")
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
        };
        if !plain(id) || !plain(revision) || id.matches('/').count() != 1 || id.ends_with('/') {
            return Err(wrong("it should be owner/name or owner/name@revision".into()));
        }
        // The crate asserts what servers send; a strange one must not end the program.
        let fetched = catch_unwind(AssertUnwindSafe(|| self.fetch_checked(id, revision)));
        fetched.unwrap_or_else(|_| Err(Problem::Other("the server's answer makes no sense".into()))).map_err(
            |problem| match problem {
                Problem::Api(error) => wrong(format!("it cannot be fetched: {}", explain(&error))),
                Problem::Other(reason) => wrong(reason),
            },
        )
    }

    fn fetch_checked(&self, id: &str, revision: &str) -> Result<PathBuf, Problem> {
        let cache = Cache::new(self.cache.clone());
        let named = Repo::with_revision(id.to_string(), RepoType::Model, revision.to_string());
        let mut builder = ApiBuilder::from_cache(cache.clone())
            .with_progress(self.progress)
            .with_token(self.token.clone())
            .with_retries(2)
            .with_user_agent("kiln", env!("CARGO_PKG_VERSION"));
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_string());
        }
        let api = builder.build()?;
        let info = match api.repo(named.clone()).info() {
            Ok(info) => info,
            Err(error) => return self.last(&cache, &named).ok_or(Problem::Api(error)),
        };
        let names: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let sha_is_plain = !info.sha.is_empty() && info.sha.chars().all(|c| c.is_ascii_alphanumeric());
        if !sha_is_plain {
            return Err(Problem::Other("the server names no commit".into()));
        }
        // Files of one commit, whatever happens to the branch meanwhile.
        let commit = Repo::with_revision(id.to_string(), RepoType::Model, info.sha.clone());
        let folder = cache.repo(commit.clone()).pointer_path(&info.sha);
        let repo = api.repo(commit);
        for name in wanted(&names)? {
            if !folder.join(name).exists() {
                repo.get(name)?;
            }
        }
        cache.repo(named).create_ref(&info.sha).map_err(|error| Problem::Other(error.to_string()))?;
        Ok(folder)
    }

    /// The folder of the last fetched state.
    fn last(&self, cache: &Cache, repo: &Repo) -> Option<PathBuf> {
        let repo = cache.repo(repo.clone());
        let config = repo.get("config.json").or_else(|| repo.get("model_index.json"))?;
        Some(config.parent()?.to_path_buf())
    }
}

enum Problem {
    Api(ApiError),
    Other(String),
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        Problem::Api(error)
    }
}

/// The server's answer in plain words.
fn explain(error: &ApiError) -> String {
    let text = error.to_string();
    let code = |code: &str| text.contains(code);
    if code("401") || code("403") {
        "it does not exist, or needs a token: set HF_TOKEN".into()
    } else if code("404") {
        "it does not exist".into()
    } else {
        text
    }
}

/// Parts of pipelines that Kiln does not compute with, some of them larger than the others.
const UNREAD: [&str; 3] = ["safety_checker", "image_encoder", "feature_extractor"];

/// The files of a model that Kiln reads: configurations, vocabularies and weights in safetensors; those of a pipeline's
/// parts too.
fn wanted<'a>(names: &[&'a str]) -> Result<Vec<&'a str>, Problem> {
    let depth = usize::from(names.contains(&"model_index.json"));
    let reachable = |name: &&str| {
        !name.contains("..")
            && !name.starts_with('/')
            && name.matches('/').count() <= depth
            && !UNREAD.contains(&split(name).0)
    };
    let reachable: Vec<&str> = names.iter().copied().filter(reachable).collect();
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (folder, own) in reachable.iter().map(|name| split(name)) {
        folders.entry(folder).or_default().push(own);
    }
    let chosen: BTreeSet<(&str, &str)> = folders
        .iter()
        .flat_map(|(&folder, names)| weights(names).into_iter().map(move |own| (folder, own)))
        .collect();
    if chosen.is_empty() {
        let reason = match reachable.iter().find(|name| is_pickle(name)) {
            Some(name) => format!("its only weights are {name}: {PICKLE}"),
            None => "it holds no model.safetensors".into(),
        };
        return Err(Problem::Other(reason));
    }
    let is_wanted = |name: &&str| {
        let (folder, own) = split(name);
        own.ends_with(".json")
            || ["merges.txt", "vocab.txt"].contains(&own)
            || chosen.contains(&(folder, own))
    };
    Ok(reachable.into_iter().filter(is_wanted).collect())
}

/// A file's folder, which is empty for the model's own, and its name there.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// The weights among a folder's files, as [`Checkpoint::open`](super::Checkpoint::open) chooses: one file, or the shards
/// of an index.
fn weights<'a>(folder: &[&'a str]) -> Vec<&'a str> {
    for naming in NAMINGS {
        if let Some(&whole) = folder.iter().find(|&&name| name == naming.whole()) {
            return vec![whole];
        }
        if naming.indices().iter().any(|index| folder.contains(&index.as_str())) {
            let files = folder.iter().copied().filter(|name| name.ends_with(".safetensors"));
            let shards: Vec<&str> = files.clone().filter(|name| naming.is_shard(name)).collect();
            // An index may name its shards otherwise.
            return if shards.is_empty() { files.collect() } else { shards };
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use kiln_graph::WeightSource;

    use super::*;
    use crate::weights::{Checkpoint, Files, Folder, Weights, open_part};

    /// A hub on this machine: its address, and the requests it saw.
    fn serve(files: HashMap<&'static str, Vec<u8>>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut head).unwrap() > 2 {}
                let path = head.split_whitespace().nth(1).unwrap().to_string();
                let header = |name: &str| {
                    head.lines()
                        .find(|line| line.to_lowercase().starts_with(name))
                        .map(|line| line[name.len()..].trim().to_string())
                };
                log.lock().unwrap().push(format!("{path} {}", header("authorization:").unwrap_or_default()));
                let answer = if path == "/api/models/owner/name/revision/main" {
                    let list: Vec<String> =
                        files.keys().map(|name| format!(r#"{{"rfilename":"{name}"}}"#)).collect();
                    let body = format!(r#"{{"sha":"c0ffee","siblings":[{}]}}"#, list.join(","));
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
                } else if let Some(body) =
                    path.strip_prefix("/owner/name/resolve/c0ffee/").and_then(|name| files.get(name))
                {
                    let range = header("range:").unwrap();
                    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                    let from: usize = from.parse().unwrap();
                    let to = to.parse().map_or(body.len(), |to: usize| (to + 1).min(body.len()));
                    let name = path.rsplit_once('/').unwrap().1;
                    let head = format!(
                        "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{}\r\n\
                         etag: \"{name}-1\"\r\nx-repo-commit: c0ffee\r\n\r\n",
                        to - from,
                        to - 1,
                        body.len()
                    );
                    [head.as_bytes(), &body[from..to]].concat()
                } else {
                    b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec()
                };
                stream.write_all(&answer).unwrap();
            }
        });
        (address, seen)
    }

    fn safetensors(name: &str, value: f32) -> Vec<u8> {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &value.to_le_bytes()].concat()
    }

    fn hub(endpoint: &str, cache: &std::path::Path) -> Hub {
        let token = Some("secret".to_string());
        Hub { endpoint: Some(endpoint.into()), cache: cache.join("hub"), token, progress: false }
    }

    #[test]
    fn a_sharded_model_is_fetched_once() {
        let index = r#"{"weight_map":{"a":"model-00001-of-00002.safetensors",
                                      "b":"model-00002-of-00002.safetensors"}}"#;
        let (address, seen) = serve(HashMap::from([
            ("config.json", b"{}".to_vec()),
            ("README.md", b"not wanted".to_vec()),
            ("pytorch_model.bin", vec![0x80]),
            ("model.safetensors.index.json", index.as_bytes().to_vec()),
            ("model-00001-of-00002.safetensors", safetensors("a", 1.0)),
            ("model-00002-of-00002.safetensors", safetensors("b", 2.0)),
        ]));
        let cache = tempfile::tempdir().unwrap();
        let hub = hub(&address, cache.path());
        let folder = hub.fetch("owner/name").unwrap();
        let files: Arc<dyn Files> = Arc::new(Folder::new(&folder));
        let checkpoint = Checkpoint::open(&files).unwrap();
        assert_eq!(checkpoint.names(), ["a", "b"]);
        assert_eq!(checkpoint.load("b").unwrap().as_f32(), Some(&[2.0][..]));
        assert!(!folder.join("README.md").exists() && !folder.join("pytorch_model.bin").exists());
        assert!(seen.lock().unwrap().iter().all(|request| request.ends_with("Bearer secret")));

        seen.lock().unwrap().clear();
        assert_eq!(hub.fetch("owner/name").unwrap(), folder);
        assert_eq!(seen.lock().unwrap().len(), 1, "the second time asks for the list of files alone");

        // Without a server, what was fetched last is there.
        let offline = Hub { endpoint: Some("http://127.0.0.1:9".into()), ..hub };
        assert_eq!(offline.fetch("owner/name").unwrap(), folder);
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let (address, _) =
            serve(HashMap::from([("config.json", b"{}".to_vec()), ("pytorch_model.bin", vec![0x80])]));
        let cache = tempfile::tempdir().unwrap();
        let hub = hub(&address, cache.path());
        let error = |model: &str| hub.fetch(model).unwrap_err().to_string();
        assert!(error("owner/name").contains("safetensors"), "{}", error("owner/name"));
        assert!(error("owner/other").contains("does not exist"), "{}", error("owner/other"));
        for model in ["", "name", "../x", "a/b/c", "a/", "a/b@../c", "a b/c"] {
            assert!(error(model).contains("owner/name"), "{}", error(model));
        }
    }

    #[test]
    fn pipelines_are_fetched_with_their_parts() {
        let names = [
            "model_index.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.bin",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
            "scheduler/scheduler_config.json",
            "safety_checker/config.json",
            "safety_checker/model.safetensors",
            "feature_extractor/preprocessor_config.json",
            "v1-5-pruned.safetensors",
            "a/b/model.safetensors",
        ];
        let Ok(wanted) = wanted(&names) else { panic!("nothing is wanted") };
        assert_eq!(
            wanted,
            [
                "model_index.json",
                "unet/config.json",
                "unet/diffusion_pytorch_model.safetensors",
                "tokenizer/merges.txt",
                "tokenizer/vocab.json",
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "vae/config.json",
                "vae/diffusion_pytorch_model.safetensors",
                "scheduler/scheduler_config.json"
            ]
        );
    }
    /// What is wanted of the files that lie in `unet`.
    fn wanted_of_unet(files: &[&str]) -> Vec<String> {
        let names: Vec<String> = files.iter().map(|name| format!("unet/{name}")).collect();
        let mut all = vec!["model_index.json"];
        all.extend(names.iter().map(String::as_str));
        let Ok(wanted) = wanted(&all) else { panic!("nothing is wanted of {files:?}") };
        wanted.iter().filter_map(|name| name.strip_prefix("unet/")).map(String::from).collect()
    }

    #[test]
    fn variants_in_half_are_fetched_where_there_is_nothing_else() {
        const PLAIN: &str = "diffusion_pytorch_model.safetensors";
        const HALF: &str = "diffusion_pytorch_model.fp16.safetensors";
        const PICKLE: &str = "diffusion_pytorch_model.bin";
        assert_eq!(wanted_of_unet(&["config.json", HALF, PICKLE]), ["config.json", HALF]);
        assert_eq!(wanted_of_unet(&[HALF, PLAIN]), [PLAIN]);
        let index = "model.safetensors.index.json";
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        for (own, one, two) in [
            (
                "model.safetensors.index.fp16.json",
                "model.fp16-00001-of-00002.safetensors",
                "model.fp16-00002-of-00002.safetensors",
            ),
            (
                "model.fp16.safetensors.index.json",
                "model-00001-of-00002.fp16.safetensors",
                "model-00002-of-00002.fp16.safetensors",
            ),
        ] {
            assert_eq!(wanted_of_unet(&[own, one, two, "model.non_ema.safetensors"]), [own, one, two]);
            let both = [index, shards[0], shards[1], own, one, two];
            assert_eq!(wanted_of_unet(&both), [index, shards[0], shards[1], own]);
        }
        assert_eq!(
            wanted_of_unet(&[index, "a.safetensors", "b.safetensors"]),
            [index, "a.safetensors", "b.safetensors"]
        );
    }

    #[test]
    fn what_is_fetched_in_half_alone_opens() {
        let (address, _) = serve(HashMap::from([
            ("model_index.json", b"{}".to_vec()),
            ("vae/diffusion_pytorch_model.fp16.safetensors", safetensors("a", 1.0)),
            ("unet/diffusion_pytorch_model.fp16.safetensors", safetensors("b", 2.0)),
            ("unet/diffusion_pytorch_model.safetensors", safetensors("c", 3.0)),
        ]));
        let cache = tempfile::tempdir().unwrap();
        let folder = hub(&address, cache.path()).fetch("owner/name").unwrap();
        let files: Arc<dyn Files> = Arc::new(Folder::new(&folder));
        assert_eq!(open_part(&files, "vae").unwrap().names(), ["a"]);
        assert_eq!(open_part(&files, "unet").unwrap().names(), ["c"]);
        assert!(!folder.join("unet/diffusion_pytorch_model.fp16.safetensors").exists());
    }
}
