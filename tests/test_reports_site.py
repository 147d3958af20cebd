"""The pages say what the store holds, weigh little, and are the same bytes for the same store."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from monitor.curves import curve_shown
from monitor.models import Check, IncidentState, Mute, Result, RunState, Verdict
from monitor.reports.chart import chart_png
from monitor.reports.files import ReportError, safe_name, window_name, window_page_path, write_page
from monitor.reports.reading import limits_of
from monitor.reports.site import build_site
from monitor.reports.text import clean
from tests.reports_world import DAY, START, FakeStore, config_for, day, incident, world

NOW = START + 8 * DAY + timedelta(hours=1)
HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "</style><script>x", "../../etc/x",
    "a\0b", "x" * 300, "Feature", "feature", "\u202egnp.exe", "a\ud800b", "&lt;b&gt;", "index", "con",
]  # fmt: skip


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def words(page: str) -> str:
    return re.sub(r"[ \n]+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


class Tags(HTMLParser):
    """Tags and the names of their attributes, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store, config = world()
    return build_site(store, config, now=NOW, out=tmp_path_factory.mktemp("site"))


def test_the_window_page_says_the_verdict_in_one_sentence_and_the_worst_feature_first(built: Path) -> None:
    page = (built.parent / "fraud" / "2026-10-08.html").read_text()
    heading = words(re.search(r"<h1>.*?</h1>", page, re.DOTALL)[0])  # type: ignore[index]
    assert "alert" in heading
    assert "1 of 4 features drifted" in heading
    order = re.findall(r'<th scope="row"><a href="f-[^"]*">([^<]+)</a>', page)
    assert order[0] == "amount"
    assert sorted(order) == ["age", "amount", "country", "tenure"]
    assert "2 windows in a row." in words(page)


def test_the_window_page_shows_five_numbers_and_what_to_do(built: Path) -> None:
    text = words((built.parent / "fraud" / "2026-10-08.html").read_text())
    for part in (
        "1 drifted",
        "score PSI, limit 0.200",
        "80.0 %\u00a0±\u00a08.0",
        "82.0 % labelled, 31 d old",
        "out of range: amount",
    ):
        assert part in text
    assert "online/offline differ: amount" in text
    assert "pipeline bug (80 % sure)" in text
    assert "What to do: Compare the named features" in text
    assert "median 40" in text.replace("median 39", "median 40")
    assert "+0 % on last week" in text


def test_a_quiet_window_says_so_and_shows_the_same_features(built: Path) -> None:
    page = (built.parent / "fraud" / "2026-10-02.html").read_text()
    assert "nothing unusual in 4 features" in words(page)
    assert page.count('class="h"') == 5, "four features and the score"
    assert 'rel="prev" href="2026-10-01.html"' in page
    assert 'rel="next" href="2026-10-03.html"' in page


def test_the_page_says_what_of_a_fall_inputs_explain_and_marks_a_rule_beyond_chance(tmp_path: Path) -> None:
    store, config = world()
    split = {"explained_change": [-0.02, -0.05, 0.01], "rule_change": [-0.1, -0.14, -0.06]}
    store.found = [
        replace(r, detail=r.detail | split) if r.metric == "recall" and r.window == day(7) else r for r in store.found
    ]
    page = (build_site(store, config, now=NOW, out=tmp_path).parent / "fraud" / "2026-10-08.html").read_text()
    told = "of a change by -0.120: inputs explain -0.020 [-0.050, +0.010]; the rule -0.100 [-0.140, -0.060]"
    assert f"<b>{told}, beyond chance</b>" in page
    assert "what they leave to a changed rule" in page


def test_every_link_of_every_page_leads_somewhere(built: Path) -> None:
    pages = list(built.parent.rglob("*.html"))
    assert len(pages) == 1 + 1 + 8 + 4
    for page in pages:
        tags = Tags()
        tags.feed(page.read_text())
        local = [link for link in tags.links if not link.startswith("https://")]
        assert local
        for link in local:
            assert (page.parent / link.split("#")[0]).is_file(), f"{link} on {page.name}"


def test_pages_need_no_script_and_no_other_file(built: Path) -> None:
    for page in built.parent.rglob("*.html"):
        tags = Tags()
        tags.feed(page.read_text())
        assert not tags.tags & {"script", "link", "img", "iframe", "object", "form"}
        assert not tags.attributes & {"src", "onerror", "onclick", "onload"}
        assert 'lang="en"' in page.read_text()


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store, config = world()
        build_site(store, config, now=NOW, out=tmp_path / name)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_second_build_rewrites_only_what_changed(tmp_path: Path) -> None:
    store, config = world()
    build_site(store, config, now=NOW, out=tmp_path)
    for page in tmp_path.rglob("*.html"):
        os.utime(page, (1, 1))
    asked = store.asked
    build_site(store, config, now=NOW + timedelta(minutes=1), out=tmp_path)
    assert store.asked - asked == 2, "windows and results; no profile is read again"
    assert [p.name for p in tmp_path.rglob("*.html") if p.stat().st_mtime > 1] == ["index.html"]
    changed = next(r for r in store.found if r.window == day(0) and r.check is Check.SKEW)
    store.found[store.found.index(changed)] = replace(changed, value=0.5, verdict=Verdict.ALERT)
    build_site(store, config, now=NOW + timedelta(minutes=1), out=tmp_path)
    assert "0.500" not in (tmp_path / "fraud" / "2026-10-01.html").read_text()
    assert "50.0 %" in (tmp_path / "fraud" / "2026-10-01.html").read_text()


def test_pages_older_than_keep_go_and_foreign_files_stay(tmp_path: Path) -> None:
    store, config = world()
    build_site(store, config, now=NOW, out=tmp_path)
    (tmp_path / "fraud" / "2026-10-01.evidently.html").write_text("drill-down")
    (tmp_path / "fraud" / "mine.html").write_text("a person's own")
    kept = config.model_copy(update={"reports": config.reports.model_copy(update={"keep": timedelta(days=3)})})
    build_site(store, kept, now=NOW, out=tmp_path)
    names = {p.name for p in (tmp_path / "fraud").iterdir()}
    assert not names & {"2026-10-01.html", "2026-10-01.evidently.html", "2026-10-04.html"}
    assert names >= {"2026-10-07.html", "mine.html"}


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (RunState.NO_DATA, None, "no rows arrived in this window"),
        (RunState.INSUFFICIENT, "42 rows, min_rows is 50", "too few rows to say anything (42 rows, min_rows is 50)"),
        (RunState.ERROR, "table_missing", "this window could not be read (table_missing)"),
        (RunState.SKIPPED, "catchup_limit", "this window was skipped (catchup_limit)"),
    ],
)
def test_not_being_able_to_say_is_shown_as_an_answer(
    tmp_path: Path, state: RunState, reason: str | None, said: str
) -> None:
    store, config = world(shifted=0)
    store.rows[-1] = replace(store.rows[-1], state=state, reason=reason, n_rows=0)
    store.found = [r for r in store.found if r.window != day(7)]
    build_site(store, config, now=NOW, out=tmp_path)
    page = words((tmp_path / "fraud" / "2026-10-08.html").read_text())
    assert said in page
    assert said in words((tmp_path / "index.html").read_text())


@pytest.mark.parametrize("verdict", [Verdict.OK, Verdict.ALERT])
def test_a_window_without_rows_is_never_shown_as_ok(tmp_path: Path, verdict: Verdict) -> None:
    store, config = world(shifted=0)
    store.rows[-1] = replace(store.rows[-1], state=RunState.NO_DATA, n_rows=0)
    outage = next(r for r in store.found if r.check is Check.QUALITY and r.window == day(7))
    store.found = [r for r in store.found if r.window != day(7)]
    store.found.append(replace(outage, metric="label_outage", feature="__labels__", value=0.1, verdict=verdict))
    index = build_site(store, config, now=NOW, out=tmp_path)
    shown = "no_data" if verdict is Verdict.OK else "alert"
    model = (tmp_path / "fraud" / "index.html").read_text()
    assert f'<header class="say {shown}">' in model
    assert "no rows arrived" in words(re.search(r"<h1>.*?</h1>", model, re.DOTALL)[0])  # type: ignore[index]
    assert re.findall(r'<li><a class="(\w+)"', model)[-1] == shown
    overview = index.read_text()
    assert f'<section class="box {shown}">' in overview
    assert "All quiet" not in overview or verdict is Verdict.ALERT


def test_a_restated_window_says_what_was_believed_before(tmp_path: Path) -> None:
    store, config = world(shifted=0)
    first = next(r for r in store.found if r.window == day(3) and r.metric == "recall")
    store.found += [
        replace(r, revision=1, **({"value": 0.6, "verdict": Verdict.ALERT} if r is first else {}))
        for r in store.found
        if r.window == day(3)
    ]
    store.rows[3] = replace(store.rows[3], revision=1)
    build_site(store, config, now=NOW, out=tmp_path)
    page = words((tmp_path / "fraud" / "2026-10-04.html").read_text())
    assert "Restated (revision 1)" in page
    assert "Recall was believed to be 91.0 % (ok), and is now known to be 60.0 % (alert)" in page


def test_silence_is_proved_and_open_incidents_come_first(tmp_path: Path) -> None:
    quiet, config = world(shifted=0)
    index = words(build_site(quiet, config, now=NOW, out=tmp_path / "a").read_text())
    assert "All quiet: no open incident" in index
    assert "Checked 4 features of 1 model over 8 windows (32 comparisons" in index
    loud, config = world()
    index = words(build_site(loud, config, now=NOW, out=tmp_path / "b").read_text())
    assert index.index("1 open incident") < index.index("Models")
    late = words(build_site(quiet, config, now=NOW + 4 * DAY, out=tmp_path / "c").read_text())
    assert "the newest window ended 4 d ago" in late


def test_windows_after_now_do_not_exist(tmp_path: Path) -> None:
    store, config = world()
    build_site(store, config, now=START + 4 * DAY, out=tmp_path)
    assert not (tmp_path / "fraud" / "2026-10-05.html").exists()
    assert "2026-10-05" not in (tmp_path / "fraud" / "2026-10-04.html").read_text()


def test_hostile_names_and_values_stay_inert(tmp_path: Path) -> None:
    store, config = world(model=HOSTILE[0], numeric=HOSTILE, categories=["<b>DE</b>", '"><img onerror=1>', "{{7*7}}"])
    store.silenced = [Mute(HOSTILE[0], HOSTILE[1], None, HOSTILE[1], "\u202e{{7*7}}", START)]
    index = build_site(store, config, now=NOW, out=tmp_path / "site")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) == 1 + 1 + 8 + len(HOSTILE) + 1, "no two names share a page"
    assert not (tmp_path / "etc").exists()
    for page in pages:
        text = page.read_text()
        tags = Tags()
        tags.feed(text)
        assert not tags.tags & {"script", "img", "b>"}
        assert "onerror" not in tags.attributes
        assert not re.search("[\u202a-\u202e\u2066-\u2069\0]", text)
        assert len(page.name) < 100
    assert "{{7*7}}" in "".join(p.read_text() for p in pages)
    assert index.read_text().startswith("<!doctype html>")


def test_rare_categories_are_never_named(tmp_path: Path) -> None:
    store, config = world(categories=["DE", "FR"] * 200 + ["Jane Roe"])
    build_site(store, config, now=NOW, out=tmp_path)
    everything = "".join(p.read_text() for p in tmp_path.rglob("*.html"))
    assert "(other)" in everything
    assert "Jane Roe" not in everything


def test_segments_with_few_rows_are_counted_and_not_named(tmp_path: Path) -> None:
    store, config = world(shifted=0)
    drift = next(r for r in store.found if r.window == day(7) and r.feature == "age" and r.metric == "psi")
    store.found += [
        replace(drift, segment="country=DE", n_current=200, verdict=Verdict.ALERT, value=0.4),
        replace(drift, segment="country=Jane Roe", n_current=3, verdict=Verdict.CANNOT_TELL),
    ]
    build_site(store, config, now=NOW, out=tmp_path)
    everything = "".join(p.read_text() for p in tmp_path.rglob("*.html"))
    assert "country=DE" in everything
    assert "1 segment with too few rows to be named" in everything
    assert "Jane Roe" not in everything


def test_a_runbook_that_is_no_web_address_is_not_a_link(tmp_path: Path) -> None:
    store, _ = world()
    build_site(store, config_for(runbook="javascript:alert(1)"), now=NOW, out=tmp_path)
    page = (tmp_path / "fraud" / "2026-10-08.html").read_text()
    assert "Runbook: javascript:alert(1)" in page
    assert 'href="javascript' not in page


def test_evidently_is_linked_once_its_page_is_there(tmp_path: Path) -> None:
    store, config = world()
    build_site(store, config, now=NOW, out=tmp_path)
    page = tmp_path / "fraud" / "2026-10-08.html"
    assert "drill-down" not in page.read_text()
    (tmp_path / "fraud" / "2026-10-08.evidently.html").write_text("x")
    build_site(store, config, now=NOW, out=tmp_path)
    assert 'href="2026-10-08.evidently.html"' in page.read_text()


def test_twenty_five_features_weigh_about_a_hundred_kilobytes(tmp_path: Path) -> None:
    store, config = world(numeric=[f"num_{i:02}" for i in range(25)], windows=31, rows=200)
    build_site(store, config, now=START + 31 * DAY, out=tmp_path)
    assert (tmp_path / "fraud" / "2026-10-31.html").stat().st_size < 130_000


def test_an_empty_store_gives_an_honest_index(tmp_path: Path) -> None:
    index = words(build_site(FakeStore(), config_for(), now=NOW, out=tmp_path).read_text())
    assert "No window has been looked at yet." in index
    assert "All quiet" not in index


def test_a_baseline_that_was_replaced_costs_the_picture_and_not_the_page(tmp_path: Path) -> None:
    store, config = world()
    store.kept = [replace(p, baseline_id=99) for p in store.kept]
    build_site(store, config, now=NOW, out=tmp_path)
    page = (tmp_path / "fraud" / "2026-10-08.html").read_text()
    assert 'class="h"' not in page
    assert "1 of 4 features drifted" in page


def test_the_chart_is_a_png_of_the_worst_features(tmp_path: Path) -> None:
    store, config = world()
    png = chart_png(store, config, model="fraud", window=day(7))
    assert png is not None
    assert png.startswith(b"\x89PNG")
    assert png == chart_png(store, config, model="fraud", window=day(7))
    assert chart_png(store, config, model="fraud", window=day(1)) is None


# --- names and files -----------------------------------------------------------------------------


def test_names_are_safe_and_never_shared_even_where_case_is_ignored() -> None:
    names = [safe_name(name) for name in HOSTILE]
    assert len({name.lower() for name in names}) == len(HOSTILE)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_~-]{0,60}", name) for name in names)
    assert safe_name("fraud_v7") == "fraud_v7"


def test_windows_of_another_length_or_hour_have_a_page_of_their_own() -> None:
    hour = replace(day(0), end=START + timedelta(hours=1))
    late = replace(day(0), start=START + timedelta(hours=6), end=START + timedelta(hours=7))
    assert [window_name(w) for w in (day(0), hour, late)] == ["2026-10-01", "2026-10-01_1h", "2026-10-01T0600Z_1h"]
    assert window_page_path("../x", day(0)).count("/") == 1


@pytest.mark.parametrize("name", ["../x.html", "a/../../x.html", "/etc/x", "a\0.html", "a\\b.html"])
def test_nothing_is_written_outside_the_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReportError, match="not a page name"):
        write_page(tmp_path, name, "x")


def test_a_linked_folder_is_not_written_through_and_a_linked_page_is_replaced(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "m").symlink_to(elsewhere)
    with pytest.raises(ReportError, match="symbolic link"):
        write_page(root, "m/x.html", "x")
    (elsewhere / "target").write_text("keep")
    (root / "index.html").symlink_to(elsewhere / "target")
    write_page(root, "index.html", "new")
    assert (elsewhere / "target").read_text() == "keep"
    assert (root / "index.html").read_text() == "new"


def test_a_folder_that_is_a_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(ReportError, match=r"reports\.dir cannot be used"):
        build_site(FakeStore(), config_for(), now=NOW, out=tmp_path / "f")


def test_cleaning_keeps_letters_of_every_script() -> None:
    assert clean("größe 東京 שלום 👩‍👧") == "größe 東京 שלום 👩‍👧"
    assert clean("a\u202eb\0c") == "a\ufffdb\ufffdc"


def test_open_incidents_of_one_cause_share_a_card(tmp_path: Path) -> None:
    store, config = world()
    [first] = [each for each in store.incidents("fraud") if each.state is IncidentState.OPEN][:1]
    store.happened += [
        replace(
            first,
            id="inc_follows",
            check=Check.SCORE_DRIFT,
            cause=None,
            detail={"root": first.id},
            summary="the score drifted",
        ),
        replace(first, id="inc_alike", check=Check.PERFORMANCE, detail={}, summary="performance fell"),
        replace(first, id="inc_other", check=Check.SKEW, cause="concept_drift", detail={}, summary="skewed"),
    ]
    build_site(store, config, now=NOW, out=tmp_path)
    page = words((tmp_path / "index.html").read_text())
    n_open = len([each for each in store.incidents() if each.state is IncidentState.OPEN])
    assert f"{n_open} open incidents of {n_open - 2} causes" in page
    assert "With it: performance: performance fell (inc_alike); score drift: the score drifted (inc_follows)" in page
    assert "skewed" in page


def curves(window, *values: tuple[str, float | None, str], decides: str | None = None) -> list[Result]:
    """ROC-AUC of one window on several curves: ``(kind, value, verdict)``."""
    return [
        Result(
            "fraud", Check.PERFORMANCE, "roc_auc", window, value, Verdict(verdict), threshold=0.69, kind=kind,
            interval=None if value is None else (value - 0.02, value + 0.02), label_coverage=0.4,
            detail={"decides": kind == decides and kind != "estimated", "reference": 0.74}
            | ({"rule": "because"} if kind == decides else {}),
        )
        for kind, value, verdict in values
    ]  # fmt: skip


def test_performance_is_drawn_on_the_curve_that_decides() -> None:
    early = curves(day(0), ("realized", 0.9, "cannot_tell"), ("corrected", 0.6, "alert"), ("estimated", 0.74, "ok"))
    assert curve_shown([replace(r, detail=r.detail | {"decides": r.kind == "realized"}) for r in early]) is not None
    for decides in ("realized", "corrected", "estimated"):
        found = curves(
            day(0), ("realized", 0.9, "cannot_tell"), ("corrected", 0.6, "alert"), ("estimated", 0.74, "ok"),
            decides=decides,
        )  # fmt: skip
        shown = curve_shown(reversed(found))
        assert shown is not None
        assert shown.kind == decides
    shown = curve_shown(early)
    assert shown is not None
    assert shown.kind == "corrected", "an early sample is no fair one"
    no_more = curves(day(0), ("realized", 0.9, "cannot_tell"), ("corrected", None, "cannot_tell"))
    assert [r.kind for r in [curve_shown(no_more)] if r] == ["realized"]


def test_the_chart_falls_with_the_incident_and_its_curves_are_told_apart(tmp_path: Path) -> None:
    store, config = world(windows=8, shifted=0)
    store.found = [r for r in store.found if r.check is not Check.PERFORMANCE]
    for i in range(8):
        kind = "realized" if i < 4 else "corrected" if i < 6 else "estimated"
        values = (("realized", 0.55, "alert"), ("corrected", 0.56, "alert"), ("estimated", 0.74, "ok"))
        store.found += curves(day(i), *values, decides=kind)
    build_site(store, config, now=NOW, out=tmp_path)
    page = (tmp_path / "fraud" / "index.html").read_text()
    [chart] = [each for each in page.split('<span class="t">') if each.startswith("ROC-AUC")]
    assert [f'class="mk m-{kind}"' in chart for kind in ("realized", "corrected", "estimated")] == [True] * 3
    assert ["realized" in words(page), "corrected," in words(page), "estimated." in words(page)] == [True] * 3
    assert chart.count('class="cu cc"') == chart.count('class="cu ce"') == 1
    low, high = re.findall(r">(0\.\d+)</text>", chart)
    assert {low, high} == {"0.530", "0.760"}, "the axis reaches from the interval of the fall to that of the estimate"


def test_limits_of_a_change_are_drawn_around_what_they_are_a_change_of() -> None:
    made = Result("fraud", Check.SCORE_DRIFT, "decision_rate", day(0), 0.33, Verdict.OK, threshold=0.1)
    assert limits_of(replace(made, detail={"reference": 0.3})) == pytest.approx([0.2, 0.4])
    assert limits_of(made) == []
    rows = replace(made, check=Check.QUALITY, metric="n_rows", value=1900, threshold=0.8, detail={"usual": 2000})
    assert limits_of(rows) == pytest.approx([400])
    assert limits_of(replace(rows, metric="missing_rate", detail={"reference": 0.01})) == pytest.approx([0.81])
    assert limits_of(replace(rows, metric="constant")) == []
    assert limits_of(replace(made, metric="psi")) == [0.1]


def test_rows_are_charted_on_their_own_scale(tmp_path: Path) -> None:
    store, config = world(windows=8, shifted=0)
    store.found += [
        Result("fraud", Check.QUALITY, "n_rows", day(i), 4800.0, Verdict.OK, threshold=0.8, detail={"usual": 5000})
        for i in range(8)
    ]
    build_site(store, config, now=NOW, out=tmp_path)
    page = (tmp_path / "fraud" / "index.html").read_text()
    [chart] = [each for each in page.split('<span class="t">') if each.startswith("Rows")]
    assert re.findall(r">([^<]+)</text>", chart) == ["5,000", "1,000"]


def test_a_model_with_an_open_incident_is_not_green_on_a_quiet_day(tmp_path: Path) -> None:
    store, config = world(windows=8, shifted=0)
    store.happened = [incident("fraud", "amount", day(2), day(4))]
    build_site(store, config, now=NOW, out=tmp_path)
    head = re.search(r"<header.*?</header>", (tmp_path / "fraud" / "index.html").read_text(), re.DOTALL)
    assert head is not None
    assert 'class="say alert"' in head[0]
    assert "1 incident open since 3 Oct 2026; newest window ok: nothing unusual" in words(head[0])
    index = (tmp_path / "index.html").read_text()
    assert re.search(r'<section class="box alert"><h3><span class="b alert">', index)
    assert "newest window ok" in words(index)
    for page in (index, (tmp_path / "fraud" / "index.html").read_text()):
        assert "Why it is open: Last bad window: 5 Oct 2026." in words(page)


def test_the_curve_that_decides_comes_first_and_the_others_are_muted(tmp_path: Path) -> None:
    store, config = world(windows=8, shifted=0)
    store.found = [r for r in store.found if r.check is not Check.PERFORMANCE]
    values = (("realized", 0.9, "cannot_tell"), ("corrected", 0.6, "alert"), ("estimated", 0.74, "ok"))
    unasked = [
        replace(r, metric="precision", threshold=None, verdict=Verdict.OK if r.kind == "corrected" else r.verdict)
        for r in curves(day(7), *values, decides="corrected")
    ]
    store.found += [*unasked, *curves(day(7), *values, decides="corrected")]
    build_site(store, config, now=NOW, out=tmp_path)
    page = (tmp_path / "fraud" / "2026-10-08.html").read_text()
    table = page[page.index('aria-label="Performance"') :].split("</table>")[0]
    rows = table.split("<tr")[2:]
    told = [("beside" in row[:20], re.sub(r" +", " ", words(f"<tr{row}")).strip()) for row in rows]
    assert [muted for muted, _ in told] == [False, True, True] * 2
    assert told[0][1].startswith("▲ alert ROC-AUC 0.600"), "the metric that is worst, by the curve that decides"
    assert "corrected, decides" in told[0][1]
    assert told[3][1].startswith("no limit Precision 60.0 %"), "what nobody set a limit for is not said to be ok"
    assert "✓" not in told[3][1]


def test_a_tile_shows_the_number_that_made_its_verdict(tmp_path: Path) -> None:
    store, config = world(windows=8, shifted=0)
    store.found = [r for r in store.found if r.check is not Check.SCORE_DRIFT]
    psi = Result("fraud", Check.SCORE_DRIFT, "psi", day(7), 0.017, Verdict.OK, threshold=0.2)
    rate = replace(
        psi, metric="decision_rate", value=0.366, verdict=Verdict.WARN, threshold=0.05, detail={"reference": 0.316}
    )
    before = replace(psi, value=0.31, verdict=Verdict.ALERT, detail={"against": "previous"})

    def tile(*found: Result) -> str:
        store.found = [r for r in store.found if r.check is not Check.SCORE_DRIFT] + list(found)
        build_site(store, config, now=NOW, out=tmp_path)
        page = (tmp_path / "fraud" / "2026-10-08.html").read_text()
        return words(re.search(r'<span class="t">Score</span>.*?</div>', page, re.DOTALL)[0])  # type: ignore[index]

    assert "✓ 0.017 score PSI, limit 0.200" in tile(psi)
    assert "◆ 36.6 % positive decisions, limit 36.6 %" in tile(psi, rate)
    assert "▲ 0.310 score PSI against the window before, limit 0.200" in tile(psi, rate, before)
    assert "▲ 0.500 score PSI [channel=a], limit 0.200" in tile(
        psi, replace(psi, segment="channel=a", value=0.5, verdict=Verdict.ALERT)
    )


def test_an_estimate_that_nothing_is_wrong_is_not_shown_as_ok(tmp_path: Path) -> None:
    store, config = world(windows=8, shifted=0)
    store.found = [r for r in store.found if r.check is not Check.PERFORMANCE]
    store.found += [replace(r, verdict=Verdict.OK) for r in curves(day(7), ("estimated", 0.74, "ok"))]
    build_site(store, config, now=NOW, out=tmp_path)
    page = (tmp_path / "fraud" / "2026-10-08.html").read_text()
    tile = words(re.search(r'<span class="t">Performance</span>.*?</div>', page, re.DOTALL)[0])  # type: ignore[index]
    assert "estimated ROC-AUC" in tile
    assert "blind to a changed rule" in tile
    assert "✓" not in tile
    assert "blind to a rule that has changed" in words(page)


def test_an_early_sample_of_a_segment_is_said_to_be_no_fair_one(tmp_path: Path) -> None:
    store, config = world(windows=8, shifted=0)
    store.found = [r for r in store.found if r.check is not Check.PERFORMANCE]
    early = curves(day(7), ("realized", 0.9, "cannot_tell"), ("corrected", None, "cannot_tell"))
    store.found += [
        replace(r, segment="channel=a", n_current=500, detail=r.detail | {"reason": "not_identifiable"}) for r in early
    ]
    build_site(store, config, now=NOW, out=tmp_path)
    text = words((tmp_path / "fraud" / "2026-10-08.html").read_text())
    assert "on early labels, not a fair sample: ROC-AUC 0.900" in text
    assert "no corrected value: of one class hardly any labels can have landed" in text
    assert "not identifiable" not in text


def test_a_window_without_rows_is_not_green_whatever_its_labels_say(tmp_path: Path) -> None:
    store, config = world(windows=8, shifted=0)
    store.rows = [replace(r, state=RunState.NO_DATA, n_rows=0) if r.window == day(7) else r for r in store.rows]
    store.found = [r for r in store.found if r.window != day(7)]
    silent = Result("fraud", Check.QUALITY, "n_rows", day(7), 0.0, Verdict.NO_DATA)
    late = replace(silent, metric="label_outage", feature="__labels__", value=0.1, verdict=Verdict.OK)
    store.found += [silent, late]
    build_site(store, config, now=NOW, out=tmp_path)
    page = (tmp_path / "fraud" / "index.html").read_text()
    assert 'class="say no_data"' in page
    assert "no rows arrived in this window" in words(page)
    store.found.append(replace(late, value=9.0, verdict=Verdict.ALERT))
    build_site(store, config, now=NOW, out=tmp_path)
    assert 'class="say alert"' in (tmp_path / "fraud" / "index.html").read_text()


def test_of_a_segment_the_metric_with_a_limit_is_told_before_one_without(tmp_path: Path) -> None:
    store, config = world(windows=8, shifted=0)
    store.found = [r for r in store.found if r.check is not Check.PERFORMANCE]
    [limited] = curves(day(7), ("realized", 0.6, "cannot_tell"), decides="realized")
    limited = replace(limited, segment="channel=a", n_current=500, label_coverage=1.0)
    unasked = replace(limited, metric="precision", value=0.31, threshold=None, verdict=Verdict.OK)

    def told(*found: Result) -> str:
        store.found = [r for r in store.found if r.check is not Check.PERFORMANCE] + list(found)
        build_site(store, config, now=NOW, out=tmp_path)
        page = (tmp_path / "fraud" / "2026-10-08.html").read_text()
        return words(page[page.index('aria-label="Segments"') :].split("</table>")[0])

    assert "ROC-AUC 0.600" in told(unasked, limited)
    assert re.search(r"Precision 31\.0 % \(.*, no limit", told(unasked))
