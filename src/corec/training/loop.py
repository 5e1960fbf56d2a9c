"""The training loop, the same for all methods: bounded, resumable to the step, one process or many."""

import importlib
import importlib.util
import json
import math
import os
import platform
import subprocess
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Adam, Optimizer

from corec.errors import RecipeError
from corec.signals import asked_to_stop
from corec.training import muon
from corec.training.checkpoint import load, refuse_other, save, take_over
from corec.training.data import Photographs
from corec.training.recipe import Recipe, fill

CHECKPOINT_SECONDS = 120
LOG_STEPS = 50
VALIDATION_PICTURES = 32
FIRST_LOOK = 256
"""Crops from which a method may compute where it starts."""
AHEAD = 8
"""Batches that are made while a step is being computed: on a GPU it may take less time than making one."""

Report = Callable[[int, dict[str, float]], Any]


def build(recipe: Recipe) -> Any:
    """The method that a recipe names, with its settings: a module with begin, rate and draw_steps.

    Raises RecipeError.
    """
    name = f"corec.methods.{recipe.method}"
    known = recipe.method.isidentifier() and importlib.util.find_spec(name) is not None
    module: Any = importlib.import_module(name) if known else None
    if not hasattr(module, "Method"):
        raise RecipeError(f"no method {recipe.method!r}")
    if recipe.crop % module.GRID:
        raise RecipeError(f"crop must be a multiple of {module.GRID} for the method {recipe.method}, not {recipe.crop}")
    settings = fill(module.Settings, recipe.settings, "settings")
    finest, coarsest = getattr(settings, "steps", (1.0, 2.0))
    if not 0 < finest < coarsest < math.inf:
        raise RecipeError(f"steps must be two numbers above 0, the smaller one first, not {finest:g} and {coarsest:g}")
    return module.Method(settings)


def optimizers_for(method: nn.Module, recipe: Recipe) -> list[Optimizer]:
    """Those that a recipe asks for; each has weights of its own."""
    matrices = [weight for weight in method.parameters() if muon.fits(weight)]
    if recipe.optimizer == "adam" or not matrices:
        return [Adam(method.parameters(), lr=recipe.learning_rate)]
    others = [weight for weight in method.parameters() if not muon.fits(weight)]
    return [Adam(others, lr=recipe.learning_rate), muon.Muon(matrices, recipe.learning_rate, recipe.convolutions)]


def train(
    recipe: Recipe,
    data: Path,
    run: Path,
    minutes: float = math.inf,
    report: Report = lambda step, facts: None,
) -> int:
    """Train until the recipe's last step or for some minutes (one step at least); returns the steps done in all.

    The run folder holds checkpoint.pt (everything needed to go on to the very step) and log.jsonl. An existing
    checkpoint is continued. Ctrl-C, or SIGTERM, ends a run behind its step, with a checkpoint. With each checkpoint,
    what the averaged weights give on held-out pictures is logged. Under torchrun each process takes its share of the
    batch. Raises RecipeError for folders and checkpoints that cannot be used.
    """
    with processes() as (rank, world, device), ExitStack() as stack:
        if recipe.batch % world:
            raise RecipeError(f"a batch of {recipe.batch} cannot be shared equally by {world} processes")
        torch.manual_seed(recipe.seed)
        method = build(recipe).to(device, memory_format=torch.channels_last)
        optimizers = optimizers_for(method, recipe)
        photographs = Photographs(data, recipe.settings.get("color", False))
        average, step, before = begin(recipe, run, method, optimizers, photographs, device)
        held_out = photographs.validation_batch(recipe.crop, VALIDATION_PICTURES) if rank == 0 else None
        if rank == 0:
            prepare(run, step)
        origin = {**photographs.origin, "hardware": hardware(device, world), "commit": commit()}
        began = saved = time.monotonic()
        stop, asked = step >= recipe.steps, stack.enter_context(asked_to_stop())
        coming = stack.enter_context(closing(batches(photographs, recipe, step, device.type == "cuda")))
        while not stop:
            method.begin(step / recipe.steps)
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = learning_rate(recipe, step) * method.rate * group.get("share", 1.0)
            generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
            draws = method.draw_steps(recipe.batch, generator)
            # What a method draws by itself, noise for instance, depends on the step alone too.
            torch.manual_seed(int(torch.randint(1 << 62, (), generator=generator)) + rank)
            batch = next(coming)[rank::world].to(device, memory_format=torch.channels_last, non_blocking=True)
            loss, facts = forward(method, batch, draws[rank::world].to(device))
            method.zero_grad()
            loss.backward()
            share_gradients(method, world)
            nn.utils.clip_grad_norm_(method.parameters(), 0.1)
            with bf16(device):  # Muon's products
                for optimizer in optimizers:
                    optimizer.step()
            step += 1
            follow(average, method.state_dict(), min(recipe.average, step / (step + 10)))
            now = time.monotonic()
            stop = agreed(step >= recipe.steps or now - began >= 60 * minutes or bool(asked), world, device)
            due = stop or now - saved >= CHECKPOINT_SECONDS
            if rank != 0 or not (due or step % LOG_STEPS == 0):
                continue
            if not (torch.isfinite(loss.detach()) and all(weight.isfinite().all() for weight in average.values())):
                raise RecipeError(
                    f"the loss or a weight is not finite at step {step}: lower the recipe's learning_rate"
                )
            seconds = before + now - began
            if step % LOG_STEPS == 0 or step == recipe.steps:
                log(run, step, seconds, {"loss": loss.detach(), **facts}, report)
            if due:
                save(run / "checkpoint.pt", recipe, method, optimizers, average, step, seconds, origin)
                if held_out is not None:
                    log(run, step, seconds, validate(method, average, held_out, device), report)
                saved = time.monotonic()
        if asked and step < recipe.steps:
            raise KeyboardInterrupt
    return step


def batches(photographs: Photographs, recipe: Recipe, first: int, pin: bool) -> Generator[Tensor, None, None]:
    """The batches of the steps from `first` on, made ahead of their use; pinned, they get to a GPU by themselves."""

    def make(step: int) -> Tensor:
        batch = photographs.batch(step, recipe.batch, recipe.crop, recipe.seed, recipe.enlarged)
        return batch.pin_memory() if pin else batch

    with ThreadPoolExecutor(AHEAD) as pool:
        waiting: deque[Future[Tensor]] = deque()
        for step in range(first, recipe.steps + AHEAD):
            if step < recipe.steps:
                waiting.append(pool.submit(make, step))
            if step >= first + AHEAD:
                yield waiting.popleft().result()


@contextmanager
def processes() -> Iterator[tuple[int, int, torch.device]]:
    """This process' rank, the number of processes, and this process' device; as torchrun has it, if it does.

    Meanwhile the tiniest numbers are zero. Running means of gradients that have become zero fade to such numbers, and
    with them a step on the CPU takes twice as long.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True  # crops are all of one size
    if world > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.set_flush_denormal(True)
    try:
        yield rank, world, device
        if world > 1:
            distributed.barrier()  # one that leaves early takes the others' connections with it
    finally:
        torch.set_flush_denormal(False)
        if world > 1:
            distributed.destroy_process_group()


def begin(
    recipe: Recipe,
    run: Path,
    method: Any,
    optimizers: list[Optimizer],
    photographs: Photographs,
    device: torch.device,
) -> tuple[dict[str, Tensor], int, float]:
    """Put a run's last or first state into method and optimizers; averaged weights, steps and seconds so far."""
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state = load(checkpoint, device)
        refuse_other(recipe, fill(Recipe, state["recipe"], str(checkpoint)), checkpoint)
        was, now = state.get("origin", {}), photographs.origin
        if was.get("data", now["data"]) != now["data"]:
            raise RecipeError(f"{checkpoint} has seen {was['data']}, not {now['data']}: use another run folder")
        if was.get("names", now["names"]) != now["names"]:
            raise RecipeError(
                f"{checkpoint} has seen files of other names, and others were held out: use another run folder"
            )
        try:
            method.load_state_dict(state["method"])
            for optimizer, own in zip(optimizers, state["optimizer"], strict=True):
                optimizer.load_state_dict(own)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecipeError(f"{checkpoint} does not fit the networks of this version: {error}") from error
        return state["average"], state["step"], state["seconds"]
    if hasattr(method, "start_with"):
        method.start_with(photographs.batch(0, FIRST_LOOK, recipe.crop, recipe.seed))
    if recipe.start_from:
        other = run.parent / recipe.start_from / "checkpoint.pt"
        if not take_over(method, load(other, device)["average"]):
            raise RecipeError(f"{other} has no weights that fit into the networks of {recipe.name or run.name}")
    return {k: v.detach().clone() for k, v in method.state_dict().items()}, 0, 0.0


def prepare(run: Path, step: int) -> None:
    """Make the run's folder; forget what its log says of steps that no checkpoint kept."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        path = run / "log.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step]
        if kept != lines:
            path.write_text("".join(kept))
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"the run folder {run} cannot be used: {reason}") from error


def forward(
    method: nn.Module, batch: Tensor, draws: Tensor, weights: dict[str, Tensor] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """A method's loss and facts, with its own weights or others; in bf16 where that is faster."""
    with bf16(batch.device):
        return torch.func.functional_call(method, weights or {}, (batch, draws))


def bf16(device: torch.device) -> torch.autocast:
    """Convolutions and products of matrices in bf16 meanwhile, where that is faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or has_bf16())


@cache
def has_bf16() -> bool:
    """Whether this processor multiplies bf16 numbers in hardware (AMX, or AVX-512's own instructions, with which a step
    takes half the time); without, bf16 is several times slower."""
    try:
        return any(flag in Path("/proc/cpuinfo").read_text() for flag in ("amx_bf16", "avx512_bf16"))
    except OSError:
        return False


def hardware(device: torch.device, world: int) -> str:
    """What a run computes on, for the training facts of a model."""
    cuda = device.type == "cuda"
    what = torch.cuda.get_device_name(device) if cuda else f"{torch.get_num_threads()} threads, {platform.machine()}"
    return f"{world} x {what}, PyTorch {torch.__version__}"


def commit() -> str:
    """The commit of the checkout this file lies in, or nothing outside of one."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def share_gradients(method: nn.Module, world: int) -> None:
    """Make every gradient the mean of those of all processes."""
    if world > 1:
        for parameter in method.parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= world


def agreed(stop: bool, world: int, device: torch.device) -> bool:
    """The first process' decision, for all: their clocks differ, and one that went on alone would wait for ever."""
    if world == 1:
        return stop
    decision = torch.tensor(int(stop), device=device)
    distributed.broadcast(decision, 0)
    return bool(decision)


@torch.no_grad()
def follow(average: dict[str, Tensor], weights: dict[str, Tensor], decay: float) -> None:
    """Move the running mean of the weights towards them."""
    for name, value in weights.items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


@torch.no_grad()
def validate(
    method: Any, average: dict[str, Tensor], held_out: Tensor, device: torch.device
) -> dict[str, Tensor | float]:
    """Loss and facts of the averaged weights on held-out pictures, with the same draws every time."""
    draws = method.draw_steps(len(held_out), torch.Generator().manual_seed(0)).to(device)
    batch = held_out.to(device, memory_format=torch.channels_last)
    method.eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss, facts = forward(method, batch, draws, average)
    method.train()
    return {f"validation_{k}": v for k, v in {"loss": loss, **facts}.items()}


def log(run: Path, step: int, seconds: float, facts: dict[str, Any], report: Report) -> None:
    """Report some facts and add them to the run's log."""
    rounded = {k: float(f"{float(v):.5g}") for k, v in facts.items()}
    report(step, rounded)
    path = run / "log.jsonl"
    try:
        with path.open("a") as file:
            file.write(json.dumps({"step": step, "seconds": round(seconds, 1), **rounded}) + "\n")
    except OSError as error:
        raise RecipeError(f"{path} cannot be written: {error.strerror or error}") from error


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to zero at the recipe's last step."""
    warm = min(1.0, (step + 1) / max(1, recipe.warm_up))
    return recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
