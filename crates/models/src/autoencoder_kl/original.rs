//! The names that the paper's own code gives an autoencoder's modules (`modules/diffusionmodules/model.py` of
//! <https://github.com/CompVis/latent-diffusion>, which is that of <https://github.com/CompVis/taming-transformers>): it
//! counts the decoder's blocks from the end.

/// The modules that have other names in diffusers, in either half: diffusers' names and the original ones.
const HALF: [[&str; 2]; 3] = [
    ["mid_block.resnets.0", "mid.block_1"],
    ["mid_block.resnets.1", "mid.block_2"],
    ["conv_norm_out", "norm_out"],
];

/// Those of an attention.
const ATTENTION: [[&str; 2]; 5] =
    [["group_norm", "norm"], ["to_q", "q"], ["to_k", "k"], ["to_v", "v"], ["to_out.0", "proj_out"]];

/// Every module by diffusers' name and by the original one, of which `has` says which weights there are.
pub(crate) fn modules(has: impl Fn(&str) -> bool) -> Vec<[String; 2]> {
    let mut modules = Vec::new();
    let block = |name: String| has(&format!("{name}.conv1.weight"));
    let attention = |ours: String, theirs: String| {
        ATTENTION.map(|[to, from]| [format!("{ours}.{to}"), format!("{theirs}.{from}")])
    };
    for (half, original, ours) in [("encoder", "down", "down_blocks"), ("decoder", "up", "up_blocks")] {
        modules.extend(HALF.map(|pair| pair.map(|name| format!("{half}.{name}"))));
        modules.extend(attention(format!("{half}.mid_block.attentions.0"), format!("{half}.mid.attn_1")));
        let stages = (0..).take_while(|i| block(format!("{half}.{original}.{i}.block.0"))).count();
        for i in 0..stages {
            let theirs = format!("{half}.{original}.{i}");
            let place = if half == "encoder" { i } else { stages - 1 - i };
            let ours = format!("{half}.{ours}.{place}");
            for j in (0..).take_while(|j| block(format!("{theirs}.block.{j}"))) {
                modules.extend(attention(format!("{ours}.attentions.{j}"), format!("{theirs}.attn.{j}")));
                let (theirs, ours) = (format!("{theirs}.block.{j}"), format!("{ours}.resnets.{j}"));
                modules.push([format!("{ours}.conv_shortcut"), format!("{theirs}.nin_shortcut")]);
                modules.push([ours, theirs]);
            }
            modules.push([format!("{ours}.downsamplers.0"), format!("{theirs}.downsample")]);
            modules.push([format!("{ours}.upsamplers.0"), format!("{theirs}.upsample")]);
        }
    }
    modules
}

/// Whether a weight is that of a product in an attention over pixels, which the original code makes by a 1x1 convolution and
/// diffusers by a linear layer.
pub(crate) fn is_product(diffusers: &str) -> bool {
    let within = diffusers.split_once(".attentions.").and_then(|(_, rest)| rest.split_once('.'));
    within.is_some_and(|(_, product)| product.starts_with("to_") && product.ends_with(".weight"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Renaming;

    #[test]
    fn the_decoder_is_counted_from_its_end() {
        let has = |name: &str| {
            let stages = 0..4;
            let mut blocks =
                stages.flat_map(|i| [format!("encoder.down.{i}.block.0"), format!("decoder.up.{i}.block.0")]);
            blocks.any(|block| name == format!("{block}.conv1.weight"))
        };
        let renaming: Renaming = modules(has).into_iter().map(|[ours, theirs]| (theirs, ours)).collect();
        for (original, diffusers) in [
            ("decoder.up.3.block.0.norm1.weight", "decoder.up_blocks.0.resnets.0.norm1.weight"),
            ("decoder.up.0.block.0.nin_shortcut.bias", "decoder.up_blocks.3.resnets.0.conv_shortcut.bias"),
            ("decoder.up.1.upsample.conv.weight", "decoder.up_blocks.2.upsamplers.0.conv.weight"),
            ("encoder.down.2.downsample.conv.weight", "encoder.down_blocks.2.downsamplers.0.conv.weight"),
            ("encoder.mid.attn_1.proj_out.weight", "encoder.mid_block.attentions.0.to_out.0.weight"),
            ("decoder.mid.block_2.conv1.weight", "decoder.mid_block.resnets.1.conv1.weight"),
            ("encoder.norm_out.bias", "encoder.conv_norm_out.bias"),
            ("encoder.down.3.attn.0.k.bias", "encoder.down_blocks.3.attentions.0.to_k.bias"),
            ("decoder.up.3.attn.0.norm.weight", "decoder.up_blocks.0.attentions.0.group_norm.weight"),
        ] {
            assert_eq!(renaming.apply(original).as_deref(), Some(diffusers), "{original}");
        }
        assert!(is_product("encoder.mid_block.attentions.0.to_out.0.weight"));
        assert!(is_product("decoder.up_blocks.0.attentions.1.to_q.weight"));
        assert!(!is_product("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"));
        assert!(!is_product("encoder.mid_block.attentions.0.to_q.bias"));
        assert_eq!(renaming.apply("decoder.conv_in.weight"), None);
    }
}
