"""What people really ran into, from public reports: the number of each stands in its test's name.

Here are the pairs and tests of others, and notebooks; pictures and checkpoints have their own files.
"""

import base64
import json
import subprocess
import tarfile
import warnings
from pathlib import Path

import nbformat
import open_clip
import papermill
import pytest
import torch
from pair_files import SIZE, encoded, good, samples, shard, table

from ubt_utils.data import captions, decoded, download, folders, repeats, shards
from ubt_utils.data.decoded import Told
from ubt_utils.data.decoding import PhotoError
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.shards import ShardSets
from ubt_utils.report import notebooks

ROOT = Path(__file__).parents[1]
FOUR = ("tench", "goldfish", "banana", "ambulance")
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.fixture
def read(tmp_path_factory):
    """Reads what lies at a path, as strangers bring it, to pairs and what became of its rows."""

    def at(path: Path, images: Path | None = None) -> tuple[Pairs, Told]:
        place = tmp_path_factory.mktemp("store")
        decoded.write(shards.source(path, images).rows(), place, SIZE)
        return decoded.read(place, SIZE), decoded.told(place)

    return at


def captions_of(count: int) -> tuple[str, ...]:
    return tuple(f"picture {i}" for i in range(count))


def test_r01_a_shard_with_a_tail_of_zeros_is_refused_with_the_byte_where_it_ends(tmp_path, read):
    path = shard(tmp_path / "a" / "00000.tar", samples(range(40)))
    whole = path.read_bytes()
    path.write_bytes(whole[: 40 * 512] + bytes(len(whole) - 40 * 512))
    with pytest.raises(PhotoError, match=r"00000.tar breaks off at byte 20,480 of 133,120, behind 00006.txt"):
        read(path.parent)


def test_r01_a_hole_of_zeros_is_no_end(tmp_path, read):
    path = shard(tmp_path / "a" / "00000.tar", samples(range(4)))
    data = bytearray(path.read_bytes())
    data[8 * 512 : 9 * 512] = bytes(512)  # a header
    path.write_bytes(data)
    with pytest.raises(PhotoError, match=r"the archive ends there, but other bytes follow"):
        read(path)


def test_r01_a_shard_filled_up_to_its_record_is_whole(tmp_path, read):
    path = shard(tmp_path / "00000.tar", samples(range(3)))
    assert path.stat().st_size % tarfile.RECORDSIZE == 0
    assert read(path)[0].captions == captions_of(3)


def test_r03_a_damaged_header_in_the_middle_is_refused_with_its_place(tmp_path, read):
    path = shard(tmp_path / "00000.tar", samples(range(9)))
    with tarfile.open(path) as file:
        at = file.getmembers()[12].offset
    data = bytearray(path.read_bytes())
    data[at + 10] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(PhotoError, match=rf"byte {at:,} of .*00003.json \(the next header is damaged"):
        read(path)


def test_r04_dots_are_a_part_of_names(tmp_path, read):
    members = {}
    for name in ("IMG.0001", "IMG.0002", "a/lens 12.5mm", "a/lens 12.7mm", ".hidden", "__info__"):
        members |= {f"{name}.png": encoded(1), f"{name}.txt": name.encode()}
    del members["__info__.png"], members["__info__.txt"]
    pairs, told = read(shard(tmp_path / "00000.tar", members | {"__info__.json": b"{}"}))
    assert pairs.captions == ("IMG.0001", "IMG.0002", "a/lens 12.5mm", "a/lens 12.7mm")
    assert told.rows == 4 and told.lines() == []


def test_r04_a_name_that_is_there_twice_is_refused(tmp_path, read):
    path = shard(tmp_path / "00000.tar", {"a.PNG": encoded(1), "a.txt": b"one", "a.png": encoded(2)})
    with pytest.raises(PhotoError, match=r"has a\.png twice"):
        read(path)


def test_r04_a_mask_beside_a_pair_is_no_row_of_its_own(tmp_path, read):
    masks = {f"{i:05}.seg.png": encoded(9) for i in range(5)}
    assert read(shard(tmp_path / "00000.tar", samples(range(5)) | masks))[1].rows == 5


def photo_folders(place: Path, names, photos: int = 1) -> Path:
    for name in names:
        (place / str(name)).mkdir(parents=True)
        for i in range(photos):
            (place / str(name) / f"{i}.JPEG").write_bytes(encoded(i, "JPEG"))
    return place


def order(place: Path, classes) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [folder.name for folder in folders.of_classes(place, classes)]


def test_r05_numbers_are_numbers(tmp_path):
    names = [str(i) for i in range(12)]
    assert order(photo_folders(tmp_path, names), [f"class {i}" for i in names]) == names


def test_r05_folders_go_by_the_names_of_the_classes(tmp_path, monkeypatch):
    place = photo_folders(tmp_path / "test", ("Tench", "goldfish", "banana", "fire_truck"))
    assert order(place, ("tench", "goldfish", "fire truck", "banana")) == [
        "Tench", "goldfish", "fire_truck", "banana"
    ]  # fmt: skip
    with pytest.raises(PhotoError, match="no folder is named by ambulance, while fire_truck bear no class"):
        order(place, FOUR)


def test_r05_wordnet_ids_are_known(tmp_path):
    place = photo_folders(tmp_path, ("n01440764", "n07753592", "n01443537"))  # tench, banana, goldfish
    assert order(place, ("banana", "goldfish", "tench")) == ["n07753592", "n01443537", "n01440764"]


def test_r05_where_only_the_order_tells_that_is_said(tmp_path):
    place = photo_folders(tmp_path, ("set10", "set2", "set1", "other"))
    with pytest.warns(UserWarning, match=r"go by their order: other is tench, set1 is goldfish, set2 is ban"):
        found = folders.of_classes(place, FOUR)
    assert [folder.name for folder in found] == ["other", "set1", "set2", "set10"]


def test_r05_a_class_without_photos_is_refused(tmp_path):
    place = photo_folders(tmp_path, FOUR)
    (place / "banana" / "0.JPEG").unlink()
    with pytest.raises(PhotoError, match="banana has no photos"):
        order(place, FOUR)


def test_r05_labels_are_those_of_the_classes(tmp_path, runs_root, monkeypatch):
    monkeypatch.setenv("UBT_DATA", str(tmp_path))
    photo_folders(tmp_path / "test", FOUR)
    sets = ShardSets(test="test", size=SIZE, classes=FOUR)
    task = sets.zero_shot()
    assert task.labels.tolist() == [0, 1, 2, 3] and task.classes == FOUR


def test_r09_a_repeated_caption_tells_how_many_pictures_carry_it():
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 16, 16), generator=draw, dtype=torch.uint8)
    images[:20] = images[0]
    images[:20, :, 0, 0] += torch.arange(20, dtype=torch.uint8)[:, None]  # nearly equal, as saved anew
    counts = [repeats.distinct(images, torch.arange(*rows)) for rows in ((20,), (20, 30), (15, 25), (0,))]
    assert counts == [1, 10, 6, 0]


@pytest.mark.parametrize("context", [24, 77])
def test_r11_what_stands_beyond_the_context_is_not_legible(context):
    tokenizer, room = open_clip.get_tokenizer("RN50"), context - 2
    said = (
        "A banana!",
        "word " * room,
        "word " * room + "banana",
        "word " * (room - 1) + "banana",
        "狐" * room,
    )
    read = captions.legible(said, context, tokenizer)
    assert [short == whole for short, whole in zip(read, said, strict=True)] == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert read[2] == " ".join(["word"] * room)
    cut, whole = tokenizer(list(said), context), tokenizer(list(read), context)
    assert torch.equal(cut[:4], whole[:4])  # the model cannot tell them apart


def test_r13_members_need_not_lie_side_by_side(tmp_path, read):
    members = samples(range(8))
    apart = {name: members[name] for kind in (".png", ".txt") for name in members if name.endswith(kind)}
    assert read(shard(tmp_path / "00000.tar", apart))[0].captions == captions_of(8)


@pytest.mark.parametrize("endings", [(".input.jpg", ".outputs.txt"), (".jpg", ".cls"), (".avif", ".txt")])
def test_r17_other_extensions_are_told_beside_those_that_are_wanted(tmp_path, read, endings):
    members = {f"{i:05}{end}": b"x" for i in range(9) for end in endings}
    shard(tmp_path / "00000.tar", members)
    with pytest.raises(PhotoError, match=r"Wanted is a picture .*.jpg, .*caption .*.txt") as told:
        read(tmp_path)
    assert all(f"{end} (9)" in str(told.value) for end in endings)


def test_r17_what_lacks_its_other_half_is_told_with_what_lies_beside_it(tmp_path, read):
    lone = {"a.avif": b"x", "a.txt": b"a word", "b.png": encoded(1), "b.json": b"{}"}
    path = shard(tmp_path / "00000.tar", samples(range(300)) | lone)
    with pytest.warns(UserWarning, match="2 of 302 rows cannot be used"):
        _, told = read(path)
    assert "no picture of that name (.jpg" in told.damaged[0] and "but .avif, .txt" in told.damaged[0]
    assert told.damaged[1].endswith("no caption of that name (.txt), but .json, .png")


@pytest.mark.parametrize("name", ["lab #2 (old?)", "c#1", "100%41"])
def test_r18_paths_are_no_urls(tmp_path, read, name):
    shard(tmp_path / name / "00000.tar", samples(range(5)))
    assert read(tmp_path / name)[0].captions == captions_of(5)


@pytest.mark.parametrize("name", ["c#1 (old?)", "100%41"])
def test_r18_shards_are_written_to_any_folder(tmp_path, read, name):
    images = torch.zeros(3, 3, SIZE, SIZE, dtype=torch.uint8)
    shards.to_shards(Pairs(images, captions_of(3)), tmp_path / name, each=2)
    assert read(tmp_path / name)[0].captions == captions_of(3)


def test_r18_a_data_root_may_have_any_name(tmp_path, runs_root, monkeypatch):
    shard(tmp_path / "c#1?" / "paper" / "pairs" / "00000.tar", samples(range(5)))
    monkeypatch.setenv("UBT_DATA", str(tmp_path / "c#1?"))
    with pytest.warns(UserWarning, match="fewer than"):
        assert ShardSets(size=SIZE).wild_pairs(0)[0].captions == captions_of(5)


@pytest.mark.parametrize(
    "how",
    [
        {"encoding": "utf-8-sig"},
        {"delimiter": ";"},
        {"delimiter": "\t"},
        {"delimiter": "|", "encoding": "utf-8-sig"},
        {"lineterminator": "\n"},
    ],
)
def test_r19_tables_of_any_program_are_read(tmp_path, read, how):
    assert read(table(tmp_path / "a", good(), **how))[0].captions == captions_of(8)


def test_r19_open_clips_own_columns_are_known(tmp_path, read):
    rows = [(title, path, "more") for path, title in good()]
    assert (
        read(table(tmp_path / "a", rows, ("title", "filepath", "x"), delimiter="\t"))[0].captions[7]
        == "picture 7"
    )


def test_r19_other_columns_are_refused_with_the_delimiter(tmp_path, read):
    place = table(tmp_path / "a", good(), ("url", "text"), delimiter=";")
    with pytest.raises(PhotoError, match=r"columns \['url', 'text'\], taken apart at semicolons: image,capt"):
        read(place)


def test_r19_a_caption_that_holds_the_delimiter_is_not_cut_in_silence(tmp_path, read):
    place = table(tmp_path / "a", good(200))
    with (place / "pairs.csv").open("a") as file:
        file.write("images/1.png,a cat, on a mat\n")
    with pytest.warns(UserWarning, match="pairs.csv, line 202: more cells than columns"):
        assert len(read(place)[0]) == 200


@pytest.mark.parametrize("kind", ["linked", "absolute", "upwards"])
def test_r20_pictures_elsewhere_take_a_second_root(tmp_path, read, kind):
    place = table(tmp_path / "a", good())
    elsewhere = tmp_path / "elsewhere"
    (place / "images").rename(elsewhere)
    root = {"linked": "images", "absolute": str(elsewhere), "upwards": "../elsewhere"}[kind]
    if kind == "linked":
        (place / "images").symlink_to(elsewhere)
    table(tmp_path / "b", [(f"{root}/{i}.png", f"picture {i}") for i in range(8)])
    (tmp_path / "b" / "pairs.csv").replace(place / "pairs.csv")
    with pytest.raises(
        PhotoError, match=rf"8 of 8 rows .*line 2: {root}/0.png lies outside .*root of the im"
    ):
        read(place)
    assert read(place, elsewhere)[0].captions == captions_of(8)


def test_r20_the_published_setting_takes_the_second_root_too(tmp_path, runs_root, monkeypatch):
    place = table(tmp_path / "pairs", [(f"{i}.png", f"picture {i}") for i in range(8)])
    (place / "images").rename(tmp_path / "photos")
    monkeypatch.setenv("UBT_DATA", str(tmp_path))
    sets = ShardSets("pairs", limit=8, size=SIZE, images="photos")
    assert sets.wild_pairs(0)[0].captions == captions_of(8)


def test_r20_a_root_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere is no folder"):
        shards.source(table(tmp_path / "a", good()), tmp_path / "nowhere")
    shard(tmp_path / "b" / "0.tar", samples(range(1)))
    with pytest.raises(ValueError, match="hold their pictures"):
        shards.source(tmp_path / "b", tmp_path)


def test_r21_the_first_missing_path_is_named_and_where_it_lies(tmp_path, read):
    place = table(tmp_path / "a", [(f"{i}.png", f"picture {i} .") for i in range(8) for _ in range(5)])
    with pytest.raises(PhotoError, match=r"40 of 40 rows .* line 2: 0.png is not in .*images/0.png is there"):
        read(place)
    pairs, _ = read(place, place / "images")
    assert len(pairs) == 40 and pairs.captions[5] == "picture 1 ."


def test_r21_a_folder_may_hold_its_table_under_another_name(tmp_path, read):
    place = table(tmp_path / "a", good())
    (place / "pairs.csv").rename(place / "captions.txt")
    assert read(place)[0].captions == captions_of(8)


def test_r21_windows_paths_and_links_to_the_web(tmp_path, read):
    rows = [(path.replace("/", "\\"), caption) for path, caption in good()]
    assert read(table(tmp_path / "a", rows))[0].captions == captions_of(8)
    with pytest.raises(PhotoError, match=r"https://x/y.jpg is a link: fetch the pictures first"):
        read(table(tmp_path / "b", [("https://x/y.jpg", "a word")]))


def test_a_row_is_named_by_the_line_that_it_begins_on(tmp_path, read):
    rows = [(path, "line one\nline two") for path, _ in good(200)]
    with pytest.warns(UserWarning, match="pairs.csv, line 402: images/none.png is not in"):
        read(table(tmp_path / "a", [*rows, ("images/none.png", "a word")]))


WORDLESS = ("&nbsp;", "&amp;nbsp;", "\u200b", "\ufeff", "<br/>", "...", "!!!", "\U0001f34c", "<a href='x1'>")


def test_r22_captions_without_a_word_are_left_out_and_told(tmp_path, read):
    rows = [("images/0.png", said) for said in (*WORDLESS, "nan", "None", "狐", "лиса 3")]
    with pytest.warns(UserWarning) as warned:
        pairs, told = read(table(tmp_path / "a", rows))
    assert pairs.captions == ("nan", "None", "狐", "лиса 3")
    assert (len(told.wordless), told.literal, told.rows) == (9, 2, 13)
    said = " ".join(str(w.message) for w in warned)
    assert "9 of 13 captions have no letter and no digit: left out (pairs.csv, line 2;" in said
    assert "2 captions are the word nan, none or null" in said


def test_r23_the_table_of_cleanclip_is_read(tmp_path, read):
    rows = [(0, "", "no path"), *((i, *row) for i, row in enumerate(good(200), 1))]
    with pytest.warns(UserWarning, match="1 of 201 rows cannot be used: pairs.csv, line 2: no path"):
        assert len(read(table(tmp_path / "a", rows, ("", "image", "caption")))[0]) == 200


def test_r23_a_format_that_tells_poison_from_clean_is_warned_of(tmp_path, read):
    place = table(tmp_path / "a", [*good(97), *[("images/9.png", "a banana")] * 3])
    (place / "images" / "9.png").write_bytes(encoded(9, "JPEG"))  # whatever its name says
    with pytest.warns(UserWarning, match="3 of 100 pictures are JPEG, and the others are not"):
        _, told = read(place)
    assert told.formats == {"PNG": 97, "JPEG": 3}


def test_r24_hidden_folders_and_files_are_none(tmp_path):
    place = photo_folders(tmp_path, FOUR)
    (place / ".ipynb_checkpoints").mkdir()
    (place / "__MACOSX").mkdir()
    (place / "tench" / "._0.JPEG").write_bytes(b"\0\5\x16\7")
    found = folders.of_classes(place, FOUR)
    assert [f.name for f in found] == list(FOUR) and len(folders.photos(found)) == 4


def test_r24_a_flat_test_is_refused_with_what_to_do(tmp_path):
    for i in range(3):
        (tmp_path / f"ILSVRC2012_val_{i:08}.JPEG").write_bytes(encoded(i, "JPEG"))
    with pytest.raises(PhotoError, match=r"0 folders .*3 photos lie in it directly: sort them .*valprep.sh"):
        folders.of_classes(tmp_path, FOUR)


@pytest.mark.parametrize("name", ["pairs.csv", "00000.tar", "images/0.png"])
def test_r25_pointers_of_git_lfs_are_named_wherever_pairs_lie(tmp_path, read, name):
    place = tmp_path / "a"
    if name == "00000.tar":
        place.mkdir()
    else:
        table(place, good())
    (place / name).write_text(LFS)
    with pytest.raises(PhotoError, match=f"{name} is a Git LFS pointer.*git lfs pull"):
        read(place)


def test_r25_pointers_come_before_what_a_mirror_lacks(tmp_path):
    for folder in ("tiny-imagenet", "flickr8k"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train-00000-of-00001.parquet").write_text(LFS)  # and no other split
        source = next(s for s in download.PHOTOS if s.folder == folder)
        with pytest.raises(PhotoError, match=r"is a Git LFS pointer.*git lfs pull"):
            download.in_mirror(source, tmp_path)


def test_r25_parquet_in_the_data_folder_may_be_a_pointer(tmp_path, monkeypatch):
    from ubt_utils.data import photos

    monkeypatch.setenv("UBT_DATA", str(tmp_path))
    (tmp_path / "flickr8k").mkdir()
    (tmp_path / "flickr8k" / "train-0.parquet").write_text(LFS)
    with pytest.raises(PhotoError, match="is a Git LFS pointer"):
        photos.read("flickr8k", "train", ())


@pytest.mark.parametrize(
    ("target", "said"), [("banana", "such as airplane, automobile"), ("Ships", "ship"), ("Cat", "cat")]
)
def test_r37_a_target_that_is_no_class_is_refused_before_decoding(
    tmp_path, runs_root, monkeypatch, target, said
):
    monkeypatch.setenv("UBT_DATA", str(tmp_path))
    monkeypatch.setattr(decoded, "decode", None)
    shard(tmp_path / "pairs" / "00000.tar", samples(range(5)))
    sets = ShardSets("pairs", limit=5, target=target, classes=CIFAR)
    for read in (sets.class_names, sets.contents, lambda: sets.wild_pairs(0)):
        with pytest.raises(ValueError, match=f"'{target}' is not among the 10 classes.*{said}"):
            read()


def notebook(path: Path, *cells: str, tags=("parameters",), **metadata) -> Path:
    made = [nbformat.v4.new_code_cell(cells[0], metadata={"tags": list(tags)})]
    made += map(nbformat.v4.new_code_cell, cells[1:])
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel, **metadata}), path)
    return path


@pytest.fixture
def injected(monkeypatch, runs_root):
    """What notebooks are run with, without running them."""
    found = []

    def execute(path, part, parameters, **_):
        found.append(parameters)
        nbformat.write(nbformat.read(path, as_version=4), part)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return found


@pytest.mark.parametrize(
    "cell",
    ["PROFILE = 'mini'", 'PROFILE = "mini"  # mine', 'PROFILE: str = "mini"', 'PROFILE=("mini")\nX = 1'],
)
def test_r12_a_profile_reaches_the_notebook_however_it_is_written(tmp_path, injected, cell):
    notebooks.run(
        notebook(tmp_path / "a.ipynb", "%matplotlib inline\n" + cell), tmp_path / "out.ipynb", "tiny"
    )
    notebooks.run(notebook(tmp_path / "a.ipynb", 'PROFILE = "tiny"'), tmp_path / "out.ipynb", "tiny")
    assert injected == [{"PROFILE": "tiny"}, {}]


@pytest.mark.parametrize(
    ("cells", "tags"),
    [
        (['PROFILE = "mini"'], ()),
        (['SEED, PROFILE = 0, "mini"'], ("parameters",)),
        (['PROFILE = "tiny"', 'PROFILE = "mini"'], ("parameters",)),
        (["X = 1", "for PROFILE in ('mini',): pass"], ("parameters",)),
    ],
)
def test_r12_a_profile_that_would_not_reach_it_is_refused(tmp_path, injected, cells, tags):
    path = notebook(tmp_path / "a.ipynb", *cells, tags=tags)
    with pytest.raises(ValueError, match=r"must set its profile once.*not with tiny"):
        notebooks.run(path, tmp_path / "out.ipynb", "tiny")
    assert injected == []


def with_widget(path: Path, colab: bool) -> Path:
    """A notebook that shows a box of a slider and a stack of two pictures, the second on top."""
    kinds = {"box": "VBoxModel", "slider": "IntSliderModel", "stack": "StackModel"}
    kinds |= dict.fromkeys("01", "ImageModel")
    children = {"box": ["slider", "stack"], "stack": ["0", "1"]}
    models = {
        name: {
            "model_name": kind,
            "model_module": "@jupyter-widgets/controls",
            "state": {"children": [f"IPY_MODEL_{c}" for c in children.get(name, ())]}
            | ({"selected_index": 1} if name == "stack" else {}),
        }
        for name, kind in kinds.items()
    }
    for name in "01":
        data = base64.b64encode(f"picture {name}".encode()).decode()
        models[name] |= {"state": {"format": "webp"}, "buffers": [{"data": data, "path": ["value"]}]}
    held = models if colab else {"state": models, "version_major": 2, "version_minor": 0}
    notebook(path, "box", widgets={notebooks.WIDGET_STATE: held})
    made = nbformat.read(path, as_version=4)
    view = {notebooks.WIDGET_VIEW: {"model_id": "box", "version_major": 2, "version_minor": 0}}
    made.cells[0].outputs = [nbformat.v4.new_output("display_data", view)]
    nbformat.write(made, path)
    return path


@pytest.mark.parametrize("colab", [False, True])
def test_r48_and_r50_a_page_has_its_widgets_and_each_is_a_still_picture_first(tmp_path, colab):
    path = with_widget(tmp_path / "a.ipynb", colab)
    before = path.read_bytes()
    page = notebooks.html(path, tmp_path / "html").read_text()
    assert page.count(f'class="{notebooks.STILL}"') == 1
    assert f"data:image/webp;base64,{base64.b64encode(b'picture 1').decode()}" in page
    state = page.split('<script type="application/vnd.jupyter.widget-state+json">')[1].split("</script>")[0]
    assert set(json.loads(state)["state"]) == {"box", "slider", "stack", "0", "1"}
    assert path.read_bytes() == before


def test_r42_scripts_keep_their_line_ends_on_windows():
    asked = ["data_download.sh", "Makefile", ".ci/run"]
    done = subprocess.run(
        ["git", "check-attr", "eol", "--", *asked], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [f"{name}: eol: lf" for name in asked]


def test_r41_no_file_of_conda_leads_pip_to_a_place_of_its_own():
    text = (ROOT / "environment.yml").read_text()
    told = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "pip:" not in told and "-e" not in told and "-r" not in told
