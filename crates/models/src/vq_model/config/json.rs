//! Reading configurations: diffusers', and those of the paper's own code.

use kiln_graph::ops::Unary;
use serde_json::Value as Json;

use super::{Config, MAX_DEPTH, Quantizer};
use crate::Error;
use crate::config::Config as Reader;
use crate::latents::Scaling;

/// The last part of the names of the paper's classes that compute what Kiln computes, and how they choose codes.
const CLASSES: [(&str, Quantizer); 6] = [
    ("VQModel", Quantizer::Nearest),
    ("VQModelInterface", Quantizer::Nearest),
    ("VQNoDiscModel", Quantizer::Nearest),
    ("VQSegmentationModel", Quantizer::Nearest),
    ("EMAVQ", Quantizer::Nearest),
    ("GumbelVQ", Quantizer::Gumbel),
];

/// Groups of the norms in the paper's code, which has no option for them.
const GROUPS: usize = 32;

impl Config {
    /// Reads diffusers' configuration of a `VQModel`, or that of the paper's code as JSON: the whole file, its
    /// `model`, or the `params` of that. Of a model of two stages (`Net2NetTransformer`, `LatentDiffusion`) it reads the
    /// first, its `first_stage_config`. What is left out is at its writer's default. `force_upcast` and
    /// `lookup_from_codebook` tell nothing that Kiln has to know.
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        match Original::find(json)? {
            Some(original) => original.read(),
            None => diffusers(Reader(json)),
        }
    }

    /// Whether a configuration says what it is of: by diffusers' class, or in the paper's code.
    pub(crate) fn is_named(json: &Json) -> bool {
        json.get("_class_name").is_some() || !matches!(Original::find(json), Ok(None))
    }

    /// Whether a configuration is one of the paper's code, of an autoencoder by itself.
    pub fn is_original(json: &Json) -> bool {
        Original::find(json).is_ok_and(|found| found.is_some_and(|original| !original.of_two_stages))
    }
}

fn diffusers(reader: Reader<'_>) -> Result<Config, Error> {
    match reader.str("_class_name")? {
        None | Some("VQModel") => {}
        Some(other) => return Err(Error::Config(format!("{other} is no VQModel"))),
    }
    if let Some(other) = reader.str("norm_type")?.filter(|&kind| kind != "group") {
        return Err(Error::Config(format!("norm_type is {other:?}, and Kiln's VQModel has \"group\" alone")));
    }
    reader.flag("force_upcast")?;
    reader.flag("lookup_from_codebook")?;
    let size = |key: &str, default: usize| Ok::<_, Error>(reader.size(key)?.unwrap_or(default));
    let blocks = reader.sizes("block_out_channels")?.unwrap_or_else(|| vec![64]);
    let latent_channels = size("latent_channels", 3)?;
    Ok(Config {
        in_channels: size("in_channels", 3)?,
        out_channels: size("out_channels", 3)?,
        stem_channels: blocks.first().copied().unwrap_or(0),
        layers_per_block: size("layers_per_block", 1)?,
        encoder_attention: attentions(
            reader,
            "down_block_types",
            ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
            blocks.len(),
        )?,
        decoder_attention: attentions(
            reader,
            "up_block_types",
            ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"],
            blocks.len(),
        )?,
        block_out_channels: blocks,
        mid_block_add_attention: reader.flag("mid_block_add_attention")?.unwrap_or(true),
        norm_num_groups: size("norm_num_groups", 32)?,
        act_fn: reader.activation("act_fn")?.unwrap_or(Unary::Silu),
        latent_channels,
        num_vq_embeddings: size("num_vq_embeddings", 256)?,
        vq_embed_dim: size("vq_embed_dim", latent_channels)?,
        quantizer: Quantizer::Nearest,
        sample_size: reader.pair("sample_size")?.map_or(32, |[height, _]| height),
        scaling: Scaling::read(reader, 0.18215)?,
    })
}

/// Which blocks have attentions, by their classes: those without and with.
fn attentions(reader: Reader<'_>, key: &str, known: [&str; 2], blocks: usize) -> Result<Vec<bool>, Error> {
    let [plain, attends] = known;
    let Some(kinds) = reader.strings(key)? else { return Ok(vec![false; blocks]) };
    if kinds.len() != blocks {
        let count = kinds.len();
        return Err(Error::Config(format!(
            "{key} names {count} blocks, and block_out_channels has {blocks}"
        )));
    }
    let attends = |kind: &str| match kind {
        _ if kind == attends => Ok(true),
        _ if kind == plain => Ok(false),
        _ => {
            Err(Error::Config(format!("{key} has {kind:?}, and Kiln's VQModel {plain} and {attends} alone")))
        }
    };
    kinds.into_iter().map(attends).collect()
}

/// A configuration of the paper's code: `params`, and what class they are for.
struct Original<'a> {
    params: Reader<'a>,
    quantizer: Quantizer,
    /// Whether it is that of a model's first stage.
    of_two_stages: bool,
}

impl<'a> Original<'a> {
    /// The autoencoder's, within a whole file or without what is around it; of a model of two stages the first.
    fn find(json: &'a Json) -> Result<Option<Self>, Error> {
        let whole = json.get("model").unwrap_or(json);
        let params = whole.get("params").unwrap_or(whole);
        let first = params.get("first_stage_config");
        let model = first.unwrap_or(whole);
        let params = model.get("params").unwrap_or(model);
        if params.get("ddconfig").is_none() {
            return Ok(None);
        }
        let quantizer = match Reader(model).str("target")? {
            None => Quantizer::Nearest,
            Some(target) => {
                let class = target.rsplit('.').next().unwrap_or(target);
                let known = CLASSES.iter().find(|(name, _)| *name == class);
                let unknown = || Error::Config(format!("{target} is no autoencoder with a codebook"));
                known.ok_or_else(unknown)?.1
            }
        };
        Ok(Some(Self { params: Reader(params), quantizer, of_two_stages: first.is_some() }))
    }

    fn read(&self) -> Result<Config, Error> {
        let (params, sizes) = (self.params, self.params.nested("ddconfig"));
        self.refuse_options()?;
        let need = |reader: Reader<'_>, key: &str| {
            reader.size(key)?.ok_or_else(|| Error::Config(format!("it has no {key}")))
        };
        let multiples = sizes.sizes("ch_mult")?.unwrap_or_else(|| vec![1, 2, 4, 8]);
        if multiples.len() > MAX_DEPTH {
            return Err(Error::Config(format!(
                "ch_mult has {} blocks, more than {MAX_DEPTH}",
                multiples.len()
            )));
        }
        let (stem_channels, resolution) = (need(sizes, "ch")?, need(sizes, "resolution")?);
        let attended = sizes.sizes("attn_resolutions")?.unwrap_or_default();
        let last = multiples.len().saturating_sub(1);
        let attends = |side: usize| attended.contains(&side);
        let attention = sizes.str("attn_type")? != Some("none");
        Ok(Config {
            in_channels: need(sizes, "in_channels")?,
            out_channels: need(sizes, "out_ch")?,
            stem_channels,
            block_out_channels: multiples.iter().map(|multiple| multiple * stem_channels).collect(),
            layers_per_block: need(sizes, "num_res_blocks")?,
            encoder_attention: (0..=last).map(|i| attention && attends(resolution >> i)).collect(),
            // The decoder doubles what is left of the sides.
            decoder_attention: (0..=last).map(|i| attention && attends((resolution >> last) << i)).collect(),
            mid_block_add_attention: attention,
            norm_num_groups: params.size("num_groups")?.unwrap_or(GROUPS),
            act_fn: Unary::Silu,
            latent_channels: need(sizes, "z_channels")?,
            num_vq_embeddings: need(params, "n_embed")?,
            vq_embed_dim: need(params, "embed_dim")?,
            quantizer: self.quantizer,
            sample_size: resolution,
            scaling: Scaling::NONE,
        })
    }

    /// Refuses what changes the numbers in a way that Kiln does not compute.
    fn refuse_options(&self) -> Result<(), Error> {
        let (params, sizes) = (self.params, self.params.nested("ddconfig"));
        let refuse = |key: &str, value: &str| {
            Err(Error::Config(format!("{key} is {value}, which Kiln does not compute")))
        };
        for (key, usual, default) in [
            ("double_z", false, true),
            ("resamp_with_conv", true, true),
            ("use_linear_attn", false, false),
            ("give_pre_end", false, false),
            ("tanh_out", false, false),
        ] {
            let value = sizes.flag(key)?.unwrap_or(default);
            if value != usual {
                return refuse(key, &value.to_string());
            }
        }
        if let Some(kind) =
            sizes.str("attn_type")?.filter(|kind| !["vanilla", "vanilla-xformers", "none"].contains(kind))
        {
            return refuse("attn_type", &format!("{kind:?}"));
        }
        match params.0.get("remap") {
            None | Some(Json::Null) => Ok(()),
            Some(remap) => refuse("remap", &remap.to_string()),
        }
    }
}
