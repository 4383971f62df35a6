//! Reading diffusers' `config.json`.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use super::{Attention, ClassEmbedding, Config, Stage, Time};
use crate::Error;
use crate::config::Config as Reader;

/// Switches that Stable Diffusion 1.x and 2.x leave off, and Kiln refuses where they are on.
const OFF: [&str; 2] = ["dual_cross_attention", "class_embeddings_concat"];

/// Names that Kiln knows for options which Stable Diffusion 1.x and 2.x leave alone.
const KNOWN: [(&str, &[&str]); 5] = [
    ("addition_embed_type", &[]),
    ("attention_type", &["default"]),
    ("encoder_hid_dim_type", &["text_proj"]),
    ("resnet_time_scale_shift", &["default", "scale_shift"]),
    ("time_embedding_type", &["positional"]),
];

pub(super) fn read(json: &Json) -> Result<Config, Error> {
    let reader = Reader(json);
    refuse(reader)?;
    let default = Config::sd1();
    let size = |key: &str, default: usize| Ok::<_, Error>(reader.size(key)?.unwrap_or(default));
    let flag = |key: &str| Ok::<_, Error>(reader.flag(key)?.unwrap_or(false));
    let float = |key: &str, default: f32| Ok::<_, Error>(reader.float(key)?.unwrap_or(default));
    let stages = Stages::read(json)?;
    let sines = stages.channels.first().copied().unwrap_or(0);
    let hidden = reader.size("encoder_hid_dim")?;
    if hidden.is_none() && reader.str("encoder_hid_dim_type")?.is_some() {
        return Err(Error::Config("encoder_hid_dim_type wants an encoder_hid_dim".into()));
    }
    Ok(Config {
        in_channels: size("in_channels", default.in_channels)?,
        sample_size: reader.pair("sample_size")?.unwrap_or(default.sample_size),
        out_channels: size("out_channels", default.out_channels)?,
        center_input_sample: flag("center_input_sample")?,
        conv_in_kernel: size("conv_in_kernel", default.conv_in_kernel)?,
        conv_out_kernel: size("conv_out_kernel", default.conv_out_kernel)?,
        down: stages.down()?,
        mid: stages.mid()?,
        up: stages.up()?,
        downsample_padding: size("downsample_padding", default.downsample_padding)?,
        mid_block_scale_factor: float("mid_block_scale_factor", 1.0)?,
        act_fn: reader.activation("act_fn")?.unwrap_or(Unary::Silu),
        norm_num_groups: size("norm_num_groups", default.norm_num_groups)?,
        norm_eps: float("norm_eps", default.norm_eps)?,
        use_linear_projection: flag("use_linear_projection")?,
        time: Time {
            sines,
            width: size("time_embedding_dim", sines.saturating_mul(4))?,
            flip_sin_to_cos: reader.flag("flip_sin_to_cos")?.unwrap_or(true),
            freq_shift: float("freq_shift", 0.0)?,
            post_act: reader.activation("timestep_post_act")?,
            act: reader.activation("time_embedding_act_fn")?,
            cond: reader.size("time_cond_proj_dim")?,
            class: class_embedding(reader)?,
            scale_shift: reader.str("resnet_time_scale_shift")? == Some("scale_shift"),
        },
        encoder_hid_dim: hidden,
    })
}

fn refuse(reader: Reader) -> Result<(), Error> {
    for key in OFF {
        if reader.flag(key)? == Some(true) {
            return Err(Error::Config(format!("{key} is true, which Kiln does not do")));
        }
    }
    for (key, known) in KNOWN {
        if let Some(given) = reader.str(key)?.filter(|given| !known.contains(given)) {
            return Err(Error::Config(format!("{key} is {given:?}, which Kiln does not do")));
        }
    }
    Ok(())
}

fn class_embedding(reader: Reader) -> Result<Option<ClassEmbedding>, Error> {
    let kind = reader.str("class_embed_type")?;
    let width = || {
        let missing = || Error::Config("projection_class_embeddings_input_dim is missing".into());
        reader.size("projection_class_embeddings_input_dim")?.ok_or_else(missing)
    };
    Ok(match kind {
        None => reader.size("num_class_embeds")?.map(ClassEmbedding::Table),
        Some("timestep") => Some(ClassEmbedding::Timestep),
        Some("identity") => Some(ClassEmbedding::Identity),
        Some("projection") => Some(ClassEmbedding::Projection(width()?)),
        Some("simple_projection") => Some(ClassEmbedding::SimpleProjection(width()?)),
        Some(other) => {
            return Err(Error::Config(format!("class_embed_type is {other:?}, which Kiln does not know")));
        }
    })
}

/// What the configuration says block by block, on the way down.
struct Stages<'a> {
    json: &'a Json,
    channels: Vec<usize>,
    resnets: Vec<usize>,
    heads: Vec<usize>,
    tokens: Vec<usize>,
    only_cross: Vec<bool>,
    /// Layers of a block's transformers: a number, or one for each transformer.
    depths: Vec<Json>,
    /// The same on the way up, where that is said.
    up_depths: Vec<Json>,
}

impl<'a> Stages<'a> {
    fn read(json: &'a Json) -> Result<Self, Error> {
        let reader = Reader(json);
        let channels = reader.sizes("block_out_channels")?.unwrap_or_else(|| vec![320, 640, 1280, 1280]);
        let count = channels.len();
        let sizes = |key: &str, default: usize| {
            each(json, key, default, count, |key, list| {
                if list { reader.sizes(key) } else { Ok(reader.size(key)?.map(|size| vec![size])) }
            })
        };
        // Stable Diffusion's `attention_head_dim` is the number of heads.
        let heads = if json.get("num_attention_heads").is_some_and(|heads| !heads.is_null()) {
            "num_attention_heads"
        } else {
            "attention_head_dim"
        };
        let flags = |key: &str, list: bool| {
            let wrong = || Error::Config(format!("{key} is no list of true and false"));
            let all =
                json.get(key).and_then(Json::as_array).map(|all| all.iter().map(Json::as_bool).collect());
            if list {
                Ok(Some(all.flatten().ok_or_else(wrong)?))
            } else {
                Ok(reader.flag(key)?.map(|one| vec![one]))
            }
        };
        let jsons = |key: &str, list: bool| {
            let value = json.get(key).filter(|value| !value.is_null());
            Ok(value.map(|value| match value.as_array() {
                Some(all) if list => all.clone(),
                _ => vec![value.clone()],
            }))
        };
        let depths = each(json, "transformer_layers_per_block", Json::from(1), count, jsons)?;
        let up_depths =
            match json.get("reverse_transformer_layers_per_block").filter(|value| !value.is_null()) {
                Some(_) => each(json, "reverse_transformer_layers_per_block", Json::from(1), count, jsons)?,
                None => depths.iter().rev().cloned().collect(),
            };
        Ok(Self {
            json,
            resnets: sizes("layers_per_block", 2)?,
            heads: sizes(heads, 8)?,
            tokens: sizes("cross_attention_dim", 1280)?,
            only_cross: each(json, "only_cross_attention", false, count, flags)?,
            channels,
            depths,
            up_depths,
        })
    }

    /// Whether each block of this side has transformers.
    fn crossing(&self, key: &str, default: [&str; 4], kinds: [&str; 2]) -> Result<Vec<bool>, Error> {
        let names: Vec<&str> = match self.json.get(key).filter(|value| !value.is_null()) {
            None => default.to_vec(),
            Some(list) => {
                let wrong = || Error::Config(format!("{key} is {list}, not a list of names"));
                let names = list.as_array().and_then(|list| list.iter().map(Json::as_str).collect());
                names.ok_or_else(wrong)?
            }
        };
        if names.len() != self.channels.len() {
            let (names, channels) = (names.len(), self.channels.len());
            return Err(Error::Config(format!(
                "{key} names {names} blocks, and block_out_channels {channels}"
            )));
        }
        let [crossing, plain] = kinds;
        let kind = |name: &&str| match *name {
            name if name == crossing => Ok(true),
            name if name == plain => Ok(false),
            other => {
                Err(Error::Config(format!("{key} names {other:?}, and Kiln knows {crossing} and {plain}")))
            }
        };
        names.iter().map(kind).collect()
    }

    /// Block `i`, counted on the way down.
    fn stage(&self, i: usize, resnets: usize, depth: Option<&Json>) -> Result<Stage, Error> {
        let layers = depth.map(|depth| layers(depth, resnets)).transpose()?;
        let at = |list: &[usize]| list.get(i).copied().unwrap_or(0);
        let attention = layers.map(|layers| Attention {
            heads: at(&self.heads),
            cross_attention_dim: at(&self.tokens),
            only_cross: self.only_cross.get(i).copied().unwrap_or(false),
            layers,
        });
        Ok(Stage { channels: at(&self.channels), resnets, attention })
    }

    fn down(&self) -> Result<Vec<Stage>, Error> {
        const CROSSING: &str = "CrossAttnDownBlock2D";
        const PLAIN: &str = "DownBlock2D";
        let default = [CROSSING, CROSSING, CROSSING, PLAIN];
        let crossing = self.crossing("down_block_types", default, [CROSSING, PLAIN])?;
        let parts = crossing.into_iter().zip(&self.resnets).zip(&self.depths).enumerate();
        parts.map(|(i, ((cross, &resnets), depth))| self.stage(i, resnets, cross.then_some(depth))).collect()
    }

    fn up(&self) -> Result<Vec<Stage>, Error> {
        const CROSSING: &str = "CrossAttnUpBlock2D";
        const PLAIN: &str = "UpBlock2D";
        let default = [PLAIN, CROSSING, CROSSING, CROSSING];
        let crossing = self.crossing("up_block_types", default, [CROSSING, PLAIN])?;
        let parts =
            (0..self.channels.len()).rev().zip(crossing).zip(self.resnets.iter().rev()).zip(&self.up_depths);
        parts
            .map(|(((i, cross), &resnets), depth)| self.stage(i, resnets + 1, cross.then_some(depth)))
            .collect()
    }

    fn mid(&self) -> Result<Option<Stage>, Error> {
        let kind = match self.json.get("mid_block_type") {
            Some(Json::Null) => return Ok(None),
            given => given,
        };
        if let Some(kind) = kind.filter(|kind| *kind != "UNetMidBlock2DCrossAttn") {
            let reason = format!("mid_block_type is {kind}, and Kiln knows UNetMidBlock2DCrossAttn and null");
            return Err(Error::Config(reason));
        }
        let Some(last) = self.channels.len().checked_sub(1) else { return Ok(None) };
        // Whatever `only_cross_attention` says, its pixels look at each other.
        let mut stage = self.stage(last, 2, self.depths.last())?;
        if let Some(attention) = &mut stage.attention {
            attention.only_cross = false;
            attention.layers.truncate(1);
        }
        Ok(Some(stage))
    }
}

/// One number for each transformer, of which there are `count` or, in the middle, fewer.
fn layers(depth: &Json, count: usize) -> Result<Vec<usize>, Error> {
    let json = serde_json::json!({ "transformer_layers_per_block": depth });
    let reader = Reader(&json);
    let layers = match depth {
        Json::Array(_) => reader.sizes("transformer_layers_per_block")?,
        _ => reader.size("transformer_layers_per_block")?.map(|layers| vec![layers; count]),
    };
    layers.ok_or_else(|| Error::Config(format!("transformer_layers_per_block has a block of {depth}")))
}

/// What is said for each of `count` blocks: a list of so many, or one for all. `read` gives what a key says, as a list where
/// it is told that it is one.
fn each<T: Clone>(
    json: &Json,
    key: &str,
    default: T,
    count: usize,
    read: impl Fn(&str, bool) -> Result<Option<Vec<T>>, Error>,
) -> Result<Vec<T>, Error> {
    let list = json.get(key).is_some_and(Json::is_array);
    let given = read(key, list)?.unwrap_or_else(|| vec![default]);
    match &given[..] {
        [one] if !list => Ok(vec![one.clone(); count]),
        _ if given.len() == count => Ok(given),
        _ => Err(Error::Config(format!("{key} is for {} blocks, and there are {count}", given.len()))),
    }
}
