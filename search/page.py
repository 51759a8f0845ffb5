"""The web page of an index: a search bar, a picture, filters, and results as cards."""

import base64
import io
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
MOST_WAITING = 200
"""Searches that wait for their turn; further ones are told to come back."""
MOST_PIXELS = 64_000_000
"""Of a picture that is decoded: a large phone's have 50 million."""
IN_TURN = {"concurrency_id": "search", "concurrency_limit": 1, "trigger_mode": "always_last"}
"""One search at a time, so that none overtakes another and no two large pictures are decoded together; what was asked
last while one ran is asked again."""

READ_ADDRESS = "() => window.location.search"
WRITE_ADDRESS = """(address) => {
  if (address !== location.search) history.pushState(null, '', address || location.pathname);
}"""
SHOW_FOUND = "() => document.querySelector('#found').scrollIntoView({block: 'nearest'})"
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


def build_page(search: Search, uploads: Path) -> gradio.Blocks:
    """The page of an index, ready to be launched; `uploads` is the folder that it puts pictures in."""
    menus = menus_of(search)

    def answer(words: str, picture: Path | None, weight: float, like: str, top: int, others: str, *chosen: str | None):
        where = conditions_of(dict(zip(menus, chosen, strict=True)), others or "")
        question = Question((words or "")[:LONGEST].strip(), (like or "")[:LONGEST], where, top)
        return cards(search, question, picture, weight), question.address(), like

    def answer_anew(words: str, picture: Path | None, weight: float, like: str, *rest: Any):
        """Words and a picture take the place of a product."""
        return answer(words, picture, weight, "" if words or picture else like, *rest)

    def follow(event: gradio.EventData, weight: float, *rest: Any):
        """What a card's link asks for takes the place of the words and the picture."""
        return event.words, None, *answer(event.words, None, weight, event.like, *rest)

    def arrive(address: str):
        question = Question.of_address(address)
        chosen, others = parted(question.where, menus)
        shown = [question.top, others, *(chosen.get(name, "") for name in menus)]
        return question.words, *shown, *answer(question.words, None, 0.5, question.like, *shown)

    with gradio.Blocks(title="Search", analytics_enabled=False) as page:
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
                picture, weight, describe = picture_box(uploads)
                filters = filter_box(menus)
            with gradio.Column(scale=4, min_width=320):
                found = gradio.HTML(js_on_load=CLICKS, elem_id="found")
        like, address = gradio.Textbox(visible=False), gradio.Textbox(visible=False)

        asked, answered = [words, picture, weight, like, *filters], [found, address, like]
        answers = [
            event(answer_anew, asked, answered, **IN_TURN)
            for event in (ask.click, words.submit, picture.upload, picture.clear)
        ]
        top, others, *menu_boxes = filters
        changed = (weight.release, top.input, others.submit, others.blur, *(box.input for box in menu_boxes))
        answers += [event(answer, asked, answered, **IN_TURN) for event in changed]
        answers.append(found.click(follow, [weight, *filters], [words, picture, *answered], **IN_TURN))
        for event in answers:
            event.then(fn=None, inputs=address, js=WRITE_ADDRESS)
        described = describe.click(lambda file: captions(search, file), picture, found, **IN_TURN)
        described.then(fn=None, js=SHOW_FOUND)
        page.load(arrive, address, [words, *filters, *answered], js=READ_ADDRESS, **IN_TURN)
        page.load(fn=None, js=GO_BACK)
    page.queue(max_size=MOST_WAITING)
    for block in page.blocks.values():
        take_uploads_only(block, uploads)
    return page


def picture_box(uploads: Path) -> tuple[gradio.Image, gradio.Slider, gradio.Button]:
    """A picture, the share of the words beside it, and a button that asks for its words."""
    with gradio.Accordion("By a picture"):
        picture = gradio.Image(
            type="filepath", sources=["upload", "clipboard"], height=150, show_label=False, buttons=[],
            placeholder="Drop a picture, or click", elem_id="picture",
        )  # fmt: skip
        # gradio would decode it, without our limits, and takes any path of this machine that a request makes up
        picture.preprocess = lambda upload: upload and uploaded(upload.path, uploads)
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


def cards(search: Search, question: Question, picture: Path | None, weight: float) -> str:
    """The results of a question as HTML, or what is wrong with it."""
    try:
        if question.like:
            return look_alikes(search, question)
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
    notes = ["The picture is not part of this page's address."] if picture else []
    if answer.matches is False:
        notes.append("Nothing in the catalogue matches well. The nearest are:")
    return rendered(search, question, answer.results, notes)


def look_alikes(search: Search, question: Question) -> str:
    try:
        title = search.title(question.like)
    except InputError:  # its message names a folder, and is for those who typed a command
        return rendered(search, question, [], [f"There is no product {question.like}."])
    answer = search.similar(question.like, question.top, question.where)
    return rendered(search, question, answer.results, [f"Products that look like “{title}”:"])


def captions(search: Search, picture: Path | None) -> str:
    """The captions that describe a picture best as HTML, or what is wrong with it."""
    if not picture:
        return rendered(search, Question(), [], ["Give a picture first."])
    try:
        found = search.words(content_of(picture))
    except InputError as error:
        return rendered(search, Question(), [], [str(error)])
    return template().render(notes=[], results=[], captions=[(*pair, Question(pair[0]).address()) for pair in found])


def content_of(picture: Path) -> bytes:
    """The bytes of an uploaded picture.

    Raises:
        InputError: it is no image, or a larger one than is decoded.
    """
    try:
        content = picture.read_bytes()
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
    shown = [
        (result, picture_of(search, result.id), Question(like=result.id, where=question.where).address())
        for result in results
    ]
    return template().render(notes=notes, captions=[], results=shown)


def picture_of(search: Search, product: str) -> str:
    """A product's thumbnail in base64; "" for one that a server still has and the index's folder no longer."""
    try:
        return base64.b64encode(search.thumbnail(product)).decode()
    except InputError:
        return ""


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


def uploaded(path: str, uploads: Path) -> Path:
    """The file that a request names.

    Raises:
        gradio.Error: it is not one that was uploaded.
    """
    found = Path(path).resolve()
    if not (found.is_relative_to(uploads.resolve()) and found.is_file()):
        raise gradio.Error("not a picture that was given to this page; give it again")
    return found


def take_uploads_only(block: Any, uploads: Path) -> None:
    """Refuse files that a request makes up, before gradio copies them from this machine or from a web address."""
    move = block.async_move_resource_to_block_cache

    async def move_if_uploaded(source: str | Path | None) -> str | None:
        return source and await move(str(uploaded(str(source), uploads)))

    block.async_move_resource_to_block_cache = move_if_uploaded
