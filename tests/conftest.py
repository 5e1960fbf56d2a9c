"""One thread everywhere: results that do not depend on the machine, and no fight for its cores."""

import os
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch and ONNX Runtime read it when they start


@pytest.fixture(scope="module")
def usual_arithmetic() -> Iterator[None]:
    """Training as on any processor: a GPU adds gradients up in no fixed order, and some processors compute in bf16."""
    torch = pytest.importorskip("torch")
    from corec.training import loop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(loop, "has_bf16", lambda: False)
        yield
