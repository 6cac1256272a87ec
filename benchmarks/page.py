"""How fast the page for people is: python benchmarks/page.py [URL] (default: http://localhost:3000/)

Needs a running service and Chromium. `usable` is from the first byte of the page to the form with its example, each time
in a new browser context, without a cache. `answered` is from a key in the first number field to the new answer on the page.
Medians and 95th percentiles in ms.
"""

import shutil
import statistics
import sys

from playwright.sync_api import sync_playwright

VISITS, KEYS = 20, 200
USABLE = (
    "performance.getEntriesByName('usable')[0].startTime - performance.getEntriesByType('navigation')[0].responseStart"
)
ANSWERED = """async (count) => {
  const input = document.querySelector("input[inputmode=decimal]"), times = [], value = Number(input.value);
  for (let key = 1; key <= count; key++) {
    await new Promise((done) => setTimeout(done, 30));
    const changed = new Promise((done) => new MutationObserver((_, it) => { it.disconnect(); done(); })
      .observe(document.getElementById("headline"), { childList: true }));
    const start = performance.now();
    input.value = value * (1 + key / 1000);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await changed;
    times.push(performance.now() - start);
  }
  return times;
}"""


def main(url: str) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser, usable = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]), []
        for _ in range(VISITS):
            page = browser.new_context().new_page()
            page.goto(url)
            page.wait_for_selector("#details > *")
            usable.append(page.evaluate(USABLE))
        show("usable", usable)
        show("answered", page.evaluate(ANSWERED, KEYS))
        browser.close()


def show(name: str, times: list[float]) -> None:
    print(f"{name:9} {statistics.median(times):6.1f} {statistics.quantiles(times, n=20)[-1]:6.1f}")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["http://localhost:3000/"]))
