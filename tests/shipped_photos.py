"""Real photos that scikit-image and scikit-learn ship, cut into pieces: a folder for each of them."""

from pathlib import Path

import skimage.data
import sklearn.datasets
from PIL import Image

SIDE = 72
SHIPPED = {
    "astronaut": Path(skimage.data.__file__).parent / "astronaut.png",
    "cat": Path(skimage.data.__file__).parent / "chelsea.png",
    "cup_of_coffee": Path(skimage.data.__file__).parent / "coffee.png",
    "rocket": Path(skimage.data.__file__).parent / "rocket.jpg",
    "temple": Path(sklearn.datasets.__file__).parent / "images" / "china.jpg",
    "flower": Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg",
}


def pieces(name: str, count: int) -> list[Image.Image]:
    """So many squares of a photo, row by row, the rows not in line with each other."""
    whole = Image.open(SHIPPED[name]).convert("RGB")
    columns, rows = whole.width // SIDE - 1, whole.height // SIDE
    places = [(SIDE * (i % columns) + 7 * (i // columns), SIDE * (i // columns % rows)) for i in range(count)]
    return [whole.crop((x, y, x + SIDE, y + SIDE)) for x, y in places]


def folder(root: Path, each: int = 10, names: tuple[str, ...] = tuple(SHIPPED)) -> Path:
    """A folder with one of `each` pieces for each photo."""
    for name in names:
        (root / name).mkdir(parents=True)
        for i, piece in enumerate(pieces(name, each)):
            piece.save(root / name / f"{i:03}.jpg", quality=95)
    return root
