//! States that take each other's values: all of them change at once, at the end of a run.

use std::collections::HashMap;

use kiln::engine::{CompileOptions, Gpu, Session};
use kiln::graph::{Builder, DType, Graph, GraphError, Interpreter, Tensor, Value};
use libtest_mimic::{Failed, Trial};

/// Rows of a state, and numbers a row.
const ROWS: usize = 3;
const WIDTH: usize = 4;

/// A graph under construction with an input `x`, a `position` and some states, whose old values are outputs.
struct States {
    b: Builder,
    x: Value,
    position: Value,
    all: Vec<Value>,
}

impl States {
    fn new(count: usize) -> Result<Self, GraphError> {
        let mut b = Builder::new();
        let x = b.input("x", [1, 1, WIDTH], DType::F32)?;
        let position = b.input("position", [], DType::U32)?;
        let mut all = Vec::new();
        for i in 0..count {
            all.push(b.state(format!("state{i}"), [1, ROWS, WIDTH], DType::F32)?);
        }
        Ok(Self { b, x, position, all })
    }

    /// Runs on the device what the interpreter defines, several times.
    fn agree(self, gpu: &Gpu) -> Result<(), Failed> {
        let graph = self.b.finish();
        let session = Session::compile_blocking(gpu, &graph, &HashMap::new(), &CompileOptions::default())?;
        let mut interpreter = Interpreter::new(graph.clone(), &HashMap::new())?;
        for (i, name) in names(&graph).iter().enumerate() {
            let values = (0..ROWS * WIDTH).map(|k| (100 * (i + 1) + k) as f32).collect();
            let start = Tensor::f32([1, ROWS, WIDTH], values)?;
            pollster::block_on(session.set_state(name, &start))?;
            interpreter.set_state(name, &start)?;
        }
        for run in 0..5 {
            let row = (0..WIDTH).map(|i| (10 * run + i) as f32).collect();
            let position = Tensor::u32([], vec![run as u32 % ROWS as u32])?;
            let inputs = [("x", Tensor::f32([1, 1, WIDTH], row)?), ("position", position)];
            let (found, wanted) = (session.run_blocking(&inputs)?, interpreter.run(&inputs)?);
            if found != wanted {
                return Err(format!("run {run}: {found:?} instead of {wanted:?}").into());
            }
        }
        Ok(())
    }

    fn show_all(&mut self) -> Result<(), GraphError> {
        for (i, &state) in self.all.iter().enumerate() {
            self.b.output(format!("old{i}"), state)?;
        }
        Ok(())
    }

    /// Sums of the states, so that they are seen though nothing keeps their old values to a run's end.
    fn show_sums(&mut self) -> Result<(), GraphError> {
        for (i, &state) in self.all.iter().enumerate() {
            let sum = self.b.add(state, self.x)?;
            self.b.output(format!("sum{i}"), sum)?;
        }
        Ok(())
    }
}

fn names(graph: &Graph) -> Vec<String> {
    graph.states().map(|(name, _)| name.to_string()).collect()
}

/// Each of `count` states takes the next one's value.
fn circle(gpu: &Gpu, count: usize) -> Result<(), Failed> {
    for shown in [false, true] {
        let mut states = States::new(count)?;
        for i in 0..count {
            states.b.update(states.all[i], states.all[(i + 1) % count])?;
        }
        if shown {
            states.show_all()?
        } else {
            states.show_sums()?
        }
        states.agree(gpu)?;
    }
    Ok(())
}

/// Each state takes the one's before it, the first a new value; in either order of the updates.
fn chain(gpu: &Gpu) -> Result<(), Failed> {
    for backwards in [false, true] {
        let mut states = States::new(3)?;
        let next = states.b.add(states.all[2], states.x)?;
        let mut updates = vec![(0, next), (1, states.all[0]), (2, states.all[1])];
        if backwards {
            updates.reverse();
        }
        for (state, value) in updates {
            states.b.update(states.all[state], value)?;
        }
        states.show_all()?;
        states.agree(gpu)?;
    }
    Ok(())
}

/// What else is made of a state that is appended to in place.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Also {
    Nothing,
    OldIsOutput,
    OldIsAnotherState,
    NewIsAnotherState,
    NewIsOutputByAnotherShape,
}

fn appended(gpu: &Gpu, also: Also) -> Result<(), Failed> {
    let mut states = States::new(2)?;
    let (cache, other) = (states.all[0], states.all[1]);
    let new = states.b.cache_append(cache, states.x, states.position)?;
    states.b.update(cache, new)?;
    match also {
        Also::Nothing => {}
        Also::OldIsOutput => states.b.output("old", cache)?,
        Also::OldIsAnotherState => states.b.update(other, cache)?,
        Also::NewIsAnotherState => states.b.update(other, new)?,
        Also::NewIsOutputByAnotherShape => {
            let flat = states.b.reshape(new, [ROWS * WIDTH])?;
            states.b.output("flat", flat)?;
        }
    }
    let sum = states.b.add(new, other)?;
    states.b.output("sum", sum)?;
    states.agree(gpu)
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let mut trials = vec![
        crate::trial("states::swap".into(), gpu, |gpu| circle(gpu, 2)),
        crate::trial("states::rotation_of_three".into(), gpu, |gpu| circle(gpu, 3)),
        crate::trial("states::chain_of_old_values".into(), gpu, chain),
    ];
    for also in [
        Also::Nothing,
        Also::OldIsOutput,
        Also::OldIsAnotherState,
        Also::NewIsAnotherState,
        Also::NewIsOutputByAnotherShape,
    ] {
        trials.push(crate::trial(format!("states::appended_{also:?}"), gpu, move |gpu| appended(gpu, also)));
    }
    trials
}
