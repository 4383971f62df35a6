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
        self.keeping(KEPT, key, fits, make).await
    }

    /// The same, with no more than so many of them: the oldest are let go before another is made, so that the device never
    /// holds more. The one that is given is the last of [`Prepared::runners`].
    pub async fn keeping(
        &mut self,
        kept: usize,
        key: K,
        fits: impl Fn(&K) -> bool,
        make: impl Future<Output = Result<Runner, Error>>,
    ) -> Result<&mut (K, Runner), Error> {
        match self.list.iter().position(|(other, _)| fits(other)) {
            Some(found) => {
                let found = self.list.remove(found);
                self.list.push(found);
            }
            None => {
                while self.list.len() >= kept.max(1) {
                    self.list.remove(0);
                }
                self.list.push((key, make.await?));
            }
        }
        self.list.last_mut().ok_or_else(|| Error::Input("there is no compiled graph".into()))
    }

    /// Whether there is one that fits.
    pub fn holds(&self, fits: impl Fn(&K) -> bool) -> bool {
        self.list.iter().any(|(key, _)| fits(key))
    }

    /// Lets go of all.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// All of them.
    pub fn runners(&self) -> impl Iterator<Item = &Runner> {
        self.list.iter().map(|(_, runner)| runner)
    }
}
