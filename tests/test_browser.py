"""What a person sees of a study in MLflow's pages, and whether the links on them lead there."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from browser import PATIENCE_MS, browser_program, opened_page, served_ui

pytest.importorskip("playwright.sync_api", reason="no browser without playwright")
from playwright.sync_api import expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

MODEL = "waves-net"
NAMES = [
    f"{config:02d}-r{r} ResNet {layout}"
    for config, layout in enumerate(("cna", "cac"))
    for r in (0, 1)
]


@dataclass
class Site:
    """A study's pages in a browser, and its runs."""

    page: object
    address: str
    experiment_id: str
    parent: object
    children: list

    def open(self, place):
        self.page.goto(f"{self.address}/#/{place}", wait_until="domcontentloaded")

    def sees(self, text, *, exact=True):
        expect(self.page.get_by_text(text, exact=exact).first).to_be_visible(timeout=PATIENCE_MS)

    def open_run(self, run):
        self.open(f"experiments/{self.experiment_id}/runs/{run.info.run_id}")

    def follow(self, link):
        """Click a link in the parent's description."""
        self.open_run(self.parent)
        with self.page.expect_popup() as opened:  # descriptions open their links in a new tab
            self.page.get_by_role("link", name=link).click()
        self.page = opened.value
        expect(self.page).to_have_url(re.compile("compareRunsMode=CHART"), timeout=PATIENCE_MS)

    def sees_lines(self, metric, at_least):
        """Wait for a metric's chart with so many lines in it."""
        card = self.cards.filter(has=self.page.get_by_text(metric, exact=True))
        lines = card.first.locator("path.js-line")
        expect(lines.nth(at_least - 1)).to_be_attached(timeout=PATIENCE_MS)

    @property
    def cards(self):
        return self.page.get_by_test_id("experiment-view-compare-runs-card")


@pytest.fixture(scope="module")
def site(exhibit, tmp_path_factory):
    """Register a model of two configurations with two repetitions, and open a browser."""
    browser_program()  # before anything is trained
    with exhibit("small") as work:
        parent, children = work.runs("with 1")
        model = children[0].outputs.model_outputs[0].model_id
        work.client.create_registered_model(MODEL)
        work.client.create_model_version(
            MODEL, f"models:/{model}", run_id=children[0].info.run_id, model_id=model
        )
        work.client.set_registered_model_alias(MODEL, "champion", "1")
        with (
            served_ui(work.client.tracking_uri, tmp_path_factory.mktemp("ui")) as address,
            opened_page() as page,
        ):
            yield Site(page, address, parent.info.experiment_id, parent, children)


def test_the_parents_page_tells_state_best_and_data(site):
    site.open_run(site.parent)
    site.sees("4 of 4 runs finished", exact=False)
    site.sees("Best so far", exact=False)
    digests = [one.dataset.digest for one in site.parent.inputs.dataset_inputs]
    site.sees(re.compile("|".join(digests)))


def test_the_first_link_shows_all_runs_with_charts(site):
    site.follow("All runs of this study with charts")
    for name in NAMES:
        site.sees(name)
    expect(site.page.get_by_role("link", name="small", exact=True)).to_have_count(0)
    site.sees_lines("loss", 4)


def test_the_second_link_averages_repetitions(site):
    site.follow("Averages over repetitions")
    for group in ("00 ResNet cna", "01 ResNet cac"):
        site.sees(f"Group: {group}")
    for name in NAMES:
        site.sees(name)
    site.sees_lines("loss", 2)
    expect(site.cards).to_have_count(2, timeout=PATIENCE_MS)  # the loss and what decides


def test_a_childs_page_links_its_parent_models_and_data(site):
    child = site.children[0]
    site.open_run(child)
    site.sees(child.info.run_name)
    expect(site.page.get_by_role("link", name="small", exact=True)).to_be_visible()
    site.sees("Logged models (2)")
    for name in ("best", "last"):
        expect(site.page.get_by_role("link", name=name, exact=True).first).to_be_visible()
    digests = [one.dataset.digest for one in child.inputs.dataset_inputs]
    site.sees(re.compile("|".join(digests)))
    values = [value for name, value in child.data.params.items()]
    assert max(map(len, values)) <= 100


def test_a_registered_models_page_leads_to_the_run(site):
    site.open(f"models/{MODEL}")
    site.sees("champion", exact=False)
    site.open(f"models/{MODEL}/versions/1")
    site.sees(site.children[0].info.run_name, exact=False)
