//! A wave: trials of many pairs, sites and directions that go through the layers together, and
//! which of their rows do what in which layer. All of it is known before the first product.
//!
//! A trial enters the wave where its first edit applies. In that block only the rows that are
//! edited there are new (all rows after an edited key or value); the others are the base run's.
//! From the next block on, its rows from the first edited position to the end travel with the wave,
//! and later edits are written into them on the way.

use std::ops::Range;
use std::sync::Arc;

use shared::specification::vocabulary::Site;
use shared::specification::{MeanOver, Write};

use super::cost::BlockCost;
use super::reach::Step;
use super::runs::RunRows;
use crate::model::{Config, Indices, Slice, Span};

/// A trial that is computed, or several that are the same.
#[derive(Debug, Clone)]
pub struct Traveller {
    /// An index into the table.
    pub pair: usize,
    /// The trials that it is, indices into the pair's.
    pub trials: Vec<usize>,
    /// Its base among the batch's runs.
    pub run: usize,
    /// The first position that is changed.
    pub first: usize,
    /// The length of the base run.
    pub n: usize,
    /// How many of the last positions are read.
    pub n_read: usize,
    /// The edits; not empty. Runs are the batch's.
    pub steps: Vec<Step>,
}

impl Traveller {
    /// Its rows.
    pub fn n_rows(&self) -> usize {
        self.n - self.first
    }

    /// The layer and the site of the first edit.
    pub fn entry(&self) -> (usize, Site) {
        (self.steps[0].layer, self.steps[0].site)
    }

    fn steps_in(&self, layer: usize) -> &[Step] {
        let begin = self.steps.partition_point(|step| step.layer < layer);
        let end = self.steps.partition_point(|step| step.layer <= layer);
        &self.steps[begin..end]
    }

    /// The span of its rows in a block, of which all or the last `n_queries` have queries.
    fn span(&self, runs: &RunRows, n_queries: usize) -> Span {
        let offset = runs.offsets[self.run];
        Span { offset, n_shared: self.first, n_own: self.n_rows(), n_queries }
    }
}

/// A set of sites.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sites(u16);

impl Sites {
    /// Adds a site.
    pub fn add(&mut self, site: Site) {
        self.0 |= 1 << site as u16;
    }

    /// Whether the site is one of them.
    pub fn has(self, site: Site) -> bool {
        self.0 & (1 << site as u16) != 0
    }

    /// Those of both.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Some rows of a matrix that are overwritten at once.
#[derive(Debug, Clone)]
pub struct Put {
    /// Where in the block.
    pub site: Site,
    /// Whether a row is one head of a row.
    pub by_head: bool,
    /// The rows.
    pub rows: Slice,
    /// What is written there.
    pub value: PutValue,
}

/// What is written.
#[derive(Debug, Clone)]
pub enum PutValue {
    /// Rows of the runs' activation.
    Rows(Slice),
    /// Zeros.
    Zero,
    /// Rows of the mean activation: heads where rows are heads, and else the one that there is.
    Mean(Arc<MeanOver>, Slice),
    /// What is there and noise, of a seed and at a position for each row.
    Noise(Vec<(u64, usize)>, f32),
}

/// Trials whose rows go through a block together.
#[derive(Debug, Clone)]
pub struct Tile {
    /// Which of the wave's trials.
    pub travellers: Range<usize>,
    /// The spans of all of them.
    pub spans: Vec<Span>,
    /// The positions of all rows.
    pub positions: Slice,
    /// The same for the last layer, where only rows that are read have queries.
    pub last: LastRows,
    /// What happens in each layer.
    pub layers: Vec<TileLayer>,
}

/// A tile in the last layer.
#[derive(Debug, Clone)]
pub struct LastRows {
    /// The spans.
    pub spans: Vec<Span>,
    /// The positions of the rows that are read.
    pub positions: Slice,
    /// The rows that are read.
    pub rows: Slice,
}

/// A tile in one layer.
#[derive(Debug, Clone, Default)]
pub struct TileLayer {
    /// Rows of the runs' embeddings that enter before the block.
    pub embedded: Slice,
    /// How many trials go through the block.
    pub n_travelling: usize,
    /// How many rows they have.
    pub n_rows: usize,
    /// What is written into them.
    pub puts: Vec<Put>,
    /// The trials that enter within the block.
    pub entering: Option<Entering>,
    /// Operations.
    pub operations: f64,
}

/// Trials that enter within a block, in the order of the sites where they do.
#[derive(Debug, Clone)]
pub struct Entering {
    /// The spans of queries of those that enter before attention.
    pub spans: Vec<Span>,
    /// The positions of their own keys and values.
    pub own_positions: Slice,
    /// The positions of their queries.
    pub query_positions: Slice,
    /// For each site the rows of the runs' activation with which rows enter.
    pub rows: Vec<(Site, Slice)>,
    /// The runs' rows that all changed rows stand for, in their order.
    pub residual: Slice,
    /// Of those that enter at `mlp_out`, the runs' rows.
    pub after_mlp: Slice,
    /// What is written.
    pub puts: Vec<Put>,
    /// What is written into those that enter at `mlp_out`, at that site.
    pub puts_after_mlp: Vec<Put>,
    /// The rows of all entering trials, of the runs' rows followed by the changed ones.
    pub result: Slice,
}

/// Trials that go through the layers together.
#[derive(Debug, Clone)]
pub struct Wave {
    /// Tile by tile, in each in the order in which they enter.
    pub travellers: Vec<Traveller>,
    /// Their tiles.
    pub tiles: Vec<Tile>,
    /// How many tiles may go through a block at the same time.
    pub n_at_once: usize,
    /// Which of the runs' activations are read in each layer.
    pub needs: Vec<Sites>,
}

impl Wave {
    /// Lays out `travellers` in tiles of at most `n_tile_rows` rows, unless one alone has more, of
    /// which `n_at_once` may go through a block at the same time.
    pub fn new(
        config: &Config,
        runs: &RunRows,
        mut travellers: Vec<Traveller>,
        n_tile_rows: usize,
        n_at_once: usize,
        indices: &mut Indices,
    ) -> Self {
        travellers.sort_by_key(|traveller| (traveller.entry(), traveller.run, traveller.first));
        let n_rows: Vec<_> = travellers.iter().map(Traveller::n_rows).collect();
        let tile_of = dealt(&n_rows, n_tile_rows, n_at_once);
        let mut in_tiles: Vec<_> = tile_of.into_iter().zip(travellers).collect();
        in_tiles.sort_by_key(|(tile, _)| *tile);
        let bounds = in_tiles.chunk_by(|(a, _), (b, _)| a == b).scan(0, |begin, tile| {
            let range = *begin..*begin + tile.len();
            *begin = range.end;
            Some(range)
        });
        let bounds: Vec<_> = bounds.collect();
        let travellers: Vec<_> = in_tiles.into_iter().map(|(_, traveller)| traveller).collect();
        let mut needs = vec![Sites::default(); config.n_layers];
        for traveller in &travellers {
            needs_of(traveller, config.n_layers, &mut needs);
        }
        let tiles = bounds.into_iter().map(|range| {
            let members = &travellers[range.clone()];
            TileMaker { config, runs, members, indices }.tile(range)
        });
        let tiles = tiles.collect();
        Self { travellers, tiles, n_at_once, needs }
    }

    /// The operations of all tiles.
    pub fn operations(&self) -> f64 {
        self.tiles.iter().flat_map(|tile| &tile.layers).map(|layer| layer.operations).sum()
    }
}

/// The fewest rows of a tile for which it is worth a thread of its own.
const LEAST_ROWS: usize = 16;

/// Deals trials of so many rows, in the order in which they enter, to tiles; returns the tile of
/// each. Tiles that go through a block at the same time are filled together, so that they have the
/// same to do in every layer, and the next when these are full, so that those that are begun are
/// tall.
fn dealt(n_rows: &[usize], n_tile_rows: usize, n_at_once: usize) -> Vec<usize> {
    let total: usize = n_rows.iter().sum();
    let largest = n_rows.iter().copied().max().unwrap_or(0);
    let n_at_once = n_at_once.min(total / LEAST_ROWS).max(1);
    // The last ones are as full as the others.
    let n_groups = total.div_ceil(n_tile_rows.saturating_mul(n_at_once)).max(1);
    let n_most = match n_at_once {
        1 => n_tile_rows,
        _ => n_tile_rows.min(total.div_ceil(n_groups * n_at_once) + largest),
    };
    let (mut first, mut filled) = (0, vec![0; n_at_once]);
    let tile = |&n: &usize| {
        let emptiest = |filled: &[usize]| (0..n_at_once).min_by_key(|&i| filled[i]).unwrap_or(0);
        let mut at = emptiest(&filled);
        if filled[at] > 0 && filled[at] + n > n_most {
            first += n_at_once;
            filled.fill(0);
            at = 0;
        }
        filled[at] += n;
        first + at
    };
    n_rows.iter().map(tile).collect()
}

/// Adds what a trial reads of the runs' activations.
fn needs_of(traveller: &Traveller, n_layers: usize, needs: &mut [Sites]) {
    let (layer, entry) = traveller.entry();
    for step in &traveller.steps {
        if matches!(step.write, Write::From { .. }) {
            needs[step.layer].add(step.site);
        }
    }
    needs[layer].add(entry);
    match entry {
        Site::ResidPre => return,
        Site::Query | Site::Key | Site::Value => {
            for site in [Site::Query, Site::Key, Site::Value] {
                needs[layer].add(site);
            }
        }
        Site::MlpOut => needs[layer].add(Site::ResidMid),
        _ => {}
    }
    if entry < Site::ResidPost {
        needs[layer].add(Site::ResidPre);
    }
    debug_assert!(layer < n_layers);
    needs[layer].add(Site::ResidPost);
}

/// Makes one tile.
struct TileMaker<'a> {
    config: &'a Config,
    runs: &'a RunRows,
    members: &'a [Traveller],
    indices: &'a mut Indices,
}

impl TileMaker<'_> {
    fn tile(mut self, travellers: Range<usize>) -> Tile {
        let n_layers = self.config.n_layers;
        let (members, runs) = (self.members, self.runs);
        let all = |t: &Traveller| t.span(runs, t.n_rows());
        let spans: Vec<_> = members.iter().map(all).collect();
        let positions = self.indices.add(spans.iter().flat_map(Span::own));
        // Those that enter in the last layer do not travel into it, unless before its block.
        let in_last = self.n_travelling(n_layers - 1);
        let last = |t: &Traveller| t.span(runs, t.n_read.min(t.n_rows()));
        let last_spans: Vec<_> = members[..in_last].iter().map(last).collect();
        let mut row = 0;
        let rows: Vec<_> = last_spans
            .iter()
            .flat_map(|span| {
                row += span.n_own;
                row - span.n_queries..row
            })
            .collect();
        let last = LastRows {
            positions: self.indices.add(last_spans.iter().flat_map(Span::queries)),
            rows: self.indices.add(rows),
            spans: last_spans,
        };
        let layers = (0..n_layers).map(|layer| self.layer(layer, &spans, &last));
        let layers = layers.collect();
        Tile { travellers, spans, positions, last, layers }
    }

    /// How many of the trials go through the block of `layer`.
    fn n_travelling(&self, layer: usize) -> usize {
        self.members.partition_point(|t| t.entry() <= (layer, Site::ResidPre))
    }

    fn layer(&mut self, layer: usize, spans: &[Span], last: &LastRows) -> TileLayer {
        let n_travelling = self.n_travelling(layer);
        let members = self.members;
        let travelling = &members[..n_travelling];
        let n_rows = spans[..n_travelling].iter().map(|span| span.n_own).sum();
        let (runs, config) = (self.runs, self.config);
        let embedded = match layer {
            0 => self
                .indices
                .add(travelling.iter().flat_map(|t| runs.rows[t.run][t.first..].iter().copied())),
            _ => Slice::default(),
        };
        let is_last = layer + 1 == config.n_layers;
        let mut puts = Puts::default();
        let (mut row, mut query_row) = (0, 0);
        for t in travelling {
            let n_queries = if is_last { t.n_read.min(t.n_rows()) } else { t.n_rows() };
            for step in t.steps_in(layer) {
                // Before the queries are chosen all rows are there, and after that those alone.
                let is_whole = matches!(step.site, Site::ResidPre | Site::Key | Site::Value);
                let (begin, first) = match is_whole {
                    true => (row, t.first),
                    false => (query_row, t.n - n_queries),
                };
                let at = |position: usize| position.checked_sub(first).map(|i| begin + i);
                puts.add(config, runs, step, at);
            }
            puts.next();
            row += t.n_rows();
            query_row += n_queries;
        }
        let travelling = if is_last { &last.spans[..] } else { &spans[..n_travelling] };
        let cost = BlockCost::new(config);
        let mut operations = travelling.iter().map(|&span| cost.span(span)).sum();
        let begin = n_travelling;
        let end = members.partition_point(|t| t.entry().0 <= layer);
        let entering = (begin < end).then(|| self.entering(layer, begin..end, &mut operations));
        let puts = puts.finish(self.indices);
        TileLayer { embedded, n_travelling, n_rows, puts, entering, operations }
    }

    fn entering(&mut self, layer: usize, range: Range<usize>, operations: &mut f64) -> Entering {
        let (runs, config) = (self.runs, self.config);
        let members = &self.members[range];
        let is_last = layer + 1 == config.n_layers;
        let cost = BlockCost::new(config);
        let (mut spans, mut entering_rows) = (Vec::new(), vec![Vec::new(); Site::ALL.len()]);
        let (mut own, mut residual, mut after_mlp) = (Vec::new(), Vec::new(), Vec::new());
        let (mut puts, mut puts_after_mlp) = (Puts::default(), Puts::default());
        let mut result = Vec::new();
        for t in members {
            let steps = t.steps_in(layer);
            let rows = &runs.rows[t.run];
            let entry = t.entry().1;
            let has_own = steps.iter().any(|s| matches!(s.site, Site::Key | Site::Value));
            let first_out = if is_last { t.n - t.n_read.min(t.n_rows()) } else { t.first };
            // The positions whose rows are new after this block.
            let changed: Vec<usize> = match has_own {
                true => (first_out..t.n).collect(),
                false => {
                    let mut changed: Vec<_> =
                        steps.iter().flat_map(|s| s.positions.iter().copied()).collect();
                    changed.sort_unstable();
                    changed.dedup();
                    changed.retain(|&position| position >= first_out);
                    changed
                }
            };
            let begin = residual.len();
            let own_begin = own.len();
            let late_begin = after_mlp.len();
            residual.extend(changed.iter().map(|&position| rows[position]));
            let n = changed.len() as f64;
            match entry {
                Site::Query | Site::Key | Site::Value => {
                    let new = if has_own {
                        own.extend(rows[t.first..].iter().zip(t.first..).map(|(&row, p)| (row, p)));
                        vec![t.span(runs, changed.len())]
                    } else {
                        consecutive(&changed)
                            .map(|range| Span {
                                offset: runs.offsets[t.run],
                                n_shared: range.end,
                                n_own: 0,
                                n_queries: range.len(),
                            })
                            .collect()
                    };
                    *operations += new.iter().map(|&span| cost.attention(span)).sum::<f64>();
                    spans.extend(new);
                    *operations += n * (cost.output + cost.mlp);
                }
                Site::Z => *operations += n * (cost.output + cost.mlp),
                Site::AttnOut | Site::ResidMid => *operations += n * cost.mlp,
                _ => {}
            }
            match entry {
                Site::MlpOut => after_mlp.extend(changed.iter().map(|&p| rows[p])),
                _ => entering_rows[entry_group(entry) as usize]
                    .extend(changed.iter().map(|&position| rows[position])),
            }
            let changed_at =
                |position: usize| changed.binary_search(&position).ok().map(|i| begin + i);
            for step in steps {
                if entry == Site::MlpOut && step.site == Site::MlpOut {
                    puts_after_mlp.add(config, runs, step, |position| {
                        changed_at(position).map(|at| at - begin + late_begin)
                    });
                } else if matches!(step.site, Site::Key | Site::Value) {
                    let at = |position: usize| position.checked_sub(t.first);
                    puts.add(config, runs, step, |position| at(position).map(|i| own_begin + i));
                } else {
                    puts.add(config, runs, step, changed_at);
                }
            }
            puts.next();
            puts_after_mlp.next();
            result.extend((first_out..t.n).map(|position| match changed_at(position) {
                Some(at) => runs.n_rows() + at,
                None => rows[position],
            }));
        }
        let query_positions: Vec<_> = spans.iter().flat_map(Span::queries).collect();
        let mut rows = Vec::new();
        for &site in Site::ALL {
            let entering = std::mem::take(&mut entering_rows[site as usize]);
            if !entering.is_empty() {
                rows.push((site, self.indices.add(entering)));
            }
        }
        if !own.is_empty() {
            let slice = self.indices.add(own.iter().map(|&(row, _)| row));
            rows.extend([(Site::Key, slice), (Site::Value, slice)]);
        }
        Entering {
            spans,
            own_positions: self.indices.add(own.iter().map(|&(_, position)| position)),
            query_positions: self.indices.add(query_positions),
            rows,
            residual: self.indices.add(residual),
            after_mlp: self.indices.add(after_mlp),
            puts: puts.finish(self.indices),
            puts_after_mlp: puts_after_mlp.finish(self.indices),
            result: self.indices.add(result),
        }
    }
}

/// The site at which changed rows appear: an edited key or value shows in what queries mix.
fn entry_group(entry: Site) -> Site {
    match entry {
        Site::Key | Site::Value => Site::Query,
        site => site,
    }
}

/// The ranges of consecutive numbers among ascending ones.
fn consecutive(numbers: &[usize]) -> impl Iterator<Item = Range<usize>> {
    numbers.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1)
}

/// The writes of a trial's run among all runs, collected so that few operations do them.
#[derive(Debug, Default)]
pub struct Puts {
    collected: Vec<Collected>,
    /// The steps of the present trial and how many of them overlap earlier ones.
    mine: Vec<(Site, Option<usize>, Vec<usize>, usize)>,
}

/// Writes of one kind.
#[derive(Debug)]
struct Collected {
    site: Site,
    by_head: bool,
    /// Writes into the same rows come one after another.
    round: usize,
    rows: Vec<usize>,
    value: CollectedValue,
}

#[derive(Debug)]
enum CollectedValue {
    Rows(Vec<usize>),
    Zero,
    Mean(Arc<MeanOver>, Vec<usize>),
    Noise(Vec<(u64, usize)>, f32),
}

impl Puts {
    /// Adds a step whose position `p` is row `at(p)` of the matrix, or none of it.
    pub fn add(
        &mut self,
        config: &Config,
        runs: &RunRows,
        step: &Step,
        at: impl Fn(usize) -> Option<usize>,
    ) {
        let overlaps = |(site, head, positions, _): &&(Site, Option<usize>, Vec<usize>, usize)| {
            *site == step.site
                && (*head == step.head || head.is_none() || step.head.is_none())
                && positions.iter().any(|p| step.positions.binary_search(p).is_ok())
        };
        let before = self.mine.iter().filter(overlaps).map(|&(.., round)| round + 1).max();
        let round = before.unwrap_or(0);
        self.mine.push((step.site, step.head, step.positions.clone(), round));
        let n_heads = match step.site {
            Site::Key | Site::Value => config.n_kv_heads,
            _ => config.n_heads,
        };
        let by_head = step.head.is_some();
        // A row, or one head of it.
        let row = |row: usize| step.head.map_or(row, |head| row * n_heads + head);
        let found = self.collected.iter_mut().find(|c| {
            (c.site, c.by_head, c.round) == (step.site, by_head, round)
                && match (&c.value, &step.write) {
                    (CollectedValue::Rows(_), Write::From { .. }) => true,
                    (CollectedValue::Zero, Write::Zero) => true,
                    (CollectedValue::Mean(one, _), Write::Mean(other)) => Arc::ptr_eq(one, other),
                    (CollectedValue::Noise(_, one), Write::Noise { scale, .. }) => one == scale,
                    _ => false,
                }
        });
        let collected = match found {
            Some(collected) => collected,
            None => {
                let value = match &step.write {
                    Write::From { .. } => CollectedValue::Rows(Vec::new()),
                    Write::Zero => CollectedValue::Zero,
                    Write::Mean(mean) => CollectedValue::Mean(mean.clone(), Vec::new()),
                    Write::Noise { scale, .. } => CollectedValue::Noise(Vec::new(), *scale),
                };
                let rows = Vec::new();
                self.collected.push(Collected { site: step.site, by_head, round, rows, value });
                self.collected.last_mut().expect("one was added")
            }
        };
        for &position in &step.positions {
            let Some(at) = at(position) else { continue };
            collected.rows.push(row(at));
            match (&mut collected.value, &step.write) {
                (CollectedValue::Rows(rows), Write::From { run, shift }) => {
                    let from = position.checked_add_signed(*shift).unwrap_or(usize::MAX);
                    rows.push(row(runs.rows[*run][from]));
                }
                (CollectedValue::Mean(_, heads), _) => heads.push(step.head.unwrap_or(0)),
                (CollectedValue::Noise(seeds, _), Write::Noise { seed, .. }) => {
                    seeds.push((*seed, position));
                }
                _ => {}
            }
        }
    }

    /// The next trial's steps follow, which touch none of these rows.
    pub fn next(&mut self) {
        self.mine.clear();
    }

    /// All of them, in the order in which they apply.
    pub fn finish(mut self, indices: &mut Indices) -> Vec<Put> {
        self.collected.sort_by_key(|collected| (collected.site, collected.round));
        let whole = self.collected.into_iter().filter(|collected| !collected.rows.is_empty());
        whole
            .map(|Collected { site, by_head, rows, value, .. }| Put {
                site,
                by_head,
                rows: indices.add(rows),
                value: match value {
                    CollectedValue::Rows(rows) => PutValue::Rows(indices.add(rows)),
                    CollectedValue::Zero => PutValue::Zero,
                    CollectedValue::Mean(mean, heads) => PutValue::Mean(mean, indices.add(heads)),
                    CollectedValue::Noise(seeds, scale) => PutValue::Noise(seeds, scale),
                },
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn trials_are_dealt_evenly_and_within_the_limit(
            n_rows in prop::collection::vec(1usize..40, 0..300),
            n_tile_rows in 1usize..2000,
            n_at_once in 1usize..9,
        ) {
            let tiles = dealt(&n_rows, n_tile_rows, n_at_once);
            prop_assert_eq!(tiles.len(), n_rows.len());
            let mut filled = vec![Vec::new(); tiles.iter().max().map_or(0, |last| last + 1)];
            for (&tile, &n) in tiles.iter().zip(&n_rows) {
                filled[tile].push(n);
            }
            for of_tile in &filled {
                prop_assert!(of_tile.len() < 2 || of_tile.iter().sum::<usize>() <= n_tile_rows);
            }
            // Of those that are filled together none is ahead by more than a trial.
            let largest = n_rows.iter().max().copied().unwrap_or(0);
            let total: usize = n_rows.iter().sum();
            let n_at_once = n_at_once.min(total / LEAST_ROWS).max(1);
            for group in filled.chunks(n_at_once) {
                let sums = group.iter().map(|of_tile| of_tile.iter().sum::<usize>());
                let (least, most) = (sums.clone().min().unwrap_or(0), sums.max().unwrap_or(0));
                prop_assert!(group.len() < n_at_once || most - least <= largest);
            }
        }
    }

    #[test]
    fn one_tile_after_the_other_is_filled_where_one_goes_at_a_time() {
        assert_eq!(dealt(&[3, 3, 3, 3, 9], 6, 1), [0, 0, 1, 1, 2]);
        assert_eq!(dealt(&[10, 9, 8, 7, 6, 5], 100, 2), [0, 1, 1, 0, 0, 1]);
        assert_eq!(dealt(&[], 6, 4), [0usize; 0]);
    }
}
