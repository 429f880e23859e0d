"""Features of locked stages on the disk, so that the next process need not compute them: see `locked`.

They lie under `runs/features/` in parts of some thousand pictures, each written whole or not at all, with a
checksum. A feature is found by its picture and by the state of the stages, so that nothing there can be out
of date; whoever deletes the folder loses seconds.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open

from ubt_utils.core import paths
from ubt_utils.core.checksum import whole
from ubt_utils.core.tensors import save_tensors

ROOM = 2**31  # bytes on the disk, at most


@dataclass
class Shelf:
    """What the parts hold, by name: a table of features, mapped into memory, and the row. `opened`: the parts
    that were looked at, good or damaged."""

    room: int = ROOM
    rows: dict[bytes, tuple[torch.Tensor, int]] = field(default_factory=dict)
    opened: set[Path] = field(default_factory=set)
    full: bool = False

    def get(self, name: bytes) -> torch.Tensor | None:
        """The features (H, W, C) of that name, if they are in a part that was looked at."""
        table, row = self.rows.get(name, (None, 0))
        return None if table is None else table[row]

    def look(self) -> None:
        """Open the parts that have come since the last time, of this process or of others."""
        for path in _parts():
            if path not in self.opened:
                self.opened.add(path)
                self._open(path)

    def put(self, names: Sequence[bytes], features: torch.Tensor) -> None:
        """Write features (n, H, W, C) as a part, but for those that lie there already, while there is room.
        Where the disk has none it warns, and writes no more."""
        self.look()
        new = [i for i, name in enumerate(names) if name not in self.rows]
        size = features[:1].numel() * features.element_size() * len(new)
        if not new or self.full:
            return
        try:
            if size + sum(part.stat().st_size for part in _parts()) > self.room:
                return
            told = torch.tensor([list(names[i]) for i in new], dtype=torch.uint8)
            table = {"names": told, "features": features[new].contiguous()}
            _folder().mkdir(parents=True, exist_ok=True)
            with whole(_folder() / f"{uuid4().hex}.safetensors") as part:
                save_tensors(table, part, {"digest": _digest(table)})
        except OSError as error:
            self.full = True
            warnings.warn(f"features of photos are not kept under {_folder()}: {error}", stacklevel=2)

    def _open(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                told = (file.metadata() or {}).get("digest")
                table = {name: file.get_tensor(name) for name in ("names", "features")}
        except (OSError, SafetensorError):
            return  # damaged, or gone by now
        if told == _digest(table):
            for row, name in enumerate(table["names"].numpy()):
                self.rows.setdefault(name.tobytes(), (table["features"], row))


SHELF = Shelf()


def _folder() -> Path:
    return paths.runs() / "features"


def _parts() -> list[Path]:
    return sorted(_folder().glob("*.safetensors"))


def _digest(table: dict[str, torch.Tensor]) -> str:
    h = hashlib.blake2b(digest_size=16)
    for name in ("names", "features"):
        h.update(table[name].contiguous().numpy().data)
    return h.hexdigest()
