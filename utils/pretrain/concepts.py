"""What the bundled model knows: the chosen concepts, the background colours, and what is held out."""

import zlib

# name in captions: label in emojibase. Everyday things that a learner recognises at once and whose drawings
# differ from each other; every set in drawings.py draws all of them.
CONCEPTS = {
    # animals
    "monkey": "monkey", "dog": "dog", "cat": "cat", "tiger": "tiger", "horse": "horse", "cow": "cow", "pig": "pig",
    "elephant": "elephant", "mouse": "mouse", "bear": "bear", "koala": "koala", "rooster": "rooster",
    "chick": "baby chick", "bird": "bird", "penguin": "penguin", "frog": "frog", "crocodile": "crocodile",
    "turtle": "turtle", "snake": "snake", "whale": "whale", "dolphin": "dolphin", "fish": "fish",
    "octopus": "octopus", "snail": "snail", "caterpillar": "bug", "ant": "ant", "bee": "honeybee",
    "ladybug": "lady beetle", "spider": "spider",
    # plants
    "rose": "rose", "sunflower": "sunflower", "tulip": "tulip", "tree": "deciduous tree", "palm tree": "palm tree",
    "cactus": "cactus", "maple leaf": "maple leaf", "mushroom": "mushroom", "clover": "four leaf clover",
    # food
    "watermelon": "watermelon", "tangerine": "tangerine", "lemon": "lemon", "banana": "banana",
    "pineapple": "pineapple", "apple": "red apple", "pear": "pear", "peach": "peach", "strawberry": "strawberry",
    "tomato": "tomato", "hamburger": "hamburger", "ice cream": "ice cream", "donut": "doughnut", "cookie": "cookie",
    "cake": "birthday cake", "chocolate bar": "chocolate bar", "candy": "candy", "lollipop": "lollipop",
    "baby bottle": "baby bottle", "wine glass": "wine glass",
    "cocktail": "cocktail glass", "beer mug": "beer mug",
    # vehicles
    "bus": "bus", "ambulance": "ambulance", "fire truck": "fire engine", "car": "automobile",
    "truck": "delivery truck", "tractor": "tractor", "motorcycle": "motorcycle", "bicycle": "bicycle",
    "sailboat": "sailboat", "ship": "ship", "plane": "airplane", "helicopter": "helicopter", "rocket": "rocket",
    "train": "train",
    # buildings and places
    "church": "church", "hospital": "hospital", "factory": "factory", "tent": "tent",
    "fountain": "fountain", "volcano": "volcano", "ferris wheel": "ferris wheel",
    # weather and sky
    "cloud": "cloud", "star": "star", "moon": "crescent moon", "sun": "sun with face", "rainbow": "rainbow",
    "umbrella": "umbrella", "snowflake": "snowflake", "snowman": "snowman without snow", "fire": "fire",
    "tornado": "tornado",
    # sport and feasts
    "soccer ball": "soccer ball", "baseball": "baseball", "football": "american football", "trophy": "trophy",
    "pumpkin": "jack-o-lantern", "christmas tree": "Christmas tree", "balloon": "balloon",
    # clothes
    "dress": "dress", "handbag": "handbag", "crown": "crown", "top hat": "top hat", "lipstick": "lipstick",
    "ring": "ring",
    # music
    "bell": "bell", "trumpet": "trumpet", "guitar": "guitar",
    "saxophone": "saxophone",
    # things
    "clock": "alarm clock",     "camera": "camera", "candle": "candle", "light bulb": "light bulb", "book": "closed book",
    "envelope": "envelope", "pencil": "pencil", "briefcase": "briefcase",
    "paperclip": "paperclip", "key": "key", "hammer": "hammer", "wrench": "wrench", "bomb": "bomb",
    "microscope": "microscope", "syringe": "syringe", "pill": "pill",     "anchor": "anchor", "palette": "artist palette",
}  # fmt: skip
NAMES = list(CONCEPTS)

# red, green, blue in [0, 255]
BACKGROUNDS = {
    "white": (250, 250, 250), "black": (15, 15, 15), "gray": (128, 128, 128), "red": (215, 40, 40),
    "orange": (245, 140, 30), "yellow": (245, 220, 50), "green": (50, 160, 70), "blue": (45, 90, 215),
    "purple": (130, 60, 170), "pink": (250, 160, 195),
}  # fmt: skip


def is_held_out(first, second):
    """Whether this unordered pair of concepts is one of the 10 % that training never shows together."""
    return zlib.crc32(" ".join(sorted((first, second))).encode()) % 10 == 0
