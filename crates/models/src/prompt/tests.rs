use kiln_graph::random::SplitMix64;

use super::parse::{Part, parse};
use super::*;
use crate::tokenizer::tests::clip;

fn texts(prompt: &str) -> Vec<(String, f64)> {
    let part = |part| match part {
        Part::Text(text, weight) => (text, weight),
        Part::Break => ("BREAK".into(), -1.0),
    };
    parse(prompt).unwrap().into_iter().map(part).collect()
}

/// What a prompt is read as, with weights to six digits.
#[track_caller]
fn reads(prompt: &str, wanted: &[(&str, f64)]) {
    let found = texts(prompt);
    let same = |(a, b): (&(String, f64), &(&str, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6;
    assert!(found.len() == wanted.len() && found.iter().zip(wanted).all(same), "{prompt:?}: {found:?}");
}

fn weighted(text: &str) -> Prompt {
    Prompt::new(text, Syntax::Weighted, &clip()).unwrap()
}

/// A chunk's tokens between start and end.
fn inner(chunk: &Chunk) -> &[i32] {
    let end = chunk.ids.iter().position(|&id| id == 49407).unwrap();
    &chunk.ids[1..end]
}

const CAT: i32 = 2368;
const COMMA: i32 = 267;

#[test]
fn brackets_weigh_what_is_in_them() {
    reads("normal text", &[("normal text", 1.0)]);
    reads("an (important) word", &[("an ", 1.0), ("important", 1.1), (" word", 1.0)]);
    reads(
        "((very)) [little] [[less]]",
        &[("very", 1.21), (" ", 1.0), ("little", 1.0 / 1.1), (" ", 1.0), ("less", 1.0 / 1.21)],
    );
    reads("(a:1.3)(b : -.5 )(c:+2)(d:0)", &[("a", 1.3), ("b ", -0.5), ("c", 2.0), ("d", 0.0)]);
    reads("(a (b:1.5) c)", &[("a ", 1.1), ("b", 1.65), (" c", 1.1)]);
    reads("([both])", &[("both", 1.0)]);
    reads("(a [b) c]", &[("a ", 1.1), ("b", 1.0), (" c", 1.0 / 1.1)]);
}

#[test]
fn neighbours_of_one_weight_are_one_text() {
    reads("(unnecessary)(brackets)", &[("unnecessarybrackets", 1.1)]);
    reads("ca(t:1)s", &[("cats", 1.0)]);
}

#[test]
fn escaped_signs_are_text() {
    reads(r"\(literal\] \[a\) \\", &[(r"(literal] [a) \", 1.0)]);
    reads(r"(a\) b)", &[("a) b", 1.1)]);
    reads(r"back\slash \", &[("backslash ", 1.0)]);
    reads(r"a(\:1.3)b", &[("a", 1.0), ("b", 1.0)]);
}

#[test]
fn brackets_without_partners() {
    reads("(unbalanced", &[("unbalanced", 1.1)]);
    reads("a ((b [c", &[("a ", 1.0), ("b ", 1.21), ("c", 1.1)]);
    reads("a) b] c:1.5)", &[("a) b] c:1.5)", 1.0)]);
    reads("", &[]);
    reads("()[]", &[]);
}

#[test]
fn what_is_no_weight_is_text() {
    reads("(a:nan)", &[("a:nan", 1.1)]);
    reads("(a:1e99)", &[("a:1e99", 1.1)]);
    reads("(a:b:1.2)", &[("a:b", 1.2)]);
    reads("[a:1.2]", &[("a:1.2", 1.0 / 1.1)]);
    reads("time: 10:30", &[("time: 10:30", 1.0)]);
    reads("(a:)", &[("a:", 1.1)]);
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let refused = |prompt: &str| parse(prompt).unwrap_err().to_string();
    assert_eq!(refused("(a:1.2.3)"), "the prompt's weight 1.2.3 is no number that fits in 32 bits");
    assert!(refused("(a:.)").contains("weight . is no number"));
    assert!(refused(&format!("(a:1{})", "0".repeat(40))).contains("weight 1000"));
    assert!(refused(&format!("((a:0):9{})", "0".repeat(400))).contains("weight NaN"));
}

#[test]
fn deep_brackets_are_refused_and_many_are_read() {
    let refused = |prompt: &str| parse(prompt).unwrap_err().to_string();
    reads(&format!("{}a", "(".repeat(255)), &[("a", 1.1f64.powi(255))]);
    assert!(refused(&"(".repeat(256)).contains("more than 255 deep"));
    assert!(refused(&"[(".repeat(128)).contains("more than 255 deep"));
    assert!(refused(&"a".repeat((1 << 20) + 1)).contains("has 1048577 bytes"));
    // Every open bracket weighs every text.
    let many = format!("{}{}", "(".repeat(255), "a:b".repeat(100_000));
    assert_eq!(texts(&many).len(), 1);
}

#[test]
fn signs_in_any_order_are_read_or_refused() {
    let tokenizer = clip();
    let random = SplitMix64::named("prompt");
    let pieces =
        ["(", ")", "[", "]", ":", "\\", "BREAK", " ", "1.3", "-", ".", "cat", ",", "é", "😀", ":1.3)"];
    let draw = |i: usize, below: usize| {
        ((f64::from(random.affine(i as u64, 0.5, 0.5)) * below as f64) as usize).min(below - 1)
    };
    let (mut read, mut i) = (0, 0);
    for _ in 0..2000 {
        let length = draw(i, 60);
        let prompt: String = (0..length).map(|k| pieces[draw(i + 1 + k, pieces.len())]).collect();
        i += 1 + length;
        let Ok(prompt) = Prompt::new(&prompt, Syntax::Weighted, &tokenizer) else { continue };
        read += 1;
        let whole = |chunk: &Chunk| chunk.ids.len() == 77 && chunk.ids[0] == 49406 && chunk.ids[76] == 49407;
        assert!(prompt.chunks().iter().all(whole));
        assert!(prompt.chunks().iter().flat_map(|chunk| &chunk.weights).all(|weight| weight.is_finite()));
    }
    assert!(read > 1500, "only {read} were read");
}

#[test]
fn breaks_are_words_of_their_own() {
    let cut = ("BREAK", -1.0);
    reads("a BREAK b", &[("a", 1.0), cut, ("b", 1.0)]);
    reads("BREAK a\nBREAK", &[cut, ("a", 1.0), cut]);
    reads("(a BREAK b:1.2)BREAK", &[("a", 1.2), cut, ("b", 1.2), cut]);
    reads("BREAKFAST break _BREAK BREAK2 1BREAK", &[("BREAKFAST break _BREAK BREAK2 1BREAK", 1.0)]);
    let prompt = weighted("cat BREAK cat cat");
    assert_eq!(prompt.chunks().iter().map(inner).collect::<Vec<_>>(), [&[CAT][..], &[CAT, CAT]]);
    assert_eq!(weighted("cat BREAK").chunks().len(), 1);
    assert_eq!(weighted("BREAK cat").chunks().iter().map(inner).collect::<Vec<_>>(), [&[][..], &[CAT]]);
}

#[test]
fn chunks_hold_start_tokens_end_and_padding() {
    let prompt = weighted("a (cat:1.5)");
    let [chunk] = prompt.chunks() else { panic!("{prompt:?}") };
    assert_eq!(chunk.ids[..5], [49406, 320, CAT, 49407, 49407]);
    assert_eq!(chunk.weights[..5], [1.0, 1.0, 1.5, 1.0, 1.0]);
    assert_eq!((chunk.ids.len(), chunk.weights.len()), (77, 77));
    let empty = weighted("");
    assert_eq!(empty.chunks().len(), 1);
    assert_eq!(inner(&empty.chunks()[0]), [0; 0]);
}

#[test]
fn long_prompts_are_cut_every_75_tokens() {
    let prompt = weighted(&"cat ".repeat(160));
    assert_eq!(prompt.chunks().iter().map(|chunk| inner(chunk).len()).collect::<Vec<_>>(), [75, 75, 10]);
    assert_eq!(prompt.chunks()[0].ids[76], 49407);
    assert_eq!(prompt.input_ids().unwrap().shape(), [3, 77]);
    assert!(prompt.cut().is_none());
}

#[test]
fn chunks_end_at_a_comma_that_is_near() {
    let lengths = |before: usize, after: usize| {
        let prompt = weighted(&format!("{}, {}", "cat ".repeat(before), "cat ".repeat(after)));
        prompt.chunks().iter().map(|chunk| inner(chunk).len()).collect::<Vec<_>>()
    };
    // The comma is the chunk's token 56 of 75, 20 before the one that does not fit.
    assert_eq!(lengths(55, 30), [56, 30]);
    assert_eq!(lengths(54, 30), [75, 10]);
    assert_eq!(lengths(74, 30), [75, 30]);
    // A comma that does not fit itself begins the next chunk, and text that fits is not moved.
    assert_eq!(lengths(75, 30), [75, 31]);
    assert_eq!(lengths(60, 14), [75]);
    let moved = weighted(&format!("{}, {}(cat:2) cat", "cat ".repeat(60), "cat ".repeat(13)));
    assert_eq!(inner(&moved.chunks()[0]).last(), Some(&COMMA));
    assert_eq!(moved.chunks()[1].weights[13..16], [1.0, 2.0, 1.0]);
}

#[test]
fn words_of_several_vectors_stay_together() {
    let mut tokenizer = clip();
    tokenizer.add_token("<thing>", 4).unwrap();
    let text = format!("{}(<thing>:1.5)", "cat ".repeat(73));
    let prompt = Prompt::new(&text, Syntax::Weighted, &tokenizer).unwrap();
    assert_eq!(inner(&prompt.chunks()[0]), [CAT; 73]);
    assert_eq!(prompt.chunks()[1].ids[..6], [49406, 49408, 49409, 49410, 49411, 49407]);
    assert_eq!(prompt.chunks()[1].weights[..6], [1.0, 1.5, 1.5, 1.5, 1.5, 1.0]);
}

#[test]
fn endless_prompts_are_refused() {
    let error = Prompt::new(&"BREAK ".repeat(1001), Syntax::Weighted, &clip()).unwrap_err();
    assert_eq!(error.to_string(), "the prompt fills more than 1000 chunks");
}

#[test]
fn a_prompt_and_its_negative_have_as_many_chunks() {
    let tokenizer = clip();
    let long = "cat ".repeat(100);
    for (prompt, negative) in [("cat", &long[..]), (&long, "cat")] {
        let [a, b] = Prompt::pair(prompt, negative, Syntax::Weighted, &tokenizer).unwrap();
        assert_eq!((a.chunks().len(), b.chunks().len()), (2, 2));
        let short = if prompt == "cat" { a } else { b };
        assert_eq!(short.chunks()[1], weighted("").chunks()[0]);
    }
}

#[test]
fn plain_prompts_are_text_and_what_was_cut_is_told() {
    let tokenizer = clip();
    let plain = |text: &str| Prompt::new(text, Syntax::Plain, &tokenizer).unwrap();
    let brackets = plain("(cat:1.5) BREAK");
    assert_eq!(brackets.chunks()[0].ids, tokenizer.prompt("(cat:1.5) BREAK").unwrap().ids);
    assert!(brackets.chunks()[0].weights.iter().all(|&weight| weight == 1.0));
    assert_eq!(brackets.cut(), None);
    let long = plain(&format!("{}a red dog", "cat ".repeat(74)));
    assert_eq!(long.chunks().len(), 1);
    let cut = long.cut().unwrap();
    assert_eq!((cut.tokens, cut.text.as_str()), (2, "red dog"));
    assert_eq!(cut.to_string(), "the last 2 tokens of the prompt were cut off: \"red dog\"");
}

#[test]
fn weights_keep_the_mean() {
    let mut embedding = [1.0, 3.0, 2.0, -2.0, 4.0, 4.0];
    // Weighed: 1 3 4 -4 0 0 of mean 4/6, which was 12/6.
    apply_weights(&mut embedding, &[1.0, 2.0, 0.0]).unwrap();
    assert_eq!(embedding, [3.0, 9.0, 12.0, -12.0, 0.0, 0.0]);
    let mut same = [0.1, 0.7];
    apply_weights(&mut same, &[1.0, 1.0]).unwrap();
    assert_eq!(same, [0.1, 0.7]);
    let mut huge = [1e38, 1.0];
    apply_weights(&mut huge, &[3e38, 1.0]).unwrap();
    assert!((huge[0] / 1e38 - 1.0).abs() < 1e-6 && huge[1] < 1e-38, "{huge:?}");
    assert!(matches!(apply_weights(&mut [1.0, 1.0], &[1.0, -1.0]), Err(PromptError::Mean)));
    assert!(apply_weights(&mut [1.0; 5], &[1.0, 2.0]).is_err());
    assert!(apply_weights(&mut [], &[]).is_err());
}

#[test]
fn embeddings_are_weighed_chunk_by_chunk_and_joined() {
    let prompt = weighted("cat BREAK (cat:2)");
    let ones = Tensor::f32([2, 77, 3], vec![1.0; 2 * 77 * 3]).unwrap();
    let joined = prompt.weigh(&ones).unwrap();
    assert_eq!(joined.shape(), [1, 154, 3]);
    let values = joined.as_f32().unwrap();
    assert_eq!(values[..77 * 3], [1.0; 77 * 3]);
    // The second chunk's mean was 1 and became 78/77.
    let (others, cat) = (77.0 / 78.0, 2.0 * 77.0 / 78.0);
    assert!((values[77 * 3] - others).abs() < 1e-6 && (values[78 * 3] - cat).abs() < 1e-6);
    let error = prompt.weigh(&Tensor::f32([1, 77, 1], vec![0.0; 77]).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "embeddings of shape [1, 77, 1] are not those of 2 chunks of 77 tokens");
}
