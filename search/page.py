"""The web page of an index: a search bar, a picture, filters, and results as cards."""

import base64
import io
import os
from pathlib import Path
from typing import Any

import gradio
import jinja2
from markupsafe import Markup, escape
from PIL import Image

from common.errors import InputError
from common.images import BROKEN_IMAGE
from search.engine import Search
from search.question import LONGEST, TOPS, Question, conditions_of, parted
from search.store import live_products

TEMPLATES = Path(__file__).with_name("templates")
STYLE = (TEMPLATES / "page.css").read_text(encoding="utf-8")
THEME = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
"""With the fonts of the visitor's system: the library's own come from elsewhere."""
MOST_VALUES = 200
"""Of an attribute that gets a menu; others can be typed."""
LARGEST_UPLOAD = "20mb"
MOST_PIXELS = 64_000_000
"""Of a picture that is decoded: a large phone's have 50 million."""
AT_ONCE = 2
"""Searches that run side by side; the others wait for their turn."""
KEPT = (60, 600)
"""Every so many seconds the uploaded pictures are removed that are older than so many."""

READ_ADDRESS = "() => window.location.search"
WRITE_ADDRESS = """(address) => {
  if (address !== location.search) history.pushState(null, '', address || location.pathname);
}"""
GO_BACK = "() => window.addEventListener('popstate', () => location.reload())"
CLICKS = """
element.addEventListener('click', event => {
  const link = event.target.closest('a[data-like], a[data-words]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  trigger('click', {like: link.dataset.like || '', words: link.dataset.words || ''});
  window.scrollTo({top: 0});
});"""
"""A plain click on a card's link is answered in place; any other opens the address that the link has."""


def build_page(search: Search) -> gradio.Blocks:
    """The page of an index, ready to be launched."""
    menus = menus_of(search)

    def answer(words: str, picture: str | None, weight: float, like: str, top: int, others: str, *chosen: str | None):
        where = conditions_of(dict(zip(menus, chosen, strict=True)), others)
        question = Question(words[:LONGEST].strip(), like, where, top)
        return cards(search, question, picture, weight), question.address(), like

    def answer_anew(words: str, picture: str | None, weight: float, _like: str, *rest: Any):
        return answer(words, picture, weight, "", *rest)

    def follow(event: gradio.EventData, weight: float, *rest: Any):
        """What a card's link asks for takes the place of the words and the picture."""
        return event.words, None, *answer(event.words, None, weight, event.like, *rest)

    def arrive(address: str):
        question = Question.of_address(address)
        chosen, others = parted(question.where, menus)
        shown = [question.top, others, *(chosen.get(name, "") for name in menus)]
        return question.words, *shown, *answer(question.words, None, 0.5, question.like, *shown)

    with gradio.Blocks(title="Search", analytics_enabled=False, delete_cache=KEPT) as page:
        gradio.Markdown(f"## {len(live_products(search.folder, search.manifest)):,} products")
        with gradio.Row():
            words = gradio.Textbox(
                label="what you look for",
                placeholder="women navy striped kurta",
                max_length=LONGEST,
                container=False,
                scale=5,
                elem_id="words",
            )
            ask = gradio.Button("Search", variant="primary", scale=1, min_width=100, elem_id="search")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=250):
                picture, weight, describe = picture_box()
                filters = filter_box(menus)
            with gradio.Column(scale=4, min_width=320):
                found = gradio.HTML(js_on_load=CLICKS, elem_id="found")
        like, address = gradio.Textbox(visible=False), gradio.Textbox(visible=False)

        asked, answered = [words, picture, weight, like, *filters], [found, address, like]
        answers = [
            event(answer_anew, asked, answered) for event in (ask.click, words.submit, picture.upload, picture.clear)
        ]
        top, others, *menu_boxes = filters
        changed = (weight.release, top.input, others.submit, *(box.input for box in menu_boxes))
        answers += [event(answer, asked, answered) for event in changed]
        answers.append(found.click(follow, [weight, *filters], [words, picture, *answered]))
        for event in answers:
            event.then(fn=None, inputs=address, js=WRITE_ADDRESS)
        describe.click(lambda file: captions(search, file), picture, found)
        page.load(arrive, address, [words, *filters, *answered], js=READ_ADDRESS)
        page.load(fn=None, js=GO_BACK)
    page.queue(default_concurrency_limit=AT_ONCE)
    for block in page.blocks.values():
        take_uploads_only(block)
    return page


def picture_box() -> tuple[gradio.Image, gradio.Slider, gradio.Button]:
    """A picture, the share of the words beside it, and a button that asks for its words."""
    with gradio.Accordion("By a picture"):
        picture = gradio.Image(
            type="filepath", sources=["upload", "clipboard"], height=150, show_label=False, buttons=[],
            placeholder="Drop a picture, or click", elem_id="picture",
        )  # fmt: skip
        picture.preprocess = lambda upload: upload and upload.path  # decoded by us, with our limits, not by gradio
        with gradio.Group(visible=False) as beside:
            weight = gradio.Slider(0, 1, 0.5, step=0.1, label="share of the words")
            describe = gradio.Button("Words for this picture", size="sm", elem_id="describe")
    picture.change(lambda file: gradio.Group(visible=bool(file)), picture, beside, show_progress="hidden")
    return picture, weight, describe


def filter_box(menus: dict[str, list[str]]) -> list[gradio.Dropdown | gradio.Textbox]:
    """How many results, conditions that no menu has, and a menu an attribute."""
    with gradio.Accordion("Filters", open=False, elem_id="filters"):
        chosen = [
            gradio.Dropdown([("any", ""), *values], value="", label=name, elem_id=f"filter-{number}")
            for number, (name, values) in enumerate(menus.items())
        ]
        hint = f"{next(iter(menus), 'colour')}!=..., ..."
        others = gradio.Textbox(label="other conditions", placeholder=hint, max_length=LONGEST, elem_id="others")
        top = gradio.Dropdown(list(TOPS), value=TOPS[0], label="results", elem_id="top")
    return [top, others, *chosen]


def menus_of(search: Search) -> dict[str, list[str]]:
    """The attributes that get a menu, each with its values in order."""
    values = {name: sorted(filter(None, search.values(name)), key=str.lower) for name in search.attributes}
    return {name: found for name, found in values.items() if 1 < len(found) <= MOST_VALUES}


def cards(search: Search, question: Question, picture: str | None, weight: float) -> str:
    """The results of a question as HTML, or what is wrong with it."""
    try:
        if question.like:
            answer = search.similar(question.like, question.top, question.where)
            notes = [f"Products that look like “{search.title(question.like)}”:"]
            return rendered(search, question, answer.results, notes)
        if picture:
            answer = search.by_image(content_of(picture), question.words, weight, question.top, question.where)
        elif question.words:
            answer = search.by_text(question.words, question.top, question.where)
        else:
            return rendered(search, question, [], ["Type what you look for, or give a picture of it."])
    except InputError as error:
        return rendered(search, question, [], [str(error).removeprefix("--where ")])
    if not answer.results:
        return rendered(search, question, [], ["Nothing in the catalogue meets these conditions."])
    doubts = ["Nothing in the catalogue matches well. The nearest are:"] if answer.matches is False else []
    return rendered(search, question, answer.results, doubts)


def captions(search: Search, picture: str | None) -> str:
    """The captions that describe a picture best as HTML, or what is wrong with it."""
    if not picture:
        return rendered(search, Question(), [], ["Give a picture first."])
    try:
        found = search.words(content_of(picture))
    except InputError as error:
        return rendered(search, Question(), [], [str(error)])
    return template().render(notes=[], results=[], captions=[(*pair, Question(pair[0]).address()) for pair in found])


def content_of(picture: str) -> bytes:
    """The bytes of an uploaded picture.

    Raises:
        InputError: it is no image, or a larger one than is decoded.
    """
    try:
        content = Path(picture).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            pixels = image.width * image.height
    except FileNotFoundError:
        raise InputError("the picture was removed in the meantime; give it again") from None
    except BROKEN_IMAGE:
        raise InputError("the picture: no image that can be decoded") from None
    if pixels > MOST_PIXELS:
        raise InputError(f"the picture has {pixels / 1e6:.0f} million pixels, {MOST_PIXELS / 1e6:.0f} are the most")
    return content


def rendered(search: Search, question: Question, results: list[Any], notes: list[str]) -> str:
    shown = []
    for result in results:
        picture = base64.b64encode(search.thumbnail(result.id)).decode()
        shown.append((result, picture, Question(like=result.id, where=question.where).address()))
    return template().render(notes=notes, captions=[], results=shown)


def template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.finalize = without_templates
    return environment.get_template("cards.html.jinja")


def without_templates(value: Any) -> Any:
    """Text in which nothing is left that gradio's templates would evaluate: `${...}` and `{{...}}`."""
    if not isinstance(value, str):
        return value
    escaped = str(escape(value))
    for sign in "$`{}\\":
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    return Markup(escaped)


def take_uploads_only(block: Any) -> None:
    """Refuse a file that a request names by a web address, which gradio would fetch."""
    move = block.async_move_resource_to_block_cache

    async def move_if_uploaded(source: str | os.PathLike | None) -> str | None:
        if "://" in str(source):
            raise gradio.Error("a file from elsewhere; upload it")
        return await move(source)

    block.async_move_resource_to_block_cache = move_if_uploaded
