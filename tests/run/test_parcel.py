"""A parcel holds what was packed: unpacked elsewhere its artefacts have the same keys, tables and files and count as finished. Parts are no
larger than asked. Unpacking may be killed and repeated, touches nothing that is finished, and refuses what is damaged. Weights travel
alone and once, rounded to bf16; what needs them says so in one line until they are here. Results travel without text."""

import io
import json
import lzma
import re
import shutil
import tarfile

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from conan_lib.artefacts import MANIFEST
from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import load_sentence_transformer
from conan_lib.model.backbone import link
from conan_lib.run import parcel as parcels
from conan_lib.run.parcel import INDEX, TEXTS, pack, unpack
from conan_lib.stages import compute, open_stage
from tests.small_pairs import finish_inputs, finish_weak, pair_params

pytestmark = pytest.mark.usefixtures("one_environment")
NAMES = ("sets", "tokenizer", "teacher", "pretrain", "sft")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    params = pair_params(tmp_path_factory.mktemp("here") / "artefacts")
    finish_inputs(params)
    stages = [open_stage(name, params) for name in NAMES]
    (stages[-1].path / "checkpoints").mkdir()
    (stages[-1].path / "checkpoints/big").write_text("left behind")
    (stages[-1].path / "pools.npz").write_text("mined again where it is needed")
    return stages


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}


def elsewhere(stage, root):
    """The same stage on another machine."""
    runtime = stage.params.runtime.model_copy(update={"artefacts": str(root)})
    return open_stage(stage.name, stage.params.model_copy(update={"runtime": runtime}))


def test_artefacts_arrive_whole_and_finished(finished, tmp_path):
    index = pack(finished, tmp_path / "parcel", part_mib=0.008)
    sizes = [(tmp_path / "parcel" / part["name"]).stat().st_size for part in index["parts"]]
    assert len(sizes) > 1 and max(sizes) <= 0.008 * 2**20 and files(tmp_path / "parcel") == {INDEX, *(p["name"] for p in index["parts"])}
    state = unpack(tmp_path / "parcel", tmp_path / "there")
    assert set(state.values()) == {"new"}
    for stage in finished:
        there = elsewhere(stage, tmp_path / "there")
        assert there.key == stage.key and there.finished
        assert there.artefact.manifest | {"files": {}} == stage.artefact.manifest | {"files": {}}
        there.artefact.verify()  # the tables that came, which are written in another way
        here = {name for name in files(stage.path) if not name.startswith("checkpoints/") and not name.endswith((".npz", ".safetensors"))}
        assert files(there.path) == here
        for name in here:
            if name.endswith(".parquet"):
                assert pq.read_table(there.path / name).equals(pq.read_table(stage.path / name), check_metadata=True)
            elif name != MANIFEST:
                assert (there.path / name).read_bytes() == (stage.path / name).read_bytes()


@pytest.mark.parametrize("part", [0, -1, 1e-5, float("nan")])
def test_parts_that_hold_nothing_are_refused(finished, tmp_path, part):
    with pytest.raises(UserError, match=r"--part .*: give the largest part in MiB, at least 0\.000"):
        pack(finished, tmp_path / "parcel", part_mib=part)
    assert not (tmp_path / "parcel").exists()


def test_a_part_may_be_larger_than_memory(finished, tmp_path):
    (part,) = pack(finished[:1], tmp_path / "parcel", part_mib=float("inf"))["parts"]
    assert part["size"] == (tmp_path / "parcel/part-00").stat().st_size
    assert set(unpack(tmp_path / "parcel", tmp_path / "there").values()) == {"new"}


def test_one_stream_is_smaller_than_the_tables(finished, tmp_path):
    """Verses stand in several tables; here the passages stand in corpus, retrieval, clr and weak."""
    data = finished[0]
    size = sum(part["size"] for part in pack([data], tmp_path / "parcel")["parts"])
    assert size < sum(path.stat().st_size for path in data.path.rglob("*.parquet")) / 2


def test_killed_unpacking_leaves_nothing_finished_and_goes_on(finished, tmp_path, monkeypatch):
    pack(finished, tmp_path / "parcel")
    real, written = parcels._put, []

    def dying(made, target):
        written.append(target)
        if len(written) == 3:
            raise KeyboardInterrupt
        real(made, target)

    monkeypatch.setattr(parcels, "_put", dying)
    with pytest.raises(KeyboardInterrupt):
        unpack(tmp_path / "parcel", tmp_path / "there")
    assert not list((tmp_path / "there").rglob(MANIFEST))
    monkeypatch.setattr(parcels, "_put", real)
    unpack(tmp_path / "parcel", tmp_path / "there")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert set(unpack(tmp_path / "parcel", tmp_path / "there").values()) == {"here"}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*") if path.is_file()} == before


def test_weights_follow_on_their_own_in_bf16(finished, tmp_path):
    sft = finished[-1]
    pack([sft], tmp_path / "results")
    index = pack([sft], tmp_path / "weights", part_mib=0.008, what="weights")
    unpack(tmp_path / "results", tmp_path / "there")
    there = elsewhere(sft, tmp_path / "there")
    assert there.finished and files(sft.path / "model") - files(there.path / "model") == {"model.safetensors"}
    unpack(tmp_path / "weights", tmp_path / "there")
    assert files(there.path / "model") == files(sft.path / "model") and len(index["parts"]) > 1
    exact, rounded = load_file(sft.path / "model/model.safetensors"), load_file(there.path / "model/model.safetensors")
    assert exact.keys() == rounded.keys()
    assert all(torch.equal(rounded[name], exact[name].to(torch.bfloat16)) for name in exact)


def test_a_model_that_passed_through_a_stage_travels_once(tmp_path):
    params = pair_params(tmp_path / "here")
    finish_inputs(params)
    stages = pretrain, sft = [open_stage(name, params) for name in ("pretrain", "sft")]
    link(pretrain.path / "model", sft.path / "model")
    alone, both = (pack(some, tmp_path / str(len(some)), what="weights") for some in (stages[:1], stages))
    assert both["files"] == 2 * alone["files"] and both["bytes"] == alone["bytes"]
    unpack(tmp_path / "2", tmp_path / "there")
    first, second = (elsewhere(stage, tmp_path / "there").path / "model/model.safetensors" for stage in stages)
    assert first.samefile(second) and load_file(first).keys() == load_file(pretrain.path / "model/model.safetensors").keys()


def test_what_needs_weights_or_pools_that_were_left_out_says_so_in_one_line(tmp_path):
    """Carried without them the stages count as finished: the mend is named, and it is one."""
    params = pair_params(tmp_path / "here", supervised={"max_steps": 1})
    finish_weak(params)
    mined = compute(open_stage("mine", params))
    for what, wanted in (("inputs", (*NAMES, "weak", "mine")), ("weights", ("pretrain", "sft", "weak"))):
        pack([open_stage(name, params) for name in wanted], tmp_path / what, what=what)
    unpack(tmp_path / "inputs", tmp_path / "there")
    supervised = elsewhere(open_stage("supervised", params), tmp_path / "there")
    mine, weak = supervised.inputs["mine"], supervised.inputs["weak"]
    assert mine.finished and weak.finished
    with pytest.raises(UserError, match=rf"^{mine.path}/pools\.npz: not here, parcels leave it out: delete {mine.path} to mine again$"):
        compute(supervised)
    no_weights = rf"^{weak.path}/model: the weights are not here, .*: unpack the weights parcel .*, or delete {weak.path} to"
    shutil.copy(mined.path / "pools.npz", mine.path)
    for action in (lambda: compute(supervised), lambda: load_sentence_transformer(weak.path / "model", 32, "cpu")):
        with pytest.raises(UserError, match=no_weights):
            action()
    shutil.rmtree(mine.path)
    with pytest.raises(UserError, match=no_weights):
        compute(mine)
    unpack(tmp_path / "weights", tmp_path / "there")
    compute(mine)
    assert load_sentence_transformer(weak.path / "model", 32, "cpu") and compute(supervised).finished


def test_results_travel_without_text_and_who_needs_the_text_is_told(finished, tmp_path):
    pack(finished, tmp_path / "parcel", what="results")
    unpack(tmp_path / "parcel", tmp_path / "there")
    for stage in finished:
        there, left = (
            elsewhere(stage, tmp_path / "there"),
            {name for name in files(stage.path) if name.endswith((".safetensors", "pools.npz", "tokenizer.json", ".npy"))},
        )
        text = {name for name in files(stage.path) if name.endswith(".parquet")} if stage.name in TEXTS else set()
        assert there.finished and there.results == stage.results
        assert files(there.path) == {name for name in files(stage.path) - left - text if not name.startswith("checkpoints")}
    sets = elsewhere(finished[0], tmp_path / "there")
    with pytest.raises(UserError, match=rf"^{sets.path}/.*\.parquet: missing: "):
        sets.artefact.verify()
    elsewhere(finished[1], tmp_path / "there").artefact.verify()
    again = pack([elsewhere(stage, tmp_path / "there") for stage in finished], tmp_path / "again", what="results")
    assert again["artefacts"] == [f"{stage.name}/{stage.key}" for stage in finished], "what came without text can be packed again"
    with pytest.raises(UserError, match=rf"^{sets.path}/.*\.parquet: missing: "):
        pack([sets], tmp_path / "inputs")
    unpack(tmp_path / "parcel", finished[0].path.parents[1])
    assert finished[0].artefact.verify() is None, "where the text is, results take nothing away"


def test_a_damaged_parcel_is_refused(finished, tmp_path):
    folder = tmp_path / "parcel"
    pack(finished, folder, part_mib=0.008)
    part = folder / "part-01"
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"part-01: damaged"):
        unpack(folder, tmp_path / "there")
    part.unlink()
    with pytest.raises(UserError, match=r"part-01: missing: \d+ parts belong to this parcel"):
        unpack(folder, tmp_path / "there")
    for damaged in ("{", "[]", '{"artefacts": []}', '{"artefacts": [], "parts": [{}]}'):
        (folder / INDEX).write_text(damaged)
        with pytest.raises(UserError, match=r"index\.json: damaged, or none that pack wrote: carry it again"):
            unpack(folder, tmp_path / "there")
    (folder / INDEX).unlink()
    with pytest.raises(UserError, match=r"no index.json"):
        unpack(folder, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def with_file(name, content):
    """Writes an archive that holds one file instead of those that it is given."""

    def write(files, path, weights):
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return 0

    return write


@pytest.mark.parametrize("name", ["teacher/0123456789abcdef/loot", "sets/{key}/../../../loot"])
def test_a_file_of_no_named_artefact_or_outside_the_folder_is_refused(finished, tmp_path, monkeypatch, name):
    data, forged = finished[0], name.format(key=finished[0].key)
    monkeypatch.setattr(parcels, "_write_archive", with_file(forged, b"loot"))
    pack([data], tmp_path / "parcel")
    with pytest.raises(UserError, match=rf"{re.escape(forged)} is of no artefact that index\.json names: pack again"):
        unpack(tmp_path / "parcel", tmp_path / "there/artefacts")
    assert not list(tmp_path.rglob("loot")) and not elsewhere(data, tmp_path / "there/artefacts").finished


def a_link(files, path, weights):
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(f"teacher/{'0' * 16}/link")
        member.type, member.linkname = tarfile.SYMTYPE, "manifest.json"
        archive.addfile(member)
    return 0


def a_bomb(files, path, weights):
    """Zeros that xz makes a seven-thousandth of."""
    with lzma.open(path, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        member = tarfile.TarInfo(f"teacher/{'0' * 16}/zeros")
        member.size = 2**26
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    return 0


@pytest.mark.parametrize("write, said", [(a_link, "link is no plain file"), (a_bomb, "zeros makes more than .* bytes, 200 times")])
def test_links_and_bombs_are_refused_before_they_are_written(finished, tmp_path, monkeypatch, write, said):
    monkeypatch.setattr(parcels, "_write_archive", write)
    pack(finished[:1], tmp_path / "parcel")
    with pytest.raises(UserError, match=f"teacher/0+/{said}.*: no parcel that pack wrote"):
        unpack(tmp_path / "parcel", tmp_path / "there")
    assert files(tmp_path / "there") == set()


def test_a_parcel_packed_again_holds_the_new_parts_alone(finished, tmp_path):
    folder = tmp_path / "parcel"
    many = pack(finished, folder, part_mib=0.008)
    few = pack(finished[1:2], folder)
    assert len(many["parts"]) > len(few["parts"]) == 1 and files(folder) == {INDEX, "part-00"}
    assert set(unpack(folder, tmp_path / "there")) == {f"tokenizer/{finished[1].key}"}


def test_packing_again_that_was_interrupted_leaves_the_parcel_before_it(finished, tmp_path, monkeypatch):
    folder = tmp_path / "parcel"
    pack(finished, folder, part_mib=0.008)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    split = parcels._split

    def dying(archive, size):
        split(archive, size)
        raise KeyboardInterrupt

    monkeypatch.setattr(parcels, "_split", dying)
    with pytest.raises(KeyboardInterrupt):
        pack(finished, folder, part_mib=0.004)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / parcels.PACKING).mkdir()
    (folder / parcels.PACKING / "part-00").write_text("of a process that was killed")
    monkeypatch.undo()
    pack(finished[1:2], folder)
    assert files(folder) == {INDEX, "part-00"} and set(unpack(folder, tmp_path / "there").values()) == {"new"}


def test_parts_without_an_index_are_told_from_a_parcel(finished, tmp_path, monkeypatch):
    """Killed while new parts take the place of old ones: the old index must not vouch for them."""
    pack(finished, tmp_path / "parcel", part_mib=0.008)
    monkeypatch.setattr(parcels, "write_json", lambda *_: None)
    pack(finished, tmp_path / "parcel", part_mib=0.008)
    with pytest.raises(UserError, match=r"no index\.json: this is no parcel, or packing it was interrupted; pack again"):
        unpack(tmp_path / "parcel", tmp_path / "there")


@pytest.mark.parametrize("name, content, said", [("part-thesis.tex", "mine", "holds part-thesis.tex, which is of no parcel"),
                                                 ("index.json", '{"mine": 1}', "damaged, or none that pack wrote")])  # fmt: skip
def test_a_folder_with_files_of_others_is_left_alone(finished, tmp_path, name, content, said):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=said):
        pack(finished, folder)
    assert files(folder) == {name} and (folder / name).read_text() == content


CHANGES = {
    "a part less": lambda index: index | {"parts": index["parts"][:-1]},
    "parts in another order": lambda index: index | {"parts": index["parts"][::-1]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_index_that_was_changed_is_told_in_one_line(finished, tmp_path, change):
    pack(finished, tmp_path / "parcel", part_mib=0.008)
    index = tmp_path / "parcel" / INDEX
    index.write_text(json.dumps(change(json.loads(index.read_text()))))
    with pytest.raises(UserError, match="its parts are no whole parcel"):
        unpack(tmp_path / "parcel", tmp_path / "there")


def test_a_part_elsewhere_is_refused(finished, tmp_path):
    pack(finished, tmp_path / "parcel")
    index = tmp_path / "parcel" / INDEX
    index.write_text(index.read_text().replace("part-00", "../parcel/part-00"))
    with pytest.raises(UserError, match=r"index\.json: damaged, or none that pack wrote"):
        unpack(tmp_path / "parcel", tmp_path / "there")


def test_a_manifest_under_another_key_is_refused(finished, tmp_path, monkeypatch):
    manifest = {"stage": "teacher", **json.loads((finished[2].path / MANIFEST).read_text()), "version": 99}
    monkeypatch.setattr(parcels, "_write_archive", with_file(f"teacher/{finished[2].key}/{MANIFEST}", json.dumps(manifest).encode()))
    pack(finished, tmp_path / "parcel")
    with pytest.raises(UserError, match=r"teacher/[0-9a-f]{16}: its manifest has another key"):
        unpack(tmp_path / "parcel", tmp_path / "there")
    assert not elsewhere(finished[2], tmp_path / "there").finished


def test_what_has_not_finished_is_not_packed(finished, tmp_path):
    weak = open_stage("weak", finished[0].params)
    with pytest.raises(UserError, match=rf"pack: weak/{weak.key} not finished: there is nothing to carry yet"):
        pack([*finished, weak], tmp_path / "parcel")
    with pytest.raises(UserError, match="pack: nothing has finished"):
        pack([], tmp_path / "parcel")
    with pytest.raises(UserError, match=r"pack: tokenizer/[0-9a-f]{16}: no weights there: leave out --weights"):
        pack([finished[1]], tmp_path / "parcel", what="weights")
    assert not (tmp_path / "parcel").exists()
