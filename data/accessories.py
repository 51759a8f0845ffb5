"""The silhouettes of shoes, bags and other accessories; ACCESSORIES has the one of every article type."""

import numpy as np

from data.drawing import (
    BLACK,
    GOLD,
    RUBBER,
    STEEL,
    WHITE,
    Canvas,
    Colour,
    Look,
    Points,
    Silhouette,
    box,
    brightness,
    ellipse,
    mix,
    star,
    symmetric,
)

# ---------------------------------------------------------------- footwear, from the side or above


def laces(canvas: Canvas, points: Points, paint: Colour = WHITE) -> None:
    for x, y in points:
        canvas.line((x - 3, y - 3), (x + 5, y + 2.5), paint=paint, width=1.8)


def sneaker(canvas: Canvas, look: Look) -> None:
    high = 22 if "High Top" in look.details else 38
    sport = look.article == "Sports Shoes"
    canvas.shape(
        [
            (8, 68),
            (8, 60),
            (22, 55),
            (44, 45),
            (52, high),
            (52, high),
            (82, high),
            (86, high + 4),
            (86, 50),
            (92, 68),
            (92, 68),
        ]
    )
    canvas.shape([(8, 68), (8, 60), (20, 56), (28, 68)], canvas.seam)
    sole = WHITE if brightness(canvas.colour) < 215 else RUBBER
    if sport:
        canvas.shape([(5, 66), (5, 66), (60, 66), (84, 60), (95, 62), (97, 78), (90, 81), (12, 79)], sole)
        canvas.line((10, 76), (94, 77), paint=canvas.accent, width=2)
        canvas.shape([(44, 62), (56, 62), (76, 42), (70, 42)], canvas.accent, 1)
        canvas.shape([(56, 64), (64, 62), (82, 46), (77, 45)], canvas.accent, 1)
    else:
        canvas.shape([(6, 66), (6, 66), (94, 66), (94, 66), (93, 75), (8, 75)], sole)
    canvas.shape(ellipse(53, high - 3, 84, high + 4), canvas.inside, 0)
    if "Slip-On" in look.details:
        canvas.shape([(46, 46), (56, 44), (60, 60), (50, 62)], canvas.inside, 1)
    elif "Velcro" in look.details:
        canvas.shape([(40, 46), (47, 42), (66, 55), (60, 61)], canvas.accent, 1)
        canvas.shape([(48, 39), (54, 36), (72, 48), (67, 54)], canvas.accent, 1)
    else:
        paint = WHITE if brightness(canvas.colour) < 200 else RUBBER
        laces(canvas, [(34 + 5 * i, 53 - 3.4 * i) for i in range(4)], paint)
        if high < 30:
            laces(canvas, [(52, 39), (53, 33), (53, 27)], paint)


def formal_shoe(canvas: Canvas, look: Look) -> None:
    canvas.shape(
        [(4, 70), (4, 58), (16, 53), (34, 52), (50, 42), (56, 36), (84, 34), (84, 34), (90, 50), (91, 70), (91, 70)]
    )
    canvas.shape([(3, 68), (3, 68), (92, 68), (92, 68), (92, 79), (92, 79), (70, 79), (67, 73), (7, 73)], RUBBER, 1)
    canvas.shape(ellipse(55, 31, 85, 40), canvas.inside, 0)
    if "Lace-Up" in look.details:
        laces(canvas, [(40 + 6 * i, 51 - 4.5 * i) for i in range(3)], canvas.accent)
        canvas.line((22, 53), (30, 67), width=2)
    elif "Buckle" in look.details:
        canvas.shape([(42, 46), (52, 40), (76, 62), (68, 67)], canvas.seam, 1)
        canvas.shape(box(60, 50, 71, 60), GOLD, 0)
    else:
        canvas.shape([(28, 54), (48, 42), (54, 48), (44, 66), (36, 68)], canvas.seam)
        canvas.line((32, 57), (50, 50), width=3, paint=GOLD)


def heel(canvas: Canvas, look: Look) -> None:
    if "Wedge" in look.details:
        canvas.shape([(8, 84), (22, 76), (56, 62), (78, 42), (86, 42), (90, 84), (90, 84), (12, 86)], (196, 160, 112))
    elif "Block Heel" in look.details:
        canvas.shape([(72, 44), (88, 40), (90, 85), (90, 85), (76, 85), (76, 85)], canvas.seam, 1)
    else:
        canvas.shape([(76, 46), (88, 40), (86, 62), (86, 85), (86, 85), (83, 85), (83, 85), (82, 62)], canvas.seam, 1)
    canvas.shape([(4, 84), (4, 80), (22, 74), (54, 60), (74, 42), (88, 40), (84, 48), (58, 70), (30, 85)], RUBBER)
    if "Ankle Strap" in look.details:
        canvas.shape([(6, 80), (14, 74), (28, 70), (38, 74), (34, 80), (18, 83)])
        canvas.shape([(72, 44), (70, 36), (86, 24), (90, 26), (88, 42), (80, 50)])
        canvas.line((62, 27), (88, 25), paint=canvas.colour, width=4)
        canvas.line((62, 27), (62, 33), (86, 32), paint=canvas.colour, width=3)
    else:
        canvas.shape([(4, 82), (6, 77), (24, 68), (34, 62), (56, 56), (72, 34), (88, 30), (90, 42), (60, 66), (30, 83)])
        canvas.shape([(34, 62), (56, 56), (72, 35), (84, 32), (70, 44), (54, 62)], canvas.inside)


def boot(canvas: Canvas, look: Look) -> None:
    top = 8 if "Knee High" in look.details else 38
    canvas.shape(
        [
            (10, 82),
            (10, 72),
            (28, 66),
            (46, 58),
            (48, top),
            (48, top),
            (80, top),
            (80, top),
            (80, 60),
            (84, 82),
            (84, 82),
        ]
    )
    foot = 90 if look.feminine else 86
    canvas.shape([(9, 80), (9, 80), (85, 80), (85, 80), (84, foot), (66, foot), (64, 85), (12, 85)], RUBBER, 1)
    canvas.shape(box(48, top, 80, top + 5), canvas.seam, 0)
    if "Lace-Up" in look.details:
        laces(canvas, [(49, y) for y in range(max(top + 12, 24), 62, 7)], GOLD)
    elif "Zip" in look.details:
        canvas.line((68, top + 5), (68, 76), paint=STEEL, width=3)
    else:
        canvas.line((47, 60), (81, 62), paint=canvas.seam, width=4)
        canvas.shape(box(60, 57, 70, 66), GOLD, 1)


def sandal(canvas: Canvas, look: Look) -> None:
    seen_from_above(canvas, (196, 158, 112))
    if "Strappy" in look.details:
        for top in (20, 32, 44):
            canvas.both([(13, top), (13, top), (46, top + 6), (46, top + 6), (46, top + 12), (13, top + 6)], None, 0)
    else:
        canvas.both([(13, 26), (46, 30), (45, 48), (15, 44)], None, 0)
    if "Buckle" in look.details:
        canvas.both([(16, 66), (44, 62), (44, 70), (17, 74)], None, 0)
        canvas.both(box(16, 64, 25, 76), GOLD, 0)


def seen_from_above(canvas: Canvas, paint: Colour | None) -> None:
    canvas.both(
        [(28, 8), (40, 12), (46, 30), (42, 56), (44, 82), (36, 94), (22, 92), (18, 78), (18, 52), (13, 28), (17, 12)],
        paint,
    )


def flip_flop(canvas: Canvas, look: Look) -> None:
    seen_from_above(canvas, None)
    strap = canvas.accent
    for mirrored in (False, True):
        path = [(15, 48), (19, 36), (29, 25), (38, 36), (43, 50)]
        canvas.line(*((100 - x if mirrored else x, y) for x, y in path), paint=strap, width=5)
    canvas.dots((29, 25), (71, 25), paint=mix(strap, BLACK, 0.3), radius=2.4)


def flat(canvas: Canvas, look: Look) -> None:
    seen_from_above(canvas, None)
    canvas.both([(30, 36), (38, 42), (38, 80), (30, 88), (22, 80), (20, 44)], (226, 200, 164))
    if "Bow" in look.details:
        canvas.both([(30, 30), (19, 23), (19, 37), (30, 30), (41, 37), (41, 23)], canvas.accent, 1)
    elif "Buckle" in look.details:
        canvas.both(box(25, 22, 35, 32), GOLD, 1)
        canvas.both(box(28, 25, 32, 29), canvas.colour, 1)
    else:
        canvas.both([(14, 52), (44, 52), (44, 59), (16, 59)], None, 1)


# ---------------------------------------------------------------- accessories


def handbag(canvas: Canvas, look: Look) -> None:
    if "Sling" in look.details:
        canvas.line((18, 54), (30, 12), (50, 4), (70, 12), (82, 54), paint=canvas.seam, width=3)
        canvas.shape(symmetric((18, 50), (18, 50), (16, 88), (24, 92)))
        canvas.shape(symmetric((17, 49), (17, 49), (19, 68), (50, 76)), canvas.seam)
        canvas.dots((50, 70), paint=GOLD, radius=3.5)
    elif "Tote" in look.details:
        canvas.line((34, 44), (37, 10), (63, 10), (66, 44), paint=canvas.seam, width=4)
        canvas.shape(symmetric((14, 36), (14, 36), (24, 92), (24, 92)), None, 1)
        canvas.line((15, 41), (85, 41), width=1.5)
        canvas.dots((34, 44), (66, 44), paint=GOLD, radius=2)
    else:
        canvas.line((32, 44), (33, 26), (50, 18), (67, 26), (68, 44), paint=canvas.seam, width=5)
        canvas.shape(symmetric((26, 42), (26, 42), (8, 82), (14, 88), (50, 88)))
        canvas.line((28, 47), (72, 47), paint=GOLD, width=2.4)
        canvas.line((26, 54), (22, 87), width=1.5)
        canvas.line((74, 54), (78, 87), width=1.5)


def clutch(canvas: Canvas, look: Look) -> None:
    canvas.shape(box(8, 36, 92, 80), None, 1)
    if "Envelope" in look.details:
        canvas.shape([(8, 36), (92, 36), (92, 36), (50, 66), (8, 36)], canvas.seam, 1)
    else:
        canvas.line((9, 38), (91, 38), paint=GOLD, width=4)
    if "Chain" in look.details:
        canvas.dots(
            *((50 + 36 * np.cos(t), 38 - 26 * np.sin(t)) for t in np.linspace(0, np.pi, 19)), paint=GOLD, radius=2
        )
    canvas.dots((50, 63 if "Envelope" in look.details else 36), paint=GOLD, radius=3.5)


def wallet(canvas: Canvas, look: Look) -> None:
    if "Zip Around" in look.details:
        canvas.shape(symmetric((12, 28), (12, 28), (12, 76), (12, 76)))
        canvas.line((88, 30), (14, 30), (14, 74), (86, 74), paint=GOLD, width=2.4)
        canvas.line((86, 32), (86, 52), paint=GOLD, width=3)
    else:
        canvas.shape(box(14, 24, 82, 66), canvas.inside, 0)
        for y, paint in ((26, (90, 150, 210)), (31, (230, 200, 90))):
            canvas.shape(box(20, y, 76, y + 20), paint, 0)
        canvas.shape(box(14, 38, 88, 80), None, 0)
        canvas.line((24, 44), (78, 44), (78, 74), (24, 74), (24, 44))


def backpack(canvas: Canvas, look: Look) -> None:
    canvas.line((43, 14), (44, 5), (56, 5), (57, 14), paint=canvas.seam, width=3)
    canvas.both([(28, 40), (20, 42), (18, 84), (28, 88)], canvas.seam)
    canvas.shape(symmetric((50, 9), (30, 10), (24, 34), (24, 92), (30, 94)))
    canvas.line((30, 34), (34, 22), (50, 17), (66, 22), (70, 34), paint=STEEL, width=1.6)
    canvas.shape(symmetric((31, 54), (31, 54), (31, 86), (34, 88)), canvas.seam)
    canvas.line((33, 60), (67, 60), paint=STEEL, width=2)
    if "Buckle" in look.details:
        canvas.shape(symmetric((27, 28), (27, 28), (26, 48), (50, 54)), canvas.accent)
        canvas.both(box(35, 44, 40, 68), GOLD, 1)


def watch(canvas: Canvas, look: Look) -> None:
    metal = "Metal Strap" in look.details
    strap = STEEL if metal else canvas.colour
    canvas.shape(symmetric((42, 2), (42, 2), (38, 30), (38, 70), (42, 98), (42, 98)), strap, 1)
    for y in (*range(5, 28, 5), *range(76, 98, 5)):
        canvas.line((40, y), (60, y), paint=mix(strap, BLACK, 0.35), width=1 if metal else 0.5)
    square = "Square Dial" in look.details
    for inset, paint in ((0, STEEL), (4, canvas.colour if metal else WHITE)):
        edges = (26 + inset, 26 + inset, 74 - inset, 74 - inset)
        canvas.shape(box(*edges) if square else ellipse(*edges), paint, 0)
    face = canvas.colour if metal else WHITE
    ink = WHITE if brightness(face) < 140 else RUBBER
    canvas.shape(box(74, 47, 78, 53), STEEL, 0)
    if "Digital" in look.details:
        canvas.shape(box(34, 40, 66, 60), (176, 192, 160), 0)
        for x in (38, 46, 54, 60):
            canvas.shape(box(x, 44, x + 3, 56), RUBBER, 0, False)
        return
    for hour in np.arange(12) * np.pi / 6:
        canvas.line(*((50 + r * np.cos(hour), 50 + r * np.sin(hour)) for r in (15, 18)), paint=ink, width=1.3)
    canvas.line((50, 38), (50, 50), (59, 55), paint=ink, width=2)
    if "Chronograph" in look.details:
        canvas.dots((43, 52), (57, 47), (50, 60), paint=mix(face, ink, 0.45), radius=4)


def belt(canvas: Canvas, look: Look) -> None:
    canvas.shape(ellipse(14, 18, 86, 74), None, 0)
    canvas.shape(ellipse(18, 18, 82, 56), canvas.inside, 0)
    canvas.shape(ellipse(21, 25, 79, 56), (250, 250, 250), 0)
    canvas.shape([(44, 57), (96, 54), (99, 62), (96, 72), (44, 75)], None, 1)
    canvas.dots(*((x, 64) for x in (72, 79, 86)), paint=canvas.inside, radius=1.3)
    if "Braided" in look.details:
        for x in range(20, 92, 6):
            canvas.line((x, 58), (x + 5, 73), width=1.4)
            canvas.line((x + 5, 58), (x, 73), width=1.4)
    metal = GOLD if "Gold Buckle" in look.details else STEEL
    canvas.shape(box(36, 52, 60, 80), metal, 0)
    canvas.shape(box(41, 57, 55, 75), canvas.colour, 0)
    canvas.line((48, 66), (60, 66), paint=metal, width=2.4)


def cap(canvas: Canvas, look: Look) -> None:
    canvas.shape([(22, 64), (22, 64), (24, 36), (46, 20), (72, 24), (88, 44), (90, 66), (90, 66)])
    canvas.line((52, 21), (46, 40), (46, 64))
    canvas.line((56, 21), (74, 40), (78, 65))
    canvas.dots((54, 21), paint=canvas.seam, radius=2.6)
    brim = canvas.accent if "Contrast Brim" in look.details else canvas.seam
    canvas.shape([(24, 58), (56, 62), (58, 68), (30, 72), (4, 80), (2, 76), (10, 64)], brim)


def hat(canvas: Canvas, look: Look) -> None:
    brim = 2 if "Wide Brim" in look.details else 16
    canvas.shape(ellipse(brim, 56, 100 - brim, 80), canvas.seam, 0)
    canvas.shape(symmetric((50, 27), (42, 20), (32, 24), (27, 66), (27, 66), (50, 72)))
    canvas.shape(symmetric((50, 60), (29, 55), (29, 55), (27, 66), (27, 66), (50, 72)), canvas.accent, 1)


def beanie(canvas: Canvas, look: Look) -> None:
    canvas.shape(symmetric((50, 20), (28, 24), (22, 66), (22, 66)))
    canvas.shape(symmetric((20, 60), (20, 60), (20, 78), (20, 78)), canvas.seam, 1)
    for x in range(25, 78, 6):
        canvas.line((x, 62), (x, 77), paint=canvas.colour, width=1.4)
    if "Pom-Pom" in look.details:
        canvas.shape(star(50, 17, 12, 12, 0.75), canvas.accent, 0)


def sunglasses(canvas: Canvas, look: Look) -> None:
    lens = [(50, 44), (46, 42), (22, 38), (10, 42), (12, 58), (22, 66), (36, 64), (46, 52)]
    if "Round" in look.details:
        lens = ellipse(12, 36, 45, 67)
    elif "Aviator" in look.details:
        lens = [(46, 42), (20, 38), (9, 42), (11, 60), (22, 72), (36, 68), (46, 52)]
    elif "Cat-Eye" in look.details:
        lens = [(46, 44), (20, 38), (0, 28), (10, 54), (22, 66), (38, 62), (46, 52)]
    centre = np.mean(lens, axis=0)
    thin = 0.86 if "Aviator" in look.details or "Round" in look.details else 0.72
    inner = [tuple(centre + thin * (np.array(p) - centre)) for p in lens]
    canvas.line((42, 46), (50, 43), (58, 46), paint=canvas.colour, width=3)
    canvas.both([(12, 42), (4, 38), (7, 34), (16, 40)], canvas.colour, 1)
    canvas.both(lens)
    glass = (150, 190, 214) if "Mirrored" in look.details else (52, 44, 46)
    canvas.both(inner, glass)
    for x in (20, 69):
        canvas.line((x, 56), (x + 8, 46), paint=mix(glass, WHITE, 0.45), width=1.6)


def tie(canvas: Canvas, look: Look) -> None:
    if "Bow" in look.details:
        canvas.both([(50, 46), (16, 32), (10, 36), (10, 64), (16, 68), (50, 54)])
        canvas.shape(box(43, 42, 57, 58), canvas.seam, 1)
        return
    wide = 8 if "Slim" in look.details else 15
    canvas.shape(symmetric((47, 12), (47, 12), (50 - wide, 80), (50 - wide, 80), (50, 96)), None, 1)
    canvas.shape(symmetric((41, 3), (41, 3), (46, 17), (46, 17)), None, 1)
    canvas.line((46, 17), (54, 17), width=1.6)


def scarf(canvas: Canvas, look: Look) -> None:
    for left, bottom in ((30, 84), (52, 76)):
        canvas.shape(
            [(left + 4, 30), (left + 17, 30), (left + 20, bottom), (left + 20, bottom), (left, bottom), (left, bottom)]
        )
        if "Fringed" in look.details:
            for x in np.arange(left + 1, left + 20, 3):
                canvas.line((x, bottom), (x, bottom + 9), paint=canvas.colour, width=1.4)
    canvas.shape(ellipse(20, 8, 80, 44), None, 0)
    canvas.shape(ellipse(32, 10, 68, 29), canvas.inside, 0)
    canvas.line((25, 34), (44, 38), (72, 32), width=1)
    canvas.line((24, 26), (44, 33), (76, 26), width=1)


def sock(canvas: Canvas, look: Look) -> None:
    top = 6 if "Knee High" in look.details else 28 if "Crew" in look.details else 52
    for shift in (16, 0):
        canvas.shape(
            [
                (46 + shift, top),
                (46 + shift, top),
                (68 + shift, top),
                (68 + shift, top),
                (70 + shift, 74),
                (60 + shift, 88),
                (30 + shift, 93),
                (16 + shift, 90),
                (16 + shift, 80),
                (40 + shift, 72),
                (47 + shift, 62),
            ]
        )
        canvas.shape(box(46 + shift, top, 68 + shift, top + 5), canvas.seam, 0)
        canvas.shape([(30 + shift, 93), (14 + shift, 92), (15 + shift, 79), (26 + shift, 77)], canvas.seam)


def earring(canvas: Canvas, look: Look) -> None:
    metal = STEEL if "Silver" in look.details else GOLD
    for x in (28, 72):
        canvas.dots((x, 22), paint=metal, radius=4)
        if "Hoop" in look.details:
            canvas.shape(ellipse(x - 18, 24, x + 18, 64), canvas.colour, 0)
            canvas.shape(ellipse(x - 13, 28, x + 13, 59), (250, 250, 250), 0)
        elif "Jhumka" in look.details:
            canvas.line((x, 22), (x, 40), paint=metal, width=2)
            canvas.shape(
                [(x, 36), (x - 10, 42), (x - 16, 64), (x - 16, 64), (x + 16, 64), (x + 16, 64), (x + 10, 42)],
                canvas.colour,
            )
            canvas.dots(*((x + i, 68) for i in (-12, -4, 4, 12)), paint=metal, radius=3)
        else:
            canvas.line((x, 22), (x, 44), paint=metal, width=2)
            canvas.shape([(x, 38), (x + 13, 66), (x, 82), (x - 13, 66)], canvas.colour)


ACCESSORIES: dict[str, Silhouette] = {
    "Casual Shoes": Silhouette(sneaker, (80, 56)),
    "Sports Shoes": Silhouette(sneaker, (86, 56)),
    "Formal Shoes": Silhouette(formal_shoe, (80, 58)),
    "Heels": Silhouette(heel, (80, 42)),
    "Boots": Silhouette(boot, (60, 46)),
    "Sandals": Silhouette(sandal, (30, 82)),
    "Flip Flops": Silhouette(flip_flop, (30, 78)),
    "Flats": Silhouette(flat, (30, 74)),
    "Handbags": Silhouette(handbag, (50, 60)),
    "Clutches": Silhouette(clutch, (22, 68)),
    "Wallets": Silhouette(wallet, (76, 62)),
    "Backpacks": Silhouette(backpack, (50, 74)),
    "Watches": Silhouette(watch, (50, 86)),
    "Belts": Silhouette(belt, (84, 64)),
    "Caps": Silhouette(cap, (36, 46)),
    "Hats": Silhouette(hat, (50, 38)),
    "Beanies": Silhouette(beanie, (50, 68)),
    "Sunglasses": Silhouette(sunglasses, (28, 52)),
    "Ties": Silhouette(tie, (50, 50)),
    "Scarves": Silhouette(scarf, (42, 68)),
    "Socks": Silhouette(sock, (48, 80)),
    "Earrings": Silhouette(earring, (28, 22)),
}
