//! Some of a graph's outputs.

use crate::passes::Rewriter;
use crate::{Graph, GraphError};

/// The graph that gives these outputs alone, in this order, without the nodes that only others needed.
pub fn select_outputs(mut graph: Graph, names: &[&str]) -> Result<Graph, GraphError> {
    let find = |name: &&str| {
        let found = graph.outputs().iter().find(|(other, _)| other == name).cloned();
        let reason = "there is none of this name".to_string();
        found.ok_or_else(|| GraphError::Value { what: "output", name: name.to_string(), reason })
    };
    graph.outputs = names.iter().map(find).collect::<Result<_, _>>()?;
    Ok(Rewriter::new(graph).finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, DType};

    #[test]
    fn what_only_other_outputs_need_is_left_out() {
        let mut b = Builder::new();
        let x = b.input("x", [2], DType::F32).unwrap();
        let weight = b.weight("weight", [2]).unwrap();
        let sum = b.add(x, x).unwrap();
        b.output("sum", sum).unwrap();
        let product = b.mul(x, weight).unwrap();
        b.output("product", product).unwrap();
        b.output("x", x).unwrap();
        let graph = select_outputs(b.finish(), &["x", "sum"]).unwrap();
        assert_eq!(graph.outputs().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x", "sum"]);
        assert_eq!((graph.nodes().len(), graph.weights().count()), (1, 0));
        assert!(select_outputs(graph, &["product"]).unwrap_err().to_string().contains("product"));
    }
}
