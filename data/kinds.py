"""What the sample's shop sells: article types, brands, and the words of its titles."""

from typing import NamedTuple

from data.drawing import COLOURS

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


# fmt: off
KINDS: dict[str, Kind] = {
    "Tshirts": apparel("Topwear", "Casual", ("T-shirt", "Tee"), FAMILY, VIVID, TEES,
        (SLEEVES, ("Round Neck", "V-Neck", "Polo Collar"), ("", "", "Pocket"))),
    "Shirts": apparel("Topwear", "Formal", ("Shirt",), FAMILY, VIVID, (*PRINTS, "Pinstriped"),
        (("Short Sleeve", "Long Sleeve"), ("Spread Collar", "Mandarin Collar"), ("", "Pocket"))),
    "Tops": apparel("Topwear", "Casual", ("Top", "Blouse"), ("Women", "Girls"), VIVID, TEES,
        (("Sleeveless", "Puff Sleeve", "Three-Quarter Sleeve"), ("Round Neck", "V-Neck", "Square Neck"), ("",
         "Crop", "Peplum"))),
    "Sweaters": apparel("Topwear", "Casual", ("Sweater", "Pullover"), FAMILY, VIVID, KNITS,
        (("Long Sleeve", "Sleeveless"), ("Round Neck", "V-Neck", "High Neck"), ("", "Cable Knit"))),
    "Sweatshirts": apparel("Topwear", "Casual", ("Sweatshirt",), EVERYONE, VIVID, (*KNITS, "Graphic Print"),
        (("Long Sleeve",), ("Hooded", "Round Neck"), ("", "Kangaroo Pocket", "Zip"))),
    "Jackets": apparel("Topwear", "Casual", ("Jacket",), FAMILY, VIVID, ("Solid", "Camouflage", "Colourblocked"),
        (("Long Sleeve", "Sleeveless"), ("Hooded", "High Neck", "Spread Collar"), ("", "Quilted"))),
    "Blazers": apparel("Topwear", "Formal", ("Blazer", "Suit Jacket"), ADULTS, VIVID, WEAVES,
        (("Long Sleeve",), ("Single Breasted", "Double Breasted"))),
    "Kurtas": apparel("Topwear", "Ethnic", ("Kurta",), EVERYONE, VIVID, DRAPES,
        (("Long Sleeve", "Three-Quarter Sleeve", "Sleeveless"), ("Mandarin Collar", "V-Neck"), ("",
         "Embroidered"))),
    "Dresses": apparel("Dress", "Party", ("Dress",), ("Women", "Girls"), VIVID, DRAPES,
        (LENGTHS, ("A-Line", "Bodycon"), ("Sleeveless", "Short Sleeve", "Long Sleeve"), ("Round Neck",
         "V-Neck"), ("", "Belted"))),
    "Sarees": apparel("Saree", "Ethnic", ("Saree", "Sari"), WOMEN, VIVID, DRAPES,
        (("Gold Border", "Silver Border"),)),
    "Lehenga Choli": apparel("Apparel Set", "Ethnic", ("Lehenga Choli",), ("Women", "Girls"), VIVID, DRAPES,
        (("Gold Border", "Silver Border"),)),
    "Skirts": apparel("Bottomwear", "Casual", ("Skirt",), ("Women", "Girls"), VIVID, DRAPES,
        (LENGTHS, ("A-Line", "Pencil", "Pleated"))),
    "Jeans": apparel("Bottomwear", "Casual", ("Jeans", "Denims"), FAMILY, DENIMS, NONE,
        (("Skinny Fit", "Straight Fit", "Flared"), ("", "Ripped", "Washed"))),
    "Trousers": apparel("Bottomwear", "Formal", ("Trousers", "Pants"), FAMILY, VIVID, WEAVES,
        (("Skinny Fit", "Straight Fit", "Flared"), ("", "Pleated", "Cargo"))),
    "Shorts": apparel("Bottomwear", "Casual", ("Shorts",), FAMILY, VIVID, PRINTS,
        (("Knee Length", "Short Length"), ("Drawstring", "Cargo", "Side Stripe"))),
    "Track Pants": apparel("Bottomwear", "Sports", ("Track Pants", "Joggers"), FAMILY, VIVID, ("Solid", "Camouflage"),
        (("Drawstring", ""), ("Side Stripe", ""))),
    "Casual Shoes": footwear("Shoes", "Casual", ("Casual Shoes", "Sneakers"), FAMILY, VIVID,
        ("Solid", "Checked", "Floral", "Camouflage"),
        (("Lace-Up", "Slip-On", "Velcro"), ("High Top", "Low Top"))),
    "Sports Shoes": footwear("Shoes", "Sports", ("Sports Shoes", "Running Shoes"), FAMILY, VIVID, NONE,
        (("Lace-Up", "Velcro"), ("High Top", "Low Top"))),
    "Formal Shoes": footwear("Shoes", "Formal", ("Formal Shoes",), MEN, LEATHERS, NONE,
        (("Lace-Up", "Buckle", "Loafer"),)),
    "Heels": footwear("Shoes", "Party", ("Heels",), WOMEN, VIVID, NONE,
        (("Stiletto", "Block Heel", "Wedge"), ("Ankle Strap", "Pump"))),
    "Boots": footwear("Shoes", "Casual", ("Boots",), ADULTS, LEATHERS, NONE,
        (("Ankle Length", "Knee High"), ("Lace-Up", "Zip", "Buckle"))),
    "Sandals": footwear("Sandal", "Casual", ("Sandals",), EVERYONE, VIVID, NONE,
        (("Strappy", "Single Strap"), ("Buckle", "Slip-On"))),
    "Flip Flops": footwear("Flip Flops", "Casual", ("Flip Flops", "Slippers"), FAMILY, VIVID, PRINTS,
        ()),
    "Flats": footwear("Shoes", "Casual", ("Flats", "Ballerinas"), ("Women", "Girls"), VIVID,
        ("Solid", "Polka Dot", "Floral"),
        (("Bow", "Buckle", "Strap"),)),
    "Handbags": accessory("Bags", "Casual", ("Handbag", "Bag"), WOMEN, VIVID, DRAPES,
        (("Tote", "Sling", "Satchel"),)),
    "Clutches": accessory("Bags", "Party", ("Clutch",), WOMEN, VIVID, ("Solid", "Floral", "Polka Dot"),
        (("Envelope", "Frame"), ("", "Chain"))),
    "Wallets": accessory("Wallets", "Casual", ("Wallet",), ADULTS, LEATHERS, ("Solid", "Checked"),
        (("Bifold", "Zip Around"),)),
    "Backpacks": accessory("Bags", "Casual", ("Backpack", "Rucksack"), ("Unisex",), VIVID, PRINTS,
        (("Buckle", "Zip"),)),
    "Watches": accessory("Watches", "Casual", ("Watch", "Wrist Watch"), FAMILY, VIVID, NONE,
        (("Round Dial", "Square Dial"), ("Leather Strap", "Metal Strap"), ("Analogue", "Chronograph",
         "Digital"))),
    "Belts": accessory("Belts", "Formal", ("Belt",), ADULTS, LEATHERS, NONE,
        (("Gold Buckle", "Silver Buckle"), ("", "Braided"))),
    "Caps": accessory("Headwear", "Sports", ("Cap", "Baseball Cap"), ("Unisex",), VIVID, PRINTS,
        (("", "Contrast Brim"),)),
    "Hats": accessory("Headwear", "Casual", ("Hat",), WOMEN, VIVID, NONE,
        (("Wide Brim", "Short Brim"),)),
    "Beanies": accessory("Headwear", "Casual", ("Beanie", "Woollen Cap"), ("Unisex",), VIVID, KNITS[:3],
        (("", "Pom-Pom"),)),
    "Sunglasses": accessory("Eyewear", "Casual", ("Sunglasses", "Shades"), ("Unisex",), VIVID, NONE,
        (("Aviator", "Round", "Wayfarer", "Cat-Eye"), ("", "Mirrored"))),
    "Ties": accessory("Ties", "Formal", ("Tie",), MEN, VIVID, (*WEAVES, "Polka Dot", "Chevron"),
        (("Slim", "Broad", "Bow"),)),
    "Scarves": accessory("Scarves", "Casual", ("Scarf", "Muffler"), ADULTS, VIVID, DRAPES,
        (("", "Fringed"),)),
    "Socks": accessory("Socks", "Casual", ("Socks",), FAMILY, VIVID, (*KNITS[:3], "Polka Dot"),
        (("Ankle Length", "Crew", "Knee High"),)),
    "Earrings": accessory("Jewellery", "Ethnic", ("Earrings",), WOMEN, VIVID, NONE,
        (("Gold", "Silver"), ("Hoop", "Jhumka", "Drop"))),
}
# fmt: on

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
