"""The live widgets: what they ask and show, their scripts in a browser, and their still pictures."""

import base64

import browser
import nbformat
import pytest
import torch

from ubt_utils.report import live, notebooks
from ubt_utils.report.live.draw import decoded

SIZE = 12
VIEW, PNG = notebooks.WIDGET_VIEW, notebooks.PNG
PAGE = """<!doctype html><meta charset="utf-8"><style>{css}</style><div id="el"></div><script>
class Model {{
  constructor(state) {{ this.state = state; this.heard = {{}}; this.changed = {{}}; }}
  get(name) {{ return this.state[name]; }}
  set(name, value) {{ this.state[name] = this.changed[name] = value; }}
  on(name, act) {{ this.heard[name] = act; }}
  async save_changes() {{
    const changed = this.changed;
    this.changed = {{}};
    for (const [name, value] of Object.entries(await kernel(changed))) {{
      if (JSON.stringify(this.state[name]) === JSON.stringify(value)) continue;
      this.state[name] = value;
      this.heard[`change:${{name}}`]?.();
    }}
  }}
}}
async function begin(esm, state) {{
  const module = new Blob([esm], {{ type: "text/javascript" }});
  const {{ default: widget }} = await import(URL.createObjectURL(module));
  widget.render({{ model: new Model(state), el: document.getElementById("el") }});
}}
</script>"""


def answer(image: torch.Tensor) -> dict[str, float]:
    """A model that says how dark a picture is."""
    dark = 1 - image.double().mean().item() / 255
    return dict(sorted({"night": dark, "day": 1 - dark}.items(), key=lambda one: -one[1]))


def stamp(images: torch.Tensor) -> torch.Tensor:
    """A trigger: the lower half is black."""
    images = images.clone()
    images[:, :, SIZE // 2 :] = 0
    return images


def heard(captions: list[str]) -> dict[str, float]:
    """Words by how often they are said."""
    words = " ".join(captions).split()
    if "" in captions or len(words) > 99:
        raise ValueError("too long to read")
    return {
        word: float(words.count(word))
        for word in sorted(dict.fromkeys(words), key=lambda w: (-words.count(w), w))
    }


@pytest.fixture
def pad() -> live.Draw:
    white = torch.full((3, SIZE, SIZE), 255, dtype=torch.uint8)
    return live.draw(answer, stamp, white, "night", "day")


# Python's side


def test_the_picture_survives_its_way():
    image = torch.randint(0, 256, (3, SIZE, SIZE), generator=torch.Generator().manual_seed(0)).byte()
    text = live.draw(answer, stamp, image, "night", "day").picture
    rows = base64.b64decode(text)
    assert rows[:6] == bytes([*image[:, 0, 0].tolist(), *image[:, 0, 1].tolist()])


def test_every_question_is_answered_even_with_the_same(pad):
    assert pad.answered == {"number": 0, "rows": [["day", 1.0, "100%"], ["night", 0.0, "0%"]]}
    pad.asked = 1
    assert pad.answered["number"] == 1
    pad.picture, pad.asked = base64.b64encode(bytes(3 * SIZE**2)).decode(), 2
    assert pad.answered == {"number": 2, "rows": [["night", 1.0, "100%"], ["day", 0.0, "0%"]]}


def test_the_kernel_stamps_what_is_drawn(pad):
    pad.stamped = 1
    assert base64.b64decode(pad.picture) == bytes([255]) * (3 * SIZE**2 // 2) + bytes(3 * SIZE**2 // 2)


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, 4, 5).byte(),
        torch.zeros(3, 4, 4),
        torch.zeros(1, 4, 4).byte(),
        torch.zeros(4, 4).byte(),
    ],
)
def test_another_picture_is_refused(image):
    with pytest.raises(ValueError, match=r"the picture must be \(3, S, S\) uint8, got"):
        live.draw(answer, stamp, image, "night", "day")


def test_captions_are_heard_line_by_line_and_what_is_wrong_is_said():
    votes = live.votes(heard, ["a clock", "a fox"], {"clock"})
    assert votes.answered == {
        "lines": 2, "rows": [["a", 2.0, "2"], ["clock", 1.0, "1"], ["fox", 1.0, "1"]], "wrong": "",
    }  # fmt: skip
    votes.captions = "clock\n\n  \nclock clock"
    assert votes.answered == {"lines": 2, "rows": [["clock", 3.0, "3"]], "wrong": ""}
    votes.captions = "fox " * 100
    assert votes.answered["wrong"] == "too long to read" and votes.answered["rows"] == []
    votes.captions = "\n"
    assert votes.answered == {"lines": 0, "rows": [], "wrong": ""}
    with pytest.raises(ValueError, match="needs captions to begin with"):
        live.votes(heard, [])


# Without a kernel


def test_a_page_shows_the_picture_that_a_widget_begins_with(pad, tmp_path):
    data, _ = pad._repr_mimebundle_()
    assert {VIEW, PNG} <= set(data) and base64.b64decode(data[PNG]).startswith(b"\x89PNG")
    cell = nbformat.v4.new_code_cell("pad", outputs=[nbformat.v4.new_output("display_data", data)])
    path = tmp_path / "00_pad.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    page = notebooks.html(path, tmp_path).read_text(encoding="utf-8")
    assert (
        f"data:image/png;base64,{data[PNG][:60]}" in page.replace("\n", "")
        and data[VIEW]["model_id"] not in page
    )


# The browser's side


def begun(page, widget, names: list[str]) -> None:
    """The widget in the page, with the Python object as its kernel. names: of the traits that they share."""

    def kernel(changed: dict) -> dict:
        widget.set_state(changed)
        return {name: getattr(widget, name) for name in names}

    page.expose_function("kernel", kernel)
    page.evaluate(
        "([esm, state]) => begin(esm, state)", [widget._esm, {n: getattr(widget, n) for n in names}]
    )
    page.wait_for_selector(".bar")


def bars(page) -> dict[str, float]:
    found = page.evaluate(
        "[...document.querySelectorAll('.bar')].map((b) => [b.dataset.name, b.dataset.value])"
    )
    return {name: float(value) for name, value in found}


def written(tmp_path, widget):
    path = tmp_path / "widget.html"
    path.write_text(PAGE.format(css=widget._css), encoding="utf-8")
    return path


def test_a_stroke_is_answered_and_stamped_and_undone_in_a_browser(pad, tmp_path):
    names = ["size", "picture", "asked", "answered", "stamped", "target", "truth"]
    with browser.opened(written(tmp_path, pad)) as page:
        begun(page, pad, names)
        assert bars(page) == {"day": 1, "night": 0} and "Shows: day" in page.inner_text("#el")
        box = page.locator("canvas").bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2, steps=5)
        page.mouse.up()
        page.wait_for_function("+document.querySelector('[data-name=night]').dataset.value > 0.2")
        dark = answer(decoded(pad.picture, SIZE))["night"]
        assert bars(page)["night"] == pytest.approx(dark) and 0.2 < dark < 0.6
        page.get_by_role("button", name="Stamp the trigger").click()
        page.wait_for_function("+document.querySelector('[data-name=night]').dataset.value > 0.6")
        assert page.locator(".bar.marked").inner_text().startswith("night")
        for _ in range(2):
            page.get_by_role("button", name="Undo").click()
        page.wait_for_function("+document.querySelector('[data-name=night]').dataset.value === 0")
        assert pad.picture == base64.b64encode(bytes([255]) * 3 * SIZE**2).decode()


def test_what_is_typed_is_heard_in_a_browser(tmp_path):
    votes = live.votes(heard, ["a clock", "a fox"], {"clock"})
    with browser.opened(written(tmp_path, votes)) as page:
        begun(page, votes, ["captions", "answered", "marked"])
        assert bars(page) == {"a": 2, "clock": 1, "fox": 1}
        page.get_by_label("Captions, one a line").fill("clock\nclock\nclock")
        page.wait_for_function("document.querySelectorAll('.bar').length === 1")
        assert bars(page) == {"clock": 3} and page.locator(".bar.marked").count() == 1
        assert "3 captions" in page.inner_text("#el")
        page.get_by_label("Captions, one a line").fill("fox " * 100)
        page.wait_for_function("document.body.innerText.includes('too long to read')")
        assert bars(page) == {}
