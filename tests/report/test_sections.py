"""A section is its topic's template with the topic's blocks in place: each block once, text as Markdown, values as they are."""

import sys
from types import SimpleNamespace

import pytest

import conan_lib.topics
from conan_lib.findings.blocks import Missing, Text
from conan_lib.findings.topic import Topic
from conan_lib.report.render import markdown
from conan_lib.report.sections import section

RUN = SimpleNamespace(params=SimpleNamespace(tier="small"))


@pytest.fixture
def topic(tmp_path, monkeypatch):
    """A topic in a folder of the test's own."""
    folder = tmp_path / "made_up"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.setattr(conan_lib.topics, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "conan_lib.topics.made_up", raising=False)

    def make(template: str, **shown) -> Topic:
        (folder / "section.md.j2").write_text(template)
        return Topic("made_up", "Made up", "Made up", 1, lambda run: shown, bears_on=("C10", "C9"))

    return make


def test_blocks_stand_where_the_template_names_them(topic):
    one, two, three = (Missing(name, "why") for name in "abc")
    template = "Tier {{ params.tier }}, {{ count }} things.\n\n{{ one }}\n\nThen:\n\n"
    template += "{% for line in lines %}\n- {{ line }}\n{% endfor %}\n\n{{ more }}\n"
    found = section(topic(template, one=one, more=[two, three], count=3, lines=["x", "y"]), RUN)
    assert found.blocks == (Text("Tier small, 3 things."), one, Text("Then:\n\n- x\n- y"), two, three)
    assert found.claims == ("C9", "C10")


@pytest.mark.parametrize("template", ["nothing", "{{ one }} {{ one }}"])
def test_a_block_that_the_template_leaves_out_or_repeats_is_an_error(topic, template):
    with pytest.raises(ValueError, match="name each of them once"):
        section(topic(template, one=Missing("a", "b")), RUN)


def test_a_name_that_show_does_not_return_is_an_error(topic):
    with pytest.raises(Exception, match="'missing' is undefined"):
        section(topic("{{ missing }}"), RUN)


def test_html_in_a_text_is_text():
    assert markdown("a `b` <script>\n\n- c") == "<p>a <code>b</code> &lt;script&gt;</p>\n<ul>\n<li>c</li>\n</ul>\n"
