//! The names of a LoRA's tensors.

/// The part of a pipeline that a tensor changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Unet,
    Text,
    /// One that Stable Diffusion 1.x and 2.x do not have.
    Other,
}

/// What a tensor is in the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The first matrix, which makes few numbers of many.
    Down,
    /// What stands between the two.
    Mid,
    /// The last one.
    Up,
    /// A factor.
    Alpha,
}

/// A tensor's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub part: Part,
    /// The module whose weight changes: its path with dots, or kohya's with underscores.
    pub module: String,
    pub role: Role,
}

/// Why a tensor is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is part of something else.
    Kind(&'static str),
    /// Nobody knows what it is.
    Unknown,
}

/// Parts of names by which other things are known, most of them LyCORIS' (<https://github.com/KohakuBlueleaf/LyCORIS>).
const KINDS: [(&str, &str); 8] = [
    (".dora_scale", "a DoRA"),
    (".lora_magnitude_vector", "a DoRA"),
    (".hada_", "a LoHa"),
    (".lokr_", "a LoKr"),
    (".oft_", "an OFT"),
    (".boft_", "a BOFT"),
    (".on_input", "an IA3"),
    ("bundle_emb.", "a textual inversion that is bundled with a LoRA"),
];

/// Ends of names by which others are known.
const LAST: [(&str, &str); 6] = [
    (".diff", "a difference of whole weights"),
    (".diff_b", "a difference of whole weights"),
    (".w_norm", "a difference of norms"),
    (".b_norm", "a difference of norms"),
    (".a1.weight", "a GLoRA"),
    (".bias", "a LoRA of biases"),
];

/// What names of tensors end with, by what they are. An `_lora` is the processors' way, where the module has another name.
const ENDINGS: [(&str, Role); 11] = [
    (".lora_down.weight", Role::Down),
    (".lora_mid.weight", Role::Mid),
    (".lora_up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (PROCESSOR_DOWN, Role::Down),
    (PROCESSOR_UP, Role::Up),
    (".alpha", Role::Alpha),
    (".lora_alpha", Role::Alpha),
];

const PROCESSOR_DOWN: &str = "_lora.down.weight";
const PROCESSOR_UP: &str = "_lora.up.weight";

/// What names begin with, by the part that they are of.
const PREFIXES: [(&str, Part); 8] = [
    ("lora_unet_", Part::Unet),
    ("lora_te_", Part::Text),
    ("lora_te1_", Part::Text),
    ("lora_te2_", Part::Other),
    ("unet.", Part::Unet),
    ("text_encoder.", Part::Text),
    ("text_encoder_2.", Part::Other),
    ("diffusion_model.", Part::Unet),
];

/// What PEFT puts before the names of an adapter that it saves itself.
const ADAPTER: &str = "base_model.model.";

/// Whether a tensor may lie in a file and change nothing.
pub(super) fn is_harmless(name: &str) -> bool {
    name.ends_with("position_ids")
}

/// What a tensor is, by its name.
pub(super) fn read(name: &str) -> Result<Key, Refusal> {
    let kind = KINDS.iter().find(|(sign, _)| name.contains(sign));
    if let Some((_, kind)) = kind.or_else(|| LAST.iter().find(|(sign, _)| name.ends_with(sign))) {
        return Err(Refusal::Kind(kind));
    }
    let (path, role, processor) = split(name).ok_or(Refusal::Unknown)?;
    let path = path.strip_prefix(ADAPTER).unwrap_or(path);
    let known = PREFIXES.iter().find_map(|(prefix, part)| Some((*part, path.strip_prefix(prefix)?)));
    // Files of one part alone may name none.
    let (part, module) = known.unwrap_or_else(|| {
        let text = ["text_model.", "encoder.layers."].iter().any(|start| path.starts_with(start));
        (if text { Part::Text } else { Part::Unet }, path)
    });
    let mut module = module.replace(".processor", "");
    if processor && let Some((attention, product)) = module.rsplit_once('.') {
        module = format!("{attention}.{}", product_of(part, product));
    }
    Ok(Key { part, module, role })
}

/// The module, what the tensor is in it, and whether the processors' names are meant.
fn split(name: &str) -> Option<(&str, Role, bool)> {
    let ending = |(ending, role): &(&str, Role)| {
        let processor = [PROCESSOR_DOWN, PROCESSOR_UP].contains(ending);
        Some((name.strip_suffix(ending)?, *role, processor))
    };
    ENDINGS.iter().find_map(ending).or_else(|| peft(name))
}

/// PEFT's names, which may hold that of an adapter: `.lora_A.weight`, `.lora_A.default.weight`.
fn peft(name: &str) -> Option<(&str, Role, bool)> {
    let rest = name.strip_suffix(".weight")?;
    [(".lora_A", Role::Down), (".lora_B", Role::Up)].into_iter().find_map(|(sign, role)| {
        let (module, adapter) = rest.rsplit_once(sign)?;
        let plain = adapter.is_empty() || adapter.starts_with('.') && adapter.matches('.').count() == 1;
        plain.then_some((module, role, false))
    })
}

/// The module of a product that the processors call `to_q` and so on.
fn product_of(part: Part, product: &str) -> &str {
    match (part, product) {
        (Part::Unet, "to_out") => "to_out.0",
        (Part::Text, "to_q") => "q_proj",
        (Part::Text, "to_k") => "k_proj",
        (Part::Text, "to_v") => "v_proj",
        (Part::Text, "to_out") => "out_proj",
        (_, product) => product,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_is_read() {
        let unet = "down_blocks.0.attentions.0.transformer_blocks.0.attn1";
        let text = "text_model.encoder.layers.0.self_attn";
        let flat = |path: &str| path.replace('.', "_");
        let cases = [
            (
                format!("lora_unet_{}_to_q.lora_down.weight", flat(unet)),
                Part::Unet,
                flat(unet) + "_to_q",
                Role::Down,
            ),
            (format!("lora_unet_{}_to_q.alpha", flat(unet)), Part::Unet, flat(unet) + "_to_q", Role::Alpha),
            (
                "lora_unet_input_blocks_1_0_in_layers_2.lora_mid.weight".into(),
                Part::Unet,
                "input_blocks_1_0_in_layers_2".into(),
                Role::Mid,
            ),
            (
                format!("lora_te_{}_q_proj.lora_up.weight", flat(text)),
                Part::Text,
                flat(text) + "_q_proj",
                Role::Up,
            ),
            (
                format!("lora_te1_{}_q_proj.alpha", flat(text)),
                Part::Text,
                flat(text) + "_q_proj",
                Role::Alpha,
            ),
            ("lora_te2_text_projection.alpha".into(), Part::Other, "text_projection".into(), Role::Alpha),
            (
                format!("unet.{unet}.processor.to_q_lora.down.weight"),
                Part::Unet,
                format!("{unet}.to_q"),
                Role::Down,
            ),
            (
                format!("{unet}.processor.to_out_lora.up.weight"),
                Part::Unet,
                format!("{unet}.to_out.0"),
                Role::Up,
            ),
            (
                format!("unet.{unet}.to_out.0.lora.up.weight"),
                Part::Unet,
                format!("{unet}.to_out.0"),
                Role::Up,
            ),
            (
                format!("text_encoder.{text}.to_out_lora.up.weight"),
                Part::Text,
                format!("{text}.out_proj"),
                Role::Up,
            ),
            (
                format!("text_encoder.{text}.k_proj.lora_linear_layer.down.weight"),
                Part::Text,
                format!("{text}.k_proj"),
                Role::Down,
            ),
            (format!("unet.{unet}.to_k.lora_A.weight"), Part::Unet, format!("{unet}.to_k"), Role::Down),
            (format!("unet.{unet}.to_k.alpha"), Part::Unet, format!("{unet}.to_k"), Role::Alpha),
            (
                format!("base_model.model.{text}.v_proj.lora_B.default.weight"),
                Part::Text,
                format!("{text}.v_proj"),
                Role::Up,
            ),
            (
                "diffusion_model.middle_block.1.proj_in.lora_up.weight".into(),
                Part::Unet,
                "middle_block.1.proj_in".into(),
                Role::Up,
            ),
        ];
        for (name, part, module, role) in cases {
            assert_eq!(read(&name), Ok(Key { part, module, role }), "{name}");
        }
    }

    #[test]
    fn what_is_no_lora_is_refused_by_name() {
        for (name, refusal) in [
            ("lora_unet_mid_block_resnets_0_conv1.dora_scale", Refusal::Kind("a DoRA")),
            ("unet.mid_block.resnets.0.conv1.lora_magnitude_vector", Refusal::Kind("a DoRA")),
            ("lora_unet_mid_block_resnets_0_conv1.hada_w1_a", Refusal::Kind("a LoHa")),
            ("lora_unet_mid_block_resnets_0_conv1.lokr_w2", Refusal::Kind("a LoKr")),
            ("lora_unet_mid_block_resnets_0_conv1.diff", Refusal::Kind("a difference of whole weights")),
            ("lora_unet_mid_block_resnets_0_norm1.diff_b", Refusal::Kind("a difference of whole weights")),
            ("unet.mid_block.resnets.0.conv1.lora_B.bias", Refusal::Kind("a LoRA of biases")),
            (
                "bundle_emb.cat.string_to_param.*",
                Refusal::Kind("a textual inversion that is bundled with a LoRA"),
            ),
            ("model.diffusion_model.out.0.weight", Refusal::Unknown),
            ("lora_A.weight.x", Refusal::Unknown),
            ("", Refusal::Unknown),
        ] {
            assert_eq!(read(name), Err(refusal), "{name}");
        }
    }
}
