//! States' new values, all of them taken from what was there before any state changed.

use super::upload::STORAGE;
use super::{Compiler, Copy, Region};
use crate::Error;

/// A place of a move: a buffer, or the spare that breaks cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own(usize),
    Spare,
}

/// Puts moves `(from, to)`, which are to happen at once, into an order in which none overwrites what a later one reads.
/// Every place is written at most once. Where places take each other's content in a circle, one is saved to the spare.
fn in_order(moves: &[(usize, usize)]) -> Vec<(Place, Place)> {
    let mut pending: Vec<(Place, usize)> =
        moves.iter().filter(|(from, to)| from != to).map(|&(from, to)| (Place::Own(from), to)).collect();
    let mut ordered = Vec::new();
    while let Some(&(_, first)) = pending.first() {
        let free =
            pending.iter().position(|&(_, to)| pending.iter().all(|&(from, _)| from != Place::Own(to)));
        if let Some(free) = free {
            let (from, to) = pending.remove(free);
            ordered.push((from, Place::Own(to)));
            continue;
        }
        // What is left is circles, for each place has one source. The spare is free again when one is done.
        ordered.push((Place::Own(first), Place::Spare));
        for (from, _) in &mut pending {
            if *from == Place::Own(first) {
                *from = Place::Spare;
            }
        }
    }
    ordered
}

impl Compiler<'_> {
    /// The copies that give the states their new values.
    pub(super) async fn updates(&mut self) -> Result<Vec<Copy>, Error> {
        // A state has a buffer of its own, so that buffers tell places apart.
        let mut places: Vec<Region> = Vec::new();
        let mut moves = Vec::new();
        for &(state, value) in self.graph.updates() {
            let mut place = |region: Region| {
                places.iter().position(|other| other.buffer == region.buffer).unwrap_or_else(|| {
                    places.push(region);
                    places.len() - 1
                })
            };
            let (from, to) = (self.resolve(value).await?, self.resolve(state).await?);
            moves.push((place(from), place(to)));
        }
        let ordered = in_order(&moves);
        let saved = ordered.iter().filter_map(|&(from, to)| match (from, to) {
            (Place::Own(from), Place::Spare) => places.get(from).map(|region| region.bytes),
            _ => None,
        });
        let spare = match saved.max() {
            Some(bytes) => Some(self.whole("spare", bytes, STORAGE).await?),
            None => None,
        };
        self.other_bytes += spare.as_ref().map_or(0, |spare| spare.bytes);
        let region = |place: Place| match place {
            Place::Own(place) => places.get(place).cloned(),
            Place::Spare => spare.clone(),
        };
        let mut copies = Vec::new();
        for (from, to) in ordered {
            if let (Some(from), Some(to)) = (region(from), region(to)) {
                let bytes = from.bytes.min(to.bytes);
                copies.push(Copy { from: Region { bytes, ..from }, to: Region { bytes, ..to } });
            }
        }
        Ok(copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the places hold after the moves, one after the other; at first each holds its own number.
    fn after(moves: &[(usize, usize)], places: usize) -> (Vec<usize>, usize) {
        let mut content: Vec<usize> = (0..=places).collect();
        let ordered = in_order(moves);
        let at = |place: Place| match place {
            Place::Own(place) => place,
            Place::Spare => places,
        };
        for &(from, to) in &ordered {
            content[at(to)] = content[at(from)];
        }
        content.truncate(places);
        (content, ordered.len())
    }

    #[test]
    fn moves_happen_as_if_at_once() {
        for (moves, wanted, copies) in [
            (&[(0, 1), (1, 0)][..], &[1, 0][..], 3),
            (&[(0, 1), (1, 2), (2, 0)], &[2, 0, 1], 4),
            // A chain, in either order.
            (&[(0, 1), (1, 2)], &[0, 0, 1], 2),
            (&[(1, 2), (0, 1)], &[0, 0, 1], 2),
            // Two circles, with a place that hangs on each.
            (&[(0, 1), (1, 0), (2, 3), (3, 2), (0, 4), (3, 5)], &[1, 0, 3, 2, 0, 3], 8),
            // A state that is its own new value, and is read too.
            (&[(0, 0), (0, 1)], &[0, 0], 1),
            (&[], &[], 0),
        ] {
            assert_eq!(after(moves, wanted.len()), (wanted.to_vec(), copies), "{moves:?}");
        }
    }
}
