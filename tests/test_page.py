"""The page at ``/`` in a real Chromium: the real HTTP layer, and behind it a model that counts words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from endpoints import endpoint_app, served
from page_endpoint import ServicesThatCountWords, plain
from playwright.sync_api import Locator, Page, expect

from labelstream.actors.endpoint.tokens import add_token, remove_token
from labelstream.schemas.errors import ModelUnavailable
from labelstream.schemas.polarization import PRESETS, Polarization, polarize
from labelstream.schemas.scale import LabelScale

if TYPE_CHECKING:
    from browser import OpenPage, WatchedPage

pytest_plugins = ["browser"]

TITLES = ["USB-C cable, braided", "Mouse pad with stitched edges", "Wireless mouse, silent", "Mouse, wired"]


@pytest.fixture
def services() -> ServicesThatCountWords:
    return ServicesThatCountWords()


@pytest.fixture
def url(services: ServicesThatCountWords) -> Iterator[str]:
    with served(endpoint_app(services)) as url:
        yield f"{url}/"


def label(page: Page, query: str, lines: list[str]) -> None:
    """Ask, and wait until the last answer is shown."""
    page.get_by_label("Query").fill(query)
    paste(page, "\n".join(lines))
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("labelled,")


def paste(page: Page, text: str) -> None:
    """All at once: the browser takes long to type a thousand lines."""
    put = "(products, text) => { products.value = text; products.dispatchEvent(new Event('input')); }"
    page.get_by_label("Products, one a line").evaluate(put, text)


def texts(page: Page, selector: str) -> list[str]:
    # What is not painted yet, because it has just been put in, has no inner text (content-visibility: auto).
    return page.locator(selector).all_text_contents()


def ranked(page: Page) -> list[str]:
    return texts(page, "#after .title")


def focused(page: Page) -> Locator:
    return page.locator(":focus")


def shown_scores(page: Page, kind: str) -> list[float]:
    return [float(text.split()[-1]) for text in texts(page, f".rows .{kind}")]


def test_everything_works_with_the_keyboard_alone(open_page: OpenPage, url: str) -> None:
    page = open_page(url).page
    expect(page.get_by_text("The endpoint itself polarizes")).to_be_visible()
    keys = page.keyboard
    keys.press("Tab")
    expect(focused(page)).to_have_text("Skip to results")
    for _ in range(4):
        keys.press("Tab")
    expect(focused(page)).to_have_id("query")
    keys.type("wireless mouse")
    keys.press("Tab")
    expect(focused(page)).to_have_value("product")
    keys.press("Tab")
    expect(focused(page)).to_have_id("products")
    for title in TITLES:
        keys.type(title)
        keys.press("Enter")
    keys.press("Control+Enter")
    expect(page.locator("#after li")).to_have_count(len(TITLES))
    expect(focused(page)).to_have_id("products")
    for expected in ("label", "example"):
        keys.press("Tab")
        expect(focused(page)).to_have_id(expected)
    assert focused(page).evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    keys.press("Tab")
    expect(focused(page)).to_have_value("balanced")
    keys.press("ArrowRight")
    expect(focused(page)).to_have_value("strict")
    expect(page.get_by_label("β, as a number")).to_have_value("0.65")
    keys.press("Tab")
    keys.press("ArrowRight")
    expect(page.get_by_label("α, as a number")).to_have_value("10.5")
    expect(page.get_by_label("custom")).to_be_checked()


@pytest.mark.parametrize("preset", ["none", *PRESETS])
def test_it_begins_with_the_polarization_of_the_endpoint(
    open_page: OpenPage, services: ServicesThatCountWords, url: str, preset: str
) -> None:
    services.polarization = Polarization.model_validate({"preset": preset})
    page = open_page(url).page
    expect(page.get_by_text("The endpoint itself")).to_be_visible()
    expect(page.get_by_label(preset, exact=True)).to_be_checked()


def test_the_sliders_give_the_numbers_of_the_schemas_without_asking(
    open_page: OpenPage, services: ServicesThatCountWords, url: str
) -> None:
    page = open_page(url).page
    label(page, "wireless mouse", TITLES)
    asked = len(services.asked) + len(services.ranked)
    scores = np.array([services.judge("wireless mouse", title).expected_score for title in TITLES])
    assert shown_scores(page, "expected") == pytest.approx(scores, abs=5.1e-4)
    for alpha, beta in [(3.5, 0.2), (25, 0.81), (1000, 0.5), (0.001, 1)]:
        page.get_by_label("α, as a number").fill(str(alpha))
        page.get_by_label("β, as a number").fill(str(beta))
        wanted = polarize(scores, alpha, beta)
        expect(page.locator(".rows .polarized").last).to_have_text(f"polarized {wanted[-1]:.3f}")
        assert shown_scores(page, "polarized") == pytest.approx(wanted, abs=5.1e-4)
        heights = page.locator("#curve circle").evaluate_all("dots => dots.map(dot => Number(dot.getAttribute('cy')))")
        assert heights[wanted.argmax()] == min(heights)
    page.get_by_label("none", exact=True).check()
    expect(page.locator(".rows .polarized").last).to_have_text(f"polarized {scores[-1]:.3f}")
    assert len(services.asked) + len(services.ranked) == asked


def test_its_formula_is_the_one_of_the_schemas(open_page: OpenPage, url: str) -> None:
    page = open_page(url).page
    random = np.random.default_rng(7)
    cases = np.column_stack([random.random(500), random.uniform(1e-3, 1000, 500), random.random(500)])
    polarized = page.evaluate(
        """async (cases) => {
          const { polarize } = await import("/page/polarization.js");
          return cases.map(([score, alpha, beta]) => polarize(score, { alpha, beta }));
        }""",
        cases.tolist(),
    )
    wanted = [float(polarize(np.array(score), alpha, beta)) for score, alpha, beta in cases]
    assert polarized == pytest.approx(wanted, abs=1e-12)


def test_distributions_are_bars_and_texts(open_page: OpenPage, services: ServicesThatCountWords, url: str) -> None:
    services.scale = LabelScale(levels=("bad", "poor", "fair", "good", "best"))
    page = open_page(url).page
    label(page, "wireless mouse", TITLES[:1])
    assert texts(page, "#legend li") == ["bad 0", "poor 0.25", "fair 0.5", "good 0.75", "best 1"]
    probabilities = services.judge("wireless mouse", TITLES[0]).probabilities
    widths = page.locator(".bar > *").evaluate_all("parts => parts.map(part => part.getBoundingClientRect().width)")
    assert np.array(widths) / sum(widths) == pytest.approx(probabilities, abs=0.01)
    names = [text.split()[0] for text in texts(page, ".shares li")]
    shares = [float(text.split()[1].strip("<%")) / 100 for text in texts(page, ".shares li")]
    assert names == list(services.scale.levels)
    assert shares == pytest.approx(probabilities, abs=0.01)


def test_what_was_judged_before_says_so(open_page: OpenPage, url: str) -> None:
    page = open_page(url).page
    label(page, "wireless mouse", TITLES[:2])
    assert texts(page, ".rows .row > .small") == ["new", "new"]
    label(page, "wireless mouse", TITLES[:3])
    expect(page.locator(".rows .row > .small")).to_have_text(["cached", "cached", "new"])


def test_ranking_before_and_after(open_page: OpenPage, services: ServicesThatCountWords, url: str) -> None:
    page = open_page(url).page
    label(page, "wireless mouse", TITLES)
    assert texts(page, "#before .title") == TITLES
    scores = [services.judge("wireless mouse", title).expected_score for title in TITLES]
    assert ranked(page) == [TITLES[index] for index in sorted(range(len(TITLES)), key=lambda index: -scores[index])]
    expect(page.locator("#after li").first).to_contain_text("up 2")
    page.get_by_label("cross-encoder").check()
    expect(page.get_by_text("Scores of cross-encoder v1.")).to_be_visible()
    assert ranked(page) == sorted(TITLES, key=len)
    expect(page.locator("#after .moved")).to_have_text(["▲up 3", "▼down 1", "=unmoved", "▼down 2"])
    assert services.ranked[-1][:2] == ("cross-encoder", "wireless mouse")
    expect(page.get_by_label("ranker", exact=True)).to_be_disabled()


def test_ids_and_json_lines_are_asked_as_such_and_errors_stand_beside_them(
    open_page: OpenPage, services: ServicesThatCountWords, url: str
) -> None:
    page = open_page(url).page
    described = '{"title": "Wireless mouse", "brand": "Norvik", "wheel": 2}'
    lines = [described, '{"product_id": "P2"}', "{broken", '{"brand": "x"}']
    label(page, "mouse", lines)
    asked = [plain(pair.product) for pair in services.asked[0]]
    assert asked == [{"title": "Wireless mouse", "brand": "Norvik"}, "P2"]
    expect(page.locator(".fault")).to_have_text(["Error: This line is not JSON.", "Error: title: Field required."])
    assert ranked(page)[2:] == lines[2:]
    page.get_by_label("Product id").check()
    label(page, "mouse", ["P1", "P9"])
    expect(page.locator(".fault")).to_have_text("Error: there is no product P9.")
    page.get_by_label("labeller").check()
    page.get_by_label("cross-encoder").check()
    expect(page.get_by_text("Scores of cross-encoder")).to_be_visible()
    assert services.ranked[-1] == ("cross-encoder", "mouse", ["P1"])


def test_a_refused_request_is_one_alert(open_page: OpenPage, services: ServicesThatCountWords, url: str) -> None:
    services.failure = ModelUnavailable("the labeller is restarting")
    page = open_page(url).page
    label(page, "mouse", TITLES)
    expect(page.get_by_role("alert")).to_contain_text("the labeller is restarting. Try again in 1 s. Request ")
    expect(page.locator(".fault")).to_have_text(["Error: Not labelled."] * len(TITLES))
    services.failure = None
    page.keyboard.press("Control+Enter")
    expect(page.locator("#after li")).to_have_count(len(TITLES))
    expect(page.get_by_role("alert")).to_be_hidden()


def test_an_endpoint_that_is_gone_is_said(open_page: OpenPage, services: ServicesThatCountWords) -> None:
    with served(endpoint_app(services)) as url:
        watched = open_page(f"{url}/")
        expect(watched.page.get_by_text("The endpoint itself")).to_be_visible()
    label(watched.page, "mouse", TITLES)
    expect(watched.page.get_by_role("alert")).to_have_text("The endpoint cannot be reached.")
    assert all("ERR_CONNECTION_REFUSED" in error for error in watched.errors)
    watched.errors.clear()


def test_what_is_missing_is_asked_for(open_page: OpenPage, services: ServicesThatCountWords, url: str) -> None:
    page = open_page(url).page
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_have_text("Type a query.")
    expect(focused(page)).to_have_id("query")
    page.keyboard.type("mouse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Paste products, one a line.")
    expect(focused(page)).to_have_id("products")
    paste(page, "x\n" * 1001)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_have_text("1,001 products are too many: at most 1000.")
    assert services.asked == []


def test_a_token_is_asked_for_and_kept_in_the_tab_alone(
    open_page: OpenPage, services: ServicesThatCountWords, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    token = add_token(file, "search-team")
    with served(endpoint_app(services, tokens_file=file)) as url:
        page = open_page(f"{url}/").page
        alert = page.get_by_role("alert")
        expect(alert).to_have_text("This endpoint needs a token: type yours in the field Token.")
        for wrong, said in [("nö", "no special letters"), ("no", "this token is not known")]:
            expect(focused(page)).to_have_id("token")
            page.keyboard.press("Control+a")
            page.keyboard.type(wrong)
            page.keyboard.press("Enter")
            expect(alert).to_contain_text(said)
        page.keyboard.press("Control+a")
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        expect(page.get_by_text("The endpoint itself")).to_be_visible()
        expect(alert).to_be_hidden()
        expect(page.get_by_label("Token", exact=True)).to_have_attribute("type", "password")
        label(page, "mouse", TITLES)
        kept = page.evaluate("[Object.values({...sessionStorage}), {...localStorage}, document.cookie, location.href]")
        assert kept == [[token], {}, "", f"{url}/"]
        add_token(file, "another")
        remove_token(file, "search-team")
        page.keyboard.press("Control+Enter")
        expect(focused(page)).to_have_id("token")
        expect(alert).to_contain_text("this token is not known")


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</li><script>alert(1)</script>",
    "javascript:alert(1)//\u202e{{7*7}}",
    json.dumps({"title": "<svg onload=alert(1)>", "brand": "<b>bold</b>", "__proto__": {"polluted": 1}}),
    "{<img src=x onerror=alert(1)>",
]


def test_text_of_others_is_shown_and_never_run(open_page: OpenPage, services: ServicesThatCountWords, url: str) -> None:
    services.version = "<img src=x onerror=alert(1)>"
    watched = open_page(url)
    page = watched.page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    label(page, "<img src=x onerror=alert(1)> mouse", HOSTILE)
    page.get_by_label("cross-encoder").check()
    expect(page.get_by_text("Scores of cross-encoder <img src=x")).to_be_visible()
    titles = [*HOSTILE[:3], "<svg onload=alert(1)>", HOSTILE[4]]
    expect(page.locator(".rows .title")).to_have_text(titles)
    page.get_by_label("Product id").check()
    label(page, "mouse", HOSTILE)
    expect(page.locator(".fault").first).to_have_text(f"Error: there is no product {HOSTILE[0]}.")
    assert page.locator("img, main script, b b").count() == 0
    assert dialogs == []
    assert page.evaluate("({}).polluted") is None


def test_the_browser_itself_refuses_markup_and_what_is_foreign(open_page: OpenPage, url: str) -> None:
    watched = open_page(url)
    watched.page.evaluate(
        """async () => {
          window.refused = [];
          document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
          const tries = [
            () => { document.body.innerHTML = "<p>x"; },
            () => fetch("http://127.0.0.2:9/"),
            () => import("http://127.0.0.2:9/x.js"),
          ];
          for (const attempt of tries) {
            try { await attempt(); refused.push("done"); } catch { /* and the event says by which rule */ }
          }
        }"""
    )
    watched.page.wait_for_function("refused.length >= 3")
    assert watched.page.evaluate("refused") == ["require-trusted-types-for", "connect-src", "script-src-elem"]
    watched.errors.clear()  # the browser's own words about it
    watched.origins.discard("http://127.0.0.2:9")


SIZES = [(1280, 900), (360, 800)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_light_and_dark_wide_and_narrow(
    open_page: OpenPage, url: str, scheme: str, size: tuple[int, int]
) -> None:
    width, height = size
    watched = open_page(url, viewport={"width": width, "height": height}, color_scheme=scheme)
    page = watched.page
    expect(page.get_by_text("The endpoint itself")).to_be_visible()
    page.get_by_role("button", name="Example").click()
    label(page, "wireless mouse", [*TITLES, "{broken", "w" * 300, '{"title": "mouse", "brand": "' + "b" * 300 + '"}'])
    page.evaluate("document.getElementById('alert').textContent = 'x'.repeat(300)")
    page.locator("#before li").first.hover()
    assert watched.low_contrast() == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(int(part) for part in paper[4:-1].split(",")) < 64) is (scheme == "dark")


def test_a_thousand_lines_stay_usable(open_page: OpenPage, services: ServicesThatCountWords, url: str) -> None:
    page = open_page(url).page
    label(page, "wireless mouse", [f"{TITLES[index % 4]} {index}" for index in range(1000)])
    assert page.locator(".rows .row").count() == page.locator("#after li").count() == 1000
    assert max(len(pairs) for pairs in services.asked) == 32
    page.get_by_label("strict").check()
    score = services.judge("wireless mouse", f"{TITLES[3]} 999").expected_score
    wanted = float(polarize(np.array(score), *PRESETS["strict"]))
    expect(page.locator(".rows .polarized").last).to_have_text(f"polarized {wanted:.3f}")


def test_it_can_be_stopped(open_page: OpenPage, services: ServicesThatCountWords, url: str) -> None:
    page = open_page(url).page
    services.holds = True
    page.get_by_label("Query").fill("mouse")
    page.get_by_label("Products, one a line").fill("{broken\nmouse")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Labelling: 1 of 2")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    services.holds = False
    expect(page.locator(".fault")).to_have_text(["Error: This line is not JSON.", "Error: Not labelled."])
    expect(focused(page)).to_have_id("label")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_the_example_is_filled_in(open_page: OpenPage, url: str) -> None:
    watched: WatchedPage = open_page(url)
    watched.page.get_by_role("button", name="Example").click()
    expect(watched.page.get_by_text("8 of 1000")).to_be_visible()
    watched.page.keyboard.press("Enter")
    expect(watched.page.locator("#after li")).to_have_count(8)
    assert texts(watched.page, ".fault") == []
