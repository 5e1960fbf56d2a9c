"""One thread everywhere: results that do not depend on the machine, and no fight for its cores."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch and ONNX Runtime read it when they start
