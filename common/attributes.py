"""Which column of a catalogue holds the type, the colour, the gender or the brand of a product."""

COLUMNS = {
    "type": ("articleType", "article_type", "product_type", "product_type_name", "item_type", "type", "category3",
             "subcategory", "sub_category", "input_subcategory", "category", "shape"),
    "colour": ("baseColour", "base_colour", "colour", "color", "colour_group_name", "main_colour", "main_color"),
    "gender": ("gender", "sex", "department", "input_gender"),
    "brand": ("brand", "brand_name", "brandName", "manufacturer", "input_brand"),
}  # fmt: skip
"""What an attribute is commonly called, the likeliest name first."""


def find_column(attributes: list[str], what: str) -> str | None:
    """The column, among the names of a catalogue's attributes, of "type", "colour", "gender" or "brand"."""
    lower = {name.lower(): name for name in reversed(attributes)}
    return next((lower[name.lower()] for name in COLUMNS[what] if name.lower() in lower), None)
