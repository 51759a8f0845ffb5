"""A small catalogue of drawn fashion products, so that everything here runs before any data set is fetched.

It has the layout of Kaggle's "Fashion Product Images": styles.csv and images/<id>.jpg.
"""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for `python data/sample.py` from any folder

from data.accessories import ACCESSORIES
from data.drawing import COLOURS, Look, photograph
from data.garments import GARMENTS

DEFAULT_FOLDER = ROOT / "data" / "sample"
VERSION = 1  # raise when pictures or titles change, so that older samples are drawn again
FIRST_ID = 10000
SHARED = 0.042  # chance that a product is listed again under the same title
UNNAMED = 0.15  # chance that a title leaves out one of its words
NO_SEASON = 0.015
SILHOUETTES = GARMENTS | ACCESSORIES

SEASONS = ("Summer", "Winter", "Fall", "Spring")
ADULTS, MEN, WOMEN = ("Men", "Women"), ("Men",), ("Women",)
EVERYONE = ("Men", "Women", "Boys", "Girls")
FAMILY = ("Men", "Women", "Men", "Women", "Boys", "Girls")

LEATHERS = ("Black", "Brown", "Beige", "Maroon", "Navy Blue", "Grey", "Olive", "Red")
DENIMS = ("Blue", "Navy Blue", "Black", "Grey", "White")
VIVID = tuple(COLOURS)

NONE = ("Solid",)
PRINTS = ("Solid", "Striped", "Checked", "Polka Dot", "Floral", "Camouflage", "Chevron")
TEES = (*PRINTS, "Graphic Print", "Graphic Print", "Colourblocked")
WEAVES = ("Solid", "Striped", "Pinstriped", "Checked")
KNITS = ("Solid", "Striped", "Chevron", "Colourblocked")
DRAPES = ("Solid", "Floral", "Polka Dot", "Chevron", "Striped", "Checked")

SLEEVES = ("Short Sleeve", "Long Sleeve", "Sleeveless")
NECKS = ("Round Neck", "V-Neck", "Polo Collar", "Mandarin Collar", "High Neck")
LENGTHS = ("Mini", "Midi", "Maxi")


class Kind(NamedTuple):
    """An article type: its columns, what shops call it, and what its products differ in."""

    category: str
    subcategory: str
    usage: str
    names: tuple[str, ...]
    genders: tuple[str, ...]
    colours: tuple[str, ...]
    patterns: tuple[str, ...]
    details: tuple[tuple[str, ...], ...]  # one word of each group; the empty word is not named


def apparel(subcategory: str, usage: str, *rest: tuple) -> Kind:
    return Kind("Apparel", subcategory, usage, *rest)


def footwear(subcategory: str, usage: str, *rest: tuple) -> Kind:
    return Kind("Footwear", subcategory, usage, *rest)


def accessory(subcategory: str, usage: str, *rest: tuple) -> Kind:
    return Kind("Accessories", subcategory, usage, *rest)


KINDS: dict[str, Kind] = {
    "Tshirts": apparel(
        "Topwear",
        "Casual",
        ("T-shirt", "Tee"),
        FAMILY,
        VIVID,
        TEES,
        (SLEEVES, ("Round Neck", "V-Neck", "Polo Collar"), ("", "", "Pocket")),
    ),
    "Shirts": apparel(
        "Topwear",
        "Formal",
        ("Shirt",),
        FAMILY,
        VIVID,
        (*PRINTS, "Pinstriped"),
        (("Short Sleeve", "Long Sleeve"), ("Spread Collar", "Mandarin Collar"), ("", "Pocket")),
    ),
    "Tops": apparel(
        "Topwear",
        "Casual",
        ("Top", "Blouse"),
        ("Women", "Girls"),
        VIVID,
        TEES,
        (
            ("Sleeveless", "Puff Sleeve", "Three-Quarter Sleeve"),
            ("Round Neck", "V-Neck", "Square Neck"),
            ("", "Crop", "Peplum"),
        ),
    ),
    "Sweaters": apparel(
        "Topwear",
        "Casual",
        ("Sweater", "Pullover"),
        FAMILY,
        VIVID,
        KNITS,
        (("Long Sleeve", "Sleeveless"), ("Round Neck", "V-Neck", "High Neck"), ("", "Cable Knit")),
    ),
    "Sweatshirts": apparel(
        "Topwear",
        "Casual",
        ("Sweatshirt",),
        EVERYONE,
        VIVID,
        (*KNITS, "Graphic Print"),
        (("Long Sleeve",), ("Hooded", "Round Neck"), ("", "Kangaroo Pocket", "Zip")),
    ),
    "Jackets": apparel(
        "Topwear",
        "Casual",
        ("Jacket",),
        FAMILY,
        VIVID,
        ("Solid", "Camouflage", "Colourblocked"),
        (("Long Sleeve", "Sleeveless"), ("Hooded", "High Neck", "Spread Collar"), ("", "Quilted")),
    ),
    "Blazers": apparel(
        "Topwear",
        "Formal",
        ("Blazer", "Suit Jacket"),
        ADULTS,
        VIVID,
        WEAVES,
        (("Long Sleeve",), ("Single Breasted", "Double Breasted")),
    ),
    "Kurtas": apparel(
        "Topwear",
        "Ethnic",
        ("Kurta",),
        EVERYONE,
        VIVID,
        DRAPES,
        (("Long Sleeve", "Three-Quarter Sleeve", "Sleeveless"), ("Mandarin Collar", "V-Neck"), ("", "Embroidered")),
    ),
    "Dresses": apparel(
        "Dress",
        "Party",
        ("Dress",),
        ("Women", "Girls"),
        VIVID,
        DRAPES,
        (
            LENGTHS,
            ("A-Line", "Bodycon"),
            ("Sleeveless", "Short Sleeve", "Long Sleeve"),
            ("Round Neck", "V-Neck"),
            ("", "Belted"),
        ),
    ),
    "Sarees": apparel("Saree", "Ethnic", ("Saree", "Sari"), WOMEN, VIVID, DRAPES, (("Gold Border", "Silver Border"),)),
    "Lehenga Choli": apparel(
        "Apparel Set",
        "Ethnic",
        ("Lehenga Choli",),
        ("Women", "Girls"),
        VIVID,
        DRAPES,
        (("Gold Border", "Silver Border"),),
    ),
    "Skirts": apparel(
        "Bottomwear",
        "Casual",
        ("Skirt",),
        ("Women", "Girls"),
        VIVID,
        DRAPES,
        (LENGTHS, ("A-Line", "Pencil", "Pleated")),
    ),
    "Jeans": apparel(
        "Bottomwear",
        "Casual",
        ("Jeans", "Denims"),
        FAMILY,
        DENIMS,
        NONE,
        (("Skinny Fit", "Straight Fit", "Flared"), ("", "Ripped", "Washed")),
    ),
    "Trousers": apparel(
        "Bottomwear",
        "Formal",
        ("Trousers", "Pants"),
        FAMILY,
        VIVID,
        WEAVES,
        (("Skinny Fit", "Straight Fit", "Flared"), ("", "Pleated", "Cargo")),
    ),
    "Shorts": apparel(
        "Bottomwear",
        "Casual",
        ("Shorts",),
        FAMILY,
        VIVID,
        PRINTS,
        (("Knee Length", "Short Length"), ("Drawstring", "Cargo", "Side Stripe")),
    ),
    "Track Pants": apparel(
        "Bottomwear",
        "Sports",
        ("Track Pants", "Joggers"),
        FAMILY,
        VIVID,
        ("Solid", "Camouflage"),
        (("Drawstring", ""), ("Side Stripe", "")),
    ),
    "Casual Shoes": footwear(
        "Shoes",
        "Casual",
        ("Casual Shoes", "Sneakers"),
        FAMILY,
        VIVID,
        ("Solid", "Checked", "Floral", "Camouflage"),
        (("Lace-Up", "Slip-On", "Velcro"), ("High Top", "Low Top")),
    ),
    "Sports Shoes": footwear(
        "Shoes",
        "Sports",
        ("Sports Shoes", "Running Shoes"),
        FAMILY,
        VIVID,
        NONE,
        (("Lace-Up", "Velcro"), ("High Top", "Low Top")),
    ),
    "Formal Shoes": footwear(
        "Shoes", "Formal", ("Formal Shoes",), MEN, LEATHERS, NONE, (("Lace-Up", "Buckle", "Loafer"),)
    ),
    "Heels": footwear(
        "Shoes", "Party", ("Heels",), WOMEN, VIVID, NONE, (("Stiletto", "Block Heel", "Wedge"), ("Ankle Strap", "Pump"))
    ),
    "Boots": footwear(
        "Shoes",
        "Casual",
        ("Boots",),
        ADULTS,
        LEATHERS,
        NONE,
        (("Ankle Length", "Knee High"), ("Lace-Up", "Zip", "Buckle")),
    ),
    "Sandals": footwear(
        "Sandal", "Casual", ("Sandals",), EVERYONE, VIVID, NONE, (("Strappy", "Single Strap"), ("Buckle", "Slip-On"))
    ),
    "Flip Flops": footwear("Flip Flops", "Casual", ("Flip Flops", "Slippers"), FAMILY, VIVID, PRINTS, ()),
    "Flats": footwear(
        "Shoes",
        "Casual",
        ("Flats", "Ballerinas"),
        ("Women", "Girls"),
        VIVID,
        ("Solid", "Polka Dot", "Floral"),
        (("Bow", "Buckle", "Strap"),),
    ),
    "Handbags": accessory("Bags", "Casual", ("Handbag", "Bag"), WOMEN, VIVID, DRAPES, (("Tote", "Sling", "Satchel"),)),
    "Clutches": accessory(
        "Bags",
        "Party",
        ("Clutch",),
        WOMEN,
        VIVID,
        ("Solid", "Floral", "Polka Dot"),
        (("Envelope", "Frame"), ("", "Chain")),
    ),
    "Wallets": accessory(
        "Wallets", "Casual", ("Wallet",), ADULTS, LEATHERS, ("Solid", "Checked"), (("Bifold", "Zip Around"),)
    ),
    "Backpacks": accessory(
        "Bags", "Casual", ("Backpack", "Rucksack"), ("Unisex",), VIVID, PRINTS, (("Buckle", "Zip"),)
    ),
    "Watches": accessory(
        "Watches",
        "Casual",
        ("Watch", "Wrist Watch"),
        FAMILY,
        VIVID,
        NONE,
        (("Round Dial", "Square Dial"), ("Leather Strap", "Metal Strap"), ("Analogue", "Chronograph", "Digital")),
    ),
    "Belts": accessory(
        "Belts", "Formal", ("Belt",), ADULTS, LEATHERS, NONE, (("Gold Buckle", "Silver Buckle"), ("", "Braided"))
    ),
    "Caps": accessory(
        "Headwear", "Sports", ("Cap", "Baseball Cap"), ("Unisex",), VIVID, PRINTS, (("", "Contrast Brim"),)
    ),
    "Hats": accessory("Headwear", "Casual", ("Hat",), WOMEN, VIVID, NONE, (("Wide Brim", "Short Brim"),)),
    "Beanies": accessory(
        "Headwear", "Casual", ("Beanie", "Woollen Cap"), ("Unisex",), VIVID, KNITS[:3], (("", "Pom-Pom"),)
    ),
    "Sunglasses": accessory(
        "Eyewear",
        "Casual",
        ("Sunglasses", "Shades"),
        ("Unisex",),
        VIVID,
        NONE,
        (("Aviator", "Round", "Wayfarer", "Cat-Eye"), ("", "Mirrored")),
    ),
    "Ties": accessory(
        "Ties", "Formal", ("Tie",), MEN, VIVID, (*WEAVES, "Polka Dot", "Chevron"), (("Slim", "Broad", "Bow"),)
    ),
    "Scarves": accessory("Scarves", "Casual", ("Scarf", "Muffler"), ADULTS, VIVID, DRAPES, (("", "Fringed"),)),
    "Socks": accessory(
        "Socks",
        "Casual",
        ("Socks",),
        FAMILY,
        VIVID,
        (*KNITS[:3], "Polka Dot"),
        (("Ankle Length", "Crew", "Knee High"),),
    ),
    "Earrings": accessory(
        "Jewellery", "Ethnic", ("Earrings",), WOMEN, VIVID, NONE, (("Gold", "Silver"), ("Hoop", "Jhumka", "Drop"))
    ),
}

# Brands and their labels; the label of a brand without one does not show.
BRANDS: dict[str, dict[str, str]] = {
    "Apparel": {
        "Norvane": "red disc",
        "Tilda Rowe": "",
        "Basecamp Nine": "green square",
        "Ashgrove": "",
        "Lumo": "orange star",
        "Vastra House": "",
        "Peregrin": "blue bar",
        "Kiteline": "",
        "Mirabel": "black disc",
        "Oak & Ember": "",
    },
    "Footwear": {
        "Strido": "red bar",
        "Cobblestone": "",
        "Paceway": "blue disc",
        "Marlow": "",
        "Terrafoot": "green star",
        "Sole Theory": "",
        "Quickmile": "black square",
        "Hollis": "",
    },
    "Accessories": {
        "Ferrow": "black bar",
        "Calyx": "",
        "Timberlane": "orange disc",
        "Odette": "",
        "Zenko": "red star",
        "Brightwater": "",
        "Halcyon": "blue square",
        "Pennyroyal": "",
    },
}

COLOUR_WORDS = {
    "Navy Blue": "Navy",
    "Turquoise Blue": "Turquoise",
    "Olive": "Olive Green",
    "Maroon": "Burgundy",
    "Grey": "Gray",
    "Purple": "Violet",
    "Beige": "Cream",
}
PATTERN_WORDS = {
    "Solid": "Plain",
    "Striped": "Stripes",
    "Checked": "Check",
    "Polka Dot": "Dotted",
    "Floral": "Flower Print",
    "Graphic Print": "Printed",
    "Chevron": "Zigzag",
    "Camouflage": "Camo",
    "Colourblocked": "Two-Tone",
}
GENDER_WORDS = {"Men": "Gents", "Women": "Ladies"}
PHRASINGS = (
    "{brand} {gender} {colour} {pattern} {details} {name}",
    "{brand} {gender} {pattern} {colour} {name} {details}",
    "{brand} {details} {name} for {gender} {pattern} {colour}",
    "{gender} {details} {pattern} {name} by {brand} in {colour}",
    "{brand} {colour} {details} {name} {gender} {pattern}",
)


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


def draw_file(path: Path, look: Look, seed: str) -> None:
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
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        drawn = pool.map(draw_file, paths, looks, seeds, chunksize=20)
        for _ in tqdm(drawn, "drawing the sample catalogue", products, unit="product"):
            pass
    (folder / "sample.json").write_text(json.dumps(settings(products, seed)))


def settings(products: int, seed: int) -> dict[str, int]:
    return {"version": VERSION, "products": products, "seed": seed}


def make_sample(folder: Path = DEFAULT_FOLDER, products: int = 2400, seed: int = 0) -> Path:
    """Draw the sample catalogue into a folder, unless it is there already."""
    folder = Path(folder)
    note = folder / "sample.json"
    if folder.exists():
        if not note.exists():
            raise FileExistsError(
                f"{folder} exists and was not drawn by data/sample.py: name another folder, or move this one away"
            )
        if (folder / "styles.csv").exists() and json.loads(note.read_text()) == settings(products, seed):
            return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Drawn beside its place and moved there when complete: an interrupted run leaves nothing half-made.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "sample"
        fresh.mkdir()
        write_catalogue(fresh, products, seed)
        if folder.exists():
            folder.rename(Path(scratch) / "outdated")
        fresh.rename(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=DEFAULT_FOLDER, help="folder of the catalogue")
    parser.add_argument("--products", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = make_sample(options.output, options.products, options.seed)
    table = pd.read_csv(folder / "styles.csv")
    print(
        f"{folder} holds {len(table)} drawn products of {table.articleType.nunique()} article types, "
        f"under {table.productDisplayName.nunique()} titles."
    )


if __name__ == "__main__":
    main()
