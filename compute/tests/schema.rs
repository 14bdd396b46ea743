//! The JSON Schema of studies is the one that is published, and studies keep to it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;

use serde_json::{Map, Value, json};
use shared::document::Document;
use shared::statistics::Method;
use shared::study::{Builder, Options, Study};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(components(schemas(Study)))]
struct Types;

/// Where the published schema is; `PATCHBOARD_WRITE_SCHEMA=1` writes it anew.
fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/patchboard-2.schema.json")
}

/// The types by name, as one schema of [`Study`].
fn schema() -> Value {
    let types = Types::openapi().to_json().unwrap().replace("#/components/schemas/", "#/$defs/");
    let mut types: Value = serde_json::from_str(&types).unwrap();
    let mut types: Map<String, Value> =
        std::mem::take(types["components"]["schemas"].as_object_mut().unwrap());
    let study = types.remove("Study").unwrap();
    let mut schema = Map::from_iter([
        ("$schema".to_string(), json!("https://json-schema.org/draft/2020-12/schema")),
        ("title".to_string(), json!("patchboard/2")),
    ]);
    schema.extend(study.as_object().unwrap().clone());
    schema.insert("$defs".to_string(), types.into());
    schema.into()
}

fn examples() -> Vec<Document> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../static/examples/results");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    paths.iter().flat_map(|path| Document::read(&std::fs::read(path).unwrap()).unwrap()).collect()
}

#[test]
fn the_schema_is_the_published_one_and_studies_keep_to_it() {
    let schema = schema();
    let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    if std::env::var_os("PATCHBOARD_WRITE_SCHEMA").is_some() {
        std::fs::write(path(), &text).unwrap();
    }
    let published = std::fs::read_to_string(path()).unwrap_or_default();
    assert!(
        published == text,
        "docs/patchboard-2.schema.json is another: write it by PATCHBOARD_WRITE_SCHEMA=1"
    );

    let mut builder = Builder::new();
    let examples = examples();
    assert!(examples.len() >= 3);
    for document in &examples {
        builder.push(document).unwrap();
    }
    let method = Method { n_resamples: 50, n_flips: 50, ..Method::default() };
    let (study, file) = builder.finish(&Options { method, ..Options::default() }).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let manifest: Value = serde_json::from_str(&study.to_json()).unwrap();
    let problems: Vec<_> = validator.iter_errors(&manifest).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    // It tells what is none.
    for (pointer, wrong) in [
        ("/pairs/0/base/logit_diff", json!("high")),
        ("/grids/0/site", json!("somewhere")),
        ("/grids/0/summaries/0/effect/n/0", json!(-1)),
        ("/rule", json!(null)),
    ] {
        let mut wrong_study = manifest.clone();
        *wrong_study.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&wrong_study), "{pointer}");
    }

    // The file of values is what other programs take it for.
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let array = tensors.tensor("grids.0.logit_diff").unwrap();
    assert_eq!(array.shape(), study.values.as_ref().unwrap().arrays["grids.0.logit_diff"].shape);
    let first = f32::from_le_bytes(array.data()[..4].try_into().unwrap());
    let found = examples[0].patching_results.get(0, 0);
    assert_eq!(Some(first), found);
}
