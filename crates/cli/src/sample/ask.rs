//! What each picture is to show.

use anyhow::{Result, bail};
use kiln::models::vqgan::{Condition, Conditions, Vqgan};

use super::Args;
use crate::bundled::read_picture;
use crate::output::say;

/// One picture.
pub struct Ask {
    pub condition: Condition,
    pub seed: u64,
    /// The class's name.
    name: Option<String>,
}

impl Ask {
    /// A name for its file: the class and the seed.
    pub fn file_name(&self) -> String {
        let Some(name) = &self.name else { return format!("sample-{}", self.seed) };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        format!("{}-{}", name.chars().map(plain).collect::<String>(), self.seed)
    }

    /// What a line says of it.
    pub fn named(&self) -> String {
        self.name.as_ref().map_or(String::new(), |name| format!("{name}, "))
    }
}

/// All pictures that are asked for. Where the model wants a class and none is named, they are of any, by their seeds.
pub fn all(args: &Args, vqgan: &Vqgan, first: u64) -> Result<Vec<Ask>> {
    let seeds = |i: u64| first.wrapping_add(i);
    let count = u64::from(args.count);
    let one = |condition: Condition, name: Option<String>, i: u64| Ask { condition, seed: seeds(i), name };
    if let Some(path) = &args.map {
        let map = read_picture(path)?;
        return Ok((0..count).map(|i| one(Condition::Map(map.clone()), None, i)).collect());
    }
    let Conditions::Classes(names) = vqgan.conditions() else {
        if !args.class.is_empty() {
            bail!("the model knows no classes");
        }
        return Ok((0..count).map(|i| one(Condition::None, None, i)).collect());
    };
    let of = |class: usize, i: u64| one(Condition::Class(class), names.get(class).cloned(), i);
    if args.class.is_empty() {
        let any = |i: u64| (seeds(i) % names.len().max(1) as u64) as usize;
        return Ok((0..count).map(|i| of(any(i), i)).collect());
    }
    let classes = args.class.iter().map(|text| class(text, names)).collect::<Result<Vec<_>>>()?;
    let pictures = classes.iter().flat_map(|&class| (0..count).map(move |_| class)).zip(0..);
    Ok(pictures.map(|(class, i)| of(class, i)).collect())
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

    #[test]
    fn files_are_named_by_class_and_seed() {
        let ask =
            |name: Option<&str>| Ask { condition: Condition::None, seed: 7, name: name.map(String::from) };
        assert_eq!(ask(Some("golden retriever/x")).file_name(), "golden-retriever-x-7");
        assert_eq!(ask(None).file_name(), "sample-7");
    }
}
