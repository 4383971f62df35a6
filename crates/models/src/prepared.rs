//! Compiled graphs that are kept for the next picture.

use crate::{Error, Runner};

/// How many are kept: each holds the weights, so only the latest few are worth their memory.
const KEPT: usize = 2;

/// The latest compiled graphs, with what each was compiled for.
pub(crate) struct Prepared<K> {
    list: Vec<(K, Runner)>,
}

impl<K> Prepared<K> {
    pub fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// One that fits, or else what `make` compiles for `key`, which is kept instead of the oldest.
    pub async fn get(
        &mut self,
        key: K,
        fits: impl Fn(&K) -> bool,
        make: impl Future<Output = Result<Runner, Error>>,
    ) -> Result<&mut (K, Runner), Error> {
        let at = match self.list.iter().position(|(other, _)| fits(other)) {
            Some(found) => found,
            None => {
                let runner = make.await?;
                if self.list.len() >= KEPT {
                    self.list.remove(0);
                }
                self.list.push((key, runner));
                self.list.len() - 1
            }
        };
        self.list.get_mut(at).ok_or_else(|| Error::Input("there is no compiled graph".into()))
    }

    /// All of them.
    pub fn runners(&self) -> impl Iterator<Item = &Runner> {
        self.list.iter().map(|(_, runner)| runner)
    }
}
