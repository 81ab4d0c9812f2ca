"""How much channels matter: importance scores, their registry, and the choice of the channels to drop.

- `registry` defines an `Importance` and holds all of them by name. `scores` has the methods.
- `evidence` is the data that the methods read. `observation` collects it in one pass over the calibration data, if a
  method needs data.
- `calibration` has the batches, the losses on them, and labels drawn from the network's softmax. `taps` runs a traced
  model and looks at tensors on their way.
- `fisher` estimates what is lost if channels are dropped, for images, consumers and blocks. `streams` does it for pairs
  of a writer and a reader, which `stream_accesses` finds.
- `norms` computes the norms of weight slices, and `scales` the BatchNorm scales.
- `criteria.Criterion` is a method with its amounts. `ranking` makes masks by a criterion.

The public function is `upscale_opt.importance_masks` (in `masking`). It uses all of these.
"""

from upscale_opt.importance import scores  # its import registers the importances
from upscale_opt.importance.norms import LARGEST, column_norms, num_inputs
from upscale_opt.importance.registry import IMPORTANCES, Importance, register_importance

__all__ = [
    "IMPORTANCES",
    "LARGEST",
    "Importance",
    "column_norms",
    "num_inputs",
    "register_importance",
    "scores",
]
