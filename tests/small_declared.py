"""Records of an own file, and the rows that a declared set makes of them."""

import json

from conan_lib.data.clean import Funnel
from conan_lib.data.declared import read
from conan_lib.params.sets import DeclaredSet


def lines(path, *records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def read_all(path, funnel=None, **given):
    declared = DeclaredSet.model_validate({"from": str(path), "task": "retrieval", "lang": "en", **given})
    return list(read(declared, ("en", "de", "ja"), funnel or Funnel()))
