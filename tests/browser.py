"""A headless browser on the pages of MLflow."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers import MlflowServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

VARIABLE = "ECG_MLFLOW_TEST_BROWSER"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: No sandbox: root, as which containers run, has none. The rest keeps it from calling anyone.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Milliseconds to wait for something to appear: the pages are large, and machines busy.
PATIENCE_MS = 200_000


def browser_program() -> str:
    """Find a Chromium, or skip the test."""
    named = os.environ.get(VARIABLE)
    found = named or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None or not Path(found).is_file():
        pytest.skip(
            f"no browser: {named or ', '.join(PROGRAMS)} not found; name a Chromium in {VARIABLE}"
        )
    return found


@contextmanager
def opened_page() -> Iterator[Page]:
    """Open an empty page."""
    program = browser_program()
    api = pytest.importorskip("playwright.sync_api", reason="no browser without playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        try:
            context = browser.new_context(viewport={"width": 1500, "height": 950})
            context.set_default_timeout(PATIENCE_MS)
            # MLflow's assistant would open by itself, over what is to be looked at.
            context.add_init_script(
                "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
            )
            yield context.new_page()
        finally:
            browser.close()


class MlflowUi(MlflowServer):
    """``mlflow ui`` on a store whose artifacts are files of this machine."""

    def __init__(self, store_uri: str, folder: Path) -> None:
        super().__init__(store_uri, folder)
        port = self.uri.rpartition(":")[2]
        self._command = [
            *(sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store_uri),
            *("--host", "127.0.0.1", "--port", port, "--workers", "1"),
        ]


@contextmanager
def served_ui(store_uri: str, folder: Path) -> Iterator[str]:
    """Serve MLflow's pages; give their address."""
    with MlflowUi(store_uri, folder).running() as ui:
        yield ui.uri
