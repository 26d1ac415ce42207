"""Looks at a report or comparison in a headless browser: accessibility, keyboard, width, images.

    pip install -e '.[pages]'; apt install chromium      # or: playwright install chromium
    python benchmarks/look_at_page.py runs/ID/report.html --out images

Checks in light and dark, on a desk and on a phone: axe-core finds nothing, the page is no wider
than the screen, every table can be sorted and every part unfolded by the keyboard alone, and
nothing is asked of the network. Leaves an image of each. Status 1 where something was found.
"""

import argparse
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

WIDTHS = {"desk": 1200, "phone": 390}  # pixels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the images")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="default: chromium")
    options = parser.parse_args()
    faults = look(options.page, options.out, options.browser)
    for fault in faults:
        print(fault)
    print(f"{options.page}: {len(faults) or 'no'} faults")
    return 1 if faults else 0


def look(page: Path, out: Path | None, browser: str | None) -> list[str]:
    """Returns what is wrong with a page, a line each."""
    from playwright.sync_api import sync_playwright

    faults = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for screen, width in WIDTHS.items():
            for scheme in ("light", "dark"):
                shown = chromium.new_page(
                    viewport={"width": width, "height": 900}, color_scheme=scheme
                )
                asked = []
                shown.on("request", lambda request, asked=asked: asked.append(request.url))
                shown.goto(page.resolve().as_uri())
                name = f"{page.stem}-{screen}-{scheme}"
                if out:
                    out.mkdir(parents=True, exist_ok=True)
                    shown.screenshot(path=out / f"{name}.png", full_page=True)
                found = [f"asks the network for {url}" for url in asked if url.startswith("http")]
                found += too_wide(shown, width) + axe(shown) + keyboard(shown)
                faults += [f"{name}: {fault}" for fault in found]
    return faults


def axe(shown) -> list[str]:
    """Returns what axe-core finds."""
    shown.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    folder = Path(find_spec("axe_playwright_python").origin).parent
    shown.evaluate((folder / "axe.min.js").read_text(encoding="utf-8"))
    return [
        f"{fault['id']}: {fault['help']}: {fault['nodes'][0]['html'][:100]}"
        for fault in shown.evaluate("axe.run()")["violations"]
    ]


def too_wide(shown, width: int) -> list[str]:
    """Returns a line where the page must be scrolled sideways."""
    real = shown.evaluate("document.documentElement.scrollWidth")
    return [f"is {real} pixels wide on a screen of {width}"] if real > width else []


def keyboard(shown) -> list[str]:
    """Returns what the Tab key does not reach, or Enter does not do."""
    faults = []
    wanted = shown.evaluate("document.querySelectorAll('summary, th button').length")
    shown.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(20 * wanted + 20):
        shown.keyboard.press("Tab")
        place = shown.evaluate(
            "[...document.querySelectorAll('summary, th button')].indexOf(document.activeElement)"
        )
        if place in reached:
            break
        if place >= 0:
            reached.add(place)
    if len(reached) < wanted:
        faults.append(f"Tab reaches {len(reached)} of {wanted} buttons")
    russian = shown.evaluate("document.documentElement.lang") == "ru"
    for place in range(shown.locator("table:has(thead)").count()):
        table = shown.locator("table:has(thead)").nth(place)
        column = table.locator("th").count() - 1
        table.locator("th button").last.focus()
        for order, sign in (("ascending", 1), ("descending", -1)):
            while table.locator("th").last.get_attribute("aria-sort") != order:
                shown.keyboard.press("Enter")
            cells = table.locator(f"tbody td:nth-child({column + 1})").all_text_contents()
            values = [as_number(cell, russian) for cell in cells]
            values = [value for value in values if value is not None]
            if values != sorted(values, key=lambda value, sign=sign: sign * value):
                faults.append(f"table {place} is not sorted ({order}): {values[:5]}")
    return faults


def as_number(text: str, russian: bool) -> float | None:
    try:
        if russian:
            text = text.replace(",", ".").replace("\N{NO-BREAK SPACE}", "")
        return float(text.replace(",", "").replace("%", ""))
    except ValueError:
        return None


if __name__ == "__main__":
    sys.exit(main())
