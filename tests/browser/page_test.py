#!/usr/bin/env python3
"""The page of the server in a real browser: a tour from drawing with the mouse to downloaded labels, and how else it is handled.

page_test.py CELLSPARSE OUT BROWSER PROGRAM [DRIVER] [pictures=FOLDER] [algorithm=stardist] [seconds=15] [rounds=4] [only=tour|handling]

BROWSER is chromium, with the path of its driver, or firefox.
"""

import pathlib
import sys
import time

import field
from handling import Handling
from page import Server
from tour import Tour
from webdriver import Chromium, Firefox

# Random weights of a tiny network: they answer at once, and what they outline is no nucleus.
SAM = pathlib.Path(__file__).parent.parent / "fixtures/sam/small_weights.safetensors"


def tour(program, browser, out, given):
    size = 512
    image, truth, nuclei = field.draw(size)
    field.write_png(out / "images/field.png", image, 8)
    field.write_png(out / "truth/field.png", truth, 16)
    other, _, _ = field.draw(256, 30, 11)
    field.write_png(out / "second.png", other, 8)
    server = Server(program, out, "--images", str(out / "images"), "--sam", str(SAM))
    try:
        Tour(server, browser, out, given).run(program, truth, nuclei, size)
    finally:
        server.kill()


def main():
    program, out, kind, path = sys.argv[1:5]
    driver = next((argument for argument in sys.argv[5:] if "=" not in argument), None)
    given = dict(argument.split("=", 1) for argument in sys.argv[5:] if "=" in argument)
    out = pathlib.Path(out).resolve() / kind
    for folder in ("images", "downloads", "truth", "found"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    browser = {"chromium": Chromium, "firefox": Firefox}[kind](path, driver, out / "downloads", (out / "browser.log").open("w"))
    print(f"{browser.label} {browser.version}")
    try:
        if given.get("only", "tour") == "tour":
            tour(program, browser, out, given)
        if given.get("only", "handling") == "handling":
            Handling(program, browser, out).run()
        # That files cannot be had while the server is away is meant.
        complaints = [one for one in browser.complaints() if not any(known in one for known in ("net::ERR", "favicon", "401", "422"))]
        assert not complaints, complaints
    except BaseException:
        browser.screenshot(out / "failed.png")
        print(f"a picture of the page: {out / 'failed.png'}; its complaints: {browser.complaints()}")
        raise
    finally:
        browser.close()
    print(f"{browser.label}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
