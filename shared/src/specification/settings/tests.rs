use proptest::prelude::*;

use super::*;
use crate::specification::vocabulary::UnknownWord;

fn settings(texts: &[(&str, &str)]) -> Result<Settings, String> {
    let mut settings = Settings::default();
    for (name, text) in texts {
        settings.set(name, text).map_err(|error| error.to_string())?;
    }
    Ok(settings)
}

#[test]
fn bodies_of_every_age_are_read() {
    let plain = Settings::default();
    let full = Settings {
        template: "none".into(),
        answers: Some(AnswerPair(["yes".into(), "no".into()])),
        exact_answers: true,
        sites: Site::MlpOut.into(),
        align: Align::Right,
        direction: Directions::Noising,
        readout: false,
        verify: 3,
        ..plain.clone()
    };
    let several = List::new(vec![Site::Z, Site::ResidPost]).unwrap();
    let cases = [
        ("{}", plain.clone()),
        // What jobs stored and clients sent while an experiment had one site.
        (
            r#"{"template": "none", "answers": ["yes", "no"], "exact_answers": true,
                "site": "mlp_out", "align": "right", "direction": "noising", "readout": false,
                "verify": 3}"#,
            full,
        ),
        (r#"{"answers": null}"#, plain.clone()),
        (r#"{"site": ["z", "resid_post"]}"#, Settings { sites: several.clone(), ..plain.clone() }),
        (r#"{"sites": "z, resid_post"}"#, Settings { sites: several, ..plain.clone() }),
        (r#"{"positions": "entity", "noise": "entity"}"#, {
            Settings { positions: Span::Entity.into(), noise: Some(Span::Entity), ..plain }
        }),
    ];
    for (text, expected) in cases {
        let read: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(read, expected, "{text}");
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&written).unwrap(), read);
    }
}

#[test]
fn what_is_no_setting_is_refused_by_name() {
    let bodies = [
        (r#"{"sight": "x"}"#, "unknown field `sight`"),
        (r#"{"site": "resid"}"#, "`resid` is no site: expected one of resid_pre"),
        (r#"{"site": []}"#, "is no site"),
        (r#"{"site": "z,z"}"#, "`z` is there twice"),
        (r#"{"site": 3}"#, "expected a text or a list of texts"),
        (r#"{"answers": ["a"]}"#, "expected two answers, e.g. `TRUE,FALSE`, found 1"),
        (r#"{"positions": "word"}"#, "`word` is no set of positions: expected one of each, entity"),
        (r#"{"window": -1}"#, "invalid value: integer `-1`"),
    ];
    for (text, expected) in bodies {
        let error = serde_json::from_str::<Settings>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let texts = [
        (("sight", "x"), "`sight` is no setting: expected one of align, answers, by, direction"),
        (("readout", "maybe"), "`readout`: expected true or false, found `maybe`"),
        (("window", "wide"), "`window`: expected a number, found `wide`"),
        (("window", "1.5"), "`window`: invalid type: floating point"),
        (("noise", "word"), "`noise`: unknown variant `word`, expected one of"),
        (("answers", "a,b,c"), "`answers`: expected two answers, e.g. `TRUE,FALSE`, found 3"),
    ];
    for (text, expected) in texts {
        let error = settings(&[text]).unwrap_err();
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn old_names_of_texts_are_read() {
    let old = [("true", "yes, sir"), ("false", "no"), ("exact", "1"), ("readout", "0")];
    let read = settings(&old).unwrap();
    assert_eq!(read.answers, Some(AnswerPair(["yes, sir".into(), "no".into()])));
    assert!(read.exact_answers && !read.readout);
    let expected = [
        ("answers".to_string(), r#"["yes, sir","no"]"#.to_string()),
        ("exact_answers".to_string(), "true".to_string()),
        ("readout".to_string(), "false".to_string()),
    ];
    assert_eq!(read.texts(), expected.into());
    let other = [("true_answer", "yes, sir"), ("false_answer", "no")];
    assert_eq!(settings(&other).unwrap().answers, read.answers);
}

#[test]
fn settings_that_contradict_each_other_are_refused_by_name() {
    let cases: [(&[(&str, &str)], &str); 17] = [
        (&[], ""),
        (&[("site", "z,resid_post"), ("by", "position"), ("window", "10")], ""),
        (&[("site", "z"), ("positions", "entity,all"), ("write", "mean")], ""),
        (&[("noise", "entity"), ("noise_scale", "0.5"), ("noise_seeds", "3")], ""),
        (&[("direction", "both"), ("write", "zero"), ("top", "5")], ""),
        (&[("window", "0")], "`window` is 0: expected 1 or more layers"),
        (&[("top", "51")], "`top` is 51: expected 1 to 50 tokens"),
        (&[("noise_seeds", "0")], "`noise_seeds` is 0: expected 1 to 100 draws"),
        (&[("noise_scale", "-1")], "`noise_scale` is -1: expected a finite number above 0"),
        (
            &[("positions", "each,all")],
            "`positions each` and `positions each,all` contradict each other",
        ),
        (
            &[("site", "z"), ("by", "position"), ("positions", "all")],
            "`by position` and `positions all` contradict each other",
        ),
        (
            &[("by", "position")],
            "`by position` and `site resid_post` contradict each other: only q, k, v and z divide",
        ),
        (&[("top", "2"), ("readout", "false")], "`top 2` and `readout false` contradict"),
        (&[("noise", "each")], "`noise each` and `noise SPAN` contradict each other"),
        (&[("noise", "all"), ("direction", "both")], "`noise` and `direction both` contradict"),
        (&[("noise", "all"), ("write", "zero")], "`noise` and `write zero` contradict"),
        (&[("noise_seeds", "3")], "`noise_seeds 3` and `no noise` contradict each other"),
    ];
    for (texts, expected) in cases {
        let checked = settings(texts).unwrap().check();
        match (expected, checked) {
            ("", checked) => assert!(checked.is_ok(), "{texts:?}"),
            (_, Ok(_)) => panic!("{texts:?} is accepted"),
            (_, Err(error)) => {
                assert!(error.to_string().starts_with(expected), "{texts:?}: {error}");
            }
        }
    }
    let answers = |text: &str| settings(&[("answers", text)]).unwrap().check().unwrap_err();
    assert_eq!(answers("a,"), SettingsError::EmptyAnswer);
    assert_eq!(
        answers("{,b").to_string(),
        "a template has an unmatched `{` at byte 0: write `{{` for the brace itself"
    );
}

#[cfg(feature = "cli")]
#[test]
fn the_command_lines_options_are_the_settings() {
    #[derive(clap::Parser)]
    struct Command {
        #[arg(long, num_args = 2)]
        pair: Option<Vec<String>>,
        #[arg(long, requires = "pair")]
        entity: Option<String>,
        #[command(flatten)]
        settings: Settings,
    }
    use clap::{CommandFactory, Parser};

    Command::command().debug_assert();
    let read = |line: &str| {
        let words = ["sweep"].into_iter().chain(line.split_whitespace());
        Command::try_parse_from(words).map(|command| {
            assert_eq!(command.pair.is_some(), line.contains("--pair"));
            assert_eq!(command.entity.is_some(), line.contains("--entity"));
            command.settings
        })
    };
    let plain = Settings::default();
    let none = Settings { template: "none".into(), ..plain.clone() };
    assert_eq!(read("").unwrap(), plain);
    assert_eq!(read("--pair a b").unwrap(), none);
    assert_eq!(read("--pair a b --entity A").unwrap(), plain);
    let own = Settings { template: "{sentence}".into(), ..plain.clone() };
    assert_eq!(read("--pair a b --template {sentence}").unwrap(), own);
    let line = "--site z,k --by position --window 3 --write mean --direction both --no-readout \
                --answers a,b --exact-answers --noise entity --noise-scale 0.5 --noise-seeds 4 \
                --top 5 --lens --verify 2 --align right --positions entity,all";
    let read_all = read(line).unwrap();
    let expected = Settings {
        template: plain.template,
        answers: Some(AnswerPair(["a".into(), "b".into()])),
        exact_answers: true,
        sites: List::new(vec![Site::Z, Site::Key]).unwrap(),
        by: By::Position,
        positions: List::new(vec![Span::Entity, Span::All]).unwrap(),
        window: 3,
        write: Written::Mean,
        align: Align::Right,
        direction: Directions::Both,
        noise: Some(Span::Entity),
        noise_scale: 0.5,
        noise_seeds: 4,
        top: 5,
        lens: true,
        readout: false,
        verify: 2,
    };
    assert_eq!(read_all, expected);
    let error = read("--site resid").unwrap_err().to_string();
    assert!(error.contains("`resid` is no site: expected one of resid_pre"), "{error}");
}

fn list<T: Copy + PartialEq + std::fmt::Display + std::fmt::Debug>(
    all: &'static [T],
) -> impl Strategy<Value = List<T>> {
    prop::sample::subsequence(all, 1..=all.len()).prop_map(|items| List::new(items).unwrap())
}

fn one<T: Copy + std::fmt::Debug>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

proptest! {
    #[test]
    fn texts_and_bodies_are_read_back(
        template in "\\PC{0,8}",
        answers in prop::option::of(["\\PC{0,6}", "\\PC{0,6}"]),
        flags in any::<[bool; 3]>(),
        (sites, positions) in (list(Site::ALL), list(Span::ALL)),
        (by, write, align, direction) in
            (one(By::ALL), one(Written::ALL), one(Align::ALL), one(Directions::ALL)),
        noise in prop::option::of(one(Span::ALL)),
        noise_scale in (0..10_000u32).prop_map(|n| f64::from(n) / 100.0),
        counts in any::<[u16; 4]>(),
    ) {
        let [exact_answers, lens, readout] = flags;
        let [window, noise_seeds, top, verify] = counts.map(usize::from);
        let settings = Settings {
            template, answers: answers.map(AnswerPair), exact_answers, sites, by, positions, window,
            write, align, direction, noise, noise_scale, noise_seeds, top, lens, readout, verify,
        };
        let body = serde_json::to_string(&settings).unwrap();
        prop_assert_eq!(serde_json::from_str::<Settings>(&body).unwrap(), settings.clone());
        let mut read = Settings::default();
        for (name, text) in settings.texts() {
            read.set(&name, &text).unwrap();
        }
        prop_assert_eq!(read, settings);
    }
}

#[test]
fn a_list_keeps_its_last_word() {
    let mut sites = List::<Site>::default();
    let steps = [
        (Site::ResidPost, false, "resid_post"),
        (Site::Z, true, "resid_post,z"),
        (Site::Z, true, "resid_post,z"),
        (Site::ResidPost, false, "z"),
        (Site::MlpOut, false, "z"),
    ];
    for (site, is_in, expected) in steps {
        sites.set(site, is_in);
        assert_eq!(sites.to_string(), expected);
    }
}

#[test]
fn the_words_of_lists_know_their_kind() {
    let error: UnknownWord = "x".parse::<Span>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`x` is no set of positions: expected one of each, entity, differing, sentence, all"
    );
}
