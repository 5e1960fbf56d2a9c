"""Recipes: those that ship can be built, and wrong ones are refused."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from corec.errors import RecipeError
from corec.training.loop import build
from corec.training.recipe import RECIPES, read_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_build(path: Path) -> None:
    recipe = read_recipe(path.stem)
    assert recipe == read_recipe(path)
    method = build(recipe)
    assert sum(p.numel() for p in method.parameters()) < 4e6  # a byte each, as int8: at most 4 MB a model
    assert not recipe.start_from or (RECIPES / f"{recipe.start_from}.toml").exists()
    told = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
    assert re.search(rf"(?<![\w-]){path.stem}(?![\w-])", told)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metod = 'joint'", "unknown key 'metod'"),
        ("method = 'joint'", "missing settings, steps$"),
        ("method = 'joint'\nsteps = '9'\nsettings = {}", "steps must be int, not '9'"),
        ("method = 'joint'\nsteps = true\nsettings = {}", "steps must be int, not True"),
        ("method = 'joint'\nsteps = 0\nsettings = {}", "at least 1"),
        ("method = 'joint'\nsteps = 9\ncrop = 16\nsettings = {}", r"lie in 32\.\.1024, not 16"),
        ("method = 'joint'\nsteps = 9\ncrop = 1056\nsettings = {}", r"lie in 32\.\.1024, not 1056"),
        ("method = 'joint'\nsteps = 9\ncrop = 48\nsettings = {}", "multiple of 32 for the method joint"),
        ("method = 'jiang2017'\nsteps = 9\ncrop = 40\nsettings = {}", "multiple of 16 for the method jiang2017"),
        ("method = 'none'\nsteps = 9\nsettings = {}", "no method 'none'"),
        ("method = 'layers'\nsteps = 9\nsettings = {}", "no method 'layers'"),
        ("method = '../x'\nsteps = 9\nsettings = {}", "no method"),
        ("method = 'joint'\nsteps = 9\nsettings = {}\nenlarged = 1.5", "enlarged must be a share, 0 to 1, not 1.5"),
        ("method = 'joint'\nsteps = 9\nsettings = {}\nseed = -1", "warm_up and seed must be"),
        ("method = 'joint'\nsteps = 9\nsettings = {}\nwarm_up = -3", "warm_up and seed must be"),
        ("method = 'joint'\nsteps = 9\nsettings = {}\naverage = 3.0", "average one from 0 on and below 1"),
        ("method = 'joint'\nsteps = 9\nsettings = {}\nlearning_rate = nan", "learning_rate must be a number"),
        ("method = 'joint'\nsteps = 9\nsettings = {colour = true}", "unknown key 'colour'"),
        ("method = 'joint'\nsteps = 9\nsettings = {widths = [1, 2]}", "widths must be"),
        ("method = 'joint'\nsteps = 9\nsettings = {steps = [8, 'x']}", "steps must be"),
        ("method = 'joint'\nsteps = 9\nsettings = {steps = [80, 8]}", "steps must be two numbers above 0"),
        ("method = 'restore'\nsteps = 9\nsettings = {steps = [0, 8]}", "steps must be two numbers above 0"),
        ("method = 'joint'\nsteps = 9\nsettings = {widths = [0, 8, 8]}", "must be at least 1"),
        ("method = 'joint'\nsteps = 9\nsettings = {compact_blocks = -1}", "must be at least 1"),
        ("method = 'joint'\nsteps = 9\nsettings = {rate_weight = inf}", "rate_weight must be at least 0, not infinite"),
        (
            "method = 'joint'\nsteps = 9\nsettings = {likeness_weight = -1.0}",
            "likeness_weight must be at least 0, not -1",
        ),
        ("method = 'joint'\nsteps = 9\nsettings = {codec = 'bpg', also = ['bpg']}", "each further codec once"),
        ("method = 'joint'\nsteps = 9\nsettings = {real = 1.5}", "real must be a share"),
        ("method = 'restore'\nsteps = 9\nsettings = {widths = [0, 8, 8]}", "widths must be at least 1, not 0"),
        ("method = 'jiang2017'\nsteps = 9\nsettings = {rounds = 0}", "rounds must be at least 1"),
        ("method = 'jiang2017'\nsteps = 9\nsettings = {half = false, codec = 'webp'}", "plain files of JPEG"),
        ("method = 'zhao2017'\nsteps = 9\nsettings = {rounds = 0}", "rounds must be at least 1"),
        ("method = 'zhao2017'\nsteps = 9\nsettings = {virtual_share = 0.9}", "more than the whole of a round"),
        ("method = 'balle2017'\nsteps = 9\nsettings = {filters = -1}", "filters must be at least 0"),
        ("method = 'balle2017'\nsteps = 9\nsettings = {levels = 1}", "levels must be at least 2"),
        ("method = 'balle2017'\nsteps = 9\nsettings = {levels = 65}", "levels must be at most 64"),
        ("method = 'balle2017'\nsteps = 9\nsettings = {context_width = 8}", "and settled is 0"),
        ("method = 'balle2017'\nsteps = 9\nsettings = {lambdas = [0.1, 0.1]}", "the second one much larger"),
        ("method = 'context'\nsteps = 9\nsettings = {lambdas = [0, 0.1]}", "two numbers above 0"),
        ("method = 'context'\nsteps = 9\nsettings = {scales = 1}", "scales must be at least 2"),
        ("method = ", "not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_reason(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        build(read_recipe(path))


def test_an_unknown_recipe_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="joint-jpeg-half-gray"):
        read_recipe("joint-jpeg")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path)


def test_a_folder_of_its_name_does_not_hide_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("restore-gray").mkdir()
    assert read_recipe("restore-gray").name == "restore-gray"
    with pytest.raises(RecipeError, match="no recipe"):
        read_recipe("elsewhere/restore-gray")
