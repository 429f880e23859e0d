"""Human captions of photos in a JSON file, as COCO has them, or as Karpathy has those of Flickr8k and 30k."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ubt_utils.data.captions import has_words
from ubt_utils.data.decoding import PhotoError, Skipped

HELD = ("val", "test")  # Karpathy's splits that nobody trains on; the others are train and restval
KNOWN = (
    "COCO's (`images` with id and file_name, `annotations` with image_id and caption) nor Karpathy's "
    "(`images` with filename and sentences)"
)


class Captioned(NamedTuple):
    """What is said of a photo, and whether its data set keeps it for the test; None: it does not say."""

    captions: tuple[str, ...]
    held: bool | None


def read(path: Path, photos: Iterable[str]) -> dict[str, Captioned]:
    """Photo → its captions. photos: the paths below the file's folder that there are.

    A name in the file is a path, or, where none is like it, the last part of one. Captions of photos that
    are not there, or that have no word, are left out with a warning, above 1 % PhotoError. Raises PhotoError
    for what is not JSON, or neither kind.
    """
    found: dict[str, Captioned] = {}
    skipped, said = Skipped(), list(_said(path, _parsed(path)))
    place = _places(photos)
    for name, caption, held in said:
        there = place.get(name) or place.get(PurePosixPath(name).name)
        if not has_words(caption):
            skipped.add(f"{path.name}, {name}", "its caption has no letter and no digit")
        elif there is None:
            skipped.add(f"{path.name}, {name}", "no photo of that name")
        elif not there:
            skipped.add(f"{path.name}, {name}", "several photos of that name: write the path")
        else:
            before = found[there].captions if there in found else ()
            found[there] = Captioned((*before, caption.strip()), held)
    skipped.settle(len(said))
    return found


def _places(photos: Iterable[str]) -> dict[str, str]:
    """Path or last part of one → the path of the photo; "" for the last part of several."""
    paths, parts = dict.fromkeys(photos), dict[str, str]()
    for path in paths:
        part = PurePosixPath(path).name
        parts[part] = "" if part in parts else path
    return parts | {path: path for path in paths}


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise PhotoError(f"{path} is no JSON in UTF-8 ({error}): save it anew, or move it away") from error
    if not isinstance(found, dict):
        raise PhotoError(f"{path} has captions that are neither {KNOWN}: it is a {type(found).__name__}")
    return found


def _said(path: Path, found: Mapping[str, Any]) -> Iterator[tuple[str, str, bool | None]]:
    """Name of the photo, caption, and whether it is held out, for each caption."""
    try:
        if "annotations" in found:
            name = {image["id"]: str(image["file_name"]) for image in found["images"]}
            for one in found["annotations"]:
                yield name.get(one["image_id"], f"image {one['image_id']}"), str(one["caption"]), None
        else:
            for image in found["images"]:
                held = image["split"] in HELD if "split" in image else None
                for one in image["sentences"]:
                    yield str(image["filename"]), str(one["raw"]), held
    except (KeyError, TypeError) as error:
        keys = ", ".join(map(str, list(found)[:8])) or "nothing"
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PhotoError(f"{path} has captions that are neither {KNOWN}: it has {keys}; {reason}") from error
