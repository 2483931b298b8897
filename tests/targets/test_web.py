"""Exported pages in headless Chromium, opened from a disk: logits, ways in, camera, damage, access, light and dark, no request."""

from __future__ import annotations

import base64
import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onebit.data.pictures import fitted
from onebit.export import web
from onebit.packed import file
from packed.test_golden import GOLDEN, NAMES, pictures

pytestmark = pytest.mark.target("browser")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CAMERA = ["--use-fake-device-for-media-stream"]
SEND = """([kind, name, data]) => {  // a file as it comes by a drop or a paste
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: name.endsWith("png") ? "image/png" : "text/plain" }));
  const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: transfer, bubbles: true })
    : new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.querySelector("#drop").dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    """Starts Chromium with these flags too."""
    found = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as running:
        yield lambda *more: running.chromium.launch(executable_path=found, args=[*FLAGS, *more])


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Any]) -> Iterator[Any]:
    opened = launch()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("web") / "page"
    web.export(file.load(GOLDEN / "cifar10-20-1.onebit"), out)
    return out


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """The page, opened from a disk; every request beyond it and every error fails the test."""
    asked: list[str] = []
    context = browser.new_context(offline=True)
    opened = context.new_page()
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: asked.append(str(error)))
    opened.on("console", lambda message: asked.append(message.text) if message.type == "error" else None)
    address = (folder / "index.html").as_uri()
    opened.goto(address)
    opened.wait_for_selector("html[data-ready]")
    yield opened
    context.close()
    assert [one for one in asked if one != address and not one.startswith(("data:", "blob:"))] == []


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def choose(page: Any, content: bytes, name: str = "a.png", kind: str = "image/png") -> None:
    page.evaluate("window.lastAnswer = undefined")
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})
    wait(page, "!!window.lastAnswer")


def wait(page: Any, until: str) -> None:
    """Until an expression is true: the page's policy forbids Playwright's own way."""
    end = time.monotonic() + 10
    while not page.evaluate(until):
        assert time.monotonic() < end, until
        page.wait_for_timeout(10)


def logits(page: Any) -> list[int]:
    return list(page.evaluate("Array.from(window.lastAnswer.logits)"))


def test_logits_are_the_reference_s(page: Any) -> None:
    images, want = pictures("cifar10-20-1"), np.load(GOLDEN / "cifar10-20-1-logits.npy")
    got = page.evaluate(
        """(data) => {
          const all = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), out = [];
          for (let at = 0; at < all.length; at += 3072) out.push(...model.logits(all.subarray(at, at + 3072)));
          return out;
        }""",
        base64.b64encode(images.tobytes()).decode(),
    )
    assert np.array_equal(np.array(got).reshape(want.shape), want)


def test_pictures_of_the_model_s_size_pass_bit_for_bit(page: Any) -> None:
    images, want = pictures("cifar10-20-1"), np.load(GOLDEN / "cifar10-20-1-logits.npy")
    for i in (0, 1, 40):
        choose(page, png(images[i]))
        assert logits(page) == want[i].tolist()
    assert page.locator("#bars li").count() == 10 and " ms" in page.inner_text("#time")
    assert page.inner_text("#size") == "40.9 kB"


@pytest.mark.parametrize("size", [(97, 64), (31, 500), (500, 31), (20, 20), (33, 32)])
@pytest.mark.parametrize("how", ["square", "crop"])
def test_pictures_are_fitted_as_python_does(page: Any, size: tuple[int, int], how: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(png(pixels))
    page.evaluate(f"model.about.fit = {how!r}")
    choose(page, png(pixels))
    want = fitted(tmp_path / "a.png", (3, 32, 32), how)
    got = np.array(page.evaluate("Array.from(window.lastAnswer.pixels)"))
    assert np.array_equal(got, want.ravel())


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_ways_in(page: Any, kind: str) -> None:
    image = pictures("cifar10-20-1")[0]
    page.evaluate(SEND, [kind, "a.png", base64.b64encode(png(image)).decode()])
    wait(page, "!!window.lastAnswer")
    assert logits(page) == np.load(GOLDEN / "cifar10-20-1-logits.npy")[0].tolist()
    page.evaluate(SEND, [kind, "a.txt", base64.b64encode(b"words").decode()])
    assert "is not a picture" in page.inner_text("#message")


def test_what_is_no_picture(page: Any) -> None:
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector("#message:not([hidden])")
    assert "a.png is not a picture that this browser can read" in page.inner_text("#message")


def test_a_damaged_model_says_so(browser: Any, folder: Path, tmp_path: Path) -> None:
    content = bytearray((folder / "model.onebit").read_bytes())
    whole = base64.b64encode(content).decode()
    content[-100] ^= 1
    text = (folder / "index.html").read_text().replace(whole, base64.b64encode(content).decode())
    (tmp_path / "index.html").write_text(text)
    opened = browser.new_page()
    opened.goto((tmp_path / "index.html").as_uri())
    opened.wait_for_selector("#message:not([hidden])")
    said = opened.inner_text("#message")
    assert "the packed model is damaged or cut short" in said and "OB_ERROR_DAMAGED" in said
    assert opened.locator("button:enabled, select:enabled, input:enabled").count() == 0
    opened.close()


def test_names(page: Any) -> None:
    """Each control has a name, and the answer is announced."""
    for role, name in (("button", "Use the camera"), ("combobox", "Layer"), ("link", "Save the model")):
        assert page.get_by_role(role, name=name).count() == 1
    assert page.get_by_label("Choose a picture").count() == 1
    assert page.get_attribute("#answer", "aria-live") == "polite"


def test_keyboard_alone(page: Any, folder: Path) -> None:
    """Tab reaches all controls in the order of the page, each of them is framed while it has the focus, and it works."""
    seen = []
    for _ in range(6):
        page.keyboard.press("Tab")
        name, shape, width, inside = page.evaluate(
            """() => { const at = document.activeElement, box = at.id === "file" ? document.querySelector(".button.main") : at;
              const style = getComputedStyle(box), { top, bottom } = box.getBoundingClientRect();
              return [at.id || at.className, style.outlineStyle, parseFloat(style.outlineWidth), top < innerHeight && bottom > 0]; }"""
        )
        assert shape == "solid" and width >= 2 and inside, name
        seen.append(name)
        if name == "file":
            with page.expect_file_chooser():
                page.keyboard.press("Space")
    assert seen == ["skip", "file", "camera", "layer", "scroll", "download"]
    with page.expect_download() as saved:
        page.keyboard.press("Enter")
    assert saved.value.path().read_bytes() == (folder / "model.onebit").read_bytes()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("End")  # the weights scroll
    wait(page, "document.querySelector('.scroll').scrollTop > 0")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "results"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing(browser: Any, name: str, scheme: str, tmp_path: Path) -> None:
    """At first, with an answer, and with an error; nothing is left undecided either."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    web.export(file.load(GOLDEN / f"{name}.onebit"), tmp_path / "page")
    opened = browser.new_page(color_scheme=scheme, reduced_motion="reduce")
    opened.goto((tmp_path / "page" / "index.html").as_uri())
    opened.wait_for_selector("html[data-ready]")

    def check() -> None:
        found = axe.run(opened).response
        assert len(found["passes"]) > 30
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["incomplete"]] == []

    check()
    choose(opened, png(np.zeros((50, 60, 3), np.uint8)))
    check()
    opened.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    opened.wait_for_selector("#message:not([hidden])")
    check()
    opened.close()


def film(pixels: np.ndarray[Any, Any]) -> bytes:
    """A picture uint8 [32, 32, 3] as a film of 256 x 256, in the studio's range of ITU-R 601, which Chromium takes for a camera's."""
    y, *colours = np.moveaxis(np.asarray(Image.fromarray(pixels).convert("YCbCr")).astype(np.float64), 2, 0)
    planes = [16 + y.repeat(8, 0).repeat(8, 1) * 219 / 255]
    planes += [128 + (c.repeat(4, 0).repeat(4, 1) - 128) * 224 / 255 for c in colours]
    frame = b"FRAME\n" + b"".join(np.round(plane).astype(np.uint8).tobytes() for plane in planes)
    return b"YUV4MPEG2 W256 H256 F10:1 Ip C420\n" + 4 * frame


def test_the_camera(launch: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    """A camera that films a picture gives the picture's class, again and again, until it is stopped; by the keyboard alone."""
    logits = np.load(GOLDEN / "cifar10-20-1-logits.npy")
    ordered = np.sort(logits, 1)
    sure = int((ordered[:, -1] - ordered[:, -2]).argmax())
    (tmp_path / "a.y4m").write_bytes(film(pictures("cifar10-20-1")[sure]))
    opened = launch(
        *CAMERA, "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={tmp_path / 'a.y4m'}"
    )
    page = opened.new_page()
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    for key in ("Enter", "Space"):
        page.evaluate("window.lastAnswer = undefined")
        page.focus("#camera")
        page.keyboard.press(key)
        wait(page, "window.lastAnswer && !video.hidden")
        seen = np.array(page.evaluate("Array.from((window.first = window.lastAnswer).pixels)"))
        assert np.abs(seen - pictures("cifar10-20-1")[sure].ravel()).mean() < 4
        assert page.inner_text("#answer").startswith(file.load(folder / "model.onebit").classes[logits[sure].argmax()])
        assert page.is_visible("#video") and page.get_attribute("#camera", "aria-pressed") == "true"
        wait(page, "window.lastAnswer !== window.first")
        page.get_by_role("button", name="Stop the camera").press(key)
        assert page.is_hidden("#video") and page.get_attribute("#camera", "aria-pressed") == "false"
        assert page.evaluate("video.srcObject.getTracks().every((track) => track.readyState === 'ended')")
        assert page.is_hidden("#message")
    opened.close()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            [*CAMERA, "--deny-permission-prompts"],
            "The camera is not allowed to this page: allow it in the browser's settings",
        ),
        (["--use-fake-ui-for-media-stream"], "There is no camera: connect one"),
    ],
)
def test_no_camera(launch: Callable[..., Any], folder: Path, flags: list[str], says: str) -> None:
    """Refused, or none there (as on a test machine): what to do instead, and the page still works."""
    opened = launch(*flags)
    page = opened.new_page()
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    page.click("#camera")
    page.wait_for_selector("#message:not([hidden])")
    said = page.inner_text("#message")
    assert said.startswith(says) and said.endswith(", or choose a picture.")
    assert page.is_hidden("#video") and page.get_attribute("#camera", "aria-pressed") == "false"
    choose(page, png(pictures("cifar10-20-1")[0]))
    assert page.is_hidden("#message")
    opened.close()


def test_weights_are_the_bits(page: Any) -> None:
    """What is drawn of a layer, cell by cell, beside the weights that Python reads; another layer by the keyboard."""
    convs = [op for op in file.load(GOLDEN / "cifar10-20-1.onebit").program.operations if hasattr(op, "bits")]
    bits = page.evaluate(
        """model.layers().map((l) => { const out = [];
          for (let o = 0; o < l.outputs; o++) for (let y = 0; y < l.height; y++) for (let x = 0; x < l.width; x++)
            for (let c = 0; c < l.inputs; c++) out.push(l.bit(o, c, y, x));
          return out; })"""
    )
    assert len(bits) == len(convs)
    for got, op in zip(bits, convs, strict=True):
        rows = np.array(got).reshape(len(op.bits), -1)
        assert np.array_equal(rows, np.unpackbits(op.bits, axis=1, bitorder="little")[:, : rows.shape[1]])
    before = page.get_attribute("#weights", "aria-label")
    page.focus("#layer")
    page.keyboard.press("ArrowDown")
    wait(page, f"document.querySelector('#weights').getAttribute('aria-label') !== {before!r}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_dark_and_narrow(page: Any, scheme: str) -> None:
    """Text stands out from its ground, and nothing is wider than a phone."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    contrast = page.evaluate(
        """() => {
          const level = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          const colour = (query, what) => level(getComputedStyle(document.querySelector(query))[what]);
          return [ratio(colour("body", "color"), colour("body", "backgroundColor")),
            ratio(colour(".card .small", "color"), colour(".card", "backgroundColor")),
            ratio(colour(".button.main", "color"), colour(".button.main", "backgroundColor"))];
        }"""
    )
    assert min(contrast) >= 4.5
