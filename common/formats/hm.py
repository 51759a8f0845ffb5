"""H&M's catalogue (Kaggle, h-and-m-personalized-fashion-recommendations): `articles.csv` and `images/0xx/<id>.jpg`."""

from pathlib import Path

from common.errors import InputError
from common.formats import table
from common.formats.source import Source

TABLE, ID, FAMILY, NAME, DETAIL = "articles.csv", "article_id", "product_code", "prod_name", "detail_desc"


def matches(path: Path) -> bool:
    return (path / TABLE).is_file()


def read(path: Path) -> Source:
    """Read the folder. A product is a `product_code`: its articles are one piece in several colours.

    The caption is the name and the description of an article; some have no description.

    Raises:
        InputError: articles.csv cannot be read or lacks a column, or there is no images/ folder.
    """
    if not (path / "images").is_dir():
        raise InputError(f"{path}: {TABLE} is there but the folder images/ is not; put the photographs into it")
    source = table.read(path / TABLE)
    frame = source.frame
    if missing := [name for name in (ID, FAMILY, NAME, DETAIL) if name not in frame]:
        raise InputError(f"{path / TABLE}: no column {', '.join(missing)}; its columns are {list(frame.columns)}")
    frame["image"] = frame[ID].str[:3] + "/" + frame[ID] + ".jpg"
    names, details = frame.pop(NAME).str.strip(), frame.pop(DETAIL).str.strip()
    frame["caption"] = [". ".join(filter(None, texts)) for texts in zip(names, details, strict=True)]
    source.path, source.image_folder = path, path / "images"
    source.columns = {"image": "image", "caption": "caption", "id": FAMILY}
    source.found.insert(0, f"H&M, {TABLE} and images/")
    return source
