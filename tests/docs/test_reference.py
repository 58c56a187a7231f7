"""The public API says everything of itself: shapes, units, errors, and an example that runs."""

import ast
import inspect
import re
import textwrap
from functools import cache
from pathlib import Path

import doc_pages as pages
import pytest

import flain

ROOT = pages.ROOT
NAMES = [name for name in flain.__all__ if not name.startswith("_")]
# Errors have no arguments of their own, and one example for each would say the same.
ERRORS = {name for name in NAMES if name.endswith(("Error", "Warning"))}
# What others implement; `docs/writing-a-backend.md` has an implementation that runs.
PROTOCOLS = {"Network", "Cut"}
# A shape, such as (n, in), or words that say that there is none.
SHAPE = re.compile(
    r"``\([\w ,./*]+,?[\w ,./*…]*\)|[Aa]ny shape|same shape|[Ll]ike ``|shape and type of"
)


@cache
def members(name):
    """The public functions and properties of a class that it defines itself, by name."""
    found = {}
    for member, value in vars(getattr(flain, name)).items():
        plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        plain = plain.fget if isinstance(plain, property) else plain
        if not member.startswith("_") and inspect.isfunction(plain):
            found[member] = plain, isinstance(value, property)
    return found


FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(flain, name))]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(flain, name)) and name not in ERRORS]
MEMBERS = [(name, member) for name in CLASSES for member in members(name)]
EVERY = [(name, "") for name in FUNCTIONS] + MEMBERS


def function(name, member):
    thing = members(name)[member][0] if member else inspect.unwrap(getattr(flain, name))
    return thing, inspect.getdoc(thing) or ""


def section(text, heading):
    """The entries of a section of a docstring, by name."""
    found = re.search(rf"^{heading}:\n((?: +.*\n|\n)+)", text + "\n", re.MULTILINE)
    body = textwrap.dedent(found[1]) if found else ""
    entries = re.findall(r"^(\w+): ((?:.*\n?)(?:^[ \n].*\n?)*)", body, re.MULTILINE)
    return {name: " ".join(told.split()) for name, told in entries}


def raised(thing):
    """The types of flain's errors that the body of a function raises by itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    names = {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    }
    return names & {*NAMES}


def is_array(annotation):
    return str(annotation) in {"Array", "Array | None"}


@pytest.mark.parametrize(("name", "member"), EVERY)
def test_a_function_says_in_one_line_what_it_does(name, member):
    _, text = function(name, member)
    first = text.partition("\n")[0]
    assert first.endswith((".", ":", "``", "`.")), first
    assert len(first) > 15


@pytest.mark.parametrize(("name", "member"), EVERY)
def test_a_function_tells_of_each_argument(name, member):
    thing, text = function(name, member)
    parameters = [
        each for each in inspect.signature(thing).parameters if each not in {"self", "cls"}
    ]
    told = section(text, "Args")
    # A short function may name its arguments in its sentences.
    silent = [each for each in parameters if each not in told and f"``{each}``" not in text]
    assert silent == []


@pytest.mark.parametrize(("name", "member"), EVERY)
def test_a_function_tells_the_shape_of_each_array(name, member):
    thing, text = function(name, member)
    signature = inspect.signature(thing)
    told = section(text, "Args")
    for each, parameter in signature.parameters.items():
        if is_array(parameter.annotation):
            assert SHAPE.search(told.get(each, "")) or re.search(r"boolean|like", told[each]), each
    if is_array(signature.return_annotation):
        assert SHAPE.search(text), "what it returns"


@pytest.mark.parametrize(("name", "member"), EVERY)
def test_a_function_tells_what_it_raises(name, member):
    thing, text = function(name, member)
    told = section(text, "Raises")
    missing = {each for each in raised(thing) if each not in told and f"{each}`" not in text}
    assert missing == set()


@pytest.mark.parametrize("name", [each for each in CLASSES if each not in PROTOCOLS])
def test_a_class_tells_of_each_attribute(name):
    thing = getattr(flain, name)
    text = inspect.getdoc(thing)
    fields = getattr(thing, "__dataclass_fields__", {})
    told = section(text, "Attributes")
    silent = [each for each in fields if each not in told and f"``{each}``" not in text]
    assert silent == []
    for each, field in fields.items():
        if is_array(field.type):
            assert SHAPE.search(told[each]), each


@pytest.mark.parametrize("name", [*FUNCTIONS, *(each for each in CLASSES if each not in PROTOCOLS)])
def test_a_name_has_an_example_that_runs(name):
    thing = inspect.unwrap(getattr(flain, name))
    own = inspect.getdoc(thing) or ""
    of_members = members(name).values() if name in CLASSES else ()
    texts = [own, *(inspect.getdoc(each) or "" for each, _ in of_members)]
    assert any(">>> " in text for text in texts), "doctest runs the examples of docstrings"


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_an_error_says_when_it_comes(name):
    assert len(inspect.getdoc(getattr(flain, name))) > 30


def test_the_paper_or_the_published_code_is_named_where_a_formula_is():
    for name in ("flip", "match_norm", "low_activation"):
        module = inspect.getmodule(inspect.unwrap(getattr(flain, name)))
        text = f"{inspect.getdoc(getattr(flain, name))} {module.__doc__}"
        assert re.search(r"paper|published code|doi ", text), name


def listed(page):
    return set(re.findall(r"^::: (\S+)", (ROOT / "docs" / page).read_text(), re.MULTILINE))


def test_every_public_name_is_in_the_reference():
    in_reference = {each.rpartition(".")[2] for each in listed("api.md")}
    assert in_reference >= set(NAMES)


@pytest.mark.parametrize(
    ("page", "folder"), [("api-backends.md", "backends"), ("api-stacks.md", "adapters")]
)
def test_every_name_of_a_package_is_in_the_reference(page, folder):
    for package in listed(page):
        assert (ROOT / folder / package.partition(".")[0]).is_dir()
    for init in (ROOT / folder).glob("*/__init__.py"):
        package = init.parent.name
        if package in {
            "flain_cli",
            "flain_report",
        }:  # a command; and what results call by themselves
            continue
        (exported,) = re.findall(
            r"^__all__ = (\[.*?\])", init.read_text(), re.MULTILINE | re.DOTALL
        )
        for name in ast.literal_eval(exported):
            assert {f"{package}.{name}", f"{package}.{name}.{name}"} & listed(page), name


def test_public_modules_are_in_the_reference():
    text = (ROOT / "tests/core/test_public_surface.py").read_text(encoding="utf-8")
    (public,) = re.findall(r"^PUBLIC_MODULES = (\{.*?\})", text, re.MULTILINE | re.DOTALL)
    pages_of = listed("api-engines.md") | listed("writing-a-backend.md") | {"flain_core.errors"}
    assert ast.literal_eval(public) <= pages_of


@pytest.mark.slow
def test_the_reference_shows_members_and_examples_as_code(site):
    html = (Path(site) / "api" / "index.html").read_text(encoding="utf-8")
    for name in NAMES:
        identifier = f"flain_core.{name}"
        assert f'id="{identifier}"' in html, name
        for member in members(name) if name in CLASSES else ():
            assert f'id="{identifier}.{member}"' in html, (name, member)
    text = re.sub(r"<pre.*?</pre>|<details.*?</details>", "", html, flags=re.DOTALL)
    assert ":class:" not in text
    assert ":func:" not in text
    assert "<blockquote>" not in html
