"""The pages in a real Chromium: no script, no request, nothing cut off on a phone, legible in the dark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from monitor.reports.site import build_site
from tests.reports_world import DAY, START, world
from tests.test_reports_site import HOSTILE

pytestmark = pytest.mark.browser
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true })"
CHROMIUM = "/usr/bin/chromium"
QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not os.access(CHROMIUM, os.X_OK):
        pytest.skip("no Chromium at /usr/bin/chromium")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET.split(), "--no-first-run"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store, config = world(model=HOSTILE[0], numeric=HOSTILE, windows=32)
    return build_site(
        store, config, now=START + 32 * DAY + timedelta(hours=1), out=tmp_path_factory.mktemp("site")
    ).parent


def pages(site: Path) -> list[Path]:
    inner = sorted(p for p in site.rglob("*.html") if p.parent != site)
    windows = [p for p in inner if p.name.startswith("2026")]
    return [site / "index.html", windows[-1], *[p for p in inner if not p.name.startswith("2026")][:4]]


@pytest.mark.parametrize(("width", "scheme", "media"), [
    (1120, "light", "screen"), (390, "light", "screen"), (1120, "dark", "screen"), (800, "light", "print"),
])  # fmt: skip
def test_pages_fit_and_ask_for_nothing(browser: Any, site: Path, width: int, scheme: str, media: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.emulate_media(media=media, color_scheme=scheme)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: said.append(message.text))
    for path in pages(site):
        page.goto(path.as_uri())
        page.evaluate(OPEN)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
        assert page.evaluate("document.scripts.length + document.images.length") == 0
    assert all(url.startswith("file:") for url in asked)
    assert said == []
    context.close()


CONTRAST = """() => {
  const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => { x /= 255;
    return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4 }); return .2126*v[0] + .7152*v[1] + .0722*v[2] };
  const back = e => { while (e) { const b = getComputedStyle(e).backgroundColor;
    if (b !== 'rgba(0, 0, 0, 0)') return b; e = e.parentElement } return 'rgb(255, 255, 255)' };
  const low = new Set();
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const a = lum(getComputedStyle(e).color), b = lum(back(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) low.add(e.tagName + '.' + e.className + ' ' + ratio.toFixed(2)) }
  return [...low] }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(browser: Any, site: Path, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    for path in pages(site)[:3]:
        page.goto(path.as_uri())
        page.evaluate(OPEN)
        assert page.evaluate(CONTRAST) == []
    page.close()
