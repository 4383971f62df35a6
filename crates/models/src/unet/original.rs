//! The names that the paper's own code gives a UNet's modules (`openaimodel.py` of
//! <https://github.com/CompVis/latent-diffusion>): it numbers the residual blocks of all stages in a row, and what halves and
//! doubles images with them.

use crate::weights::Weights;

/// The modules of a residual block: diffusers' names and the original ones.
const RESNET: [[&str; 2]; 6] = [
    ["norm1", "in_layers.0"],
    ["conv1", "in_layers.2"],
    ["time_emb_proj", "emb_layers.1"],
    ["norm2", "out_layers.0"],
    ["conv2", "out_layers.3"],
    ["conv_shortcut", "skip_connection"],
];

/// The modules outside the stages.
const AROUND: [[&str; 2]; 5] = [
    ["time_embedding.linear_1", "time_embed.0"],
    ["time_embedding.linear_2", "time_embed.2"],
    ["conv_in", "input_blocks.0.0"],
    ["conv_norm_out", "out.0"],
    ["conv_out", "out.2"],
];

/// What names follow from: how many residual blocks each stage has, and where transformers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The stages on the way down.
    pub down: Vec<Blocks>,
    /// Those on the way up, in order.
    pub up: Vec<Blocks>,
}

/// A stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Its residual blocks.
    pub resnets: usize,
    /// Whether a transformer stands behind each.
    pub attention: bool,
}

impl Layout {
    /// The layout of weights with diffusers' names.
    pub fn of(weights: &dyn Weights) -> Self {
        let has = |name: String| weights.shape(&name).is_some();
        let stage = |path: String| {
            let resnets = (0..).take_while(|j| has(format!("{path}.resnets.{j}.conv1.weight"))).count();
            (resnets > 0)
                .then(|| Blocks { resnets, attention: has(format!("{path}.attentions.0.norm.weight")) })
        };
        let side = |name: &str| (0..).map_while(|i| stage(format!("{name}_blocks.{i}"))).collect();
        Self { down: side("down"), up: side("up") }
    }

    /// The layout of weights with the original names.
    pub fn of_original(has: impl Fn(&str) -> bool) -> Self {
        let side = |name: &str, first: usize, last_of_stage: &dyn Fn(&str) -> bool| {
            let (mut stages, mut stage) = (Vec::new(), Blocks::default());
            for block in (first..).map(|i| format!("{name}_blocks.{i}")) {
                let resnet = has(&format!("{block}.0.in_layers.2.weight"));
                stage.resnets += usize::from(resnet);
                stage.attention |= resnet && has(&format!("{block}.1.norm.weight"));
                let last = last_of_stage(&block);
                if !resnet && !last {
                    break;
                }
                if last {
                    stages.push(std::mem::take(&mut stage));
                }
            }
            if stage.resnets > 0 {
                stages.push(stage);
            }
            stages
        };
        Self {
            down: side("input", 1, &|block| has(&format!("{block}.0.op.weight"))),
            up: side("output", 0, &|block| (1..3).any(|part| has(&format!("{block}.{part}.conv.weight")))),
        }
    }

    /// Every module by diffusers' name and by the original one.
    pub fn modules(&self) -> Vec<[String; 2]> {
        let mut modules: Vec<[String; 2]> = AROUND.map(|pair| pair.map(str::to_string)).to_vec();
        let mut push = |diffusers: String, original: String| modules.push([diffusers, original]);
        let mut block = 1;
        for (i, stage) in self.down.iter().enumerate() {
            for j in 0..stage.resnets {
                resnet(
                    &mut push,
                    &format!("down_blocks.{i}.resnets.{j}"),
                    &format!("input_blocks.{block}.0"),
                );
                push(format!("down_blocks.{i}.attentions.{j}"), format!("input_blocks.{block}.1"));
                block += 1;
            }
            if i + 1 < self.down.len() {
                push(format!("down_blocks.{i}.downsamplers.0.conv"), format!("input_blocks.{block}.0.op"));
                block += 1;
            }
        }
        resnet(&mut push, "mid_block.resnets.0", "middle_block.0");
        push("mid_block.attentions.0".into(), "middle_block.1".into());
        resnet(&mut push, "mid_block.resnets.1", "middle_block.2");
        let mut block = 0_usize;
        for (i, stage) in self.up.iter().enumerate() {
            for j in 0..stage.resnets {
                resnet(&mut push, &format!("up_blocks.{i}.resnets.{j}"), &format!("output_blocks.{block}.0"));
                push(format!("up_blocks.{i}.attentions.{j}"), format!("output_blocks.{block}.1"));
                block += 1;
            }
            let behind = if stage.attention { 2 } else { 1 };
            let last = block.saturating_sub(1);
            if i + 1 < self.up.len() {
                push(
                    format!("up_blocks.{i}.upsamplers.0.conv"),
                    format!("output_blocks.{last}.{behind}.conv"),
                );
            }
        }
        modules
    }
}

fn resnet(push: &mut impl FnMut(String, String), diffusers: &str, original: &str) {
    for [ours, theirs] in RESNET {
        push(format!("{diffusers}.{ours}"), format!("{original}.{theirs}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Renaming;

    /// Stable Diffusion 1.x and 2.x.
    fn stable_diffusion() -> Layout {
        let stage = |resnets: usize, attention: bool| Blocks { resnets, attention };
        Layout {
            down: [true, true, true, false].map(|attention| stage(2, attention)).to_vec(),
            up: [false, true, true, true].map(|attention| stage(3, attention)).to_vec(),
        }
    }

    #[test]
    fn names_are_those_of_published_checkpoints() {
        let modules = stable_diffusion().modules();
        let renaming: Renaming = modules.into_iter().map(|[ours, theirs]| (theirs, ours)).collect();
        for (original, diffusers) in [
            ("input_blocks.0.0.weight", "conv_in.weight"),
            (
                "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight",
                "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k.weight",
            ),
            ("input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
            ("input_blocks.9.0.op.bias", "down_blocks.2.downsamplers.0.conv.bias"),
            ("input_blocks.11.0.emb_layers.1.bias", "down_blocks.3.resnets.1.time_emb_proj.bias"),
            ("middle_block.1.proj_in.weight", "mid_block.attentions.0.proj_in.weight"),
            ("middle_block.2.out_layers.3.weight", "mid_block.resnets.1.conv2.weight"),
            ("output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
            ("output_blocks.5.2.conv.weight", "up_blocks.1.upsamplers.0.conv.weight"),
            ("output_blocks.8.2.conv.bias", "up_blocks.2.upsamplers.0.conv.bias"),
            ("output_blocks.11.0.skip_connection.weight", "up_blocks.3.resnets.2.conv_shortcut.weight"),
            ("out.0.weight", "conv_norm_out.weight"),
        ] {
            assert_eq!(renaming.apply(original).as_deref(), Some(diffusers), "{original}");
        }
        assert_eq!(renaming.apply("label_emb.0.0.weight"), None);
    }

    #[test]
    fn the_layout_is_read_from_original_names() {
        let layout = stable_diffusion();
        let modules = layout.modules();
        // A stage on the way down or up without a transformer has none of its modules.
        let plain = |module: &str| {
            ["down_blocks.3.attentions", "up_blocks.0.attentions"].iter().any(|none| module.starts_with(none))
        };
        let has = |name: &str| {
            modules.iter().filter(|[ours, _]| !plain(ours)).any(|[_, theirs]| {
                name.strip_suffix(".weight").is_some_and(|module| {
                    module == theirs || module.strip_suffix(".norm").is_some_and(|module| module == theirs)
                })
            })
        };
        assert_eq!(Layout::of_original(has), layout);
        assert_eq!(Layout::of_original(|_| false), Layout::default());
    }
}
