//! What settings make of a pair, and what is written down of it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::DType;
use compute::experiment::{self, Experiment};
use compute::model::{Kernels, Loader, Model, Placement};
use compute::sweep::{Division, Program, Progress};
use shared::document::{AxisKeys, Document, Prompt, Recheck};
use shared::specification::pairs::Pair;
use shared::specification::settings::{Checked, Settings};
use shared::specification::vocabulary::{Direction, Site, Span};

/// Settings by name.
type Cells = &'static [(&'static str, &'static str)];

const MEMORY: usize = 1 << 30;

fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3");
    Loader::new(&folder).load().unwrap()
}

fn pair(entity: &str, source: &str, base: &str) -> Pair {
    let (entity, source, base) = (entity.into(), source.into(), base.into());
    Pair { line: 1, entity, source, base, cells: BTreeMap::new() }
}

fn checked(texts: &[(&str, &str)]) -> Checked {
    let mut settings = Settings::default();
    settings.set("template", "{entity}? {sentence} Answer:").unwrap();
    settings.set("answers", " the, a").unwrap();
    settings.set("exact", "1").unwrap();
    texts.iter().for_each(|(name, text)| settings.set(name, text).unwrap());
    settings.check().unwrap()
}

fn sweep(model: &Model, table: &[Experiment]) -> Vec<Document> {
    let table: Vec<_> = table.iter().collect();
    let specifications: Vec<_> = table.iter().map(|e| &e.specification).collect();
    let n_verified = table.iter().map(|e| e.settings.verify).max().unwrap_or(0);
    let division = Division { n_verified, ..Division::within(MEMORY) };
    let program = Program::new(&model.network.config, &specifications, &division).unwrap();
    let mut documents = Vec::new();
    experiment::run(
        model,
        &table,
        &program,
        &mut |_| ControlFlow::Continue(()),
        &mut |index, document| {
            assert_eq!(index, documents.len());
            documents.push(document);
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    documents
}

/// What is computed again in f32 is what f32 gives, and how far another type is from it.
#[test]
fn cells_are_computed_again_by_a_reference() {
    let reference = model();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3");
    let half = Placement { dtype: DType::F16, kernels: Kernels::Stock, ..Placement::default() };
    let half = Loader { path: &folder, placement: half, budget: usize::MAX }.load().unwrap();
    let pairs = [
        pair("the guard", "the guard rules the town.", "the guard leaves the town."),
        pair("the king", "Again the king rules all.", "Now the king waits."),
    ];
    let settings = checked(&[("align", "right"), ("site", "resid_post,z"), ("direction", "both")]);
    let prepare = |pair| Experiment::prepare(&reference, pair, &settings, None).unwrap();
    let table: Vec<_> = pairs.iter().map(prepare).collect();
    let recheck = |documents: &[Document], n: usize| {
        let pairs: Vec<_> = table.iter().zip(documents).collect();
        let mut found = Vec::new();
        let mut goes_on = |_: Progress| ControlFlow::Continue(());
        let mut done = |index: usize, recheck: Recheck| {
            assert_eq!(index, found.len());
            found.push(recheck);
            ControlFlow::Continue(())
        };
        experiment::recheck(&reference, &pairs, n, MEMORY, &mut goes_on, &mut done).unwrap();
        found
    };
    let exact = sweep(&reference, &table);
    let n_cells: Vec<usize> =
        table.iter().map(|e| e.specification.grids.iter().map(|g| g.n_cells()).sum()).collect();
    for n in [1, 5, 1000] {
        for (recheck, n_cells) in recheck(&exact, n).iter().zip(&n_cells) {
            let n_largest = n.min(*n_cells);
            let expected = Recheck {
                n_largest,
                n_random: n.min(n_cells - n_largest),
                max_abs_diff: Some(0.0),
            };
            assert_eq!(*recheck, expected);
        }
    }
    for recheck in recheck(&sweep(&half, &table), 5) {
        let difference = recheck.max_abs_diff.unwrap();
        assert!(difference > 0.0 && difference < 0.05, "{difference}");
    }
    // What stands out is always looked at, and what is no number is.
    let mut wrong = exact.clone();
    wrong[0].grids[1].logit_diff[3] = Some(1e3);
    wrong[1].grids[2].logit_diff[7] = None;
    let found = recheck(&wrong, 1);
    assert!(found[0].max_abs_diff.is_some_and(|difference| difference > 9e2));
    assert_eq!(found[1].max_abs_diff, None);
}

#[test]
fn named_positions_are_those_of_the_words() {
    let model = model();
    let pair =
        pair("the guard", "Again the guard rules the town.", "Now The guard waits for the town.");
    for align in ["pad", "right"] {
        let settings = checked(&[("positions", "entity,differing,sentence,all"), ("align", align)]);
        let experiment = Experiment::prepare(&model, &pair, &settings, None).unwrap();
        let document = sweep(&model, &[experiment]).remove(0);
        let texts = |positions: &[usize], tokens: &[shared::document::Token]| -> String {
            positions.iter().map(|&p| tokens[p].text.as_str()).collect()
        };
        for spans in &document.spans {
            let source = texts(&spans.source, &document.source_tokens);
            let base = texts(&spans.base, &document.base_tokens);
            let (start, n) = (document.sentence_start, document.base_tokens.len());
            match spans.span {
                Span::Entity => {
                    // The template names it before the sentence, which is not swept.
                    assert_eq!(source.trim(), "the guard", "{align}");
                    assert_eq!(base.trim(), "The guard", "{align}");
                }
                Span::Differing => {
                    let shift = document.source_tokens.len() as isize - n as isize;
                    for p in start..n {
                        let from = p.checked_add_signed(shift).unwrap();
                        let differs = document.source_tokens[from] != document.base_tokens[p];
                        assert_eq!(spans.base.contains(&p), differs, "{align} {p}");
                        assert_eq!(spans.source.contains(&from), differs, "{align} {p}");
                    }
                }
                Span::Sentence => {
                    assert!(source.ends_with("the town."), "{align} {source}");
                    assert!(base.ends_with("the town."), "{align} {base}");
                    assert_eq!(spans.base[0], start);
                }
                Span::All => assert_eq!(spans.base, (start..n).collect::<Vec<_>>()),
                Span::Each => unreachable!(),
            }
        }
    }
}

#[test]
fn positions_that_a_pair_lacks_are_refused_with_the_reason() {
    let model = model();
    let cases: [(Cells, Pair, &str); 6] = [
        (
            &[("positions", "entity")],
            pair("", "A rules.", "A waits."),
            "the base prompt has no positions of `entity`: the pair has no entity",
        ),
        (
            &[("positions", "entity")],
            pair("the king", "A rules.", "A waits."),
            "the base prompt has no positions of `entity`: none of the swept ones is",
        ),
        (
            &[("positions", "entity"), ("template", "none")],
            pair("the king", "A rules.", "A waits."),
            "it does not name the entity",
        ),
        (
            &[("positions", "sentence"), ("template", "none")],
            pair("A", "A rules.", "A waits."),
            "only a template tells where the sentence is",
        ),
        (&[("noise", "differing")], pair("A", "A rules.", "A rules."), "there is nothing to patch"),
        (
            &[("noise", "entity"), ("template", "none")],
            pair("the king", "A rules.", "A waits."),
            "the source prompt has no positions of `entity`: it does not name the entity",
        ),
    ];
    for (texts, pair, expected) in cases {
        let error = Experiment::prepare(&model, &pair, &checked(texts), None);
        let error = error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{texts:?}: {error}");
    }
}

#[test]
fn every_setting_makes_a_document_that_the_oracle_confirms() {
    let model = model();
    let config = &model.network.config;
    let pairs = [
        pair("the guard", "Now the guard rules the town.", "Now the guard leaves the town."),
        pair("the king", "Here the king orders a long war.", "Here the king sleeps."),
    ];
    // Settings, and the axes of each grid by their first letters.
    let cases: [(Cells, &[&str]); 11] = [
        (&[], &["lp"]),
        (&[("site", "resid_pre,attn_out,mlp_out"), ("window", "2")], &["lp", "lp", "lp"]),
        (&[("site", "z,k")], &["lh", "lh"]),
        (&[("site", "q,v"), ("by", "position")], &["lhp", "lhp"]),
        (&[("site", "resid_post,z"), ("positions", "entity,sentence")], &["ls", "lhs"]),
        (&[("direction", "both"), ("align", "right"), ("top", "3")], &["lp", "lp"]),
        (&[("write", "zero"), ("site", "mlp_out"), ("direction", "noising")], &["lp"]),
        (&[("write", "mean"), ("site", "attn_out,z")], &["lp", "lh"]),
        (
            &[("noise", "entity"), ("noise_seeds", "3"), ("site", "mlp_out"), ("window", "3")],
            &["lp"],
        ),
        (&[("answers", " a long answer, no")], &["lp"]),
        (&[("lens", "true"), ("readout", "false")], &["lp"]),
    ];
    for (texts, axes) in cases {
        let mut settings = checked(texts);
        settings.settings.verify = 4;
        let mean = experiment::mean_over(&model, &pairs, &settings).unwrap();
        let prepare = |pair| Experiment::prepare(&model, pair, &settings, mean.as_ref()).unwrap();
        let table = pairs.each_ref().map(prepare);
        for document in sweep(&model, &table) {
            let what = format!("{texts:?} {}", document.entity);
            let read = Document::read(document.to_json().as_bytes()).unwrap();
            // Seconds and operations are read back to the last digit but one.
            assert!(matches!(&read[..], [read] if read.agrees_with(&document)), "{what}");
            let verification = document.verification.as_ref().unwrap();
            assert!(verification.max_abs_diff.unwrap() < 1e-4, "{what} {verification:?}");
            assert!(verification.self_patch.unwrap() < 1e-4, "{what} {verification:?}");
            assert_eq!(verification.unreachable_equal, Some(true), "{what}");

            let letters = |axis: &AxisKeys| match axis {
                AxisKeys::Layer(_) => 'l',
                AxisKeys::Head(_) => 'h',
                AxisKeys::Position(_) => 'p',
                AxisKeys::Span(_) => 's',
            };
            let found: Vec<String> =
                document.grids.iter().map(|grid| grid.axes.iter().map(letters).collect()).collect();
            assert_eq!(found, axes, "{what}");
            let n_cells: usize = document.grids.iter().map(|grid| grid.logit_diff.len()).sum();
            assert!(
                document.grids.iter().all(|g| g.logit_diff.iter().all(Option::is_some)),
                "{what}"
            );
            let table = shared::field::cells::csv(&document).unwrap();
            assert_eq!(table.lines().count(), 1 + n_cells, "{what}");
            for grid in &document.grids {
                let heads = grid.axes.iter().find_map(|axis| match axis {
                    AxisKeys::Head(keys) => Some(keys.len()),
                    _ => None,
                });
                let expected = match grid.site {
                    Site::Query | Site::Z => Some(config.n_heads),
                    Site::Key | Site::Value => Some(config.n_kv_heads),
                    _ => None,
                };
                assert_eq!(heads, expected, "{what}");
            }
            // The flat fields are the first grid of layers and positions, or nothing.
            let flat: Vec<_> = document.patching_results.cells().collect();
            match document.grids.iter().find(|grid| grid.is_layer_by_position()) {
                Some(grid) => {
                    assert_eq!(flat, grid.logit_diff, "{what}");
                    assert_eq!(document.site, Some(grid.site), "{what}");
                }
                None => assert!(flat.iter().all(Option::is_none), "{what}"),
            }
            let n_top = settings.settings.top;
            let tops = document.grids.iter().filter_map(|grid| grid.top.as_ref()).flatten();
            for top in tops.flatten() {
                assert_eq!(top.len(), n_top, "{what}");
                assert!(top.iter().all(|top| document.token_text(top.id).is_some()), "{what}");
            }
            assert_eq!(document.lens.len(), if settings.settings.lens { 2 } else { 0 }, "{what}");
        }
    }
}

#[test]
fn patching_everything_back_is_the_other_run() {
    let model = model();
    // As many tokens in both, or what stands before the sentences would not be the same.
    let pair = pair("A", "A the the the the.", "A a a a a.");
    let settings = checked(&[("direction", "both"), ("positions", "all"), ("lens", "true")]);
    let document = sweep(&model, &[Experiment::prepare(&model, &pair, &settings, None).unwrap()]);
    let [document] = &document[..] else { panic!("one document") };
    let baselines = document.baselines.as_ref().unwrap();
    for grid in &document.grids {
        let end = match grid.direction {
            Direction::Denoising => &baselines.source,
            Direction::Noising => &baselines.base,
        };
        for (value, kl) in grid.logit_diff.iter().zip(grid.kl_source.as_ref().unwrap()) {
            assert!((value.unwrap() - end.logit_diff.unwrap()).abs() < 1e-4, "{}", grid.direction);
            assert!(kl.unwrap() < 1e-4, "{}: {kl:?} from the run that supplies", grid.direction);
        }
        assert!(grid.kl_base.as_ref().unwrap().iter().all(|kl| kl.unwrap() > 1e-3));
        let recovery = grid.recovery(document);
        assert!(recovery.iter().all(|r| (r.unwrap() - 1.0).abs() < 1e-3), "{recovery:?}");
    }
    // The last layer and position of the lens is the model's own reading.
    for grid in &document.lens {
        let run = baselines.of(grid.run);
        let last = grid.logit_diff.last().unwrap().unwrap();
        assert!((last - run.logit_diff.unwrap()).abs() < 1e-4);
        let top = grid.top.last().unwrap().as_ref().unwrap()[0];
        assert_eq!(Some(top.id), run.top_token.as_ref().map(|token| token.id));
    }
}

#[test]
fn a_preview_goes_on_with_the_most_probable_token() {
    let model = model();
    let pair = pair("A", "A rules the town.", "A leaves the whole town.");
    for texts in [&[("align", "pad")], &[("align", "right")], &[("noise", "entity")]] {
        let experiment = Experiment::prepare(&model, &pair, &checked(texts), None).unwrap();
        let baselines = experiment.baselines(&model, &|| false).unwrap().unwrap();
        let said = experiment.said(&model, &|| false).unwrap().unwrap();
        assert_eq!((said.source.len(), said.base.len()), (experiment::N_SAID, experiment::N_SAID));
        assert_eq!(baselines.source.top_token.as_ref(), said.source.first(), "{texts:?}");
        let document = sweep(&model, &[experiment]).remove(0);
        assert_eq!(document.baselines, Some(baselines), "{texts:?}");
    }
}

#[test]
fn a_mean_is_over_the_table() {
    let model = model();
    let pairs =
        [pair("A", "A rules it.", "A leaves it."), pair("B", "B rules it.", "B leaves it.")];
    let settings = checked(&[("write", "mean"), ("positions", "all"), ("site", "attn_out")]);
    let mean = experiment::mean_over(&model, &pairs, &settings).unwrap().unwrap();
    assert_eq!(mean.runs.len(), 4);
    let alone = Experiment::prepare(&model, &pairs[0], &settings, None).unwrap();
    let together = Experiment::prepare(&model, &pairs[0], &settings, Some(&mean)).unwrap();
    assert_ne!(alone.id(&model).unwrap(), together.id(&model).unwrap());
    let values = |experiment| sweep(&model, &[experiment]).remove(0).grids[0].logit_diff.clone();
    assert_ne!(values(alone), values(together));
    let none = checked(&[]);
    assert!(experiment::mean_over(&model, &pairs, &none).unwrap().is_none());
}

/// The tokens of a prompt that have a role, as one text.
fn with_role(document: &Document, prompt: Prompt, role: &str) -> String {
    let roles = document.roles.as_ref().unwrap().of(prompt);
    let tokens = prompt.tokens(document).iter().zip(roles);
    tokens.filter(|(_, r)| r.to_string() == role).map(|(token, _)| token.text.as_str()).collect()
}

#[test]
fn every_token_has_a_role_and_marks_are_roles_of_their_own() {
    let model = model();
    let mut marked = pair(
        "the guard",
        "Again the guard [rules](#verb) over the town.",
        "Again the guard [waits](#verb) for the town.",
    );
    marked.cells.insert("span:place".into(), "town".into());
    for (align, direction) in [("pad", "denoising"), ("right", "both"), ("diff", "noising")] {
        let settings = checked(&[("align", align), ("direction", direction)]);
        let experiment = Experiment::prepare(&model, &marked, &settings, None).unwrap();
        let document = sweep(&model, &[experiment]).remove(0);
        assert_eq!(document.row["span:place"], "town");
        assert!(!document.source_prompt.contains('#') && !document.base_sentence.contains('['));
        let (rules, waits) = match direction {
            "noising" => (Prompt::Base, Prompt::Source),
            _ => (Prompt::Source, Prompt::Base),
        };
        for (prompt, verb) in [(rules, "rules"), (waits, "waits")] {
            let text = |role: &str| with_role(&document, prompt, role);
            assert_eq!(text("#verb").trim(), verb, "{align}");
            assert!(text("#place").trim().ends_with("town"), "{align} {}", text("#place"));
            assert!(text("entity").contains("the guard"), "{align}");
            assert_eq!(text("last"), ":", "{align}");
            assert!(text("cue").contains("Answer"), "{align} {}", text("cue"));
            assert_eq!(text("sentence end"), ".", "{align}");
        }
    }
    // What is marked is what is pooled: another result.
    let id = |pair: &Pair| {
        let settings = checked(&[]);
        Experiment::prepare(&model, pair, &settings, None).unwrap().id(&model).unwrap()
    };
    let mut unmarked = marked.clone();
    unmarked.cells.clear();
    assert_ne!(id(&marked), id(&unmarked));

    marked.cells.insert("span:place".into(), "castle".into());
    let error = Experiment::prepare(&model, &marked, &checked(&[]), None).unwrap_err().to_string();
    assert!(error.contains("`span:place` marks \"castle\", which the source has not"), "{error}");
}

#[test]
fn alignments_are_swept_as_the_oracle_sweeps_them() {
    let model = model();
    let mut pair =
        pair("the guard", "Again the guard rules over the town.", "Now The guard waits in it.");
    let plain = Experiment::prepare(&model, &pair, &checked(&[("align", "right")]), None).unwrap();
    let (n_source, n_base) = plain.alignment.lengths();
    assert_ne!(n_source, n_base);
    // The base's last three tokens, two of them with another's, and one that has none.
    let by_hand = format!("{}:{},{}:{}", n_base - 1, n_source - 1, n_base - 3, n_source - 2);
    pair.cells.insert("align".into(), by_hand);
    for align in ["diff", "role", "hand"] {
        let more = [("direction", "both"), ("site", "resid_post,z,k"), ("verify", "20")];
        let mut texts = vec![("align", align)];
        texts.extend(more);
        let experiment = Experiment::prepare(&model, &pair, &checked(&texts), None).unwrap();
        let document = sweep(&model, &[experiment]).remove(0);
        let verification = document.verification.as_ref().unwrap();
        assert!(verification.max_abs_diff.unwrap() < 1e-4, "{align} {verification:?}");
        assert!(verification.self_patch.unwrap() < 1e-4, "{align} {verification:?}");
        assert_eq!(verification.unreachable_equal, Some(true), "{align}");
        let baselines = document.baselines.as_ref().unwrap();
        for grid in document.grids.iter().filter(|grid| grid.is_layer_by_position()) {
            let (AxisKeys::Position(keys), receiver) = (&grid.axes[1], grid.receiver(&document))
            else {
                panic!("positions")
            };
            for (cell, value) in grid.logit_diff.iter().enumerate() {
                let position = keys[cell % keys.len()];
                let partner = document.counterpart(receiver, position);
                assert_eq!(value.is_some(), partner.is_some(), "{align} {position}");
            }
            // The last position corresponds to the last, and in the last layer that is everything.
            let last = grid.logit_diff.last().unwrap().unwrap();
            let supplier = baselines.of(receiver.other()).logit_diff.unwrap();
            assert!((last - supplier).abs() < 1e-4, "{align} {last} {supplier}");
        }
        let n_none = document.source_positions.iter().filter(|at| at.is_none()).count();
        assert_eq!(n_none > 0, align == "hand", "{align} {:?}", document.source_positions);
        let read = Document::read(document.to_json().as_bytes()).unwrap().remove(0);
        assert_eq!(read, document);
    }
    let error = |cell: Option<&str>| {
        let mut pair = pair.clone();
        pair.cells.remove("align");
        pair.cells.extend(cell.map(|cell| ("align".to_string(), cell.to_string())));
        let error = Experiment::prepare(&model, &pair, &checked(&[("align", "hand")]), None);
        error.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(error(None).contains("the pair has no cell `align`"), "{}", error(None));
    assert!(error(Some("x")).contains("`x` says of no positions"), "{}", error(Some("x")));
    assert!(error(Some("99:1")).contains("and so no position 99"), "{}", error(Some("99:1")));
    assert!(error(Some("0:0")).contains("nothing of the source corresponds"));
}
