"""The pages a stored model brings along, its card and its notebooks: what a browser may run and load of each."""

import base64
import hashlib

NOTEBOOKS = {"eda": "exploratory data analysis", "train": "training"}
# Neither loads anything from outside. A notebook's page runs the scripts it holds; a card has none.
NOTEBOOK_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; font-src data:"
)
CARD_POLICY = "default-src 'none'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'"


def write_policy(name: str, page: bytes) -> str:
    """The content security policy of a page. That of a card allows the page's own style sheet alone, by its hash."""
    if name in NOTEBOOKS:
        return NOTEBOOK_POLICY
    style = page.partition(b"<style>")[2].partition(b"</style>")[0]
    return CARD_POLICY.format(base64.b64encode(hashlib.sha256(style).digest()).decode())
