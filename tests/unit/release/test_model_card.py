"""What the card of a version says, and that no label in it can become mark-up."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from attrition.evaluation.fairness import assess_fairness
from attrition.evaluation.reports import evaluate
from attrition.registry.package import read_package
from attrition.release.model_card import MISUSES, cell, model_card


def card_of(ref, version, **changes):
    """Card of a written package."""
    return model_card("employee-attrition-classifier", version(ref, **changes), read_package(*_parts(ref)))


def _parts(ref):
    return ref.directory, ref.manifest_sha256


class _Outline(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        self.text.append(data)


def test_it_answers_what_a_reader_asks(package, version_of):
    """Purpose, misuse, data, figures with intervals, groups, gates and limits, each under its heading."""
    card = card_of(package, version_of)
    headings = re.findall(r"^## (.*)$", card.markdown, flags=re.MULTILINE)
    assert headings == [
        "Model",
        "What it is for",
        "Data",
        "How good it is",
        "What it relies on",
        "Fairness",
        "Gates",
        "Limits",
    ]
    assert card.version == "1.2.0"
    for misuse in MISUSES:
        assert misuse in card.markdown
    stored = read_package(*_parts(package))
    auc = stored.evaluation.metrics["auc"]
    assert f"| auc | {auc.value:.3f} | {auc.low:.3f} to {auc.high:.3f} |" in card.markdown
    assert package.manifest_sha256 in card.markdown
    assert all(cell(name) in card.markdown for name in stored.schema.names)


def test_it_says_what_the_version_relies_on(made, package, version_of, tmp_path):
    """Every feature with its share, as a table and two plots; an earlier package says that it cannot."""
    section = card_of(package, version_of).markdown.split("## What it relies on")[1].split("## Fairness")[0]
    for part in made.importance.features:
        assert f"| {cell(part.feature)} | {part.mean_absolute:.4f} |" in section
    assert section.count("](data:image/png") == 2
    older = replace(made, background=None, importance=None).write(tmp_path / "older")
    section = card_of(older, version_of).markdown.split("## What it relies on")[1].split("## Fairness")[0]
    assert section.strip() == "It was registered without what explanations need."


def test_limits_follow_from_the_facts(package, version_of):
    """Features the data lacked, few leavers and missing groups are said; nothing is said that does not apply."""
    limits = card_of(package, version_of).markdown.split("## Limits")[1]
    assert cell("work_hours") in limits
    assert "leavers: read the intervals" in limits
    assert "no employee ids" not in limits
    assert " 0 rows" not in limits


def test_the_page_is_self_contained(package, version_of):
    """It asks the network for nothing and has a picture per plot."""
    outline = _Outline(card_of(package, version_of).html)
    assert outline.addresses
    assert all(address.startswith("data:image/png;base64,") for address in outline.addresses)
    assert outline.tags.count("img") == len(outline.addresses) >= 5
    assert not {"script", "link", "iframe"} & set(outline.tags)


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", "a|b", "*x*_y_`z`", "[x](http://e.org)", "# big\n- no"])
def test_a_label_stays_a_label(made, tmp_path, version_of, label):
    """Departments, waivers and aliases may be called anything: one cell, no mark-up, no link."""
    teams = pd.DataFrame({"department": [label, "other"] * (len(made.table) // 2)})
    y, score = made.table.target, made.candidate.score(made.table.features)
    told = replace(
        made,
        evaluation=evaluate(y, score, made.candidate.threshold, groups=teams, n_resamples=100),
        fairness=assess_fairness(y, made.candidate.decide(made.table.features), teams),
    )
    page = card_of(told.write(tmp_path / "told"), version_of, waived=label).html
    outline = _Outline(page)
    assert not {"script", "a", "em", "h1 big"} & set(outline.tags)
    assert outline.tags.count("h1") == 1
    text = " ".join(" ".join(outline.text).split())
    assert " ".join(label.split()) in text
    rows = re.findall(r"<tr>(.*?)</tr>", page, flags=re.DOTALL)
    slices = [row for row in rows if "other" in row]
    assert {row.count("<td>") for row in slices} <= {5, 6}


def test_a_waived_gate_and_a_mitigation_are_told(made, tmp_path, version_of):
    """What was bent or evened out is part of the card."""
    ref = made.write(tmp_path / "even", mitigation={"summary": "by gender: gap 0.12 to 0.03", "attribute": "gender"})
    card = card_of(ref, version_of, waived="the holdout is small")
    assert "waived: the holdout is small" in card.markdown
    assert "Mitigation: by gender: gap 0.12 to 0.03. The attribute was used in training only." in card.markdown


def test_it_reads_the_same_whenever_it_is_made(package, version_of):
    """A card can be compared with an earlier one."""
    assert card_of(package, version_of) == card_of(package, version_of)
