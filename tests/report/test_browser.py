"""The report in a real browser: no error, sorting, filtering, enlarging, no overflow, no script of others."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDTHS = (400, 1000, 1600)


def program(*names: str) -> str:
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    pytest.skip(f"{names[0]} is not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=program("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def visit(browser: Chrome, page: Path, *, width: int = 1000) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.get(page.as_uri())


def run(browser: Chrome, code: str, *values: Any) -> Any:
    return browser.execute_script(code, *values)


def column(browser: Chrome, anchor: str, header: str) -> list[str]:
    """Text of the shown cells of one column."""
    code = """
      const table = document.querySelector(`#${arguments[0]} table`);
      const at = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent === arguments[1]);
      return [...table.tBodies[0].rows].filter((r) => !r.hidden).map((r) => r.cells[at].textContent);
    """
    return list(run(browser, code, anchor, header))


def press(browser: Chrome, anchor: str, header: str) -> str:
    """Press a header's button by keyboard; return the sorting that it announces."""
    from selenium.webdriver.common.keys import Keys

    code = "return [...document.querySelectorAll(`#${arguments[0]} th button`)].find((b) => b.textContent === arguments[1])"
    button = run(browser, code, anchor, header)
    button.send_keys(Keys.ENTER)
    return str(run(browser, "return arguments[0].closest('th').getAttribute('aria-sort')", button))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_nothing_is_logged(browser: Chrome, page: Path, width: int) -> None:
    visit(browser, page, width=width)
    assert run(browser, "return document.documentElement.scrollWidth") <= width
    broken = run(
        browser,
        "return [...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.alt)",
    )
    assert broken == []
    wide = run(
        browser,
        "return [...document.querySelectorAll('main > section > *, figure, .scroll')]"
        ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))",
    )
    assert wide == []
    assert browser.get_log("browser") == []


def test_sections_are_reached_from_the_navigation(browser: Chrome, page: Path) -> None:
    visit(browser, page)
    targets = run(
        browser,
        "return [...document.querySelectorAll('nav a')].map((a) => document.querySelector(a.hash) !== null)",
    )
    assert len(targets) == 9
    assert all(targets)


def test_numbers_sort_as_numbers_both_ways(browser: Chrome, page: Path) -> None:
    visit(browser, page)
    code = """
      const table = document.querySelector('#abundance-table table');
      const at = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent === arguments[0]);
      return [...table.tBodies[0].rows].map((r) => r.cells[at].dataset.v === undefined ? null : Number(r.cells[at].dataset.v));
    """
    for expected, flip in (("ascending", 1), ("descending", -1)):
        assert press(browser, "abundance-table", "fold change") == expected
        values = run(browser, code, "fold change")
        numbers = [flip * value for value in values if value is not None]
        assert numbers == sorted(numbers)
        assert None in values
        assert values[len(numbers) :] == [None] * (len(values) - len(numbers))


def test_text_sorts_naturally(browser: Chrome, page: Path) -> None:
    visit(browser, page)
    assert press(browser, "clusters-table", "cluster") == "ascending"
    names = [int(name) for name in column(browser, "clusters-table", "cluster")]
    assert names == sorted(names)
    assert len(names) > 10


def test_filters_combine(browser: Chrome, page: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    visit(browser, page)
    section = browser.find_element(By.ID, "abundance-table")
    everything = len(column(browser, "abundance-table", "population"))
    section.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("treg d7")
    shown = column(browser, "abundance-table", "population")
    assert 0 < len(shown) < everything
    assert set(shown) == {"effector Treg", "naive Treg"}
    labels = {
        label.text.split("\n")[0]: label
        for label in section.find_elements(By.CSS_SELECTOR, ".tools label")
    }
    menu = next(label for name, label in labels.items() if name.startswith("compartment"))
    Select(menu.find_element(By.TAG_NAME, "select")).select_by_visible_text("PB")
    assert set(column(browser, "abundance-table", "compartment")) == {"PB"}
    box = next(label for name, label in labels.items() if name.startswith("FDR"))
    box.find_element(By.TAG_NAME, "input").click()
    assert column(browser, "abundance-table", "population") == ["effector Treg"]
    said = section.find_element(By.TAG_NAME, "output").text
    assert said == f"1 of {everything} rows"


def test_figures_enlarge_and_escape_closes(browser: Chrome, page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    visit(browser, page)
    button = browser.find_element(By.CSS_SELECTOR, "#umap-phenotype button")
    small = run(browser, "return arguments[0].querySelector('img').clientWidth", button)
    button.send_keys(Keys.ENTER)
    dialog = browser.find_element(By.ID, "enlarged")
    assert dialog.get_attribute("open") is not None
    assert run(browser, "return document.querySelector('#enlarged img').clientWidth") > small
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert dialog.get_attribute("open") is None
    assert run(browser, "return document.activeElement === arguments[0]", button)


def test_hostile_names_run_nothing(browser: Chrome, hostile_page: Path) -> None:
    visit(browser, hostile_page, width=400)
    assert browser.title == "<script>document.title='owned'</script>"
    assert run(browser, "return document.scripts.length") == 1
    assert run(browser, "return document.querySelectorAll('main img:not([src^=data])').length") == 0
    assert run(browser, "return document.documentElement.scrollWidth") <= 400
    assert browser.get_log("browser") == []


def test_tables_can_be_read_without_scripts(browser: Chrome, page: Path) -> None:
    visit(browser, page)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page.as_uri())
    from selenium.webdriver.common.by import By

    assert not browser.find_elements(By.CSS_SELECTOR, ".tools, th button")
    rows = browser.find_elements(By.CSS_SELECTOR, "#abundance-table tbody tr")
    assert len(rows) == 180
    assert rows[0].is_displayed()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_it_prints(browser: Chrome, page: Path) -> None:
    import base64

    visit(browser, page)
    pdf = base64.b64decode(
        browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    )
    assert pdf.startswith(b"%PDF")
    pages = pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type /Page/")
    assert 5 < pages < 80


def test_on_paper_tables_fit_and_heads_can_repeat(browser: Chrome, page: Path) -> None:
    visit(browser, page, width=718)  # A4 between margins
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        wide = run(
            browser,
            "return [...document.querySelectorAll('table, .plate img')]"
            ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))",
        )
        shown = run(
            browser,
            "return [...new Set([...document.querySelectorAll('th button')].map((b) => getComputedStyle(b).display))]",
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert wide == []
    assert shown == ["contents"]
