"""What `import corec` gives, what it costs, and which way imports point."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import corec
from corec import errors

PACKAGE = Path(corec.__file__).parent
LEVELS = [
    {"errors"},
    {"models", "samples", "picture", "color", "files", "quiet", "signals", "corec"},
    {"codecs", "envelope", "forecast", "runtime", "tiles", "rate"},
    {"wrap"},
    {"view"},
    {"suit"},
    {"choice"},
    {"pipeline", "learned"},
    {"demo", "batch", "listing"},
    {"cli"},
    {"__main__"},
]
"""Design: a module may import, when it is loaded, what stands before it or on its own level."""
TORCH_SIDE = {"methods", "training", "evaluation"}
LIGHT = "corec", "corec.errors"


def test_names_are_those_listed() -> None:
    assert corec.__all__ == sorted(corec.__all__)
    assert set(corec.__all__) <= set(dir(corec))
    for name in corec.__all__:
        assert getattr(corec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = corec.nonsense


def test_every_error_is_public() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert kinds <= set(corec.__all__)
    assert all(issubclass(getattr(corec, name), corec.CorecError) for name in kinds)


def test_type_checkers_see_every_lazy_name() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    guarded = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]
    seen = {alias.asname or alias.name for node in guarded if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(corec._LAZY)


def loaded_by(statement: str) -> set[str]:
    """The modules from outside the standard library that a statement loads in a fresh interpreter."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names}


def test_importing_corec_loads_nothing_else() -> None:
    assert loaded_by("import corec") == set(LIGHT)


def test_the_check_of_lightness_can_fail() -> None:
    assert "numpy" in loaded_by("import corec, numpy")
    assert "corec.pipeline" in loaded_by("import corec; corec.compress")


def test_using_corec_loads_no_torch() -> None:
    modules = loaded_by("import corec.cli")
    assert "corec.pipeline" in modules
    heavy = {"torch", "onnx", "skimage", "scipy", "onnxruntime", *(f"corec.{name}" for name in TORCH_SIDE)}
    assert not heavy & modules


def imports_at_load(source: str, modules: set[str]) -> set[str]:
    """The modules of corec that a file imports when it is loaded: not within functions, not for types alone."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute"
                inner = {f"{child.module}.{alias.name}" for alias in child.names}
                found.update(inner & modules or {child.module or ""})
            walk(child)

    walk(ast.parse(source))
    return {name for name in found if name.split(".")[0] == "corec"}


def part_of(module: str) -> str:
    """The part of the design that a module belongs to: corec.codecs.jpeg is of codecs."""
    return module.split(".")[1] if "." in module else module


def violations(sources: dict[str, str]) -> list[str]:
    """The imports that point the wrong way, among modules given by name and source."""
    height = {part: level for level, parts in enumerate(LEVELS) for part in parts}
    wrong = []
    for module, source in sources.items():
        part = part_of(module)
        for imported in imports_at_load(source, set(sources)):
            other = part_of(imported)
            if part in TORCH_SIDE:
                fine = other in TORCH_SIDE or height[other] < height["demo"]
            else:
                fine = other not in TORCH_SIDE and height[other] <= height[part]
            if not fine:
                wrong.append(f"{module} imports {imported}")
    return wrong


def test_imports_point_one_way() -> None:
    sources = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(["corec", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        sources[name] = path.read_text()
    assert {"corec", "corec.cli", "corec.pipeline", "corec.training.loop"} <= set(sources)
    assert violations(sources) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("corec.rate", "from corec.pipeline import compress"),
        ("corec.rate", "from corec import pipeline"),
        ("corec.errors", "import corec.color"),
        ("corec.pipeline", "try:\n    import rapid\nexcept ImportError:\n    import corec.methods.joint"),
        ("corec.training.loop", "from corec import cli"),
    ],
)
def test_the_check_of_directions_can_fail(module: str, source: str) -> None:
    others = dict.fromkeys(["corec", "corec.pipeline", "corec.color", "corec.methods.joint", "corec.cli"], "")
    assert len(violations(others | {module: source})) == 1


def test_an_import_within_a_function_is_none_at_load() -> None:
    assert violations({"corec.cli": "def train():\n    from corec.training import loop", "corec.training": ""}) == []
