//! The viewer's address: everything that can be seen is in the fragment of the page's URL, so the
//! address bar is the link.
//!
//! ```text
//! #/                                  all experiments
//! #/?q=guards&model=…&sort=contrast   some of them
//! #/?pick=SOURCE,SOURCE               all, with some picked to be compared
//! #/e/SOURCE                          one experiment
//! #/c/SOURCE,SOURCE                   two or more side by side
//! #/new?source=…&base=…               a new experiment, with a server
//! #/queue                             what a server is at
//! #/j/ID                              one of its jobs
//! #/study/job/ID                      the study of a job
//! #/study/ID                          a study
//! ```
//!
//! A source is a document's id, `f:` and the relative URL of a document, or `l:` and the text of
//! a self-contained link ([`crate::wire::permalink`]). How it is shown follows after a `?`; what is not
//! said is the default, and what is not understood is left out.

use std::str::FromStr;

use form_urlencoded::Serializer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::document::is_id;
use crate::field::axis::Coordinate;
use crate::field::key::Key;
use crate::figure::FigureOptions;
use crate::figure::colour::{Preset, Range};
use crate::json;
use crate::specification::vocabulary::{UnknownWord, named};
use crate::wire::draft::Draft;
use crate::wire::studies::{StudySource, StudyView};

/// What stays as it is in the path of an address.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b':');

/// Where the viewer is, and how it shows what is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Address {
    /// What is shown.
    pub page: Page,
    /// How an experiment is shown.
    pub view: View,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Page {
    /// The experiments that pass the filter.
    Index(Filter),
    /// One experiment.
    Experiment(Source),
    /// Several experiments.
    Compare(Vec<Source>),
    /// The form for a new experiment.
    New(Draft),
    /// A server's jobs.
    Queue,
    /// The job of this id.
    Job(String),
    /// What a table of pairs showed.
    Study(StudySource),
    /// No page of the viewer: the path as it was.
    Unknown(String),
}

impl Default for Page {
    fn default() -> Self {
        Page::Index(Filter::default())
    }
}

/// Where a document comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The document of this id: opened before, part of the page, or `data/ID.json` beside it.
    Id(String),
    /// A file at a relative URL.
    File(String),
    /// The text of a self-contained link.
    Link(String),
}

named! {
    /// The order of the experiments.
    Sort, "order" {
        /// The latest first.
        #[default]
        Newest = "newest",
        /// By what the sentences are about.
        Entity = "entity",
        /// By model.
        Model = "model",
        /// The largest difference between source and base first.
        Contrast = "contrast",
    }
}

/// Which experiments are listed. Empty fields let all pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Words that must all occur somewhere.
    pub text: String,
    /// The model.
    pub model: String,
    /// What the sentences are about.
    pub entity: String,
    /// The site.
    pub site: String,
    /// The order.
    pub sort: Sort,
    /// What was picked to be compared, whether it is listed or not.
    pub picked: Vec<Source>,
}

/// How an experiment is shown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct View {
    /// The figure; its scale and theme are the page's business and not in the address.
    pub figure: FigureOptions,
    /// The cell that is held, with positions of the base as they are counted there.
    pub pin: Option<Key>,
    /// Whether the numbers are shown as a table too.
    pub table: bool,
    /// What is shown of a study.
    pub study: StudyView,
    /// The study that the reader of an experiment has come from.
    pub from: Option<StudySource>,
    /// Whether it is a part of another page: the map alone is shown.
    pub is_embedded: bool,
}

impl Address {
    /// The address of `page` with the view as it is by default.
    pub fn of(page: Page) -> Self {
        let view = View::of(&page);
        Self { page, view }
    }

    /// Reads a URL's fragment, with or without its `#`.
    pub fn parse(fragment: &str) -> Self {
        let fragment = fragment.trim_start_matches('#');
        let (path, query) = fragment.split_once('?').unwrap_or((fragment, ""));
        let path = path.trim_start_matches('/');
        let page = match path.split_once('/') {
            None if path.is_empty() => Page::Index(Filter::parse(query)),
            None if path == "new" => Page::New(Draft::parse(query)),
            None if path == "queue" => Page::Queue,
            Some(("j", id)) if is_id(id) => Page::Job(id.to_string()),
            Some(("study", study)) => match StudySource::parse(study) {
                Some(study) => Page::Study(study),
                None => Page::Unknown(path.to_string()),
            },
            Some(("e", source)) => match Source::parse(source) {
                Some(source) => Page::Experiment(source),
                None => Page::Unknown(path.to_string()),
            },
            Some(("c", list)) => Page::Compare(Source::parse_all(list)),
            _ => Page::Unknown(path.to_string()),
        };
        // A draft's query speaks of the draft, and a list's of the list.
        let view = match page {
            Page::New(_) | Page::Index(_) => View::default(),
            _ => View::of(&page).parse(query),
        };
        Self { page, view }
    }

    /// The fragment, without `#`.
    pub fn fragment(&self) -> String {
        let mut query = Serializer::new(String::new());
        let path = match &self.page {
            Page::Index(filter) => {
                filter.write(&mut query);
                String::new()
            }
            Page::Experiment(source) => format!("e/{}", source.path()),
            Page::Compare(sources) => {
                format!("c/{}", Source::paths(sources))
            }
            Page::New(draft) => {
                draft.write(&mut query);
                "new".to_string()
            }
            Page::Queue => "queue".to_string(),
            Page::Job(id) => format!("j/{id}"),
            Page::Study(study) => format!("study/{}", study.path()),
            Page::Unknown(path) => path.clone(),
        };
        if !matches!(self.page, Page::Index(_) | Page::New(_)) {
            self.view.write(&View::of(&self.page), &mut query);
        }
        let query = query.finish();
        if query.is_empty() { format!("/{path}") } else { format!("/{path}?{query}") }
    }
}

impl Source {
    fn parse(text: &str) -> Option<Self> {
        let text = percent_decode_str(text).decode_utf8().ok()?;
        match text.split_once(':') {
            Some(("f", path)) if is_relative(path) => Some(Source::File(path.to_string())),
            Some(("l", link)) => Some(Source::Link(link.to_string())),
            None if is_id(&text) => Some(Source::Id(text.into_owned())),
            _ => None,
        }
    }

    /// The sources of a list; what is none is left out.
    fn parse_all(list: &str) -> Vec<Self> {
        list.split(',').filter_map(Source::parse).collect()
    }

    fn paths(sources: &[Source]) -> String {
        sources.iter().map(Source::path).collect::<Vec<_>>().join(",")
    }

    fn path(&self) -> String {
        let text = match self {
            Source::Id(id) => id.clone(),
            Source::File(path) => format!("f:{path}"),
            Source::Link(link) => format!("l:{link}"),
        };
        utf8_percent_encode(&text, PATH).to_string()
    }
}

/// An address opens files beside the page and nothing elsewhere. Browsers strip spaces and control
/// characters of a URL before they read it, so that there must be none.
fn is_relative(path: &str) -> bool {
    let has_scheme = path.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
    let is_stripped = path.trim() != path || path.contains(|c: char| c.is_control());
    !path.is_empty() && !path.starts_with(['/', '\\']) && !has_scheme && !is_stripped
}

impl Filter {
    fn parse(query: &str) -> Self {
        let mut filter = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "q" => filter.text = value.into_owned(),
                "model" => filter.model = value.into_owned(),
                "entity" => filter.entity = value.into_owned(),
                "site" => filter.site = value.into_owned(),
                "sort" => read(&mut filter.sort, &value),
                "pick" => filter.picked = Source::parse_all(&value),
                _ => {}
            }
        }
        filter
    }

    /// The query that asks a server for the experiments that pass.
    pub fn query(&self) -> String {
        let mut query = Serializer::new(String::new());
        Self { picked: Vec::new(), ..self.clone() }.write(&mut query);
        query.finish()
    }

    fn write(&self, query: &mut Serializer<'_, String>) {
        let picked = Source::paths(&self.picked);
        let texts = [
            ("q", &*self.text),
            ("model", &self.model),
            ("entity", &self.entity),
            ("site", &self.site),
            ("sort", if self.sort == Sort::default() { "" } else { self.sort.name() }),
            ("pick", &picked),
        ];
        query.extend_pairs(texts.iter().filter(|(_, value)| !value.is_empty()));
    }
}

impl View {
    /// How a page is shown by default. Effects go to both sides of nothing, and so do their colours.
    fn of(page: &Page) -> Self {
        let mut view = Self::default();
        if matches!(page, Page::Study(_)) {
            view.figure.preset = Preset::RdBu;
        }
        view
    }

    fn parse(self, query: &str) -> Self {
        let mut view = self;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let figure = &mut view.figure;
            match &*key {
                "grid" => figure.grid.grid = value.parse().ok(),
                "at" => figure.grid.at = value.parse().ok(),
                "metric" => read(&mut figure.metric, &value),
                "colours" => read(&mut figure.preset, &value),
                "range" => {
                    let ends = value
                        .split_once(',')
                        .and_then(|(lo, hi)| Some((json::number(lo)?, json::number(hi)?)));
                    if let Some((lo, hi)) = ends.filter(|(lo, hi)| lo < hi && (hi - lo).is_finite())
                    {
                        figure.range = Range::Set(lo, hi);
                    }
                }
                "origin" => read(&mut figure.origin, &value),
                "transpose" => figure.transpose = value == "1",
                "labels" => read(&mut figure.labels, &value),
                "hide" => figure.hidden = value.parse().unwrap_or_default(),
                "pin" => {
                    view.pin = value.split_once(',').and_then(|(row, column)| {
                        // A number alone is a layer among rows.
                        let row = match row.parse().ok()? {
                            Coordinate::Position(layer) => Coordinate::Layer(layer),
                            row => row,
                        };
                        Some(Key { row, column: column.parse().ok()? })
                    })
                }
                "table" => view.table = value == "1",
                "embed" => view.is_embedded = value == "1",
                "from" => view.from = StudySource::parse(&value),
                key => drop(view.study.take(key, &value)),
            }
        }
        view
    }

    fn write(&self, plain: &Self, query: &mut Serializer<'_, String>) {
        let plain = &plain.figure;
        let FigureOptions {
            grid,
            metric,
            preset,
            range,
            origin,
            transpose,
            labels,
            ref hidden,
            ..
        } = self.figure;
        let mut say = |key: &str, value: &str, is_default: bool| {
            if !is_default {
                query.append_pair(key, value);
            }
        };
        if let Some(name) = grid.grid {
            say("grid", &name.to_string(), false);
        }
        if let Some(at) = grid.at {
            say("at", &at.to_string(), false);
        }
        say("metric", metric.name(), metric == plain.metric);
        say("colours", preset.name(), preset == plain.preset);
        if let Range::Set(lo, hi) = range {
            say("range", &format!("{lo},{hi}"), false);
        }
        say("origin", origin.name(), origin == plain.origin);
        say("transpose", "1", !transpose);
        say("labels", labels.name(), labels == plain.labels);
        say("hide", &hidden.to_string(), hidden.is_empty());
        if let Some(Key { row, column }) = self.pin {
            let row = match row {
                Coordinate::Layer(layer) => layer.to_string(),
                row => row.to_string(),
            };
            say("pin", &format!("{row},{column}"), false);
        }
        say("table", "1", !self.table);
        say("embed", "1", !self.is_embedded);
        if let Some(study) = &self.from {
            say("from", &study.path(), false);
        }
        self.study.write(query);
    }
}

fn read<T: FromStr<Err = UnknownWord>>(setting: &mut T, word: &str) {
    if let Ok(value) = word.parse() {
        *setting = value;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::field::metric::Metric;
    use crate::figure::{LabelStyle, Origin};
    use crate::specification::roles::Role;
    use crate::specification::settings::{AnswerPair, List, Settings};
    use crate::specification::vocabulary::{Align, Directions, Site};
    use crate::study::{Keep, Statistic};
    use crate::wire::studies::Selected;

    #[test]
    fn an_address_is_read_back() {
        let cases = [
            ("/", Address::default()),
            (
                "/?q=a+%26+b&model=x%2Fy&site=mlp_out&sort=contrast&pick=00112233445566778899%2Cf%3Aa%252Cb.json",
                Address::of(Page::Index(Filter {
                    text: "a & b".into(),
                    model: "x/y".into(),
                    site: "mlp_out".into(),
                    sort: Sort::Contrast,
                    picked: vec![
                        Source::Id("00112233445566778899".into()),
                        Source::File("a,b.json".into()),
                    ],
                    ..Filter::default()
                })),
            ),
            ("/queue", Address::of(Page::Queue)),
            ("/j/00112233445566778899", Address::of(Page::Job("00112233445566778899".into()))),
            ("/new", Address::of(Page::New(Draft::default()))),
            (
                "/new?table=1&model=m%2Fx&entity=Ann&source=A+rules.&base=A+%26+B\
                 &align=right&answers=yes%2Cno&direction=noising&exact_answers=true&readout=false\
                 &site=z%2Cmlp_out&template=none&window=3",
                Address::of(Page::New(Draft {
                    is_table: true,
                    model: "m/x".into(),
                    entity: "Ann".into(),
                    source: "A rules.".into(),
                    base: "A & B".into(),
                    by_hand: None,
                    settings: Settings {
                        template: "none".into(),
                        answers: Some(AnswerPair(["yes".into(), "no".into()])),
                        exact_answers: true,
                        sites: List::new(vec![Site::Z, Site::MlpOut]).unwrap(),
                        window: 3,
                        align: Align::Right,
                        direction: Directions::Noising,
                        readout: false,
                        ..Settings::default()
                    },
                })),
            ),
            (
                "/new?source=A&base=%5BB%5D%28%23x%29&by_hand=5-7%3A6-8&align=hand",
                Address::of(Page::New(Draft {
                    source: "A".into(),
                    base: "[B](#x)".into(),
                    by_hand: "5-7:6-8".parse().ok(),
                    settings: Settings { align: Align::Hand, ..Settings::default() },
                    ..Draft::default()
                })),
            ),
            (
                "/e/00112233445566778899",
                Address::of(Page::Experiment(Source::Id("00112233445566778899".into()))),
            ),
            (
                "/e/f:my%20data/x%3Fy.json",
                Address::of(Page::Experiment(Source::File("my data/x?y.json".into()))),
            ),
            (
                "/c/00112233445566778899,l:1.AB-_?metric=recovery&colours=rdbu&range=-1%2C2.5&origin=bottom\
                 &transpose=1&labels=token_index&hide=3-5%2C9&pin=4%2C26&table=1",
                Address {
                    page: Page::Compare(vec![
                        Source::Id("00112233445566778899".into()),
                        Source::Link("1.AB-_".into()),
                    ]),
                    view: View {
                        figure: FigureOptions {
                            metric: Metric::Recovery,
                            preset: Preset::RdBu,
                            range: Range::Set(-1.0, 2.5),
                            origin: Origin::Bottom,
                            transpose: true,
                            labels: LabelStyle::TokenIndex,
                            hidden: "3-5,9".parse().unwrap(),
                            ..FigureOptions::default()
                        },
                        pin: Some(Key {
                            row: Coordinate::Layer(4),
                            column: Coordinate::Position(26),
                        }),
                        table: true,
                        ..View::default()
                    },
                },
            ),
            (
                "/e/00112233445566778899?from=job%2F0011223344556677889a",
                Address {
                    view: View {
                        from: Some(StudySource::Job("0011223344556677889a".into())),
                        ..View::default()
                    },
                    ..Address::of(Page::Experiment(Source::Id("00112233445566778899".into())))
                },
            ),
            (
                "/e/00112233445566778899?embed=1",
                Address {
                    view: View { is_embedded: true, ..View::default() },
                    ..Address::of(Page::Experiment(Source::Id("00112233445566778899".into())))
                },
            ),
            (
                "/study/job/00112233445566778899",
                Address::of(Page::Study(StudySource::Job("00112233445566778899".into()))),
            ),
            (
                "/study/00112233445566778899?colours=notebook&pin=4%2Crole%3Alast\
                 &of=z.denoising&show=recovery&group=a+b&keep=contrast&min_contrast=0.5&group_by=kind",
                Address {
                    page: Page::Study(StudySource::Id("00112233445566778899".into())),
                    view: View {
                        figure: FigureOptions::default(),
                        pin: Some(Key {
                            row: Coordinate::Layer(4),
                            column: Coordinate::Role(Role::Last),
                        }),
                        study: StudyView {
                            grid: "z.denoising".into(),
                            statistic: Statistic::Recovery,
                            selected: Selected::Group("a b".into()),
                            keep: Some(Keep::Contrast),
                            min_contrast: Some(0.5),
                            group_by: "kind".into(),
                        },
                        ..View::default()
                    },
                },
            ),
        ];
        for (fragment, address) in cases {
            assert_eq!(address.fragment(), fragment);
            assert_eq!(Address::parse(&format!("#{fragment}")), address, "{fragment}");
        }
    }

    #[test]
    fn links_of_every_age_open_the_form() {
        let old = "/new?template=none&true=yes&false=no&exact=1&site=mlp_out&align=right\
                   &direction=noising&readout=0&window=wide&sight=x";
        let new = "/new?align=right&answers=yes%2Cno&direction=noising&exact_answers=true\
                   &readout=false&site=mlp_out&template=none";
        assert_eq!(Address::parse(old).fragment(), new);
    }

    #[test]
    fn what_is_not_understood_is_left_out_and_nothing_leads_elsewhere() {
        let odd = "/e/00112233445566778899?metric=score&range=2,1&range=a&pin=x,1&colours=&hide=a";
        let address = Address::parse(odd);
        assert_eq!(address.view, View::default());
        for path in [
            "/e/",
            "/e/f:https://example.org/x.json",
            "/e/f://example.org/x.json",
            "/e/f:/etc/passwd",
            "/e/..%2Fx",
            "/e/f:javascript:alert(1)",
            "/e/f:%09//example.org/x.json",
            "/e/f:%20//example.org/x.json",
            "/e/f:%00/etc/passwd",
            "/e/f:%0B%5C%5Cexample.org/x.json",
            "/e/f:%C2%A0//example.org/x.json",
            "/e/f:java%0Ascript:alert(1)",
            "/e/f:x.json%0A",
            "/e/f:%5C%5Cexample.org/x.json",
            "/e/..",
            "/e/0a1b",
            "/j/0A1B2C3D4E5F60718293",
            "/study/..",
            "/study/job/..%2Fx",
            "/study/job/",
            "/x/00112233445566778899",
            "/j/..",
            "/news",
            "/e",
        ] {
            assert!(matches!(Address::parse(path).page, Page::Unknown(_)), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_that_is_read_back(text in "\\PC{0,60}") {
            let address = Address::parse(&text);
            if !matches!(address.page, Page::Unknown(_)) {
                prop_assert_eq!(Address::parse(&address.fragment()), address);
            }
        }
    }
}
