//! What each picture is to show.

use anyhow::{Result, bail};
use kiln::models::Vqgan;
use kiln::models::vqgan::{Condition, Conditions};

use crate::bundled::read_picture;
use crate::output::say;
use crate::sample::Args;
use crate::sample::batches::Label;

/// One picture.
pub struct Ask {
    pub condition: Condition,
    pub label: Label,
}

/// All pictures that are asked for. Where the model wants a class and none is named, they are of any, by their seeds.
pub fn all(args: &Args, vqgan: &Vqgan) -> Result<Vec<Ask>> {
    let seeds = args.seeds(args.count as usize * args.class.len().max(1));
    let same = |condition: Condition| {
        let one = |&seed: &u64| Ask { condition: condition.clone(), label: Label { class: None, seed } };
        Ok(seeds.iter().map(one).collect())
    };
    if let Some(path) = &args.map {
        return same(Condition::Map(read_picture(path)?));
    }
    let Conditions::Classes(names) = vqgan.conditions() else {
        if !args.class.is_empty() {
            bail!("the model knows no classes");
        }
        return same(Condition::None);
    };
    let classes = args.class.iter().map(|text| class(text, names)).collect::<Result<Vec<_>>>()?;
    let any = |seed: u64| (seed % names.len().max(1) as u64) as usize;
    let asks = seeds.iter().enumerate().map(|(i, &seed)| {
        let class = classes.get(i / args.count as usize).copied().unwrap_or_else(|| any(seed));
        let label = Label { class: names.get(class).cloned(), seed };
        Ask { condition: Condition::Class(class), label }
    });
    Ok(asks.collect())
}

/// The class of a name or a number.
fn class(text: &str, names: &[String]) -> Result<usize> {
    let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let found = named.or_else(|| text.parse().ok().filter(|&class| class < names.len()));
    match found {
        Some(class) => Ok(class),
        None => bail!(
            "{text:?} is none of the model's {} classes, by name or by number (--classes lists them)",
            names.len()
        ),
    }
}

/// Prints the classes.
pub fn list(vqgan: &Vqgan) {
    match vqgan.conditions() {
        Conditions::Classes(names) => {
            names.iter().enumerate().for_each(|(class, name)| say!("{class:>5}  {name}"));
        }
        Conditions::Maps { channels } => say!("no classes, but maps of {channels} channels"),
        Conditions::None => say!("no classes: the model is asked for nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_names_and_numbers() {
        let names = ["red 0", "Red 1"].map(String::from);
        assert_eq!(class("RED 1", &names).unwrap(), 1);
        assert_eq!(class("0", &names).unwrap(), 0);
        for wrong in ["2", "-1", "blue 0", ""] {
            assert!(class(wrong, &names).unwrap_err().to_string().contains("2 classes"), "{wrong}");
        }
    }
}
