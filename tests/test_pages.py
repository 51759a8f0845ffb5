"""common/report/pages.py, searches.py and embedding_map.py: against loops and cases by hand, and in a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from common.embedding import Embedded
from common.errors import InputError
from common.gallery import Gallery
from common.recall import chance, metrics, rank_queries
from common.report import embedding_map, pages, searches
from common.report.intervals import figure_intervals
from common.report.searches import Searches, choose

DIRECTIONS = ("text_to_image", "image_to_text")
SCRIPT = '<script>alert(1)</script> & <b>"bold\'"</b>'
TYPES = ("Shirts", "Shoes", "Ties")


def rows_of(titles, products=None, groups=None, **attributes):
    """One image a row."""
    count = len(titles)
    products = products or [f"p{number}" for number in range(count)]
    table = {"product": products, "image": range(count), "caption": titles, "group": groups or products, **attributes}
    return pd.DataFrame(table)


def embedded_of(rows, image_emb, text_emb, attributes=(), size=(32, 24)):
    """An `Embedded` of rows and embeddings; image i of the gallery is of one colour."""
    gallery = Gallery.of(rows)
    image_emb, text_emb = torch.as_tensor(image_emb).float(), torch.as_tensor(text_emb).float()
    colours = np.random.default_rng(7).integers(256, size=(rows["image"].max() + 1, 1, 1, 3), dtype=np.uint8)
    pixels = np.broadcast_to(colours, (len(colours), *size, 3))
    data = SimpleNamespace(
        images=SimpleNamespace(pixels=pixels),
        catalogue=SimpleNamespace(path=Path("/some/where/tiny.csv"), attributes=list(attributes)),
    )
    ranks = {
        "image_to_text": rank_queries(image_emb, text_emb, gallery.relevant),
        "text_to_image": rank_queries(text_emb, image_emb, gallery.relevant.flip(0)),
    }
    return Embedded(None, None, torch.device("cpu"), data, "test", gallery, image_emb, text_emb, ranks)


def report_of(embedded):
    gallery, ranks = embedded.gallery, embedded.ranks
    sizes = {"image_to_text": len(gallery.captions), "text_to_image": len(gallery.images)}
    groups = {"image_to_text": gallery.image_group, "text_to_image": gallery.caption_group}
    figures = {direction: metrics(ranks[direction]) for direction in DIRECTIONS}
    return {
        "model": "some_model",
        "run": "runs/some",
        "split": "test",
        "gallery": {"images": len(gallery.images), "texts": len(gallery.captions), "products": gallery.products},
        **figures,
        "rsum": sum(figures[direction][f"R@{k}"] for direction in DIRECTIONS for k in (1, 5, 10)),
        "interval": figure_intervals(ranks, groups),
        "chance": {direction: chance(ranks[direction].counts, sizes[direction]) for direction in DIRECTIONS},
    }


def noisy(count=90, dim=16, seed=0):
    """Products whose captions find them the worse the later they come; some share a caption, some a group."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(count)
    names = [f"Product {number - number % 2 if number % 10 == 1 else number} of <i>" for number in numbers]
    rows = rows_of(
        names,
        groups=[f"g{number // 2}" for number in numbers],
        articleType=[TYPES[number % 3] for number in numbers],
        baseColour=["" if number % 7 == 0 else "Navy <Blue>" for number in numbers],
    )
    image_emb = rng.standard_normal((count, dim)) + 3 * np.eye(3, dim)[numbers % 3]
    text_emb = image_emb + 2 * (numbers / count)[:, None] * rng.standard_normal((count, dim))
    text_emb = text_emb[pd.factorize(rows["caption"])[0].searchsorted(np.arange(rows["caption"].nunique()))]
    return embedded_of(rows, image_emb, text_emb, ("articleType", "baseColour"))


def squares(file):
    Image.new("RGB", (640, 360), "navy").save(file)


@pytest.fixture(scope="module")
def embedded():
    return noisy()


@pytest.fixture(scope="module")
def folder(embedded, tmp_path_factory):
    """The pages of `embedded`, with two charts."""
    folder = tmp_path_factory.mktemp("pictures") / "pages"
    charts = [("Recall by <type>", "What & why.", squares), ("Curves", "", squares)]
    pages.write(folder, report_of(embedded), embedded, charts, ["", "figures <as printed>", "  R@1 12.3"])
    return folder


class Page(HTMLParser):
    """The links and images of a page, its text, and the classes, text and images of each search and its cards."""

    def __init__(self, file):
        super().__init__()
        self.links, self.images, self.ids, self.tags = [], [], set(), set()
        self.text, self.searches, self.card = "", [], None
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        self.text += " " * (tag in ("td", "th"))
        self.ids.add(attributes.get("id"))
        if tag == "article":
            self.searches.append({"text": "", "cards": []})
        if tag == "li":
            self.card = {"classes": attributes["class"].split(), "text": "", "title": attributes["title"]}
            self.searches[-1]["cards"].append(self.card)
        if tag == "img":
            assert attributes["alt"]
            self.images.append(attributes["src"])
            if self.card is not None:
                self.card["image"] = attributes["src"]
        if tag in ("a", "link", "script", "iframe"):
            self.links.append(attributes.get("href") or attributes.get("src"))

    def handle_endtag(self, tag):
        self.card = None if tag == "li" else self.card

    def handle_data(self, text):
        self.text += text
        if self.card is not None:
            self.card["text"] += text
        elif self.searches:
            self.searches[-1]["text"] += text


# --- which queries -------------------------------------------------------------------------------------


def test_the_best_the_middle_and_the_worst_each_of_another_group():
    order = np.array([4, 1, 0, 7, 2, 8, 3, 6, 5])
    #       best: 4, not 1 (same group), 0; worst: 5, then 6; middle place 4: query 2, then 7 before 8
    group = np.array(["b", "a", "c", "d", "a", "e", "f", "g", "h"])
    assert choose(order, group, most=2) == {"best": [4, 0], "median": [7, 2], "worst": [5, 6]}


@pytest.mark.parametrize(("groups", "counts"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (8, (2, 2, 2)),
                                                 (36, (12, 12, 12)), (500, (12, 12, 12))])  # fmt: skip
def test_few_groups_are_shared_out(groups, counts):
    found = choose(np.arange(2 * groups), np.arange(2 * groups) // 2)
    assert tuple(map(len, found.values())) == counts
    shown = [query // 2 for queries in found.values() for query in queries]
    assert len(set(shown)) == len(shown)


def test_the_best_query_is_the_one_furthest_ahead_by_hand():
    """Cosines of query i with item j; all but query 3 find theirs first, query 1 with the largest margin."""
    cosine = torch.tensor([[0.9, 0.8, 0.1, 0.0], [0.0, 0.9, 0.2, 0.1], [0.3, 0.2, 0.4, 0.3], [0.6, 0.5, 0.4, 0.3]])
    query_emb = torch.cat([cosine, (1 - cosine.square().sum(1, keepdim=True)).clamp(min=0).sqrt()], dim=1)
    rows = rows_of(["a", "b", "c", "d"])
    found = Searches(embedded_of(rows, torch.eye(4, 5), query_emb), "text_to_image")
    unit = cosine / query_emb.norm(dim=1, keepdim=True)
    assert found.margins == pytest.approx((unit.diag() - unit.masked_fill(torch.eye(4) > 0, -1).amax(1)).numpy())
    chosen = found.chosen()
    assert [search.query for search in chosen["best"]] == [1]
    assert [search.query for search in chosen["worst"]] == [3]
    worst = chosen["worst"][0]
    assert [(result.item, result.rank, result.hit) for result in worst.results] == [
        (0, 1, False), (1, 2, False), (2, 3, False), (3, 4, True)
    ]  # fmt: skip
    assert (worst.best, worst.right) == (worst.results[3], 1)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("held", [2**22, 40])
def test_the_order_shown_is_that_of_the_ranks_ties_included(direction, held, monkeypatch):
    """Coarse embeddings, so that many scores tie: every hit stands at its rank, the margin is that of a loop."""
    monkeypatch.setattr(searches, "RESULTS", 1000)
    monkeypatch.setattr(searches, "HELD", held)
    rng = np.random.default_rng(3)
    products = [f"p{number % 20}" for number in range(30)]
    rows = rows_of([f"title {number % 17}" for number in range(30)], products)
    embedded = embedded_of(rows, rng.integers(1, 3, (30, 3)), rng.integers(1, 3, (17, 3)))
    found, ranks = Searches(embedded, direction), embedded.ranks[direction]
    query_emb, item_emb = embedded.text_emb.double(), embedded.image_emb.double()
    pairs = set(map(tuple, embedded.gallery.relevant.flip(0).T.tolist()))
    if direction == "image_to_text":
        query_emb, item_emb, pairs = item_emb, query_emb, {pair[::-1] for pair in pairs}
    for query, expected in enumerate(ranks.rank.split(ranks.counts.tolist())):
        search = found.search(query)
        assert sorted(result.item for result in search.results) == list(range(len(item_emb)))
        assert [result.rank for result in search.results] == list(range(1, len(item_emb) + 1))
        assert [result.rank for result in search.results if result.hit] == expected.tolist()
        assert {result.item for result in search.results if result.hit} == {i for q, i in pairs if q == query}
        assert search.best.rank == ranks.best[query] and search.right == ranks.counts[query]
        cosine = [torch.cosine_similarity(query_emb[query], item, dim=0).item() for item in item_emb]
        assert [result.cosine for result in search.results] == pytest.approx([cosine[r.item] for r in search.results])
        right = max(c for item, c in enumerate(cosine) if (query, item) in pairs)
        wrong = max(c for item, c in enumerate(cosine) if (query, item) not in pairs)
        assert search.margin == pytest.approx(right - wrong, abs=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_ranks_of_chosen_queries(embedded, direction):
    chosen = Searches(embedded, direction).chosen()
    best = embedded.ranks[direction].best.numpy()
    assert [len(found) for found in chosen.values()] == [12, 12, 12]
    ranks = {kind: [search.best.rank for search in found] for kind, found in chosen.items()}
    assert all(search.best.rank == best[search.query] for found in chosen.values() for search in found)
    assert ranks["best"] == [1] * 12
    assert ranks["worst"] == sorted(ranks["worst"], reverse=True) and ranks["worst"][0] == best.max()
    assert min(ranks["median"]) <= np.median(best) <= max(ranks["median"])
    assert ranks["median"] == sorted(ranks["median"])
    margins = [search.margin for search in chosen["best"]]
    assert margins == sorted(margins, reverse=True) and margins[0] > 0


# --- the pages -----------------------------------------------------------------------------------------


def test_every_link_and_image_exists_and_is_relative(folder):
    reached = {Path("index.html")}
    for file in folder.glob("*.html"):
        page = Page(file)
        assert "script" not in page.tags
        for link in page.links + page.images:
            if link != "data:,":
                assert not re.match(r"\w+:|/", link)
                assert (folder / link.split("#")[0]).is_file() if link[0] != "#" else link[1:] in page.ids
                reached.add(Path(link))
        assert not re.search(r"(src|href|url)\s*[=(]\s*['\"]?(https?:|//)", file.read_text(encoding="utf-8"))
    files = {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
    assert files == {path for path in reached if "#" not in str(path)}, "no file that no page shows"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_hits_and_ranks_on_the_page(folder, embedded, direction):
    chosen = [search for found in Searches(embedded, direction).chosen().values() for search in found]
    shown = Page(folder / f"{direction}.html").searches
    assert len(shown) == len(chosen) == 36
    what = "image" if direction == "text_to_image" else "caption"
    outside = 0
    for search, row in zip(chosen, shown, strict=True):
        first, rest = row["cards"][:8], row["cards"][8:]
        for result, card in zip(search.results, first, strict=True):
            rank, cosine, *words = card["text"].split()
            assert (rank, cosine) == (str(result.rank), f"{result.cosine:.3f}")
            assert (words[0] == "hit") is ("hit" in card["classes"]) is result.hit
        text = " ".join(row["text"].split())
        right = f"first of {search.right} right {what}s" if search.right > 1 else f"right {what}"
        assert f"{right} is at rank {search.best.rank} of {len(search_gallery(embedded, direction))}" in text
        assert ("ahead of the first wrong one" in text) is (search.best.rank == 1)
        if search.best.rank <= 8:
            assert not rest
        else:
            outside += 1
            assert len(rest) == 1 and {"hit", "below"} <= set(rest[0]["classes"])
            assert rest[0]["text"].split()[0] == str(search.best.rank) and "right one" in rest[0]["text"]
    assert outside > 3, "the case must occur"


def search_gallery(embedded, direction):
    return embedded.gallery.images if direction == "text_to_image" else embedded.gallery.captions


def test_cards_show_the_image_title_type_and_colour_of_their_item(folder, embedded):
    gallery = embedded.gallery
    for direction in DIRECTIONS:
        chosen = Searches(embedded, direction).chosen()["worst"][0]
        row = Page(folder / f"{direction}.html").searches[24]
        for result, card in zip(chosen.results, row["cards"], strict=False):
            item = "image" if direction == "text_to_image" else "caption"
            pair = gallery.pairs[gallery.pairs[item] == result.item].iloc[0]
            title, details = gallery.captions[pair["caption"]], [pair["articleType"], pair["baseColour"]]
            assert card["title"] == title and title in card["text"]
            assert " · ".join(filter(None, details)) in card["text"]
            with Image.open(folder / card["image"]) as picture:
                pixels = embedded.data.images.pixels[gallery.images[pair["image"]]]
                assert picture.size == (24, 32)
                assert np.abs(np.asarray(picture).astype(int) - pixels).max() <= 4  # JPEG


def test_the_index_says_what_was_measured(folder, embedded):
    report, page = report_of(embedded), Page(folder / "index.html")
    words = " ".join(page.text.split())
    assert "some_model" in words and "tiny.csv" in words and "runs/some" in words
    assert f"{len(embedded.gallery.images)} images, {len(embedded.gallery.captions)} distinct captions" in words
    for direction in DIRECTIONS:
        name = pages.DIRECTIONS[direction]
        figures = [f"{report[direction][figure]:.1f}" for figure in ("R@1", "R@5", "R@10", "median_rank")]
        low, high = report["interval"][direction]["R@1"]
        chances = [f"{report['chance'][direction][f'R@{k}']:.2f}" for k in (1, 5, 10)]
        assert f"{name} {' '.join(figures)} 95% interval {low:.1f}–{high:.1f}" in words
        assert f"chance {' '.join(chances)}" in words
    assert f"{report['rsum']:.1f}" in words
    assert "Recall by <type>" in words and "What & why." in words and "figures <as printed> R@1 12.3" in words
    assert page.images.count("charts/chart-01.png") == page.images.count("charts/chart-02.png") == 1
    assert len(page.searches) == 6


def test_what_the_catalogue_holds_is_escaped(tmp_path):
    rows = rows_of([SCRIPT, "b", "c", *"defghijkl"], type=[SCRIPT] * 12, colour=["x"] * 12)
    embedded = embedded_of(rows, torch.eye(12), torch.eye(12), ("type", "colour"))
    pages.write(tmp_path, report_of(embedded) | {"run": SCRIPT}, embedded, [(SCRIPT, SCRIPT, squares)], [SCRIPT])
    for name in ("index", *DIRECTIONS, "map"):
        assert "script" not in Page(tmp_path / f"{name}.html").tags
        assert "<script" not in (tmp_path / f"{name}.html").read_text()
    assert SCRIPT in Page(tmp_path / "text_to_image.html").text


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_few_queries(count, tmp_path):
    embedded = embedded_of(rows_of([f"title {number}" for number in range(count)]), torch.eye(count), torch.eye(count))
    pages.write(tmp_path, report_of(embedded), embedded, [])
    shown = Page(tmp_path / "text_to_image.html").searches
    assert len(shown) == {1: 1, 2: 2, 3: 3, 11: 9}[count]
    assert all(len(search["cards"]) == min(8, count) for search in shown)
    assert (tmp_path / "map.html").is_file() is (count >= embedding_map.FEWEST)
    assert ("map.html" in Page(tmp_path / "index.html").links) is (count >= embedding_map.FEWEST)


def test_embeddings_that_are_all_the_same(tmp_path):
    embedded = embedded_of(rows_of([f"title {number}" for number in range(12)]), torch.ones(12, 4), torch.ones(12, 4))
    pages.write(tmp_path, report_of(embedded), embedded, [])
    for search in Page(tmp_path / "text_to_image.html").searches:
        assert "rank 12 of 12" in " ".join(search["text"].split())
        assert [("hit" in card["classes"]) for card in search["cards"]] == [False] * 8 + [True]


def test_without_a_gallery_only_charts_and_text(tmp_path):
    pages.write(tmp_path, {"comparison": {}}, None, [("Curves", "Two runs.", squares)], ["", "run a is ahead"])
    page = Page(tmp_path / "index.html")
    assert page.images == ["charts/chart-01.png"] and page.links == ["data:,"]
    assert "Curves" in page.text and "Two runs." in page.text and "run a is ahead" in page.text
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"index.html", "chart-01.png"}


def test_the_same_bytes_twice(folder, embedded, tmp_path):
    again = noisy()
    charts = [("Recall by <type>", "What & why.", squares), ("Curves", "", squares)]
    pages.write(tmp_path, report_of(again), again, charts, ["", "figures <as printed>", "  R@1 12.3"])
    first, second = ({f.relative_to(at): f.read_bytes() for f in at.rglob("*") if f.is_file()}
                     for at in (folder, tmp_path))  # fmt: skip
    assert first == second


# --- the folder ----------------------------------------------------------------------------------------


def test_a_folder_is_created(tmp_path):
    pages.check(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("content", [None, "<html>my own page</html>"])
def test_a_foreign_folder_is_refused_and_left_alone(content, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"dear")
    if content:
        (tmp_path / "index.html").write_text(content)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for call in (lambda: pages.check(tmp_path), lambda: pages.write(tmp_path, {}, None, [])):
        with pytest.raises(InputError, match=r"--pictures .*holds files that are not pages of an earlier report"):
            call()
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for way in ("file", "file/folder"):
        with pytest.raises(InputError, match=rf"--pictures .*{way}: a file is in the way"):
            pages.check(tmp_path / way)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"--pictures .*: cannot be used"):
        pages.check(tmp_path / ("long" * 100))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=r"--pictures .*: cannot be written to"):
        pages.check(tmp_path)


def test_an_earlier_report_is_replaced_and_foreign_files_stay(embedded, tmp_path):
    charts = [("Curves", "", squares)] * 2
    pages.write(tmp_path, report_of(embedded), embedded, charts)
    foreign = [tmp_path / name for name in ("notes.txt", "thumbnails/me.jpg", "charts/chart-ab.png", "how_to_x.html")]
    for file in foreign:
        file.write_text("dear")
    small = embedded_of(rows_of(["a", "b", "c"]), torch.eye(3), torch.eye(3))
    pages.write(tmp_path, report_of(small), small, charts[:1])
    assert all(file.read_text() == "dear" for file in foreign)
    left = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert left - {file.relative_to(tmp_path).as_posix() for file in foreign} == {
        "index.html", "text_to_image.html", "image_to_text.html", "charts/chart-01.png",
        *(f"thumbnails/000000{number}.jpg" for number in range(3)),
    }  # fmt: skip
    with Image.open(tmp_path / "thumbnails" / "0000002.jpg") as picture:
        assert np.abs(np.asarray(picture).astype(int) - small.data.images.pixels[2]).max() <= 4, "written anew"


def test_a_report_that_was_cut_off_can_be_replaced(tmp_path):
    def stop(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pages.write(tmp_path, {}, None, [("Curves", "", stop)])
    pages.check(tmp_path)
    pages.write(tmp_path, {}, None, [("Curves", "", squares)])
    assert "Runs compared" in (tmp_path / "index.html").read_text()


# --- the map -------------------------------------------------------------------------------------------


def test_images_stand_in_cells_of_their_own_beside_those_alike(monkeypatch):
    monkeypatch.setattr(embedding_map, "MOST", 60)
    embedded = noisy()
    found = embedding_map.lay_out(embedded)
    assert len(found.image) == 60 == len(set(found.image)) == len(set(zip(found.column, found.row, strict=True)))
    assert found.column.min() >= 0 and found.column.max() < found.columns
    assert found.row.min() >= 0 and found.row.max() < found.rows
    assert max(found.size) <= embedding_map.SIDE and found.size[0] == found.columns * found.cell[0]
    kind = found.image % 3
    place = np.column_stack([found.column, found.row])
    distance = np.square(place[:, None] - place).sum(2) + 10**6 * np.eye(60, dtype=int)
    assert (kind[distance.argmin(1)] == kind).mean() > 0.8, "a third by chance"


def test_points_go_to_the_nearest_free_cell_by_hand():
    # the middle one is served first, its double takes the cell to the left, the outer ones come last
    points = np.array([[1.0, 0], [1, 0], [2, 0], [0, 0]])
    column, row = embedding_map.to_cells(points, columns=5, rows=2)
    assert column.tolist() == [2, 1, 4, 0]
    assert row.tolist() == [0, 0, 0, 0]


def test_names_of_types_stand_on_an_image_of_theirs_and_rare_ones_have_none():
    embedded = noisy()
    rare = embedded.gallery.pairs["image"].isin([0, 1, 2, 3])
    embedded.gallery.pairs.loc[rare, "articleType"] = "Rare"
    found = embedding_map.lay_out(embedded)
    names = embedding_map.type_names(found, embedded)
    assert {name for name, *_ in names} == set(TYPES)
    at = dict(zip(zip(found.column, found.row, strict=True), found.image, strict=True))
    for name, column, row in names:
        assert TYPES[at[column, row] % 3] == name


def test_the_map_shows_its_images(folder, embedded):
    found = embedding_map.lay_out(embedded)
    page = (folder / "map.html").read_text()
    assert "All 90 images" in page and page.count("<i ") == 90
    width, height = found.cell
    with Image.open(folder / "map.jpg") as picture:
        assert picture.size == found.size
        drawn = np.asarray(picture).astype(int)
    right = 0
    for image, column, row in zip(found.image, found.column, found.row, strict=True):
        middle = drawn[int((row + 0.5) * height), int((column + 0.5) * width)]
        right += np.abs(middle - embedded.data.images.pixels[embedded.gallery.images[image], 0, 0]).max() < 12
    assert right >= 85, "names cover a few"


# --- in a browser --------------------------------------------------------------------------------------

LOOK = """() => {
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const faint = [], small = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), parent = walker.currentNode.parentElement;
    if (!text || parent.tagName === 'STYLE') continue;
    const style = getComputedStyle(parent);
    const [a, b] = [light(numbers(style.color)), light(ground(parent))];
    if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) faint.push(text);
    if (parseFloat(style.fontSize) < 11) small.push(text);
  }
  return {
    faint, small, broken: [...document.images].filter(i => !i.naturalWidth).map(i => i.src),
    text: document.body.innerText,
    tiny: [...document.images].filter(i => i.getBoundingClientRect().width < 40).map(i => i.src),
    wide: document.documentElement.scrollWidth - innerWidth, links: [...document.links].map(l => l.href.split('#')[0]),
  };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_all_pages_open_from_disk_and_are_legible(browser, width, scheme, tmp_path_factory):
    folder = tmp_path_factory.mktemp("with space & sign") / "pages"
    embedded = noisy()
    embedded.gallery.captions[0] = "Unbroken" * 60
    text = ["a line of the report that is far longer than any phone is wide " * 4]
    pages.write(folder, report_of(embedded), embedded, [("Curves", "Two runs.", squares)], text)
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(120_000)  # a busy machine
    asked, trouble = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: trouble.append(request.url))
    page.on("console", lambda message: trouble.append(message.text))
    open_links, seen = [(folder / "index.html").as_uri()], set()
    while open_links:
        link = open_links.pop()
        if link in seen:
            continue
        seen.add(link)
        page.goto(link)
        if link.endswith(".html"):
            found = page.evaluate(LOOK)
            problems = {key: found[key] for key in ("faint", "small", "broken", "tiny") if found[key]}
            assert not problems and found["wide"] <= 0, link
            assert len(found["text"]) > 200
            open_links += found["links"]
    page.close()
    assert {Path(link).name for link in seen} == {
        "index.html", "text_to_image.html", "image_to_text.html", "map.html", "map.jpg"
    }  # fmt: skip
    assert not trouble and asked and all(url.startswith(("file://", "data:")) for url in asked)
