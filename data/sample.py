"""A small catalogue of drawn fashion products, so that everything here runs before any data set is fetched.

It has the layout of Kaggle's "Fashion Product Images": styles.csv and images/<id>.jpg.
"""

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for `python data/sample.py` from any folder

from common.errors import InputError, run_script
from common.files import remove, replacing
from common.workers import on_all_cores
from data.accessories import ACCESSORIES
from data.drawing import Look, photograph
from data.footwear import FOOTWEAR
from data.garments import GARMENTS
from data.kinds import BRANDS, COLOUR_WORDS, GENDER_WORDS, KINDS, PATTERN_WORDS, PHRASINGS, SEASONS

DEFAULT_FOLDER = ROOT / "data" / "sample"
VERSION = 1  # raise when pictures or titles change, so that older samples are drawn again
FIRST_ID = 10000
SHARED = 0.042  # chance that a product is listed again under the same title
UNNAMED = 0.15  # chance that a title leaves out one of its words
NO_SEASON = 0.015
SILHOUETTES = GARMENTS | FOOTWEAR | ACCESSORIES


class Product(NamedTuple):
    look: Look
    brand: str
    phrasing: int  # the members of a family put their titles the same way

    @property
    def title(self) -> str:
        rng, look, kind = Random(self.phrasing), self.look, KINDS[self.look.article]

        def word(text: str, synonyms: dict[str, str]) -> str:
            return synonyms.get(text, text) if rng.random() < 0.35 else text

        words = {
            "gender": word(look.gender, GENDER_WORDS),
            "colour": word(look.colour, COLOUR_WORDS),
            "pattern": word(look.pattern, PATTERN_WORDS) if len(kind.patterns) > 1 else "",
            "details": " ".join(rng.sample(look.details, len(look.details))),
        }
        if rng.random() < UNNAMED:
            words[rng.choice(("gender", "pattern", "details"))] = ""
        title = rng.choice(PHRASINGS).format(brand=self.brand, name=rng.choice(kind.names), **words)
        return " ".join(title.split())


def random_product(rng: Random) -> Product:
    article = rng.choice(list(KINDS))
    kind = KINDS[article]
    brand, mark = rng.choice(list(BRANDS[kind.category].items()))
    details = tuple(rng.choice(group) for group in kind.details)
    look = Look(article, rng.choice(kind.genders), rng.choice(kind.colours), rng.choice(kind.patterns), details, mark)
    return Product(look, brand, rng.getrandbits(32))


def variant(product: Product, rng: Random) -> Product:
    """The product with another gender, colour, pattern or detail."""
    look, kind = product.look, KINDS[product.look.article]
    changes = [
        [look._replace(gender=gender) for gender in kind.genders],
        [look._replace(colour=colour) for colour in kind.colours],
        [look._replace(pattern=pattern) for pattern in kind.patterns],
    ]
    for place, group in enumerate(kind.details):
        before, after = look.details[:place], look.details[place + 1 :]
        changes.append([look._replace(details=(*before, detail, *after)) for detail in group])
    return product._replace(look=rng.choice(rng.choice(changes)))


def catalogue(products: int, seed: int) -> list[Product]:
    """Families that differ in one attribute, and some products listed more than once, in random order."""
    rng = Random(seed)
    listed: list[Product] = []
    while len(listed) < products:
        base = random_product(rng)
        family = [base] + [variant(base, rng) for _ in range(rng.randint(0, 3))]
        for product in {member.title: member for member in family}.values():
            listed += [product] * (rng.choice((2, 2, 3, 4)) if rng.random() < SHARED else 1)
    del listed[products:]
    rng.shuffle(listed)
    return listed


def styles(listed: list[Product], seed: int) -> pd.DataFrame:
    """The rows of styles.csv."""
    rng = Random(seed)
    rows = []
    for number, product in enumerate(listed, FIRST_ID):
        look, kind = product.look, KINDS[product.look.article]
        rows.append(
            {
                "id": number,
                "gender": look.gender,
                "masterCategory": kind.category,
                "subCategory": kind.subcategory,
                "articleType": look.article,
                "baseColour": look.colour,
                "season": "" if rng.random() < NO_SEASON else rng.choice(SEASONS),
                "year": rng.randint(2011, 2018),
                "usage": kind.usage,
                "productDisplayName": product.title,
            }
        )
    return pd.DataFrame(rows)


def sample_table(products: int = 2400, seed: int = 0) -> pd.DataFrame:
    """The rows of the catalogue, without drawing it."""
    return styles(catalogue(products, seed), seed)


def draw_file(what: tuple[Path, Look, str]) -> None:
    path, look, seed = what
    photograph(look, SILHOUETTES[look.article], seed).save(path, quality=90)


def write_catalogue(folder: Path, products: int, seed: int) -> None:
    """Draw the catalogue into an empty folder."""
    listed = catalogue(products, seed)
    styles(listed, seed).to_csv(folder / "styles.csv", index=False)
    (folder / "images").mkdir()
    ids = range(FIRST_ID, FIRST_ID + products)
    paths = [folder / "images" / f"{number}.jpg" for number in ids]
    looks = [product.look for product in listed]
    seeds = [f"{seed}/{number}" for number in ids]
    with closing(on_all_cores(draw_file, zip(paths, looks, seeds, strict=True), products)) as drawn:
        for _ in tqdm(drawn, "drawing the sample catalogue", products, unit="product"):
            pass
    (folder / "sample.json").write_text(json.dumps(settings(products, seed)))


def settings(products: int, seed: int) -> dict[str, int]:
    return {"version": VERSION, "products": products, "seed": seed}


def make_sample(folder: Path = DEFAULT_FOLDER, products: int = 2400, seed: int = 0) -> Path:
    """Draw the sample catalogue into a folder, unless it is there already.

    Raises:
        InputError: the folder holds something else.
    """
    folder = Path(folder)
    note = folder / "sample.json"
    if folder.exists() and any(folder.iterdir()):
        if not note.is_file():
            raise InputError(f"{folder}: not drawn by data/sample.py, so it stays as it is; move it elsewhere")
        if (folder / "styles.csv").exists() and json.loads(note.read_text()) == settings(products, seed):
            return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Drawn beside its place and moved there when complete: an interrupted run leaves nothing half-made.
    with replacing(folder) as fresh:
        fresh.mkdir()
        write_catalogue(fresh, products, seed)
        outdated = fresh.with_name(f"outdated-{fresh.name}")
        if folder.exists():
            folder.rename(outdated)
    remove(outdated)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=DEFAULT_FOLDER, help="folder of the catalogue")
    parser.add_argument("--products", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.products < 1:
        raise InputError(f"--products {options.products}: expected a number from 1 up")
    folder = make_sample(options.output, options.products, options.seed)
    table = pd.read_csv(folder / "styles.csv")
    print(
        f"{folder} holds {len(table)} drawn products of {table.articleType.nunique()} article types, "
        f"under {table.productDisplayName.nunique()} titles."
    )


if __name__ == "__main__":
    run_script(main)
