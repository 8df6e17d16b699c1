"""No file that is read can run code, leave its folder, fill the disk, or be more than text on a page."""

import ast
import json
import pickle
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from conan_lib.errors import UserError
from conan_lib.findings.tables import Table, to_html
from conan_lib.model.start import load_start
from conan_lib.params.model import ModelParams
from conan_lib.report.render import markdown, prose
from conan_lib.run.use.models import load_model
from conan_lib.topics.mixing.page import panels
from tests.tiny_starts import save_start

ROOT = Path(__file__).parents[2]
SCRIPT = "</title></svg><script>alert(1)</script><img src=x onerror=alert(1)>"
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
NEEDED = {"torch.load": "weights_only", "archive.extractall": "filter"}
NEVER = {"joblib.load", "pd.read_pickle", "os.system", "yaml.full_load", "yaml.unsafe_load", "eval", "exec"}
SWITCHES = {"trust_remote_code": "False", "allow_pickle": "False", "shell": "False", "weights_only": "True"}
"""The one value that each may have."""


def sources():
    """(place, module, tree) of all code that the project runs."""
    for path in sorted(path for folder in ("conan_lib", "benchmarks") for path in (ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield str(path.relative_to(ROOT)), name, ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        yield path.name, "", ast.parse("\n".join(line for line in code.splitlines() if not line.lstrip().startswith("%")))


def faults(module: str, tree: ast.AST) -> list[str]:
    """What a piece of code does that may run what a file says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {name}" for name in names if name.partition(".")[0] in FORBIDDEN]
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        found += [f"{name}={given[name]}" for name, value in SWITCHES.items() if given.get(name, value) != value]
        if called in NEVER or NEEDED.get(called, "") not in {*given, ""}:
            found.append(f"calls {called}")
        if called == "yaml.load" and not issubclass(_loader(module, node.args[1]), (yaml.SafeLoader, yaml.CSafeLoader)):
            found.append("calls yaml.load with an unsafe loader")
    return found


def _loader(module: str, argument: ast.expr) -> type:
    return getattr(import_module(module), argument.id)


def test_no_code_of_ours_runs_what_a_file_says():
    found = {place: wrong for place, module, tree in sources() if (wrong := faults(module, tree))}
    assert not found


DANGEROUS = """import pickle
from dill import load
torch.load(path)
torch.load(path, weights_only=False)
np.load(path, allow_pickle=True)
AutoModel.from_pretrained(name, trust_remote_code=True)
AutoModel.from_pretrained(name, trust_remote_code=given)
archive.extractall(to)
joblib.load(path)
yaml.full_load(text)
eval(text)
subprocess.run(text, shell=True)"""


@pytest.mark.parametrize("code", DANGEROUS.splitlines())
def test_such_code_would_be_found(code):
    assert faults("", ast.parse(code))


class Loot:
    """What runs when its pickle is loaded."""

    def __reduce__(self):
        return Path.touch, (Path("loot"),)


def put_code(folder: Path) -> str:
    (folder / "loot.py").write_text("from pathlib import Path\nPath('loot').touch()\nclass Own: pass\n")
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "loot.Own"}]))
    return "cannot load it"


def put_auto_map(folder: Path) -> str:
    (folder / "loot.py").write_text("from pathlib import Path\nPath('loot').touch()\n")
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "loot.Own", "AutoModel": "loot.Own", "AutoModelForCausalLM": "loot.Own"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "loot", "auto_map": own}))
    return "cannot load it"


def put_pickle(folder: Path) -> str:
    torch.save(load_file(folder / "model.safetensors") | {"loot": Loot()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return "cannot load it"


@pytest.mark.parametrize("put", [put_code, put_auto_map, put_pickle])
def test_a_model_folder_runs_nothing(tmp_path, monkeypatch, put):
    """As a model to use, and as one to start from; the folder itself is loaded before it is changed."""
    monkeypatch.chdir(tmp_path)
    save_start("qwen3", tmp_path / "model")
    load_model("model")
    said = put(tmp_path / "model")
    with pytest.raises(UserError, match=said):
        load_model("model")
    (tmp_path / "pyproject.toml").touch()
    if put is not put_code:  # a start has no modules
        with pytest.raises(UserError, match=r"model\.start"):
            load_start(ModelParams(start="./model"))
    assert not (tmp_path / "loot").exists()


def test_the_pickle_would_run_where_pickles_are_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Loot()))
    assert (tmp_path / "loot").exists()


def test_a_script_in_a_text_is_text_on_every_page():
    rows = [{"model": model, "text": SCRIPT, "lang": lang, "group": "g", "x": float(i), "y": float(i)}
            for model in ("with", "without") for i, lang in enumerate(("en", SCRIPT))]  # fmt: skip
    table = to_html(Table("shown", "", pd.DataFrame({"text": [SCRIPT], SCRIPT: [1.0]}), ()))
    pages = {"UMAP": panels(rows, {}), "Markdown": markdown(SCRIPT), "prose": prose(SCRIPT), "table": table}
    for name, page in pages.items():
        assert "<script" not in page and "<img" not in page and "&lt;script" in page, name
