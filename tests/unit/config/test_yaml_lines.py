from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.config.yaml_lines import YamlProblem, mark_at, merge, parse_yaml, tree_issues, value_at

PATH = Path("/x/scalable.yaml")


def read(text, environ=None):
    return parse_yaml(text, PATH, "scalable.yaml", environ or {})


def plain(tree):
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    return tree


@pytest.mark.parametrize("text", ["0123", "no", "12:00:00", "1_000", "2026-11-22", "~x", "1e3", "0x1F"])
def test_that_an_unquoted_scalar_keeps_the_text_that_was_written(text):
    """An account number keeps its zero, a partition called ``no`` is not a boolean."""
    assert read(f"a: {text}")["a"] == text


def test_that_a_scalar_knows_what_yaml_would_have_made_of_it():
    """A base-60 number can be told from text in quotes."""
    tree = read('a: 12:00:00\nb: "12:00:00"\n')

    assert tree["a"].meaning == 43200
    assert tree["b"].meaning == "12:00:00"


def test_that_null_is_nothing():
    """A key without a value holds None."""
    assert plain(read("a:\nb: ~\nc: null\nd: ''")) == {"a": None, "b": None, "c": None, "d": ""}


def test_that_every_key_and_item_knows_its_line():
    """Marks follow the file, not the nesting."""
    tree = read("a: 1\n\nb:\n  c:\n    - x\n    - y\n")

    assert mark_at(tree, ("a",)).line == 1
    assert mark_at(tree, ("b", "c")).line == 4
    assert mark_at(tree, ("b", "c", 1)).line == 6
    assert mark_at(tree, ("b", "missing")).line == 3
    assert str(mark_at(tree, ("b",))) == "scalable.yaml:3"


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1, 2\nb: 3\n", 2), ("a: 1\n\tb: 2\n", 2), ("a: 1\n--- \nb: 2\n", 2), ("- a\n- b\n", 1), ("", None)],
    ids=["unclosed list", "tab", "two documents", "a list", "empty"],
)
def test_that_what_is_no_mapping_is_refused_with_its_line(text, line):
    """Nothing can be said about the content of such a file."""
    with pytest.raises(YamlProblem) as caught:
        read(text)

    assert caught.value.issue.line == line


def test_that_a_key_written_twice_is_told_with_the_second_line():
    """YAML would silently take the last one."""
    (issue,) = tree_issues(read("a: 1\nb:\n  c: 1\n  c: 2\n"))

    assert (issue.path, issue.line, issue.code) == ("b.c", 4, "E_DUPLICATE_KEY")


def test_that_anchors_and_merge_keys_are_followed():
    """Keys of the mapping itself win over those brought in."""
    tree = read("base: &b {x: 1, y: 2}\nmore:\n  <<: *b\n  y: 3\n")

    assert plain(tree["more"]) == {"x": "1", "y": "3"}
    assert list(tree_issues(tree)) == []


def test_that_an_anchor_that_contains_itself_ends_in_an_error():
    """No endless loop."""
    with pytest.raises(YamlProblem, match="anchor"):
        read("a: &a [*a]\n")


def test_that_an_unset_variable_is_told_where_it_stands_and_nowhere_else():
    """Other parts of the tree stay usable."""
    tree = read("a: ${HERE}\nb:\n  - ${GONE}\n", {"HERE": "x"})
    (issue,) = tree_issues(tree)

    assert plain(tree["a"]) == "x"
    assert (issue.path, issue.line, issue.code) == ("b.0", 3, "E_MISSING_VARIABLE")
    assert "'GONE'" in issue.message


def test_that_an_expanded_value_means_its_text():
    """A walltime from the environment is not taken for YAML's base-60 number."""
    assert read("w: ${W:-12:00:00}")["w"].meaning == "12:00:00"


def test_that_the_upper_tree_wins_key_by_key_and_replaces_lists():
    """Marks tell which file each value came from."""
    lower = parse_yaml("a: {x: 1, y: 2}\nl: [1, 2]\n", PATH, "low.yaml", {})
    upper = parse_yaml("l: [3]\na: {y: 5}\n", PATH, "up.yaml", {})
    merged = merge(lower, upper)

    assert plain(merged) == {"a": {"x": "1", "y": "5"}, "l": ["3"]}
    assert str(mark_at(merged, ("a", "x"))) == "low.yaml:1"
    assert str(mark_at(merged, ("a", "y"))) == "up.yaml:2"
    assert plain(lower) == {"a": {"x": "1", "y": "2"}, "l": ["1", "2"]}


TREES = st.recursive(
    st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters="$"), max_size=8),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abcdef", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), TREES, min_size=1, max_size=3))
def test_that_text_comes_back_as_it_was_written(document):
    """Whatever YAML can write, in any style, is read as the same text."""
    tree = read(yaml.safe_dump(document, allow_unicode=True))

    assert plain(tree) == document


@given(st.text(max_size=60))
def test_that_no_text_makes_the_reader_fail_in_another_way(text):
    """A tree, or a YamlProblem."""
    try:
        tree = read(text)
    except YamlProblem as err:
        tree = {}
        code = err.issue.code
    else:
        code = "E_YAML"

    assert code == "E_YAML"
    assert all(value_at(tree, (key,)) is tree[key] for key in tree)
