//! In which order the parts of a UNet stand.

use super::config::{Config, Stage};

/// An attention to the prompt.
pub(super) struct Crossing {
    /// The module that holds its weights.
    pub path: String,
    /// Channels of its keys, and of its values.
    pub width: usize,
    /// Channels of a token.
    pub tokens: usize,
}

impl Config {
    /// All stages on the way of the latents, by the module that holds their weights.
    pub(super) fn stages(&self) -> impl Iterator<Item = (String, &Stage)> {
        let named = |name: &'static str| move |(i, stage)| (format!("{name}_blocks.{i}"), stage);
        let down = self.down.iter().enumerate().map(named("down"));
        let mid = self.mid.iter().map(|stage| ("mid_block".to_string(), stage));
        down.chain(mid).chain(self.up.iter().enumerate().map(named("up")))
    }

    /// Each residual block in order: its module, and how many numbers it takes of a timestep.
    pub(super) fn time_widths(&self) -> impl Iterator<Item = (String, usize)> {
        let parts = if self.time.scale_shift { 2 } else { 1 };
        self.stages().flat_map(move |(path, stage)| {
            (0..stage.resnets).map(move |j| (format!("{path}.resnets.{j}"), parts * stage.channels))
        })
    }

    /// Each attention to the prompt in order.
    pub(super) fn crossings(&self) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        for (path, stage) in self.stages() {
            let Some(attention) = &stage.attention else { continue };
            for (j, &layers) in attention.layers.iter().enumerate() {
                for layer in 0..layers {
                    for name in if attention.only_cross { &["attn1", "attn2"][..] } else { &["attn2"] } {
                        crossings.push(Crossing {
                            path: format!("{path}.attentions.{j}.transformer_blocks.{layer}.{name}"),
                            width: stage.channels,
                            tokens: attention.cross_attention_dim,
                        });
                    }
                }
            }
        }
        crossings
    }

    /// Channels of a prompt's token: those that the attentions want, unless there is a projection before them.
    pub(super) fn prompt_width(&self) -> usize {
        let attended =
            || self.stages().find_map(|(_, stage)| Some(stage.attention.as_ref()?.cross_attention_dim));
        self.encoder_hid_dim.or_else(attended).unwrap_or(1)
    }
}
