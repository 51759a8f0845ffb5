"""search/app.py: the page in a headless browser, with words and with pictures."""

import io

import pytest
from catalogues import tiny_products
from PIL import Image
from served_pages import TITLE, form, post

from search.engine import Search
from search.question import Question


@pytest.fixture
def visit(browser, served):
    """Opens the page at an address; all that it asks for must be of this server."""
    contexts, asked = [], []

    def visit(address: str = "", width: int = 1280, wait: bool = True):
        if not contexts or wait:  # those that do not wait come together, in one: else each would load all the scripts
            contexts.append(browser.new_context(viewport={"width": width, "height": 800}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served[0] + address, wait_until="commit")
        if wait:
            page.wait_for_selector("#found .note, #found .card")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert asked and all(url.startswith((served[0], "data:", "blob:")) for url in asked)


def type_words(page, words):
    page.locator("#words").locator("input, textarea").fill(words)
    page.keyboard.press("Enter")


def assert_cards(page, answer):
    """The page shows these results, in this order, and nothing else."""
    from playwright.sync_api import expect

    expect(page.locator(".card h3")).to_have_text([result.title for result in answer.results], timeout=60_000)
    scores = [f"{result.score:.3f}" for result in answer.results]
    expect(page.locator(".card .score")).to_have_text(scores)


def assert_note(page, text):
    from playwright.sync_api import expect

    expect(page.locator("#found .note").first).to_have_text(text, timeout=60_000)


def address_of(page):
    """What stands behind the page's name once the answer is there."""
    page.wait_for_function("() => location.search !== ''")
    return page.evaluate("location.search")


# --- searching -----------------------------------------------------------------------------------------


def test_words_and_then_more_like_this(visit, search):
    page = visit()
    assert_note(page, "Type what you look for, or give a picture of it.")
    assert page.locator("h2").inner_text() == "120 products"
    type_words(page, "red disc")
    found = search.by_text("red disc", 20)
    assert_cards(page, found)
    facts = [", ".join(result.attributes.values()) for result in found.results]
    assert page.locator(".card .facts").all_inner_texts() == facts
    assert page.evaluate("[...document.querySelectorAll('.card img')].every(image => image.naturalWidth > 0)")
    assert address_of(page) == "?q=red+disc"

    third = found.results[2]
    page.locator("a[data-like]").nth(2).click()
    assert_cards(page, search.similar(third.id, 20))
    assert_note(page, f"Products that look like “{third.title}”:")
    assert page.locator("#words").locator("input, textarea").input_value() == ""
    page.wait_for_function(f"() => location.search === '?like={third.id}'")

    page.click("#search")  # without words, it is still about that product
    assert_cards(page, search.similar(third.id, 20))

    page.go_back()
    assert_cards(page, found)
    page.locator("#words").locator("input, textarea").fill("blue cross")
    page.click("#search")
    assert_cards(page, search.by_text("blue cross", 20))
    assert page.evaluate("Object.keys(localStorage)") == []  # no search is written down


def test_the_last_of_two_quick_searches_stands(visit, search):
    page = visit()
    for words in ("red disc", "green pole"):
        type_words(page, words)
    assert_cards(page, search.by_text("green pole", 20))
    give(page, "large.png", png(8_000, 8_000))  # takes longer than what is asked next
    page.locator("#picture").get_by_label("Clear").or_(page.get_by_label("Remove")).first.click()
    type_words(page, "blue cross")
    page.wait_for_timeout(3000)
    assert_cards(page, search.by_text("blue cross", 20))
    assert page.evaluate("location.search") == "?q=blue+cross"


def test_an_address_can_be_shared(visit, search):
    where = ("colour=red", "shape!=disc")
    page = visit(Question("something red", where=where, top=50).address())
    assert_cards(page, search.by_text("something red", 50, where))
    page.click("#filters button")
    assert page.locator("#filter-0 input").input_value() == "red"
    assert page.locator("#others").locator("input, textarea").input_value() == "shape!=disc"
    assert page.locator("#top input").input_value() == "50"
    assert (
        page.locator("a[data-like]").first.get_attribute("href").endswith("&where=colour%3Dred&where=shape%21%3Ddisc")
    )


def test_filters(visit, search):
    page = visit("?q=red+disc")
    page.click("#filters button")
    page.click("#filter-1 input")
    page.get_by_role("option", name="cross").click()
    assert_cards(page, search.by_text("red disc", 20, ["shape=cross"]))
    page.wait_for_function("() => location.search === '?q=red+disc&where=shape%3Dcross'")
    page.locator("#others").locator("input, textarea").fill("shape!=cross")
    page.keyboard.press("Enter")
    assert_note(page, "Nothing in the catalogue meets these conditions.")
    page.locator("#others").locator("input, textarea").fill("color=red")
    page.locator("#words").click()
    assert_note(page, "color=red: no attribute 'color' in the index; did you mean colour?")


def test_nothing_that_matches_well_and_no_words(visit, search, monkeypatch):
    monkeypatch.setattr(Search, "judged", lambda *_: False)
    page = visit("?q=a+wedding+cake")
    assert_note(page, "Nothing in the catalogue matches well. The nearest are:")
    assert page.locator(".card").count() == 20
    type_words(page, "   ")
    assert_note(page, "Type what you look for, or give a picture of it.")
    assert_note(visit("?like=none"), "There is no product none.")


def test_titles_are_text(visit, search):
    """Its markup and its templates are shown, in the card, in the note and in the address."""
    product = next(id for id, title in search.products["title"].items() if title == TITLE)
    where = [f"{name}={search.result(1, search.number(product), 1.0).attributes[name]}" for name in ("colour", "shape")]
    page = visit(Question(TITLE, where=tuple(where)).address())
    assert TITLE in page.locator(".card h3").all_inner_texts()
    page.locator(f"a[data-like='{product}']").click()
    assert_note(page, f"Products that look like “{TITLE}”:")
    page.set_input_files("#picture input[type=file]", drawing_of(search, product))
    page.locator(".card").first.wait_for()
    page.click("#describe")
    page.wait_for_selector("ol.captions")
    assert page.evaluate("window.bad") is None
    type_words(page, "<b>${window.bad=1}</b>")
    assert page.evaluate("window.bad") is None
    assert page.locator("#found b").count() == 0


@pytest.mark.slow
def test_twenty_visitors_at_once(visit, search):
    asked = [row["title"] for row in tiny_products(120)[20:40]]
    pages = [visit(Question(words).address(), wait=False) for words in asked]
    for page, words in zip(pages, asked, strict=True):
        assert_cards(page, search.by_text(words, 20))


@pytest.mark.parametrize(("width", "columns"), [(1280, 5), (390, 2)])
def test_a_laptop_and_a_phone(width, columns, visit):
    page = visit("?q=red+disc", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lefts = page.evaluate("[...document.querySelectorAll('.card')].map(card => card.getBoundingClientRect().left)")
    assert len(set(lefts)) == columns
    ask = page.locator("#search").bounding_box()
    assert ask["y"] < 200 and ask["x"] + ask["width"] <= width


# --- pictures ------------------------------------------------------------------------------------------


def drawing_of(search, product) -> dict:
    return {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": search.thumbnail(product)}


def give(page, name, content, kind="image/png"):
    page.set_input_files("#picture input[type=file]", {"name": name, "mimeType": kind, "buffer": content})


def png(width, height) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_a_picture_its_words_and_words_beside_it(visit, search, served):
    from playwright.sync_api import expect

    product = search.products["id"].iloc[30]
    picture = search.thumbnail(product)
    page = visit()
    assert not page.locator("#describe").is_visible()
    give(page, "photo.jpg", picture, "image/jpeg")
    assert_cards(page, search.by_image(picture, top=20))
    assert_note(page, "The picture is not part of this page's address.")

    page.click("#describe")
    page.wait_for_selector("ol.captions")
    captions = search.words(picture)
    assert page.locator("ol.captions a").all_inner_texts() == [text for text, _ in captions]
    type_words(page, "blue")
    assert_cards(page, search.by_image(picture, "blue", 0.5, 20))

    page.click("#describe")
    page.wait_for_selector("ol.captions")
    page.locator("ol.captions a").nth(1).click()
    assert_cards(page, search.by_text(captions[1][0], 20))
    expect(page.locator("#describe")).to_be_hidden()  # its words took the picture's place
    assert [file for file in served[1].rglob("*") if file.is_file()]


def test_a_picture_is_pasted(visit, search):
    picture = search.thumbnail(search.products["id"].iloc[40])
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async bytes => {
          const bitmap = await createImageBitmap(new Blob([new Uint8Array(bytes)], {type: 'image/jpeg'}));
          const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
          canvas.getContext('2d').drawImage(bitmap, 0, 0);
          const blob = await canvas.convertToBlob({type: 'image/png'});
          await navigator.clipboard.write([new ClipboardItem({'image/png': blob})]);
        }""",
        list(picture),
    )
    page.get_by_label("Paste from clipboard").click()
    page.wait_for_selector(".card")
    expected = [result.id for result in search.by_image(picture, top=5).results]
    found = [link.get_attribute("data-like") for link in page.locator("a[data-like]").all()[:5]]
    assert len(set(found) & set(expected)) >= 4  # a PNG of a JPEG, by the browser's own decoder


def test_a_text_file_and_pictures_that_are_none(visit):
    page = visit()
    give(page, "photo.jpg", b"no picture, only a name\n", "image/jpeg")
    assert_note(page, "the picture: no image that can be decoded")
    page = visit()
    give(page, "half.png", png(800, 800)[:60])
    assert_note(page, "the picture: no image that can be decoded (image file is truncated)")
    page = visit()
    give(page, "notes.txt", b"text", "text/plain")
    page.get_by_text("Invalid file type").first.wait_for()
    type_words(page, "red disc")  # the page still works
    page.wait_for_selector(".card")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_100_megapixels(visit):
    page = visit()
    give(page, "huge.png", png(10_000, 10_000))
    assert_note(page, "the picture has 100 million pixels, 64 are the most")
    page = visit()
    give(page, "large.png", png(8_000, 6_000))
    page.wait_for_selector(".card")


def test_a_file_that_is_too_large(visit, served, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(bytes(21 * 2**20))
    page = visit()
    page.set_input_files("#picture input[type=file]", tmp_path / "photo.jpg")
    page.get_by_text("exceed the maximum allowed size of 20.0 Mb").first.wait_for()
    status, _ = post(served[0], "/gradio_api/upload", *form("photo.jpg", bytes(21 * 2**20)))
    assert status == 413
    assert all(file.stat().st_size <= 20e6 for file in served[1].rglob("*") if file.is_file())
