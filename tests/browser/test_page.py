"""The page as a person uses it: files chosen and dropped, the map's slider, what goes wrong, narrow and by keyboard."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from packed import CLASSES, encode, noise
from PIL import Image
from shelf import HOSTILE

from dermonas.serving.served import Served


def file(name, content, media="image/png"):
    return {"name": name, "mimeType": media, "buffer": content}


def answers(page, count):
    """Wait for so many places in the list, all of them settled, and return them."""
    places = page.locator("#results > li")
    page.wait_for_function(
        "n => document.querySelectorAll('#results > li:not([aria-busy])').length === n"
        " && document.querySelectorAll('#results > li').length === n",
        arg=count,
    )
    return places


@pytest.fixture
def ready(open_page):
    """Return a function that opens the page and waits until the model is described."""

    def start(**options):
        page = open_page(**options)
        page.locator("#facts dt").first.wait_for()
        return page

    return start


@pytest.fixture(scope="session")
def served(app):
    return Served.load(app.place.folder / "made-0" / "artifacts")


def picture(width=60, height=40):
    """A grey image with a red square."""
    pixels = np.full((height, width, 3), 120, dtype=np.uint8)
    pixels[5:15, 5:15] = (255, 0, 0)
    return encode(pixels)


def test_an_image_is_answered_as_the_model_does(ready, served):
    page = ready()
    page.set_input_files("#files", file("a lesion.png", noise()[0]))
    place = answers(page, 1).first
    (wanted,) = served.predict([noise()[0]])
    shown = dict(zip(*(place.locator(f".bars {what}").all_inner_texts() for what in (".name", ".share")), strict=True))
    assert list(shown) == [CLASSES[k] for k in np.argsort(-wanted)]
    for name, share in zip(CLASSES, wanted, strict=True):
        assert shown[name] == f"{100 * share:.0f} %"
    widths = place.locator(".bars .track").evaluate_all(
        "all => all.map(one => one.firstChild.getBoundingClientRect().width / one.clientWidth)"
    )
    np.testing.assert_allclose(widths, np.sort(wanted)[::-1], atol=0.02)
    entropy = -(wanted * np.log(wanted)).sum() / np.log(len(wanted))
    assert f"Uncertainty {entropy:.2f}" in place.locator(".doubt").inner_text()
    assert "abstains below 40 %" in place.inner_text()
    assert place.locator(".abstains").count() == 0
    assert "40 × 30 px" in place.inner_text()
    assert page.locator("#status").inner_text() == f"a lesion.png: light, {100 * wanted[2]:.0f} %. 1 of 1 done."


OVERLAY = """async () => {
  const stack = document.querySelector(".stack"), [image, canvas] = stack.children;
  const box = one => { const at = one.getBoundingClientRect(); return [at.x, at.y, at.width, at.height]; };
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return {
    opacity: getComputedStyle(canvas).opacity, filter: getComputedStyle(image).filter,
    boxes: [box(stack), box(image), box(canvas)], size: canvas.width, pixels: Array.from(pixels),
  };
}"""


def test_the_slider_lays_the_models_map_over_the_image(ready, served):
    page = ready()
    page.set_input_files("#files", file("square.png", picture()))
    place = answers(page, 1).first
    slider = place.get_by_label("Map opacity")
    seen = []
    for value in (0, 100):
        slider.fill(str(value))
        assert place.locator("output").inner_text() == f"{value} %"
        assert slider.get_attribute("aria-valuetext") == f"{value} %"
        found = page.evaluate(OVERLAY)
        assert float(found["opacity"]) == value / 100
        assert found["filter"] == f"grayscale({value // 100})"
        assert found["boxes"][0] == found["boxes"][1] == found["boxes"][2]  # of one place and size
        x, y, width, height = found["boxes"][0]
        assert width / height == pytest.approx(60 / 40, abs=0.02)
        shot = page.screenshot(clip={"x": x, "y": y, "width": width, "height": height})
        seen.append(np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=float))
    clear, covered = seen
    red = clear[int(clear.shape[0] * 0.25), int(clear.shape[1] * 0.16)]
    assert red[0] > 200
    assert max(red[1:]) < 60
    assert np.abs(clear - covered).mean() > 20
    (answer,) = served.answers(next(served.outputs([picture()])), cam=True)
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["cam"]))))
    drawn = np.array(found["pixels"], dtype=np.uint8).reshape(found["size"], found["size"], 4)
    np.testing.assert_array_equal(drawn[..., 3], grey[..., 1])
    from matplotlib import colormaps

    inside = grey[..., 1] > 0
    plasma = colormaps["plasma"](grey[..., 0])[..., :3] * 255
    np.testing.assert_allclose(drawn[..., :3][inside], plasma[inside], atol=8)


def test_several_files_are_answered_one_by_one_and_a_bad_one_spoils_none(ready):
    page = ready(expected="status of 4")  # the browser itself logs refusals
    tiff = encode(np.zeros((8, 8, 3), dtype=np.uint8), "TIFF")
    files = [
        *(file(f"{number}.png", image) for number, image in enumerate(noise()[:2])),
        file("notes.txt", b"no image at all", "text/plain"),
        file(f"{HOSTILE}.png", picture()),
        file("slide.tiff", tiff, "image/tiff"),
        file("large.png", bytes(600_000)),
    ]
    page.set_input_files("#files", files)
    places = answers(page, 6)
    assert places.locator("h3").all_inner_texts() == [one["name"] for one in files]
    assert places.locator(".bars").count() == 4
    refused = page.locator("#results > li.refused")
    assert refused.count() == 2
    assert re.search(r"Not answered: .*image", refused.nth(0).inner_text())
    assert "row 0" not in refused.nth(0).inner_text()
    assert "the file is larger than 393 kB" in refused.nth(1).inner_text()
    assert "cannot show the file" in places.nth(4).inner_text()
    assert places.nth(4).locator("canvas").is_visible()
    assert page.locator("#status").inner_text().endswith("6 of 6 done.")
    page.set_input_files("#files", file("again.png", picture()))
    assert answers(page, 7).locator("h3").first.inner_text() == "again.png"
    page.get_by_role("button", name="Clear").click()
    assert places.count() == 0
    assert page.evaluate("document.activeElement.id") == "files"
    assert page.evaluate("window.hurt") is None


DROP = """(files) => {
  const held = new DataTransfer();
  for (const [name, text] of files) {
    held.items.add(new File([Uint8Array.from(atob(text), one => one.charCodeAt(0))], name, {type: "image/png"}));
  }
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: held, bubbles: true, cancelable: true}));
    if (kind === "dragover") window.marked = document.getElementById("drop").classList.contains("over");
  }
}"""


def test_files_are_dropped_anywhere(ready):
    page = ready()
    page.evaluate(DROP, [[name, base64.b64encode(picture()).decode()] for name in ("one.png", "two.png")])
    assert page.evaluate("window.marked") is True
    assert "over" not in (page.locator("#drop").get_attribute("class") or "")
    assert answers(page, 2).locator("h3").all_inner_texts() == ["one.png", "two.png"]


def test_what_it_is_and_is_not_stands_there(ready):
    page = ready()
    banners = " ".join(page.locator("aside").inner_text().split())
    assert "not a medical device" in banners
    assert "phantoms" in banners
    assert "dermonas-noise version 1" in page.locator("#served").inner_text()
    facts = page.locator("#facts").inner_text()
    assert all(name in facts for name in CLASSES)
    assert "below 40 % (95% of the validation images reach it)" in facts
    card = page.locator("#card")
    assert card.locator("h3").inner_text() == "dermonas-noise: tiny"
    assert card.locator("blockquote strong").inner_text() == "Synthetic."
    assert card.locator("tbody tr").inner_text().split("\t") == ["a | b", "0.5"]
    assert card.locator("li").all_inner_texts() == ["One thing that goes on", HOSTILE]
    assert card.locator("a, img, script").count() == 0
    assert page.evaluate("window.hurt") is None


def test_cells_are_drawn_and_told(ready):
    page = ready()
    drawings = page.locator("#cells img")
    drawings.first.wait_for()
    assert page.locator("#cells figcaption").all_inner_texts() == ["Normal cell", "Reduction cell"]
    widths = drawings.evaluate_all("all => Promise.all(all.map(async one => (await one.decode(), one.naturalWidth)))")
    assert min(widths) > 300
    assert "Node 0: sep_conv_3x3 of the input before last" in drawings.first.get_attribute("alt")


def test_versions_are_compared(ready):
    page = ready()
    rows = page.locator("#table tbody tr")
    rows.first.wait_for()
    second, first = rows.all_inner_texts()
    assert "champion" not in second.split("\t")[0]
    assert "other data" in second
    assert all(
        word in first for word in ("champion", "answers here", "tiny0 <b>", "0.750", "0.500 to 0.900", "0.00120 M")
    )
    assert f"the reason {HOSTILE}" in first
    assert page.locator("#table img, #table script").count() == 0
    assert page.evaluate("window.hurt") is None


def test_another_champion_takes_over_and_abstains(ready, champion):
    page = ready()
    champion("2")
    page.set_input_files("#files", file("a.png", picture()))
    place = answers(page, 1).first
    assert "The model abstains." in place.inner_text()
    assert "is below 0.400" in place.locator(".abstains").inner_text()
    assert place.locator(".bars li").count() == 3
    assert "version 2" in page.locator("#served").inner_text()
    assert "not built of searched cells" in page.locator("#cells").inner_text()
    assert page.locator("#status").inner_text() == "a.png: the model abstains. 1 of 1 done."


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_scrolls_one_way_alone(ready, scheme):
    page = ready(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    page.locator("#table tbody tr").first.wait_for()
    page.locator("#cells img").first.wait_for()
    wide = "a-name-without-any-place-to-break-it-" * 4 + ".png"
    page.set_input_files("#files", [file(wide, picture(300, 30)), file("tall.png", picture(20, 200))])
    answers(page, 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    for stack in page.locator(".stack").all():
        assert stack.bounding_box()["width"] <= 320
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) > 380) == (scheme == "light")


def test_everything_is_reached_by_keyboard(ready):
    page = ready()
    page.locator("#table tbody tr").first.wait_for()
    page.locator("#cells img").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the images"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    assert page.evaluate("getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files([file("keys.png", picture())])
    place = answers(page, 1).first
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "range":
            break
    before = int(place.locator("output").inner_text().split()[0])
    page.keyboard.press("ArrowLeft")
    assert place.locator("output").inner_text() == f"{before - 5} %"
    page.keyboard.press("Home")
    assert place.locator("canvas").evaluate("one => getComputedStyle(one).opacity") == "0"
    names = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        names.add(
            page.evaluate(
                "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim()"
            )
        )
    assert {"How to read an answer", "Normal cell", "Reduction cell", "Model card", "Table: Figure"} <= names


def test_an_unreachable_server_is_told_in_a_line(ready):
    page = ready(expected="Failed to load resource")
    page.route("**/invocations", lambda route: route.abort())
    page.set_input_files("#files", file("a.png", picture()))
    assert "Not answered: the server cannot be reached" in answers(page, 1).first.inner_text()


def test_a_busy_server_is_asked_again(ready):
    page = ready(expected="429")
    asked = []

    def busy(route):
        asked.append(route.request.post_data_json["params"])
        if len(asked) > 1:
            route.continue_()
            return
        content = json.dumps({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "too many"})
        route.fulfill(status=429, body=content, headers={"Content-Type": "application/json", "Retry-After": "1"})

    page.route("**/invocations", busy)
    page.set_input_files("#files", file("a.png", picture()))
    assert answers(page, 1).locator(".bars").count() == 1
    assert asked == [{"top_k": 3, "cam": True}] * 2


def test_a_token_is_asked_for_and_kept_in_memory_alone(make_app, open_page):
    guarded = make_app(token="0123456789abcdef")
    page = open_page(guarded, expected="401")
    page.get_by_label("This server asks for a token").fill("wrong wrong wrong")
    page.keyboard.press("Enter")
    page.get_by_text("a valid bearer token is needed").wait_for()
    page.get_by_label("This server asks for a token").fill("0123456789abcdef")
    page.keyboard.press("Enter")
    page.locator("#facts dt").first.wait_for()
    page.set_input_files("#files", file("a.png", picture()))
    assert answers(page, 1).locator(".bars").count() == 1
    assert page.locator("#entry").is_hidden()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
