//! Spans padded to equal lengths, for attention in few and large operations.
//!
//! Whatever the number of spans, their queries, keys and values are gathered by a few lists of row
//! numbers, which are made once and lie on the device. Padding costs some more of attention, which
//! is a few per cent of a block, and saves an operation per span.

use candle_core::Device;

use super::indices::{Indices, Slice};
use super::rows::Span;

/// Padded rows of queries at most, for each that there is; spans whose lengths differ by more make
/// groups of their own.
pub const MOST_PADDING: usize = 3;

/// Spans in groups, each padded to its longest.
#[derive(Debug, Clone)]
pub struct PaddedSpans {
    /// The groups, those of few queries first.
    pub groups: Vec<PaddedGroup>,
    /// For each row of queries, its place among the padded rows of all groups, `[query rows]`.
    pub order: Slice,
}

/// Spans of which each has room for `n_queries` queries and `n_keys` keys.
#[derive(Debug, Clone)]
pub struct PaddedGroup {
    /// Which spans, in their order.
    members: Vec<usize>,
    /// How many of them are padded here.
    pub n_spans: usize,
    /// The most queries of one.
    pub n_queries: usize,
    /// The most keys of one.
    pub n_keys: usize,
    /// The row of each query, `[spans * n_queries]`.
    pub queries: Slice,
    /// The position of each query, `[spans * n_queries]`.
    pub positions: Slice,
    /// The row of each key among the shared rows followed by the spans' own, `[spans * n_keys]`.
    pub keys: Slice,
}

impl PaddedSpans {
    /// Pads `spans`, which share `n_shared_rows` rows of keys and values.
    pub fn new(spans: &[Span], n_shared_rows: usize, indices: &mut Indices) -> Self {
        let mut sorted: Vec<_> = (0..spans.len()).filter(|&i| spans[i].n_queries > 0).collect();
        sorted.sort_by_key(|&i| spans[i].n_queries);
        let mut parts = Vec::new();
        divide(&sorted, spans, &mut parts);
        let begins: Vec<_> = spans
            .iter()
            .scan((0, 0), |(row, query), span| {
                let begins = (*row, *query);
                (*row, *query) = (*row + span.n_own, *query + span.n_queries);
                Some(begins)
            })
            .collect();
        let groups = parts.into_iter().map(|part| {
            let mut members = part.to_vec();
            members.sort_unstable();
            let most = |of: fn(&Span) -> usize| members.iter().map(|&i| of(&spans[i])).max();
            let n_queries = most(|span| span.n_queries).unwrap_or(0);
            let n_keys = most(Span::end).unwrap_or(0);
            // Padding is the first row at position 0: it sees a key, and nobody asks for it.
            let (mut queries, mut positions, mut keys) = (Vec::new(), Vec::new(), Vec::new());
            for (n, &i) in members.iter().enumerate() {
                let (span, (row, query)) = (&spans[i], begins[i]);
                queries.extend(query..query + span.n_queries);
                queries.resize((n + 1) * n_queries, 0);
                positions.extend(span.queries());
                positions.resize((n + 1) * n_queries, 0);
                keys.extend(span.offset..span.offset + span.n_shared);
                keys.extend((row..row + span.n_own).map(|row| n_shared_rows + row));
                keys.resize((n + 1) * n_keys, 0);
            }
            PaddedGroup {
                n_spans: members.len(),
                n_queries,
                n_keys,
                queries: indices.add(queries),
                positions: indices.add(positions),
                keys: indices.add(keys),
                members,
            }
        });
        let groups = groups.collect();
        let mut all = Self { groups, order: Slice::default() };
        all.order = all.order_of(spans, spans.len(), indices);
        all
    }

    /// What attention takes at a time on `device`, in bytes, unless one span alone takes more.
    pub fn most_bytes(device: &Device) -> usize {
        if device.is_cpu() { 64 << 20 } else { 512 << 20 }
    }

    /// What attention takes for one span of `n_queries` queries and `n_keys` keys, in bytes, if a
    /// number takes `n_bytes`: scores and weights, and what is gathered, before and after it is
    /// divided into heads.
    pub fn n_bytes(
        [n_heads, d_queries, d_keys]: [usize; 3],
        [n_queries, n_keys]: [usize; 2],
        n_bytes: usize,
    ) -> usize {
        let scores = n_heads * n_queries * n_keys * (3 * size_of::<f32>() + 2 * n_bytes);
        scores + 4 * (n_keys * d_keys + n_queries * d_queries) * n_bytes
    }

    /// The first `n` of `spans`, of which these were made.
    pub fn first(&self, spans: &[Span], n: usize, indices: &mut Indices) -> Self {
        let groups = self.groups.iter().filter_map(|group| {
            let n_spans = group.members.partition_point(|&i| i < n);
            let members = group.members[..n_spans].to_vec();
            (n_spans > 0).then(|| PaddedGroup {
                n_spans,
                queries: group.queries.first(n_spans * group.n_queries),
                positions: group.positions.first(n_spans * group.n_queries),
                keys: group.keys.first(n_spans * group.n_keys),
                members,
                ..*group
            })
        });
        let mut first = Self { groups: groups.collect(), order: Slice::default() };
        first.order = match n == spans.len() {
            true => self.order,
            false => first.order_of(spans, n, indices),
        };
        first
    }

    fn order_of(&self, spans: &[Span], n: usize, indices: &mut Indices) -> Slice {
        let mut places = vec![0; n];
        let mut place = 0;
        for group in &self.groups {
            for &i in &group.members {
                places[i] = place;
                place += group.n_queries;
            }
        }
        let rows = places.iter().zip(spans).flat_map(|(&at, span)| at..at + span.n_queries);
        indices.add(rows)
    }
}

/// Divides spans `sorted` by their queries where padding would be too much.
fn divide<'a>(sorted: &'a [usize], spans: &[Span], parts: &mut Vec<&'a [usize]>) {
    let Some(&longest) = sorted.last() else { return };
    let n_queries = |i: usize| spans[i].n_queries;
    let n_rows: usize = sorted.iter().map(|&i| n_queries(i)).sum();
    let padded = |part: &[usize]| part.last().map_or(0, |&i| part.len() * n_queries(i));
    if sorted.len() * n_queries(longest) <= MOST_PADDING * n_rows {
        parts.push(sorted);
        return;
    }
    let at = (1..sorted.len()).min_by_key(|&at| padded(&sorted[..at]) + padded(&sorted[at..]));
    let (short, long) = sorted.split_at(at.unwrap_or(1).min(sorted.len()));
    divide(short, spans, parts);
    divide(long, spans, parts);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(n_shared: usize, n_own: usize) -> Span {
        Span { offset: 0, n_shared, n_own, n_queries: n_own }
    }

    #[test]
    fn spans_of_similar_lengths_are_one_group_and_others_are_not() {
        let n_groups =
            |spans: &[Span]| PaddedSpans::new(spans, 100, &mut Indices::default()).groups.len();
        let columns: Vec<_> = (0..20).flat_map(|n| [span(30, n + 1), span(5, n + 1)]).collect();
        assert_eq!(n_groups(&columns), 1);
        assert_eq!(n_groups(&[]), 0);
        let mut mixed = vec![span(9, 1); 500];
        mixed.insert(7, span(0, 400));
        assert_eq!(n_groups(&mixed), 2);
    }

    #[test]
    fn the_first_spans_keep_the_lists_of_all() {
        let spans = [span(3, 2), span(1, 4), span(2, 3), span(4, 1)];
        let mut indices = Indices::default();
        let all = PaddedSpans::new(&spans, 10, &mut indices);
        let n = indices.len();
        for n_first in 0..=spans.len() {
            let first = all.first(&spans, n_first, &mut indices);
            let n_rows: usize = spans[..n_first].iter().map(|span| span.n_queries).sum();
            assert_eq!(first.order.len(), n_rows);
            let n_spans: usize = first.groups.iter().map(|group| group.n_spans).sum();
            assert_eq!(n_spans, n_first);
        }
        // Only orders were added, and none for all of them.
        assert_eq!(indices.len() - n, 2 + 6 + 9);
    }
}
