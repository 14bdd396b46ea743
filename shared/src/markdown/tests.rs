use proptest::prelude::*;

use super::*;

/// The parts of a text in a line: kinds by a letter, what they hold in brackets.
fn shown(blocks: &[Block]) -> String {
    let block = |block: &Block| match block {
        Block::Heading(level, words) => format!("h{level}({})", words_of(words)),
        Block::Paragraph(words) => format!("p({})", words_of(words)),
        Block::Code(code) => format!("code({code})"),
        Block::Quote(blocks) => format!("quote({})", shown(blocks)),
        Block::List(first, items) => {
            let items: Vec<_> = items.iter().map(|item| shown(item)).collect();
            let first = first.map(|n| n.to_string()).unwrap_or_default();
            format!("list{first}({})", items.join(";"))
        }
        Block::Rule => "rule".into(),
    };
    blocks.iter().map(block).collect::<Vec<_>>().join(" ")
}

fn words_of(words: &[Inline]) -> String {
    let piece = |piece: &Inline| match piece {
        Inline::Text(text) => text.clone(),
        Inline::Code(code) => format!("`{code}`"),
        Inline::Emphasis(words) => format!("e({})", words_of(words)),
        Inline::Strong(words) => format!("s({})", words_of(words)),
        Inline::Link(to, words) => format!("a({to}|{})", words_of(words)),
        Inline::Break => "/".into(),
    };
    words.iter().map(piece).collect()
}

#[test]
fn texts_are_taken_apart_as_commonmark_says() {
    let cases = [
        ("", ""),
        ("# One\n\nTwo\nthree  \nfour\\\nfive\n", "h1(One) p(Two three/four/five)"),
        ("One\n===\nTwo\n---\n## C# ##\n#no", "h1(One) h2(Two) h2(C#) p(#no)"),
        (
            "a *b* **c *d*** _e_ __f__ s_n_k 2 * 3 * 4",
            "p(a e(b) s(c e(d)) e(e) s(f) s_n_k 2 * 3 * 4)",
        ),
        ("***a*** *a **b** c* *not\n\n*no", "p(s(e(a)) e(a s(b) c) *not) p(*no)"),
        ("`a *b*` `` c`d `` ` e` *f `*`*", "p(`a *b*` `c`d` ` e` e(f `*`))"),
        ("\\*a\\* \\[b\\] &amp; <b>c</b>", "p(*a* [b] &amp; <b>c</b>)"),
        (
            "[a *b*](https://x.org/?q=1#c \"t\") <https://y.org> <mailto:z@x.org> [d](#/study/x)",
            "p(a(https://x.org/?q=1#c|a e(b)) a(https://y.org|https://y.org) \
             a(mailto:z@x.org|mailto:z@x.org) a(#/study/x|d))",
        ),
        ("![a](https://x.org/a.png) [b] [c](d) [e]", "p(a(https://x.org/a.png|a) [b] c [e])"),
        ("- a\n- b\n  c\n\n  d\n* e", "list(p(a);p(b c) p(d)) list(p(e))"),
        ("3. a\n   - b\n   - c\n4. d\n\n5. e\n\nf", "list3(p(a) list(p(b);p(c));p(d);p(e)) p(f)"),
        ("> a\nb\n> - c\n\nd", "quote(p(a b) list(p(c))) p(d)"),
        ("```rust\n# a\n\n  b\n```\nc\n~~~\nd", "code(# a\n\n  b) p(c) code(d)"),
        ("a\n\n***\n- - -\n-x", "p(a) rule rule p(-x)"),
        ("日本 **女王** の\u{3000}- x", "p(日本 s(女王) の\u{3000}- x)"),
    ];
    for (text, expected) in cases {
        assert_eq!(shown(&parse(text)), expected, "{text:?}");
    }
}

#[test]
fn hostile_texts_are_text() {
    for to in [
        "javascript:alert(1)",
        "JavaScript:alert`1`",
        "java\tscript:alert`1`",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "//x.org",
        "/api/jobs",
        "x.html",
        "https:\"onclick=x",
        "#x",
        "\u{1}javascript:x",
        "https://x.org/\u{7}",
    ] {
        for text in [format!("[a]({to})"), format!("![a]({to})"), format!("<{to}>")] {
            let found = shown(&parse(&text));
            assert!(!found.contains("a("), "{text}: {found}");
        }
    }
    let html = "<script>alert(1)</script><img src=x onerror=alert(1)>";
    assert_eq!(parse(html), [Block::Paragraph(vec![Inline::Text(html.into())])]);
}

#[test]
fn long_texts_are_read_in_time() {
    let parts = [
        "*",
        "**",
        "_",
        "* ",
        "*a ",
        "**a ",
        "`",
        "``a",
        "[",
        "[](",
        "[a](",
        "[](x ",
        "![",
        "<",
        "> ",
        "- ",
        "-\n",
        "\n",
        " ",
        "  \n",
        "#",
        "1. ",
        "(",
        "\\",
        "```\n",
        "=\n",
        "a\n",
        "*a*",
        "[a](https://x",
    ];
    for part in parts {
        parse(&part.repeat(500_000 / part.len()));
    }
    parse(&("- a\n".to_string() + &"\n".repeat(500_000)));
}

proptest! {
    #[test]
    fn any_text_is_read(text in "[-*_`#>\\[\\]()<!\\\\ \na1.é:/]{0,80}") {
        fn links(blocks: &[Block]) -> bool {
            let safe = |words: &[Inline]| words.iter().all(|piece| match piece {
                Inline::Link(to, _) => to.starts_with("https:") || to.starts_with("#/"),
                _ => true,
            });
            blocks.iter().all(|block| match block {
                Block::Heading(_, words) | Block::Paragraph(words) => safe(words),
                Block::Quote(blocks) => links(blocks),
                Block::List(_, items) => items.iter().all(|item| links(item)),
                Block::Code(_) | Block::Rule => true,
            })
        }
        prop_assert!(links(&parse(&text)));
    }
}
