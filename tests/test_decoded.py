"""Shards and CSV files to pairs on disk: what is read, what is refused, what a kill leaves."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from pair_files import SIZE, encoded, samples, shard

from ubt_utils.data import decoded, shards
from ubt_utils.data.decoded import Unread
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.photos import PhotoError
from ubt_utils.data.pictures import Pictures


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two shards of five and three pairs."""
    for number, part in enumerate((range(5), range(5, 8))):
        shard(tmp_path / f"{number:05}.tar", samples(part))
    return tmp_path


@pytest.fixture
def built(tmp_path) -> Path:
    place = tmp_path / "store"
    place.mkdir()
    return place


def built_from(source, place: Path):
    assert decoded.write(source, place, SIZE) == len(decoded.read(place, SIZE))
    return decoded.read(place, SIZE, "made")


def test_shards_become_pairs_on_disk_in_their_order(folder, built):
    pairs = built_from(shards.from_shards(shards.shards(folder)), built)
    assert pairs.captions == tuple(f"picture {i}" for i in range(8)) and isinstance(pairs.images, Pictures)
    assert pairs.images[torch.tensor([6])][0, :, 0, 0].tolist() == [6, 12, 249]
    assert pairs.sources[0] == "00000.tar, 00000" and pairs.sources[7] == "00001.tar, 00007"


def test_a_csv_file_becomes_the_same_pairs(folder, built, tmp_path):
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(encoded(i))
    table = tmp_path / "pairs.csv"
    table.write_text(
        "caption,image\n" + "".join(f"picture {i},{i}.png\n" for i in range(8)), encoding="utf-8"
    )
    other = tmp_path / "other"
    other.mkdir()
    from_csv = built_from(shards.from_csv(table), built)
    from_shards = built_from(shards.from_shards(shards.shards(folder)), other)
    assert from_csv.captions == from_shards.captions
    assert torch.equal(from_csv.images[:], from_shards.images[:])
    assert from_csv.sources[0] == "pairs.csv, line 2"


def test_the_picture_of_a_row_is_told_as_it_is_written(folder, tmp_path):
    rows = ["pairs.csv, line 2", "pairs.csv, line 4"]
    table = tmp_path / "pairs.csv"
    table.write_text('caption,image\n"two\nlines",./a.png\nb,"b, c.PNG"\n', encoding="utf-8")
    assert shards.source(table).paths(rows) == dict(zip(rows, ("./a.png", "b, c.PNG"), strict=True))
    shard(folder / "00002.tar", {"a/b.c.JPG": encoded(1), "a/b.c.seg.png": encoded(2), "a/b.c.txt": b"c"})
    found = shards.Source(tuple(shards.shards(folder)))
    asked = ["00002.tar, a/b.c", "00001.tar, 00006"]
    assert set(asked) <= {row.name for row in found.rows()}
    assert found.paths(asked) == {"00002.tar, a/b.c": "a/b.c.JPG", "00001.tar, 00006": "00006.png"}


def test_other_columns_are_named(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("title,file\na,b\n")
    with pytest.raises(
        PhotoError, match=r"columns \['title', 'file'\], taken apart at commas: image,caption"
    ):
        list(shards.from_csv(table))
    table.write_text("")
    with pytest.raises(PhotoError, match="is empty"):
        list(shards.from_csv(table))


def test_what_is_no_csv_is_refused_with_the_line(tmp_path):
    table, good = tmp_path / "pairs.csv", b"image,caption\na.png,a\n"
    (tmp_path / "a.png").write_bytes(encoded(1))
    for bad, why in (
        (b"a.png," + b"x" * 200_000, "field larger"),
        (b"a.png,\xff", "can't decode"),
        (b'a.png,"an open quote\nb.png,b\n', "unexpected end of data"),
        (b'a.png,"quoted" and not\n', "expected after"),
    ):
        table.write_bytes(good + bad + b"\n")
        with pytest.raises(PhotoError, match=rf"pairs.csv, behind line \d: not CSV in UTF-8 \(.*{why}"):
            list(shards.from_csv(table))


def test_a_name_that_no_file_can_have_is_no_file(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(1))
    table = tmp_path / "pairs.csv"
    table.write_bytes(b"image,caption\n" + b"a.png,a\n" * 198 + b"a\0b.png,a\n" + b"x" * 5000 + b".png,b\n")
    assert [row.name for row in shards.from_csv(table) if isinstance(row, Unread)] == [
        "pairs.csv, line 200", "pairs.csv, line 201",
    ]  # fmt: skip


def test_the_identity_is_of_the_table_and_its_pictures(tmp_path):
    table, picture = tmp_path / "pairs.csv", tmp_path / "a.png"
    table.write_text("image,caption\na.png,a\nb.png,b\n")
    picture.write_bytes(encoded(1))
    first = shards.source(table).identity()
    assert shards.source(table).identity() == first
    picture.write_bytes(encoded(1) + b"more")
    assert shards.source(table).identity() != first
    picture.unlink()
    table.write_text("image,caption\na.png,a\nb.png,another\n")
    assert len({first, shards.source(table).identity()}) == 2


def test_the_first_of_several_ranks_reads_all_rows(folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert len(list(shards.from_shards(shards.shards(folder)))) == 8


def test_a_csv_file_reads_nothing_outside_its_folder(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(1))
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.png").symlink_to(secret)
    for name in ("../secret.png", secret, "link.png"):
        (inside / "pairs.csv").write_text(f"image,caption\n{name},a\n")
        with pytest.raises(PhotoError, match=r"line 2: .*secret|link.png lies outside"):
            list(shards.from_csv(inside / "pairs.csv"))
        assert [row.image for row in shards.from_csv(inside / "pairs.csv", tmp_path)] == [encoded(1)]


@pytest.mark.parametrize("cut", [1, 512, 700, 1024, 2000])
def test_a_truncated_shard_is_refused_not_read_as_a_shorter_one(folder, cut):
    path = folder / "00001.tar"
    end = path.read_bytes().rstrip(b"\0")
    path.write_bytes((end + bytes(-len(end) % 512 + 1024))[:-cut])
    with pytest.raises(PhotoError, match=r"00001\.tar is truncated"):
        shards.shards(folder)


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(PhotoError, match="no shards"):
        shards.shards(tmp_path)


def test_nothing_in_a_shard_is_unpickled(tmp_path, built):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    bad = samples(range(1)) | {"00000.pkl": pickle.dumps(Bomb()), "00000.pyd": pickle.dumps(Bomb())}
    built_from(shards.from_shards([shard(tmp_path / "00000.tar", bad)]), built)
    assert not (tmp_path / "exploded").exists()


def many(bad: dict[int, shards.Row], count: int = 300):
    for i in range(count):
        yield bad.get(i, shards.Row(encoded(i % 200), b"a word", f"row {i}"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Unread("row 7", "no path"), "row 7: no path"),
        (shards.Row(encoded(3)[:20], b"a word", "row 7"), "row 7: the image does not decode"),
        (shards.Row(None, b"a word", "row 7"), "row 7: the image does not decode"),
        (shards.Row(encoded(3), None, "row 7"), "row 7: no caption"),
        (shards.Row(encoded(3), b"\xff", "row 7"), "row 7: the caption is not UTF-8"),
    ],
)
def test_a_bad_row_is_left_out_and_named(built, row, reason):
    with pytest.warns(UserWarning, match=f"1 of 300 rows cannot be used: {reason}"):
        assert decoded.write(many({7: row}), built, SIZE) == 299
    assert "row 7" not in decoded.read(built, SIZE).sources


def test_too_many_bad_rows_end_the_run(built):
    bad = {i: shards.Row(b"", b"a word", f"row {i}") for i in range(4)}
    with pytest.raises(PhotoError, match=r"4 of 300 rows cannot be used: row 0.*More than 1%"):
        decoded.write(many(bad), built, SIZE)


def test_a_store_of_nothing_is_refused(built):
    with pytest.raises(PhotoError, match="no pairs"):
        decoded.write([], built, SIZE)


@pytest.mark.parametrize("left", ["all", "half a picture", "half a line", "lost pictures"])
def test_a_killed_build_goes_on_where_it_was(built, tmp_path, monkeypatch, left):
    monkeypatch.setattr(decoded, "CHUNK", 64)
    whole = tmp_path / "whole"
    whole.mkdir()
    decoded.write(many({}), whole, SIZE)

    def killed():
        for i, row in enumerate(many({})):
            if i == 200:
                raise KeyboardInterrupt
            yield row

    with pytest.raises(KeyboardInterrupt):
        decoded.write(killed(), built, SIZE)
    pictures, journal = built / decoded.PICTURES, built / decoded.JOURNAL
    if left == "half a picture":
        pictures.write_bytes(pictures.read_bytes() + b"x" * 50)
    elif left == "half a line":
        journal.write_text(journal.read_text() + json.dumps([256, ["to"]])[:9])
    elif left == "lost pictures":
        pictures.write_bytes(pictures.read_bytes()[:-SIZE])
    calls = []
    real = decoded.decode
    monkeypatch.setattr(decoded, "decode", lambda *x: calls.append(1) or real(*x))
    assert decoded.write(many({}), built, SIZE) == 300
    assert len(calls) == (300 - 128 if left == "lost pictures" else 300 - 192)
    for name in (decoded.PICTURES, decoded.JOURNAL):
        assert (built / name).read_bytes() == (whole / name).read_bytes()


def test_a_store_that_lost_bytes_is_refused(folder, built):
    built_from(shards.from_shards(shards.shards(folder)), built)
    (built / decoded.PICTURES).write_bytes(b"x")
    with pytest.raises(PhotoError, match="holds 1 bytes where 1,536 are expected"):
        decoded.read(built, SIZE)


def test_the_fingerprint_is_of_bytes_and_order(folder):
    one, other = shards.shards(folder)
    before = shards.fingerprint([one, other])
    assert shards.fingerprint([other, one]) != before
    shard(other, samples(range(6, 9)))
    assert shards.fingerprint([one, other]) != before


def test_pairs_survive_the_way_through_shards(pairs, built, tmp_path):
    files = shards.to_shards(pairs.take(range(24)), tmp_path / "shards", each=10)
    assert [path.name for path in files] == ["00000.tar", "00001.tar", "00002.tar"]
    square = pairs.images[..., :16].contiguous()  # stores hold squares
    files = shards.to_shards(Pairs(square, pairs.captions), tmp_path / "square", each=10)
    decoded.write(shards.from_shards(files), built, 16)
    read = decoded.read(built, 16)
    assert torch.equal(read.images[:], square) and read.captions == pairs.captions
