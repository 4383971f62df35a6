//! Checkpoints in one file against diffusers, on the CPU reference.

use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph as graph;
use kiln_models as models;
use kiln_models::Device;
use kiln_models::stable_diffusion::{Additions, Request, StableDiffusion};
use kiln_models::textual_inversion::TextualInversion;
use kiln_models::weights::{Files, Folder, Memory, SafeTensors};

use graph::{DType, Tensor};

#[path = "stable_diffusion/original.rs"]
mod original;
#[path = "stable_diffusion/requests.rs"]
#[allow(dead_code)]
mod requests;

const NAME: &str = "tiny.safetensors";

/// A tokenizer that all cases share.
fn tokenizer() -> Additions {
    let tokenizer: Arc<dyn Files> = Arc::new(Folder::new(requests::folder().join("plain/tokenizer")));
    Additions { tokenizer: Some(tokenizer), ..Additions::default() }
}

fn open(tensors: &original::Tensors, additions: &Additions) -> Result<StableDiffusion, String> {
    let mut memory = Memory::new();
    memory.insert(NAME, original::file(tensors));
    let files: Arc<dyn Files> = Arc::new(memory);
    StableDiffusion::open_file(&files, NAME, Device::Cpu, Precision::F32, additions)
        .map_err(|error| error.to_string())
}

fn request() -> Request {
    Request {
        prompt: "a red three left of a blue seven!".into(),
        negative_prompt: "blurry blue".into(),
        steps: 4,
        seeds: vec![3],
        size: Some([32, 32]),
        ..Request::default()
    }
}

/// The largest difference of a byte from diffusers' picture.
fn difference(pipeline: &mut StableDiffusion, case: &str) -> u8 {
    let expected = SafeTensors::open(original::fixture(case), "pictures.safetensors").unwrap();
    let expected = expected.load("text2image").unwrap();
    let pictures = pipeline.generate_blocking(&request(), &mut ()).unwrap();
    let pairs = pictures[0].rgb.iter().zip(expected.as_i32().unwrap());
    pairs.map(|(&ours, &theirs)| ours.abs_diff(theirs as u8)).max().unwrap()
}

#[test]
fn both_generations_make_the_pictures_of_diffusers() {
    for (case, scheduler) in [("first", "PNDMScheduler"), ("second", "DDIMScheduler")] {
        let mut pipeline = open(&original::tensors(case), &tokenizer()).unwrap();
        assert_eq!(pipeline.scheduler(), scheduler);
        let largest = difference(&mut pipeline, case);
        assert!(largest <= 1, "{case}: off by {largest}");
    }
}

#[test]
fn what_a_training_leaves_changes_nothing() {
    let table = Tensor::f32([1000], vec![0.5; 1000]).unwrap();
    let half = |tensors: original::Tensors| -> original::Tensors {
        tensors.into_iter().map(|(name, tensor)| (name, tensor.cast(DType::F16))).collect()
    };
    for (case, last) in [
        ("first", "cond_stage_model.transformer.text_model.embeddings.position_ids"),
        ("second", "cond_stage_model.model.transformer.resblocks.23.ln_1.weight"),
    ] {
        let mut tensors = original::tensors(case);
        for name in [
            "alphas_cumprod",
            "sqrt_alphas_cumprod",
            "model_ema.decay",
            "model_ema.diffusion_modelout0bias",
            last,
        ] {
            tensors.insert(name.into(), table.clone());
        }
        if case == "second" {
            tensors.insert("cond_stage_model.model.logit_scale".into(), Tensor::scalar(1.0));
            tensors.insert("cond_stage_model.model.text_projection".into(), table.clone());
        }
        let wrapped = |(name, tensor)| (format!("state_dict.{name}"), tensor);
        let wrapped: original::Tensors = tensors.into_iter().map(wrapped).collect();
        let mut pipeline = open(&wrapped, &tokenizer()).unwrap();
        assert!(difference(&mut pipeline, case) <= 1, "{case}");
        let mut pipeline = open(&half(wrapped), &tokenizer()).unwrap();
        let largest = difference(&mut pipeline, case);
        assert!(largest > 0 && largest < 12, "{case} in f16: off by {largest}");
    }
}

/// A learned word of so many vectors for the text encoder of a checkpoint.
fn word(vectors: usize, width: usize) -> TextualInversion {
    let values = vec![0.5; vectors * width];
    let tensors = [("<word>".to_string(), Tensor::f32([vectors, width], values).unwrap())];
    let mut memory = Memory::new();
    memory.insert("word.safetensors", original::file(&tensors.into()));
    TextualInversion::open(&(Arc::new(memory) as Arc<dyn Files>), "word.safetensors", None).unwrap()
}

#[test]
fn clips_own_tokenizer_is_at_hand() {
    for (case, pad) in [("first", 49407), ("second", 0)] {
        let tensors = original::with_tokens(case, 49408);
        let mut pipeline = open(&tensors, &Additions::default()).unwrap();
        let ids = pipeline.tokenizer().prompt("a photo of a cat").unwrap().ids;
        assert_eq!(ids[..8], [49406, 320, 1125, 539, 320, 2368, 49407, pad], "{case}");
        assert_eq!(pipeline.generate_blocking(&request(), &mut ()).unwrap().len(), 1);
        // One that is given counts for more.
        let given = open(&tensors, &tokenizer()).unwrap();
        assert!(given.tokenizer().vocab_size() < 49408);
    }
}

#[test]
fn a_table_with_the_rows_of_learned_words_is_clips() {
    let table = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight";
    let tensors = original::with_tokens("first", 49410);
    let learned =
        |vectors| Additions { words: vec![word(vectors, tensors[table].shape()[1])], ..Additions::default() };
    let pipeline = open(&tensors, &learned(2)).unwrap();
    assert_eq!(pipeline.tokenizer().id("<word>"), Some(49408));
    for additions in [learned(1), Additions::default()] {
        let error = open(&tensors, &additions).map(|_| ()).unwrap_err();
        assert!(error.contains("knows 49410 tokens instead of the 49408 of CLIP's"), "{error}");
    }
}

#[test]
fn a_folder_of_configurations_counts_for_more() {
    let config: Arc<dyn Files> = Arc::new(Folder::new(requests::folder().join("plain")));
    let additions = Additions { config: Some(config), ..Additions::default() };
    let tensors = original::tensors("first");
    let told = open(&tensors, &additions).unwrap();
    assert_eq!((told.scheduler(), told.default_size()), ("DDIMScheduler", [32; 2]));
    let guessed = open(&tensors, &tokenizer()).unwrap();
    assert_eq!((guessed.scheduler(), guessed.default_size()), ("PNDMScheduler", [256; 2]));
}

#[test]
fn what_the_model_predicts_is_as_it_is_said() {
    let mut tensors = original::tensors("second");
    let mut pictures = Vec::new();
    let mut make = |tensors: &original::Tensors, prediction: Option<&str>| {
        let additions = Additions { prediction: prediction.map(str::to_string), ..tokenizer() };
        let mut pipeline = open(tensors, &additions).unwrap();
        pictures.push(pipeline.generate_blocking(&request(), &mut ()).unwrap());
    };
    make(&tensors, None);
    make(&tensors, Some("v_prediction"));
    make(&tensors, Some("epsilon"));
    // The base model of Stable Diffusion 2.0 was trained for so many steps.
    tensors.insert("global_step".into(), Tensor::scalar(875_000.0));
    make(&tensors, None);
    let [own, velocity, noise, base] = &pictures[..] else { panic!("there are four") };
    assert!(own == velocity && noise == base && own != noise);
    let additions = Additions { prediction: Some("x".into()), ..tokenizer() };
    assert!(open(&tensors, &additions).map(|_| ()).unwrap_err().contains("prediction_type"));
}

#[test]
fn what_is_no_checkpoint_is_refused_in_one_sentence() {
    let first = original::tensors("first");
    let refused = |change: &dyn Fn(&mut original::Tensors), additions: &Additions, reason: &str| {
        let mut tensors = first.clone();
        change(&mut tensors);
        let error = open(&tensors, additions).map(|_| ()).unwrap_err();
        assert!(
            error.contains(reason) && error.contains(NAME) && !error.contains('\n'),
            "{error:?}: no {reason:?}"
        );
    };
    let one = || Tensor::scalar(1.0);
    let without = |part: &'static str| {
        move |tensors: &mut original::Tensors| tensors.retain(|name, _| !name.starts_with(part))
    };
    refused(&without("model.diffusion_model."), &tokenizer(), "holds no model.diffusion_model.*");
    refused(&without("first_stage_model."), &tokenizer(), "holds no autoencoder");
    refused(&without("cond_stage_model."), &tokenizer(), "holds no text encoder");
    refused(
        &without("model.diffusion_model.out.2."),
        &tokenizer(),
        "missing: conv_out.bias, conv_out.weight",
    );
    refused(&without(""), &tokenizer(), "holds no model.diffusion_model.*");
    for (name, reason) in [
        ("conditioner.embedders.1.model.ln_final.bias", "Stable Diffusion XL"),
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
        ("lora_unet_x.alpha", "a LoRA"),
        ("down_blocks.0.x", "pipeline's folder"),
        ("model.diffusion_model.label_emb.0.0.weight", "unused: label_emb.0.0.weight"),
        ("first_stage_model.x", "unused: x"),
    ] {
        refused(&|tensors| drop(tensors.insert(name.into(), one())), &tokenizer(), reason);
    }
    refused(&|_| (), &Additions::default(), "has no tokenizer, and its text encoder knows");
    let narrow = |tensors: &mut original::Tensors| {
        let name = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight";
        tensors.insert(name.into(), Tensor::f32([8, 32, 3, 3], vec![0.0; 8 * 32 * 9]).unwrap());
    };
    refused(&narrow, &tokenizer(), "its weights make no model: 32 groups do not divide the 8 channels");
}
