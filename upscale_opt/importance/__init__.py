"""How much channels matter: scores by many methods, the registry that names them, and who is dropped by a score.

`norms` are those of the slices of a weight, `registry` says what an `Importance` is, and `scores` has the methods.
`evidence` is what they look at, collected in one pass over the data if they need any, and `scales` are those of
BatchNorms. A `criteria.Criterion` is a method with its amounts, and `ranking` makes masks by it. `masks` is the door to
all of that: `upscale_opt.importance_masks`.
"""

from upscale_opt.importance import scores  # they register themselves
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
